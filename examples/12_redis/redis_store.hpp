// Redis 7 as everything that a projection needs: a stream as event log, hashes as checkpoints,
// leases with fencing tokens, a unit of work, letters. To copy; needs hiredis and nothing else.
//
//   {tag}:events          the stream; an entry has the fields type, aggregate, data
//   {tag}:log             a number for this stream, made with its first entry
//   {tag}:trimmed         what trim_through() has removed: position and how many in all
//   {tag}:checkpoint:KEY  a hash: at, revision, token for people and scripts; record for load()
//   {tag}:lease:KEY       the token of the lease, with the time to live that ends it
//   {tag}:token:KEY       the last token given out
//   {tag}:letters         a hash of letters, by their keys: kind, code, attempts, payload
//
// The braces keep all of it in one slot of a cluster, as one script needs it.
//
// The server must write before it answers: `appendonly yes`, `appendfsync always`. Then nobody is
// shown an entry that a crash could take back, since answers wait for the write. The program must
// ignore SIGPIPE: hiredis writes to a connection that the server has closed.
#ifndef REDIS_STORE_HPP
#define REDIS_STORE_HPP

#include "projections.hpp"

#include <hiredis/hiredis.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pj = projections;

/// One for each engine: an open unit of work is the engine's that began it.
class redis_store {
public:
    using command = std::vector<std::string>;

    redis_store(std::string socket, const std::string& tag)
        : socket_(std::move(socket)), tag_("{" + tag + "}:") {}

    // ---- the event log

    /// A stream's id is a time and a sequence: 43 bits of milliseconds last until the year 2248,
    /// and 20 bits of sequence are a million entries in each of them.
    static pj::position position_of(const std::string& id) {
        char* dash = nullptr;
        const unsigned long long ms = std::strtoull(id.c_str(), &dash, 10);
        const unsigned long long sequence = *dash == '-' ? std::strtoull(dash + 1, nullptr, 10) : 0;
        const bool fits = ms >> 43 == 0 && sequence >> sequence_bits == 0;
        return fits ? static_cast<pj::position>(ms << sequence_bits | sequence) : pj::before_first;
    }
    static std::string id_of(pj::position at) {
        const auto packed = static_cast<unsigned long long>(at);
        return std::to_string(packed >> sequence_bits) + "-" +
               std::to_string(packed & ((1ull << sequence_bits) - 1));
    }

    pj::status read(pj::position after, pj::visitor& visit) {
        const reply r = ask({"XRANGE", key("events"), id_of(after + 1), "+", "COUNT",
                             std::to_string(visit.wanted())});
        if (!r || r->type != REDIS_REPLY_ARRAY) return pj::status::failed;
        for (size_t i = 0; i < r->elements; ++i) {      // [id, [name, value, name, value, ...]]
            const redisReply* const entry = r->element[i];
            pj::stored_event event;
            event.at = position_of(entry->element[0]->str);
            if (event.at < 0) return pj::status::failed;
            const redisReply* const fields = entry->element[1];
            for (size_t f = 0; f + 1 < fields->elements; f += 2) {
                const pj::text name = text_of(*fields->element[f]);
                const pj::text value = text_of(*fields->element[f + 1]);
                if (name == "type") event.type = value;
                if (name == "aggregate") event.aggregate_id = value;
                if (name == "data") event.payload = {value.data(), value.size()};
            }
            if (!visit(event)) break;
        }
        return pj::status::ok;
    }

