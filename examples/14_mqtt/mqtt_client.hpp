// As much of MQTT 3.1.1 as a consumer at QoS 1 needs, so that the acknowledgement is ours:
// libmosquitto and Paho's C client send it before, or while, they call back, and a message that is
// in work when the process dies is gone. Here PUBACK is sent by acknowledge() and by nothing else.
// To copy; POSIX sockets and nothing else; one thread; no TLS.
//
// What is not acknowledged the broker delivers again when the client comes back under its name
// (clean session off), first of all, in the order it had, marked as a repetition.
#ifndef MQTT_CLIENT_HPP
#define MQTT_CLIENT_HPP

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

class mqtt_client {
public:
    struct message {
        std::string topic, payload;
        uint16_t id;                    // 0: QoS 0, nothing to acknowledge
        bool is_repeated;
    };

    mqtt_client() = default;
    mqtt_client(const mqtt_client&) = delete;
    mqtt_client& operator=(const mqtt_client&) = delete;
    ~mqtt_client() { close(); }

    /// Messages received before and not acknowledged are forgotten: they come again.
    bool connect(uint16_t port, const std::string& client_id) {
        close();
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_port = htons(port);
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const auto* const address = static_cast<const sockaddr*>(static_cast<const void*>(&where));
        if (socket_ < 0 || ::connect(socket_, address, sizeof where) != 0) return false;
        std::string body = text("MQTT") + '\4' + '\0' + number(keep_alive_s) + text(client_id);
        return send('\x10', body) && wait_for(connected_);
    }
    bool subscribe(const std::string& filter) {
        return send('\x82', number(next_id()) + text(filter) + '\1') && wait_for(subscribed_);
    }
    /// Publishes at QoS 1 and waits until the broker has it. False: perhaps it has.
    bool publish(const std::string& topic, const std::string& payload) {
        sent_ = next_id();
        is_published_ = false;
        return send('\x32', text(topic) + number(sent_) + payload) && wait_for(is_published_);
    }

    /// The oldest message that was not acknowledged; the same until it is.
    const message* oldest() const { return inbox_.empty() ? nullptr : &inbox_.front(); }
    /// Acknowledges it. The standard wants the order in which messages came.
    bool acknowledge() {
        const uint16_t id = inbox_.front().id;
        inbox_.pop_front();
        return id == 0 || send('\x40', number(id));
    }

    /// Receives what comes within the time. False: the connection is gone.
    bool receive(uint32_t wait_ms) {
        if (socket_ < 0) return false;
        using namespace std::chrono;
        if (steady_clock::now() - last_sent_ > seconds(keep_alive_s / 3) && !send('\xC0', ""))
            return false;
        pollfd ready{socket_, POLLIN, 0};
        const int n = ::poll(&ready, 1, static_cast<int>(wait_ms));
        if (n <= 0) return true;
        char part[4096];
        const ssize_t size = ::recv(socket_, part, sizeof part, 0);
        if (size <= 0) return close();
        received_.append(part, static_cast<size_t>(size));
        return take_packets() || close();
    }
    /// Always false.
    bool close() {
        if (socket_ >= 0) ::close(socket_);
        socket_ = -1;
        inbox_.clear();
        received_.clear();
        connected_ = subscribed_ = false;
        return false;
    }

private:
    static constexpr uint16_t keep_alive_s = 30;

    static std::string number(unsigned n) {
        return {static_cast<char>(n >> 8 & 0xFF), static_cast<char>(n & 0xFF)};
    }
    static std::string text(const std::string& s) {
        return number(static_cast<unsigned>(s.size())) + s;
    }
    static uint16_t number_at(const std::string& in, size_t at) {
        return static_cast<uint16_t>(static_cast<unsigned char>(in[at]) << 8 |
                                     static_cast<unsigned char>(in[at + 1]));
    }
    uint16_t next_id() { return last_id_ = static_cast<uint16_t>(last_id_ % 0xFFFF + 1); }

    bool send(char type, const std::string& body) {
        std::string packet(1, type);
        size_t left = body.size();
        do {                            // the length, seven bits at a time
            const auto low = static_cast<char>(left & 0x7F);
            left >>= 7;
            packet += static_cast<char>(left != 0 ? low | '\x80' : low);
        } while (left != 0);
        packet += body;
        for (size_t done = 0; done < packet.size();) {
            const ssize_t n = ::send(socket_, packet.data() + done, packet.size() - done,
                                     MSG_NOSIGNAL);
            if (n <= 0) return close();
            done += static_cast<size_t>(n);
        }
        last_sent_ = std::chrono::steady_clock::now();
        return true;
    }
    bool wait_for(const bool& what) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
        while (!what && std::chrono::steady_clock::now() < until) {
            if (!receive(100)) return false;
        }
        return what || close();
    }

    /// False: that is not MQTT, or the broker has refused.
    bool take_packets() {
        for (;;) {
            size_t length = 0, at = 1;
            for (unsigned shift = 0;; shift += 7, ++at) {
                if (shift > 21) return false;
                if (at >= received_.size()) return true;        // not all of it is here yet
                length |= (static_cast<unsigned char>(received_[at]) & size_t{0x7F}) << shift;
                if ((received_[at] & '\x80') == 0) break;
            }
            ++at;
            if (received_.size() - at < length) return true;
            const auto first = static_cast<unsigned char>(received_[0]);
            const std::string body = received_.substr(at, length);
            received_.erase(0, at + length);
            if (!take(first, body)) return false;
        }
    }
    bool take(unsigned first, const std::string& body) {
        const bool has_answer = body.size() >= 2;
        switch (first >> 4) {
        case 2: connected_ = has_answer && body[1] == 0; return connected_;
        case 3: return take_message(first, body);
        case 4: if (has_answer && number_at(body, 0) == sent_) is_published_ = true; return true;
        case 9: subscribed_ = body.size() == 3 && body[2] == 1; return subscribed_;
        default: return true;           // the answer to a ping
        }
    }
    bool take_message(unsigned first, const std::string& body) {
        const bool has_id = (first & 6u) != 0;
        const size_t topic = body.size() < 2 ? body.size() : number_at(body, 0);
        const size_t payload = 2 + topic + (has_id ? 2 : 0);
        if ((first & 4u) != 0 || payload > body.size()) return false;   // QoS 2 was not asked for
        inbox_.push_back({body.substr(2, topic), body.substr(payload),
                          has_id ? number_at(body, 2 + topic) : uint16_t{0}, (first & 8u) != 0});
        return true;
    }

    int socket_ = -1;
    uint16_t last_id_ = 0, sent_ = 0;
    bool connected_ = false, subscribed_ = false, is_published_ = false;
    std::string received_{};
    std::deque<message> inbox_{};
    std::chrono::steady_clock::time_point last_sent_{};
};

#endif
