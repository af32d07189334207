// A second read model of the same events, in Redis, exactly once, too: what the handlers want is
// queued, and one script applies it together with the checkpoint. An emptied Redis has no
// checkpoint either, so that it fills again by itself. Needs hiredis (Debian: libhiredis-dev).
#ifndef EXAMPLES_REDIS_READ_MODEL_HPP
#define EXAMPLES_REDIS_READ_MODEL_HPP

#include "read_models.hpp"
#include <hiredis/hiredis.h>
#include <initializer_list>
#include <memory>
#include <string>
#include <sys/time.h>
#include <vector>

namespace orders {

struct free_reply {
    void operator()(redisReply* r) const { freeReplyObject(r); }
};
using reply = std::unique_ptr<redisReply, free_reply>;
using words = std::vector<std::string>;

/// Connects when it is asked for something, and again after any trouble. A tick waits at most
/// `timeout_ms` for it.
class redis_connection {
public:
    redis_connection(std::string socket, uint32_t timeout_ms) : socket_(socket) {
        timeout_.tv_usec = static_cast<suseconds_t>(timeout_ms) * 1000;
    }
    /// Null if Redis cannot be asked, or does not like what it is asked.
    reply ask(const words& command) {
        if (!connect()) return nullptr;
        std::vector<const char*> parts;
        std::vector<size_t> sizes;
        for (const std::string& word : command) {
            parts.push_back(word.data());
            sizes.push_back(word.size());
        }
        void* raw = redisCommandArgv(context_.get(), static_cast<int>(parts.size()), parts.data(),
                                     sizes.data());
        reply answer(static_cast<redisReply*>(raw));
        if (answer == nullptr) context_.reset();
        return answer && answer->type != REDIS_REPLY_ERROR ? std::move(answer) : nullptr;
    }

private:
    struct free_context {
        void operator()(redisContext* c) const { redisFree(c); }
    };
    bool connect() {
        if (context_) return true;
        context_.reset(redisConnectUnixWithTimeout(socket_.c_str(), timeout_));
        if (!context_ || context_->err != 0 ||
            redisSetTimeout(context_.get(), timeout_) != REDIS_OK) context_.reset();
        return context_ != nullptr;
    }
    std::string socket_;
    timeval timeout_{};
    std::unique_ptr<redisContext, free_context> context_;
};

/// Checkpoints and units of work. Keys begin with the log's identity: what is there of another
/// file's orders is never mixed up with these.
class redis_unit {
public:
    redis_unit(redis_connection& redis, uint64_t log_id)
        : redis_(redis), prefix_("orders:" + std::to_string(log_id) + ":") {}

    std::string key(const std::string& of) const { return prefix_ + of; }
    void queue(const words& command) {
        queue_.push_back(std::to_string(command.size()));
        queue_.insert(queue_.end(), command.begin(), command.end());
    }

    pj::status load(pj::text, pj::checkpoint& out) {
        const reply r = redis_.ask({"HGET", key("checkpoint"), "record"});
        if (!r) return pj::status::failed;
        if (r->type == REDIS_REPLY_NIL) return pj::status::ok;
        return pj::decode(pj::bytes{r->str, r->len}, out) ? pj::status::ok
                                                          : pj::status::checkpoint_corrupt;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        next_ = next;
        return is_open_ ? pj::status::ok : apply();     // in a unit it goes with the commit
    }

    pj::status begin() {
        if (!redis_.ask({"PING"})) return pj::status::failed;
        queue_.clear();
        is_open_ = true;
        return pj::status::ok;
    }
    pj::status commit() {
        const pj::status s = apply();
        return s == pj::status::ok ? rollback() : s;    // nothing of it goes with the next save()
    }
    pj::status rollback() {
        queue_.clear();
        is_open_ = false;
        return pj::status::ok;
    }

private:
    pj::status apply() {
        static const char script[] =
            "local old = redis.call('HGET', KEYS[1], 'revision') or '0' "
            "if tonumber(old) ~= tonumber(ARGV[1]) - 1 then return 0 end "
            "redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'position', ARGV[2], 'record', "
            "ARGV[3]) "
            "local i = 4 while ARGV[i] do local n = tonumber(ARGV[i]) "
            "redis.call(unpack(ARGV, i + 1, i + n)) i = i + n + 1 end return 1";
        unsigned char record[pj::checkpoint_bytes];
        pj::encode(next_, record);
        words command{"EVAL", script, "1", key("checkpoint"), std::to_string(next_.revision),
                      std::to_string(next_.at), std::string(record, record + sizeof record)};
        command.insert(command.end(), queue_.begin(), queue_.end());
        const reply r = redis_.ask(command);
        if (!r) return pj::status::failed;
        return r->integer == 1 ? pj::status::ok : pj::status::conflict;
    }
    redis_connection& redis_;
    std::string prefix_;
    pj::checkpoint next_{};
    words queue_;
    bool is_open_ = false;
};

class cached_orders {
public:
    using handles = all_events;
    cached_orders(redis_unit& unit, sqlite::connection& file) : unit_(unit), rates_(file) {}

