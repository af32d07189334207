// NATS JetStream under an event_sink: a stream is pulled, message by message; read model and
// checkpoint are one value of a key-value bucket, replaced by compare-and-set. To copy; needs
// libnats and nothing else.
//
// JetStream delivers again what was not acknowledged in time, and meanwhile goes on with what comes
// after it. A sink that counts positions would take the late one for a duplicate. So no more than
// one message is out at a time (MaxAckPending 1): nothing overtakes a message that waits for a
// process that died, or for the delay of a nak. It costs a round trip for each message.
//
// The first sequence is 1, so nothing stands at position 0.
#ifndef NATS_STORE_HPP
#define NATS_STORE_HPP

#include "projections.hpp"

#include <nats/nats.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace pj = projections;

template<auto Destroy> struct destroyed_by {
    template<class T> void operator()(T* it) const { Destroy(it); }
};
template<class T, auto Destroy> using owned = std::unique_ptr<T, destroyed_by<Destroy>>;

/// What a server says is kept for a person to read; the engine only needs to know that it failed.
class nats_link {
public:
    bool connect(const std::string& url) {
        natsOptions* options = nullptr;
        natsConnection* connection = nullptr;
        jsCtx* context = nullptr;
        bool ok = natsOptions_Create(&options) == NATS_OK;
        ok = ok && natsOptions_SetURL(options, url.c_str()) == NATS_OK;
        ok = ok && natsOptions_SetMaxReconnect(options, -1) == NATS_OK;     // as long as it takes
        ok = ok && natsOptions_SetReconnectWait(options, 50) == NATS_OK;
        ok = ok && natsConnection_Connect(&connection, options) == NATS_OK;
        natsOptions_Destroy(options);
        connection_.reset(connection);
        jsOptions wait;
        ok = ok && jsOptions_Init(&wait) == NATS_OK;
        if (!ok) return false;
        wait.Wait = 1000;
        ok = natsConnection_JetStream(&context, connection, &wait) == NATS_OK;
        context_.reset(context);
        return ok;
    }
    /// The stream and the bucket, made if they are not there.
    bool make(const char* stream, const char* subjects, const char* bucket) {
        jsStreamConfig config;
        if (jsStreamConfig_Init(&config) != NATS_OK) return false;
        config.Name = stream;
        config.Subjects = &subjects;
        config.SubjectsLen = 1;
        jsErrCode why{};
        if (js_AddStream(nullptr, context_.get(), &config, nullptr, &why) != NATS_OK &&
            why != JSStreamNameExistErr) return false;
        kvStore* kv = nullptr;
        kvConfig keys;
        if (kvConfig_Init(&keys) != NATS_OK) return false;
        keys.Bucket = bucket;
        keys.History = 1;
        if (js_KeyValue(&kv, context_.get(), bucket) != NATS_OK &&
            js_CreateKeyValue(&kv, context_.get(), &keys) != NATS_OK) return false;
        bucket_.reset(kv);
        return true;
    }
    jsCtx* context() const { return context_.get(); }
    kvStore* bucket() const { return bucket_.get(); }

private:
    owned<natsConnection, natsConnection_Destroy> connection_{};
    owned<jsCtx, jsCtx_Destroy> context_{};
    owned<kvStore, kvStore_Destroy> bucket_{};
};

/// Read model and checkpoint as one value, and a unit of work around the model in memory: whatever
/// is not committed is taken back, so that the two never differ. For models that are small enough
/// to be written with every commit.
class nats_store {
public:
    /// The model, spelled, and read back. An empty one is read from an empty text.
    struct model_text {
        std::function<std::string()> write;
        std::function<bool(const std::string&)> read;
    };
    nats_store(nats_link& link, model_text model) : link_(link), model_(std::move(model)) {}

    pj::status load(pj::text key, pj::checkpoint& out) {
        kvEntry* found = nullptr;
        const natsStatus s = kvStore_Get(&found, link_.bucket(), copy(key).c_str());
        const owned<kvEntry, kvEntry_Destroy> entry(found);
        if (s != NATS_OK && s != NATS_NOT_FOUND) return pj::status::failed;
        const std::string value =
            entry ? std::string(static_cast<const char*>(kvEntry_Value(found)),
                                static_cast<size_t>(kvEntry_ValueLen(found))) : std::string();
        const std::string model = value.size() < pj::checkpoint_bytes
                                      ? std::string() : value.substr(pj::checkpoint_bytes);
        if (entry && !pj::decode({value.data(), value.size() - model.size()}, out))
            return pj::status::checkpoint_corrupt;
        if (!model_.read(model)) return pj::status::checkpoint_corrupt;
        revision_ = entry ? kvEntry_Revision(found) : 0;
        key_ = copy(key);
        record_ = entry ? out : pj::checkpoint{};
        kept_ = record_.revision;
        is_open_ = false;               // nothing of a unit is left in the model
        return pj::status::ok;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        if (next.revision != kept_ + 1) return pj::status::conflict;
        key_ = copy(key);
        record_ = next;
        return is_open_ ? pj::status::ok : write();
    }
    /// One at a time: the effects of two could only be taken back together.
    pj::status begin() {
        if (is_open_) return pj::status::pending;
        before_ = model_.write();
        record_before_ = record_;
        is_open_ = true;
        return pj::status::ok;
    }
    /// The unit of a message that the broker is told never to deliver again has no save: then it is
    /// the record as it was that goes with the model.
    pj::status commit() {
        const pj::status s = write();
        if (s == pj::status::ok) is_open_ = false;
        return s;
    }
    pj::status rollback() {
        if (is_open_ && !model_.read(before_)) return pj::status::pending;
        if (is_open_) record_ = record_before_;
        is_open_ = false;
        return pj::status::ok;
    }

private:
    static std::string copy(pj::text t) { return std::string(t.begin(), t.end()); }

