// The contract check of the kit: stores that keep their promises pass, and each broken promise is
// named in words.
#include "kit/projections_kit.hpp"

#include <doctest/doctest.h>

namespace pj = projections;
namespace kit = projections_kit;

namespace {

bool says(const kit::promises& broken, const std::string& words) {
    for (const std::string& one : broken)
        if (one.find(words) != std::string::npos) return true;
    for (const std::string& one : broken) MESSAGE(one);
    return false;
}

/// A log with one thing wrong.
struct log {
    enum class flaw {
        none, includes_after, unordered, ignores_after, never_ends, changes, low_newest, forgets_last,
        drops_the_second_batch
    } wrong = flaw::none;
    pj::position trimmed = pj::before_first;
    int reads = 0;

    pj::status read(pj::position after, pj::visitor& visit) {
        ++reads;
        if (after < trimmed) return pj::status::trimmed;
        const pj::position last = wrong == flaw::forgets_last && reads % 2 == 0 ? 18 : 19;
        pj::position from = wrong == flaw::includes_after ? after : after + 1;
        if (wrong == flaw::ignores_after) from = trimmed + 1;
        if (wrong == flaw::drops_the_second_batch && after > 3) ++from;
        if (from < 0) from = 0;
        for (pj::position at = from; at <= last; ++at) {
            const std::string payload = wrong == flaw::changes ? std::to_string(reads) : "same";
            pj::stored_event e;
            e.at = wrong == flaw::unordered && at == 7 ? 5 : at;
            e.type = "Kit";
            e.payload = payload;
            if (!visit(e)) break;
        }
        return wrong == flaw::never_ends ? pj::status::more : pj::status::ok;
    }
    pj::status bounds(pj::position& oldest_gone, pj::position& newest) {
        oldest_gone = trimmed;
        newest = wrong == flaw::low_newest ? 10 : 19;
        return pj::status::ok;
    }
};

kit::promises check_log(log::flaw wrong, pj::position trimmed = pj::before_first) {
    log of;
    of.wrong = wrong;
    of.trimmed = trimmed;
    const pj::event_store store{of};
    return kit::broken_promises(store);
}

/// A lease store with one thing wrong.
struct leases : kit::memory_leases {
    enum class flaw {
        none, zero_token, same_token, reentrant, one_for_all, extends_anybody, releases_anybody,
        never_expires, revives, extends_nothing
    } wrong = flaw::none;
    const kit::manual_clock& now;
    uint64_t newest = 0;        // token of the resource "kit"
    leases(const kit::manual_clock& clock, flaw which)
        : kit::memory_leases(clock), wrong(which), now(clock) {}

    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        if (wrong == flaw::zero_token) return pj::status::ok;
        const pj::text one = "one";
        const pj::status s =
            memory_leases::acquire(wrong == flaw::one_for_all ? one : resource,
                                   wrong == flaw::never_expires ? 1000000000 : ttl_ms, token);
        if (s == pj::status::conflict && wrong == flaw::reentrant) return pj::status::ok;
        if (wrong == flaw::same_token) token = 1;
        if (s == pj::status::ok && resource.size() == 3) newest = token;
        return s;
    }
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        if (wrong == flaw::same_token) return pj::status::ok;
        if (wrong == flaw::extends_nothing && is_valid(kit::string_of(resource), token))
            return pj::status::ok;
        const pj::status s = memory_leases::extend(resource, ttl_ms, token);
        if (wrong == flaw::revives && token == newest) return pj::status::ok;
        return wrong == flaw::extends_anybody ? pj::status::ok : s;
    }
    pj::status release(pj::text resource, uint64_t token) {
        if (wrong == flaw::releases_anybody) token -= token == 0 ? 0 : 1;
        return memory_leases::release(resource, token);
    }
};

kit::promises check_leases(leases::flaw wrong) {
    kit::manual_clock clock(1000);
    leases of(clock, wrong);
    const pj::lease_store store{of};
    return kit::broken_promises(store, [&](uint32_t ms) { clock.advance(ms); });
}

} // namespace

TEST_CASE("contract check of an event store") {
    CHECK(check_log(log::flaw::none).empty());
    CHECK(check_log(log::flaw::none, 9).empty());
    CHECK(says(check_log(log::flaw::includes_after), "not above `after`"));
    CHECK(says(check_log(log::flaw::unordered), "positions that do not increase"));
    CHECK(says(check_log(log::flaw::ignores_after), "events above it"));
    CHECK(says(check_log(log::flaw::never_ends), "never reaches the end"));
    CHECK(says(check_log(log::flaw::changes), "shows other events than before"));
    CHECK(says(check_log(log::flaw::low_newest), "newest event is 10"));
    CHECK_FALSE(check_log(log::flaw::forgets_last).empty());
    CHECK_FALSE(check_log(log::flaw::drops_the_second_batch).empty());
    pj::memory_log<4, 256> small;
    CHECK(says(kit::broken_promises(pj::event_store{small}), "at least three"));
}

TEST_CASE("contract check of an event store that pends") {
    struct slow : log {
        bool is_ready = false;
        pj::status read(pj::position after, pj::visitor& visit) {
            is_ready = !is_ready;
            return is_ready ? pj::status::pending : log::read(after, visit);
        }
    } of;
    int waited = 0;
    CHECK(kit::broken_promises(pj::event_store{of}, [&] { ++waited; }).empty());
    CHECK(waited > 0);
}

