// The contract check of the kit: stores that keep their promises pass, and each broken promise is
// named in words.
#include "kit/projections_kit.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

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
        never_expires, revives, extends_nothing, is_slow, answers_of_old
    } wrong = flaw::none;
    const kit::manual_clock& now;
    uint64_t asked_ms = 0, answer = 0;  // answers_of_old, is_slow: what was asked for at first
    pj::status answered = pj::status::pending;
    uint64_t newest = 0;        // token of the resource "kit"
    leases(const kit::manual_clock& clock, flaw which)
        : kit::memory_leases(clock), wrong(which), now(clock) {}

    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        if (wrong == flaw::zero_token) return pj::status::ok;
        if (wrong == flaw::is_slow || wrong == flaw::answers_of_old) {
            const bool is_new = answered == pj::status::pending;
            const bool is_old = !is_new && now.full() - asked_ms >= ttl_ms;
            if (is_new || (is_old && wrong == flaw::is_slow)) {
                asked_ms = now.full();
                answered = memory_leases::acquire(resource, ttl_ms, answer);
                return pj::status::pending;
            }
            token = answer;
            return std::exchange(answered, pj::status::pending);
        }
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

/// A database for units of work, with another connection that looks on, and one thing wrong.
class units {
public:
    enum class flaw {
        none, shows_uncommitted, loses_effect, loses_checkpoint, loses_letter, loses_all,
        forgets_effect, forgets_checkpoint, forgets_letter, keeps_effect, keeps_checkpoint,
        keeps_letter, harms_after_commit, undone_comes_next, undone_comes_with_save,
        undone_survives, keeps_revision, save_alone_fails, put_alone_fails, save_alone_joins,
        opens_while_pending, wants_a_save, nests, starts_anew, refusal_ends_unit,
        ignores_revisions, refusal_sticks, refused_is_kept, failure_sticks, failure_keeps_part,
        lost_looks_done, lost_is_forgotten, uncommitted_survives, leaks, leaks_soon,
        rollback_leaks, hides_checkpoint, bare_commit_loses, save_alone_is_forgotten, nests_deeply,
        begin_commits, refusal_commits, refused_looks_done, crash_sticks
    };
    enum class trouble { none, harmless, constraint, lost, unanswered };

    explicit units(flaw which, trouble happens = trouble::none) : wrong_(which) {
        parts.transaction = *this;
        parts.checkpoints = *this;
        parts.letters = *this;
        parts.elsewhere = other_;
        parts.write = [this](int n) { return change([n](tables& of) { of.number = n; }); };
        parts.read = [this] { return seen().number; };
        parts.kept = [this] { return std::vector<kit::kept_letter>(seen().letters.size()); };
        parts.reopen = [this] { reopen(); };
        if (happens == trouble::constraint) parts.trouble = [this] { is_violated_ = true; };
        if (happens == trouble::lost) parts.trouble = [this] { open_.reset(); };
        if (happens == trouble::unanswered) parts.trouble = [this] { is_unanswered_ = true; };
        if (happens == trouble::harmless) parts.trouble = [] {};
    }
    units(const units&) = delete;
    units& operator=(const units&) = delete;

    kit::unit_parts parts;

