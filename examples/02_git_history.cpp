// 02_git_history: the history of a git repository as an event log, projected into two read models.
//
//   needs   git 2.31 or newer and POSIX; nothing else but the standard library
//   build   c++ -std=c++17 -O2 -I. examples/02_git_history.cpp -o git_history
//   run     ./git_history REPO STATE_DIR             read what is new, project it, print a summary
//           ./git_history REPO STATE_DIR --check     compare the read model with git itself
//           ./git_history REPO STATE_DIR --files     print it: LINES<TAB>PATH<NUL>, `-` if binary
//           ./git_history REPO STATE_DIR --rebuild   rebuild the read models from the log
//           ./git_history REPO STATE_DIR --rebuild --beside     the same beside those in use
//           ./git_history REPO STATE_DIR --max-events N     die once N events were visited
//
// What it shows:
//   - An append-only log in one file. STATE_DIR/log holds one event per changed path and commit,
//     then one for the commit itself. A commit counts when that last event is there: whatever a
//     crash left behind it is cut off by the next run and read from git again.
//   - A worker that tails the log with two handlers: lines per file; commits and lines per author.
//     They see an event's bytes, nothing else; only the reader above them runs git.
//   - Read models and checkpoint in one file, STATE_DIR/state, replaced as a whole by save().
//     Hence no event is ever applied twice, wherever the process dies: try --max-events.
//   - A replay_engine that rebuilds them from the log, and goes on where it was after a crash; or
//     builds new ones in STATE_DIR/state.next while the worker works, and then takes its place.
//   - What git calls binary depends on .gitattributes outside the history, so those are an input
//     like any other: the ones in force are logged, and a change of them is one more event.
//
// --check and --files read nothing new and may be asked after any interruption: they speak about
// the commit at which the checkpoint stands. (With nothing logged yet they read the history first.)
// Exit: 0 well; 1 --check found differences; 2 something is wrong, said on stderr, nothing was
// overwritten; 3 died as --max-events asked: N % 5 chooses a handler or a step of a save.
#include "projections.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pj = projections;
namespace fs = std::filesystem;
extern char** environ;

namespace {
using std::string;
using std::string_view;
using strings = std::vector<string>;

// ---------------------------------------------------------------- small things

/// Ends the program: this message, exit code 2.
[[noreturn]] void fail(const string& message) { throw std::runtime_error(message); }
[[noreturn]] void fail_errno(const string& what) { fail(what + ": " + std::strerror(errno)); }

uint32_t now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint32_t>(t.tv_sec * 1000 + t.tv_nsec / 1'000'000);
}

string_view view(pj::text t) { return {t.data(), t.size()}; }
string_view view(pj::bytes b) { return {static_cast<const char*>(b.data()), b.size()}; }

/// Paths and names may hold anything; a terminal may not.
string printable(string_view bytes) {
    string out;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        char octal[8];
        std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(byte));
        if (byte < 32 || byte == 127 || c == '\\') out += octal;
        else out += c;
    }
    return out;
}

