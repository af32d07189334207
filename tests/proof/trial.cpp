// One trial, in the order: what is described, its callbacks, the host (which starts, restarts, feeds
// and answers halts as a careful user does), what must hold, and the lines that replay it.
#include "proof/trial.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

namespace proof {

namespace {

using support::database;
using pj::position;
using pj::status;

constexpr int handler_count = 3;
constexpr const char* handler_names[] = {"a", "b", "c", ""};
constexpr int nobody = 3;               // in place of a handler: the event as a whole
constexpr uint32_t partition_count = 2;
constexpr uint32_t gap_timeout_ms = 400, late_by_ms = 700, dead_after_ms = 300;
constexpr uint32_t lease_ttl_ms = 3000, lease_margin_ms = 300;

class trial;
bool decodes(const pj::stored_event& in);

template<int Which> struct named {
    static constexpr const char* names[3] = {"Alpha", "Beta", "Gamma"};
    static constexpr pj::event_type type{pj::text(names[Which])};
    static bool decode(const pj::stored_event& in, named&) { return decodes(in); }
};
using alpha = named<0>;
using beta = named<1>;
using gamma = named<2>;

struct hand_a {
    using handles = pj::matching<pj::events<alpha, beta, gamma>>;
    static constexpr const char* handler_name = "a";
    trial& of;
    pj::verdict on(const alpha&, const pj::context& c);
    pj::verdict on(const beta&, const pj::context& c);
};
struct hand_b {
    using handles = pj::events<alpha>;
    static constexpr const char* handler_name = "b";
    trial& of;
    pj::verdict on(const alpha&, const pj::context& c);
};
struct hand_c {
    using handles = pj::live_only<alpha>;
    static constexpr const char* handler_name = "c";
    trial& of;
    pj::verdict on(const alpha&, const pj::context& c);
};

/// What is known of one event, whatever happens to the machine.
struct fate {
    char code = 0;
    std::string key;                    // of the checkpoint that speaks of it
    bool excused[handler_count + 1] = {};       // a trouble made it fail; nobody: all of them
    bool is_skipped_by_host = false;
    bool is_rejected = false;           // the broker was told so
    uint32_t halts = 0;
    uint32_t calls[handler_count] = {}, failures[handler_count] = {}, polls[handler_count] = {};
    uint32_t gap_seen_ms = pj::never;   // a hole: since when this run of the engine looks at it
    uint32_t skips_told = 0;
    uint32_t refusals = 0;              // of a commit with this event alone
};

/// One engine and its connection.
struct actor {
    uint32_t who = 0;
    std::optional<pj::worker> worker{};
    std::optional<pj::partitioned_worker> part{};
    std::optional<pj::event_sink> sink{};
    std::optional<pj::replay_engine> replay{};
    pj::engine* engine = nullptr;
    position last_called = pj::before_first;
    std::set<std::pair<int, position>> pending{};
    position began_at = pj::before_first;       // the checkpoint that it began with
    uint32_t idle_ticks = 0;            // in a row, with nothing called and nothing to wait for
};

class trial {
public:
    trial(const scenario& in, const troubles& with, bool is_telling);
    trial(const trial&) = delete;
    trial& operator=(const trial&) = delete;
    result run();

    // ---- ports and handlers
    pj::verdict handle(int h, const pj::context& c);
    bool decode(const pj::stored_event& in);
    status load(pj::text key, pj::checkpoint& out) { return db_.load(key, out); }
    status save(pj::text key, const pj::checkpoint& next) {
        look_at_lease("save()");
        return db_.save(key, next);
    }
    status put(const pj::dead_letter& l) {
        look_at_lease("put()");
        pj::stored_event event = l.event;
        event.at = place_of(event.at);
        const uint32_t before = db_.calls;
        for (const trouble& t : with_) put_failed_ = put_failed_ || t.call == before + 1;
        return db_.put({l.kind, l.code, l.attempts, l.replaying, l.partition, l.rebuild,
                        l.projection, l.handler, event});
    }
    status commit() {
        look_at_lease("commit()");
        return db_.commit();
    }
    status begin() { return db_.begin(); }
    status rollback() { return db_.rollback(); }
    void operator()(const pj::notice& n);

private:
    void describe();
    void append_events();
    bool filter(position shown);
    bool open(pj::stored_event& m);
    /// Messages without offsets are numbered by the sink.
    position place_of(position shown) const {
        return s_.messages == offsets::some ? shown : offering_;
    }
    pj::decision decide(const pj::failure& f);
    bool is_dead(position from, position to);
    uint32_t clock();
    status drop();

    // ---- the host
    void boot(actor& a, pj::start_cause cause);
    void boot_all(pj::start_cause cause);
    void crash(actor& a);
    void step();
    void tick(actor& a, uint32_t& wait_ms);
    void offer(actor& a, uint32_t& wait_ms);
    void tell_broker(position at, bool is_ack);
    void halted(actor& a);
    bool is_done() const;
    void live_before();

    // ---- what must hold
    bool wants(int h, position at) const;
    bool fails(int h, position at) const;
    bool may_be_given_up(int h, position at) const;
    bool has_letter(int h, position at) const;
    /// A crash guard may take an event for the reason of so many crashes.
    bool is_blamed() const { return s_.crashes_max != 0 && restarts_ >= s_.crashes_max; }
    void look_at_lease(const char* what);
    void look_at_call(int h, position at, const pj::context& c);
    void look_at_holes(position at);
    void look_at_durable();
    void look_at_event(position at, bool is_end);
    void look_at_handler(int h, position at, bool is_past);
    void look_at_end();
    void look_at_letters();
    void look_at_attempts();
    void look_at_counters(const pj::engine& e);
    void uncommitted();
    bool refuses(const database::tables& next);
    void excuse(int h, position at);

