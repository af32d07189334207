// Visits of web sites from a Kafka topic: per site how many there were, how long they took
// together, how long the last one, and how often one was longer than the one before it.
//
//   needs   Kafka and its C client (Debian: librdkafka-dev)
//   build   c++ -std=c++17 -I. examples/15_kafka/visits.cpp -lrdkafka -o visits
//   run     ./visits work localhost:9092 state &         # kill it when you like, start it again
//           ./visits publish localhost:9092 10000 1      # prints what was published, and where
//           ./visits show state
//
// It shows one sink per partition, offsets as positions, and a save for many messages: model and
// checkpoint of a partition are one file, so whatever was done after the last save is done again
// from the very state that it began with. What no retry will help becomes a file in state/letters.
#include "../snapshot_file.hpp"
#include "kafka_source.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>
#include <thread>

namespace {

constexpr char topic[] = "visits";
std::mt19937 dice{std::random_device{}()};

struct visit_ended {
    static constexpr pj::event_type type{"VisitEnded"};
    long ms = 0;
    static bool decode(const pj::stored_event& in, visit_ended& out) {
        const std::string text(in.payload.text().begin(), in.payload.text().end());
        char* end = nullptr;
        out.ms = std::strtol(text.c_str(), &end, 10);
        return !text.empty() && *end == '\0';
    }
};

class sites {
public:
    using handles = pj::events<visit_ended>;
    static constexpr uint32_t no_site = 1;              // our code, in letters

    pj::verdict on(const visit_ended& e, const pj::context& c) {
        // Now and then something else that is needed does not answer. Without a unit of work this
        // is found out before anything is changed.
        if (dice() % 100 == 0) return pj::fail();
        const pj::text name = c.event.aggregate_id;
        // write() would make a text of it that read() takes for another one.
        if (!is_word(name)) return pj::reject(no_site);
        site& s = all_[std::string(name.begin(), name.end())];
        ++s.visits;
        s.ms += e.ms;
        if (e.ms > s.last_ms) ++s.rises;
        s.last_ms = e.ms;
        return pj::handled;
    }
    std::string write() const {
        std::ostringstream out;
        for (const auto& [name, s] : all_)
            out << name << ' ' << s.visits << ' ' << s.ms << ' ' << s.last_ms << ' ' << s.rises
                << '\n';
        return out.str();
    }
    bool read(const std::string& text) {
        std::istringstream in(text);
        std::string name;
        all_.clear();
        while (in >> name) {
            site& s = all_[name];
            if (!(in >> s.visits >> s.ms >> s.last_ms >> s.rises)) return false;
        }
        return true;
    }

private:
    struct site { long visits = 0, ms = 0, last_ms = 0, rises = 0; };
    /// A message's key may hold anything, or be missing.
    static bool is_word(pj::text name) {
        for (const char c : name)
            if (static_cast<unsigned char>(c) <= ' ') return false;
        return !name.empty();
    }
    std::map<std::string, site> all_{};
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

/// A partition of the topic, its model and its sink. Offsets are per partition, so the checkpoint
/// is, too.
struct part {
    kafka_source& source;
    int32_t number;
    std::string name;
    letters lettered;
    sites model{};
    snapshot_file store;
    pj::projection described;
    pj::event_sink sink{described};
    kafka_source::message held{};       // what the sink has not taken yet