    /// By the bucket's own revision another process that wrote in between is found out. After an
    /// answer that was lost it is us, and the engine recognises that by the record.
    pj::status write() {
        uint8_t bytes[pj::checkpoint_bytes];
        pj::encode(record_, bytes);
        const std::string value = std::string(bytes, bytes + sizeof bytes) + model_.write();
        uint64_t revision = 0;
        const auto size = static_cast<int>(value.size());
        // A key that somebody has deleted has a revision of its own, which only create looks up.
        const natsStatus s =
            revision_ == 0
                ? kvStore_Create(&revision, link_.bucket(), key_.c_str(), value.data(), size)
                : kvStore_Update(&revision, link_.bucket(), key_.c_str(), value.data(), size,
                                 revision_);
        if (s == NATS_OK) {
            revision_ = revision;
            kept_ = record_.revision;
            return pj::status::ok;
        }
        const char* const why = nats_GetLastError(nullptr);
        const bool is_other = why != nullptr && std::string(why).find("wrong last sequence") !=
                                                    std::string::npos;
        return is_other ? pj::status::conflict : pj::status::failed;
    }

    nats_link& link_;
    model_text model_;
    uint64_t revision_ = 0;             // the bucket's
    uint32_t kept_ = 0;                 // the record's, as it is in the bucket
    bool is_open_ = false;
    std::string before_{}, key_{};
    pj::checkpoint record_{}, record_before_{};
};

/// The stream as a sink's source: its bounds, its pull consumer, and what is told to the broker.
class nats_source {
public:
    /// `ack_wait_ms`: after so long an unanswered message comes again, so that is how long nothing
    /// happens after a process has died with a message in hand. A handler that may take longer
    /// says natsMsg_InProgress().
    nats_source(nats_link& link, std::string stream, std::string durable, int64_t ack_wait_ms)
        : link_(link), stream_(std::move(stream)), durable_(std::move(durable)),
          ack_wait_ms_(ack_wait_ms) {}
    void feeds(const pj::event_sink& sink) { sink_ = &sink; }