    pj::status begin() {
        ++begun_;
        if (is_stuck_ || (is(flaw::leaks) && begun_ > 60) || (is(flaw::leaks_soon) && begun_ > 6))
            return pj::status::failed;
        if (is_begun_ && !is_opening_) {
            const bool is_new = is(flaw::begin_commits) || is(flaw::starts_anew);
            if (is(flaw::refusal_ends_unit)) open_.reset();
            if (is(flaw::begin_commits) || is(flaw::refusal_commits))
                static_cast<void>(commit());
            if (is(flaw::refusal_commits)) is_begun_ = true;
            if (is(flaw::nests_deeply)) ++depth_;
            if (is_new) open();
            return is_new || is(flaw::nests) || is(flaw::nests_deeply) ? pj::status::ok
                                                                       : pj::status::pending;
        }
        if (!is_begun_) open();
        is_opening_ = is(flaw::opens_while_pending) && !is_opening_;
        return is_opening_ ? pj::status::pending : pj::status::ok;
    }
    pj::status commit() {
        if (!open_) {
            if (is(flaw::lost_looks_done)) close();
            return is(flaw::lost_looks_done) ? pj::status::ok : pj::status::failed;
        }
        if (is_violated_ && is(flaw::failure_keeps_part)) shown_.records = open_->records;
        if (is_violated_ || (is(flaw::wants_a_save) && !is_saved_)) return pj::status::failed;
        if (is(flaw::refused_looks_done) && is_refused_) return pj::status::ok;
        const bool is_answered = !is_unanswered_;
        tables next = *open_;
        if (is(flaw::loses_effect) || is(flaw::loses_all) ||
            (is(flaw::bare_commit_loses) && !is_saved_)) next.number = shown_.number;
        if (is(flaw::loses_checkpoint) || is(flaw::loses_all)) next.records = shown_.records;
        if (is(flaw::loses_letter) || is(flaw::loses_all)) next.letters = shown_.letters;
        before_ = shown_;
        shown_ = next;
        if (is(flaw::forgets_effect)) next.number = disk_.number;
        if (is(flaw::forgets_checkpoint)) next.records = disk_.records;
        if (is(flaw::forgets_letter)) next.letters = disk_.letters;
        disk_ = next;
        close();
        return is_answered ? pj::status::ok : pj::status::failed;
    }
    pj::status rollback() {
        if (is(flaw::rollback_leaks) && ++rolled_back_ > 20) is_stuck_ = true;
        if (depth_ != 0) {
            --depth_;
            return pj::status::ok;
        }
        if (!is_begun_ && is(flaw::harms_after_commit) && before_) shown_ = *before_;
        if (is_violated_ && is(flaw::failure_sticks)) return pj::status::failed;
        undone_ = open_;
        close();
        if (!undone_) return pj::status::ok;
        if (is(flaw::keeps_effect) || (is(flaw::refused_is_kept) && is_refused_))
            shown_.number = undone_->number;
        if (is(flaw::keeps_checkpoint)) shown_.records = undone_->records;
        if (is(flaw::keeps_letter)) shown_.letters = undone_->letters;
        if (!is(flaw::save_alone_is_forgotten)) disk_ = shown_;
        if (is(flaw::undone_survives)) disk_.number = undone_->number;
        return pj::status::ok;
    }
    pj::status load(pj::text key, pj::checkpoint& out) {
        return find(open_ ? *open_ : shown_, key, out);
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        if (!is_begun_ && is(flaw::save_alone_fails)) return pj::status::failed;
        if (!is_begun_ && is(flaw::save_alone_joins) && !open_) open_ = shown_;
        if (!is_begun_ && is(flaw::undone_comes_with_save) && undone_)
            shown_.number = undone_->number;
        pj::status answer = pj::status::ok;
        const pj::status s = change([&](tables& of) {
            pj::checkpoint& kept = of.records[kit::string_of(key)];
            const uint32_t before = is(flaw::keeps_revision) ? revision_ : kept.revision;
            is_refused_ = next.revision != before + 1;
            if (!is_refused_) kept = next;
            else if (!is(flaw::ignores_revisions) && !is(flaw::refused_looks_done))
                answer = pj::status::conflict;
            is_stuck_ = is_refused_ && is(flaw::refusal_sticks);
            revision_ = next.revision;
        });
        is_saved_ = is_begun_;
        return s == pj::status::ok ? answer : s;
    }
    pj::status put(const pj::dead_letter& l) {
        if (!is_begun_ && is(flaw::put_alone_fails)) return pj::status::failed;
        return change([&](tables& of) { of.letters.insert(l.event.at); });
    }

private:
    struct tables {
        int number = 0;
        std::map<std::string, pj::checkpoint> records;
        std::set<pj::position> letters;
    };
    struct onlooker {
        const units& at;
        pj::status load(pj::text key, pj::checkpoint& out) {
            return at.is(flaw::hides_checkpoint) ? pj::status::ok : find(at.seen(), key, out);
        }
        pj::status save(pj::text, const pj::checkpoint&) { return pj::status::failed; }
    };

