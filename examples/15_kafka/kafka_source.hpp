// Partitions of a Kafka topic, each as the source of an event_sink of its own: the checkpoint says
// where reading begins, the broker is only told of it. To copy; needs librdkafka and nothing else.
//
// Every partition has its own queue, which is read while its sink takes messages: one that holds a
// message holds up nobody but its own partition.
//
// auto.offset.reset is `error`: with anything else, an offset that the broker no longer has, or not
// yet, is replaced without a word by the end or the beginning of the partition.
#ifndef KAFKA_SOURCE_HPP
#define KAFKA_SOURCE_HPP

#include "projections.hpp"

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pj = projections;

template<auto Destroy> struct kafka_destroyed_by {
    template<class T> void operator()(T* it) const { Destroy(it); }
};
template<class T, auto Destroy> using kafka_owned = std::unique_ptr<T, kafka_destroyed_by<Destroy>>;
using kafka_list = kafka_owned<rd_kafka_topic_partition_list_t,
                               rd_kafka_topic_partition_list_destroy>;

/// A consumer or producer; null, and said on stderr, if an option is wrong.
inline rd_kafka_t* new_kafka(
    rd_kafka_type_t type, std::initializer_list<std::pair<const char*, const char*>> options) {
    char why[256] = "";
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    bool ok = true;
    for (const auto& [name, value] : options)
        ok = ok && rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK;
    rd_kafka_t* const kafka = ok ? rd_kafka_new(type, conf, why, sizeof why) : nullptr;
    if (kafka == nullptr) {
        std::fprintf(stderr, "%s\n", why);
        rd_kafka_conf_destroy(conf);    // rd_kafka_new() takes it only when it succeeds
    }
    return kafka;
}

class kafka_source {
public:
    kafka_source(std::string topic, std::string group)
        : topic_(std::move(topic)), group_(std::move(group)) {}
    kafka_source(const kafka_source&) = delete;
    kafka_source& operator=(const kafka_source&) = delete;
    ~kafka_source() {
        if (kafka_) static_cast<void>(rd_kafka_consumer_close(kafka_.get()));
    }

    bool connect(const std::string& servers) {
        kafka_.reset(new_kafka(RD_KAFKA_CONSUMER, {{"bootstrap.servers", servers.c_str()},
                                                   {"group.id", group_.c_str()},
                                                   {"enable.auto.commit", "false"},
                                                   {"enable.auto.offset.store", "false"},
                                                   {"auto.offset.reset", "error"},
                                                   {"fetch.wait.max.ms", "50"}}));
        return kafka_ && rd_kafka_poll_set_consumer(kafka_.get()) == RD_KAFKA_RESP_ERR_NO_ERROR;
    }

