// Two workers of different pace over one log: totals are quick, invoices go through a mail server
// that is down for a while; the one falls behind, halts, is told to go on; the other does not care.
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct order_created {
    static constexpr pj::event_type type{"OrderCreated", pj::raw};
    uint32_t order, cents;
};
struct totals {
    using handles = pj::events<order_created>;
    uint64_t cents = 0;
    void on(const order_created& e) { cents += e.cents; }
};
struct invoices {
    using handles = pj::live_only<order_created>;
    const uint32_t* now_ms;
    uint32_t sent = 0, last = 0;
    bool is_in_order = true;
    pj::verdict on(const order_created& e) {
        if (*now_ms > 500 && *now_ms < 9000) return pj::fail(421);
        is_in_order = is_in_order && e.order == ++last;
        ++sent;
        return pj::handled;
    }
};

struct shop {                               // members in any order: engines only keep addresses
    pj::worker quick{quick_setup}, slow{slow_setup};
    uint32_t now_ms = 0;
    pj::projection quick_setup{"totals", log, sums, checkpoints};
    pj::projection slow_setup{"invoices", log, mails, checkpoints};
    totals sums;
    invoices mails{&now_ms};
    pj::memory_log<128, 8192> log;
    pj::memory_checkpoint_store<2> checkpoints;
    shop() {
        slow_setup.on_error = pj::error_policy::retry(4);
        slow_setup.delays = {100, 1000, 2, 20, 7};
        slow_setup.batch = 2;
        quick_setup.save = slow_setup.save = {1, 0, true};
    }
};

int main() {
    shop s;
    if (s.quick.start() != pj::status::ok || s.slow.start() != pj::status::ok) return 1;
    uint32_t orders = 0, halts = 0;
    int64_t most_behind = 0;
    while (s.now_ms < 30000) {
        if (orders < 100 && s.now_ms / 100 >= orders) {
            ++orders;
            s.log.append(order_created{orders, orders});
            s.quick.wake();
            s.slow.wake();
        }
        const uint32_t wait_ms = pj::tick_all(s.now_ms, s.quick, s.slow);
        const int64_t behind = s.quick.scanned() - s.slow.scanned();
        if (behind > most_behind) most_behind = behind;
        if (s.slow.state() == pj::run_state::halted) {
            ++halts;
            if (s.slow.last_failure().code != 421) return 2;
            if (s.slow.retry_failed() != pj::status::ok) return 3;
        }
        s.now_ms += pj::sooner(wait_ms, 50);
    }
    printf("%llu cents, %u invoices, %u halts, at most %d behind\n",
           static_cast<unsigned long long>(s.sums.cents), static_cast<unsigned>(s.mails.sent),
           static_cast<unsigned>(halts), static_cast<int>(most_behind));
    if (s.sums.cents != 5050 || s.mails.sent != 100 || !s.mails.is_in_order) return 4;
    return halts > 2 && most_behind > 50 && s.slow.checkpointed() == 99 ? 0 : 5;
}
