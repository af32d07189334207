// Two libraries of signals and slots, given the same events and handlers. They know nothing of
// logs, so each event type gets a signal, found by the number in an array or by the name in a map,
// and each slot decodes for itself. `flatten` as in by_hand.cpp.
#include "workload.hpp"

#include <unordered_map>
#include <utility>

#ifdef BENCH_SIGC
#include <sigc++/sigc++.h>
#else
#include <boost/signals2.hpp>
#endif

namespace {

#ifdef BENCH_SIGC
using signal_of_type = sigc::signal<void(const pj::stored_event&)>;
#else
// One thread, as everything here: without a mutex.
using signal_of_type = boost::signals2::signal_type<
    void(const pj::stored_event&),
    boost::signals2::keywords::mutex_type<boost::signals2::dummy_mutex>>::type;
#endif

using by_number = std::vector<signal_of_type>;
using by_name = std::unordered_map<std::string, signal_of_type>;

extern "C" __attribute__((noinline, flatten)) void
measured_by_number(const pj::stored_event* events, size_t count, by_number& signals) {
    for (size_t i = 0; i < count; ++i) {
        const uint32_t number = events[i].type.number();
        if (number < signals.size()) signals[number](events[i]);
    }
}

extern "C" __attribute__((noinline, flatten)) void
measured_by_name(const pj::stored_event* events, size_t count, by_name& signals) {
    for (size_t i = 0; i < count; ++i) {
        const pj::text name = events[i].type.name();
        const auto found = signals.find(std::string(name.data(), name.size()));
        if (found != signals.end()) found->second(events[i]);
    }
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    const log_memory memory = log_of(args);
    first_handler first;
    second_handler second;
    by_number numbered(args.by_id() ? type_count + 1 : 0);
    by_name named;
#define EVENT(index, amount_type, name)                                                         \
    subscribe<event_##index>([&](auto handle) {                                                 \
        (args.by_id() ? numbered[event_##index::type.number()] : named[name]).connect(handle);  \
    }, first, second);
#include "events.inc"
#undef EVENT
    const pj::stored_event* const events = memory.views.data();
    if (args.by_id()) repeat(args, [&] { measured_by_number(events, args.events, numbered); });
    else repeat(args, [&] { measured_by_name(events, args.events, named); });
    check(memory, args, first, second);
    return 0;
}