class file {                                                // a descriptor with an owner
public:
    file() = default;
    explicit file(int fd) : fd_(fd) {}
    file(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
    file(file&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
    file& operator=(file&& other) noexcept { std::swap(fd_, other.fd_); return *this; }
    ~file() { close(); }
    void close() { if (fd_ >= 0) ::close(fd_); fd_ = -1; }
    int fd() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    bool write(string_view bytes) const {
        while (!bytes.empty()) {
            const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
            if (n < 0 && errno != EINTR) return false;
            if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
        }
        return true;
    }
    bool sync() const { return ::fsync(fd_) == 0; }
private:
    int fd_ = -1;
};

/// False if there is no such regular file.
bool read_file(const fs::path& path, string& out) {
    if (!fs::is_regular_file(fs::symlink_status(path))) return false;
    std::ifstream in(path, std::ios::binary);
    out.assign(std::istreambuf_iterator<char>(in), {});
    if (!in) fail("cannot read " + path.string());
    return true;
}
/// The new file in place of the old one, and lasting.
bool replace(const fs::path& fresh, const fs::path& old) {
    return ::rename(fresh.c_str(), old.c_str()) == 0 && file(old.parent_path(), O_RDONLY).sync();
}

uint32_t crc32(string_view bytes, uint32_t crc = 0) {
    static const auto table = [] {
        std::array<uint32_t, 256> t{};
        for (uint32_t i = 0; i < 256; ++i) {
            t[i] = i;
            for (int k = 0; k < 8; ++k) t[i] = (t[i] >> 1) ^ (0xEDB88320u & (0u - (t[i] & 1u)));
        }
        return t;
    }();
    crc = ~crc;
    for (const char c : bytes)
        crc = table[(crc ^ static_cast<unsigned char>(c)) & 255u] ^ (crc >> 8);
    return ~crc;
}

// Fields of fixed size are little-endian; packed numbers are to base 128, texts follow their size.
string fixed(uint64_t n, int size) {
    string out;
    for (; size > 0; --size, n >>= 8) out += static_cast<char>(n & 255u);
    return out;
}
uint64_t get_fixed(string_view in) {
    uint64_t n = 0;
    for (size_t i = in.size(); i > 0; --i) n = n << 8 | static_cast<unsigned char>(in[i - 1]);
    return n;
}
void put(string& out, uint64_t n) {
    for (; n >= 128; n >>= 7) out += static_cast<char>((n & 127u) | 128u);
    out += static_cast<char>(n);
}
void put(string& out, string_view s) { put(out, uint64_t{s.size()}); out += s; }
bool get(string_view& in, uint64_t& n) {
    n = 0;
    for (unsigned shift = 0; shift < 64 && !in.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(in[0]);
        in.remove_prefix(1);
        n |= (byte & uint64_t{127}) << shift;
        if (byte < 128) return true;
    }
    return false;
}
template<class Text> bool get(string_view& in, Text& out) {
    uint64_t size = 0;
    if (!get(in, size) || size > in.size()) return false;
    out = Text(in.data(), static_cast<size_t>(size));
    in.remove_prefix(static_cast<size_t>(size));
    return true;
}
template<class... Field> string pack(const Field&... fields) {
    string out;
    (put(out, fields), ...);
    return out;
}
/// True: these fields and nothing else.
template<class... Field> bool unpack(string_view in, Field&... fields) {
    return (get(in, fields) && ...) && in.empty();
}

/// --max-events: the process vanishes at a chosen place, once that many events were visited.
struct crash_plan {
    enum place : uint64_t { in_files, in_authors, in_write, before_rename, after_rename, places };
    bool armed = false;
    uint64_t at = 0, visited = 0;
    void here(place p) const { if (armed && visited >= at && at % places == p) ::_exit(3); }
} crash;

// ---------------------------------------------------------------- events

/// Lines by path, sorted by its bytes. Numbers on disk are shifted so that none is negative.
using line_table = std::map<string, int64_t>;
constexpr int64_t binary = -1, gone = -2, unknown = -3;     // in place of a number of lines
constexpr uint64_t to_disk(int64_t lines) { return static_cast<uint64_t>(lines - gone); }
constexpr int64_t from_disk(uint64_t n) { return static_cast<int64_t>(n) + gone; }

string pack_table(const line_table& table) {
    string out;
    for (const auto& [path, lines] : table) out += pack(path, to_disk(lines));
    return out;
}
bool unpack_table(string_view in, line_table& out) {
    line_table read;
    string path;
    uint64_t lines = 0;
    while (!in.empty()) {
        if (!get(in, path) || !get(in, lines)) return false;
        read[path] = from_disk(lines);
    }
    out.swap(read);
    return true;
}

struct file_written {                                       // new, or what an edit does not tell
    static constexpr pj::event_type type{"FileWritten"};
    pj::text path;
    uint64_t lines = 0;                                     // to_disk()
    static bool decode(const pj::stored_event& in, file_written& out) {
        out.path = in.aggregate_id;
        return unpack(view(in.payload), out.lines);
    }
};
struct file_edited {                                        // text before and after
    static constexpr pj::event_type type{"FileEdited"};
    pj::text path;
    uint64_t added = 0, removed = 0;
    static bool decode(const pj::stored_event& in, file_edited& out) {
        out.path = in.aggregate_id;
        return unpack(view(in.payload), out.added, out.removed);
    }
};
struct file_removed {
    static constexpr pj::event_type type{"FileRemoved"};
    pj::text path;
    static bool decode(const pj::stored_event& in, file_removed& out) {
        out.path = in.aggregate_id;
        return unpack(view(in.payload));
    }
};
struct committed {                                          // ends the events of a commit
    static constexpr pj::event_type type{"Committed"};
    pj::text author, commit;
    uint64_t added = 0, removed = 0;
    static bool decode(const pj::stored_event& in, committed& out) {
        out.author = in.aggregate_id;
        return unpack(view(in.payload), out.commit, out.added, out.removed);
    }
};
struct attributes_changed {                                 // all files, under other attributes
    static constexpr pj::event_type type{"AttributesChanged"};
    pj::text commit, attributes, table;
    static bool decode(const pj::stored_event& in, attributes_changed& out) {
        out.commit = in.aggregate_id;
        return unpack(view(in.payload), out.attributes, out.table);
    }
};

// ---------------------------------------------------------------- handlers

/// Lines per file. The table moves from commit to commit: until one is complete, what it changes
/// waits beside it, so a checkpoint may fall between two events of a commit.
struct files {
    using handles =
        pj::events<file_written, file_edited, file_removed, committed, attributes_changed>;
    line_table lines;                                       // after the last complete commit
    line_table changes;                                     // what the next one did so far
    string commit, attributes;

    void on(const file_written& e) { change(e.path, from_disk(e.lines)); }
    pj::verdict on(const file_edited& e) {
        const auto old = lines.find(string(view(e.path)));
        if (old == lines.end() || old->second == binary) return pj::reject(1);
        const int64_t now = old->second + static_cast<int64_t>(e.added - e.removed);
        if (now < 0) return pj::reject(2);
        change(e.path, now);
        return pj::handled;
    }
    pj::verdict on(const file_removed& e) {
        if (lines.count(string(view(e.path))) == 0) return pj::reject(3);
        change(e.path, gone);
        return pj::handled;
    }
    void on(const committed& e) {
        for (const auto& [path, now] : changes) {
            crash.here(crash_plan::in_files);
            if (now == gone) lines.erase(path);
            else lines[path] = now;
        }
        changes.clear();
        commit = view(e.commit);
    }
    pj::verdict on(const attributes_changed& e) {
        if (!unpack_table(view(e.table), lines)) return pj::reject(4);
        crash.here(crash_plan::in_files);
        attributes = view(e.attributes);
        return pj::handled;
    }
private:
    void change(pj::text path, int64_t to) {
        changes[string(view(path))] = to;
        crash.here(crash_plan::in_files);
    }
};

struct authors {
    using handles = pj::events<committed>;
    struct work { uint64_t commits = 0, added = 0, removed = 0; };
    std::map<string, work> by_name;
    void on(const committed& e) {
        work& w = by_name[string(view(e.author))];
        ++w.commits;
        crash.here(crash_plan::in_authors);
        w.added += e.added;
        w.removed += e.removed;
    }
};

// ---------------------------------------------------------------- read models and checkpoint

/// STATE_DIR/state: magic, the checkpoint's record, both read models, CRC; replaced as a whole.
class state_file {
public:
    state_file(files& f, authors& a) : files_(f), authors_(a) {}
    void use(const fs::path& path) { path_ = path; }
    const string& trouble() const { return trouble_; }      // what load() or save() met

    pj::status load(pj::text, pj::checkpoint& out) {
        string all;
        if (!fs::exists(fs::symlink_status(path_))) return pj::status::ok;      // none yet
        if (!read_file(path_, all) || !parse(all, out)) {
            trouble_ = path_.string() + " is damaged";
            return pj::status::checkpoint_corrupt;
        }
        revision_ = out.revision;
        attempt_.clear();
        return pj::status::ok;
    }
    /// A save that failed is repeated as it was, though the models have gone on: so is its text.
    pj::status save(pj::text, const pj::checkpoint& next) {
        if (next.revision != revision_ + 1) return pj::status::conflict;
        const fs::path fresh = path_.string() + ".new";
        if (attempt_.empty()) attempt_ = image(next);
        if (!write(fresh, attempt_) || !replace(fresh, path_)) {
            trouble_ = "cannot save " + path_.string() + ": " + std::strerror(errno);
            return pj::status::failed;
        }
        revision_ = next.revision;
        attempt_.clear();
        crash.here(crash_plan::after_rename);
        return pj::status::ok;
    }
private:
    static constexpr string_view magic{"pjstate1"};

    static bool write(const fs::path& path, string_view bytes) {
        const file out(path, O_WRONLY | O_CREAT | O_TRUNC);
        if (!out || !out.write(bytes.substr(0, bytes.size() / 2))) return false;
        crash.here(crash_plan::in_write);
        if (!out.write(bytes.substr(bytes.size() / 2)) || !out.sync()) return false;
        crash.here(crash_plan::before_rename);
        return true;
    }
    string image(const pj::checkpoint& next) const {
        string people, out(magic);
        for (const auto& [name, w] : authors_.by_name)
            people += pack(name, w.commits, w.added, w.removed);
        uint8_t record[pj::checkpoint_bytes];
        pj::encode(next, record);
        out.append(record, record + sizeof record);
        out += pack(files_.commit, files_.attributes, pack_table(files_.lines),
                    pack_table(files_.changes), people);
        return out + fixed(crc32(out), 4);
    }
    bool parse(string_view in, pj::checkpoint& out) {
        constexpr size_t head = magic.size() + pj::checkpoint_bytes;
        if (in.size() < head + 4 || in.substr(0, magic.size()) != magic) return false;
        if (get_fixed(in.substr(in.size() - 4)) != crc32(in.substr(0, in.size() - 4))) return false;
        if (!pj::decode({in.data() + magic.size(), pj::checkpoint_bytes}, out)) return false;
        string_view lines, changes, people;
        if (!unpack(in.substr(head, in.size() - head - 4), files_.commit, files_.attributes, lines,
                    changes, people))
            return false;
        authors_.by_name.clear();
        for (string name; !people.empty();) {
            if (!get(people, name)) return false;
            authors::work& w = authors_.by_name[name];
            if (!get(people, w.commits) || !get(people, w.added) || !get(people, w.removed))
                return false;
        }
        return unpack_table(lines, files_.lines) && unpack_table(changes, files_.changes);
    }

    fs::path path_;
    files& files_;
    authors& authors_;
    uint32_t revision_ = 0;
    string attempt_;                    // what is being saved, until it is
    string trouble_;
};

// ---------------------------------------------------------------- the log

/// STATE_DIR/log. Header: magic, log id (8), CRC (4). Then records: length of the body (4), CRC of
/// length and body (4); body: position (8), type and aggregate id as texts, payload.
class event_log {
public:
    event_log() = default;
    event_log(const event_log&) = delete;
    event_log& operator=(const event_log&) = delete;
    ~event_log() { unmap(); }

    static void create(const fs::path& path) {              // as a whole or not at all
        std::random_device random;
        string header = string(magic) + fixed(uint64_t{random()} << 32 | random() | 1u, 8);
        header += fixed(crc32(header), 4);
        const fs::path fresh = path.string() + ".new";
        const file out(fresh, O_WRONLY | O_CREAT | O_TRUNC);
        if (!out || !out.write(header) || !out.sync() || !replace(fresh, path))
            fail_errno("cannot create " + path.string());
    }
    /// Checks every record. `covered`: a checkpoint proves that the events up to there were whole.
    /// What follows the last complete commit stays where it is until begin() cuts it off.
    void open(const fs::path& path, pj::position covered) {
        path_ = path.string();
        file_ = file(path, O_RDWR);
        if (!file_) fail_errno("cannot open " + path_);
        map();
        if (map_.size() < header_size || map_.substr(0, magic.size()) != magic ||
            get_fixed(map_.substr(header_size - 4, 4)) != crc32(map_.substr(0, header_size - 4)))
            fail(path_ + " is damaged: its header is not what was written");
        log_id_ = get_fixed(map_.substr(magic.size(), 8));
        pj::position expected = 0;
        record r;
        for (size_t at = header_size; at < map_.size(); at += r.size, ++expected) {
            if (!parse(at, r) || r.event.at != expected) return must_be_torn(at, expected, covered);
            note(r, at);
        }
    }

    // Writing: begin, append ..., then commit, or rollback if something went wrong on the way.
    void begin() {
        if ((map_.size() > end_ && ::ftruncate(file_.fd(), static_cast<off_t>(end_)) != 0) ||
            ::lseek(file_.fd(), static_cast<off_t>(end_), SEEK_SET) < 0)
            fail_errno("cannot cut off the torn end of " + path_);
        next_ = newest_ + 1;
    }
    void append(const pj::event_type& type, string_view aggregate_id, string_view payload) {
        string body = fixed(static_cast<uint64_t>(next_++), 8);
        body += pack(view(type.name()), aggregate_id);
        body += payload;
        const string length = fixed(body.size(), 4);
        buffer_ += length + fixed(crc32(body, crc32(length)), 4) + body;
        if (buffer_.size() >= 65536) flush();
    }
    /// Afterwards what was appended survives a crash, so the worker may see it.
    void commit() {
        flush();
        if (!file_.sync()) fail_errno("cannot write " + path_);
        map();
        record r;
        for (size_t at = end_; at < map_.size(); at += r.size) {
            if (!parse(at, r)) fail(path_ + " was changed by somebody else");
            note(r, at);
        }
    }
    void rollback() {
        buffer_.clear();
        if (::ftruncate(file_.fd(), static_cast<off_t>(end_)) != 0)
            fail_errno("cannot shorten " + path_);
    }

    // What the worker asks for.
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) const {
        trimmed = pj::before_first;
        newest = newest_;
        log_id = log_id_;
        return pj::status::ok;
    }
    pj::status read(pj::position after, pj::visitor& visit) {
        if (after < cursor_after_) cursor_ = header_size;
        record r;
        for (size_t at = cursor_; at < end_; at += r.size) {
            if (!parse(at, r)) return pj::status::failed;
            cursor_ = at;
            cursor_after_ = r.event.at - 1;
            if (r.event.at <= after) continue;
            ++crash.visited;
            if (!visit(r.event)) break;
        }
        return pj::status::ok;
    }

    pj::position newest() const { return newest_; }
    const string& last_commit() const { return last_commit_; }
    const string& attributes() const { return attributes_; }
    /// The last commit that is complete at a position.
    string commit_at(pj::position position) const {
        string found;
        record r;
        committed e;
        for (size_t at = header_size; at < end_ && parse(at, r) && r.event.at <= position;
             at += r.size)
            if (is<committed>(r) && committed::decode(r.event, e)) found = view(e.commit);
        return found;
    }

private:
    static constexpr string_view magic{"pjevents"};
    static constexpr size_t header_size = 20, record_head = 8;
    struct record { pj::stored_event event; size_t size = 0; };

    template<class E> static bool is(const record& r) {
        return r.event.type.name() == E::type.name();
    }

    bool parse(size_t at, record& out) const {
        const string_view left = map_.substr(at);
        const size_t length = static_cast<size_t>(get_fixed(left.substr(0, 4)));
        if (left.size() < record_head || length < 8 || length > left.size() - record_head)
            return false;
        string_view body = left.substr(record_head, length);
        if (crc32(body, crc32(left.substr(0, 4))) != get_fixed(left.substr(4, 4))) return false;
        out.size = record_head + length;
        out.event.at = static_cast<pj::position>(get_fixed(body.substr(0, 8)));
        body.remove_prefix(8);
        pj::text type;
        const bool good = get(body, type) && get(body, out.event.aggregate_id);
        out.event.type = type;
        out.event.payload = body;
        return good;
    }
    /// A commit is complete with its last event; a change of attributes is complete by itself.
    void note(const record& r, size_t at) {
        committed c;
        attributes_changed a;
        if (is<committed>(r) && committed::decode(r.event, c)) last_commit_ = view(c.commit);
        else if (is<attributes_changed>(r) && attributes_changed::decode(r.event, a))
            attributes_ = view(a.attributes);
        else return;
        end_ = at + r.size;
        newest_ = r.event.at;
    }
    /// A torn tail is what a crash leaves while appending: nothing whole comes after it. A record
    /// that has its full length but a wrong CRC is none if a checkpoint says that it was fine once.
    void must_be_torn(size_t at, pj::position expected, pj::position covered) const {
        const string_view left = map_.substr(at);
        const bool cut_short =
            left.size() < record_head || get_fixed(left.substr(0, 4)) > left.size() - record_head;
        bool torn = cut_short || expected > covered;
        const auto highest = static_cast<uint64_t>(expected) + left.size() / record_head;
        record later;
        for (size_t i = 0; torn && i + 16 <= left.size(); ++i)
            if (get_fixed(left.substr(i + record_head, 8)) <= highest && parse(at + i, later))
                torn = false;
        if (!torn)
            fail(path_ + " is damaged: the record at byte " + std::to_string(at) + " (event " +
                 std::to_string(expected) + ") is not what was written");
    }
    void flush() {
        if (!file_.write(buffer_)) fail_errno("cannot write " + path_);
        buffer_.clear();
    }
    void map() {
        unmap();
        const auto size = static_cast<size_t>(fs::file_size(path_));
        if (size == 0) return;
        void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file_.fd(), 0);
        if (start == MAP_FAILED) fail_errno("cannot map " + path_);
        map_ = string_view(static_cast<const char*>(start), size);
    }
    void unmap() {
        if (!map_.empty()) ::munmap(const_cast<char*>(map_.data()), map_.size());
        map_ = {};
    }

