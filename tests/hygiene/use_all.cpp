// Instantiates most of what the header offers, without any other header: compiled by flags.py under every
// warning, with and without exceptions, and run as a test.
#include "projections.hpp"

namespace pj = projections;

namespace use_all {

// ---------------------------------------------------------------- events in every manner

struct order_event {
    uint32_t order = 0;
};
struct order_created_v1 : order_event {
    uint32_t euros = 0;
    static bool decode(const pj::stored_event& in, order_created_v1& out) {
        return in.payload.copy_to(out.euros);
    }
};
struct order_created : order_event {
    static constexpr pj::event_type type{"OrderCreated", pj::schema{2}};
    using previous = order_created_v1;
    uint32_t cents = 0;
    void upcast(const order_created_v1& old) { cents = old.euros * 100; }
    static bool decode(const pj::stored_event& in, order_created& out) {
        return in.payload.copy_to(out.cents);
    }
};
struct order_packed : order_event {
    static constexpr pj::event_type type{"OrderPacked", pj::id{0x0103}, pj::raw};
};
struct order_shipped {
    static constexpr pj::event_type type{pj::id{7}, pj::raw};
    uint32_t order;
};
using shop_events = pj::events<order_created, order_packed, order_shipped>;

} // namespace use_all

namespace warehouse { // one codec for a whole namespace

template<class E> bool decode_event(const pj::stored_event& in, E& out) {
    return in.payload.copy_to(out.pieces);
}
struct stock_counted {
    static constexpr pj::event_type type{"StockCounted"};
    uint32_t pieces;
};

} // namespace warehouse

namespace generated { // cannot be edited

struct refund {
    uint32_t cents;
};

} // namespace generated

template<> struct projections::event_traits<generated::refund> {
    static constexpr event_type type{"Refund"};
    static bool decode(const stored_event& in, generated::refund& out) {
        return in.payload.copy_to(out);
    }
};

namespace use_all {

// ---------------------------------------------------------------- handlers in every manner

struct sales {
    using handles = pj::events<order_created, order_packed>;
    uint32_t cents = 0;
    uint32_t packed = 0;
    void on(const order_created& e) { cents += e.cents; }
    pj::verdict on(const order_packed&, const pj::context& c) {
        packed += c.attempt;
        return pj::handled;
    }
};
struct activity {
    using handles = pj::matching<shop_events>;
    uint32_t shipped = 0;
    pj::status on(const order_shipped&) {
        ++shipped;
        return pj::status::ok;
    }
};
struct mails {
    using handles = pj::live_only<order_created>;
    uint32_t sent = 0;
    void on(const order_created&) { ++sent; }
};
struct audit {
    using handles = pj::every_event;
    uint32_t seen = 0;
    void on(const pj::stored_event&) { ++seen; }
};
struct stock {
    using handles = pj::events<warehouse::stock_counted, generated::refund>;
    uint32_t pieces = 0;
    uint32_t cents = 0;
    void on(const warehouse::stock_counted& e) { pieces += e.pieces; }
    pj::verdict on(const generated::refund& e) {
        cents += e.cents;
        if (e.cents == 0) return pj::reject(3);
        return e.cents > 1000 ? pj::fail(4) : pj::verdict(pj::handled);
    }
};

static uint32_t free_calls = 0;
static void on_shipped(const order_shipped& e) { free_calls += e.order; }

// ---------------------------------------------------------------- ports

struct array_log {
    const pj::stored_event* events;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) const {
        size_t first = 0;
        while (first < count && events[first].at <= after) ++first;
        if (first < count) static_cast<void>(visit(events + first, count - first));
        return pj::status::ok;
    }
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) const {
        trimmed = pj::before_first;
        newest = count == 0 ? pj::before_first : events[count - 1].at;
        log_id = 42;
        return pj::status::ok;
    }
};
struct letters {
    uint32_t count = 0;
    pj::status put(const pj::dead_letter& letter) {
        count += letter.attempts;
        return pj::status::ok;
    }
};
static uint32_t notices = 0;
static void on_notice(const pj::notice&) { ++notices; }
static pj::decision skip_always(const pj::failure&) { return pj::decision::skip(); }