    /// As pj::event_store::bounds. Messages that were removed one by one from the middle are not
    /// looked for. After a crash the server may deliver again what was acknowledged, and say that
    /// it is for the first time: it is the log's identity that then tells a duplicate.
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        jsStreamInfo* found = nullptr;
        if (js_GetStreamInfo(&found, link_.context(), stream_.c_str(), nullptr, nullptr) != NATS_OK)
            return pj::status::failed;
        const owned<jsStreamInfo, jsStreamInfo_Destroy> info(found);
        log_id = static_cast<uint64_t>(found->Created);
        if (found->State.LastSeq == 0) return pj::status::ok;
        newest = static_cast<pj::position>(found->State.LastSeq);
        if (found->State.FirstSeq > 1)
            trimmed = static_cast<pj::position>(found->State.FirstSeq - 1);
        return pj::status::ok;
    }

    /// As pj::consumer::subscribe: the checkpoint is known by now. A consumer that stands past it
    /// (the bucket was set back, or somebody acknowledged too early) would skip messages silently,
    /// so it is made anew. By one it may be past it if we died between a term and the next save:
    /// that message then comes once more, and is refused once more.
    pj::status subscribe(pj::text, pj::text) {
        const auto next = static_cast<uint64_t>(sink_->checkpointed() + 1);
        jsConsumerInfo* found = nullptr;
        jsErrCode why{};
        natsStatus s = js_GetConsumerInfo(&found, link_.context(), stream_.c_str(),
                                          durable_.c_str(), nullptr, &why);
        const owned<jsConsumerInfo, jsConsumerInfo_Destroy> info(found);
        if (s != NATS_OK && s != NATS_NOT_FOUND) return pj::status::failed;
        const uint64_t floor = info ? info->AckFloor.Stream : 0;
        if (info && floor >= next && floor != 0) {
            std::fprintf(stderr, "consumer at %llu past checkpoint %llu\n",
                         static_cast<unsigned long long>(floor),
                         static_cast<unsigned long long>(next - 1));
            s = js_DeleteConsumer(link_.context(), stream_.c_str(), durable_.c_str(), nullptr,
                                  nullptr);
            if (s != NATS_OK) return pj::status::failed;
        }
        if (!info || floor >= next) {
            if (!make_consumer(next)) return pj::status::failed;
        }
        jsSubOptions options;
        natsSubscription* subscription = nullptr;
        if (jsSubOptions_Init(&options) != NATS_OK) return pj::status::failed;
        options.Stream = stream_.c_str();
        options.Consumer = durable_.c_str();
        s = js_PullSubscribe(&subscription, link_.context(), nullptr, durable_.c_str(), nullptr,
                             &options, nullptr);
        subscription_.reset(subscription);
        return s == NATS_OK ? pj::status::ok : pj::status::failed;
    }
    pj::status unsubscribe(pj::text, pj::text) {
        subscription_.reset();          // the consumer stays, and what it knows
        return pj::status::ok;
    }

    /// The next message, if one comes within the time.
    bool fetch(uint32_t wait_ms) {
        message_.reset();
        natsMsgList list{nullptr, 0};
        if (!subscription_ || natsSubscription_Fetch(&list, subscription_.get(), 1, wait_ms,
                                                     nullptr) != NATS_OK) return false;
        if (list.Count == 1) std::swap(*list.Msgs, own_);
        message_.reset(std::exchange(own_, nullptr));
        natsMsgList_Destroy(&list);
        return message_ && read_meta();
    }
    /// Type is the subject's last word, aggregate the one before it.
    pj::stored_event event() const {
        const pj::text subject = natsMsg_GetSubject(message_.get());
        size_t type = subject.size(), aggregate;
        while (type > 0 && subject.data()[type - 1] != '.') --type;
        aggregate = type > 0 ? type - 1 : 0;
        while (aggregate > 0 && subject.data()[aggregate - 1] != '.') --aggregate;
        pj::stored_event e;
        e.at = at_;
        e.type = pj::text{subject.data() + type, subject.size() - type};
        if (type > 0) e.aggregate_id = {subject.data() + aggregate, type - 1 - aggregate};
        e.payload = {natsMsg_GetData(message_.get()),
                     static_cast<size_t>(natsMsg_GetDataLength(message_.get()))};
        return e;
    }
    bool is_redelivered() const { return redelivered_; }
    /// Nothing overtakes a held message here: this one does, so somebody else has taken that one, or
    /// it is gone from the stream. The sink would wait for it for ever; end, and start anew.
    bool is_overtaken() const { return held_at_ != pj::before_first && at_ > held_at_; }
    bool is_subscribed() const { return subscription_ != nullptr; }

    /// Tells the broker. What it does not hear, it delivers again.
    void answer(const pj::receive_result& r) {
        if (r.answer != pj::receipt::hold && at_ == held_at_) held_at_ = pj::before_first;
        if (r.answer == pj::receipt::hold && held_at_ == pj::before_first) held_at_ = at_;
        switch (r.answer) {
        case pj::receipt::ack:
        case pj::receipt::later:        // not with a unit of work
            static_cast<void>(natsMsg_Ack(message_.get(), nullptr));
            break;
        case pj::receipt::hold: {
            // A delay of zero is one of for ever for some servers; `never` is for the sink to end.
            const int64_t ms = r.wait_ms == 0 ? 1 : pj::sooner(r.wait_ms, 1000);
            static_cast<void>(natsMsg_NakWithDelay(message_.get(), ms, nullptr));
            break;
        }
        case pj::receipt::reject:
            static_cast<void>(natsMsg_Term(message_.get(), nullptr));
            break;
        }
        message_.reset();
    }

private:
    bool make_consumer(uint64_t next) {
        jsConsumerConfig config;
        if (jsConsumerConfig_Init(&config) != NATS_OK) return false;
        config.Durable = durable_.c_str();
        config.AckPolicy = js_AckExplicit;
        config.AckWait = ack_wait_ms_ * 1000000;
        config.MaxAckPending = 1;
        config.MaxDeliver = -1;         // any number would drop the message silently after it
        config.DeliverPolicy = next > 1 ? js_DeliverByStartSequence : js_DeliverAll;
        config.OptStartSeq = next > 1 ? next : 0;
        return js_AddConsumer(nullptr, link_.context(), stream_.c_str(), &config, nullptr,
                              nullptr) == NATS_OK;
    }
    bool read_meta() {
        jsMsgMetaData* found = nullptr;
        if (natsMsg_GetMetaData(&found, message_.get()) != NATS_OK) return false;
        at_ = static_cast<pj::position>(found->Sequence.Stream);
        redelivered_ = found->NumDelivered > 1;
        jsMsgMetaData_Destroy(found);
        return true;
    }

    nats_link& link_;
    std::string stream_, durable_;
    int64_t ack_wait_ms_;
    const pj::event_sink* sink_ = nullptr;
    owned<natsSubscription, natsSubscription_Destroy> subscription_{};
    owned<natsMsg, natsMsg_Destroy> message_{};
    natsMsg* own_ = nullptr;
    pj::position at_ = pj::before_first, held_at_ = pj::before_first;
    bool redelivered_ = false;
};

#endif
