// What an engine calls: handlers and ports of a sound store, whose answers are what fails.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_PORTS_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_PORTS_HPP

#include "judge.hpp"

#include <iterator>
#include <vector>

namespace combinations {

// ---- the log

struct log_port {
    station& of;

    status bounds(position& trimmed, position& newest, uint64_t& log_id) {
        return of.call("bounds", [&] {
            world& in = of.in;
            in.show_late_ones();
            trimmed = in.trimmed;
            newest = in.newest();
            log_id = 9;
            in.named.insert(trimmed);
            const bool begins_at_end = of.with.first_start == pj::begin_at::the_end;
            if (begins_at_end && in.records[of.key].at < 0)
                in.begun_at = std::max(in.begun_at, newest);
            return status::ok;
        });
    }
    status read(position after, pj::visitor& visit) {
        world& in = of.in;
        const fate f = of.meet("read");
        if (!f.is_done) return station::leave(f);
        in.show_late_ones();
        in.say("     after %lld, wanted %u", shown(after), visit.wanted());
        in.demand(visit.wanted() > 0 && visit.wanted() <= of.with.batch,
                  "wanted() is %u, no good for a LIMIT", visit.wanted());
        if (after < in.trimmed) return station::leave(f, status::trimmed);
        const bool is_unended = of.storm(of.with.faults.unended);
        const status unended = in.random.one_in(2) ? status::more : status::pending;
        if (is_unended && in.random.one_in(2)) return station::leave(f, unended);
        const uint32_t most = in.random.one_in(3) && !in.is_calm ? 1 + in.random.below(4) : ~0u;
        const extent how_far = show(after, visit, most);
        if (f.says != status::ok || how_far == extent::told_to_stop) return station::leave(f);
        return station::leave(f, is_unended || how_far == extent::cut ? unended : status::ok);
    }

private:
    enum class extent : uint8_t { all, cut, told_to_stop };

    extent show(position after, pj::visitor& visit, uint32_t most) {
        world& in = of.in;
        std::vector<pj::stored_event> slice;
        position last = after;
        for (auto i = in.log.upper_bound(after); i != in.log.end(); ++i) {
            if (!i->second.is_visible) continue;
            last = i->first;
            if (of.with.store_filters && in.is_filtered(i->second)) {
                // Only where nothing that comes before is still to be visited.
                if (slice.empty() && in.random.one_in(2)) tell_scanned(visit, last);
                continue;
            }
            if (!take(visit, slice, i)) return extent::told_to_stop;
            if (--most == 0) return flush(visit, slice) ? extent::cut : extent::told_to_stop;
        }
        if (!flush(visit, slice)) return extent::told_to_stop;
        if (of.with.store_filters && last > after) tell_scanned(visit, last);
        return extent::all;
    }
    void tell_scanned(pj::visitor& visit, position through) {
        visit.scanned_to(through);
        of.in.named.insert(through);
    }
    using row = std::map<position, entry>::const_iterator;
    bool take(pj::visitor& visit, std::vector<pj::stored_event>& slice, row at) {
        const pj::stored_event e = of.stored(at->first, at->second);
        if (!of.with.has_slices) return visit(e) || is_deaf(visit, at);
        slice.push_back(e);
        if (slice.size() < 4) return true;
        const bool goes_on = flush(visit, slice);
        if (goes_on) static_cast<void>(visit(nullptr, 0));      // no event is no end
        return goes_on;
    }
    static bool flush(pj::visitor& visit, std::vector<pj::stored_event>& slice) {
        const size_t count = slice.size();
        const bool goes_on = count == 0 || visit(slice.data(), count) == count;
        slice.clear();
        return goes_on;
    }
    /// A store that does not stop when it is told to. Never true.
    bool is_deaf(pj::visitor& visit, row at) {
        const row next = std::next(at);
        if (!of.storm(100) || next == of.in.log.end() || !next->second.is_visible) return false;
        of.in.demand(!visit(of.stored(next->first, next->second)), "a visit after the end goes on");
        visit.scanned_to(next->first);
        return false;
    }
};

// ---- records

struct store_port {
    station& of;

