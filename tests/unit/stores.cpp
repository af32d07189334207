// >>stores: memory_log against a deque, memory_checkpoint_store against what a real store does.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <deque>
#include <random>
#include <string>
#include <vector>
namespace pj = projections;

namespace {

/// Everything as text, one line per event.
struct seen {
    using handles = pj::every_event;
    std::vector<std::string> lines;
    void on(const pj::stored_event& e) {
        const auto copy = [](pj::text t) { return std::string(t.begin(), t.end()); };
        const std::string type = e.type.name().empty() ? '#' + std::to_string(e.type.number())
                                                       : copy(e.type.name());
        lines.push_back(std::to_string(e.at) + ' ' + type + ' ' + copy(e.payload.text()) + ' ' +
                        copy(e.aggregate_id) + ' ' + std::to_string(e.version) + ' ' +
                        std::to_string(e.occurred_at) +
                        (e.partition_key == pj::no_key ? ""
                                                       : " key " + std::to_string(e.partition_key)));
    }
};

/// What a fresh worker reads from a log after `from`.
template<class Log> std::vector<std::string> read_all(Log& log, pj::position from) {
    seen handler;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::checkpoint record;
    record.at = from;
    record.revision = 1;
    CHECK(checkpoints.save("reader", record) == pj::status::ok);
    pj::projection what{"reader", log, handler, checkpoints};
    what.first_start = pj::begin_at::oldest_kept;
    pj::worker worker{what};
    CHECK(worker.start() == pj::status::ok);
    while (worker.running() && worker.tick(0).wait_ms == 0) {}
    return handler.lines;
}
struct limits { pj::position trimmed, newest; };
template<class Log> limits limits_of(const Log& log) {
    limits l{};
    uint64_t log_id = 0;
    CHECK(log.bounds(l.trimmed, l.newest, log_id) == pj::status::ok);
    CHECK(log_id == 0);
    return l;
}
const pj::bytes x{"x", 1};

struct ticket { static constexpr pj::event_type type{"Ticket", pj::raw, pj::schema{3}}; char c; };

} // namespace

TEST_CASE("memory_log: positions from 0, every field kept, bounds of an empty one") {
    pj::memory_log<8, 512> log;
    CHECK(limits_of(log).trimmed == pj::before_first);
    CHECK(limits_of(log).newest == pj::before_first);
    CHECK(log.append(ticket{'t'}, "seat-1") == 0);
    CHECK(log.append("Named", x, "id", 7) == 1);
    CHECK(log.append(pj::id{42}, {}) == 2);
    CHECK(log.append({99, std::string("Full"), {"yz", 2}, "agg", 4, 77, -12345678901, nullptr}) == 3);
    CHECK(read_all(log, -1) == std::vector<std::string>{
        "0 Ticket t seat-1 3 0", "1 Named x id 7 0", "2 #42   1 0",
        "3 Full yz agg 4 -12345678901 key 77"});
    CHECK(read_all(log, 2).size() == 1);
    CHECK(read_all(log, 3).empty());
    CHECK(limits_of(log).trimmed == pj::before_first);
    CHECK(limits_of(log).newest == 3);
}

TEST_CASE("memory_log: too large for the ring is refused, exactly as large is not") {
    pj::memory_log<4, 16> log;
    const std::string most(14, 'm');        // and the name's one, and one of the ring's own
    CHECK(log.append("N", pj::text(most)) == 0);
    CHECK(log.append("N", pj::text(most + "m")) == pj::before_first);
    CHECK(log.append("N", pj::text(std::string(1000, 'm'))) == pj::before_first);
    CHECK(read_all(log, -1).size() == 1);               // a refused one pushes nobody out
    CHECK(log.append("N", pj::text(most)) == 1);
    CHECK(read_all(log, 0) == std::vector<std::string>{"1 N " + most + "  1 0"});
    CHECK(limits_of(log).trimmed == 0);
}

TEST_CASE("memory_log: the oldest go, by number and by bytes") {
    pj::memory_log<3, 1000> few;
    for (int i = 0; i < 10; ++i) few.append("N", x);
    CHECK(limits_of(few).trimmed == 6);
    CHECK(read_all(few, 6).size() == 3);
    pj::memory_log<1, 1000> one;
    for (int i = 0; i < 10; ++i) one.append("N", x);
    CHECK(read_all(one, 8).size() == 1);
    pj::memory_log<100, 12> small;                      // four of three bytes each
    for (int i = 0; i < 10; ++i) small.append("N", x);
    CHECK(limits_of(small).trimmed == 5);
    CHECK(read_all(small, 5).size() == 4);
}

TEST_CASE("memory_log: a reader below what is kept is told so") {
    pj::memory_log<3, 1000> log;
    for (int i = 0; i < 10; ++i) log.append("N", x);
    seen handler;
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection what{"late", log, handler, checkpoints};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    static_cast<void>(worker.tick(0));
    CHECK(worker.reason() == pj::status::log_trimmed);
    CHECK(handler.lines.empty());
}

