// The header between system headers: no name or macro of theirs is in its way, nor of its in theirs.
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include <algorithm>
#include <string>

#include "projections.hpp"

#include <ctype.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <complex>
#include <functional>
#include <map>
#include <variant>

namespace pj = projections;

struct named {
    static constexpr pj::event_type type{"Named", pj::raw};
    uint32_t number;
};
struct names {
    using handles = pj::events<named>;
    std::string all;
    void on(const named& e) { all += std::to_string(e.number); }
};

int main() {
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    names mine;
    const std::string name = "names";
    const pj::projection projection{name, log, mine, checkpoints};
    pj::worker worker{projection};
    const named one{7};
    static_cast<void>(log.append(one));
    if (worker.start() != pj::status::ok) return 1;
    static_cast<void>(worker.tick(0));
    return mine.all == "7" ? 0 : 2;
}
