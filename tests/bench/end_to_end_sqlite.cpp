// The adapter of examples/10_sqlite on a file, with two read models: one counts in RAM, one changes
// a row for each event, in one unit of work with the checkpoint.
#include "end_to_end.hpp"
#include "examples/10_sqlite/sqlite_store.hpp"

namespace {

class sqlite_log : public sqlite::store {
public:
    explicit sqlite_log(sqlite::connection& file) : sqlite::store(file), file_(file) {}

    /// By hand, by the statement of sqlite::store::read().
    template<class Show> bool each(pj::position after, uint32_t limit, Show&& show) {
        bool goes_on = true;
        const int code = read_.each([&] {
            const pj::text type = read_.text(1);
            const pj::bytes payload = read_.blob(3);
            return goes_on = show(read_.number(0), std::string_view(type.data(), type.size()),
                                  payload.data(), payload.size());
        }, after, int64_t{limit});
        return code == SQLITE_OK && goes_on;
    }
    pj::position position_of(uint64_t number) const {
        return static_cast<pj::position>(number) + 1;
    }

private:
    sqlite::connection& file_;
    sqlite::statement read_{
        file_, "SELECT position, type, version, payload, aggregate, occurred_at FROM events "
               "WHERE position > ? ORDER BY position LIMIT ?"};
};

class balances_in_sqlite {
public:
    using handles = pj::events<deposited, withdrawn>;
    explicit balances_in_sqlite(sqlite::connection& file) : file_(file) {}
    pj::verdict on(const deposited& e) { return add(e.account, e.cents); }
    pj::verdict on(const withdrawn& e) { return add(e.account, -int64_t{e.cents}); }

    pj::status clear() { return sqlite::answer(file_.run("DELETE FROM balances")); }
    balances all() const {
        balances found(account_count);
        sqlite::statement every{file_, "SELECT account, cents FROM balances"};
        every.each([&] {
            found.at(static_cast<size_t>(every.number(0))) = every.number(1);
            return true;
        });
        return found;
    }

private:
    /// Not idempotent: right only because it is committed with the checkpoint.
    pj::verdict add(uint32_t account, int64_t cents) {
        return sqlite::outcome(add_.run(int64_t{account}, cents));
    }
    sqlite::connection& file_;
    sqlite::statement add_{file_, "INSERT INTO balances VALUES(?1, ?2) "
                                  "ON CONFLICT(account) DO UPDATE SET cents = cents + ?2"};
};

void make(sqlite::connection& file, uint64_t events) {
    need(sqlite::create_tables(file) == SQLITE_OK &&
             file.run("CREATE TABLE balances(account INTEGER PRIMARY KEY, cents INTEGER NOT NULL);"
                      "BEGIN") == SQLITE_OK, "create");
    sqlite::statement append{file, "INSERT INTO events(aggregate, sequence, type, version, "
                                   "payload, occurred_at) VALUES(?, ?, ?, 1, ?, ?)"};
    std::vector<int64_t> sequences(account_count);
    for (uint64_t i = 0; i < events; ++i) {
        const booking b = booking_of(i);
        const std::string aggregate = "account-" + std::to_string(b.fields.account);
        const pj::bytes payload(&b.fields, sizeof b.fields);
        need(append.run(aggregate, ++sequences[b.fields.account], b.type.name(), payload,
                        static_cast<int64_t>(i)) == SQLITE_OK, "insert");
    }
    need(file.run("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)") == SQLITE_OK, "commit");
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    sqlite::connection file{args.where.c_str()};
    if (args.what == "make") {
        make(file, args.events);
        return 0;
    }
    need(file.run("DELETE FROM checkpoints") == SQLITE_OK, "delete");
    sqlite_log log{file};
    balances_in_ram in_ram;
    balances_in_sqlite in_rows{file};
    if (args.model == "ram") rebuild(args, log, in_ram);
    else rebuild(args, log, in_rows, log);
    return 0;
}
