// What the library relies on, asked of examples/snapshot_file.hpp by the kit's own check: model and
// checkpoint are one file, and a unit of work is a model in memory that can be taken back.
#include "../../examples/snapshot_file.hpp"
#include "engines/contract.hpp"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include <sys/resource.h>

namespace {

void units(const std::string& folder) {
    int number = 0, as_kept = 0;
    std::optional<snapshot_file> file;
    const auto reopen = [&] { file.emplace(folder, "model", spelled<snapshot_file>(number)); };
    reopen();
    snapshot_file other{folder, "model", spelled<snapshot_file>(as_kept)};
    kit::unit_parts parts = parts_of(*file, number, other, as_kept);
    parts.reopen = reopen;
    parts.compares_revisions = false;
    // The next commit cannot make its file, for as long as a folder of that name is in the way.
    const std::string in_the_way = folder + "/model.new";
    parts.trouble = [&] { check(std::filesystem::create_directory(in_the_way), "no trouble"); };
    const auto again = [&] { return std::filesystem::remove(in_the_way); };
    struct {
        snapshot_file& to;
        const decltype(again)& clear;
        pj::status begin() { return to.begin(); }
        pj::status commit() {
            const pj::status s = to.commit();
            clear();
            return s;
        }
        pj::status rollback() { return to.rollback(); }
    } transaction{*file, again};
    parts.transaction = transaction;
    tell("units", kit::broken_promises(parts));
}

/// A file that cannot be read now is not one that is not there: what a worker did then, it would
/// write over the model.
void unreadable(const std::string& folder) {
    int number = 7;
    snapshot_file file{folder, "kept", spelled<snapshot_file>(number)};
    pj::checkpoint next, found;
    next.at = 41;
    next.revision = 1;
    check(file.save("kept", next) == pj::status::ok, "no save");
    rlimit before{};
    check(getrlimit(RLIMIT_NOFILE, &before) == 0, "no limit");
    rlimit none = before;
    none.rlim_cur = 0;
    check(setrlimit(RLIMIT_NOFILE, &none) == 0, "no other limit");
    const pj::status s = file.load("kept", found);
    check(setrlimit(RLIMIT_NOFILE, &before) == 0, "the limit stays");
    check(s == pj::status::failed && number == 7, "a process without a free descriptor finds none");
    check(file.load("kept", found) == pj::status::ok && found.at == 41, "it cannot be read later");

    check(std::filesystem::create_directory(folder + "/folder"), "no folder");
    snapshot_file other{folder, "folder", spelled<snapshot_file>(number)};
    check(other.load("folder", found) == pj::status::failed, "a read that fails looks like an end");
}

} // namespace

int main() {
    std::string folder = (std::filesystem::temp_directory_path() / "projections-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) return 2;
    units(folder);
    unreadable(folder);
    std::filesystem::remove_all(folder);
    return verdict();
}