    pj::verdict on(const order_placed& e, const pj::context& ctx) {
        const std::string id = copy(ctx.event.aggregate_id);
        unit_.queue({"HSET", unit_.key("order:" + id), "customer", e.customer, "cents",
                     std::to_string(e.cents), "currency", e.currency, "status", "placed",
                     "parcel", ""});
        unit_.queue({"ZADD", unit_.key("ids"), "0", id});       // equal scores: in order of the id
        return pj::handled;
    }
    pj::verdict on(const order_paid& e, const pj::context& ctx) {
        become("paid", "", ctx);
        return add(e.currency, e.cents, 1, ctx);
    }
    pj::verdict on(const order_shipped& e, const pj::context& ctx) {
        become("shipped", e.parcel, ctx);
        return pj::handled;
    }
    pj::verdict on(const order_cancelled& e, const pj::context& ctx) {
        become("cancelled", "", ctx);
        return e.cents == 0 ? pj::handled : add(e.currency, -e.cents, 0, ctx);
    }

private:
    void become(const char* status, const std::string& parcel, const pj::context& ctx) {
        unit_.queue({"HSET", unit_.key("order:" + copy(ctx.event.aggregate_id)), "status", status,
                     "parcel", parcel});
    }
    pj::verdict add(pj::text currency, int64_t cents, int64_t payments, const pj::context& ctx) {
        int64_t euro_cents = 0;
        const pj::verdict v = rates_.convert(currency, cents, euro_cents);
        if (v == pj::reject(no_rate)) return pj::handled;   // the letter is the other model's
        if (v != pj::handled) return v;
        const std::string day = std::to_string(ctx.event.occurred_at / 86400000);
        unit_.queue({"HINCRBY", unit_.key("payments"), day, std::to_string(payments)});
        unit_.queue({"HINCRBY", unit_.key("cents"), day, std::to_string(euro_cents)});
        return pj::handled;
    }
    redis_unit& unit_;
    rates rates_;
};

/// Each query is one script: what it answers is of one moment, which it also names.
class redis_source : public read_source {
public:
    redis_source(redis_connection& redis, const redis_unit& keys) : redis_(redis), keys_(keys) {}
    const char* name() const override { return "redis"; }
    int priority() const override { return 10; }

    bool list(pj::position at_least, std::vector<order_row>& out) override {
        const reply r = redis_.ask(
            {"EVAL",
             "local all = {redis.call('HGET', KEYS[1], 'position') or '-1'} "
             "for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do "
             "local o = redis.call('HMGET', KEYS[3] .. id, 'customer', 'cents', 'currency', "
             "'status', 'parcel') table.insert(all, id) "
             "for k = 1, 5 do table.insert(all, o[k] or '') end end return all",
             "3", keys_.key("checkpoint"), keys_.key("ids"), keys_.key("order:")});
        if (!is_new_enough(r, at_least)) return false;
        for (size_t i = 1; i + 6 <= r->elements; i += 6)
            out.push_back({word(r, i), word(r, i + 1), word(r, i + 2), word(r, i + 3),
                           word(r, i + 4), word(r, i + 5)});
        return true;
    }
    bool revenue(pj::position at_least, std::vector<revenue_row>& out) override {
        const reply r = redis_.ask(
            {"EVAL",
             "local all = {redis.call('HGET', KEYS[1], 'position') or '-1'} "
             "local days = redis.call('HKEYS', KEYS[2]) "
             "table.sort(days, function(a, b) return tonumber(a) < tonumber(b) end) "
             "for _, day in ipairs(days) do table.insert(all, day) "
             "table.insert(all, redis.call('HGET', KEYS[2], day)) "
             "table.insert(all, redis.call('HGET', KEYS[3], day)) end return all",
             "3", keys_.key("checkpoint"), keys_.key("payments"), keys_.key("cents")});
        if (!is_new_enough(r, at_least)) return false;
        for (size_t i = 1; i + 3 <= r->elements; i += 3)
            out.push_back({date(word(r, i)), word(r, i + 1), word(r, i + 2)});
        return true;
    }

private:
    static std::string word(const reply& r, size_t i) {
        return std::string(r->element[i]->str, r->element[i]->len);
    }
    static bool is_new_enough(const reply& r, pj::position at_least) {
        return r && r->elements > 0 && strtoll(word(r, 0).c_str(), nullptr, 10) >= at_least;
    }
    static std::string date(const std::string& days) {
        const time_t seconds = static_cast<time_t>(strtoll(days.c_str(), nullptr, 10)) * 86400;
        char out[16] = "";
        tm parts{};
        if (gmtime_r(&seconds, &parts) != nullptr) strftime(out, sizeof out, "%Y-%m-%d", &parts);
        return out;
    }
    redis_connection& redis_;
    const redis_unit& keys_;
};

} // namespace orders

#endif