    part(kafka_source& from, int32_t n, const std::string& folder)
        : source(from), number(n), name(std::string(topic) + '_' + std::to_string(n)),
          lettered{folder + "/letters"},
          store(folder, name + ".model",
                {[this] { return model.write(); },
                 [this](const std::string& text) { return model.read(text); }}),
          described{name, {}, model, store} {
        described.log.self = this;
        described.log.bounds = [](void* self, pj::position& trimmed, pj::position& newest,
                                  uint64_t&) {
            const part& me = *static_cast<part*>(self);
            return me.source.bounds(me.number, trimmed, newest);
        };
        described.dead_letters = lettered;
        described.on_error = pj::error_policy::retry_then_dead_letter(50);
        described.delays = {2, 50, 2, 20, static_cast<uint32_t>(dice())};
        described.save = {50, 200, true};
    }
    part(const part&) = delete;
    part& operator=(const part&) = delete;
};

uint32_t now_ms() {
    using namespace std::chrono;
    return static_cast<uint32_t>(
        duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}

volatile std::sig_atomic_t is_told_to_end = 0;

/// Offers what has come until nothing is left or the sink holds it. False: there is no more to
/// come.
bool feed(part& p, uint32_t& wait_ms) {
    for (int n = 0; n < 100; ++n) {
        if (!p.held) p.held = p.source.next(static_cast<size_t>(p.number));
        if (!p.held) return true;
        if (p.held->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            const pj::receive_result r = p.sink.receive(kafka_source::event(*p.held), now_ms());
            if (r.answer == pj::receipt::hold) {
                wait_ms = pj::sooner(wait_ms, r.wait_ms);
                return true;
            }
        } else if (p.held->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
            std::fprintf(stderr, "%s: %s\n", p.name.c_str(), rd_kafka_message_errstr(p.held.get()));
            return false;               // the events after the checkpoint are gone
        }
        p.held.reset();                 // other errors pass by themselves
    }
    wait_ms = 0;
    return true;
}

/// All checkpoints are loaded, and found to be within what the broker has.
bool begin(kafka_source& source, std::vector<std::unique_ptr<part>>& parts) {
    std::vector<pj::position> checkpoints;
    for (const auto& p : parts) {
        if (p->sink.start() != pj::status::ok) return false;
        while (p->sink.running() && p->sink.lag() < 0) {
            const uint32_t wait_ms = p->sink.tick(now_ms()).wait_ms;
            if (p->sink.lag() < 0 && p->sink.running() && !source.wait(pj::sooner(wait_ms, 100)))
                return false;
        }
        if (!p->sink.running()) {
            std::fprintf(stderr, "%s: %s\n", p->name.c_str(), pj::to_string(p->sink.reason()));
            return false;
        }
        checkpoints.push_back(p->sink.checkpointed());
    }
    return source.read_after(checkpoints);
}

int work(const char* servers, const std::string& folder) {
    kafka_source source{topic, "visits"};
    if (!source.connect(servers)) return 1;
    std::vector<std::unique_ptr<part>> parts;
    for (int32_t n = 0, count = source.partitions(); n < count; ++n)
        parts.emplace_back(new part{source, n, folder});
    if (parts.empty() || !begin(source, parts)) return 3;

    for (bool running = true; running;) {
        uint32_t wait_ms = 20;
        std::vector<pj::position> checkpoints;
        running = false;
        for (const auto& p : parts) {
            if (is_told_to_end != 0) p->sink.stop();
            wait_ms = pj::sooner(wait_ms, p->sink.tick(now_ms()).wait_ms);
            if (is_told_to_end == 0 && !feed(*p, wait_ms)) return 3;
            running = running || p->sink.running();
            checkpoints.push_back(p->sink.checkpointed());
        }
        source.tell(checkpoints);
        if (running && !source.wait(wait_ms)) return 3;
    }
    int code = 0;
    for (const auto& p : parts) {
        if (p->sink.reason() == pj::status::ok) continue;
        std::fprintf(stderr, "%s: %s\n", p->name.c_str(), pj::to_string(p->sink.reason()));
        code = 3;
    }
    return code;
}

void delivered(rd_kafka_t*, const rd_kafka_message_t* m, void*) {
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) return;
    std::printf("%d %lld %.*s %.*s\n", static_cast<int>(m->partition),
                static_cast<long long>(m->offset), static_cast<int>(m->len),
                static_cast<const char*>(m->payload), static_cast<int>(m->key_len),
                m->key != nullptr ? static_cast<const char*>(m->key) : "");
}

bool publish_one(rd_kafka_t* kafka, std::string site, std::string ms) {
    rd_kafka_vu_t what[5]{};
    what[0].vtype = RD_KAFKA_VTYPE_TOPIC;
    what[0].u.cstr = topic;
    what[1].vtype = RD_KAFKA_VTYPE_KEY;
    what[1].u.mem = {site.empty() ? nullptr : site.data(), site.size()};
    what[2].vtype = RD_KAFKA_VTYPE_VALUE;
    what[2].u.mem = {ms.data(), ms.size()};
    what[3].vtype = RD_KAFKA_VTYPE_HEADER;
    what[3].u.header = {"event_type", "VisitEnded", -1};
    what[4].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
    what[4].u.i = RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK;
    rd_kafka_error_t* const error = rd_kafka_produceva(kafka, what, 5);
    if (error != nullptr) rd_kafka_error_destroy(error);
    return error == nullptr;
}

int publish(const char* servers, long count, unsigned seed) {
    std::mt19937 random(seed);
    char why[256] = "";
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", servers, why, sizeof why) != RD_KAFKA_CONF_OK)
        return 1;
    rd_kafka_t* const kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (kafka == nullptr) return 1;
    for (long i = 0; i < count && is_told_to_end == 0; ++i) {
        std::string site = "site-" + std::to_string(random() % 12);
        if (random() % 50 == 0) site = random() % 2 == 0 ? "" : "a site";       // not one of ours
        const std::string ms = random() % 50 == 0 ? "long" : std::to_string(random() % 60000);
        if (!publish_one(kafka, site, ms)) break;
        rd_kafka_poll(kafka, 0);
    }
    const bool all = rd_kafka_flush(kafka, 20000) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_destroy(kafka);
    return all ? 0 : 1;
}

int show(const std::string& folder) {
    kafka_source nothing{topic, "none"};
    for (int32_t n = 0;; ++n) {
        part p{nothing, n, folder};
        pj::checkpoint record;
        if (p.store.load(p.name, record) != pj::status::ok) return 1;
        if (record.revision == 0) return 0;
        std::printf("%s up to %lld\n%s", p.name.c_str(), static_cast<long long>(record.at),
                    p.model.write().c_str());
    }
}

} // namespace

int main(int count, char** arguments) {
    const std::string what = count > 2 ? arguments[1] : "";
    std::signal(SIGTERM, [](int) { is_told_to_end = 1; });
    if (what == "work" && count == 4) {
        const std::string folder = arguments[3];
        if (!lock_folder(folder)) {
            std::fprintf(stderr, "another one works in %s\n", folder.c_str());
            return 2;
        }
        ::mkdir((folder + "/letters").c_str(), 0755);
        return work(arguments[2], folder);
    }
    if (what == "publish" && count == 5)
        return publish(arguments[2], std::atol(arguments[3]),
                       static_cast<unsigned>(std::atol(arguments[4])));
    if (what == "show") return show(arguments[2]);
    std::fprintf(stderr, "visits work SERVERS FOLDER | publish SERVERS COUNT SEED | show FOLDER\n");
    return 2;
}
