// Temperatures from many devices over MQTT: for each device how many readings there were, their
// sum, the last one, and how often it rose.
//
//   needs   an MQTT broker (Debian: mosquitto); the client is mqtt_client.hpp
//   build   c++ -std=c++17 -I. examples/14_mqtt/sensors.cpp -o sensors
//   run     mosquitto -p 1883 &                          # see below
//           ./sensors work 1883 state &                  # kill it when you like, start it again
//           ./sensors publish 1883 boiler 1 1000         # readings 1 to 1000 of one device
//           ./sensors show state
//
// It shows acknowledgements that are ours: PUBACK goes out when the reading is counted and on the
// disk. MQTT has no offsets, so each device numbers its readings, and has a sink of its own; the
// number is the position, and tells what comes twice, from the broker or from the device. What no
// retry will help becomes a file under state/letters.
//
// For a client that is away, mosquitto keeps 1000 messages and drops the rest without a word,
// unless max_queued_messages says otherwise; and it keeps them in memory until autosave_interval.
#include "../snapshot_file.hpp"
#include "mqtt_client.hpp"

#include <dirent.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

namespace {

std::mt19937 dice{std::random_device{}()};

struct reading {
    static constexpr pj::event_type type{"reading"};
    int celsius = 0;
    static bool decode(const pj::stored_event& in, reading& out) {
        const std::string text(in.payload.text().begin(), in.payload.text().end());
        char* end = nullptr;
        out.celsius = static_cast<int>(std::strtol(text.c_str(), &end, 10));
        return !text.empty() && *end == '\0';
    }
};

struct summary {
    using handles = pj::events<reading>;
    long count = 0, sum = 0, last = 0, rises = 0;

    pj::verdict on(const reading& e) {
        ++count;
        sum += e.celsius;
        if (e.celsius > last) ++rises;
        last = e.celsius;
        // Now and then something else that is needed does not answer, when half is done already.
        return dice() % 40 == 0 ? pj::fail() : pj::handled;
    }
    std::string write() const {
        return std::to_string(count) + ' ' + std::to_string(sum) + ' ' + std::to_string(last) +
               ' ' + std::to_string(rises) + '\n';
    }
    bool read(const std::string& text) {
        *this = {};
        std::istringstream in(text);
        return text.empty() || in >> count >> sum >> last >> rises;
    }
};

struct letters {
    std::string folder;
    /// The file's name is the letter's key, so that it may be put again.
    pj::status put(const pj::dead_letter& letter) {
        const std::string name = std::string(letter.projection.begin(), letter.projection.end()) +
                                 '.' + std::to_string(letter.event.at);
        const pj::text payload = letter.event.payload.text();
        return replace_file(folder, name, std::string(payload.begin(), payload.end()))
                   ? pj::status::ok : pj::status::failed;
    }
};

/// A device, its model and its sink.
struct device {
    std::string name;
    letters lettered;
    summary model{};
    snapshot_file store;
    pj::projection described;
    pj::event_sink sink{described};

