// The user's own code, as small as it can be: its bytes are not counted.
#include "firmware.hpp"

namespace {
volatile uint32_t device;
}

#define EVENT(index, name)                                                     \
    void first_handler::on(const event_##index& event) { sum += event.pin + index; }
#include "events.inc"
#undef EVENT

#define EVENT(index, name)                                                     \
    void second_handler::on(const event_##index& event) { sum ^= event.at_ms + index; }
#include "events.inc"
#undef EVENT

pj::status user_slot::load(pj::text key, pj::checkpoint& out) {
    out.at = static_cast<pj::position>(key.size()) - image[0];
    return pj::status::ok;
}
pj::status user_slot::save(pj::text, const pj::checkpoint& next) {
    image[0] = static_cast<uint8_t>(next.at);
    return pj::status::ok;
}
pj::status user_letters::put(const pj::dead_letter& letter) {
    count += letter.code;
    return pj::status::ok;
}

#if defined(FEATURE_sequences)
pj::status user_letters::evict(const pj::letter_sequence&, pj::position at) {
    count -= static_cast<uint32_t>(at);
    return pj::status::ok;
}
#endif
pj::status user_unit::begin() { return count == device ? pj::status::pending : pj::status::ok; }
pj::status user_unit::commit() {
    ++count;
    return pj::status::ok;
}
pj::status user_unit::rollback() { return pj::status::ok; }

pj::status user_locks::acquire(pj::text, uint32_t ttl_ms, uint64_t& token) {
    token = ttl_ms + device;
    return pj::status::ok;
}
pj::status user_locks::extend(pj::text, uint32_t, uint64_t token) {
    return token == device ? pj::status::ok : pj::status::conflict;
}
pj::status user_locks::release(pj::text, uint64_t) { return pj::status::ok; }

extern "C" {
bool user_fetch(uint32_t at, user_record& out) {
    static constexpr char name[] = "DoorOpened";
    out = {name, sizeof name - 1, at, device};
    return at < device;
}
uint32_t user_clock() { return device; }
pj::status user_bounds(pj::position& trimmed, pj::position& newest) {
    trimmed = static_cast<pj::position>(device);
    newest = static_cast<pj::position>(device);
    return pj::status::ok;
}
void user_observer(const pj::notice& what) { device = static_cast<uint32_t>(what.at); }
bool user_filter(const pj::stored_event& event) { return event.version != device; }
pj::decision user_policy(const pj::failure& why) {
    return why.code == 0 ? pj::decision::skip() : pj::decision::retry_after(device);
}
void user_output(const void* bytes) { device = *static_cast<const unsigned char*>(bytes); }
void user_sleep(uint32_t ms) { device = ms; }
pj::verdict user_every(void*, const pj::stored_event& event, const pj::context&) {
    device = event.version;
    return pj::handled;
}
}
