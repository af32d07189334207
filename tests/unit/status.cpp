// >>status: what ports, commands and handlers answer.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <set>
#include <string>
namespace pj = projections;

namespace {

struct named_status {
    pj::status value;
    const char* name;
    pj::status_group group;
};
#define NAMED(group, name) {pj::status::name, #name, pj::status_group::group}
const named_status all[] = {
    NAMED(answer, ok), NAMED(answer, pending), NAMED(answer, failed), NAMED(answer, more),
    NAMED(answer, trimmed), NAMED(answer, conflict),
    NAMED(projection, stopped), NAMED(projection, paused), NAMED(projection, reentered),
    NAMED(projection, already_started), NAMED(projection, not_loaded),
    NAMED(projection, not_halted),
    NAMED(handler, handler_failed), NAMED(handler, decode_failed), NAMED(handler, unknown_type),
    NAMED(handler, dead_letter_failed), NAMED(handler, unit_of_work_failed),
    NAMED(handler, sequences_full),
    NAMED(checkpoint, checkpoint_failed), NAMED(checkpoint, checkpoint_corrupt),
    NAMED(checkpoint, checkpoint_conflict), NAMED(checkpoint, checkpoint_ahead),
    NAMED(checkpoint, partition_count_changed), NAMED(checkpoint, rebuild_unfinished),
    NAMED(checkpoint, partial_record),
    NAMED(store, store_failed), NAMED(store, store_unordered), NAMED(store, log_trimmed),
    NAMED(store, log_replaced), NAMED(store, event_changed), NAMED(store, log_gap),
    NAMED(lease, lease_lost), NAMED(lease, lease_held), NAMED(lease, lease_failed),
    NAMED(configuration, no_name), NAMED(configuration, reserved_name),
    NAMED(configuration, no_read), NAMED(configuration, no_bounds), NAMED(configuration, no_load),
    NAMED(configuration, no_save), NAMED(configuration, no_handlers),
    NAMED(configuration, no_clock), NAMED(configuration, no_dead_letter_sink),
    NAMED(configuration, unknown_policy), NAMED(configuration, table_full),
    NAMED(configuration, bad_type), NAMED(configuration, duplicate_type),
    NAMED(configuration, duplicate_handler),
    NAMED(configuration, bad_batch), NAMED(configuration, bad_save_rule),
    NAMED(configuration, bad_backoff), NAMED(configuration, bad_key),
    NAMED(configuration, bad_partition), NAMED(configuration, no_lease), NAMED(configuration, bad_lease),
    NAMED(configuration, no_unit_of_work), NAMED(configuration, bad_unit_of_work),
};
#undef NAMED

} // namespace

TEST_CASE("every status has its name and its group") {
    std::set<std::string> names;
    for (const named_status& one : all) {
        CAPTURE(one.name);
        CHECK(std::string(pj::to_string(one.value)) == one.name);
        CHECK(pj::group_of(one.value) == one.group);
        names.insert(one.name);
    }
    CHECK(names.size() == sizeof all / sizeof *all);
}

TEST_CASE("of all 256 bytes exactly the listed ones have a name") {
    size_t named = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
        const std::string name = pj::to_string(static_cast<pj::status>(byte));
        CHECK_FALSE(name.empty());
        if (name != "?") ++named;
    }
    CHECK(named == sizeof all / sizeof *all);
    static_assert(static_cast<int>(pj::status::ok) == 0 && sizeof(pj::status) == 1);
}

TEST_CASE("run states have names") {
    CHECK(std::string(pj::to_string(pj::run_state::stopped)) == "stopped");
    CHECK(std::string(pj::to_string(pj::run_state::running)) == "running");
    CHECK(std::string(pj::to_string(pj::run_state::idle)) == "idle");
    CHECK(std::string(pj::to_string(pj::run_state::waiting)) == "waiting");
    CHECK(std::string(pj::to_string(pj::run_state::paused)) == "paused");
    CHECK(std::string(pj::to_string(pj::run_state::halted)) == "halted");
    CHECK(std::string(pj::to_string(static_cast<pj::run_state>(99))) == "?");
}