namespace {

/// Appends while it handles, as long as the log takes it.
struct appending {
    using handles = pj::every_event;
    pj::memory_log<6, 60>* log;
    int left, refused = 0, handled = 0;
    void on(const pj::stored_event& e) {
        ++handled;
        const std::string before(e.type.name().begin(), e.type.name().end());
        if (left-- > 0 && log->append("Again", x) == pj::before_first) ++refused;
        CHECK(e.type.name() == pj::text(before));       // what is being read stays where it is
    }
};

} // namespace

TEST_CASE("memory_log: append() inside a handler never takes away what is being read") {
    pj::memory_log<6, 60> log;
    for (int i = 0; i < 5; ++i) log.append("First", x);
    appending handler{&log, 3};
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection what{"appending", log, handler, checkpoints};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    static_cast<void>(worker.tick(0));
    CHECK(handler.handled == 6);        // what was appended is read in the same pass
    CHECK(handler.refused == 2);
    CHECK(log.append("After", x) == 6);
    CHECK(limits_of(log).trimmed == 0);
}

TEST_CASE("memory_log: a random life, compared with a deque") {
    pj::memory_log<16, 200> log;
    struct entry { std::string line; size_t bytes; };
    std::deque<entry> model;
    pj::position next = 0;
    std::mt19937 random(11);
    for (int i = 0; i < 30000; ++i) {
        const std::string name = std::string("Name").substr(0, 1 + random() % 4);
        const unsigned longest = random() % 50 == 0 ? 230 : 40;
        const std::string payload(random() % longest, static_cast<char>('a' + i % 26));
        const std::string id(random() % 6, 'i');
        const size_t bytes = name.size() + payload.size() + id.size() + 1;
        const pj::position at = log.append({0, name, payload, id, 2, pj::no_key, i, nullptr});
        CHECK(at == (bytes > 200 ? pj::before_first : next));
        if (at == pj::before_first) continue;
        model.push_back({std::to_string(next++) + ' ' + name + ' ' + payload + ' ' + id + " 2 " +
                         std::to_string(i), bytes});
        const limits l = limits_of(log);
        CHECK(l.newest == next - 1);
        const size_t kept = static_cast<size_t>(l.newest - l.trimmed);
        REQUIRE(kept >= 1);
        REQUIRE(kept <= model.size());
        // Whoever went had to: what the end of the ring wastes is less than the largest event.
        size_t used = 0, largest = 0;
        for (const entry& e : model) {
            used += e.bytes;
            largest = e.bytes > largest ? e.bytes : largest;
        }
        if (kept < model.size()) CHECK((model.size() > 16 || used > 200 - largest));
        while (model.size() > kept) model.pop_front();
        used = 0;
        for (const entry& e : model) used += e.bytes;
        CHECK(used <= 200);
        if (random() % 8 != 0) continue;
        const pj::position from = l.trimmed + static_cast<pj::position>(random() % (kept + 1));
        std::vector<std::string> expected;
        for (const entry& e : model) expected.push_back(e.line);
        expected.erase(expected.begin(),
                       expected.begin() + static_cast<std::ptrdiff_t>(from - l.trimmed));
        CHECK(read_all(log, from) == expected);
    }
}

TEST_CASE("memory_checkpoint_store: compares and sets, one record per key") {
    pj::memory_checkpoint_store<2, 8> store;
    const auto save = [&](pj::text key, uint32_t revision, pj::position at) {
        pj::checkpoint next;
        next.revision = revision;
        next.at = at;
        return store.save(key, next);
    };
    const auto at = [&](pj::text key) {
        pj::checkpoint out;
        out.at = 555;
        CHECK(store.load(key, out) == pj::status::ok);
        return out.at;
    };
    CHECK(at("a") == 555);                              // no record: untouched
    CHECK(save("a", 2, 5) == pj::status::conflict);
    CHECK(save("a", 1, 5) == pj::status::ok);
    CHECK(save("a", 1, 6) == pj::status::conflict);
    CHECK(save("a", 3, 6) == pj::status::conflict);
    CHECK(at("a") == 5);
    CHECK(save("a", 2, 7) == pj::status::ok);
    CHECK(save("ab", 1, 9) == pj::status::ok);
    CHECK(at("a") == 7);
    CHECK(at("ab") == 9);
    CHECK(save("c", 1, 1) == pj::status::failed);       // full
    CHECK(save("a", 3, 8) == pj::status::ok);
    CHECK(at("c") == 555);
    store.clear();
    CHECK(at("a") == 555);
    CHECK(save("12345678", 1, 1) == pj::status::ok);    // as long as it may be
    CHECK(save("123456789", 1, 1) == pj::status::failed);
    CHECK(at("12345678") == 1);
    CHECK(at("123456789") == 555);
}

TEST_CASE("memory_log: an event that fits exactly before the oldest pushes only one out") {
    pj::memory_log<8, 20> log;          // a name, eight bytes and one more: ten
    for (int i = 0; i < 3; ++i) CHECK(log.append("A", pj::bytes("12345678", 8)) == i);
    pj::position trimmed = -5, newest = -5;
    uint64_t log_id = 0;
    CHECK(log.bounds(trimmed, newest, log_id) == pj::status::ok);
    CHECK(trimmed == 0);
    CHECK(newest == 2);
}