// ---------------------------------------------------------------- what is checked

static int registry_and_worker() {
    const uint32_t cents = 250;
    const uint32_t pieces = 5;
    const order_packed packed{};
    const order_shipped shipped{9};
    const generated::refund refund{2000};
    pj::stored_event history[] = {
        {0, "OrderCreated", {&cents, sizeof cents}},
        pj::raw_event(1, packed),
        pj::raw_event(2, shipped),
        {3, "StockCounted", {&pieces, sizeof pieces}},
        {4, "Refund", {&refund, sizeof refund}},
        {5, "Unknown"},
    };
    history[0].version = 2;
    history[2].type = pj::type_key(pj::id{7});
    array_log log{history, sizeof history / sizeof *history};

    sales a;
    activity b;
    mails c;
    audit d;
    stock e;
    pj::registry handlers{a, b, c, d, e};
    pj::memory_checkpoint_store<2> checkpoints;
    letters dead;
    pj::policy_table<2> policies;
    policies.add("skip_always", skip_always);

    pj::projection projection{"use_all", log, handlers, checkpoints};
    projection.dead_letters = dead;
    projection.observe = on_notice;
    projection.on_error = pj::error_policy::dead_letter();
    projection.batch = 4;
    pj::worker worker{projection};
    if (worker.start() != pj::status::ok) return 1;
    for (uint32_t ticks = 0; worker.tick(ticks).wait_ms == 0;) {
        if (++ticks > 9) return 2;
    }
    if (a.cents != 250 || a.packed != 1 || c.sent != 1 || e.pieces != 5) return 3;
    if (d.seen != 6 || dead.count != 1 || notices == 0) return 4;
    if (worker.checkpointed() != 5 || !worker.caught_up() || worker.lag() != 0) return 5;
    worker.stop();
    if (pj::tick_all(9, worker) != 0 || worker.running()) return 6;
    if (pj::tick_all(9, worker) != pj::never) return 6;

    // By policy name, in another engine on the same description with a name of its own.
    pj::projection second = projection;
    second.name = "use_all_again";
    second.on_error = policies["skip_always"];
    pj::worker again{second};
    if (again.start() != pj::status::ok) return 7;
    uint32_t now_ms = 0;
    const auto clock = [&now_ms] { return now_ms; };
    const auto sleep = [&](uint32_t ms) {
        now_ms += ms;
        if (again.caught_up()) again.stop();
    };
    if (pj::run(again, clock, sleep) != pj::status::ok) return 8;
    return again.checkpointed() == 5 ? 0 : 9;
}

static_assert(pj::poll_timeout(pj::never) == -1 && pj::sooner(3, 4) == 3);
static_assert(pj::to_string(pj::status::ok)[0] == 'o');

static int handler_map_and_stores() {
    pj::memory_log<8, 256> log;
    const order_shipped one{1};
    const order_shipped two{2};
    static_cast<void>(log.append(one));
    static_cast<void>(log.append(two));

    activity a;
    audit b;
    pj::handler_map<8> handlers;
    handlers.add(b);
    handlers.add<order_shipped>(on_shipped);
    handlers.add<order_shipped>([](const order_shipped& e) { free_calls += e.order; }, "lambda");
    handlers.add(a);
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection projection{"map", log, handlers, checkpoints};
    pj::worker worker{projection};
    if (worker.start() != pj::status::ok) return 1;
    static_cast<void>(worker.tick(0));
    if (free_calls != 6 || a.shipped != 2 || b.seen != 2) return 2;

    pj::checkpoint saved;
    if (checkpoints.load("map", saved) != pj::status::ok || saved.at != 1) return 3;
    uint8_t image[pj::checkpoint_bytes];
    pj::encode(saved, image);
    pj::checkpoint back;
    if (!pj::decode({image, sizeof image}, back) || back.at != 1) return 4;
    checkpoints.clear();

    activity direct;
    if (pj::deliver(direct, one).what() != pj::verdict::kind::handled || direct.shipped != 1) return 5;
    return 0;
}

