// The measured firmware at work on an emulated board, to see how deep its stack gets: everything
// that may go wrong does, in turn, and the deepest of a few hundred ticks is printed. The user's
// functions are as small as in callbacks.cpp; their frames are in the figure, and so is the event
// that a route decodes into.
#define main size_main
#include "firmware.cpp"
#undef main

#include "boards/board.hpp"

int tests_main();

namespace {

uint32_t now_ms, calls;
/// True every n-th time that anything asks, so that no two things fail always or never together.
bool now_and_then(uint32_t n) { return ++calls % n == 0; }

struct row {
    char key[20];
    uint8_t size;
    pj::checkpoint record;
};
row rows[6]{};
uint8_t rows_used;

row* row_of(pj::text key) {
    for (uint8_t i = 0; i < rows_used; ++i) {
        if (pj::text(rows[i].key, rows[i].size) == key) return rows + i;
    }
    return nullptr;
}

pj::verdict user_answer() {
    if (now_and_then(5)) return pj::fail(1);
    if (now_and_then(7)) return pj::reject(2);
    return now_and_then(11) ? pj::pending : pj::handled;
}

size_t deepest;

// Not inlined, so that it has a frame from which the called one's depth is counted.
template<class F> __attribute__((noinline)) void measured(F&& function) {
    board::paint_stack();
    const uintptr_t from = board::stack_pointer();
    function();
    const size_t used = board::stack_used_below(from);
    if (used > deepest) deepest = used;
}

void write_number(unsigned long value) {
    char digits[12];
    char* at = digits + sizeof digits;
    *--at = '\0';
    do *--at = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    board::write(at);
}

} // namespace

#define EVENT(index, name)                                                     \
    pj::verdict first_handler::on(const event_##index& event) {                \
        sum += event.pin;                                                      \
        return user_answer();                                                  \
    }
#include "events.inc"
#undef EVENT

pj::status user_slot::load(pj::text key, pj::checkpoint& out) {
    if (now_and_then(13)) return pj::status::failed;
    if (const row* found = row_of(key)) out = found->record;
    return pj::status::ok;
}
pj::status user_slot::save(pj::text key, const pj::checkpoint& next) {
    if (now_and_then(6)) return now_and_then(2) ? pj::status::failed : pj::status::pending;
    row* to = row_of(key);
    if (to == nullptr) {
        if (rows_used == 6) return pj::status::failed;
        to = rows + rows_used++;
        to->size = static_cast<uint8_t>(key.size());
        for (uint8_t i = 0; i < to->size && i < sizeof to->key; ++i) to->key[i] = key.data()[i];
    }
    if (next.revision != to->record.revision + 1) return pj::status::conflict;
    to->record = next;
    return now_and_then(17) ? pj::status::failed : pj::status::ok;      // its answer is lost
}
pj::status user_letters::put(const pj::dead_letter&) {
    ++count;
    return now_and_then(3) ? pj::status::failed : pj::status::ok;
}

#if defined(FEATURE_sequences)
pj::status user_letters::evict(const pj::letter_sequence&, pj::position) {
    return now_and_then(4) ? pj::status::failed : pj::status::ok;
}
#endif
pj::status user_unit::begin() {
    return now_and_then(12) ? pj::status::pending : pj::status::ok;
}
pj::status user_unit::commit() {
    return now_and_then(8) ? pj::status::failed : pj::status::ok;
}
pj::status user_unit::rollback() {
    return now_and_then(9) ? pj::status::pending : pj::status::ok;
}

pj::status user_locks::acquire(pj::text, uint32_t, uint64_t& token) {
    token = ++calls;
    return now_and_then(4) ? pj::status::conflict : pj::status::ok;
}
pj::status user_locks::extend(pj::text, uint32_t, uint64_t) {
    return now_and_then(9) ? pj::status::conflict : pj::status::ok;
}
pj::status user_locks::release(pj::text, uint64_t) { return pj::status::ok; }

extern "C" {
bool user_fetch(uint32_t at, user_record& out) {
#define EVENT(index, name) pj::text(name),
    static constexpr pj::text names[] = {
#include "events.inc"
        pj::text("NobodyKnows")};
#undef EVENT
    const pj::text name = names[at % (sizeof names / sizeof *names)];
    out = {name.data(), static_cast<uint32_t>(name.size()), at, ~at};
    return at < 400;
}
uint32_t user_clock() { return now_ms += 3; }
pj::status user_bounds(pj::position& trimmed, pj::position& newest) {
    trimmed = pj::before_first;
    newest = 399;
    return pj::status::ok;
}
void user_observer(const pj::notice&) {}
bool user_filter(const pj::stored_event& event) { return event.at % 19 != 0; }
pj::decision user_policy(const pj::failure& why) {
    return why.attempts > 2 ? pj::decision::skip() : pj::decision::retry_after(10);
}
void user_output(const void*) {}
void user_sleep(uint32_t ms) { now_ms += ms; }
}

int tests_main() {
#if defined(FEATURE_policy_table)
    size_policies.add("ours", &user_policy);
    size_replaying = size_policies["ours"];
#endif
    if (size_worker.start() != pj::status::ok) return 1;
    uint32_t halts = 0;
    for (uint32_t i = 0; i < 2400; ++i) {
        measured([] { user_sleep(pj::sooner(size_tick(), 500)); });
        if (size_worker.state() == pj::run_state::halted) {
            ++halts;
            static_cast<void>(size_worker.start(pj::start_cause::crash));
        }
    }
    bool is_done = size_worker.scanned() > 300;
#if defined(FEATURE_sink)
    if (size_sink.start() != pj::status::ok) return 1;
    for (uint32_t i = 0; i < 1200; ++i) {
        user_record record;
        pj::stored_event message;
        message.at = size_sink.scanned() + 1;
        user_fetch(static_cast<uint32_t>(message.at), record);
        message.type = pj::text(record.name, record.name_size);
        message.payload = pj::bytes(&record.pin, 2 * sizeof(uint32_t));
        measured([&] {
            user_sleep(pj::sooner(size_sink.receive(message, user_clock()).wait_ms, 500));
        });
    }
    is_done = is_done && size_sink.scanned() > 50;
#endif
#if defined(FEATURE_replay)
    if (size_replay.start() != pj::status::ok) return 1;
    for (uint32_t i = 0; i < 9000 && size_replay.running(); ++i)
        measured([] { user_sleep(pj::sooner(size_replay.tick(user_clock()).wait_ms, 500)); });
    is_done = is_done && size_replay.finished();
#endif
    board::write("deepest ");
    write_number(static_cast<unsigned long>(deepest));
    board::write(" B, letters ");
    write_number(size_letters.count);
    board::write(", halts ");
    write_number(halts);
    board::write(", scanned ");
    write_number(static_cast<unsigned long>(size_worker.scanned()));
    board::write("\n");
    return is_done && size_letters.count != 0 ? board::passed : board::failed;
}