    status load(pj::text name, pj::checkpoint& out) {
        return of.call("load", [&] {
            const auto found = of.in.records.find(string_of(name));
            if (found == of.in.records.end()) return status::ok;
            const pj::checkpoint& c = found->second;
            // Another's store, which keeps the position alone.
            if (of.with.is_partial) out.at = c.at;
            else out = c;
            of.in.say("     %s at %lld, revision %u, token %llu, stage %d", found->first.c_str(),
                      shown(c.at), c.revision, static_cast<unsigned long long>(c.fencing_token),
                      c.replay_stage);
            return status::ok;
        });
    }
    status save(pj::text name_text, const pj::checkpoint& next) {
        const std::string name = string_of(name_text);
        const bool is_own = name == of.key;
        if (name != key_of_count) of.demand_lease("a save");
        of.in.say("     %s at %lld, revision %u, token %llu, suspect %lld, crashes %u, stage %d",
                  name.c_str(), shown(next.at), next.revision,
                  static_cast<unsigned long long>(next.fencing_token), shown(next.suspect),
                  next.crashes, next.replay_stage);
        if (is_own && of.pending_save)
            of.in.demand(is_same(*of.pending_save, next),
                         "G15 a pending save is asked again with other arguments");
        const fate f = of.meet("save");
        if (is_own) of.pending_save.reset();
        if (is_own && f.says == status::pending) of.pending_save = next;
        if (!f.is_done) return station::leave(f);
        const bool is_kept = of.unit.is_open ? stage(name, next) : of.in.keep(name, next);
        return station::leave(f, is_kept ? f.says : status::conflict);
    }

private:
    static bool is_same(const pj::checkpoint& a, const pj::checkpoint& b) {
        return a.at == b.at && a.revision == b.revision && a.suspect == b.suspect &&
               a.replay_stage == b.replay_stage && a.fencing_token == b.fencing_token &&
               a.log_id == b.log_id && a.crashes == b.crashes;
    }
    bool stage(const std::string& name, const pj::checkpoint& next) {
        of.in.demand(name == of.key, "G17 another record is saved in a unit of work");
        if (!of.with.is_partial && next.revision != of.in.records[name].revision + 1) return false;
        of.unit.record = next;
        return true;
    }
};

// ---- letters

struct letter_port {
    station& of;

    status put(const pj::dead_letter& l) {
        of.demand_lease("a letter");
        const position at = of.position_of(l.event);
        const letter_key k{l.partition, l.rebuild, string_of(l.event.aggregate_id),
                           string_of(l.handler), l.event.at};
        of.in.say("     letter of %s at %lld, aggregate %s, code %x, attempts %u",
                  k.handler.c_str(), shown(at), k.aggregate.c_str(), l.code, l.attempts);
        if (l.code == pj::code_sequenced) put_untried(k);
        const fate f = of.meet("put");
        if (!f.is_done) return station::leave(f);
        if (f.says == status::ok) taken(handler_of(l.handler), at);
        ++of.in.sum.letters;
        const auto found = of.in.log.find(l.event.at);
        set(k, letter{found != of.in.log.end() ? found->second : entry{}, l.attempts});
        of.settle(handler_of(l.handler), at);
        return station::leave(f);
    }
    status first(const pj::letter_sequence& s, pj::letter_visitor& show) {
        return of.call("first", [&] {
            for (const auto& [k, l] : all()) {
                if (!k.is_of(s.partition, s.rebuild, string_of(s.aggregate_id),
                             string_of(s.handler)))
                    continue;
                static_cast<void>(show(of.stored(k.at, l.event), l.attempts));
                break;
            }
            return status::ok;
        });
    }
    status evict(const pj::letter_sequence& s, position at) {
        of.demand_lease("an eviction");
        return of.call("evict", [&] {
            const std::string whose = string_of(s.aggregate_id), who = string_of(s.handler);
            set({s.partition, s.rebuild, whose, who, at}, {});
            of.in.evicted.insert({s.partition, whose, who});
            return status::ok;
        });
    }
    status sequences(const pj::letter_sequence& s, pj::sequence_visitor& show) {
        return of.call("sequences", [&] {
            std::set<std::pair<std::string, std::string>> told;
            for (const auto& [k, l] : all()) {
                if (k.partition != s.partition || k.rebuild != s.rebuild || k.aggregate.empty() ||
                    !told.insert({k.handler, k.aggregate}).second)
                    continue;
                if (!show(k.handler, k.aggregate)) break;
            }
            return status::ok;
        });
    }

private:
    /// As the unit sees them.
    letters_by_key all() const {
        letters_by_key seen = of.in.letters;
        for (const auto& [k, l] : of.unit.letters) {
            if (l) seen[k] = *l;
            else seen.erase(k);
        }
        return seen;
    }
    void set(const letter_key& k, const std::optional<letter>& l) {
        if (of.unit.is_open && of.with.letters_inside) of.unit.letters[k] = l;
        else if (l) of.in.letters[k] = *l;
        else of.in.letters.erase(k);
    }
    /// G12: one letter of each failure, unless what came before is rolled back or lost.
    void taken(uint32_t handler, position at) {
        if (of.is_redelivering || of.is_queue()) return;
        // (What was not decoded for others is not for a handler that has been released since.)
        if (handler == everybody && of.has_released) return;
        auto& all = of.with.has_units ? of.unit.lettered : of.seen.lettered;
        of.in.demand(all.insert({handler, at}).second, "G12 two letters of %s for %lld",
                     handler_names[handler], shown(at));
    }
    /// Only behind another one of its sequence.
    void put_untried(const letter_key& k) {
        if (of.is_redelivering || of.with.letters_inside) return;
        if (of.in.evicted.count({k.partition, k.aggregate, k.handler}) != 0) return;
        bool waits = false;
        for (const auto& [other, l] : of.in.letters)
            waits = waits || other.is_of(k.partition, k.rebuild, k.aggregate, k.handler);
        of.in.demand(waits, "G11 %s is not tried at %lld, though no letter waits",
                     k.handler.c_str(), shown(k.at));
    }
};

// ---- units of work

struct unit_port {
    station& of;