    bool is(flaw which) const { return wrong_ == which; }
    static pj::status find(const tables& in, pj::text key, pj::checkpoint& out) {
        const auto found = in.records.find(kit::string_of(key));
        if (found != in.records.end()) out = found->second;
        return pj::status::ok;
    }
    const tables& seen() const { return open_ && is(flaw::shows_uncommitted) ? *open_ : shown_; }
    void open() {
        if (!open_ || !is(flaw::save_alone_joins)) open_ = shown_;
        if (is(flaw::undone_comes_next) && undone_) open_ = undone_;
        is_begun_ = true;
    }
    void close() {
        open_.reset();
        is_begun_ = is_saved_ = is_violated_ = is_unanswered_ = is_opening_ = false;
    }
    /// In the unit that is open, or at once; not at all in one that was lost.
    template<class Change> pj::status change(Change&& make) {
        const bool is_lost = is_begun_ && !open_;
        if (is_lost && !is(flaw::lost_is_forgotten) && !is(flaw::lost_looks_done))
            return pj::status::failed;
        make(open_ ? *open_ : shown_);
        if (!open_ && !is(flaw::save_alone_is_forgotten)) disk_ = shown_;
        return pj::status::ok;
    }
    void reopen() {
        if (open_ && is(flaw::uncommitted_survives)) disk_ = *open_;
        if (open_ && is(flaw::crash_sticks)) is_stuck_ = true;
        shown_ = disk_;
        close();
    }

    flaw wrong_;
    onlooker other_{*this};
    tables disk_{}, shown_{};           // what is durable, and what is committed
    std::optional<tables> open_{}, undone_{}, before_{};
    bool is_begun_ = false, is_opening_ = false, is_saved_ = false;
    bool is_violated_ = false, is_unanswered_ = false, is_refused_ = false, is_stuck_ = false;
    uint32_t revision_ = 0;
    int begun_ = 0, rolled_back_ = 0, depth_ = 0;
};

