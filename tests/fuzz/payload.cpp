// Events of any type, version and payload on their way through a registry, a handler_map and
// deliver(): who is called, with what, and what is answered, is as a plain model says.
#include "fuzz/feed.hpp"
#include "projections.hpp"

#include <cstring>
#include <string>
#include <vector>

namespace pj = projections;

namespace {

/// Raw; an older version is a smaller struct.
struct reading_v1 {
    static constexpr pj::event_type type{"Reading", pj::raw};
    uint16_t value;
};
struct reading {
    static constexpr pj::event_type type{"Reading", pj::raw, {2}};
    static constexpr pj::event_type also[] = {"OldReading"};
    using previous = reading_v1;
    void upcast(const reading_v1& older) { value = older.value + 1000u; }
    uint32_t value = 0;
};
/// Known by a number only.
struct alarm {
    static constexpr pj::event_type type{pj::id{7}, pj::raw};
    uint8_t value = 0;
};
/// A decoder of its own: a length, then as many characters. It may throw.
struct note {
    static constexpr pj::event_type type{"Note"};
    uint32_t value = 0;
    static bool decode(const pj::stored_event& in, note& out) {
        const pj::bytes b = in.payload;
        if (b.empty() || b.size() != b.begin()[0] + size_t{1}) return false;
        for (const unsigned char c : b) out.value += c;
#if PROJECTIONS_EXCEPTIONS
        if (out.value % 16 == 15) throw out.value;
#else
        if (out.value % 16 == 15) return false;
#endif
        return true;
    }
};

struct call {
    char who;
    uint32_t value;
    bool operator==(const call& other) const { return who == other.who && value == other.value; }
};
using calls = std::vector<call>;

struct typed {
    using handles = pj::events<reading, alarm, note>;
    calls* to;
    void on(const reading& e) { to->push_back({'r', e.value}); }
    void on(const alarm& e) { to->push_back({'a', e.value}); }
    pj::verdict on(const note& e) {
        to->push_back({'n', e.value});
        return e.value % 5 == 4 ? pj::fail(e.value) : pj::handled;
    }
};
struct mailer {
    using handles = pj::live_only<note>;
    calls* to;
    void on(const note& e, const pj::context& c) {
        fuzz::demand(!c.replaying, "live_only while replaying");
        to->push_back({'m', e.value});
    }
};
struct audit {
    using handles = pj::every_event;
    calls* to;
    void on(const pj::stored_event& e) {
        to->push_back({'*', static_cast<uint32_t>(e.payload.size())});
    }
};

struct letter {
    std::string name;
    uint32_t number = 0, version = 1;
    std::string payload;
    bool is_replayed = false;
};

/// What becomes of it, without the library.
calls expected(const letter& l, bool& is_trouble) {
    const auto at = [&](size_t i) { return static_cast<unsigned char>(l.payload[i]); };
    const size_t size = l.payload.size();
    calls result;
    is_trouble = false;
    if (l.name == "Reading" || l.name == "OldReading") {
        uint32_t value = 0;
        uint16_t older = 0;
        const bool is_new = l.version == 2 && size == sizeof value;
        is_trouble = !is_new && !(l.version == 1 && size == sizeof older);
        std::memcpy(is_new ? static_cast<void*>(&value) : &older, l.payload.data(),
                    is_trouble ? 0 : size);
        if (!is_trouble) result.push_back({'r', is_new ? value : older + 1000u});
    } else if (l.name.empty() && l.number == 7) {
        is_trouble = size != 1 || l.version != 1;
        if (!is_trouble) result.push_back({'a', at(0)});
    } else if (l.name == "Note") {
        uint32_t sum = 0;
        for (size_t i = 0; i < size; ++i) sum += at(i);
        const bool is_read = size != 0 && size == at(0) + size_t{1} && sum % 16 != 15;
        if (is_read) result.push_back({'n', sum});
        if (is_read && !l.is_replayed) result.push_back({'m', sum});
        is_trouble = !is_read || sum % 5 == 4;
    }
    result.push_back({'*', static_cast<uint32_t>(size)});
    return result;
}

letter read_letter(fuzz::feed& in) {
    const char* const names[] = {"Note", "Reading", "OldReading", "", "Readin", "Reading ", "note"};
    letter l;
    const uint32_t which = in.below(8);
    if (which < 7) l.name = names[which];
    else for (uint32_t i = in.below(9); i != 0; --i) l.name += static_cast<char>(in.byte());
    if (l.name.empty()) l.number = in.below(9);
    l.version = in.below(4);
    l.is_replayed = in.bit();
    const uint32_t size = in.below(in.bit() ? 6 : 255);
    const bool is_fitting = in.bit();           // a note's length
    for (uint32_t i = 0; i < size; ++i) l.payload += static_cast<char>(in.byte());
    if (is_fitting && size != 0) l.payload[0] = static_cast<char>(size - 1);
    return l;
}

template<class Handlers> void check(Handlers& handlers, calls& seen, const letter& l,
                                    const char* what) {
    bool is_trouble = false;
    const calls wanted = expected(l, is_trouble);
    pj::stored_event event;
    event.at = 5;
    event.type = l.name.empty() ? pj::type_key(pj::id{l.number}) : pj::type_key(pj::text(l.name));
    // A copy of exactly its size, so that the sanitizer sees a byte too many.
    const std::vector<char> payload(l.payload.begin(), l.payload.end());
    event.payload = {payload.data(), payload.size()};
    event.version = l.version;
    seen.clear();
    const pj::verdict v = pj::deliver(handlers, event, l.is_replayed);
    fuzz::demand(seen == wanted, what);
    fuzz::demand((v != pj::handled) == is_trouble, "another verdict than the model's");
    const pj::handler_list list = handlers.find(event.type);
    for (size_t i = 0; i < list.size(); ++i) fuzz::demand(!list[i].empty(), "a nameless handler");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t count) {
    fuzz::feed in(data, count);
    calls seen;
    typed a{&seen};
    mailer m{&seen};
    audit all{&seen};
    pj::registry by_compiler{a, m, all};
    pj::handler_map<16> by_hand;
    by_hand.add(a).add(m).add(all);
    fuzz::demand(by_hand.fault() == pj::status::ok, "the handler_map has a fault");
    do {
        const letter l = read_letter(in);
        check(by_compiler, seen, l, "the registry calls others than the model");
        check(by_hand, seen, l, "the handler_map calls others than the model");
    } while (!in.empty());
    return 0;
}
