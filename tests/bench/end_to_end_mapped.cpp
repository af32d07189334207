// The simplest store: a mapped file of records, each with its length before it. An event's position
// is the offset of its record, so that no index is needed.
#include "end_to_end.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

struct header {
    uint32_t size;              // of the payload that follows
    uint32_t type;
};

class mapped_log {
public:
    explicit mapped_log(const std::string& path)
        : log_(open(path.c_str(), O_RDONLY)),
          checkpoints_(open((path + ".checkpoint").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0666)) {
        struct stat about {};
        need(log_ >= 0 && checkpoints_ >= 0 && fstat(log_, &about) == 0, "open");
        size_ = static_cast<size_t>(about.st_size);
        void* const begin = mmap(nullptr, size_, PROT_READ, MAP_SHARED, log_, 0);
        need(begin != MAP_FAILED, "mmap");
        begin_ = static_cast<char*>(begin);
    }
    ~mapped_log() {
        munmap(begin_, size_);
        close(log_);
        close(checkpoints_);
    }
    mapped_log(const mapped_log&) = delete;
    mapped_log& operator=(const mapped_log&) = delete;

    // ---- for the library: slices of views into the file

    pj::status read(pj::position after, pj::visitor& visit) {
        pj::stored_event slice[64];
        size_t at = behind(after), count = 0;
        do {
            header next;
            for (count = 0; count < 64 && count < visit.wanted() && look(at, next); ++count) {
                slice[count].at = static_cast<pj::position>(at);
                slice[count].type = pj::id{next.type};
                slice[count].payload = pj::bytes(begin_ + at + sizeof next, next.size);
                at += sizeof next + next.size;
            }
        } while (count != 0 && visit(slice, count) == count);
        release(at);
        return pj::status::ok;
    }
    /// Not synchronised: after a loss of power it may be torn, which decode() tells.
    pj::status save(pj::text, const pj::checkpoint& next) {
        unsigned char record[pj::checkpoint_bytes];
        pj::encode(next, record);
        return pwrite(checkpoints_, record, sizeof record, 0) == sizeof record
                   ? pj::status::ok : pj::status::failed;
    }
    pj::status load(pj::text, pj::checkpoint& out) {
        unsigned char record[pj::checkpoint_bytes];
        const ssize_t size = pread(checkpoints_, record, sizeof record, 0);
        if (size <= 0) return size == 0 ? pj::status::ok : pj::status::failed;
        return pj::decode({record, static_cast<size_t>(size)}, out) ? pj::status::ok
                                                                  : pj::status::checkpoint_corrupt;
    }

    // ---- the same by hand

    template<class Show> bool each(pj::position after, uint32_t limit, Show&& show) {
        size_t at = behind(after);
        header next;
        for (; limit > 0 && look(at, next); --limit) {
            if (!show(static_cast<pj::position>(at), next.type, begin_ + at + sizeof next,
                      next.size))
                return false;
            at += sizeof next + next.size;
        }
        release(at);
        return true;
    }
    pj::position position_of(uint64_t number) const {
        return static_cast<pj::position>(number * (sizeof(header) + sizeof(deposited)));
    }

private:
    /// The record at this offset; false at the end, and before a record that is not whole.
    bool look(size_t at, header& out) const {
        if (size_ - at < sizeof out) return false;
        memcpy(&out, begin_ + at, sizeof out);
        return size_ - at - sizeof out >= out.size;
    }
    size_t behind(pj::position after) const {
        header passed;
        if (after < 0 || !look(static_cast<size_t>(after), passed)) return 0;
        return static_cast<size_t>(after) + sizeof passed + passed.size;
    }
    /// What was read stays in the system's cache, and need not count as this process's memory.
    void release(size_t until) {
        constexpr size_t window = 256 * 1024;
        if (until < released_) released_ = 0;
        while (until - released_ >= window) {
            madvise(begin_ + released_, window, MADV_DONTNEED);
            released_ += window;
        }
    }

    int log_, checkpoints_;
    char* begin_ = nullptr;
    size_t size_ = 0, released_ = 0;
};

void make(const arguments& args) {
    FILE* const out = fopen(args.where.c_str(), "wb");
    need(out != nullptr, "open");
    for (uint64_t i = 0; i < args.events; ++i) {
        const booking b = booking_of(i);
        const header h{sizeof b.fields, b.type.number()};
        need(fwrite(&h, sizeof h, 1, out) == 1 && fwrite(&b.fields, sizeof b.fields, 1, out) == 1,
             "write");
    }
    need(fclose(out) == 0, "write");
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    if (args.what == "make") {
        make(args);
        return 0;
    }
    mapped_log log(args.where);
    balances_in_ram model;
    rebuild(args, log, model);
    return 0;
}
