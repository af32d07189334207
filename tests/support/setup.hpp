// A projection with fakes on every side: three scripted handlers a, b, c over a catalogue of three
// event types, a log, a checkpoint store, a letter sink, an observer, and a simulated clock that
// sleeps exactly as long as the engine says. Members are public and plain: change `what` before
// start().
#ifndef PROJECTIONS_TESTS_SUPPORT_SETUP_HPP
#define PROJECTIONS_TESTS_SUPPORT_SETUP_HPP

#include "support/fake_checkpoints.hpp"
#include "support/fake_log.hpp"
#include "support/fake_sink.hpp"

#include <functional>

namespace support {

/// The payload "!" cannot be decoded.
template<int Which> struct sample_event {
    static constexpr const char* names[3] = {"Alpha", "Beta", "Gamma"};
    static constexpr pj::event_type type{pj::text(names[Which])};
    std::string payload;
    static bool decode(const pj::stored_event& in, sample_event& out) {
        out.payload.assign(in.payload.text().data(), in.payload.size());
        return out.payload != "!";
    }
};
using alpha = sample_event<0>;      // handled by a, b and c
using beta = sample_event<1>;       // handled by a
using gamma = sample_event<2>;      // known, handled by nobody
using catalogue = pj::events<alpha, beta, gamma>;

/// What one handler answers: by position, one verdict per call; then `otherwise`.
class script {
public:
    script& at(pj::position where, pj::verdict v, int times = 1) {
        for (int i = 0; i < times; ++i) by_position_[where].push_back(v);
        return *this;
    }
    script& always(pj::position where, pj::verdict v) {
        forever_.emplace(where, v);
        return *this;
    }
    /// Asked where nothing else is said.
    std::function<pj::verdict(const pj::stored_event&, const pj::context&)> otherwise;
    std::map<pj::position, int> throws;     // how many calls throw, where exceptions are
    std::function<void()> before;           // at every call

    pj::verdict answer(const pj::stored_event& event, const pj::context& with) {
        const auto list = by_position_.find(event.at);
        if (list != by_position_.end() && !list->second.empty()) {
            const pj::verdict v = list->second.front();
            list->second.pop_front();
            return v;
        }
        const auto always = forever_.find(event.at);
        if (always != forever_.end()) return always->second;
        return otherwise ? otherwise(event, with) : pj::handled;
    }

private:
    std::map<pj::position, std::deque<pj::verdict>> by_position_;
    std::map<pj::position, pj::verdict> forever_;
};

/// A handler that remembers its calls and does what its script says.
struct scripted {
    scripted(world& in, std::string called) : name(std::move(called)), world_(in) {}
    std::string name;
    script says;
    pj::waker last_waker;

    pj::verdict run(const pj::context& with) {
        const entered here(world_, port::handler);
        world_.note(name + " " + std::to_string(with.event.at) + " #" +
                    std::to_string(with.attempt) + (with.resumed ? " resumed" : "") +
                    (with.replaying ? " replaying" : ""));
        world_.calls.push_back({name, with.event.at, with.attempt, with.resumed, with.replaying,
                                with.now_ms});
        last_waker = with.waker;
        if (says.before) says.before();
#if PROJECTIONS_EXCEPTIONS
        const auto throwing = says.throws.find(with.event.at);
        if (throwing != says.throws.end() && throwing->second-- > 0)
            throw std::runtime_error("thrown");
#endif
        return says.answer(with.event, with);
    }
    /// For a handler_map, undecoded.
    static pj::verdict call_by_hand(void* self, const pj::stored_event&, const pj::context& with) {
        return static_cast<scripted*>(self)->run(with);
    }

private:
    world& world_;
};

struct hand_a : scripted {
    using handles = pj::matching<catalogue>;
    static constexpr const char* handler_name = "a";
    explicit hand_a(world& in) : scripted(in, "a") {}
    pj::verdict on(const alpha&, const pj::context& with) { return run(with); }
    pj::verdict on(const beta&, const pj::context& with) { return run(with); }
};
template<char Name> struct alpha_hand : scripted {
    using handles = pj::events<alpha>;
    static constexpr const char* handler_name = Name == 'b' ? "b" : "c";
    explicit alpha_hand(world& in) : scripted(in, std::string(1, Name)) {}
    pj::verdict on(const alpha&, const pj::context& with) { return run(with); }
};
using hand_b = alpha_hand<'b'>;
using hand_c = alpha_hand<'c'>;
/// Not called for replayed events.
struct mailer : scripted {
    using handles = pj::live_only<alpha>;
    static constexpr const char* handler_name = "mail";
    explicit mailer(world& in) : scripted(in, "mail") {}
    pj::verdict on(const alpha&, const pj::context& with) { return run(with); }
};

inline const char* name_of(pj::notice_kind kind) {
    static const char* const names[] = {
        "started",       "loaded",         "paused",        "resumed",          "stopped",
        "halted",        "event_handled",  "event_skipped", "event_lettered",   "event_vanished",
        "event_unknown", "handler_failed", "letter_failed", "checkpoint_saved", "checkpoint_failed",
        "store_failed",  "rebuild_began",  "rebuild_dropped", "rebuild_finished",
        "lease_gained",  "lease_lost",     "lease_released", "lease_failed",
        "gap_found",     "gap_skipped"};
    return names[static_cast<size_t>(kind)];
}

/// One notice, copied.
struct told {
    pj::notice_kind kind;
    pj::status reason;
    pj::position at;
    std::string handler;
    uint32_t attempts;
};

class watcher {
public:
    explicit watcher(world& in) : world_(in) {}
    std::vector<told> notices;
    std::function<void(const pj::notice&)> also;

