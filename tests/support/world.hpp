// What the fakes of one test share: the order of everything that was called, and a watch over which
// call may happen inside which (never a port inside a port; letters, handlers and notices inside
// read). Nothing here throws by itself; checks inside callbacks are CHECK, since an engine swallows
// exceptions.
#ifndef PROJECTIONS_TESTS_SUPPORT_WORLD_HPP
#define PROJECTIONS_TESTS_SUPPORT_WORLD_HPP

#include "projections.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

namespace support {

namespace pj = projections;

/// Small, fixed, the same everywhere: Marsaglia's xorshift, 32 bits.
class xorshift {
public:
    explicit xorshift(uint32_t seed) : state_(seed != 0 ? seed : 1) {}
    uint32_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 17;
        state_ ^= state_ << 5;
        return state_;
    }
    uint32_t below(uint32_t limit) { return next() % limit; }
    bool one_in(uint32_t n) { return below(n) == 0; }

private:
    uint32_t state_;
};

enum class port : uint8_t {
    none,
    load,
    save,
    bounds,
    read,
    put,
    handler,
    observer,
    policy,
    filter
};

/// One call of a handler.
struct call {
    std::string who;
    pj::position at;
    uint32_t attempt;
    bool resumed;
    bool replaying;
    uint32_t now_ms;
};

struct world {
    port inside = port::none;
    bool reading = false;               // somewhere below read()
    bool feeding = false;               // inside event_sink::receive(), which does what read() does
    std::vector<std::string> trace;     // everything, in order, without absolute times
    std::vector<call> calls;            // of handlers only
    uint32_t port_calls = 0;            // load, save, bounds, read, put

    void note(std::string line) { trace.push_back(std::move(line)); }
    /// The handlers' calls as "a3 b3 a4".
    std::string called() const {
        std::string all;
        for (const call& c : calls) {
            all += (all.empty() ? "" : " ") + c.who + std::to_string(c.at);
        }
        return all;
    }
    uint32_t times(const std::string& who, pj::position at) const {
        uint32_t n = 0;
        for (const call& c : calls) n += c.who == who && c.at == at ? 1u : 0u;
        return n;
    }
};

/// Notes that a callback runs, and checks that it may run here.
class entered {
public:
    entered(world& in, port what) : world_(in), outer_(in.inside) {
        const bool is_nested = what == port::put || what == port::handler ||
                               what == port::observer || what == port::policy ||
                               what == port::filter;
        if (!is_nested) {
            CHECK_MESSAGE(outer_ == port::none, "a port was called inside a callback");
            ++world_.port_calls;
        }
        if (what == port::put) {
            CHECK_MESSAGE((outer_ == port::none || outer_ == port::read),
                          "a letter was put inside a callback that is not read");
            ++world_.port_calls;
        }
        if (what == port::handler) {
            CHECK_MESSAGE((outer_ == port::read || world_.feeding),
                          "a handler was called outside read");
        }
        CHECK_MESSAGE((what != port::observer || outer_ == port::none || outer_ == port::read),
                      "the observer was called inside a callback that is not read");
        if (what == port::read) world_.reading = true;
        world_.inside = what;
    }
    entered(const entered&) = delete;
    entered& operator=(const entered&) = delete;
    ~entered() {
        if (world_.inside == port::read) world_.reading = false;
        world_.inside = outer_;
    }

private:
    world& world_;
    port outer_;
};

/// What the next calls of a port do, one step per call; without a step a port works as it should.
struct step {
    pj::status answer = pj::status::ok;
    bool does_it = false;       // takes effect although it does not answer ok: a lost answer
    bool throws = false;        // only where exceptions are
};
inline step lost_answer() { return {pj::status::failed, true, false}; }

/// The steps of one port.
class plan {
public:
    plan& then(step s, int times = 1) {
        for (int i = 0; i < times; ++i) steps_.push_back(s);
        return *this;
    }
    plan& then(pj::status s, int times = 1) {
        return then(step{s, s == pj::status::ok, false}, times);
    }
    /// From now on always this, once the steps are used up.
    void always(step s) { rest_ = s; }
    void always(pj::status s) { rest_ = step{s, s == pj::status::ok, false}; }
    void clear() {
        steps_.clear();
        rest_ = {pj::status::ok, true, false};
    }
    bool is_empty() const { return steps_.empty(); }
    step take() {
        if (steps_.empty()) return rest_;
        const step s = steps_.front();
        steps_.pop_front();
        return s;
    }

private:
    std::deque<step> steps_;
    step rest_{pj::status::ok, true, false};
};

inline void throw_if(const step& s) {
#if PROJECTIONS_EXCEPTIONS
    if (s.throws) throw std::runtime_error("a fake throws");
#endif
    static_cast<void>(s);
}

} // namespace support

#endif