    string path_, buffer_, last_commit_, attributes_;
    file file_;
    string_view map_;
    uint64_t log_id_ = 0;
    size_t end_ = header_size, cursor_ = header_size;       // end_: of the last complete commit
    pj::position newest_ = pj::before_first, next_ = 0, cursor_after_ = pj::before_first;
};

// ---------------------------------------------------------------- git

/// One run of git, without a shell. Its output counts only once it has ended well.
class git_process {
public:
    git_process(const fs::path& folder, const strings& variables, const strings& arguments) {
        strings words{"git", "--no-pager", "-c", "core.attributesFile=/dev/null",
                      "-c", "core.fsmonitor=false", "-c", "log.showSignature=false"};
        words.insert(words.end(), arguments.begin(), arguments.end());
        strings environment = inherited();
        environment.insert(environment.end(), variables.begin(), variables.end());
        for (const string& word : arguments)
            if (word[0] != '-') { name_ += " " + word; break; }
        start(folder, pointers(words).data(), pointers(environment).data());
    }
    git_process(const git_process&) = delete;
    git_process& operator=(const git_process&) = delete;
    ~git_process() {
        if (pid_ > 0) ::kill(pid_, SIGTERM);
        exit_code();
        if (errors_ != nullptr) std::fclose(errors_);
    }