    void note(const std::string& what) {
        if (problem_.find(what) == std::string::npos && problem_.size() < 600)
            problem_ += (problem_.empty() ? "" : "; ") + what;
    }
    static std::string at_event(const char* what, position at, int h = nobody) {
        return std::string(what) + " " + handler_names[h] + "@" + std::to_string(at);
    }
    actor& me() { return actors_[db_.who]; }
    bool is_kind(runs a, runs b) const { return s_.kind == a || s_.kind == b; }
    bool has_parts() const { return is_kind(runs::partitions, runs::partitions_replay); }
    bool rebuilds() const { return is_kind(runs::replay, runs::partitions_replay); }
    bool gives_letters() const {
        return s_.policy == rule::letter || s_.policy == rule::retry_letter;
    }
    bool is_halting() const {
        return s_.policy == rule::halts || s_.policy == rule::halts_at_once;
    }
    /// The checkpoint says which events were handled.
    bool has_checkpoint() const {
        return s_.kind != runs::sink || s_.messages == offsets::some;
    }
    position newest() const { return db_.newest(); }
    pj::checkpoint record_for(position at) const { return db_.record(fates_.at(at).key); }
    bool is_untroubled() const { return with_.empty() && restarts_ == 0; }

    const scenario& s_;
    const troubles with_;
    const bool is_telling_;
    database db_;
    std::map<position, fate> fates_;
    std::vector<position> hole_positions_;
    std::map<std::string, pj::checkpoint> seen_;        // records as they were last

    hand_a a_{*this};
    hand_b b_{*this};
    hand_c c_{*this};
    pj::registry<hand_a, hand_b, hand_c> hands_{a_, b_, c_};
    pj::lease lease_{db_};
    pj::crash_guard guard_{1};
    pj::gap_guard gaps_;
    pj::projection what_;
    pj::replay_options replay_;
    pj::sink_options feed_;
    std::vector<actor> actors_;