    void operator()(const pj::notice& n) {
        const entered here(world_, port::observer);
        notices.push_back({n.kind, n.reason, n.at,
                           n.cause == nullptr ? std::string()
                           : std::string(n.cause->handler.data(), n.cause->handler.size()),
                           n.cause == nullptr ? 0 : n.cause->attempts});
        world_.note(std::string("told ") + name_of(n.kind) + " " + std::to_string(n.at));
        if (also) also(n);
    }
    uint32_t count(pj::notice_kind kind) const {
        uint32_t n = 0;
        for (const told& t : notices) n += t.kind == kind ? 1u : 0u;
        return n;
    }
    uint32_t count(pj::notice_kind kind, pj::status reason) const {
        uint32_t n = 0;
        for (const told& t : notices) n += t.kind == kind && t.reason == reason ? 1u : 0u;
        return n;
    }
    /// "started loaded event_skipped ...".
    std::string kinds() const {
        std::string all;
        for (const told& t : notices)
            all += (all.empty() ? "" : " ") + std::string(name_of(t.kind));
        return all;
    }

private:
    world& world_;
};

struct setup {
    world w;
    fake_log log{w};
    fake_checkpoints store{w};
    fake_sink sink{w};
    watcher watch{w};
    hand_a a{w};
    hand_b b{w};
    hand_c c{w};
    pj::registry<hand_a, hand_b, hand_c> all{a, b, c};
    pj::projection what;
    pj::worker worker{what};
    uint32_t now_ms = 1000;
    uint32_t ticks = 0;
    pj::tick_result last{pj::run_state::stopped, pj::status::ok, 0, 0};

    setup() {
        what.name = "p";
        what.log = log;
        what.handlers = all;
        what.checkpoints = store;
        what.observe = watch;
        what.delays.jitter_percent = 0;
    }
    setup(const setup&) = delete;
    setup& operator=(const setup&) = delete;

    pj::checkpoint stored() const { return store.at("p"); }
    void letters(pj::error_policy policy = pj::error_policy::dead_letter()) {
        what.dead_letters = sink;
        what.on_error = policy;
    }
    /// As after a crash: the same description, a new engine. (Engines are not assigned.)
    pj::status start() { return worker.start(); }

    pj::tick_result tick() {
        const uint32_t read_before = w.port_calls;
        last = worker.tick(now_ms);
        ++ticks;
        CHECK_MESSAGE(w.port_calls - read_before <= what.batch + 8,
                      "a tick called its ports too often");
        CHECK(last.scanned <= what.batch);
        check_sums();
        return last;
    }
    pj::tick_result tick_after(uint32_t ms) {
        now_ms += ms;
        return tick();
    }
    /// Ticks as long as more is waiting. Never for ever: the third empty tick in a row fails the
    /// test.
    pj::tick_result drain(uint32_t most = 10000) {
        uint32_t empty = 0;
        for (uint32_t i = 0; i < most && empty < 5; ++i) {
            const size_t before = w.trace.size();
            tick();
            if (last.wait_ms != 0) return last;
            empty = w.trace.size() == before ? empty + 1 : 0;
        }
        CHECK_MESSAGE(false, "the engine is busy for ever");
        return last;
    }
    /// Drains, sleeps as long as it is told to, and so on, for so many milliseconds of simulated
    /// time.
    pj::tick_result run_for(uint32_t ms, uint32_t most_ticks = 20000) {
        uint32_t left = ms;
        for (uint32_t i = 0; i < most_ticks; ++i) {
            drain();
            if (!worker.running() || last.wait_ms == pj::never || last.wait_ms > left) {
                if (worker.running()) now_ms += left;
                return last;
            }
            if (last.wait_ms == 0) return last;
            left -= last.wait_ms;
            now_ms += last.wait_ms;
        }
        CHECK_MESSAGE(false, "too many ticks for so little time");
        return last;
    }
    pj::status stop(uint32_t ms = 60000) {
        worker.stop();
        run_for(ms);
        CHECK(!worker.running());
        return worker.reason();
    }
    /// G16, after every tick.
    void check_sums() const {
        const pj::counters& n = worker.counts();
        CHECK(n.scanned == n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                               n.lettered + n.vanished + n.duplicate);
    }
};

/// A handler_map projection with `N` handlers of Alpha, named h0, h1, ..., undecoded.
template<size_t N> struct crowd : setup {
    std::vector<std::unique_ptr<scripted>> hands;
    pj::handler_map<N> map;
    crowd() {
        hands.reserve(N);
        for (size_t i = 0; i < N; ++i) {
            hands.emplace_back(new scripted(w, "h" + std::to_string(i)));
            map.add(alpha::type, &scripted::call_by_hand, hands[i].get(), pj::text(hands[i]->name));
        }
        what.handlers = map;
    }
};

} // namespace support

#endif