    /// XTRIM says nothing to anybody, so the stream itself is asked: entries that were added and
    /// are not there are gone. What XDEL took is known exactly, what trim_through() took is noted;
    /// after anyone else's XTRIM it may be all below the first entry.
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        static const char script[] =
            "if redis.call('EXISTS', KEYS[1]) == 0 then return {} end "
            "local is = redis.call('XINFO', 'STREAM', KEYS[1]) local of = {} "
            "for i = 1, #is, 2 do of[is[i]] = is[i + 1] end "
            "local noted = redis.call('HMGET', KEYS[3], 'through', 'count') "
            "local gone = of['entries-added'] - of['length'] "
            "local first = of['first-entry'] and of['first-entry'][1] or '' "
            "return {first, of['last-generated-id'], of['max-deleted-entry-id'], "
            "redis.call('GET', KEYS[2]) or '0', tostring(gone), "
            "noted[2] == tostring(gone) and noted[1] or ''}";
        const reply r = ask({"EVAL", script, "3", key("events"), key("log"), key("trimmed")});
        if (!r || r->type != REDIS_REPLY_ARRAY) return pj::status::failed;
        if (r->elements == 0) return pj::status::ok;    // no stream: nothing was ever given out
        const auto field = [&](size_t i) { return std::string(r->element[i]->str); };
        newest = position_of(field(1));
        log_id = std::strtoull(field(3).c_str(), nullptr, 10);
        if (field(4) == "0") return pj::status::ok;
        const pj::position below = field(0).empty() ? newest : position_of(field(0)) - 1;
        const pj::position deleted = field(2) == "0-0" ? pj::before_first : position_of(field(2));
        trimmed = field(5).empty() ? below : std::strtoll(field(5).c_str(), nullptr, 10);
        if (deleted > trimmed) trimmed = deleted;
        return pj::status::ok;
    }

    /// Appends one event; its id, or nothing if it is not known whether it was appended. For other
    /// producers XADD alone will do, but then a stream that was deleted and filled again past the
    /// checkpoint is not recognised: the log's number is made here.
    std::string append(const std::string& type, const std::string& aggregate,
                       const std::string& data) {
        static const char script[] =
            "if redis.call('EXISTS', KEYS[1]) == 0 then local now = redis.call('TIME') "
            "redis.call('SET', KEYS[2], now[1] .. string.format('%06d', now[2])) "
            "redis.call('DEL', KEYS[3]) end "
            "return redis.call('XADD', KEYS[1], '*', 'type', ARGV[1], 'aggregate', ARGV[2], "
            "'data', ARGV[3])";
        const reply r = ask({"EVAL", script, "3", key("events"), key("log"), key("trimmed"), type,
                             aggregate, data});
        return r && r->type == REDIS_REPLY_STRING ? std::string(r->str, r->len) : std::string();
    }

    /// Removes the events up to `last`. Only below the checkpoints of all projections.
    bool trim_through(pj::position last) {
        static const char script[] =
            "redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1]) "
            "local is = redis.call('XINFO', 'STREAM', KEYS[1]) local of = {} "
            "for i = 1, #is, 2 do of[is[i]] = is[i + 1] end "
            "redis.call('HSET', KEYS[2], 'through', ARGV[2], "
            "'count', tostring(of['entries-added'] - of['length'])) return 1";
        const reply r = ask({"EVAL", script, "2", key("events"), key("trimmed"), id_of(last + 1),
                             std::to_string(last)});
        return r != nullptr;
    }

    // ---- checkpoints, and the unit of work in which they are saved

    pj::status load(pj::text name, pj::checkpoint& out) {
        const reply r = ask({"HGET", key("checkpoint:", name), "record"});
        if (!r) return pj::status::failed;
        if (r->type == REDIS_REPLY_NIL) return pj::status::ok;
        return pj::decode({r->str, r->len}, out) ? pj::status::ok : pj::status::checkpoint_corrupt;
    }
    /// Inside a unit it is the commit that writes, and the commit's script that compares.
    pj::status save(pj::text name, const pj::checkpoint& next) {
        command arguments = saving(name, next);
        if (!is_open_) return run(std::move(arguments));
        saving_ = std::move(arguments);
        return pj::status::ok;
    }

    /// Redis has no transaction that a client could hold open. So a unit of work collects what the
    /// handlers want written, and the commit is one script.
    pj::status begin() {
        if (is_open_) return pj::status::pending;
        is_open_ = true;
        return pj::status::ok;
    }
    void write(const command& words) {
        collected_.push_back(std::to_string(words.size()));
        collected_.insert(collected_.end(), words.begin(), words.end());
    }
    pj::status commit() {
        if (!is_open_) return pj::status::failed;
        command all = saving_.empty() ? saves_nothing() : saving_;
        all.insert(all.end(), collected_.begin(), collected_.end());
        return run(std::move(all));
    }
    pj::status rollback() {
        is_open_ = false;
        saving_.clear();
        collected_.clear();
        return pj::status::ok;
    }

    // ---- leases

    pj::status acquire(pj::text name, uint32_t ttl_ms, uint64_t& token) {
        static const char script[] =
            "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
            "local token = redis.call('INCR', KEYS[2]) "
            "redis.call('SET', KEYS[1], token, 'NX', 'PX', ARGV[1]) return token";
        const reply r = ask({"EVAL", script, "2", key("lease:", name), key("token:", name),
                             std::to_string(ttl_ms)});
        if (!r || r->type != REDIS_REPLY_INTEGER) return pj::status::failed;
        token = static_cast<uint64_t>(r->integer);
        return token != 0 ? pj::status::ok : pj::status::conflict;
    }
    pj::status extend(pj::text name, uint32_t ttl_ms, uint64_t token) {
        static const char script[] = "return redis.call('GET', KEYS[1]) == ARGV[1] and "
                                     "redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0";
        const reply r = ask({"EVAL", script, "1", key("lease:", name), std::to_string(token),
                             std::to_string(ttl_ms)});
        if (!r || r->type != REDIS_REPLY_INTEGER) return pj::status::failed;
        return r->integer == 1 ? pj::status::ok : pj::status::conflict;
    }
    pj::status release(pj::text name, uint64_t token) {
        static const char script[] = "return redis.call('GET', KEYS[1]) == ARGV[1] and "
                                     "redis.call('DEL', KEYS[1]) or 0";
        const reply r = ask({"EVAL", script, "1", key("lease:", name), std::to_string(token)});
        return r ? pj::status::ok : pj::status::failed;
    }

    // ---- letters

    pj::status put(const pj::dead_letter& letter) {
        const std::string name = copy(letter.projection) + "/" + std::to_string(letter.partition) +
                                 "/" + copy(letter.handler) + "/" + id_of(letter.event.at) + "/" +
                                 std::to_string(letter.rebuild);
        const std::string why = std::to_string(static_cast<int>(letter.kind)) + " " +
                                std::to_string(letter.code) + " " + std::to_string(letter.attempts);
        const command words{"HSET", key("letters"), name,
                            why + " " + copy(letter.event.payload.text())};
        if (!is_open_) return ask(words) ? pj::status::ok : pj::status::failed;
        write(words);
        return pj::status::ok;
    }

    // ---- for handlers and tools

    struct free_reply {
        void operator()(redisReply* r) const { freeReplyObject(r); }
    };
    using reply = std::unique_ptr<redisReply, free_reply>;

    /// Nothing: an error, or no answer, and then it is not known whether it was done.
    reply ask(const command& words) {
        if (!is_connected()) return nullptr;
        std::vector<const char*> data;
        std::vector<size_t> sizes;
        for (const std::string& word : words) {
            data.push_back(word.data());
            sizes.push_back(word.size());
        }
        reply r(static_cast<redisReply*>(redisCommandArgv(
            connection_.get(), static_cast<int>(words.size()), data.data(), sizes.data())));
        if (r && r->type == REDIS_REPLY_ERROR) {
            error_.assign(r->str, r->len);
            r.reset();
        }
        return r;
    }
    std::string key(const char* what, pj::text name = {}) const {
        return tag_ + what + copy(name);
    }
    static std::string copy(pj::text t) { return std::string(t.begin(), t.end()); }
    const std::string& last_error() const { return error_; }