    status begin() {
        of.demand_lease("a unit of work");
        const fate f = of.meet("begin");
        of.in.demand(!of.unit.is_open, "G17 begin() in an open unit");
        of.in.demand(!of.rollback_pends, "G17 begin() while a rollback is pending");
        // Whatever was begun without being told is ended by the next begin().
        of.unit.is_open = f.says == status::ok;
        return station::leave(f);
    }
    status commit() {
        of.demand_lease("a commit");
        const fate f = of.meet("commit");
        of.in.demand(of.unit.is_open || of.is_dead, "G17 commit() without a unit of work");
        of.commit_pends = f.says == status::pending;
        if (!f.is_done) return station::leave(f);
        const bool is_whole = apply();
        of.unit.clear();
        return station::leave(f, is_whole ? f.says : status::failed);
    }
    status rollback() {
        const fate f = of.meet("rollback");
        of.rollback_pends = f.says == status::pending;
        of.pending_save.reset();
        if (!of.rollback_pends) {
            of.unit.clear();
            of.seen.pending.clear();
            of.commit_pends = false;
        }
        return station::leave(f);
    }

private:
    bool apply() {
        world& in = of.in;
        const open_unit& u = of.unit;
        ++in.sum.commits;
        const bool is_stale = u.record && !of.with.is_partial &&
                              in.records[of.key].revision + 1 != u.record->revision;
        if (is_stale) return false;
        for (const auto& [handler, at] : u.outcomes) {
            // Without a record, as in a redelivery, an effect may come again.
            if (handler != everybody && !of.is_queue() && !of.is_redelivering)
                in.demand(!in.applied.has(handler, at), "G17 %s has the effect of %lld twice",
                          handler_names[handler], shown(at));
            if (handler != everybody && u.record) in.applied.add(handler, at);
            in.done.add(handler, at);
        }
        for (const auto& [k, l] : u.letters) {
            if (l) in.letters[k] = *l;
            else in.letters.erase(k);
        }
        if (u.record) in.demand(in.keep(of.key, *u.record), "G17 half a unit is committed");
        return true;
    }
};

// ---- leases, and the broker's client

struct lease_port {
    station& of;

    status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        return of.call("acquire", [&] {
            world::grant& g = of.in.leases[string_of(resource)];
            if (g.until_ms > of.in.now_ms) return status::conflict;
            g = {++of.in.tokens, of.in.now_ms + ttl_ms, &of};
            token = g.token;
            return status::ok;
        });
    }
    status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        return of.call("extend", [&] {
            world::grant& g = of.in.leases[string_of(resource)];
            if (g.token != token || g.until_ms <= of.in.now_ms) return status::conflict;
            g.until_ms = of.in.now_ms + ttl_ms;
            return status::ok;
        });
    }
    status release(pj::text resource, uint64_t token) {
        return of.call("release", [&] {
            world::grant& g = of.in.leases[string_of(resource)];
            if (g.token == token) g.until_ms = 0;
            return status::ok;
        });
    }
};

struct client_port {
    station& of;

    status subscribe(pj::text, pj::text) { return is_now(true); }
    status unsubscribe(pj::text, pj::text) { return is_now(false); }

private:
    status is_now(bool is_subscribed) {
        return of.call(is_subscribed ? "subscribe" : "unsubscribe", [&] {
            of.source.is_subscribed = is_subscribed;
            return status::ok;
        });
    }
};

// ---- handlers

struct a_event { static constexpr pj::event_type type{"A", pj::raw}; uint32_t value; };
struct b_event { static constexpr pj::event_type type{"B", pj::raw}; uint32_t value; };

struct hand_port {
    station& of;
    judge& judging;

