#include "attestation/server/database/sqlite.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "attestation/server/database/session.hpp"

namespace gatehouse::server {
namespace {

constexpr int kBusyMilliseconds = 10'000;
constexpr std::size_t kMostJobsInACommit = 256;
constexpr std::size_t kIdleReaders = 16;

struct CloseConnection {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};
struct FinalizeStatement {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Connection = std::unique_ptr<sqlite3, CloseConnection>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

bool is_for_want_of_room(sqlite3* connection) {
    const int extended = sqlite3_extended_errcode(connection), code = extended & 0xff;
    const int error = sqlite3_system_errno(connection);
    // Of a write that failed by a limit or a quota SQLite does not always keep the reason.
    return code == SQLITE_FULL || (extended == SQLITE_IOERR_WRITE && error != EIO) ||
           ((code == SQLITE_IOERR || code == SQLITE_CANTOPEN) &&
            (error == ENOSPC || error == EDQUOT || error == EFBIG));
}

[[noreturn]] void fail(sqlite3* connection, std::string_view what) {
    const std::string text =
        "database: " + std::string(sqlite3_errmsg(connection)) + " (" + std::string(what.substr(0, 60)) + ")";
    if (is_for_want_of_room(connection)) throw DatabaseFull(text);
    throw DatabaseError(text);
}

class SqliteSession final : public Session {
  public:
    SqliteSession(const std::string& path, int cache_kib);

    Rows query_with(std::string_view sql, std::span<const Param> params) override;
    std::int64_t execute_with(std::string_view sql, std::span<const Param> params) override;
    void script(const std::string& sql) override;
    bool is_postgresql() const override { return false; }

    [[nodiscard]] sqlite3* connection() const { return connection_.get(); }
    [[nodiscard]] bool in_transaction() const { return sqlite3_get_autocommit(connection_.get()) == 0; }

  private:
    struct Prepared {
        Statement statement;
        std::vector<int> places;  // of $1 ... $n
    };
    struct TextHash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };
    Prepared& prepared(std::string_view sql);
    // Binds, and hands each row of the answer to `each`.
    template <typename Each>
    void run(std::string_view sql, std::span<const Param> params, Each each);

    Connection connection_;
    std::unordered_map<std::string, Prepared, TextHash, std::equal_to<>> statements_;
};

SqliteSession::SqliteSession(const std::string& path, int cache_kib) {
    sqlite3* opened = nullptr;
    const int answer = sqlite3_open_v2(path.c_str(), &opened,
                                       SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
    connection_.reset(opened);
    if (answer != SQLITE_OK) throw host::ToolError(path + ": cannot be opened: " + sqlite3_errstr(answer));
    sqlite3_busy_timeout(opened, kBusyMilliseconds);
    script(
        "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; "
        "PRAGMA cache_size = -" +
        std::to_string(cache_kib));
}

SqliteSession::Prepared& SqliteSession::prepared(std::string_view sql) {
    if (const auto found = statements_.find(sql); found != statements_.end()) return found->second;
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v3(connection(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &made,
                           nullptr) != SQLITE_OK) {
        fail(connection(), sql);
    }
    Prepared entry{Statement(made), {}};
    const int count = sqlite3_bind_parameter_count(made);
    for (int i = 1; i <= count; ++i) {
        const int place = sqlite3_bind_parameter_index(made, ("$" + std::to_string(i)).c_str());
        if (place == 0) throw DatabaseError("parameters are not $1 ... $n: " + std::string(sql.substr(0, 60)));
        entry.places.push_back(place);
    }
    return statements_.emplace(std::string(sql), std::move(entry)).first->second;
}

int bind(sqlite3_stmt* statement, int place, const Param& param) {
    if (const auto* const number = std::get_if<std::int64_t>(&param.held()))
        return sqlite3_bind_int64(statement, place, *number);
    if (const auto* const text = std::get_if<std::string_view>(&param.held()))
        return sqlite3_bind_text64(statement, place, text->data() == nullptr ? "" : text->data(), text->size(),
                                   SQLITE_STATIC, SQLITE_UTF8);
    const Bytes bytes = std::get<Bytes>(param.held());
    // A null pointer would be SQL's NULL.
    return sqlite3_bind_blob64(statement, place, bytes.empty() ? reinterpret_cast<const std::byte*>("") : bytes.data(),
                               bytes.size(), SQLITE_STATIC);
}

Value column_value(sqlite3_stmt* statement, int column) {
    switch (sqlite3_column_type(statement, column)) {
        case SQLITE_INTEGER: return sqlite3_column_int64(statement, column);
        case SQLITE_TEXT: {
            const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
            return std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, column)));
        }
        case SQLITE_BLOB: {
            const auto* const bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement, column));
            return Buffer(bytes, bytes + sqlite3_column_bytes(statement, column));
        }
        default: return std::monostate{};
    }
}