TEST_CASE("memory_log: an aggregate's id that is too long is refused, not cut") {
    static pj::memory_log<4, 200000> log;
    const std::string longest(0xFFFF, 'x'), longer(0x10000, 'x');
    CHECK(log.append("A", pj::bytes(), longer) == pj::before_first);
    CHECK(log.append(pj::text(longer), pj::bytes()) == pj::before_first);
    CHECK(log.append("A", pj::bytes(), longest) == 0);
}

namespace {
/// A log whose members have other names.
struct ring {
    pj::memory_log<4, 64> inside;
    pj::position newest_max = pj::before_first;
    pj::status fetch(pj::position after, pj::visitor& visit) { return inside.read(after, visit); }
    pj::status ends(pj::position& trimmed, pj::position& newest, uint64_t& log_id) const {
        log_id = 9;
        const pj::status s = inside.bounds(trimmed, newest, log_id);
        if (newest_max >= 0) newest = newest_max;
        return s;
    }
};
} // namespace

TEST_CASE("event_store::from: a log by the names that its members have") {
    ring log;
    for (int i = 0; i < 3; ++i) log.inside.append("N", x);
    seen handler;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"ring", pj::event_store::from<&ring::fetch>(log), handler, checkpoints};
    CHECK(what.log.bounds == nullptr);
    {
        pj::worker worker{what};
        REQUIRE(worker.start() == pj::status::ok);
        static_cast<void>(worker.tick(0));
        CHECK(handler.lines.size() == 3);
        CHECK(worker.lag() == -1);
    }
    what.log = pj::event_store::from<&ring::fetch, &ring::ends>(log);
    log.newest_max = 7;
    log.inside.append("N", x);
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    static_cast<void>(worker.tick(0));
    CHECK(handler.lines.size() == 4);
    CHECK(worker.lag() == 4);
    pj::checkpoint record;
    CHECK(checkpoints.load("ring", record) == pj::status::ok);
    CHECK(record.log_id == 9);
}

TEST_CASE("memory_log: read alone, without bounds, tells a reader below what is kept") {
    using small_log = pj::memory_log<2, 64>;
    small_log log;
    for (int i = 0; i < 5; ++i) log.append("A", pj::bytes("x", 1));
    seen handler;
    pj::memory_checkpoint_store<1> store;
    pj::projection what{"p", pj::event_store::from<&small_log::read>(log), handler, store};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(0));
    CHECK(worker.state() == pj::run_state::halted);
    CHECK(worker.reason() == pj::status::log_trimmed);
    CHECK(handler.lines.empty());
}

namespace {
/// It has characters, as a name has, and is an event all the same.
struct label {
    static constexpr pj::event_type type{"Label", pj::raw};
    char at[8];
    const char* data() const { return at; }
    size_t size() const { return sizeof at; }
};
struct reading {
    static constexpr pj::event_type type{"Reading", pj::raw};
    uint16_t values[4];
    const uint16_t* data() const { return values; }
    size_t size() const { return 4; }
};
struct of_labels {
    using handles = pj::events<label, reading>;
    uint32_t labels = 0, readings = 0;
    bool from_printer = false;
    void on(const label&, const pj::context& ctx) {
        ++labels;
        from_printer = ctx.event.aggregate_id == "printer";
    }
    void on(const reading&) { ++readings; }
};
} // namespace

TEST_CASE("memory_log: an event with data() and size() is no name") {
    pj::memory_log<4, 128> log;
    const std::string printer = "printer";
    CHECK(log.append(label{"Reading"}, printer) == 0);
    CHECK(log.append(reading{{1, 2, 3, 4}}) == 1);
    of_labels p;
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection projection{"p", log, p, checkpoints};
    pj::worker worker{projection};
    CHECK(worker.start() == pj::status::ok);
    CHECK(worker.tick(0).scanned == 2);
    CHECK(p.labels == 1);
    CHECK(p.from_printer);
    CHECK(p.readings == 1);
}

TEST_CASE("memory_log: a reader that lacks one event is told so, one that lacks none is not") {
    using small_log = pj::memory_log<2, 64>;
    small_log log;
    for (int i = 0; i < 5; ++i) log.append("A", pj::bytes("x", 1));     // 3 and 4 are kept
    for (const pj::position at : {pj::position{1}, pj::position{2}}) {
        seen handler;
        pj::memory_checkpoint_store<1> store;
        pj::checkpoint record;
        record.at = at;
        record.revision = 1;
        REQUIRE(store.save("p", record) == pj::status::ok);
        pj::projection what{"p", pj::event_store::from<&small_log::read>(log), handler, store};
        pj::worker worker{what};
        REQUIRE(worker.start() == pj::status::ok);
        for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(0));
        CHECK(worker.reason() == (at == 1 ? pj::status::log_trimmed : pj::status::ok));
        CHECK(handler.lines.size() == (at == 1 ? 0 : 2));
    }
}
