// For every callback: the Nth call of a run fails, throws, pends, or answers what it may not, for N
// = 1, 2, ... until the run completes; then two such calls; then a crash at every call. The run
// must always come to the same end: no event lost, none handled twice, the checkpoint never ahead
// of an outcome.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>
namespace pj = projections;

namespace {

enum class fault : uint8_t {
    none, failed, lost, pending, illegal, wrong, thrown, crash, late_crash
};
const std::string fault_names[] = {"none", "failed", "lost answer", "pending", "illegal", "wrong",
                                   "thrown", "crash", "crash after"};
constexpr fault every_fault[] = {fault::failed, fault::lost, fault::pending, fault::illegal,
                                 fault::wrong, fault::thrown};

struct fault_at { unsigned call = 0; fault what = fault::none; };

/// What a policy makes of a failure in the end.
enum class then : uint8_t { halts, skips, letters };
struct named_policy { std::string name; pj::error_policy policy; then end; };

constexpr pj::position poisoned = 2;    // handler 1 always rejects it, unless that halts
constexpr int handler_count = 3;

class trial;
trial* current;                         // for decode() and the plain functions

class trial {
public:
    trial(const named_policy& policy, pj::position events, fault_at one, fault_at two = {})
        : faults_{one, two}, end_(policy.end), last_(events - 1),
          done_(static_cast<size_t>(events * handler_count)), excused_(done_.size()),
          was_pending_(done_.size()) {
        current = this;
        what_.name = "trial";
        what_.log = *this;
        what_.handlers = handlers_;
        what_.checkpoints = *this;
        what_.dead_letters = *this;
        what_.observe = {[](void* me, const pj::notice&) {
            static_cast<trial*>(me)->plain_call(); }, this};
        what_.clock = {[](void* me) { return static_cast<trial*>(me)->clock(); }, this};
        what_.filter = {[](void* me, const pj::stored_event& e) {
            return static_cast<trial*>(me)->filter(e.at); }, this};
        what_.on_error = policy.policy;
        what_.observe_handled = true;
        what_.tick_ms_max = 2;
        what_.save = {3, 500, true};
        what_.batch = 5;
        what_.unsaved_max = 8;
    }
    trial(const trial&) = delete;
    trial& operator=(const trial&) = delete;

    unsigned calls() const { return calls_; }

    /// Runs to the end of the log and stops. What went wrong, or nothing.
    std::string run() {
        begin();
        for (int ticks = 0;; ++ticks) {
            if (ticks > 150) return problem_ + "no end after 150 ticks";
            const pj::tick_result r = engine_->tick(now_);
            if (dead_) {
                begin();
                continue;
            }
            if (engine_->state() == pj::run_state::halted) {
                if (++halts_ > 3) return problem_ + "halts again and again";
                if (engine_->retry_failed() != pj::status::ok) return "retry_failed() refused";
                continue;
            }
            if (engine_->caught_up() && engine_->checkpointed() == last_) break;
            if (r.wait_ms > 1000) return problem_ + "oversleeps " + std::to_string(r.wait_ms);
            now_ += r.wait_ms;
        }
        engine_->stop();
        for (int ticks = 0; engine_->running() && ticks < 20; ++ticks) {
            now_ += pj::sooner(engine_->tick(now_).wait_ms, 1000);
            if (!dead_) continue;
            begin();
            engine_->stop();
        }
        if (engine_->running()) return problem_ + "does not stop";
        if (now_ > 20000) note("takes too long");
        check_end();
        return problem_;
    }

    // ---- the ports

    pj::status read(pj::position after, pj::visitor& visit) {
        const fault f = next();
        if (f != fault::none && f != fault::lost && f != fault::late_crash) return answer(f);
        slices_ = !slices_;
        std::vector<pj::stored_event> slice;
        for (pj::position at = after + 1; at <= last_; ++at) {
            slice.push_back({at, at % 3 == 1 ? "B" : "A"});
            if (slices_ && at % 3 != 2 && at != last_) continue;
            if (visit(slice.data(), slice.size()) < slice.size()) return answer(f);
            slice.clear();
        }
        return answer(f);
    }
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        const fault f = next();
        trimmed = pj::before_first;
        newest = last_;
        log_id = 77;
        return answer(f);
    }
    pj::status load(pj::text, pj::checkpoint& out) {
        const fault f = next();
        if (f == fault::wrong) return pj::status::conflict;
        if (f == fault::none) out = record_;
        return answer(f);
    }
    pj::status save(pj::text, const pj::checkpoint& next_record) {
        const fault f = next();
        const bool is_done = f == fault::none || f == fault::lost || f == fault::late_crash;
        if (f == fault::wrong) return pj::status::more;
        if (dead_ && f != fault::late_crash) return pj::status::failed;
        if (next_record.revision != record_.revision + 1) return pj::status::conflict;
        if (next_record.at < record_.at) note("the checkpoint moves back");
        for (pj::position at = 0; at <= next_record.at; ++at) {
            for (int h = 0; h < handler_count; ++h) {
                if (!has_outcome(h, at)) note("saved beyond event " + std::to_string(at));
            }
        }
        if (is_done) record_ = next_record;
        return answer(f);
    }
    pj::status put(const pj::dead_letter& l) {
        const fault f = next();
        if (f == fault::wrong) return pj::status::more;
        if (dead_ && f != fault::late_crash) return pj::status::failed;
        if (f == fault::none || f == fault::lost || f == fault::late_crash) {
            letters_.insert({std::string(l.handler.data(), l.handler.size()), l.event.at});
        }
        return answer(f);
    }