template <typename Each>
void SqliteSession::run(std::string_view sql, std::span<const Param> params, Each each) {
    Prepared& entry = prepared(sql);
    if (entry.places.size() != params.size()) throw DatabaseError("wrong number of parameters: " + std::string(sql));
    sqlite3_stmt* const statement = entry.statement.get();
    // Resets however the function is left, so that no statement keeps a read transaction open.
    const std::unique_ptr<sqlite3_stmt, void (*)(sqlite3_stmt*)> reset(statement, [](sqlite3_stmt* used) {
        sqlite3_reset(used);
        sqlite3_clear_bindings(used);
    });
    std::size_t i = 0;
    for (const Param& param : params) {
        if (bind(statement, entry.places[i++], param) != SQLITE_OK) fail(connection(), sql);
    }
    int answer = 0;
    while ((answer = sqlite3_step(statement)) == SQLITE_ROW) each(statement);
    if (answer != SQLITE_DONE) fail(connection(), sql);
}

Rows SqliteSession::query_with(std::string_view sql, std::span<const Param> params) {
    Rows rows;
    run(sql, params, [&rows](sqlite3_stmt* statement) {
        Row values;
        const int columns = sqlite3_column_count(statement);
        values.reserve(static_cast<std::size_t>(columns));
        for (int i = 0; i < columns; ++i) values.push_back(column_value(statement, i));
        rows.push_back(std::move(values));
    });
    return rows;
}

std::int64_t SqliteSession::execute_with(std::string_view sql, std::span<const Param> params) {
    run(sql, params, [](sqlite3_stmt*) {});
    return sqlite3_changes64(connection());
}

