// What the library relies on, asked of examples/13_nats/nats_store.hpp by the kit's own check:
// model and checkpoint are one value of a bucket, and a unit of work is a model in memory that can
// be taken back.
//
//     nats_contract ADDRESS       a server whose bucket `kit` is not there yet
#include "../../examples/13_nats/nats_store.hpp"
#include "engines/contract.hpp"

#include <optional>
#include <string>

namespace {

/// What may spoil a unit is another process that writes the value in between.
void units(const std::string& address) {
    nats_link link, beside;
    check(link.connect(address) && link.make("KIT", "kit.>", "kit"), "no bucket");
    check(beside.connect(address) && beside.make("KIT", "kit.>", "kit"), "no second connection");
    if (faults != 0) return;
    int number = 0, as_kept = 0;
    std::optional<nats_store> store;
    const auto reopen = [&] { store.emplace(link, spelled<nats_store>(number)); };
    reopen();
    nats_store other{beside, spelled<nats_store>(as_kept)};
    kit::unit_parts parts = parts_of(*store, number, other, as_kept);
    parts.reopen = reopen;
    parts.trouble = [&] {
        kvEntry* entry = nullptr;
        const bool is_there = kvStore_Get(&entry, beside.bucket(), "kit_unit") == NATS_OK;
        check(is_there && kvStore_Put(nullptr, beside.bucket(), "kit_unit", kvEntry_Value(entry),
                                      kvEntry_ValueLen(entry)) == NATS_OK, "no trouble");
        kvEntry_Destroy(entry);
    };
    tell("units", kit::broken_promises(parts));
}

} // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    units(arguments[1]);
    return verdict();
}