    /// What comes next, without the NUL that ends it; false when git has no more.
    bool next(string& token) {
        for (;;) {
            const size_t end = buffer_.find('\0', searched_);
            if (end != string::npos) {
                token.assign(buffer_, used_, end - used_);
                used_ = searched_ = end + 1;
                return true;
            }
            buffer_.erase(0, used_);
            used_ = 0;
            searched_ = buffer_.size();
            if (!fill()) break;
        }
        succeed();
        if (!buffer_.empty()) fail(name_ + " stopped in the middle of something");
        return false;
    }
    string all() {
        while (fill()) {}
        return buffer_;
    }
    /// All of its output, which is one line. Fails if git does.
    string line() {
        string out = all();
        succeed();
        if (!out.empty()) out.pop_back();
        return out;
    }
    int exit_code() {
        output_.close();
        if (pid_ > 0) while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {}
        pid_ = -1;
        return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    }
    void succeed() {
        const int code = exit_code();
        if (code != 0)
            fail(name_ + " failed (exit " + std::to_string(code) + "): " + complaints());
    }
    string complaints() const {
        if (errors_ == nullptr) return {};
        char text[2000];
        std::rewind(errors_);
        string out(text, std::fread(text, 1, sizeof text, errors_));
        while (!out.empty() && out.back() == '\n') out.pop_back();
        return out;
    }
private:
    /// The user's settings stay, but nothing may lead git to another repository or history.
    static strings inherited() {
        strings kept{"GIT_NO_REPLACE_OBJECTS=1", "GIT_GRAFT_FILE=/dev/null", "GIT_ATTR_NOSYSTEM=1",
                     "GIT_OPTIONAL_LOCKS=0"};
        for (char** v = environ; *v != nullptr; ++v) {
            const string_view s(*v);
            if (s.substr(0, 4) != "GIT_" || s.substr(0, 10) == "GIT_CONFIG" ||
                s.substr(0, 14) == "GIT_EXEC_PATH=")
                kept.emplace_back(s);
        }
        return kept;
    }
    static std::vector<char*> pointers(strings& from) {
        std::vector<char*> out;
        for (string& s : from) out.push_back(s.data());
        out.push_back(nullptr);
        return out;
    }
    void start(const fs::path& folder, char** argv, char** envp) {
        int ends[2];
        if (::pipe(ends) != 0) fail_errno("pipe");
        output_ = file(ends[0]);
        const file input(ends[1]);
        for (const int fd : ends) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        pid_ = ::fork();
        if (pid_ < 0) fail_errno("fork");
        if (pid_ > 0) return;
        ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
        ::dup2(input.fd(), STDOUT_FILENO);
        if (errors_ != nullptr) ::dup2(::fileno(errors_), STDERR_FILENO);
        environ = envp;
        if (::chdir(folder.c_str()) == 0) ::execvp(argv[0], argv);
        std::perror("cannot run git");
        ::_exit(127);
    }
    bool fill() {
        char part[65536];
        ssize_t n;
        while ((n = ::read(output_.fd(), part, sizeof part)) < 0 && errno == EINTR) {}
        if (n < 0) fail_errno("cannot read from " + name_);
        buffer_.append(part, static_cast<size_t>(n));
        return n > 0;
    }

