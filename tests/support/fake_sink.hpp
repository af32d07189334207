// A dead-letter sink that is idempotent by the letter's key, as a real one must be, but counts what
// a sink without a key would hold twice. It copies what a letter says and checks that one which
// answered pending is offered again unchanged.
#ifndef PROJECTIONS_TESTS_SUPPORT_FAKE_SINK_HPP
#define PROJECTIONS_TESTS_SUPPORT_FAKE_SINK_HPP

#include "support/world.hpp"

namespace support {

struct kept_letter {
    std::string handler;
    pj::position at;
    pj::failure_kind kind;
    uint32_t code;
    uint32_t attempts;
    std::string payload;

    std::string key() const { return handler + "@" + std::to_string(at); }
};

class fake_sink {
public:
    explicit fake_sink(world& in) : world_(in) {}

    plan puts;
    std::vector<kept_letter> letters;       // durable ones, in order
    uint32_t duplicates = 0;                // durable a second time
    uint32_t put_count = 0;

    /// The letters as "a@3 b@3".
    std::string keys() const {
        std::string all;
        for (const kept_letter& l : letters) all += (all.empty() ? "" : " ") + l.key();
        return all;
    }

    /// A new run need not offer what an earlier one had pending.
    void forget_promise() { promised_.clear(); }

    pj::status put(const pj::dead_letter& letter) {
        const entered here(world_, port::put);
        ++put_count;
        const kept_letter copy{
            std::string(letter.handler.data(), letter.handler.size()),
            letter.event.at,
            letter.kind,
            letter.code,
            letter.attempts,
            std::string(letter.event.payload.text().data(), letter.event.payload.size())};
        world_.note("put " + copy.key());
        if (!promised_.empty())
            CHECK_MESSAGE(promised_ == copy.key(), "a pending letter was changed");
        promised_.clear();
        const step s = puts.take();
        if (s.answer == pj::status::pending) promised_ = copy.key();
        if (s.does_it || s.answer == pj::status::ok) keep(copy);
        throw_if(s);
        return s.answer;
    }

private:
    void keep(const kept_letter& letter) {
        for (const kept_letter& l : letters) {
            if (l.key() == letter.key()) {
                ++duplicates;
                return;
            }
        }
        letters.push_back(letter);
    }

    world& world_;
    std::string promised_;
};

} // namespace support

#endif
