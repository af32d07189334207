// One partition of the projection "orders", its records in Redis as a Python deployment keeps them:
//
//     projection:checkpoint:orders_p1     the decimal position of the last event done, nothing else
//     lock:orders:1                       held by whoever works on the partition
//     events                              a list of "position aggregate", oldest first
//
//     redis_worker SOCKET INDEX COUNT     handles what is new and ends at the end of the log; prints
//                                         a line per event; 3: halted, with the reason
#include "projections.hpp"

#include <hiredis/hiredis.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

namespace pj = projections;

namespace {

struct order_changed {
    static constexpr pj::event_type type{"OrderChanged", pj::raw};
    char nothing;
};

struct python_redis {
    struct free_reply {
        void operator()(redisReply* r) const { freeReplyObject(r); }
    };
    using reply = std::unique_ptr<redisReply, free_reply>;
    redisContext* connection;

    template<class... A> reply ask(const char* format, A... arguments) {
        reply r(static_cast<redisReply*>(redisCommand(connection, format, arguments...)));
        if (r && r->type == REDIS_REPLY_ERROR) std::fprintf(stderr, "%s\n", r->str);
        return r && r->type != REDIS_REPLY_ERROR ? std::move(r) : nullptr;
    }
    static std::string copy(pj::text t) { return std::string(t.begin(), t.end()); }

    pj::status read(pj::position after, pj::visitor& visit) {
        const reply all = ask("LRANGE events 0 -1");
        if (!all) return pj::status::failed;
        const order_changed nothing{};
        for (size_t i = 0; i < all->elements; ++i) {
            const std::string line(all->element[i]->str, all->element[i]->len);
            const size_t space = line.find(' ');
            const pj::position at = std::atoll(line.c_str());
            if (at <= after) continue;
            const std::string aggregate = line.substr(space + 1);
            if (!visit(pj::raw_event(at, nothing, aggregate))) break;
        }
        return pj::status::ok;
    }
    /// A Python replay leaves a count where a position should be. That is seen here: no event
    /// stands there.
    pj::status load(pj::text key, pj::checkpoint& out) {
        const reply r = ask("GET projection:checkpoint:%s", copy(key).c_str());
        if (!r) return pj::status::failed;
        if (r->type == REDIS_REPLY_NIL) return pj::status::ok;
        char* end = nullptr;
        const pj::position at = std::strtoll(r->str, &end, 10);
        if (*end != '\0' || end == r->str) return pj::status::checkpoint_corrupt;
        if (at >= 0) {
            const reply all = ask("LRANGE events 0 -1");
            if (!all) return pj::status::failed;
            bool stands = false;
            for (size_t i = 0; i < all->elements; ++i)
                stands = stands || std::atoll(all->element[i]->str) == at;
            if (!stands) return pj::status::checkpoint_corrupt;
        }
        out.at = at;
        return pj::status::ok;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const reply r = ask("SET projection:checkpoint:%s %lld", copy(key).c_str(),
                            static_cast<long long>(next.at));
        return r ? pj::status::ok : pj::status::failed;
    }
    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        static const char script[] =
            "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
            "local token = redis.call('INCR', KEYS[1] .. ':token') "
            "redis.call('SET', KEYS[1], token, 'PX', ARGV[1]) return token";
        const reply r = ask("EVAL %s 1 %s %u", script, copy(resource).c_str(), ttl_ms);
        if (!r) return pj::status::failed;
        token = static_cast<uint64_t>(r->integer);
        return token != 0 ? pj::status::ok : pj::status::conflict;
    }
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        return changed("return redis.call('GET', KEYS[1]) == ARGV[1] and "
                       "redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0", resource, ttl_ms, token)
                   ? pj::status::ok : pj::status::conflict;
    }
    pj::status release(pj::text resource, uint64_t token) {
        static_cast<void>(changed("return redis.call('GET', KEYS[1]) == ARGV[1] and "
                                  "redis.call('DEL', KEYS[1]) or 0", resource, 0, token));
        return pj::status::ok;
    }

private:
    bool changed(const char* script, pj::text resource, uint32_t ttl_ms, uint64_t token) {
        const reply r = ask("EVAL %s 1 %s %llu %u", script, copy(resource).c_str(),
                            static_cast<unsigned long long>(token), ttl_ms);
        return r && r->integer == 1;
    }
};

struct printing {
    using handles = pj::events<order_changed>;
    void on(const order_changed&, const pj::context& c) {
        std::printf("%lld %.*s\n", static_cast<long long>(c.event.at),
                    static_cast<int>(c.event.aggregate_id.size()), c.event.aggregate_id.data());
    }
};

uint32_t now_ms() {
    return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch()).count());
}

} // namespace

int main(int count, char** arguments) {
    if (count != 4) return 2;
    python_redis db{redisConnectUnix(arguments[1])};
    if (db.connection == nullptr || db.connection->err != 0) return 2;
    std::string lock;
    const auto lock_of = [&](pj::text key) -> pj::text {       // orders_p1: lock:orders:1
        lock = "lock:" + python_redis::copy(key);
        lock.replace(lock.rfind("_p"), 2, ":");
        return lock;
    };
    pj::lease lease{db};
    lease.ttl_ms = 1000;
    lease.margin_ms = 100;
    lease.resource = lock_of;
    printing hand;
    pj::projection what{"orders", db, hand, db};
    what.lease = &lease;
    what.clock = &now_ms;
    what.accept_partial_records = true;         // Python's store keeps the position, no more
    pj::partitioned_worker worker{what, {static_cast<uint32_t>(std::atoi(arguments[2])),
                                         static_cast<uint32_t>(std::atoi(arguments[3]))}};
    if (worker.start() != pj::status::ok) return 2;
    while (worker.running()) {
        const pj::tick_result r = worker.tick(now_ms());
        if (worker.has_lease() && worker.caught_up() &&
            worker.checkpointed() == worker.scanned()) {
            worker.stop();
        } else if (r.wait_ms != 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(pj::sooner(r.wait_ms, 50)));
        }
    }
    redisFree(db.connection);
    if (worker.reason() == pj::status::ok) return 0;
    std::fprintf(stderr, "%s\n", pj::to_string(worker.reason()));
    return 3;
}