    /// How many partitions the topic has; 0: not known now.
    int32_t partitions() const {
        rd_kafka_topic_t* const topic = rd_kafka_topic_new(kafka_.get(), topic_.c_str(), nullptr);
        const struct rd_kafka_metadata* found = nullptr;
        const auto err = rd_kafka_metadata(kafka_.get(), 0, topic, &found, 3000);
        int32_t count = 0;
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (found->topic_cnt == 1) count = found->topics[0].partition_cnt;
            rd_kafka_metadata_destroy(found);
        }
        rd_kafka_topic_destroy(topic);
        return count;
    }

    /// As pj::event_store::bounds: low is the oldest that is kept, high the next to be written.
    /// The broker is asked before reading begins; then what each fetch brings along will do, since
    /// asking waits behind the fetch that is under way, and an offset that is gone is an error.
    /// Kafka has a number for each topic that was created, but the client does not show it.
    pj::status bounds(int32_t partition, pj::position& trimmed, pj::position& newest) const {
        int64_t low = RD_KAFKA_OFFSET_INVALID, high = RD_KAFKA_OFFSET_INVALID;
        if (!queues_.empty())
            static_cast<void>(rd_kafka_get_watermark_offsets(kafka_.get(), topic_.c_str(),
                                                             partition, &low, &high));
        if ((low < 0 || high < 0) &&
            rd_kafka_query_watermark_offsets(kafka_.get(), topic_.c_str(), partition, &low, &high,
                                             1000) != RD_KAFKA_RESP_ERR_NO_ERROR)
            return pj::status::failed;
        trimmed = low - 1;
        newest = high - 1;
        return pj::status::ok;
    }

    /// Begins to read the partitions 0, 1, ... after these offsets. The queues are taken away from
    /// the consumer's common one before anything is assigned: after it, the first messages may have
    /// gone there already, past those who wait for them here.
    bool read_after(const std::vector<pj::position>& checkpoints) {
        queues_.clear();
        for (size_t p = 0; p < checkpoints.size(); ++p) {
            queues_.emplace_back(rd_kafka_queue_get_partition(kafka_.get(), topic_.c_str(),
                                                              static_cast<int32_t>(p)));
            if (!queues_.back()) return false;
            rd_kafka_queue_forward(queues_.back().get(), nullptr);
        }
        const kafka_list from = list_of(checkpoints);
        return rd_kafka_assign(kafka_.get(), from.get()) == RD_KAFKA_RESP_ERR_NO_ERROR;
    }

    using message = kafka_owned<rd_kafka_message_t, rd_kafka_message_destroy>;
    message next(size_t partition) const {
        return message(rd_kafka_consume_queue(queues_[partition].get(), 0));
    }
    /// Waits for whatever the client has to tell of itself, and gives it room to work. False: a
    /// message has come the wrong way, and would be lost.
    bool wait(uint32_t ms) const {
        const message word(rd_kafka_consumer_poll(kafka_.get(), pj::poll_timeout(ms)));
        if (!word) return true;
        const bool is_error = word->err != RD_KAFKA_RESP_ERR_NO_ERROR;
        std::fprintf(stderr, "%s\n", is_error ? rd_kafka_message_errstr(word.get())
                                              : "a message in the common queue");
        return is_error;
    }

    /// For those who look at the group's lag. Nothing here ever reads it back.
    void tell(const std::vector<pj::position>& checkpoints) {
        if (checkpoints == told_) return;
        const kafka_list done = list_of(checkpoints);
        if (rd_kafka_commit(kafka_.get(), done.get(), 1) == RD_KAFKA_RESP_ERR_NO_ERROR)
            told_ = checkpoints;
    }

    /// The event's type is the header `event_type`, its aggregate the key.
    static pj::stored_event event(const rd_kafka_message_t& m) {
        pj::stored_event e;
        e.at = m.offset;
        e.payload = {m.payload, m.len};
        e.aggregate_id = {m.key, m.key_len};
        rd_kafka_headers_t* headers = nullptr;
        const void* type = nullptr;
        size_t size = 0;
        if (rd_kafka_message_headers(&m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            rd_kafka_header_get_last(headers, "event_type", &type, &size) ==
                RD_KAFKA_RESP_ERR_NO_ERROR)
            e.type = pj::text{type, size};
        return e;
    }

private:
    kafka_list list_of(const std::vector<pj::position>& checkpoints) const {
        kafka_list all(rd_kafka_topic_partition_list_new(static_cast<int>(checkpoints.size())));
        for (size_t p = 0; p < checkpoints.size(); ++p)
            rd_kafka_topic_partition_list_add(all.get(), topic_.c_str(), static_cast<int32_t>(p))
                ->offset = checkpoints[p] + 1;
        return all;
    }

    std::string topic_, group_;
    kafka_owned<rd_kafka_t, rd_kafka_destroy> kafka_{};
    std::vector<kafka_owned<rd_kafka_queue_t, rd_kafka_queue_destroy>> queues_{};
    std::vector<pj::position> told_{};
};

#endif
