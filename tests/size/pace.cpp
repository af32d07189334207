// Instructions per event on an emulated controller: 8 event types in mixed order with two handlers
// each, batches of 100, a checkpoint per batch, no
// optional feature. The log is an array that is shown in place, as a slice; BY_ID: its events carry
// numbers, else names of 11 to 23 characters. Counted is all of tick(), memcpy() of the board
// included; the handlers add one number.
#include "projections.hpp"

#include "boards/board.hpp"

namespace pj = projections;

int tests_main();

namespace {

template<int Which> struct named {
    static constexpr const char* names[8] = {
        "OrderPlaced", "OrderShippedToday", "PaymentAuthorized", "InventoryReservedInPart",
        "CartCleared", "CustomerRegistered", "RefundIssuedToCustomer", "ReviewPosted"};
    static constexpr pj::event_type type{pj::text(names[Which]), pj::id{1000 + 77 * Which},
                                         pj::raw};
    uint32_t value;
    uint32_t other;
};
using all_types = pj::events<named<0>, named<1>, named<2>, named<3>, named<4>, named<5>, named<6>,
                             named<7>>;

template<int Which> struct summing {
    using handles = all_types;
    static constexpr const char* handler_name = Which == 0 ? "first" : "second";
    uint32_t sums[8]{};
    void on(const named<0>& e) { sums[0] += e.value; }
    void on(const named<1>& e) { sums[1] += e.value; }
    void on(const named<2>& e) { sums[2] += e.value; }
    void on(const named<3>& e) { sums[3] += e.value; }
    void on(const named<4>& e) { sums[4] += e.value; }
    void on(const named<5>& e) { sums[5] += e.value; }
    void on(const named<6>& e) { sums[6] += e.value; }
    void on(const named<7>& e) { sums[7] += e.value; }
};

constexpr uint32_t slice = 100;
constexpr uint32_t payload[2] = {1, 2};

struct array_log {
    pj::stored_event events[slice]{};
    pj::status read(pj::position after, pj::visitor& visit) {
        if (after >= events[slice - 1].at) return pj::status::ok;
        static_cast<void>(visit(events, slice));
        return pj::status::more;
    }
};
struct slot {
    pj::checkpoint record{};
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint& next) {
        record = next;
        return pj::status::ok;
    }
};

array_log events;
slot checkpoints;
summing<0> first;
summing<1> second;
pj::registry all{first, second};
constexpr pj::projection what{"pace", events, all, checkpoints};
pj::worker worker{what};

/// xorshift, so that neither types nor branches come in a pattern.
uint32_t random_state = 12345;
uint32_t random_below(uint32_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

void show_next(bool is_first) {
    for (uint32_t i = 0; i < slice; ++i) {
        pj::stored_event& e = events.events[i];
        e.at = is_first ? pj::position{i} : e.at + pj::position{slice};
        const uint32_t type = random_below(8);
#if defined(BY_ID)
        e.type = pj::id{1000 + 77 * type};
#else
        e.type = pj::text(named<0>::names[type]);
#endif
        e.payload = {payload, sizeof payload};
    }
}

uint32_t since(uint32_t before) { return (before - board::ticks()) & 0xFFFFFF; }

/// How many ticks of the timer are a million instructions.
uint32_t ticks_per_million() {
    const uint32_t before = board::ticks();
    uint32_t left = 250000;
#if defined(__arm__)
    asm volatile(".syntax unified \n 1: nop \n nop \n subs %0, #1 \n bne 1b \n .syntax divided"
                 : "+l"(left) :: "cc");
#elif defined(__riscv)
    asm volatile("1: nop \n nop \n addi %0, %0, -1 \n bnez %0, 1b" : "+r"(left));
#endif
    return since(before);
}

void write_number(uint32_t value) {
    char digits[12];
    char* at = digits + sizeof digits;
    *--at = '\0';
    do *--at = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    board::write(at);
}

} // namespace

int tests_main() {
    show_next(true);
    if (worker.start() != pj::status::ok) return 1;
    while (worker.scanned() < pj::position{slice - 1}) {
        if (worker.tick(0).wait_ms != 0) return 1;
    }
    constexpr uint32_t batches = 50;
    uint32_t spent = 0;
    const uint32_t saves_before = checkpoints.record.revision;
    for (uint32_t batch = 0; batch < batches; ++batch) {
        show_next(false);
        const uint32_t before = board::ticks();
        const pj::tick_result result = worker.tick(0);
        spent += since(before);
        if (result.scanned != slice) return 1;
    }
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 8; ++i) sum += first.sums[i] + second.sums[i];
    if (sum != 2 * slice * (batches + 1)) return 1;
    if (checkpoints.record.revision - saves_before != batches) return 1;
    const uint32_t million = ticks_per_million();
    // Hundredths of an instruction per event.
    const uint64_t hundredths = uint64_t{spent} * 100000000 / million / (slice * batches);
    board::write("hundredths per event ");
    write_number(static_cast<uint32_t>(hundredths));
    board::write(", a million instructions are ");
    write_number(million);
    board::write(" ticks\n");
    return board::passed;
}
