// An edge logger whose power fails at random: a ring of records and two checkpoint pages in flash
// (here in RAM; a page written half is half written), a model in RAM that is rebuilt from the log's
// events. After every power loss the counts are those of the events since the checkpoint, each
// exactly once.
#include "projections.hpp"
#include <stdio.h>
#include <string.h>
namespace pj = projections;

struct edge {
    static constexpr pj::event_type type{pj::id{1}, pj::raw};
    uint32_t pin, at_ms;
};

static uint32_t random_state = 1;
static uint32_t random_below(uint32_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

/// Flash: survives; a write may be cut short, after which the power is gone.
struct flash {
    edge ring[64]{};
    uint32_t next = 0;              // a real one finds it by looking at the records
    uint8_t pages[2][pj::checkpoint_bytes]{};
    uint32_t writes_left = 0;       // until the power fails
    bool has_power = true;

    bool write(uint8_t* to, const uint8_t* from, size_t size) {
        if (!has_power) return false;
        if (--writes_left == 0) {
            has_power = false;
            size = random_below(static_cast<uint32_t>(size));
        }
        memcpy(to, from, size);
        return has_power;
    }
};

struct board {
    explicit board(flash& in) : memory(in) {}
    flash& memory;
    uint8_t newest = 0;

    pj::status bounds(pj::position& trimmed, pj::position& newest_event) const {
        trimmed = memory.next > 64 ? pj::position{memory.next} - 65 : pj::before_first;
        newest_event = pj::position{memory.next} - 1;
        return pj::status::ok;
    }
    pj::status read(pj::position after, pj::visitor& visit) const {
        for (pj::position at = after + 1; at < memory.next; ++at) {
            const edge& e = memory.ring[at % 64];
            if (!visit({at, pj::id{1}, {&e, sizeof e}})) break;
        }
        return pj::status::ok;
    }
    pj::status load(pj::text, pj::checkpoint& out) {
        for (uint8_t i = 0; i < 2; ++i) {
            pj::checkpoint found;
            if (pj::decode({memory.pages[i], pj::checkpoint_bytes}, found) &&
                found.revision > out.revision) {
                out = found;
                newest = i;
            }
        }
        return pj::status::ok;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        uint8_t image[pj::checkpoint_bytes];
        pj::encode(next, image);
        const uint8_t other = newest ^ 1u;
        if (!memory.write(memory.pages[other], image, sizeof image)) return pj::status::failed;
        newest = other;
        return pj::status::ok;
    }
};

struct edge_counts {
    using handles = pj::events<edge>;
    uint32_t of_pin[4]{};
    uint32_t sum = 0;
    void on(const edge& e) {
        ++of_pin[e.pin & 3u];
        ++sum;
    }
};

int main() {
    flash memory;
    pj::position durable = pj::before_first;
    uint32_t losses = 0;
    while (losses < 300) {
        memory.has_power = true;
        memory.writes_left = 1 + random_below(6);
        board io(memory);
        edge_counts counts;
        pj::projection what{"edges", io, counts, io};
        what.batch = 8;
        what.poll_ms = pj::never;           // the interrupt wakes it
        what.save = {16, 60000, false};     // flash wears out
        pj::worker worker{what};
        if (worker.start() != pj::status::ok) return 1;

        uint32_t now = 0;
        pj::position begun = pj::before_first;
        while (memory.has_power) {
            memory.ring[memory.next % 64] = {random_below(4), now};
            ++memory.next;                  // an interrupt came
            worker.wake();
            const uint32_t wait_ms = worker.tick(now).wait_ms;
            if (now == 0) {     // it began at what was saved last, or a save later
                begun = worker.scanned() - pj::position{counts.sum};
                if (begun < durable) return 2;
            }
            if (worker.state() == pj::run_state::halted) return 3;
            now += wait_ms == 0 ? 1 : pj::sooner(wait_ms, 50);
        }
        if (pj::position{counts.sum} != worker.scanned() - begun) return 4;
        durable = worker.checkpointed();
        ++losses;
    }
    printf("%lu edges, %lu power losses, checkpoint %ld\n", static_cast<unsigned long>(memory.next),
           static_cast<unsigned long>(losses), static_cast<long>(durable));
    return durable > 1000 ? 0 : 5;
}