    string name_{"git"}, buffer_;
    size_t used_ = 0, searched_ = 0;
    file output_;
    std::FILE* errors_ = std::tmpfile();
    pid_t pid_ = -1;
    int status_ = 0;
};

/// `ADDED<TAB>REMOVED<TAB>PATH`, with `-` for both numbers of a binary.
struct numstat {
    int64_t added = 0, removed = 0;
    string path;
    explicit numstat(const string& token) {
        const size_t first = token.find('\t'), second = token.find('\t', first + 1);
        if (first == string::npos || second == string::npos)
            fail("git said something unexpected: " + printable(token));
        added = number(token.substr(0, first));
        removed = number(token.substr(first + 1, second - first - 1));
        path = token.substr(second + 1);
    }
    static int64_t number(const string& s) {
        if (s == "-") return binary;
        if (s.empty() || s.size() > 18 || s.find_first_not_of("0123456789") != string::npos)
            fail("git said something unexpected: " + printable(s));
        return std::stoll(s);
    }
};

class repository {
public:
    explicit repository(const string& path) : folder_(path) {
        if (!fs::is_directory(folder_)) fail(path + " is no folder, so no git repository");
        git_process where = git({"rev-parse", "--is-inside-work-tree", "--show-cdup"});
        const string answer = where.all();
        if (where.exit_code() != 0) fail(path + " is no git repository: " + where.complaints());
        has_work_tree_ = answer.substr(0, 4) == "true";
        if (answer.find("..") != string::npos)
            fail(path + " is no git repository, only a folder inside one");
        git_dir_ = git({"rev-parse", "--absolute-git-dir"}).line();
        empty_tree_ = git({"hash-object", "-t", "tree", "/dev/null"}).line();
    }
    git_process git(const strings& arguments) const {
        return git_process(folder_, variables_, arguments);
    }
    /// The commit that HEAD stands for; empty in a repository without one.
    string head() const {
        git_process commit = git({"rev-parse", "--verify", "HEAD^{commit}"});
        string out = commit.all();
        if (commit.exit_code() == 0) return out.substr(0, out.size() - 1);
        git_process symbolic = git({"symbolic-ref", "HEAD"});
        out = symbolic.all();
        if (symbolic.exit_code() == 0) {
            git_process branch = git({"for-each-ref", out.substr(0, out.size() - 1)});
            if (branch.all().empty() && branch.exit_code() == 0 && branch.complaints().empty())
                return {};
        }
        fail("HEAD cannot be read: " + commit.complaints());
    }
    bool has(const string& commit) const {
        return git({"cat-file", "-e", commit + "^{commit}"}).exit_code() == 0;
    }

    /// All that lies outside the history and has a say in what is binary, packed; empty if nothing.
    string attributes() const {
        string info, files;
        git_process config = git({"config", "-z", "--get-regexp",
                                  "^(diff\\..*\\.binary|core\\.bigfilethreshold)$"});
        const string settings = config.all();
        if (config.exit_code() > 1) config.succeed();       // 1: there are none
        read_file(folder_ / git({"rev-parse", "--git-path", "info/attributes"}).line(), info);
        for (const auto& [path, content] : attribute_files()) files += pack(path, content);
        if (settings.empty() && info.empty() && files.empty()) return {};
        return pack(settings, info) + files;
    }
    /// From now on git runs in a work tree that holds these attributes and nothing else.
    void pin(string_view attributes, const fs::path& work_tree) {
        fs::create_directories(work_tree);
        string name, content;
        if (!attributes.empty() && (!get(attributes, name) || !get(attributes, content)))
            fail("the attributes in the log are damaged");
        while (get(attributes, name) && get(attributes, content)) {
            const fs::path target = work_tree / name;
            if (target.lexically_normal() != target) fail("a strange path: " + target.string());
            fs::create_directories(target.parent_path());
            const file out(target, O_WRONLY | O_CREAT | O_EXCL);
            if (!out || !out.write(content)) fail_errno("cannot write " + target.string());
        }
        folder_ = work_tree;
        variables_ = {"GIT_DIR=" + git_dir_, "GIT_WORK_TREE=" + work_tree.string(),
                      "GIT_INDEX_FILE=" + (work_tree / "no-index").string()};
    }