// In the order of the enumerators, which a name is found by.
#define CHECK_NAMED(type, enumerator)                                                              \
    CHECK(std::string(pj::to_string(pj::type::enumerator)) == #enumerator)

TEST_CASE("kinds of failures, receipts and notices have names, for logs") {
    CHECK_NAMED(failure_kind, transient);
    CHECK_NAMED(failure_kind, permanent);
    CHECK_NAMED(failure_kind, decode);
    CHECK_NAMED(failure_kind, unknown_type);
    CHECK(std::string(pj::to_string(static_cast<pj::failure_kind>(4))) == "?");

    CHECK_NAMED(receipt, ack);
    CHECK_NAMED(receipt, later);
    CHECK_NAMED(receipt, hold);
    CHECK_NAMED(receipt, reject);
    CHECK(std::string(pj::to_string(static_cast<pj::receipt>(4))) == "?");

    CHECK_NAMED(notice_kind, started);
    CHECK_NAMED(notice_kind, loaded);
    CHECK_NAMED(notice_kind, paused);
    CHECK_NAMED(notice_kind, resumed);
    CHECK_NAMED(notice_kind, stopped);
    CHECK_NAMED(notice_kind, halted);
    CHECK_NAMED(notice_kind, event_handled);
    CHECK_NAMED(notice_kind, event_skipped);
    CHECK_NAMED(notice_kind, event_lettered);
    CHECK_NAMED(notice_kind, event_vanished);
    CHECK_NAMED(notice_kind, event_unknown);
    CHECK_NAMED(notice_kind, handler_failed);
    CHECK_NAMED(notice_kind, letter_failed);
    CHECK_NAMED(notice_kind, checkpoint_saved);
    CHECK_NAMED(notice_kind, checkpoint_failed);
    CHECK_NAMED(notice_kind, store_failed);
    CHECK_NAMED(notice_kind, rebuild_began);
    CHECK_NAMED(notice_kind, rebuild_dropped);
    CHECK_NAMED(notice_kind, rebuild_finished);
    CHECK_NAMED(notice_kind, lease_gained);
    CHECK_NAMED(notice_kind, lease_lost);
    CHECK_NAMED(notice_kind, lease_released);
    CHECK_NAMED(notice_kind, lease_failed);
    CHECK_NAMED(notice_kind, gap_found);
    CHECK_NAMED(notice_kind, gap_skipped);
    CHECK(std::string(pj::to_string(static_cast<pj::notice_kind>(25))) == "?");
}
#undef CHECK_NAMED

TEST_CASE("a verdict packs what happened and 28 bits") {
    using kind = pj::verdict::kind;
    constexpr uint32_t most = (1u << 28) - 1;
    static_assert(sizeof(pj::verdict) == 4);
    for (const uint32_t n : {0u, 1u, 15u, 16u, 4096u, most - 1, most}) {
        CAPTURE(n);
        CHECK(pj::fail(n).what() == kind::failed);
        CHECK(pj::fail(n).argument() == n);
        CHECK(pj::reject(n).what() == kind::rejected);
        CHECK(pj::reject(n).argument() == n);
        CHECK(pj::pending_for(n).what() == kind::pending);
        CHECK(pj::pending_for(n).argument() == n);
        CHECK(pj::fail(n) != pj::reject(n));
    }
    CHECK(pj::handled.what() == kind::handled);
    CHECK(pj::pending.what() == kind::pending);
    CHECK(pj::pending_for(0) == pj::pending);
    CHECK(pj::fail() == pj::fail(0));
    CHECK(pj::fail(1) != pj::fail(2));
    CHECK(pj::code_thrown == most);
}

TEST_CASE("a code of more than 28 bits loses its top, never its kind") {
    CHECK(pj::reject(~0u).what() == pj::verdict::kind::rejected);
    CHECK(pj::fail(1u << 28).what() == pj::verdict::kind::failed);
    CHECK(pj::fail(1u << 28).argument() == 0);
}

TEST_CASE("what a port answered can be returned as a verdict") {
    using kind = pj::verdict::kind;
    CHECK(pj::verdict(pj::status::ok) == pj::handled);
    CHECK(pj::verdict(pj::status::pending) == pj::pending);
    for (unsigned byte = 2; byte < 256; ++byte) {
        const pj::verdict v = static_cast<pj::status>(byte);
        CHECK(v.what() == kind::failed);
        CHECK(v.argument() == byte);
    }
}