struct client {
    uint32_t calls = 0;
    pj::status subscribe(pj::text, pj::text) { ++calls; return pj::status::ok; }
    pj::status unsubscribe(pj::text, pj::text) { ++calls; return pj::status::ok; }
};

static int other_engines() {
    pj::memory_log<8, 256> log;
    for (uint32_t i = 1; i < 4; ++i) static_cast<void>(log.append(order_shipped{i}));
    activity a;
    pj::memory_checkpoint_store<4> checkpoints;
    pj::memory_checkpoint_store<5> parts;
    static constexpr pj::crash_guard guard{2};
    pj::projection described{"others", log, a, checkpoints};
    described.crashes = &guard;
    const auto clock = [] { return 0u; };
    const auto sleep = [](uint32_t) {};

    const auto drop = [&] { a = {}; return pj::status::ok; };
    int percent = 0;
    const auto told = [&](const pj::progress& p) { percent = p.percent; };
    pj::replay_options options;
    options.on_drop = drop;
    options.on_progress = told;
    pj::replay_engine replay{described, options};
    if (replay.start(pj::start_cause::crash) != pj::status::ok) return 1;
    if (pj::run(replay, clock, sleep) != pj::status::ok || !replay.finished()) return 2;
    if (percent != 100 || replay.how_far().processed != 3 || a.shipped != 3) return 3;
    options.partitions = 2;
    pj::replay_engine of_partitions{described, options};
    if (of_partitions.start() != pj::status::ok) return 4;
    if (pj::run(of_partitions, clock, sleep) != pj::status::ok || a.shipped != 0) return 5;

    client broker;
    pj::sink_options fed;
    fed.client = broker;
    fed.open = [](pj::stored_event& message) { return message.payload.size() != 0; };
    fed.count_messages = true;
    pj::projection received{"received", {}, a, checkpoints};
    pj::event_sink sink{received, fed};
    sink.accept_up_to(-1);
    if (sink.start() != pj::status::ok) return 6;
    const order_shipped one{1};
    const pj::stored_event message = pj::raw_event(pj::before_first, one);
    if (sink.receive(message, 0).answer != pj::receipt::later || a.shipped != 1) return 7;
    sink.stop();
    if (pj::run(sink, clock, sleep) != pj::status::ok || broker.calls != 2) return 8;
    if (sink.checkpointed() != 0 || sink.set_position(0, 1) != pj::status::stopped) return 9;

    struct {
        uint64_t tokens = 0;
        pj::status acquire(pj::text, uint32_t, uint64_t& token) { token = ++tokens; return pj::status::ok; }
        pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
        pj::status release(pj::text, uint64_t) { return pj::status::ok; }
    } locks;
    pj::lease lease{locks};
    lease.resource = [](pj::text key) { return key; };
    pj::projection shared{"shared", log, a, parts};
    shared.lease = &lease;
    shared.clock = clock;
    pj::partition_limit limit{1};
    pj::partition_options with;
    with.limit = &limit;
    const uint32_t mine = pj::partition_of("", 2);
    pj::partitioned_worker part{shared, {mine, 2}, with};
    if (part.start() != pj::status::ok) return 12;
    for (int i = 0; i < 9; ++i) static_cast<void>(part.tick());
    if (!part.has_lease() || limit.held() != 1 || part.counts().handled != 3) return 13;
    part.stop();
    if (pj::run(part, clock, sleep) != pj::status::ok || limit.held() != 0) return 14;
    if (pj::repartition(shared, 2, 4) != pj::status::ok) return 15;
    if (pj::repartition(shared, 4, 2) != pj::status::ok) return 16;
    a.shipped = 1;

    static pj::gap_guard gaps{1000};
    gaps.is_dead = [](pj::position, pj::position) { return false; };
    described.gaps = &gaps;
    described.volatile_model = true;
    pj::worker again{described};
    if (again.start() != pj::status::ok) return 10;
    while (again.tick(0).wait_ms == 0) {}
    return a.shipped == 4 ? 0 : 11;
}