    /// Lines of all files of a commit, or at least of some: what it adds to nothing. After pin().
    line_table lines(const string& commit, const strings& paths = {}) const {
        line_table out;
        if (commit.empty()) return out;
        strings words = with_diff_options({"--literal-pathspecs", "diff", "--numstat"});
        words.insert(words.end(), {empty_tree_, commit, "--"});
        size_t size = 0;
        for (const string& path : paths) size += path.size() + 1;
        if (size < 100'000) words.insert(words.end(), paths.begin(), paths.end());
        git_process diff = git(words);
        for (string token; diff.next(token);) {
            const numstat n(token);
            out[n.path] = n.added;
        }
        return out;
    }
    /// What came after a commit, or all of it; oldest first, along first parents. After pin().
    git_process log(const string& after, const string& head) const {
        strings words = with_diff_options(
            {"log", "--first-parent", "--diff-merges=first-parent", "--reverse", "--root", "--raw",
             "--no-abbrev", "--numstat", "--encoding=UTF-8", "--no-notes",
             "--format=commit %H%x00%P%x00%an <%ae>"});
        if (!after.empty()) words.push_back("^" + after);
        words.insert(words.end(), {head, "--"});
        return git(words);
    }
    uint64_t count(const string& after, const string& head) const {
        const string range = after.empty() ? head : after + ".." + head;
        return std::stoull(git({"rev-list", "--first-parent", "--count", range, "--"}).line());
    }

private:
    static strings with_diff_options(strings words) {
        words.insert(words.end(), {"-z", "--no-renames", "--no-ext-diff", "--no-textconv",
                                   "--no-color", "--no-relative", "--ignore-submodules=none",
                                   "--diff-algorithm=myers", "-O/dev/null"});
        return words;
    }
    /// Every .gitattributes that git would look at: the file, or what the index has in its place.
    std::map<string, string> attribute_files() const {
        std::map<string, string> out;
        if (!has_work_tree_) return out;
        git_process list = git({"ls-files", "-z", "--cached", "--others", "--",
                                ":(glob)**/.gitattributes"});
        for (string path, content; list.next(path);) {
            if (fs::path(path).filename() != ".gitattributes" || out.count(path) != 0) continue;
            if (!read_file(folder_ / path, content)) {
                git_process blob = git({"cat-file", "blob", ":0:" + path});
                content = blob.all();
                blob.succeed();
            }
            out[path] = content;
        }
        return out;
    }

    fs::path folder_;
    strings variables_;
    string git_dir_, empty_tree_;
    bool has_work_tree_ = false;
};

// ---------------------------------------------------------------- from git to the log

struct change {
    char kind = 0;                                          // A, M, T or D, as `git diff --raw`
    int64_t added = unknown, removed = unknown;
};
struct commit {
    string hash, parents, author;
    std::map<string, change> changes;
};

/// `git log`, commit by commit.
class history {
public:
    history(const repository& repo, const string& after, const string& head)
        : log_(repo.log(after, head)), more_(log_.next(token_)) {}
    /// False: the end. Fails if git did, so that half a commit is never taken for one.
    bool next(commit& out) {
        if (!more_) return false;
        if (!at_commit()) fail("git log said something unexpected: " + printable(token_));
        out = commit{};
        out.hash = take().substr(mark.size());
        out.parents = take();
        out.author = take();
        while (more_ && !at_commit()) {
            if (token_[0] == '\n') token_.erase(0, 1);      // before the first change
            if (token_[0] == ':') {
                const char kind = take().back();
                out.changes[take()].kind = kind;
            } else {
                const numstat n(take());
                change& c = out.changes[n.path];
                c.added = n.added;
                c.removed = n.removed;
            }
        }
        return true;
    }
private:
    static constexpr string_view mark{"commit "};
    bool at_commit() const { return token_.compare(0, mark.size(), mark) == 0; }
    string take() {
        if (!more_) fail("git log stopped in the middle of a commit");
        string now = token_;
        more_ = log_.next(token_);
        return now;
    }
    string token_;
    git_process log_;
    bool more_;
};

/// One event per path, then the one that makes the commit complete.
void append(event_log& log, const repository& repo, const commit& c) {
    strings unclear;                                        // the numbers do not tell the result
    for (const auto& [path, now] : c.changes)
        if (now.kind == 'T' || (now.kind == 'M' && now.added < 0)) unclear.push_back(path);
    const line_table results = unclear.empty() ? line_table{} : repo.lines(c.hash, unclear);
    uint64_t added = 0, removed = 0;
    for (const auto& [path, now] : c.changes) {
        const auto result = results.find(path);
        added += static_cast<uint64_t>(std::max<int64_t>(now.added, 0));
        removed += static_cast<uint64_t>(std::max<int64_t>(now.removed, 0));
        if (now.kind == 'D')
            log.append(file_removed::type, path, {});
        else if (now.kind == 'A' && now.added != unknown)
            log.append(file_written::type, path, pack(to_disk(now.added)));
        else if (now.kind == 'M' && now.added >= 0)
            log.append(file_edited::type, path,
                       pack(static_cast<uint64_t>(now.added), static_cast<uint64_t>(now.removed)));
        else if (result != results.end())
            log.append(file_written::type, path, pack(to_disk(result->second)));
        else
            fail("git does not tell how " + printable(path) + " changed in " + c.hash);
    }
    log.append(committed::type, c.author, pack(c.hash, added, removed));
}

/// On a terminal only: one line on stderr that is drawn again and again, and wiped at the end.
class progress_bar {
public:
    explicit progress_bar(const char* what) : what_(what) {}
    ~progress_bar() { if (drawn_) std::fputs("\r\033[K", stderr); }
    bool wanted() const { return terminal_; }
    void show(uint64_t done, uint64_t total) {
        if (!terminal_ || total == 0 || (drawn_ && now_ms() - drawn_at_ < 100)) return;
        drawn_ = true;
        drawn_at_ = now_ms();
        string bar(40, ' ');
        std::fill_n(bar.begin(), std::min(done, total) * bar.size() / total, '#');
        std::fprintf(stderr, "\r%s [%s] %llu / %llu", what_, bar.c_str(),
                     static_cast<unsigned long long>(done), static_cast<unsigned long long>(total));
    }
private:
    const char* what_;
    bool terminal_ = ::isatty(STDERR_FILENO) == 1, drawn_ = false;
    uint32_t drawn_at_ = 0;
};

/// Appends what REPO has and the log has not: all of it or, if anything goes wrong, nothing.
void read_history(repository& repo, event_log& log, const fs::path& work_tree) {
    const string head = repo.head(), attributes = repo.attributes();
    string last = log.last_commit();
    const auto must_follow = [&](bool good) {
        if (!good)
            fail("the history was rewritten: commit " + last + ", the last one in the log, is not "
                 "among the first parents of HEAD any more; use another STATE_DIR");
    };
    repo.pin(attributes, work_tree);
    must_follow(last.empty() || head == last || (!head.empty() && repo.has(last)));
    log.begin();
    if (attributes != log.attributes())
        log.append(attributes_changed::type, last, pack(attributes, pack_table(repo.lines(last))));
    if (head != last) {
        progress_bar bar("reading");
        history commits(repo, last, head);
        uint64_t done = 0, total = bar.wanted() ? repo.count(last, head) : 0;
        for (commit c; commits.next(c); bar.show(++done, total)) {
            must_follow(c.parents.substr(0, c.parents.find(' ')) == last);
            append(log, repo, c);
            last = c.hash;
        }
        must_follow(last == head);
    }
    log.commit();
}

// ---------------------------------------------------------------- the program

struct options {
    string repo, state_dir;
    bool check = false, files = false, rebuild = false, beside = false;
};

/// Both read models, their file, and the projection that fills them.
struct model {
    model(pj::text name, event_log& log) : setup{name, log, handlers, state} {
        setup.on_error = pj::error_policy::halt();
        setup.on_unknown = pj::unknown_types::fail;
        setup.batch = 1000;
    }
    void open(const fs::path& path) {
        state.use(path);
        if (state.load({}, saved) != pj::status::ok) fail(state.trouble());
    }
    /// A save writes everything: the more there is, the more events are worth one.
    void choose_save_rule() {
        setup.save = {64 + static_cast<uint32_t>(by_path.lines.size() / 8), 1000, true};
    }
    pj::status drop() {
        by_path = {};
        by_author = {};
        return pj::status::ok;
    }