    device(const std::string& folder, const std::string& called)
        : name(called), lettered{folder + "/letters"},
          store(folder, called + ".model",
                {[this] { return model.write(); },
                 [this](const std::string& text) { return model.read(text); }}),
          described{name, {}, model, store} {
        described.transaction = store;
        described.dead_letters = lettered;
        described.on_error = pj::error_policy::retry_then_dead_letter(50);
        described.delays = {2, 50, 2, 20, static_cast<uint32_t>(dice())};
        // The numbers are the device's, for all its life: at or below the checkpoint is a
        // repetition, whether the broker knows that or not.
        sink.accept_up_to(INT64_MAX);
    }
    device(const device&) = delete;
    device& operator=(const device&) = delete;
};

uint32_t now_ms() {
    using namespace std::chrono;
    return static_cast<uint32_t>(
        duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}
void sleep_ms(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

volatile std::sig_atomic_t is_told_to_end = 0;

class station {
public:
    station(uint16_t port, const std::string& folder) : port_(port), folder_(folder) {}

    int work() {
        pj::status halted = pj::status::ok;
        while (is_told_to_end == 0 && halted == pj::status::ok) {
            uint32_t wait_ms = 100;
            for (auto& [name, d] : devices_) {
                wait_ms = pj::sooner(wait_ms, d->sink.tick(now_ms()).wait_ms);
                if (d->sink.state() == pj::run_state::halted) halted = d->sink.reason();
            }
            while (client_.oldest() != nullptr) {
                const uint32_t hold_ms = handle(*client_.oldest());
                if (hold_ms != done) {
                    wait_ms = pj::sooner(wait_ms, hold_ms);
                    break;
                }
                static_cast<void>(client_.acknowledge());
            }
            if (!client_.receive(wait_ms) && !connect()) sleep_ms(50);
        }
        if (halted == pj::status::ok) return 0;         // nothing is unsaved
        std::fprintf(stderr, "%s\n", pj::to_string(halted));
        return 3;
    }

private:
    static constexpr uint32_t done = pj::never;
    static constexpr size_t longest_name = 200;     // of a device

    bool connect() { return client_.connect(port_, "station") && client_.subscribe("sensors/+"); }

    /// sensors/NAME, "NUMBER CELSIUS". How long to keep it, or `done`.
    uint32_t handle(const mqtt_client::message& m) {
        const std::string name = m.topic.substr(m.topic.rfind('/') + 1);
        char* rest = nullptr;
        const long long number = std::strtoll(m.payload.c_str(), &rest, 10);
        // Nobody's reading; or one whose files could not be made, which the others would wait for.
        if (number < 0 || *rest != ' ' || name.size() > longest_name) return done;
        std::unique_ptr<device>& d = devices_[name];
        if (!d) {
            d.reset(new device{folder_, name});
            if (d->sink.start() != pj::status::ok) return 100;
        }
        pj::stored_event e;
        e.at = number;
        e.type = reading::type;
        e.aggregate_id = name;
        const char* const end = m.payload.c_str() + m.payload.size();
        e.payload = {rest + 1, static_cast<size_t>(end - rest - 1)};
        const pj::receive_result r = d->sink.receive(e, now_ms(), m.is_repeated);
        return r.answer == pj::receipt::hold ? pj::sooner(r.wait_ms, 100) : done;
    }

    uint16_t port_;
    std::string folder_;
    mqtt_client client_{};
    std::map<std::string, std::unique_ptr<device>> devices_{};
};

/// Prints the number of each reading that the broker has.
int publish(uint16_t port, const std::string& name, long first, long count) {
    mqtt_client client;
    for (long n = first; n < first + count && is_told_to_end == 0;) {
        const std::string celsius = n % 50 == 0 ? "broken" : std::to_string(n * 37 % 90 - 20);
        if (client.publish("sensors/" + name, std::to_string(n) + ' ' + celsius)) {
            std::printf("%ld\n", n++);
            std::fflush(stdout);
        } else if (!client.connect(port, "device-" + name)) {
            sleep_ms(50);
        }
    }
    return 0;
}

int show(const std::string& folder) {
    DIR* const all = ::opendir(folder.c_str());
    if (all == nullptr) return 1;
    for (const dirent* entry = ::readdir(all); entry != nullptr; entry = ::readdir(all)) {
        const std::string file = entry->d_name;
        const size_t dot = file.rfind(".model");
        if (dot == std::string::npos || dot + 6 != file.size()) continue;
        device d{folder, file.substr(0, dot)};
        pj::checkpoint record;
        if (d.store.load(d.name, record) != pj::status::ok) return 1;
        std::printf("%s, up to %lld: count, sum, last, rises: %s", d.name.c_str(),
                    static_cast<long long>(record.at), d.model.write().c_str());
    }
    ::closedir(all);
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    const std::string what = count > 2 ? arguments[1] : "";
    std::signal(SIGTERM, [](int) { is_told_to_end = 1; });
    const auto port = static_cast<uint16_t>(count > 2 ? std::atoi(arguments[2]) : 0);
    if (what == "work" && count == 4) {
        const std::string folder = arguments[3];
        if (!lock_folder(folder)) {
            std::fprintf(stderr, "another one works in %s\n", folder.c_str());
            return 2;
        }
        ::mkdir((folder + "/letters").c_str(), 0755);
        return station{port, folder}.work();
    }
    if (what == "publish" && count == 6)
        return publish(port, arguments[3], std::atol(arguments[4]), std::atol(arguments[5]));
    if (what == "show") return show(arguments[2]);
    std::fprintf(stderr,
                 "sensors work PORT FOLDER | publish PORT NAME FIRST COUNT | show FOLDER\n");
    return 2;
}
