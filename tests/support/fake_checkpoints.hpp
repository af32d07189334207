// A checkpoint store that keeps the 64 encoded bytes of each record, compares revisions before it
// sets, and checks that a save which answered pending is repeated word for word. `saved` is every
// record that became durable, in order; `tried` every save() that was called.
#ifndef PROJECTIONS_TESTS_SUPPORT_FAKE_CHECKPOINTS_HPP
#define PROJECTIONS_TESTS_SUPPORT_FAKE_CHECKPOINTS_HPP

#include "support/world.hpp"

#include <array>
#include <cstring>
#include <map>

namespace support {

using encoded = std::array<uint8_t, pj::checkpoint_bytes>;

inline encoded bytes_of(const pj::checkpoint& record) {
    uint8_t bytes[pj::checkpoint_bytes];
    pj::encode(record, bytes);
    encoded result;
    std::memcpy(result.data(), bytes, sizeof bytes);
    return result;
}

class fake_checkpoints {
public:
    explicit fake_checkpoints(world& in) : world_(in) {}

    plan loads;
    plan saves;
    std::vector<pj::checkpoint> saved;
    std::vector<pj::checkpoint> tried;
    uint32_t load_count = 0;

    /// What is stored; a record with revision 0 if nothing is.
    pj::checkpoint at(const std::string& key) const {
        pj::checkpoint result;
        const auto found = records_.find(key);
        if (found != records_.end()) CHECK(pj::decode(pj::bytes(found->second), result));
        return result;
    }
    bool has(const std::string& key) const { return records_.count(key) != 0; }
    /// As if an earlier run, or somebody else, had saved it.
    void put(const std::string& key, const pj::checkpoint& record) {
        records_[key] = bytes_of(record);
    }
    void put(const std::string& key, pj::position at, uint32_t revision = 1) {
        pj::checkpoint record;
        record.at = at;
        record.revision = revision;
        put(key, record);
    }

    pj::status load(pj::text key, pj::checkpoint& out) {
        const entered here(world_, port::load);
        ++load_count;
        promised_.clear();
        world_.note("load");
        const step s = loads.take();
        throw_if(s);
        if (s.answer != pj::status::ok) return s.answer;
        const std::string name(key.data(), key.size());
        if (has(name)) out = at(name);
        return s.answer;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const entered here(world_, port::save);
        CHECK_MESSAGE(!world_.reading, "save was called during read");
        world_.note("save " + std::to_string(next.at) + " r" + std::to_string(next.revision));
        tried.push_back(next);
        const std::string name(key.data(), key.size());
        const encoded what = bytes_of(next);
        if (!promised_.empty())
            CHECK_MESSAGE(promised_.front() == what, "a pending save was changed");
        promised_.clear();
        const step s = saves.take();
        if (s.answer == pj::status::pending) promised_.push_back(what);
        if (!s.does_it && s.answer != pj::status::ok) {
            throw_if(s);
            return s.answer;
        }
        if (next.revision != at(name).revision + 1) return pj::status::conflict;
        records_[name] = what;
        saved.push_back(next);
        throw_if(s);
        return s.answer;
    }

private:
    world& world_;
    std::map<std::string, encoded> records_;
    std::vector<encoded> promised_;
};

} // namespace support

#endif