    files by_path;
    authors by_author;
    state_file state{by_path, by_author};
    pj::registry<files, authors> handlers{by_path, by_author};
    pj::projection setup;
    pj::checkpoint saved;                                   // as it was at the start
};

/// The five heaviest rows.
template<class Value, class Weight>
auto top(const std::map<string, Value>& from, Weight weight) {
    std::vector<std::pair<string, Value>> rows(from.begin(), from.end());
    std::stable_sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
        return weight(a.second) > weight(b.second);
    });
    rows.resize(std::min<size_t>(5, rows.size()));
    return rows;
}

struct program {
    explicit program(const options& o) : wanted(o), repo(o.repo) {}

    options wanted;
    repository repo;
    fs::path folder;
    file lock;
    event_log log;
    model live{"git_history", log};
    files& by_path = live.by_path;
    authors& by_author = live.by_author;
    pj::worker worker{live.setup};
    double seconds = 0;

    int run() {
        open();
        const bool query = wanted.check || wanted.files;
        if (!query || crash.armed || log.newest() == pj::before_first) {
            read();
            const auto begun = now_ms();
            // A rebuild that was interrupted is finished first: no worker would run before.
            if (wanted.beside) build_beside();
            else if (wanted.rebuild || live.saved.replay_stage != 0) rebuild();
            drive(worker, live, "projecting");
            seconds = (now_ms() - begun) / 1000.0;
            if (!query) return summary();
        }
        return wanted.files ? print_files() : check();
    }
    /// Looks at everything that is there before anything is changed.
    void open() {
        std::error_code error;
        fs::create_directories(wanted.state_dir, error);
        lock = file(fs::path(wanted.state_dir) / "lock", O_RDWR | O_CREAT);
        if (!lock) fail_errno("cannot use " + wanted.state_dir);
        folder = fs::canonical(wanted.state_dir);
        if (::flock(lock.fd(), LOCK_EX | LOCK_NB) != 0)
            fail(folder.string() + " is in use by another process");
        live.open(folder / "state");
        if (!fs::exists(folder / "log")) {
            if (live.saved.revision != 0) fail((folder / "log").string() + " is missing");
            event_log::create(folder / "log");
        }
        log.open(folder / "log", live.saved.at);
    }
    /// A folder for the attributes in force; STATE_DIR may lie inside REPO, so it must be empty.
    fs::path empty_work_tree() const {
        fs::remove_all(folder / "attributes");
        return folder / "attributes";
    }
    void read() {
        try {
            read_history(repo, log, empty_work_tree());
        } catch (...) {
            log.rollback();
            throw;
        }
        if (live.saved.at > log.newest() || log.commit_at(live.saved.at) != by_path.commit)
            fail((folder / "state").string() + " does not belong to this log");
    }
    /// Until the engine has ended; a worker is stopped once it has caught up.
    void drive(pj::engine& engine, model& of, const char* doing, bool is_worker = true) {
        progress_bar bar(doing);
        pj::status answer = engine.start();
        while (answer == pj::status::ok && engine.running() && of.state.trouble().empty()) {
            of.choose_save_rule();
            const pj::tick_result tick = engine.tick(now_ms());
            bar.show(static_cast<uint64_t>(engine.scanned() - of.saved.at),
                     static_cast<uint64_t>(log.newest() - of.saved.at));
            if (is_worker && engine.caught_up()) engine.stop();
            else if (engine.running()) ::poll(nullptr, 0, pj::poll_timeout(tick.wait_ms));
        }
        ended(answer == pj::status::ok ? engine.reason() : answer, engine, of);
    }
    static void ended(pj::status answer, const pj::engine& engine, const model& of) {
        if (!of.state.trouble().empty()) fail(of.state.trouble());
        if (answer != pj::status::ok)
            fail("the projection stopped after event " + std::to_string(engine.scanned()) + ": " +
                 pj::to_string(answer) + ", code " + std::to_string(engine.last_failure().code));
    }

