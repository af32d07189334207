// Parking garages on NATS JetStream: barriers publish who enters and leaves; one sink keeps, for
// each garage, how many cars are inside, how many were at most, and how many have entered.
//
//   needs   NATS with JetStream and its C client (Debian: nats-server, libnats-dev)
//   build   c++ -std=c++17 -I. examples/13_nats/parking.cpp -lnats -o parking
//   run     nats-server -a 127.0.0.1 -p 4222 -js -sd /tmp/nats &
//           ./parking publish 127.0.0.1:4222 2000 &      # prints each event's sequence
//           ./parking work 127.0.0.1:4222                # kill it when you like, start it again
//           ./parking show 127.0.0.1:4222                # another terminal
//
// It shows the three answers to the broker: ack once model and checkpoint are committed, nak with
// the engine's own delay while a handler cannot, term for what no retry will help. Killed at any
// moment, it counts no car twice and forgets none.
#include "nats_store.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>
#include <thread>

namespace {

struct plate {
    std::string number;
    static bool decode_into(const pj::stored_event& in, std::string& out) {
        out.assign(in.payload.text().begin(), in.payload.text().end());
        return out.size() >= 4 && out.size() <= 8;
    }
};
struct car_entered : plate {
    static constexpr pj::event_type type{"entered"};
    static bool decode(const pj::stored_event& in, car_entered& out) {
        return decode_into(in, out.number);
    }
};
struct car_left : plate {
    static constexpr pj::event_type type{"left"};
    static bool decode(const pj::stored_event& in, car_left& out) {
        return decode_into(in, out.number);
    }
};

/// The model. That a plate is inside tells one that enters twice, and the order of the events.
class garages {
public:
    using handles = pj::events<car_entered, car_left>;

    explicit garages(unsigned seed) : random_(seed) {}
    pj::verdict on(const car_entered&, const pj::context& c) {
        garage& g = of(c);
        if (++g.inside > g.most) g.most = g.inside;
        ++g.entered;
        return after_all();
    }
    pj::verdict on(const car_left&, const pj::context& c) {
        garage& g = of(c);
        if (g.inside > 0) --g.inside;
        return after_all();
    }

    std::string write() const {
        std::ostringstream out;
        for (const auto& [name, g] : all_)
            out << name << ' ' << g.inside << ' ' << g.most << ' ' << g.entered << '\n';
        return out.str();
    }
    bool read(const std::string& text) {
        std::istringstream in(text);
        std::string name;
        all_.clear();
        while (in >> name) {
            garage& g = all_[name];
            if (!(in >> g.inside >> g.most >> g.entered)) return false;
        }
        return true;
    }

private:
    struct garage { unsigned inside = 0, most = 0, entered = 0; };

    garage& of(const pj::context& c) {
        return all_[std::string(c.event.aggregate_id.begin(), c.event.aggregate_id.end())];
    }
    /// Now and then something else that is needed does not answer, when half is done already.
    pj::verdict after_all() { return random_() % 50 == 0 ? pj::fail() : pj::handled; }

    std::map<std::string, garage> all_{};
    std::mt19937 random_;
};

uint32_t now_ms() {
    using namespace std::chrono;
    return static_cast<uint32_t>(
        duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}

volatile std::sig_atomic_t is_told_to_end = 0;

int work(nats_link& link) {
    garages model{std::random_device{}()};
    nats_store store{link, {[&] { return model.write(); },
                            [&](const std::string& text) { return model.read(text); }}};
    nats_source source{link, "PARKING", "garages", 500};
    pj::projection described{"garages", {}, model, store};
    described.log.bounds = [](void* self, pj::position& trimmed, pj::position& newest,
                              uint64_t& log_id) {
        return static_cast<nats_source*>(self)->bounds(trimmed, newest, log_id);
    };
    described.log.self = &source;
    described.transaction = store;
    described.on_error = pj::error_policy::retry_then_dead_letter(50);  // no sink: the broker's
    described.delays = {2, 50, 2, 20, now_ms()};
    pj::sink_options options;
    options.client = source;
    pj::event_sink sink{described, options};
    source.feeds(sink);
    pj::status s = sink.start();
    if (s != pj::status::ok) return std::fprintf(stderr, "%s\n", pj::to_string(s)), 2;

    while (sink.running()) {
        if (is_told_to_end != 0) sink.stop();
        const uint32_t wait_ms = sink.tick(now_ms()).wait_ms;
        if (!sink.running()) break;
        if (source.fetch(pj::sooner(wait_ms == 0 ? 1 : wait_ms, 100))) {
            if (source.is_overtaken())
                return std::fprintf(stderr, "the held message was taken by another\n"), 3;
            source.answer(sink.receive(source.event(), now_ms(), source.is_redelivered()));
        } else if (!source.is_subscribed())
            std::this_thread::sleep_for(std::chrono::milliseconds(pj::sooner(wait_ms, 50)));
    }
    if (sink.reason() == pj::status::ok) return 0;
    std::fprintf(stderr, "%s\n", pj::to_string(sink.reason()));
    return 3;
}

int publish(nats_link& link, long count, unsigned seed) {
    std::mt19937 random(seed);
    for (long i = 0; i < count && is_told_to_end == 0; ++i) {
        const bool enters = random() % 5 < 3;
        const bool is_misread = random() % 50 == 0;
        const std::string subject = "parking.garage-" + std::to_string(random() % 5) +
                                    (enters ? ".entered" : ".left");
        const std::string car = is_misread ? "?" : "B-" + std::to_string(1000 + random() % 9000);
        jsPubAck* ack = nullptr;
        if (js_Publish(&ack, link.context(), subject.c_str(), car.data(),
                       static_cast<int>(car.size()), nullptr, nullptr) != NATS_OK) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));     // perhaps published
            continue;
        }
        std::printf("%llu\n", static_cast<unsigned long long>(ack->Sequence));
        std::fflush(stdout);
        jsPubAck_Destroy(ack);
    }
    return 0;
}

int show(nats_link& link) {
    garages model{0};
    nats_store store{link, {[&] { return model.write(); },
                            [&](const std::string& text) { return model.read(text); }}};
    pj::checkpoint record;
    if (store.load("garages", record) != pj::status::ok) return 1;
    std::printf("up to %lld: garage, inside, most, entered\n%s", static_cast<long long>(record.at),
                model.write().c_str());
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    const std::string what = count > 2 ? arguments[1] : "";
    std::signal(SIGTERM, [](int) { is_told_to_end = 1; });
    nats_link link;
    if (count > 2 && !(link.connect(std::string("nats://") + arguments[2]) &&
                       link.make("PARKING", "parking.>", "models"))) {
        std::fprintf(stderr, "%s\n", nats_GetLastError(nullptr));
        return 1;
    }
    if (what == "work") return work(link);
    if (what == "publish" && count > 3)
        return publish(link, std::atol(arguments[3]),
                       count > 4 ? static_cast<unsigned>(std::atol(arguments[4])) : 1);
    if (what == "show") return show(link);
    std::fprintf(stderr, "parking publish|work|show ADDRESS [COUNT] [SEED]\n");
    return 2;
}