TEST_CASE("contract check of a checkpoint store") {
    kit::memory_checkpoints good;
    CHECK(kit::broken_promises(pj::checkpoint_store{good}).empty());
    pj::memory_checkpoint_store<4> ours;
    CHECK(kit::broken_promises(pj::checkpoint_store{ours}).empty());

    kit::memory_checkpoints few;
    few.positions_only = true;
    const kit::promises broken = kit::broken_promises(pj::checkpoint_store{few}, "kit", {}, false);
    CHECK(says(broken, "not kept"));
    CHECK(says(broken, "fencing_token"));
    CHECK(says(broken, "log_id"));
    kit::memory_checkpoints again;
    again.positions_only = true;
    CHECK(says(kit::broken_promises(pj::checkpoint_store{again}), "should answer conflict"));

    struct : kit::memory_checkpoints {
        pj::status load(pj::text key, pj::checkpoint& out) {
            out = {};
            return memory_checkpoints::load(key, out);
        }
    } clears;
    CHECK(says(kit::broken_promises(pj::checkpoint_store{clears}), "changes what it should fill"));
    struct : kit::memory_checkpoints {
        pj::status load(pj::text key, pj::checkpoint& out) {
            return memory_checkpoints::load(pj::text(key.data(), 3), out);
        }
        pj::status save(pj::text key, const pj::checkpoint& next) {
            records[std::string(key.data(), 3)] = next;
            return pj::status::ok;
        }
    } shortens;
    CHECK(says(kit::broken_promises(pj::checkpoint_store{shortens}), "mixed up with another key"));
    struct : kit::memory_checkpoints {
        pj::status save(pj::text key, const pj::checkpoint& next) {
            pj::checkpoint narrow = next;
            narrow.at = static_cast<int32_t>(next.at);
            narrow.fencing_token = static_cast<uint32_t>(next.fencing_token);
            return memory_checkpoints::save(key, narrow);
        }
    } narrows;
    CHECK(says(kit::broken_promises(pj::checkpoint_store{narrows}), "at, fencing_token"));
    kit::memory_checkpoints fails;
    fails.loads.then(pj::status::checkpoint_corrupt, false, 1);
    CHECK(says(kit::broken_promises(pj::checkpoint_store{fails}), "checkpoint_corrupt"));
}

TEST_CASE("contract check of a lease store") {
    using flaw = leases::flaw;
    CHECK(check_leases(flaw::none).empty());
    CHECK(says(check_leases(flaw::zero_token), "token is 0"));
    CHECK(says(check_leases(flaw::same_token), "token does not grow"));
    CHECK(says(check_leases(flaw::reentrant), "conflict while a lease is unexpired"));
    CHECK(says(check_leases(flaw::one_for_all), "another resource"));
    CHECK(says(check_leases(flaw::extends_anybody), "not the lease's"));
    CHECK(says(check_leases(flaw::releases_anybody), "not the lease's ends the lease"));
    CHECK(says(check_leases(flaw::never_expires), "expired cannot be acquired"));
    CHECK(says(check_leases(flaw::revives), "valid again"));
    CHECK(says(check_leases(flaw::extends_nothing), "extended"));
}

TEST_CASE("contract check of dead letters") {
    using keeping = std::vector<kit::kept_letter>;
    kit::memory_letters good;
    CHECK(kit::broken_promises(pj::dead_letter_sink{good}, [&] {
              keeping all;
              for (const auto& [key, l] : good.kept) all.push_back({l.kind, l.code, l.attempts});
              return all;
          }).empty());

    // A list, and maps by a key that is made of the letter: of too little, or of too much.
    keeping list;
    const auto append = [&](const pj::dead_letter& l) {
        list.push_back({l.kind, l.code, l.attempts});
        return pj::status::ok;
    };
    CHECK(says(kit::broken_promises(pj::dead_letter_sink{append}, [&] { return list; }),
               "kept twice"));
    std::map<std::string, kit::kept_letter> by_key;
    const auto all_by_key = [&] {
        keeping all;
        for (const auto& [key, l] : by_key) all.push_back(l);
        return all;
    };
    const auto by_position = [&](const pj::dead_letter& l) {
        by_key[std::to_string(l.event.at)] = {l.kind, l.code, l.attempts};
        return pj::status::ok;
    };
    CHECK(says(kit::broken_promises(pj::dead_letter_sink{by_position}, all_by_key), "mixed up"));
    const auto key_of = [](const pj::dead_letter& l) {
        return kit::string_of(l.handler) + std::to_string(l.event.at) + "/" +
               std::to_string(l.partition) + "/" + std::to_string(l.rebuild);
    };
    by_key.clear();
    const auto first_one_stays = [&](const pj::dead_letter& l) {
        by_key.insert({key_of(l), {l.kind, l.code, l.attempts}});
        return pj::status::ok;
    };
    const kit::promises stays =
        kit::broken_promises(pj::dead_letter_sink{first_one_stays}, all_by_key);
    CHECK(stays.size() == 1);
    CHECK(says(stays, "take the place"));
    by_key.clear();
    const auto without_attempts = [&](const pj::dead_letter& l) {
        by_key[key_of(l)] = {l.kind, l.code, 1};
        return pj::status::ok;
    };
    CHECK(says(kit::broken_promises(pj::dead_letter_sink{without_attempts}, all_by_key),
               "attempts are not kept"));

    const auto nothing = [](const pj::dead_letter&) { return pj::status::ok; };
    CHECK(says(kit::broken_promises(pj::dead_letter_sink{nothing}, [] { return keeping{}; }),
               "is not kept"));
}