void SqliteSession::script(const std::string& sql) {
    if (sqlite3_exec(connection(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail(connection(), sql);
}

class SqliteDatabase final : public Database {
  public:
    explicit SqliteDatabase(const std::string& path);
    ~SqliteDatabase() override;
    void write(const Job& job) override;
    void read(const Job& job) override;
    void backup(const std::string& path) override;

  private:
    struct Waiting {
        const Job* job = nullptr;
        std::exception_ptr error;
        // Not a std::semaphore: libstdc++'s spins and yields before it sleeps, and these sleep for a commit each.
        std::condition_variable wake;
        bool done = false;  // under `mutex_`
    };
    void work();
    void run_batch(const std::vector<Waiting*>& batch);
    void run_one(Waiting& one);

    std::string path_;
    SqliteSession writer_;
    std::mutex mutex_;  // of what follows
    std::condition_variable wake_;
    std::deque<Waiting*> queue_;
    bool stop_ = false;
    std::vector<std::unique_ptr<SqliteSession>> readers_;
    std::thread thread_;
};

// Made here and not by SQLite, which would give it the mode of the umask.
std::string made_file(const std::string& path) {
    const host::File file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (file.get() < 0) throw host::ToolError(path + ": cannot be opened: " + std::strerror(errno));
    return path;
}

SqliteDatabase::SqliteDatabase(const std::string& path) : path_(made_file(path)), writer_(path_, 16 * 1024) {
    // Two processes that turn a new file to WAL at once: the loser is told SQLITE_BUSY without being made to
    // wait.
    for (int attempt = 0;; ++attempt) {
        try {
            writer_.script("PRAGMA journal_mode = WAL");
            break;
        } catch (const DatabaseError& error) {
            if (attempt == 100) throw host::ToolError(path + ": " + error.what());
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    thread_ = std::thread([this] { work(); });
}

SqliteDatabase::~SqliteDatabase() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void SqliteDatabase::write(const Job& job) {
    Waiting mine;
    mine.job = &job;
    {
        std::unique_lock lock(mutex_);
        queue_.push_back(&mine);
        wake_.notify_one();
        mine.wake.wait(lock, [&mine] { return mine.done; });
    }
    if (mine.error) std::rethrow_exception(mine.error);
}

void SqliteDatabase::work() {
    std::vector<Waiting*> batch;
    for (;;) {
        batch.clear();
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
            if (queue_.empty()) return;
            while (!queue_.empty() && batch.size() < kMostJobsInACommit) {
                batch.push_back(queue_.front());
                queue_.pop_front();
            }
        }
        run_batch(batch);
        // Under the lock: whoever wakes destroys what it waited on.
        const std::lock_guard lock(mutex_);
        for (Waiting* const one : batch) {
            one->done = true;
            one->wake.notify_one();
        }
    }
}

void SqliteDatabase::run_batch(const std::vector<Waiting*>& batch) {
    try {
        writer_.execute("BEGIN IMMEDIATE");
        for (Waiting* const one : batch) run_one(*one);
        writer_.execute("COMMIT");
    } catch (...) {
        // Nothing of the batch is on disk, so nobody may be told that it is.
        for (Waiting* const one : batch) one->error = std::current_exception();
        if (writer_.in_transaction()) sqlite3_exec(writer_.connection(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
}

void SqliteDatabase::run_one(Waiting& one) {
    writer_.execute("SAVEPOINT job");
    try {
        (*one.job)(writer_);
    } catch (...) {
        one.error = std::current_exception();
        // A full disk and the like end the whole transaction: then the batch is lost.
        if (!writer_.in_transaction()) throw;
        writer_.execute("ROLLBACK TO job");
    }
    writer_.execute("RELEASE job");
}

void SqliteDatabase::read(const Job& job) {
    const auto give_back = [this](SqliteSession* used) {
        std::unique_ptr<SqliteSession> session(used);
        const std::lock_guard lock(mutex_);
        if (readers_.size() < kIdleReaders) readers_.push_back(std::move(session));
    };
    std::unique_ptr<SqliteSession, decltype(give_back)> session(nullptr, give_back);
    {
        const std::lock_guard lock(mutex_);
        if (!readers_.empty()) {
            session.reset(readers_.back().release());
            readers_.pop_back();
        }
    }
    if (!session) session.reset(new SqliteSession(path_, 4 * 1024));
    job(*session);
}

void SqliteDatabase::backup(const std::string& path) {
    const std::string part = path + ".part";
    host::create_file(part, {}, 0600);
    try {
        const SqliteSession source(path_, 1024);
        const SqliteSession target(part, 1024);
        sqlite3_backup* const copy = sqlite3_backup_init(target.connection(), "main", source.connection(), "main");
        if (copy == nullptr) fail(target.connection(), "backup");
        // All pages in one step: a snapshot of the write-ahead log, so writers go on meanwhile.
        const int answer = sqlite3_backup_step(copy, -1);
        sqlite3_backup_finish(copy);
        if (answer != SQLITE_DONE) fail(target.connection(), "backup");
    } catch (const std::exception& error) {
        ::unlink(part.c_str());
        throw host::ToolError("backup to " + path + ": " + error.what());
    }
    // link() and not rename(): an older backup is not overwritten.
    const bool linked = ::link(part.c_str(), path.c_str()) == 0;
    const int error = errno;
    ::unlink(part.c_str());
    if (!linked) throw host::ToolError("backup to " + path + ": " + std::strerror(error));
}

}  // namespace

std::string integrity_fault(const std::string& path) {
    sqlite3* opened = nullptr;
    const int answer = sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE, nullptr);
    const Connection connection(opened);
    std::string said;
    const auto take = [](void* out, int, char** columns, char**) {
        *static_cast<std::string*>(out) = columns[0] == nullptr ? "" : columns[0];
        return 0;
    };
    const bool asked =
        answer == SQLITE_OK && sqlite3_exec(opened, "PRAGMA integrity_check(1)", take, &said, nullptr) == SQLITE_OK;
    if (!asked) said = sqlite3_errmsg(opened);
    if (asked && said == "ok") return "";
    return said.empty() ? "no answer" : said;
}

std::unique_ptr<Database> open_sqlite(const std::string& path) { return std::make_unique<SqliteDatabase>(path); }

}  // namespace gatehouse::server