private:
    static constexpr unsigned sequence_bits = 20;

    struct close {
        void operator()(redisContext* c) const { redisFree(c); }
    };

    static pj::text text_of(const redisReply& r) { return {r.str, r.len}; }

    /// After a time-out the answer that comes late would be taken for that of the next question, so
    /// a connection with an error is never used again.
    bool is_connected() {
        if (connection_ && connection_->err == 0) return true;
        const timeval limit{2, 0};
        connection_.reset(redisConnectUnixWithTimeout(socket_.c_str(), limit));
        if (!connection_) return false;
        if (connection_->err != 0 || redisSetTimeout(connection_.get(), limit) != REDIS_OK)
            error_ = connection_->errstr;
        return connection_->err == 0;
    }

    command saving(pj::text name, const pj::checkpoint& next) const {
        uint8_t record[pj::checkpoint_bytes];
        pj::encode(next, record);
        return {key("checkpoint:", name), std::to_string(next.at), std::to_string(next.revision),
                std::to_string(next.fencing_token), std::string(record, record + sizeof record)};
    }
    /// A message without a position leaves none behind, and a letter that is given again.
    command saves_nothing() const { return {key("checkpoint:"), "", "", "", ""}; }
    /// Checkpoint and effects, or neither: refused if another owner's token was seen or the record
    /// is not the one that was loaded. A script is not undone when one of its commands fails, so
    /// keys must hold what the commands expect.
    pj::status run(command arguments) {
        static const char script[] =
            "if ARGV[2] ~= '' then "
            "local old = redis.call('HMGET', KEYS[1], 'token', 'revision') "
            "if tonumber(old[1] or 0) > tonumber(ARGV[3]) or "
            "tonumber(old[2] or 0) ~= ARGV[2] - 1 then return 0 end "
            "redis.call('HSET', KEYS[1], 'at', ARGV[1], 'revision', ARGV[2], 'token', ARGV[3], "
            "'record', ARGV[4]) end "
            "local i = 5 while i <= #ARGV do local n = tonumber(ARGV[i]) "
            "redis.call(unpack(ARGV, i + 1, i + n)) i = i + n + 1 end return 1";
        arguments.insert(arguments.begin(), {"EVAL", script, "1"});
        const reply r = ask(arguments);
        if (!r || r->type != REDIS_REPLY_INTEGER) return pj::status::failed;
        if (r->integer != 1) return pj::status::conflict;
        static_cast<void>(rollback());
        return pj::status::ok;
    }

    std::string socket_, tag_, error_;
    std::unique_ptr<redisContext, close> connection_{};
    bool is_open_ = false;
    command saving_{}, collected_{};
};

#endif