/// Exactly one promise is broken, and said to be so once.
void finds(units::flaw wrong, const std::string& words,
           units::trouble happens = units::trouble::none) {
    const units of(wrong, happens);
    const kit::promises broken = kit::broken_promises(of.parts);
    CAPTURE(words);
    CHECK(says(broken, words));
    for (size_t i = 1; i < broken.size(); ++i) FAIL_CHECK(broken[i]);
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
    for (const auto wrong : {log::flaw::includes_after, log::flaw::ignores_after,
                             log::flaw::changes, log::flaw::forgets_last,
                             log::flaw::drops_the_second_batch})
        CHECK(check_log(wrong).size() == 2);        // of one batch, and of one position
    CHECK(check_log(log::flaw::low_newest).size() == 1);
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
    const kit::promises both = kit::broken_promises(pj::checkpoint_store{again});
    CHECK(says(both, "should answer conflict"));
    CHECK(both.size() == 2);            // and "not kept", for no more than one of the keys

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
    CHECK(check_leases(flaw::is_slow).empty());         // which is none
    CHECK(says(check_leases(flaw::answers_of_old), "of a call that was given up"));
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
    const kit::promises twice =
        kit::broken_promises(pj::dead_letter_sink{append}, [&] { return list; });
    CHECK(twice.size() == 1);
    CHECK(says(twice, "kept twice"));
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

TEST_CASE("contract check of a unit of work") {
    using happens = units::trouble;
    for (const happens what : {happens::none, happens::harmless, happens::constraint,
                               happens::lost, happens::unanswered}) {
        const units right(units::flaw::none, what);
        CHECK(kit::broken_promises(right.parts).empty());
        CHECK(kit::broken_promises(right.parts).empty());       // it may be asked again
    }
    units right(units::flaw::none);
    kit::unit_parts few{right, right};
    CHECK(says(kit::broken_promises(few), "needs"));
    few.write = right.parts.write;
    few.read = right.parts.read;
    CHECK(kit::broken_promises(few).empty());
    int waited = 0;
    few.meanwhile = [&] { ++waited; };
    CHECK(kit::broken_promises(few).empty());
    CHECK(waited != 0);                 // for a begin() in an open unit, which stays pending
}

TEST_CASE("contract check of a unit of work: what a commit keeps, and what a rollback") {
    using flaw = units::flaw;
    finds(flaw::shows_uncommitted,
          "another connection sees the effect, the checkpoint, the letter");
    units shows(flaw::shows_uncommitted);       // also where the first number is there already
    CHECK(shows.parts.write(1) == pj::status::ok);
    CHECK(says(kit::broken_promises(shows.parts), "sees the effect, the checkpoint"));
    finds(flaw::loses_effect, "commit() answers ok, but loses the effect");
    finds(flaw::loses_checkpoint, "commit() answers ok, but loses the checkpoint");
    finds(flaw::loses_letter, "commit() answers ok, but loses the letter");
    finds(flaw::loses_all, "loses the effect, the checkpoint, the letter");
    finds(flaw::forgets_effect, "what does not survive a crash is the effect");
    finds(flaw::forgets_checkpoint, "what does not survive a crash is the checkpoint");
    finds(flaw::forgets_letter, "what does not survive a crash is the letter");
    finds(flaw::hides_checkpoint, "commit() answers ok, but loses the checkpoint");
    finds(flaw::loses_effect, "commit() answers ok, but loses the effect",
          units::trouble::harmless);
    finds(flaw::loses_effect, "commit() answers ok, but loses the effect",
          units::trouble::unanswered);
    finds(flaw::keeps_effect, "rollback() does not take back the effect",
          units::trouble::constraint);
    finds(flaw::bare_commit_loses, "commit() without a save() answers ok, but loses the effect");
    finds(flaw::wants_a_save, "commit() without a save() answers failed");
    finds(flaw::harms_after_commit, "rollback() after a commit changes the effect, the checkpoint");
    finds(flaw::keeps_effect, "rollback() does not take back the effect");
    finds(flaw::keeps_checkpoint, "rollback() does not take back the checkpoint");
    finds(flaw::keeps_letter, "rollback() does not take back the letter");
    finds(flaw::undone_comes_next, "next unit: the effect, the checkpoint, the letter");
    finds(flaw::undone_comes_with_save, "comes with a later save(): the effect");
    finds(flaw::undone_survives, "after a crash there is again what was rolled back: the effect");
    finds(flaw::uncommitted_survives, "not committed survives a crash: the effect");
    finds(flaw::keeps_revision, "save() in a unit answers conflict after a rollback");
}

TEST_CASE("contract check of a unit of work: how it begins and ends") {
    using flaw = units::flaw;
    using happens = units::trouble;
    finds(flaw::save_alone_fails, "save() without a unit of work answers failed");
    finds(flaw::put_alone_fails, "put() without a unit of work answers failed");
    finds(flaw::save_alone_joins, "save() and put() without a unit of work are not durable");
    finds(flaw::save_alone_is_forgotten, "lost is the checkpoint, the letter");
    units joins(flaw::save_alone_joins);        // its own connection sees it all the same
    joins.parts.elsewhere = {};
    joins.parts.kept = {};
    joins.parts.reopen = {};
    CHECK(says(kit::broken_promises(joins.parts), "not durable by themselves"));
    finds(flaw::opens_while_pending, "after a begin() that was pending");
    finds(flaw::nests, "begin() answers ok while another unit is open");
    finds(flaw::starts_anew, "begin() answers ok while another unit is open");
    finds(flaw::nests_deeply, "begin() answers ok while another unit is open");
    finds(flaw::begin_commits, "begin() answers ok while another unit is open");
    finds(flaw::refusal_commits, "a begin() that is not ok harms the open unit");
    finds(flaw::refusal_ends_unit, "a begin() that is not ok harms the open unit");
    finds(flaw::ignores_revisions, "a revision that is not the next answer ok");
    finds(flaw::refused_looks_done, "a revision that is not the next answer ok");
    finds(flaw::refusal_sticks, "begin() answers failed after a save of a revision");
    finds(flaw::refused_is_kept, "after a save that was refused, and a rollback, there still is");
    finds(flaw::failure_sticks, "begin() answers pending after a unit that failed",
          happens::constraint);
    finds(flaw::failure_keeps_part, "a part of it, without the effect, the letter",
          happens::constraint);
    finds(flaw::lost_looks_done, "commit() answers ok after the trouble, but loses the effect",
          happens::lost);
    finds(flaw::lost_is_forgotten, "a part of it, without the effect", happens::lost);
    finds(flaw::crash_sticks, "begin() answers failed after a crash in a unit");
    finds(flaw::leaks, "others in a row");
    finds(flaw::rollback_leaks, "others in a row");
    const units soon(flaw::leaks_soon);
    CHECK(kit::broken_promises(soon.parts) == kit::promises{"begin() answers failed"});
}

TEST_CASE("contract check of a unit of work: parts that do not work at all") {
    const auto only = [](auto&& change, const std::string& words) {
        units of(units::flaw::none);
        change(of.parts);
        const kit::promises broken = kit::broken_promises(of.parts);
        CHECK(broken.size() == 1);
        CHECK(says(broken, words));
        CHECK(of.begin() == pj::status::ok);        // it was left as it was found
    };
    const auto waits = [](void*) { return pj::status::pending; };
    only([](kit::unit_parts& p) { p.write = [](int) { return pj::status::failed; }; },
         "write in a unit answers failed");
    only([&](kit::unit_parts& p) { p.transaction.begin = waits; }, "begin() answers pending");
    only([&](kit::unit_parts& p) { p.transaction.commit = waits; }, "commit() answers pending");
    units stays(units::flaw::none);
    stays.parts.transaction.rollback = waits;
    CHECK(says(kit::broken_promises(stays.parts), "rollback() stays pending"));
    only([](kit::unit_parts& p) {
        p.letters.put = [](void*, const pj::dead_letter&) { return pj::status::failed; };
    }, "put() in a unit answers failed");
    only([](kit::unit_parts& p) {
        p.checkpoints.load = [](void*, pj::text, pj::checkpoint&) { return pj::status::failed; };
    }, "load() outside of a unit answers failed");
}

TEST_CASE("contract check of a unit of work that pends") {
    units of(units::flaw::none);
    struct {
        units& to;
        bool is_ready;
        bool waits() { return is_ready = !is_ready; }
        pj::status begin() { return waits() ? pj::status::pending : to.begin(); }
        pj::status commit() { return waits() ? pj::status::pending : to.commit(); }
        pj::status rollback() { return waits() ? pj::status::pending : to.rollback(); }
        pj::status load(pj::text key, pj::checkpoint& out) {
            return waits() ? pj::status::pending : to.load(key, out);
        }
        pj::status save(pj::text key, const pj::checkpoint& next) {
            return waits() ? pj::status::pending : to.save(key, next);
        }
    } slow{of, false};
    kit::unit_parts parts = of.parts;
    parts.transaction = slow;
    parts.checkpoints = slow;
    int waited = 0;
    parts.meanwhile = [&] { ++waited; };
    CHECK(kit::broken_promises(parts).empty());
    CHECK(waited > 300);
}

TEST_CASE("contract check of a unit of work whose connection has to be made first") {
    struct {
        units to{units::flaw::none};
        int refused = 0;
        int units_up = 5, loads_up = 5;         // five attempts each
        pj::status begin() { return units_up >= 5 ? to.begin() : refuse(units_up); }
        pj::status commit() { return to.commit(); }
        pj::status rollback() { return to.rollback(); }
        pj::status load(pj::text key, pj::checkpoint& out) {
            return loads_up >= 5 ? to.load(key, out) : refuse(loads_up);
        }
        pj::status save(pj::text key, const pj::checkpoint& next) { return to.save(key, next); }
        pj::status refuse(int& attempts) {
            ++attempts;
            ++refused;
            return pj::status::failed;
        }
    } far;
    kit::unit_parts parts = far.to.parts;
    parts.transaction = far;
    parts.checkpoints = far;
    parts.reopen = [&] {
        far.to.parts.reopen();
        far.units_up = far.loads_up = 0;
    };
    int waited = 0;
    parts.meanwhile = [&] { ++waited; };
    CHECK(kit::broken_promises(parts).empty());
    CHECK(far.refused == 40);           // ten times at each of four crashes
    // Once less where a begin() is not asked again; ten more for one that stays pending.
    CHECK(waited == far.refused - 1 + 10);
}