    bool is_rebuilding_ = false, is_stopping_ = false, policy_threw_ = false, clock_threw_ = false;
    bool drops_ = false;                // dropped, and the record does not say so yet
    uint32_t restarts_ = 0, conflicts_ = 0;
    bool put_failed_ = false;
    bool is_refused_store_ = false;     // partial_record: there is no more to see
    bool is_refused_ = false;           // a commit was, because of its event
    bool is_disturbed_ = false;         // a handler, decode() or the filter met a trouble
    position offering_ = 0;
    std::vector<position> messages_;    // of the broker, those that it was not told of
    std::set<position> offered_;
    std::map<position, position> later_;        // by message: the checkpoint that it waits for
    size_t cursor_ = 0;
    position skipped_through_ = pj::before_first;       // by the gap guard, as it has told
    std::string problem_;
};

bool decodes(const pj::stored_event& in) {
    return static_cast<trial*>(const_cast<void*>(in.extra))->decode(in);
}
pj::verdict hand_a::on(const alpha&, const pj::context& c) { return of.handle(0, c); }
pj::verdict hand_a::on(const beta&, const pj::context& c) { return of.handle(0, c); }
pj::verdict hand_b::on(const alpha&, const pj::context& c) { return of.handle(1, c); }
pj::verdict hand_c::on(const alpha&, const pj::context& c) { return of.handle(2, c); }

// ---- what is described

trial::trial(const scenario& in, const troubles& with, bool is_telling)
    : s_(in), with_(with), is_telling_(is_telling),
      actors_(in.has_standby || has_parts() ? partition_count : 1) {
    append_events();
    describe();
    db_.troubles = with_;
    db_.on_broken = [this](const std::string& what) { note(what); };
    db_.on_change = [this] { look_at_durable(); };
    db_.on_uncommitted = [this] { uncommitted(); };
    db_.on_lost_commit = [this] {       // without a position nothing tells that it was done
        if (!has_checkpoint() && s_.messages != offsets::counted) uncommitted();
    };
    db_.refuses_commit = [this](const database::tables& next, const database::tables&) {
        return refuses(next);
    };
    db_.on_rollback = [this] {
        me().pending.clear();
        me().last_called = pj::before_first;
    };
    db_.before_visit = [this](position after, position at) {
        for (const position hole : hole_positions_) {
            fate& f = fates_[hole];
            if (hole > after && hole < at && f.gap_seen_ms == pj::never) f.gap_seen_ms = db_.now_ms;
        }
    };
    db_.extra = this;
    db_.slices = s_.shows_slices;
    db_.forgets_saves = s_.forgets_saves;
    db_.keeps_positions_only = s_.keeps_positions_only;
    db_.letters_inside = s_.letters != box::outside;
    db_.slow_ms = s_.has_lease ? lease_ttl_ms + 200 : 1500;
    db_.has_neighbours = actors_.size() > 1;
    for (size_t i = 0; i < actors_.size(); ++i) actors_[i].who = static_cast<uint32_t>(i);
}

void trial::append_events() {
    const size_t count = std::strlen(s_.events);
    for (size_t i = 0; i < count; ++i) {
        const char code = s_.events[i];
        const position at = static_cast<position>(s_.is_sparse ? 3 * i + 2 : i);
        fate& f = fates_[at];
        f.code = code;
        if (code == '_' || code == '~') hole_positions_.push_back(at);
        if (code == '_') continue;
        database::event e;
        e.type = code == 'B' ? "Beta" : code == 'G' ? "Gamma" : code == 'U' ? "Unheard" : "Alpha";
        e.aggregate = "order-" + std::to_string(i % 5);
        f.key = has_parts()
                    ? "p_p" + std::to_string(pj::partition_of(e.aggregate, partition_count)) : "p";
        db_.events[at] = e;
        if (code == '~') db_.visible_from_ms[at] = late_by_ms;
        messages_.push_back(at);
    }
}

void trial::describe() {
    using policy = pj::error_policy;
    what_.name = "p";
    if (s_.kind != runs::sink) what_.log.read = pj::event_store(db_).read;
    if (s_.has_bounds) what_.log.bounds = pj::event_store(db_).bounds;
    what_.log.self = &db_;
    what_.handlers = hands_;
    what_.checkpoints = *this;
    if (s_.has_unit) what_.transaction = *this;
    if (s_.letters != box::none) what_.dead_letters = *this;
    what_.observe = *this;
    what_.clock = {[](void* t) { return static_cast<trial*>(t)->clock(); }, this};
    what_.filter = {[](void* t, const pj::stored_event& e) {
        return static_cast<trial*>(t)->filter(e.at); }, this};
    const policy policies[] = {
        policy::skip(), policy::retry(1), policy::halt(), policy::retry_then_skip(2),
        policy::dead_letter(), policy::retry_then_dead_letter(1),
        policy::custom({[](void* t, const pj::failure& f) {
            return static_cast<trial*>(t)->decide(f); }, this})};
    what_.on_error = policies[static_cast<size_t>(s_.policy)];
    what_.on_unknown = s_.unknown_fails ? pj::unknown_types::fail : pj::unknown_types::ignore;
    what_.delays = {50, 800, 2, 0, 1};
    what_.batch = s_.batch;
    what_.save = {s_.save_every, 500, s_.saves_when_idle};
    what_.tick_ms_max = s_.tick_ms_max;
    what_.unit_ms_max = 800;
    what_.unsaved_max = s_.save_every == 100 ? 8 : 0;
    what_.observe_handled = s_.save_every == 1;
    what_.volatile_model = s_.kind == runs::in_memory;
    what_.replayed_through = s_.replayed_through;
    lease_.ttl_ms = lease_ttl_ms;
    lease_.margin_ms = lease_margin_ms;
    if (s_.has_lease) what_.lease = &lease_;
    guard_ = pj::crash_guard(s_.crashes_max == 0 ? uint16_t{1} : s_.crashes_max);
    if (s_.crashes_max != 0) what_.crashes = &guard_;
    gaps_.timeout_ms = s_.gaps == holes::timeout ? gap_timeout_ms : pj::never;
    if (s_.gaps == holes::dead) {
        gaps_.is_dead = {[](void* t, position from, position to) {
            return static_cast<trial*>(t)->is_dead(from, to); }, this};
    }
    if (s_.gaps != holes::none) what_.gaps = &gaps_;
    replay_.on_drop = {[](void* t) { return static_cast<trial*>(t)->drop(); }, this};
    replay_.on_progress = {[](void* t, const pj::progress&) {
        database::throw_if(static_cast<trial*>(t)->db_.plain_call(callee::progress)); }, this};
    replay_.batch = 3;
    if (s_.kind == runs::partitions_replay) replay_.partitions = partition_count;
    feed_.client = db_;
    feed_.count_messages = s_.messages == offsets::counted;
    if (s_.messages == offsets::counted) {
        feed_.open = {[](void* t, pj::stored_event& m) {
            return static_cast<trial*>(t)->open(m); }, this};
    }
}

// ---- callbacks

bool trial::decode(const pj::stored_event& in) {
    const trouble::kind t = db_.plain_call(callee::decode);
    const position at = place_of(in.at);
    const bool is_unreadable = t == trouble::kind::failed || t == trouble::kind::throws;
    if (is_unreadable) excuse(nobody, at);
    database::throw_if(t);
    return !is_unreadable && fates_[at].code != 'X';
}

bool trial::filter(position shown) {
    const trouble::kind t = db_.plain_call(callee::filter);
    const position at = place_of(shown);
    if (t == trouble::kind::throws) excuse(nobody, at);
    database::throw_if(t);
    return fates_[at].code != 'F';
}

/// A message that carries its type inside.
bool trial::open(pj::stored_event& m) {
    const trouble::kind t = db_.plain_call(callee::open);
    const bool is_unreadable = t == trouble::kind::failed || t == trouble::kind::throws;
    if (is_unreadable) excuse(nobody, offering_);
    database::throw_if(t);
    m.type = pj::text(db_.events.at(offering_).type);
    return !is_unreadable;
}

pj::decision trial::decide(const pj::failure& f) {
    const trouble::kind t = db_.plain_call(callee::policy);
    policy_threw_ = policy_threw_ || t == trouble::kind::throws;
    database::throw_if(t);
    if (f.kind == pj::failure_kind::transient && f.attempts < 3)
        return pj::decision::retry_after(5);
    return f.kind == pj::failure_kind::permanent && s_.letters != box::none
               ? pj::decision::dead_letter() : pj::decision::skip();
}

/// Holes are declared dead only some time after they were seen.
bool trial::is_dead(position from, position to) {
    database::throw_if(db_.plain_call(callee::verdict));
    for (position at = from; at <= to; ++at) {
        const auto f = fates_.find(at);
        if (f == fates_.end() || f->second.code != '_') return false;
    }
    return db_.now_ms >= dead_after_ms;
}

uint32_t trial::clock() {
    const trouble::kind t = db_.plain_call(callee::clock);
    clock_threw_ = clock_threw_ || t == trouble::kind::throws;
    database::throw_if(t);
    if (s_.tick_ms_max != 0) ++db_.now_ms;
    return db_.now_ms;
}

status trial::drop() {
    const trouble::kind t = db_.begins(callee::drop);
    if (!database::works(t)) return db_.ends(t, status::ok);
    if (db_.is_open()) note("G23 on_drop in a unit of work");
    if (s_.keeps_positions_only) note("G23 dropped, and the marker is not kept");
    auto& rows = db_.durable.applied;
    for (auto row = rows.begin(); row != rows.end();)
        row = row->first.first == "c" ? std::next(row) : rows.erase(row);
    db_.durable.letters.clear();
    for (auto& [at, f] : fates_) f.is_skipped_by_host = false;
    drops_ = true;
    return db_.ends(t, status::ok);
}

void trial::operator()(const pj::notice& n) {
    if (is_telling_) {
        db_.trace.push_back("told " + std::to_string(static_cast<int>(n.kind)) + " " +
                            pj::to_string(n.reason) + " " + std::to_string(n.at));
    }
    if (n.kind == pj::notice_kind::lease_lost || n.kind == pj::notice_kind::loaded) {
        me().last_called = pj::before_first;
        if (s_.has_lease) me().pending.clear();
    }
    if (n.kind == pj::notice_kind::gap_skipped) {
        if (n.at <= skipped_through_ && conflicts_ == 0) note(at_event("G8 skipped twice:", n.at));
        for (const position hole : hole_positions_) {
            if (hole <= n.at && hole > skipped_through_) ++fates_[hole].skips_told;
        }
        skipped_through_ = n.at;
    }
    database::throw_if(db_.plain_call(callee::observer));
}

pj::verdict trial::handle(int h, const pj::context& c) {
    const position at = place_of(c.event.at);
    fate& f = fates_[at];
    const trouble::kind t = db_.begins(callee::handler);
    if (db_.dead && t == trouble::kind::dies_before) return pj::pending;
    if (is_telling_) {
        db_.trace.push_back(at_event("handler", at, h) + " #" + std::to_string(c.attempt) +
                            (c.resumed ? " resumed" : "") + (c.replaying ? " replaying" : ""));
    }
    look_at_call(h, at, c);
    me().pending.erase({h, at});
    if (f.code == 'K' && h == 1) {
        db_.dead = true;
        return pj::pending;
    }
    is_disturbed_ = is_disturbed_ || t == trouble::kind::pending;
    const auto pends = [&] {
        me().pending.insert({h, at});
        return pj::pending;
    };
    if (t == trouble::kind::pending) return pends();
    ++f.calls[h];
    if (!database::works(t) || t == trouble::kind::lost_answer) {
        excuse(h, at);
        ++f.failures[h];
        if (t == trouble::kind::lost_answer) db_.apply(handler_names[h], at);
        return db_.ends(t, status::ok);
    }
    if (f.code == 'W' && h == 1 && f.polls[h] < 2) {
        ++f.polls[h];
        --f.calls[h];
        static_cast<void>(db_.ends(t, status::ok));
        return pends();
    }
    const bool is_passing = f.code == 'T' && h == 0 && f.failures[h] < 2;
    if ((fails(h, at) && f.code != 'C') || is_passing) {
        ++f.failures[h];
        // A failing handler leaves half of its work behind, for the unit of work to take back.
        if (s_.has_unit) db_.apply(handler_names[h], at);
        static_cast<void>(db_.ends(t, status::ok));
        return is_passing || f.code == 'H' ? pj::fail(7) : pj::reject(9);
    }
    db_.apply(handler_names[h], at);
    return db_.ends(t, status::ok);
}

// ---- the host

void trial::boot(actor& a, pj::start_cause cause) {
    db_.who = a.who;
    a.worker.reset();
    a.part.reset();
    a.sink.reset();
    a.replay.reset();
    a.engine = nullptr;
    a.pending.clear();
    a.last_called = pj::before_first;
    a.idle_ticks = 0;
    for (const position hole : hole_positions_) fates_[hole].gap_seen_ms = pj::never;
    if (is_rebuilding_) {
        if (a.who == 0) a.engine = &a.replay.emplace(what_, replay_);
    } else if (has_parts()) {
        a.engine = &a.part.emplace(what_, pj::partition{a.who, partition_count});
    } else if (s_.kind == runs::sink) {
        a.engine = &a.sink.emplace(what_, feed_);
        cursor_ = 0;
        later_.clear();
    } else {
        a.engine = &a.worker.emplace(what_);
    }
    a.began_at = skipped_through_ = db_.record().at;
    if (a.engine != nullptr && a.engine->start(cause) != status::ok && !db_.dead)
        note("start() refused");
    if (is_stopping_ && a.engine != nullptr) a.engine->stop();
}

void trial::boot_all(pj::start_cause cause) {
    for (actor& a : actors_) {
        boot(a, cause);
        if (db_.dead) return crash(a);
    }
}

/// The power fails, or the process ends: what it had in hand is gone.
void trial::crash(actor& a) {
    db_.trace.push_back("--- dies, and is started again");
    if (++restarts_ > 12) {
        note("dies again and again");
        return;
    }
    const auto loses_all = [&](actor& one) {
        db_.who = one.who;
        db_.reconnect();
        if (s_.kind != runs::in_memory) return;
        auto& rows = db_.durable.applied;
        for (auto row = rows.begin(); row != rows.end();)
            row = row->first.first == "c" ? std::next(row) : rows.erase(row);
    };
    db_.now_ms += 20;
    if (s_.kind == runs::in_memory) is_stopping_ = false;       // what is in memory is read again
    const std::string first = has_parts() ? "p_p0" : "p";
    if (is_rebuilding_ && db_.record(first).rebuild != 0 && db_.record(first).replay_stage == 0)
        is_rebuilding_ = false;
    if (s_.has_standby) {
        loses_all(a);
        boot(a, pj::start_cause::crash);
        if (db_.dead) crash(a);
        return;
    }
    for (actor& one : actors_) loses_all(one);
    boot_all(pj::start_cause::crash);
}

void trial::tick(actor& a, uint32_t& wait_ms) {
    if (a.engine == nullptr || !a.engine->running()) return;
    db_.who = a.who;
    const size_t before = db_.called.size();
    const pj::event_count scanned = a.engine->counts().scanned;
    const pj::tick_result r = a.engine->tick(db_.now_ms);
    if (is_telling_) {
        db_.trace.push_back("tick of " + std::to_string(a.who) + " at " +
                            std::to_string(db_.now_ms) + ": " + pj::to_string(r.state) + ", " +
                            pj::to_string(r.reason) + ", wait " + std::to_string(r.wait_ms));
    }
    if (db_.dead) return crash(a);
    look_at_counters(*a.engine);
    const bool is_idle = r.wait_ms == 0 && !db_.is_quiet &&
                         scanned == a.engine->counts().scanned &&
                         std::all_of(db_.called.begin() + static_cast<std::ptrdiff_t>(before),
                                     db_.called.end(), [](callee c) { return c == callee::clock; });
    a.idle_ticks = is_idle ? a.idle_ticks + 1 : 0;
    // A tick may commit a unit of the last one, and then one of its own.
    const uint32_t most = (is_rebuilding_ ? replay_.batch : s_.batch) * (s_.has_unit ? 2 : 1);
    if (r.scanned > most) note("G26 too many events");
    if (a.idle_ticks > 6) note("G15 busy with nothing");
    if (a.engine->state() == pj::run_state::halted) {
        halted(a);
        wait_ms = 0;
    } else if (a.engine->running()) {
        if (r.wait_ms == pj::never && s_.kind != runs::sink) note("G27 sleeps for ever");
        wait_ms = pj::sooner(wait_ms, r.wait_ms);
    } else {
        wait_ms = 0;
    }
    if (is_rebuilding_ && a.replay && a.replay->finished()) {
        is_rebuilding_ = false;
        boot_all(pj::start_cause::clean);
    }
}

void trial::halted(actor& a) {
    const status why = a.engine->reason();
    const position shown = a.engine->last_failure().at, at = place_of(shown);
    a.last_called = pj::before_first;
    if (why == status::checkpoint_conflict && !with_.empty() && ++conflicts_ < 3) {
        if (a.engine->retry_failed() != status::ok) note("retry_failed() refused");
        return;
    }
    is_refused_store_ = s_.keeps_positions_only && why == status::partial_record;
    if (is_refused_store_) return;
    const auto found = fates_.find(at);
    const bool is_of_event = pj::group_of(why) == pj::status_group::handler;
    if (!is_of_event || found == fates_.end()) {
        note(std::string("halts: ") + pj::to_string(why));
        return;
    }
    fate& f = found->second;
    bool may_fail = f.code == 'T' || is_blamed();
    for (int h = 0; h <= nobody; ++h) may_fail = may_fail || fails(h, at) || f.excused[h];
    if (!may_fail || !(is_halting() || policy_threw_)) note(at_event("G9 halts without need", at));
    const status went_on = ++f.halts % 2 == 1 ? a.engine->retry_failed()
                                              : a.engine->skip_failed(shown);
    if (f.halts % 2 == 0) f.is_skipped_by_host = true;
    if (went_on != status::ok) note("does not go on after a halt");
    // Without offsets nobody but the host can tell that it is this message that was given up.
    if (f.halts % 2 == 0 && s_.messages != offsets::some) return tell_broker(at, true);
    if (f.halts > 8) note("halts again and again");
}

/// One message to the sink, and what it answers to the broker.
void trial::offer(actor& a, uint32_t& wait_ms) {
    if (cursor_ >= messages_.size() || !a.engine->running()) return;
    db_.who = a.who;
    const position at = messages_[cursor_];
    const database::event& e = db_.events.at(at);
    pj::stored_event m;
    if (s_.messages != offsets::counted) m.type = pj::text(e.type);
    m.aggregate_id = e.aggregate;
    m.extra = this;
    if (s_.messages == offsets::some) m.at = at;
    offering_ = at;
    const pj::receive_result r = a.sink->receive(m, db_.now_ms, offered_.count(at) != 0);
    if (db_.dead) return crash(a);
    look_at_counters(*a.engine);
    if (is_telling_) {
        constexpr const char* answers[] = {"ack", "later", "hold", "reject"};
        db_.trace.push_back("message " + std::to_string(at) + ": " +
                            answers[static_cast<int>(r.answer)] + ", wait " +
                            std::to_string(r.wait_ms) + ", " + pj::to_string(r.reason));
    }
    offered_.insert(at);
    switch (r.answer) {
    case pj::receipt::ack: return tell_broker(at, true);
    case pj::receipt::reject: return tell_broker(at, false);
    case pj::receipt::later:
        later_[at] = s_.messages == offsets::some ? at : a.engine->scanned();
        ++cursor_;
        wait_ms = 0;
        return;
    case pj::receipt::hold: break;
    }
    if (a.engine->state() == pj::run_state::halted) halted(a);
    else if (r.wait_ms == pj::never && a.engine->running()) note("G27 holds a message for ever");
    else wait_ms = pj::sooner(wait_ms, r.wait_ms);
}

/// What the broker is told; from then on it never offers this message again.
void trial::tell_broker(position at, bool is_ack) {
    const trouble::kind t = db_.begins(callee::acknowledge);
    if (database::works(t)) {
        const auto found = std::find(messages_.begin(), messages_.end(), at);
        if (static_cast<size_t>(found - messages_.begin()) < cursor_) --cursor_;
        messages_.erase(found);
        later_.erase(at);
        fates_[at].is_rejected = !is_ack;
        if (!is_ack && (s_.letters != box::none || !gives_letters())) note("rejects a message");
        if (has_checkpoint() && is_ack && db_.record().at < at)
            note(at_event("acknowledged, not durable:", at));
        if (is_ack || s_.messages != offsets::some) look_at_event(at, true);
    }
    if (t == trouble::kind::dies_after) db_.dead = true;
    if (db_.dead) crash(actors_[0]);
}

void trial::step() {
    uint32_t wait_ms = pj::never;
    const uint32_t before = restarts_;
    for (actor& a : actors_) {
        tick(a, wait_ms);
        if (restarts_ != before) return;
        if (!a.sink) continue;
        const bool is_back = a.engine->loaded() && !later_.empty() &&
                             later_.rbegin()->second > a.engine->scanned();
        if (is_back) {                  // it lost its lease: the broker offers all of them again
            later_.clear();
            cursor_ = 0;
        }
        if (!is_stopping_) offer(a, wait_ms);
        if (restarts_ != before) return;
        const std::map<position, position> kept = later_;
        for (const auto& [at, needed] : kept) {
            if (a.engine->checkpointed() >= needed && restarts_ == before) tell_broker(at, true);
        }
        if (restarts_ != before) return;
    }
    if (wait_ms != pj::never && wait_ms > 1100 && !clock_threw_) note("G27 oversleeps");
    db_.now_ms += wait_ms == pj::never ? 100 : wait_ms;
}

bool trial::is_done() const {
    if (is_rebuilding_ || !messages_.empty()) return false;
    const pj::engine& e = *actors_[0].engine;
    if (s_.kind == runs::sink) return !has_checkpoint() || db_.record().at == newest();
    if (s_.kind == runs::in_memory && e.scanned() < newest()) return false;
    if (!has_parts()) return db_.record().at == newest();
    return db_.record("p_p0").at == newest() && db_.record("p_p1").at == newest();
}

/// Before a rebuild: a worker, which nothing disturbs, has handled all but the last two events.
void trial::live_before() {
    const auto last = std::prev(db_.events.end(), 2);
    const std::map<position, database::event> rest(last, db_.events.end());
    db_.events.erase(last, db_.events.end());
    db_.is_quiet = true;
    boot_all(pj::start_cause::clean);
    for (int steps = 0; steps < 300 && !is_done(); ++steps) step();
    if (!is_done()) note("does not even begin");
    for (actor& a : actors_) a.engine->stop();
    for (int steps = 0; steps < 50; ++steps) step();
    for (auto& [at, f] : fates_) {
        f.halts = 0;
        for (int h = 0; h < handler_count; ++h) f.calls[h] = f.failures[h] = f.polls[h] = 0;
    }
    db_.is_quiet = false;
    db_.events.insert(rest.begin(), rest.end());
    db_.durable.applied[{"garbage", 0}] = 1;
    db_.durable.put_twice.clear();
    is_rebuilding_ = true;
}

result trial::run() {
    if (s_.kind != runs::sink) messages_.clear();
    if (rebuilds()) live_before();
    boot_all(pj::start_cause::clean);
    int steps = 0;
    for (; steps < 500 && problem_.empty() && !is_refused_store_; ++steps) {
        bool runs_on = false;
        for (const actor& a : actors_) runs_on = runs_on || (a.engine && a.engine->running());
        if (is_stopping_ && !runs_on) break;
        if (!is_stopping_ && is_done()) {
            is_stopping_ = true;
            for (actor& a : actors_) a.engine->stop();
        }
        step();
    }
    if (steps == 500) note("comes to no end");
    if (db_.now_ms > 60000) note("takes too long");
    if (db_.calls > 3000) note("calls too often");
    if (problem_.empty() && !is_refused_store_) look_at_end();
    if (s_.keeps_positions_only && !is_refused_store_) note("G23 a store without markers is used");
    return {problem_, db_.called, db_.trace};
}

// ---- what must hold

bool trial::wants(int h, position at) const {
    const char code = fates_.at(at).code;
    if (code == 'F' || code == 'G' || code == 'U' || code == '_') return false;
    if (h == 2 && at <= s_.replayed_through) return false;
    return h == 0 || code != 'B';
}
/// Whatever is tried, it fails.
bool trial::fails(int h, position at) const {
    const char code = fates_.at(at).code;
    if (code == 'X' || code == 'K' || code == 'C') return true;
    if (code == 'U') return s_.unknown_fails;
    return code == 'D' ? h < 2 : h == 1 && (code == 'P' || code == 'H');
}
bool trial::may_be_given_up(int h, position at) const {
    const fate& f = fates_.at(at);
    if (f.is_skipped_by_host) return true;
    if (is_halting()) return false;
    const bool has_three = s_.policy == rule::retry_skip || s_.policy == rule::custom;
    return fails(h, at) || f.excused[h] || f.excused[nobody] || is_blamed() ||
           (f.code == 'T' && h == 0 && (!has_three || (s_.has_unit && is_disturbed_)));
}
bool trial::has_letter(int h, position at) const {
    return db_.has_letter(handler_names[h], at) || db_.has_letter("", at) ||
           fates_.at(at).is_rejected;
}
void trial::excuse(int h, position at) {
    fate& f = fates_[at];
    f.excused[h] = true;
    is_disturbed_ = true;
    for (int each = 0; each < handler_count; ++each) {
        if (h != nobody) continue;
        f.excused[each] = true;
        me().pending.erase({each, at});
    }
}
/// A unit was not committed. If it is that of one event, a policy may give that one up.
void trial::uncommitted() {
    if (s_.kind == runs::sink) return excuse(nobody, offering_);
    const std::string key = has_parts() ? "p_p" + std::to_string(db_.who) : "p";
    const auto& records = db_.now().records;
    const auto next = records.find(key);
    if (next == records.end()) return;
    std::vector<position> inside;
    for (const auto& [at, e] : db_.events) {
        if (at > db_.record(key).at && at <= next->second.at) inside.push_back(at);
    }
    if (inside.size() == 1) excuse(nobody, inside[0]);
}

/// What C does cannot be committed, whoever tries how often.
bool trial::refuses(const database::tables& next) {
    for (auto& [at, f] : fates_) {
        if (f.code != 'C' || next.applied.count({"a", at}) == 0) continue;
        bool is_alone = true;
        for (const auto& [key, n] : next.applied) {
            is_alone = is_alone && (key.second == at || db_.durable.applied.count(key) != 0);
        }
        if (is_alone) ++f.refusals;
        is_refused_ = true;
        return true;
    }
    return false;
}

/// G20: nothing begins without a lease that lasts for its margin.
void trial::look_at_lease(const char* what) {
    if (!s_.has_lease || db_.is_quiet || db_.dead) return;
    if (s_.kind == runs::partitions_replay && is_rebuilding_) return;
    const std::string key = has_parts() ? "p_p" + std::to_string(db_.who) : "p";
    const auto found = db_.grants.find(key);
    const bool is_held = found != db_.grants.end() && found->second.who == db_.who &&
                         db_.now_ms + lease_margin_ms < found->second.until_ms;
    if (!is_held) note(std::string("G20 without a lease: ") + what);
}

void trial::look_at_call(int h, position at, const pj::context& c) {
    look_at_lease("a handler");
    if (!wants(h, at)) note(at_event("called for what it does not want:", at, h));
    if (has_checkpoint()) {
        const pj::checkpoint record = record_for(at);
        const bool is_in_memory = s_.kind == runs::in_memory;
        const position through = is_in_memory ? me().began_at : record.replayed_through;
        if (!is_in_memory && at <= record.at)
            note(at_event("G1 handled again at or below the checkpoint:", at, h));
        if (c.replaying != (at <= through)) note(at_event("G25 replaying is wrong:", at, h));
        if (h == 2 && at <= through) note(at_event("G25 live_only while replaying:", at, h));
        if (at < me().last_called) note(at_event("G7 out of order:", at, h));
        if (!c.resumed && me().last_called == at && s_.has_unit && me().pending.empty() &&
            fates_[at].calls[h] > 40) {
            note(at_event("G15 again and again:", at, h));
        }
    }
    me().last_called = at;
    if (c.resumed != (me().pending.count({h, at}) != 0) && !fates_[at].excused[nobody])
        note(at_event("G15 resumed is wrong:", at, h));
    if (s_.gaps != holes::none) look_at_holes(at);
}

void trial::look_at_holes(position at) {
    for (const position hole : hole_positions_) {
        const fate& f = fates_.at(hole);
        if (hole >= at || hole <= record_for(at).at) continue;
        const bool is_settled = f.code == '~' ? db_.now_ms >= late_by_ms
                              : s_.gaps == holes::dead ? db_.now_ms >= dead_after_ms
                              : db_.now_ms - f.gap_seen_ms >= gap_timeout_ms;
        if (!is_settled) note(at_event("G8 handled above a hole:", at));
    }
}

void trial::look_at_durable() {
    for (const auto& [key, record] : db_.durable.records) {
        pj::checkpoint& before = seen_[key];
        if (before.revision == record.revision) continue;
        if (before.revision + 1 != record.revision) note("a revision is left out");
        if (record.at < before.at && !rebuilds()) note("G2 the checkpoint moves back");
        const bool is_named = record.at < 0 || fates_.count(record.at) != 0;
        if (!is_named && has_checkpoint() && s_.gaps == holes::none)
            note("G2 a position that the store did not name");
        if (record.replay_stage == 2) drops_ = false;
        before = record;
    }
    if (has_checkpoint()) {
        for (const auto& [at, e] : db_.events) look_at_event(at, false);
    }
}

void trial::look_at_event(position at, bool is_end) {
    const pj::checkpoint record = record_for(at);
    if (record.replay_stage == 1 || drops_) return;
    bool is_past = is_end || at <= record.at;
    if (s_.kind == runs::in_memory && !is_end) is_past = is_past && record.at > me().began_at;
    for (int h = 0; h < handler_count; ++h) look_at_handler(h, at, is_past);
}

void trial::look_at_handler(int h, position at, bool is_past) {
    const int times = db_.applied(handler_names[h], at);
    const fate& f = fates_.at(at);
    if (rebuilds() && h == 2 && times == 1) return;     // as the live projection left it
    if (!is_past) {
        const bool is_rejected = s_.kind == runs::sink && gives_letters() &&
                                 s_.letters == box::none;
        if (!s_.has_unit || !has_checkpoint() || is_rejected) return;
        if (times != 0) note(at_event("G17 an effect above the checkpoint:", at, h));
        // A partition's filter may give up what is another's, in a letter of its own.
        const bool is_others = has_parts() && f.excused[nobody];
        if (s_.letters == box::inside && has_letter(h, at) && !is_others)
            note(at_event("G17 a letter above the checkpoint:", at, h));
        return;
    }
    if (!wants(h, at)) {
        if (times != 0) note(at_event("an effect that nobody wanted:", at, h));
        return;
    }
    if (times == 0) {
        if (!may_be_given_up(h, at)) note(at_event("G1 without an outcome:", at, h));
        else if (gives_letters() && !has_letter(h, at) && !f.is_skipped_by_host)
            note(at_event("G12 given up without a letter:", at, h));
        return;
    }
    const bool is_rejected = s_.kind == runs::sink && f.is_rejected;
    if (s_.has_unit && times > 1 && (has_checkpoint() || is_untroubled()) && !is_rejected)
        note(at_event("G17 an effect twice:", at, h));
    if (s_.has_unit && s_.letters == box::inside && !f.is_rejected &&
        (has_checkpoint() || is_untroubled()) &&
        (db_.has_letter(handler_names[h], at) || (has_letter(h, at) && !f.excused[nobody]))) {
        note(at_event("G17 an effect and a letter:", at, h));
    }
    if (!s_.has_unit && times > 1 && restarts_ == 0 && !s_.has_lease && conflicts_ == 0 &&
        !f.excused[h]) {
        note(at_event("G10 an effect twice without a crash:", at, h));
    }
}

void trial::look_at_end() {
    for (const auto& [at, e] : db_.events) look_at_event(at, true);
    for (const auto& [name, g] : db_.grants) {
        if (g.until_ms > db_.now_ms && is_untroubled()) note("G28 a lease is not given back");
    }
    for (actor& a : actors_) {
        db_.who = a.who;
        const bool is_lost = s_.has_lease && a.engine->reason() == status::checkpoint_failed;
        if (a.engine->reason() != status::ok && (!is_lost || with_.empty()))
            note(std::string("G28 stopped, but ") + pj::to_string(a.engine->reason()));
        if (db_.is_open()) note("G28 stopped in an open unit");
        if (restarts_ == 0 && !s_.has_lease && conflicts_ == 0 && s_.kind != runs::sink &&
            !rebuilds() && a.engine->counts().scanned != db_.events.size()) {
            note("G16 miscounted");
        }
    }
    if (rebuilds()) {
        if (db_.durable.applied.count({"garbage", 0}) != 0) note("G23 not dropped");
        for (const auto& [key, r] : db_.durable.records) {
            if (r.replay_stage != 0) note("G23 the rebuild is unfinished");
        }
    }
    for (const position hole : hole_positions_) {
        const fate& f = fates_.at(hole);
        const bool is_skipped = f.code == '_' && s_.gaps != holes::none;
        if (restarts_ == 0 && f.skips_told != (is_skipped ? 1u : 0u))
            note(at_event("G8 a skip is not reported once:", hole));
    }
    look_at_letters();
    look_at_attempts();
    if (is_untroubled() && db_.begun != db_.committed + db_.rolled_back) note("G17 units are left");
}

void trial::look_at_letters() {
    for (const auto& [key, l] : db_.durable.letters) {
        const position at = key.second;
        const char code = fates_.at(at).code;
        int h = nobody;
        for (int each = 0; each < handler_count; ++each)
            h = key.first == handler_names[each] ? each : h;
        if (!may_be_given_up(h, at)) note(at_event("G11 a letter without need:", at, h));
        bool is_excused = false;
        for (const bool one : fates_.at(at).excused) is_excused = is_excused || one;
        if (is_excused || restarts_ != 0 || policy_threw_) continue;
        const pj::failure_kind kind =
            code == 'X' ? pj::failure_kind::decode : code == 'U' ? pj::failure_kind::unknown_type
            : code == 'P' || code == 'D' || code == 'K' ? pj::failure_kind::permanent
                                                        : pj::failure_kind::transient;
        const uint32_t attempts = kind == pj::failure_kind::transient &&
                                  s_.policy == rule::retry_letter ? 2 : 1;
        if (l.kind != kind || l.attempts != attempts) note(at_event("G12 a wrong letter:", at, h));
    }
    for (const auto& [key, n] : db_.durable.put_twice) {
        const bool may_repeat = restarts_ != 0 || put_failed_ || s_.has_lease ||
                                (!has_checkpoint() && !with_.empty()) ||
                                (key.first.empty() && is_disturbed_) ||     // unreadable twice
                                (s_.has_unit && s_.letters == box::outside);
        if (n != 0 && !may_repeat) note(at_event("G12 a letter twice:", key.second));
    }
    for (const auto& [at, f] : fates_) {
        if (f.code == 'U' && s_.unknown_fails && gives_letters() && !has_letter(nobody, at))
            note(at_event("G12 no letter for an unknown type:", at));
    }
}

/// G9, G10: without a crash each handler is called as often as the policy says. (In a unit of work
/// a trouble with an event before it makes a failing event begin anew with its attempts.)
void trial::look_at_attempts() {
    if (restarts_ != 0 || s_.has_lease || conflicts_ != 0 || policy_threw_) return;
    // Without offsets nothing tells that a commit was done whose answer was lost.
    if (s_.has_unit && !has_checkpoint() && !with_.empty()) return;
    const uint32_t tries[] = {1, 2, 1, 3, 1, 2, 3};     // of what may pass, by rule
    const uint32_t most = tries[static_cast<size_t>(s_.policy)];
    const uint32_t rounds = is_halting() ? 2 : 1;       // the host asks for one more
    for (const auto& [at, f] : fates_) {
        for (int h = 0; h < handler_count; ++h) {
            if (!wants(h, at) || f.excused[h] || f.excused[nobody]) continue;
            if (rebuilds() && h == 2) continue;
            if (f.code == 'C' && h == 0 && !is_disturbed_ && f.refusals < most * rounds)
                note(at_event("G18 given up before it was alone:", at));
            if (f.code == 'X' || f.code == 'K' || f.code == 'C') continue;
            if (s_.has_unit && (is_disturbed_ || is_refused_)) continue;
            uint32_t failures = 0;
            if (fails(h, at)) failures = (f.code == 'H' ? most : 1) * rounds;
            if (f.code == 'D' && h == 1 && s_.has_unit && is_halting()) failures = 0;
            if (f.code == 'T' && h == 0) failures = std::min(2u, most * rounds);
            const bool is_passed = !f.is_skipped_by_host && !may_be_given_up(h, at);
            if (f.failures[h] != failures) note(at_event("G9 attempts:", at, h));
            if (!s_.has_unit && is_passed && f.calls[h] != failures + 1)
                note(at_event("G10 calls:", at, h));
        }
    }
}

void trial::look_at_counters(const pj::engine& e) {
    const pj::counters n = e.counts();
    if (n.scanned != n.handled + n.unhandled + n.unknown + n.filtered + n.skipped + n.lettered +
                         n.vanished + n.duplicate + n.foreign) {
        note("G16 the counters do not reconcile");
    }
}

} // namespace

result run(const scenario& s, const troubles& with, bool is_telling) {
    trial t(s, with, is_telling);
    return t.run();
}

// ---- lines

namespace {
constexpr const char* kind_names[] = {"none", "dies_before", "dies_after", "failed", "lost_answer",
                                      "pending", "illegal", "wrong", "throws", "slow"};
}

std::string to_line(size_t scenario, const troubles& with) {
    std::string line = std::to_string(scenario);
    for (size_t i = 0; i < with.size(); ++i) {
        line += (i == 0 ? ":" : ",") + std::to_string(with[i].call) + "=" +
                kind_names[static_cast<size_t>(with[i].what)];
    }
    return line;
}

bool from_line(const std::string& line, size_t& scenario, troubles& with) {
    const auto number = [](const std::string& digits) {
        return static_cast<uint32_t>(std::strtoul(digits.c_str(), nullptr, 10));
    };
    scenario = number(line);
    with.clear();
    for (size_t from = line.find(':'); from < line.size();) {
        const size_t equals = line.find('=', ++from), end = std::min(line.find(',', from),
                                                                     line.size());
        if (equals >= end) return false;
        const std::string name = line.substr(equals + 1, end - equals - 1);
        const auto found = std::find(std::begin(kind_names), std::end(kind_names), name);
        if (found == std::end(kind_names)) return false;
        with.push_back({number(line.substr(from)),
                        static_cast<trouble::kind>(found - std::begin(kind_names))});
        from = end;
    }
    return scenario < all_scenarios().size();
}

result must_hold(size_t scenario, const troubles& with) {
    static std::map<size_t, int> told;
    result r = run(all_scenarios()[scenario], with);
    if (!r.problem.empty() && ++told[scenario] <= 3 && told.size() < 40) {
        const std::string message = r.problem + "\n  scenario: " +
                                    to_string(all_scenarios()[scenario]) +
                                    "\n  again:    PROOF_RUN=" + to_line(scenario, with);
        FAIL_CHECK(message);
    }
    return r;
}

size_t with_one_more(size_t scenario, const troubles& with, const kinds& of, uint32_t stride) {
    const result before = run(all_scenarios()[scenario], with);
    uint32_t call = with.empty() ? 1 : with.back().call + 1;
    size_t turn = scenario + call, runs = 0;
    for (; call <= before.called.size(); ++call) {
        for (const trouble::kind what : of) {
            if (!applies(what, before.called[call - 1]) || ++turn % stride != 0) continue;
            troubles all = with;
            all.push_back({call, what});
            must_hold(scenario, all);
            ++runs;
        }
    }
    return runs;
}

size_t with_two_more(size_t scenario, const kinds& first, const kinds& second, uint32_t stride) {
    const result before = run(all_scenarios()[scenario], {});
    size_t turn = scenario, runs = 0;
    for (uint32_t call = 1; call <= before.called.size(); ++call) {
        for (const trouble::kind what : first) {
            if (!applies(what, before.called[call - 1]) || ++turn % stride != 0) continue;
            runs += with_one_more(scenario, {{call, what}}, second, stride);
        }
    }
    return runs;
}

bool is_small(size_t scenario) { return std::strlen(all_scenarios()[scenario].events) < 9; }

uint32_t stride_of(uint32_t usually) {
    const char* const asked = std::getenv("PROOF_STRIDE");
    if (asked == nullptr) return usually;
    return std::max(1u, std::min(usually, static_cast<uint32_t>(std::strtoul(asked, nullptr, 10))));
}

bool applies(trouble::kind what, callee at) {
    using kind = trouble::kind;
    const bool is_plain = at >= callee::decode;
    switch (what) {
    case kind::none: return false;
    case kind::dies_before:
    case kind::dies_after: return !is_plain;
    case kind::throws: return PROJECTIONS_EXCEPTIONS != 0 && at != callee::acknowledge;
    case kind::slow: return at != callee::acknowledge && at != callee::decode;
    case kind::failed:
        return at != callee::acknowledge && (!is_plain || at == callee::decode ||
                                             at == callee::open);
    default: return at != callee::acknowledge && !is_plain;
    }
}

} // namespace proof