    void rebuild() {
        const auto drop = [&] { return live.drop(); };
        pj::replay_options options;
        options.on_drop = drop;
        options.batch = 1000;
        pj::replay_engine replay{live.setup, options};
        live.saved.at = pj::before_first;                   // where the bar begins
        drive(replay, live, "rebuilding", false);
    }
    /// New models in a file of their own, while the worker goes on with the old ones; they take
    /// their place when they have done all that those had done.
    void build_beside() {
        model next{"git_history_next", log};
        next.open(folder / "state.next");
        if (next.saved.revision == 0 || next.saved.replay_stage != 0) {
            pj::replay_engine warm_up{next.setup};
            pj::status answer = worker.start();
            if (answer == pj::status::ok) answer = warm_up.start();
            while (answer == pj::status::ok && warm_up.running() && next.state.trouble().empty()) {
                live.choose_save_rule();
                next.choose_save_rule();
                ::poll(nullptr, 0, pj::poll_timeout(pj::tick_all(now_ms(), worker, warm_up)));
            }
            ended(answer == pj::status::ok ? warm_up.reason() : answer, warm_up, next);
            worker.stop();
            while (worker.running())
                ::poll(nullptr, 0, pj::poll_timeout(worker.tick(now_ms()).wait_ms));
            ended(worker.reason(), worker, live);
        }
        drive(worker, live, "projecting");                  // the last thing the old ones see
        next.setup.replayed_through = worker.checkpointed();
        pj::worker successor{next.setup};
        drive(successor, next, "taking over");
        if (!successor.has_processed(worker.checkpointed())) fail("the new models lag behind");
        std::printf("new read models, caught up at event %lld\n",
                    static_cast<long long>(successor.checkpointed()));
        if (!replace(folder / "state.next", folder / "state"))
            fail_errno("cannot replace " + (folder / "state").string());
        live.open(folder / "state");
    }

    int print_files() const {
        for (const auto& [path, lines] : by_path.lines) {
            const string row = (lines == binary ? "-" : std::to_string(lines)) + '\t' + path;
            std::fwrite(row.c_str(), 1, row.size() + 1, stdout);
        }
        return 0;
    }
    int check() {
        repo.pin(by_path.attributes, empty_work_tree());
        const line_table of_git = repo.lines(by_path.commit);
        const auto say = [](const line_table& table, const string& path) -> string {
            const auto found = table.find(path);
            if (found == table.end()) return "no such file";
            return found->second == binary ? "-" : std::to_string(found->second) + " lines";
        };
        int64_t sum = 0;
        size_t differences = 0;
        line_table both = of_git;
        both.insert(by_path.lines.begin(), by_path.lines.end());
        for (const auto& [path, lines] : both) {
            sum += std::max<int64_t>(lines, 0);
            const string git = say(of_git, path), model = say(by_path.lines, path);
            if (git == model) continue;
            ++differences;
            std::printf("%s: git has %s, the read model %s\n", printable(path).c_str(), git.c_str(),
                        model.c_str());
        }
        if (differences == 0)
            std::printf("%zu files, %lld lines: equal to git\n", both.size(),
                        static_cast<long long>(sum));
        else
            std::printf("%zu differences at commit %s\n", differences, by_path.commit.c_str());
        return differences == 0 ? 0 : 1;
    }
    int summary() const {
        const auto fresh = static_cast<long long>(log.newest() - live.saved.at);
        std::printf("%lld events, %lld new", static_cast<long long>(log.newest() + 1), fresh);
        if (fresh > 0 && seconds > 0)
            std::printf(" in %.2f s: %.0f events/s", seconds, static_cast<double>(fresh) / seconds);
        uint64_t commits = 0;
        for (const auto& [name, work] : by_author.by_name) commits += work.commits;
        std::printf("\n%llu commits by %zu authors, %zu files; at commit %s\n\nlargest files\n",
                    static_cast<unsigned long long>(commits), by_author.by_name.size(),
                    by_path.lines.size(), by_path.commit.empty() ? "-" : by_path.commit.c_str());
        for (const auto& [path, lines] : top(by_path.lines, [](int64_t n) { return n; }))
            std::printf("%10s lines  %s\n", lines == binary ? "-" : std::to_string(lines).c_str(),
                        printable(path).c_str());
        std::printf("\nmost active authors\n");
        const auto by_commits = [](const authors::work& w) { return w.commits; };
        for (const auto& [name, work] : top(by_author.by_name, by_commits))
            std::printf("%8llu commits  +%llu -%llu  %s\n",
                        static_cast<unsigned long long>(work.commits),
                        static_cast<unsigned long long>(work.added),
                        static_cast<unsigned long long>(work.removed), printable(name).c_str());
        return 0;
    }
};

options parse(int argc, char** argv) {
    options out;
    strings names;
    bool good = true;
    for (int i = 1; i < argc; ++i) {
        const string word = argv[i];
        if (word == "--check") out.check = true;
        else if (word == "--files") out.files = true;
        else if (word == "--rebuild") out.rebuild = true;
        else if (word == "--beside") out.beside = true;
        else if (word == "--max-events" && i + 1 < argc) {
            char* end = nullptr;
            crash.armed = true;
            crash.at = std::strtoull(argv[++i], &end, 10);
            good = good && end != argv[i] && *end == '\0';
        } else names.push_back(word);
    }
    const int questions = (out.check ? 1 : 0) + (out.files ? 1 : 0) + (out.rebuild ? 1 : 0);
    if (!good || names.size() != 2 || questions > 1 || (out.beside && !out.rebuild))
        fail("usage: git_history REPO STATE_DIR [--max-events N] [--check | --files | --rebuild "
             "[--beside]]");
    out.repo = names[0];
    out.state_dir = names[1];
    return out;
}

} // namespace

int main(int argc, char** argv) {
    try {
        program p(parse(argc, argv));
        const int result = p.run();
        if (std::fflush(stdout) != 0) fail_errno("cannot print");
        return result;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "git_history: %s\n", e.what());
        return 2;
    }
}
