// A database (support/database.hpp) whose answers are planned call by call, a description with a
// unit of work over it, and so many handlers of one type of event.
#ifndef PROJECTIONS_TESTS_SUPPORT_OFFICE_HPP
#define PROJECTIONS_TESTS_SUPPORT_OFFICE_HPP

#include "support/database.hpp"

#include <memory>

namespace support {

/// A database whose answers are planned, call by call, and so many handlers of "Alpha": h0, h1, ...
struct office {
    struct hand : row_writer {
        using row_writer::row_writer;
        uint32_t failed = 0;
        std::vector<uint32_t> attempts;
        static pj::verdict call(void* self, const pj::stored_event&, const pj::context& c) {
            hand& me = *static_cast<hand*>(self);
            me.attempts.push_back(c.attempt);
            const pj::verdict v = me.run(c);
            if (v.what() == pj::verdict::kind::failed) ++me.failed;
            return v;
        }
    };
    static constexpr pj::event_type alpha{"Alpha"};

    database db;
    plan begins, commits, rollbacks, saves, puts;
    uint32_t rollback_calls = 0, put_calls = 0;
    std::vector<std::unique_ptr<hand>> hands;
    std::vector<std::string> names;
    pj::handler_map<34> map;
    std::vector<std::pair<pj::notice_kind, pj::status>> notices;
    pj::projection what{"p", *this, {}, *this};
    pj::worker worker{what};
    uint32_t now_ms = 0;
    pj::tick_result last{};

    explicit office(uint32_t events, size_t handlers = 1) {
        names.reserve(handlers);
        for (size_t i = 0; i < handlers; ++i) {
            names.push_back("h" + std::to_string(i));
            hands.emplace_back(new hand(db, names.back()));
            map.add(alpha, &hand::call, hands.back().get(), pj::text(names.back()));
        }
        what.handlers = map;
        what.transaction = *this;
        what.dead_letters = *this;
        what.delays = {100, 30000, 2, 0, 1};
        what.batch = 8;
        what.observe = {[](void* me, const pj::notice& n) {
            static_cast<office*>(me)->notices.push_back({n.kind, n.reason});
        }, this};
        db.append(events, "Alpha");
        db.append(1, "Nobody");         // so that the end of the log is not reached too early
    }
    office(const office&) = delete;
    office& operator=(const office&) = delete;

    template<class F> static pj::status by(plan& of, F&& works) {
        const step s = of.take();
        if (!s.does_it && s.answer != pj::status::ok) return s.answer;
        const pj::status done = works();
        return s.answer == pj::status::ok ? done : s.answer;
    }
    pj::status begin() { return by(begins, [&] { return db.begin(); }); }
    pj::status commit() { return by(commits, [&] { return db.commit(); }); }
    pj::status rollback() {
        ++rollback_calls;
        return by(rollbacks, [&] { return db.rollback(); });
    }
    pj::status read(pj::position after, pj::visitor& visit) { return db.read(after, visit); }
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& id) {
        return db.bounds(trimmed, newest, id);
    }
    pj::status load(pj::text key, pj::checkpoint& out) { return db.load(key, out); }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        return by(saves, [&] { return db.save(key, next); });
    }
    pj::status put(const pj::dead_letter& l) {
        ++put_calls;
        return by(puts, [&] { return db.put(l); });
    }

    void start() { REQUIRE(worker.start() == pj::status::ok); }
    pj::tick_result tick(uint32_t after_ms = 0) {
        now_ms += after_ms;
        return last = worker.tick(now_ms);
    }
    /// Ticks until it waits for `why`; how long it does.
    uint32_t wait_for(pj::status why) {
        for (int i = 0; i < 200; ++i) {
            if (tick().reason == why && last.wait_ms != 0) return last.wait_ms;
            if (last.wait_ms == pj::never) break;
            now_ms += last.wait_ms;
        }
        CHECK_MESSAGE(false, "it never waits for that");
        return 0;
    }
    void run_for(uint32_t ms) {
        const uint32_t until = now_ms + ms;
        for (int i = 0; i < 3000 && worker.running() && now_ms <= until; ++i) {
            tick();
            if (last.wait_ms == pj::never) return;
            now_ms += last.wait_ms;
        }
    }
    uint32_t count(pj::notice_kind kind, pj::status why) const {
        uint32_t n = 0;
        for (const auto& [k, reason] : notices) n += k == kind && reason == why ? 1u : 0u;
        return n;
    }
    uint32_t count(pj::notice_kind kind) const {
        uint32_t n = 0;
        for (const auto& [k, reason] : notices) n += k == kind ? 1u : 0u;
        return n;
    }
    /// How many events the units had so far that called the first handler: "8 4 2".
    std::string sizes() {
        std::string all;
        uint32_t n = 0;
        pj::position before = -2;
        for (const pj::position at : hands[0]->called) {
            if (at <= before) {
                all += std::to_string(n) + " ";
                n = 0;
            }
            ++n;
            before = at;
        }
        return all + std::to_string(n);
    }
};

} // namespace support

#endif
