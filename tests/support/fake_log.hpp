// An event store that behaves as strictly as a real one: it takes wanted() as LIMIT, the memory of
// an event (and of a slice) is overwritten and freed as soon as its visit is over, and a visitor
// that does not say stop when it has what it wanted fails the test. It can be told to misbehave:
// rows out of order, ignoring the visitor's stop, answers by plan after some events.
#ifndef PROJECTIONS_TESTS_SUPPORT_FAKE_LOG_HPP
#define PROJECTIONS_TESTS_SUPPORT_FAKE_LOG_HPP

#include "support/world.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace support {

/// One event as it is kept.
struct row {
    pj::position at;
    std::string type;           // empty: by number
    std::string payload{};
    std::string aggregate{};
    uint32_t version = 1;
    uint32_t number = 0;
};

/// A copy of some rows in memory of its own, which is no longer readable once this is destroyed.
class shown_rows {
public:
    shown_rows(const row* first, size_t count)
        : events_(new pj::stored_event[count]), count_(count) {
        for (size_t i = 0; i < count; ++i) {
            const row& r = first[i];
            pj::stored_event& e = events_[i];
            e.at = r.at;
            e.type = r.type.empty() ? pj::type_key(pj::id{r.number}) : pj::type_key(keep(r.type));
            e.payload = pj::bytes(keep(r.payload));
            e.aggregate_id = keep(r.aggregate);
            e.version = r.version;
        }
    }
    shown_rows(const shown_rows&) = delete;
    shown_rows& operator=(const shown_rows&) = delete;
    ~shown_rows() {
        for (std::unique_ptr<std::vector<char>>& text : texts_) {
            std::fill(text->begin(), text->end(), '\xDD');
        }
        for (size_t i = 0; i < count_; ++i) {
            events_[i] = pj::stored_event{};
            events_[i].at = pj::position{0x5D5D5D5D};
        }
    }
    const pj::stored_event* events() const { return events_.get(); }

private:
    pj::text keep(const std::string& s) {
        texts_.emplace_back(new std::vector<char>(s.begin(), s.end()));
        return {texts_.back()->data(), texts_.back()->size()};
    }
    std::vector<std::unique_ptr<std::vector<char>>> texts_;
    std::unique_ptr<pj::stored_event[]> events_;
    size_t count_;
};

class fake_log {
public:
    explicit fake_log(world& in) : world_(in) {}

    std::vector<row> rows;              // shown in this order
    size_t slice = 0;                   // 0: one by one; else slices of so many
    bool uses_limit = true;             // false: streams until it is told to stop
    bool says_trimmed = true;           // false: as SQL, it only shows what is there
    bool ignores_stop = false;          // a bug of the store
    bool ignores_after = false;         // another: shows rows at and below `after`, too
    pj::position trimmed = pj::before_first;
    pj::position newest = pj::before_first - 1;     // below before_first: what the rows say
    pj::position scanned_to = pj::before_first;     // told to the visitor after the rows
    uint64_t log_id = 0;
    plan reads;                         // what the next reads answer ...
    std::deque<size_t> shows;           // ... and how many rows they show at most
    plan bounds_asked;
    uint32_t read_count = 0;
    uint32_t bounds_count = 0;
    uint32_t wanted_max = 0;            // the most that was ever wanted
    pj::position last_after = pj::before_first - 1;
    uint32_t shown = 0;

    fake_log& add(pj::position at, std::string type, std::string payload = {}) {
        rows.push_back({at, std::move(type), std::move(payload)});
        return *this;
    }
    /// Appends `count` of one type behind what is there.
    fake_log& append(uint32_t count, const std::string& type, const std::string& payload = {}) {
        for (uint32_t i = 0; i < count; ++i) {
            add(std::max(top(), trimmed) + 1, type, payload);
        }
        return *this;
    }
    void remove(pj::position at) {
        rows.erase(
            std::remove_if(rows.begin(), rows.end(), [&](const row& r) { return r.at == at; }),
            rows.end());
    }
    void trim_to(pj::position at) {
        newest = std::max(newest, top());
        trimmed = at;
        rows.erase(
            std::remove_if(rows.begin(), rows.end(), [&](const row& r) { return r.at <= at; }),
            rows.end());
    }
    row* find(pj::position at) {
        for (row& r : rows) {
            if (r.at == at) return &r;
        }
        return nullptr;
    }
    /// Is this a position that the store could name?
    bool has(pj::position at) { return find(at) != nullptr; }
    pj::position top() const {
        pj::position highest = newest;
        for (const row& r : rows) highest = std::max(highest, r.at);
        return std::max(highest, pj::before_first);
    }

    pj::status read(pj::position after, pj::visitor& visit) {
        const entered here(world_, port::read);
        ++read_count;
        last_after = after;
        world_.note("read " + std::to_string(after));
        CHECK(visit.wanted() > 0);
        wanted_max = std::max(wanted_max, visit.wanted());
        const step s = reads.take();
        size_t limit = rows.size();
        if (!shows.empty()) {
            limit = shows.front();
            shows.pop_front();
        }
        const bool is_trimmed = says_trimmed && after < trimmed;
        if (is_trimmed && s.answer == pj::status::ok) return pj::status::trimmed;
        const bool stops_short = show(after, visit, limit);
        throw_if(s);
        if (scanned_to > pj::before_first) visit.scanned_to(scanned_to);
        return stops_short && s.answer == pj::status::ok ? pj::status::more : s.answer;
    }
    pj::status bounds(pj::position& trimmed_out, pj::position& newest_out, uint64_t& id_out) {
        const entered here(world_, port::bounds);
        ++bounds_count;
        world_.note("bounds");
        const step s = bounds_asked.take();
        throw_if(s);
        if (s.answer != pj::status::ok) return s.answer;
        trimmed_out = trimmed;
        newest_out = std::max(top(), trimmed);
        id_out = log_id;
        return s.answer;
    }

private:
    /// True: there are more rows than `limit`, which an honest store does not call the end of the
    /// log.
    bool show(pj::position after, pj::visitor& visit, size_t limit) {
        std::vector<row> found;
        for (const row& r : rows) {
            if (r.at > after || ignores_after) found.push_back(r);
        }
        const bool stops_short = found.size() > limit;
        if (stops_short) found.resize(limit);
        if (uses_limit && found.size() > visit.wanted()) found.resize(visit.wanted());
        for (size_t i = 0; i < found.size();) {
            const uint32_t wanted = visit.wanted();
            const size_t count = slice == 0 ? 1 : std::min(slice, found.size() - i);
            const shown_rows memory(&found[i], count);
            size_t taken = 0;
            bool goes_on = false;
            if (slice == 0) {
                goes_on = visit(memory.events()[0]);
                taken = 1;
            } else {
                taken = visit(memory.events(), count);
                goes_on = taken == count && visit.wanted() != 0;
                CHECK(taken <= count);
            }
            shown += static_cast<uint32_t>(taken);
            CHECK(visit.wanted() <= wanted);
            if (goes_on) CHECK(visit.wanted() > 0);
            if (!goes_on && !ignores_stop) return stops_short;
            i += count;
        }
        return stops_short;
    }

    world& world_;
};

} // namespace support

#endif