/// A log, checkpoints, letters and effects that take part in a unit of work.
struct till {
    uint32_t effects = 0, kept_effects = 0, commits = 0, rollbacks = 0, letters = 0;
    pj::checkpoint record{}, kept{};
    pj::position letter_at = pj::before_first;

    pj::status begin() {
        kept_effects = effects;
        kept = record;
        return pj::status::ok;
    }
    pj::status commit() { ++commits; return pj::status::ok; }
    pj::status rollback() {
        ++rollbacks;
        effects = kept_effects;
        record = kept;
        return pj::status::ok;
    }
    pj::status load(pj::text, pj::checkpoint& out) { out = record; return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint& next) { record = next; return pj::status::ok; }
    pj::status put(const pj::dead_letter& letter) {
        if (letters++ == 0) letter_at = letter.event.at;
        return pj::status::ok;
    }
    pj::status first(const pj::letter_sequence& of, pj::letter_visitor& show) {
        const order_shipped one{2};
        if (letters != 0) show(pj::raw_event(letter_at, one, of.aggregate_id), 1);
        return pj::status::ok;
    }
    pj::status evict(const pj::letter_sequence&, pj::position at) {
        letters = 0;
        return at == letter_at ? pj::status::ok : pj::status::failed;
    }
    pj::status sequences(const pj::letter_sequence&, pj::sequence_visitor& show) {
        return letters == 0 || show("counting", "a") ? pj::status::ok : pj::status::failed;
    }
};
struct counting {
    using handles = pj::events<order_shipped>;
    static constexpr const char* handler_name = "counting";
    till& to;
    bool refuses = true;
    pj::verdict on(const order_shipped& e) {
        to.effects += e.order;
        return e.order == 2 && refuses ? pj::reject() : pj::handled;
    }
};

static int units_and_sequences() {
    pj::memory_log<8, 256> log;
    for (uint32_t i = 1; i < 4; ++i) static_cast<void>(log.append(order_shipped{i}, "a"));
    till db;
    counting hand{db};
    static pj::letter_sequences<2> waiting;
    pj::projection described{"units", log, hand, db};
    described.transaction = db;
    described.dead_letters = db;
    described.sequences = waiting;
    described.on_error = pj::error_policy::dead_letter();
    pj::worker worker{described};
    if (worker.start() != pj::status::ok) return 1;
    for (uint32_t ticks = 0; worker.tick(ticks).wait_ms == 0;) {
        if (++ticks > 30) return 2;
    }
    if (db.effects != 1 || db.letters != 2 || db.record.at != 2) return 3;
    if (db.commits == 0 || db.rollbacks == 0 || worker.counts().lettered != 2) return 4;
    hand.refuses = false;
    if (!waiting.is_blocked(worker, "counting", "a") || waiting.size() != 1) return 5;
    if (waiting.redeliver(worker, "counting", "a") != pj::status::more || db.effects != 3) return 6;
    if (waiting.redeliver(worker, "counting", "a") != pj::status::ok || waiting.size() != 0) return 7;
    waiting.release(worker, "counting", "a");
    return 0;
}

} // namespace use_all

int main() {
    if (const int line = use_all::registry_and_worker(); line != 0) return line;
    if (const int line = use_all::handler_map_and_stores(); line != 0) return 100 + line;
    if (const int line = use_all::other_engines(); line != 0) return 200 + line;
    if (const int line = use_all::units_and_sequences(); line != 0) return 230 + line;
    return 0;
}