    pj::verdict run(uint32_t handler, uint32_t value, const pj::context& c) {
        const position at = of.position_of(c.event);
        of.in.say("     %s at %lld, attempt %u%s%s", handler_names[handler], shown(at), c.attempt,
                  c.resumed ? ", resumed" : "", c.replaying ? ", replaying" : "");
        ++of.in.sum.handler_calls;
        judging.called(handler, value, at, c);
        of.enter("a handler");
        if (!of.is_redelivering) {
            of.seen.pending.remove(handler, at);
            if (!of.is_dead && of.in.random.one_in(20)) static_cast<void>(c.extend_lease());
        }
        if (of.is_dead) return pj::fail();
        const pj::verdict said = decide();
        if (said.what() == pj::verdict::kind::handled) {
            if (!of.is_redelivering) of.seen.handled.add(handler, at);
            of.settle(handler, at);
        } else {
            const bool is_pending = said.what() == pj::verdict::kind::pending;
            of.in.say("       %s", is_pending ? "pends" : "fails");
            judging.has_trouble(at);
            if (is_pending && !of.is_redelivering) of.seen.pending.add(handler, at);
        }
        return said;
    }

private:
    pj::verdict decide() {
        const fault_rates& f = of.with.faults;
        chance& random = of.in.random;
#if PROJECTIONS_EXCEPTIONS
        if (of.storm(f.throws)) throw std::runtime_error("a handler throws");
#endif
        if (of.storm(f.rejects)) return pj::reject(random.below(16));
        if (of.storm(f.fails)) return pj::fail(random.below(16));
        if (of.storm(f.junk)) return pj::verdict(of.junk());
        if (!of.storm(f.pends)) return pj::handled;
        return random.one_in(3) ? pj::pending_for(1 + random.below(3000)) : pj::pending;
    }
};

template<uint32_t Number, class List> struct hand {
    using handles = List;
    static constexpr const char* handler_name = handler_names[Number];
    hand_port& to;
    pj::verdict on(const a_event& e, const pj::context& c) { return to.run(Number, e.value, c); }
    pj::verdict on(const b_event& e, const pj::context& c) { return to.run(Number, e.value, c); }
};
using first_hand = hand<0, pj::events<a_event, b_event>>;
using second_hand = hand<1, pj::events<a_event>>;
using mailer_hand = hand<mailer, pj::live_only<b_event>>;
template<uint32_t N> using extra_hand = hand<extras + N, pj::events<a_event>>;

struct all_hands {
    hand_port& to;
    first_hand first{to};
    second_hand second{to};
    mailer_hand third{to};
    extra_hand<0> a{to};
    extra_hand<1> b{to};
    extra_hand<2> c{to};
    extra_hand<3> d{to};
    pj::registry<first_hand, second_hand, mailer_hand> few{first, second, third};
    pj::registry<first_hand, second_hand, mailer_hand, extra_hand<0>, extra_hand<1>, extra_hand<2>,
                 extra_hand<3>> many{first, second, third, a, b, c, d};
    pj::handler_map<16> map{};

    pj::routes choose(const setting& s) {
        if (!s.uses_map) return s.has_extras ? pj::routes(many) : pj::routes(few);
        map.add(first).add(second).add(third);
        if (s.has_extras) map.add(a).add(b).add(c).add(d);
        return map;
    }
};

// ---- the rest

struct other_ports {
    station& of;
    judge& judging;

    void observe(const pj::notice& n) {
        judging.noticed(n);
        of.enter("the observer");
#if PROJECTIONS_EXCEPTIONS
        if (of.storm(of.with.faults.throws)) throw std::runtime_error("the observer throws");
#endif
    }
    bool passes(const pj::stored_event& e) {
        of.enter("the filter");
#if PROJECTIONS_EXCEPTIONS
        if (of.storm(of.with.faults.throws)) {
            of.seen.odd.insert(of.position_of(e));
            throw std::runtime_error("the filter throws");
        }
#endif
        return !of.in.is_filtered(of.in.log.at(of.position_of(e)));
    }
    /// Nothing will ever appear there.
    bool is_dead(position from, position through) {
        of.enter("is_dead");
        of.in.demand(from <= through, "G8 a hole from %lld through %lld", shown(from),
                     shown(through));
        for (position at = from; at <= through; ++at) {
            const auto found = of.in.log.find(at);
            // (Of what a broker was told never to deliver again the record need not know.)
            if (found != of.in.log.end() && !found->second.is_dead &&
                of.source.rejected.count(at) == 0) return false;
        }
        return true;
    }
    bool open(pj::stored_event& e) {
        of.enter("open");
        e.version = 1;
        return of.in.log.at(of.position_of(e)).value % 19 != 6;     // some are sealed for ever
    }
    status drop(position from, bool is_split) {
        of.demand_lease("a drop");
        return of.call("on_drop", [&] {
            world& in = of.in;
            ++in.sum.rebuilds;
            in.forget_model();
            in.may_go_back(of.key, from);
            if (is_split) in.may_go_back("p_p1", from);
            for (const auto& [at, e] : in.log)
                if (!e.is_visible || at <= from) in.excused.insert(at);
            in.named.insert(from);
            return status::ok;
        });
    }
};

} // namespace combinations

#endif
