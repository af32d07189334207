// What the worker is compared with: the same events, the same handlers, dispatched by hand. None of
// these keeps a checkpoint, checks the order of positions, counts, or survives a failing handler.
// `flatten`: whatever can be inlined is, so that none of them pays for how this program is written.
#include "workload.hpp"

#include <functional>
#include <unordered_map>

namespace {

template<class Event>
void both(const pj::stored_event& stored, first_handler& first, second_handler& second) {
    Event event;
    if (!decode(stored, event)) return;
    static_cast<void>(first.on(event));
    if (two_handlers) static_cast<void>(second.on(event));
}

// An integer switch: the number comes for free, the compiler sees every case.
extern "C" __attribute__((noinline, flatten)) void
measured_switch(const pj::stored_event* events, size_t count, first_handler& first,
                second_handler& second) {
    for (size_t i = 0; i < count; ++i) {
        switch (events[i].type.number()) {
#define EVENT(index, amount_type, name)                                        \
    case event_##index::type.number(): both<event_##index>(events[i], first, second); break;
#include "events.inc"
#undef EVENT
        default: break;
        }
    }
}

// FNV-1a of the name, open addressing, the whole name compared, one call.
struct by_hash {
    using call = void (*)(const pj::stored_event&, first_handler&, second_handler&);
    struct slot {
        uint32_t hash;
        pj::text name;
        call handle;
    };
    std::vector<slot> slots;
    uint32_t mask = 1;

    static uint32_t hash_of(const char* name, size_t size) {
        uint32_t hash = 2166136261u;
        for (size_t i = 0; i < size; ++i)
            hash = (hash ^ static_cast<unsigned char>(name[i])) * 16777619u;
        return hash;
    }
    __attribute__((noinline)) void add(const char* name, call handle) {
        const uint32_t hash = hash_of(name, strlen(name));
        uint32_t at = hash & mask;
        while (slots[at].handle != nullptr) at = (at + 1) & mask;
        slots[at] = {hash, pj::text(name, strlen(name)), handle};
    }
    by_hash() {
        while (mask < 2 * type_count) mask *= 2;
        slots.resize(mask);
        --mask;
#define EVENT(index, amount_type, name) add(name, &both<event_##index>);
#include "events.inc"
#undef EVENT
    }
};

extern "C" __attribute__((noinline, flatten)) void
measured_hash(const pj::stored_event* events, size_t count, const by_hash& table,
              first_handler& first, second_handler& second) {
    for (size_t i = 0; i < count; ++i) {
        const pj::text name = events[i].type.name();
        const uint32_t hash = by_hash::hash_of(name.data(), name.size());
        for (uint32_t at = hash & table.mask; table.slots[at].handle != nullptr;
             at = (at + 1) & table.mask) {
            const by_hash::slot& slot = table.slots[at];
            if (slot.hash != hash || slot.name.size() != name.size() ||
                memcmp(slot.name.data(), name.data(), name.size()) != 0)
                continue;
            slot.handle(events[i], first, second);
            break;
        }
    }
}

// What is written first: a map from the name to the functions that want it.
using functions = std::vector<std::function<void(const pj::stored_event&)>>;
using by_map = std::unordered_map<std::string, functions>;

extern "C" __attribute__((noinline, flatten)) void
measured_map(const pj::stored_event* events, size_t count, const by_map& map) {
    for (size_t i = 0; i < count; ++i) {
        const pj::text name = events[i].type.name();
        const auto found = map.find(std::string(name.data(), name.size()));
        if (found == map.end()) continue;
        for (const auto& handle : found->second) handle(events[i]);
    }
}

__attribute__((noinline)) void add(by_map& map, const char* name, functions::value_type handle) {
    map[name].push_back(std::move(handle));
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    const log_memory memory = log_of(args);
    first_handler first;
    second_handler second;
    const pj::stored_event* const events = memory.views.data();
    if (args.engine == "switch") {
        repeat(args, [&] { measured_switch(events, args.events, first, second); });
    } else if (args.engine == "hash") {
        const by_hash table;
        repeat(args, [&] { measured_hash(events, args.events, table, first, second); });
    } else {
        by_map map;
#define EVENT(index, amount_type, name) \
    subscribe<event_##index>([&](auto handle) { add(map, name, handle); }, first, second);
#include "events.inc"
#undef EVENT
        repeat(args, [&] { measured_map(events, args.events, map); });
    }
    check(memory, args, first, second);
    return 0;
}