    // ---- the handlers

    pj::verdict handle(int h, const pj::context& ctx) {
        const pj::position at = ctx.event.at;
        const size_t i = index(h, at);
        const fault f = next();
        if (at <= record_.at) note("handled again below the checkpoint");
        if (!wants(h, at)) note("handled though filtered");
        if (ctx.resumed != was_pending_[i]) note("resumed is wrong");
        was_pending_[i] = f == fault::pending;
        if (f == fault::pending) return pj::pending;
        if (dead_ && f != fault::late_crash) return pj::pending;
        if (is_poison(h, at)) return pj::reject(13);
        if (f == fault::none || f == fault::late_crash) {
            if (++done_[i] > 1 && crashes_ == 0) note("handled twice");
            return pj::handled;
        }
        excused_[i] = true;
        return f == fault::failed ? pj::fail(9) : pj::verdict(answer(f));
    }
    bool decode() {
        const fault f = next();
        if (f == fault::none || f == fault::pending || dead_) return true;
        excuse(decoding_);
        throw_if(f);
        return false;
    }

private:
    struct a {
        static constexpr pj::event_type type{"A"};
        static bool decode(const pj::stored_event& in, a&) {
            current->decoding_ = in.at;
            return current->decode();
        }
    };
    struct b : a {
        static constexpr pj::event_type type{"B"};
    };
    template<int H> struct numbered {
        static constexpr char handler_name[] = {'0' + H, '\0'};
    };
    struct first : numbered<0> {
        using handles = pj::events<a>;
        pj::verdict on(const a&, const pj::context& c) { return current->handle(0, c); }
    };
    struct second : numbered<1> {
        using handles = pj::matching<pj::events<a, b>>;
        pj::verdict on(const a&, const pj::context& c) { return current->handle(1, c); }
    };
    struct third : numbered<2> {
        using handles = pj::every_event;
        pj::verdict on(const pj::stored_event&, const pj::context& c) {
            return current->handle(2, c);
        }
    };

    /// A new engine, from what is durable.
    void begin() {
        if (dead_) ++crashes_;
        dead_ = false;
        engine_.reset(new pj::worker(what_));
        was_pending_.assign(was_pending_.size(), false);
        if (engine_->start() != pj::status::ok) note("start() refused");
    }
    fault next() {
        ++calls_;
        if (dead_) return fault::crash;
        for (const fault_at& f : faults_) {
            if (f.call != calls_) continue;
            dead_ = f.what == fault::crash || f.what == fault::late_crash;
            return f.what;
        }
        return fault::none;
    }
    static pj::status answer(fault f) {
        throw_if(f);
        return f == fault::none || f == fault::late_crash ? pj::status::ok
             : f == fault::pending ? pj::status::pending
             : f == fault::illegal ? static_cast<pj::status>(250)
             : f == fault::wrong ? pj::status::conflict : pj::status::failed;
    }
    static void throw_if([[maybe_unused]] fault f) {
#if PROJECTIONS_EXCEPTIONS
        if (f == fault::thrown) throw 1;
#endif
    }
    void plain_call() { throw_if(next()); }
    uint32_t clock() {
        plain_call();
        return now_ + calls_ / 20;
    }
    bool filter(pj::position at) {
        const fault f = next();
        if (f == fault::thrown) excuse(at);
        throw_if(f);
        return !is_filtered(at);
    }

    // ---- what is to be expected

