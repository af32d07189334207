// Read model and checkpoint in one file that is replaced as a whole: for 14_mqtt and 15_kafka,
// whose brokers keep neither. To copy; POSIX and nothing else.
//
// Used alone, save() writes the model as it is. An attempt that fails is repeated by the engine as
// it was, though the model has gone on by then, so the text of an attempt is kept until it is
// saved. Used as the unit of work, too, every message is written before it is acknowledged.
#ifndef SNAPSHOT_FILE_HPP
#define SNAPSHOT_FILE_HPP

#include "projections.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>

namespace pj = projections;

/// Replaces a file by one that is whole and on the disk, or not at all.
inline bool replace_file(const std::string& folder, const std::string& name,
                         const std::string& content) {
    const std::string path = folder + "/" + name, fresh = path + ".new";
    const int file = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) return false;
    bool ok = ::write(file, content.data(), content.size()) ==
              static_cast<ssize_t>(content.size());
    ok = ::fdatasync(file) == 0 && ok;
    ok = ::close(file) == 0 && ok;
    ok = ok && ::rename(fresh.c_str(), path.c_str()) == 0;
    const int parent = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = parent >= 0 && ::fsync(parent) == 0 && ok;
    if (parent >= 0) ::close(parent);
    return ok;
}

/// False: it cannot be read to its end, which is not the same as that there is none.
inline bool read_file(const std::string& folder, const std::string& name, std::string& content,
                      bool& is_there) {
    const int file = ::open((folder + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    content.clear();
    is_there = file >= 0;
    if (!is_there) return errno == ENOENT;
    char part[4096];
    ssize_t n;
    while ((n = ::read(file, part, sizeof part)) > 0) content.append(part, static_cast<size_t>(n));
    return ::close(file) == 0 && n == 0;
}

/// One process at a time: files cannot compare and set. The kernel lets go when the process ends.
inline bool lock_folder(const std::string& folder) {
    ::mkdir(folder.c_str(), 0755);
    const int lock = ::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    return lock >= 0 && ::flock(lock, LOCK_EX | LOCK_NB) == 0;
}

class snapshot_file {
public:
    /// The model, spelled, and read back. An empty one is read from an empty text.
    struct model_text {
        std::function<std::string()> write;
        std::function<bool(const std::string&)> read;
    };
    snapshot_file(std::string folder, std::string name, model_text model)
        : folder_(std::move(folder)), name_(std::move(name)), model_(std::move(model)) {}

    pj::status load(pj::text, pj::checkpoint& out) {
        std::string all;
        bool is_there = false;
        if (!read_file(folder_, name_, all, is_there)) return pj::status::failed;
        const size_t record = is_there ? pj::checkpoint_bytes : 0;
        if (all.size() < record) return pj::status::checkpoint_corrupt;
        if (is_there && !pj::decode({all.data(), record}, out))
            return pj::status::checkpoint_corrupt;
        if (!model_.read(all.substr(record))) return pj::status::checkpoint_corrupt;
        record_ = all.substr(0, record);
        attempt_.clear();
        is_open_ = false;               // nothing of a unit is left in the model
        return pj::status::ok;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        uint8_t bytes[pj::checkpoint_bytes];
        pj::encode(next, bytes);
        const std::string record(bytes, bytes + sizeof bytes);
        if (attempt_.compare(0, record.size(), record) != 0) attempt_ = record + model_.write();
        return is_open_ ? pj::status::ok : write();
    }

    /// One at a time: the effects of two could only be taken back together.
    pj::status begin() {
        if (is_open_) return pj::status::pending;
        before_ = model_.write();
        attempt_.clear();
        is_open_ = true;
        return pj::status::ok;
    }
    /// A unit without a save belongs to a message that leaves no checkpoint behind.
    pj::status commit() {
        if (attempt_.empty() && !record_.empty()) attempt_ = record_ + model_.write();
        const pj::status s = attempt_.empty() ? pj::status::ok : write();
        if (s == pj::status::ok) is_open_ = false;
        return s;
    }
    pj::status rollback() {
        if (is_open_ && !model_.read(before_)) return pj::status::pending;
        attempt_.clear();
        is_open_ = false;
        return pj::status::ok;
    }

private:
    pj::status write() {
        if (!replace_file(folder_, name_, attempt_)) return pj::status::failed;
        record_ = attempt_.substr(0, pj::checkpoint_bytes);
        attempt_.clear();
        return pj::status::ok;
    }

    std::string folder_, name_;
    model_text model_;
    std::string record_{}, attempt_{}, before_{};
    bool is_open_ = false;
};

#endif