    static bool is_filtered(pj::position at) { return at % 5 == 4; }
    bool is_poison(int h, pj::position at) const {
        return end_ != then::halts && h == 1 && at == poisoned;
    }
    static bool wants(int h, pj::position at) {
        return !is_filtered(at) && !(h == 0 && at % 3 == 1);
    }
    static size_t index(int h, pj::position at) {
        return static_cast<size_t>(at * handler_count + h);
    }
    void excuse(pj::position at) {
        for (int h = 0; h < handler_count; ++h) {
            excused_[index(h, at)] = true;
            was_pending_[index(h, at)] = false;     // what comes next is another attempt
        }
    }
    bool has_outcome(int h, pj::position at) const {
        if (!wants(h, at) || done_[index(h, at)] != 0) return true;
        if (!is_poison(h, at) && !excused_[index(h, at)]) return false;
        if (end_ == then::letters) {
            return letters_.count({std::to_string(h), at}) + letters_.count({"", at}) != 0;
        }
        return end_ == then::skips;
    }
    void check_end() {
        if (engine_->reason() != pj::status::ok) note("stopped, but not ok");
        if (record_.at != last_) note("the last checkpoint is not the last event");
        for (pj::position at = 0; at <= last_; ++at) {
            for (int h = 0; h < handler_count; ++h) {
                if (!has_outcome(h, at)) note("event " + std::to_string(at) + " is lost");
            }
        }
        const pj::counters c = engine_->counts();
        const pj::event_count sum = c.handled + c.unhandled + c.unknown + c.filtered + c.skipped +
                                    c.lettered + c.vanished;
        if (c.scanned != sum) note("the counters do not reconcile");
        const pj::event_count events = static_cast<pj::event_count>(last_ + 1);
        if (crashes_ == 0 && c.scanned != events) note("miscounted");
    }
    void note(const std::string& what) {
        if (problem_.find(what) == std::string::npos) problem_ += what + "; ";
    }

    fault_at faults_[2];
    then end_;
    pj::position last_;
    pj::position decoding_ = 0;
    std::vector<int> done_;
    std::vector<bool> excused_, was_pending_;
    std::set<std::pair<std::string, pj::position>> letters_;
    pj::checkpoint record_;
    unsigned calls_ = 0;
    uint32_t now_ = 0;
    int halts_ = 0, crashes_ = 0;
    bool slices_ = false, dead_ = false;
    std::string problem_;
    first first_;
    second second_;
    third third_;
    pj::registry<first, second, third> handlers_{first_, second_, third_};
    pj::projection what_;
    std::unique_ptr<pj::worker> engine_;
};

pj::decision decide(const pj::failure& f) {
    return f.attempts < 3 ? pj::decision::retry_after(5) : pj::decision::skip();
}
const named_policy every_policy[] = {
    {"skip", pj::error_policy::skip(), then::skips},
    {"retry(3)", pj::error_policy::retry(3), then::halts},
    {"retry(0)", pj::error_policy::retry(0), then::halts},
    {"retry_then_skip(2)", pj::error_policy::retry_then_skip(2), then::skips},
    {"dead_letter", pj::error_policy::dead_letter(), then::letters},
    {"retry_then_dead_letter(2)", pj::error_policy::retry_then_dead_letter(2), then::letters},
    {"custom", pj::error_policy::custom(decide), then::skips},
};

/// Runs one trial and says what went wrong, up to 20 times. How many calls it made.
unsigned attempt(const named_policy& policy, pj::position events, fault_at one, fault_at two = {}) {
    static int told = 0;
    trial t(policy, events, one, two);
    const std::string problem = t.run();
    if (!problem.empty() && ++told < 20) {
        const auto named = [](fault_at f) {
            return ", call " + std::to_string(f.call) + ' ' + fault_names[static_cast<int>(f.what)];
        };
        const std::string message = policy.name + named(one) + named(two) + ": " + problem;
        FAIL_CHECK(message);
    }
    return t.calls();
}

constexpr pj::position many = 12, few = 4;

} // namespace

TEST_CASE("nothing fails: the run used below comes to its end") {
    for (const named_policy& policy : every_policy) CHECK(attempt(policy, many, {}) > 60);
}

TEST_CASE("the Nth call fails, whichever and however, under every policy") {
    for (const named_policy& policy : every_policy) {
        for (const fault what : every_fault) {
            unsigned n = 1;
            while (attempt(policy, many, {n, what}) >= n) ++n;
            CHECK(n > 60);
        }
    }
}

TEST_CASE("two calls fail, whichever and however, under every policy") {
    for (const named_policy& policy : every_policy) {
        for (const fault what : {fault::failed, fault::lost, fault::pending, fault::thrown}) {
            for (const fault other : {fault::failed, fault::pending, fault::thrown}) {
                const unsigned calls = attempt(policy, few, {}) + 10;
                for (unsigned n = 1; n < calls; ++n) {
                    for (unsigned m = n + 1; m < calls; ++m) {
                        attempt(policy, few, {n, what}, {m, other});
                    }
                }
            }
        }
    }
}

TEST_CASE("a crash at every call, before or after what it does; then another one") {
    for (const named_policy& policy : every_policy) {
        for (const fault what : {fault::crash, fault::late_crash}) {
            unsigned n = 1;
            while (attempt(policy, many, {n, what}) >= n) ++n;
            CHECK(n > 60);
            for (unsigned m = 2; m < 40; ++m) {
                attempt(policy, few, {m / 2, fault::failed}, {m, what});
                attempt(policy, few, {m / 2, what}, {m, what});
            }
        }
    }
}
