#include "attestation/server/database/postgres.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <pqxx/pqxx>
#include <thread>
#include <unordered_map>

#include "attestation/server/database/session.hpp"

namespace gatehouse::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostConnections = 16;
constexpr unsigned kAttempts = 8;
constexpr pqxx::oid kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kNumeric = 1700, kBool = 16;

// What libpq is told unless the URL tells it otherwise: nothing waits for ever for a server that is out of
// reach, a statement that does not end or a lock that is not given (PostgreSQL 15, 34.1.2 and 20.11.1).
constexpr std::pair<std::string_view, std::string_view> kTimeOuts[] = {
    {"connect_timeout", "5"},       // seconds
    {"tcp_user_timeout", "20000"},  // milliseconds
    {"keepalives_idle", "20"},      // seconds
    {"keepalives_interval", "5"},
    {"keepalives_count", "3"},
    {"options", "-c%20statement_timeout%3D60s%20-c%20lock_timeout%3D20s"},
};

std::string with_time_outs(std::string url) {
    for (const auto& [name, value] : kTimeOuts) {
        const std::size_t query = url.find('?');
        const std::string key = std::string(name) + "=";
        const bool said = query != std::string::npos && (url.find("?" + key, query) != std::string::npos ||
                                                         url.find("&" + key, query) != std::string::npos);
        if (said) continue;
        if (query == std::string::npos) url += '?';
        if (url.back() != '?' && url.back() != '&') url += '&';
        url += key + std::string(value);
    }
    return url;
}

// TEXT out of /*+ TEXT +*/.
std::string for_postgresql(std::string_view sql) {
    std::string text(sql);
    for (const std::string_view mark : {"/*+", "+*/"}) {
        for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos;) text.erase(at, mark.size());
    }
    return text;
}

std::string as_text(const Param& param) {
    if (const auto* const number = std::get_if<std::int64_t>(&param.held())) return std::to_string(*number);
    if (const auto* const text = std::get_if<std::string_view>(&param.held())) return std::string(*text);
    return "\\x" + host::hex(std::get<Bytes>(param.held()));
}

Value as_value(const pqxx::field& field, pqxx::oid type) {
    if (field.is_null()) return std::monostate{};
    const std::string_view text(field.c_str(), field.size());
    switch (type) {
        case kInt2:
        case kInt4:
        case kInt8:
        case kNumeric:  // a sum of 64-bit integers
            return std::int64_t{std::stoll(std::string(text))};
        case kBool: return std::int64_t{text == "t"};
        case kBytea: return host::from_hex(text.substr(2), "bytea");
        default: return std::string(text);
    }
}

// A connection and the statements that it has prepared, by their text.
struct Link {
    explicit Link(const std::string& url) : connection(url), socket(::fcntl(connection.sock(), F_DUPFD_CLOEXEC, 0)) {
        connection.set_verbosity(pqxx::connection_base::terse);
        connection.inhibit_reactivation(true);  // another connection is another Link
    }
    ~Link() { ::close(socket); }
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;
    const std::string& name_of(std::string_view sql) {
        std::string text(sql);
        if (const auto found = names.find(text); found != names.end()) return found->second;
        const std::string name = "s" + std::to_string(names.size() + 1);
        connection.prepare(name, for_postgresql(sql));
        return names.emplace(std::move(text), name).first->second;
    }
    pqxx::connection connection;
    int socket;  // of its own: it stays this connection's whatever libpq does
    std::unordered_map<std::string, std::string> names;
};

// Ends the connections at work whose server does not answer in time. libpq waits for an answer for ever, and the
// server's own time-outs are no help when it is the server that is stopped. Thread-safe.
class Watch {
  public:
    explicit Watch(std::chrono::milliseconds patience) : patience_(patience), thread_([this] { look(); }) {}
    ~Watch() {
        {
            const std::lock_guard lock(mutex_);
            ended_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    // It has something to answer from now on, or something new; a script may take as long as it does.
    void expect(const Link& link) { note(link, Clock::now() + patience_); }
    void expect_script(const Link& link) { note(link, Clock::time_point::max()); }
    void forget(const Link& link) {
        const std::lock_guard lock(mutex_);
        until_.erase(&link);
    }

  private:
    void note(const Link& link, Clock::time_point until) {
        const std::lock_guard lock(mutex_);
        until_[&link] = until;
    }
    void look() {
        std::unique_lock lock(mutex_);
        while (!ended_) {
            changed_.wait_for(lock, std::min<std::chrono::milliseconds>(patience_, std::chrono::seconds(1)));
            for (const auto& [link, until] : until_) {
                if (Clock::now() > until) (void)::shutdown(link->socket, SHUT_RDWR);
            }
        }
    }

    const std::chrono::milliseconds patience_;
    std::mutex mutex_;  // of what follows
    std::condition_variable changed_;
    std::unordered_map<const Link*, Clock::time_point> until_;
    bool ended_ = false;
    std::thread thread_;
};

class PostgresSession final : public Session {
  public:
    PostgresSession(Watch& watch, Link& link, pqxx::transaction_base& transaction)
        : watch_(watch), link_(link), transaction_(transaction) {}

    Rows query_with(std::string_view sql, std::span<const Param> params) override {
        const pqxx::result result = run(sql, params);
        std::vector<pqxx::oid> types;
        for (pqxx::row::size_type i = 0; i < result.columns(); ++i) types.push_back(result.column_type(i));
        Rows rows;
        rows.reserve(result.size());
        for (const auto& row : result) {
            Row values;
            values.reserve(types.size());
            for (pqxx::row::size_type i = 0; i < row.size(); ++i) values.push_back(as_value(row[i], types[i]));
            rows.push_back(std::move(values));
        }
        return rows;
    }
    std::int64_t execute_with(std::string_view sql, std::span<const Param> params) override {
        return static_cast<std::int64_t>(run(sql, params).affected_rows());
    }
    // A migration of a large fleet takes minutes.
    void script(const std::string& sql) override {
        watch_.expect_script(link_);
        transaction_.exec("SET LOCAL statement_timeout = 0");
        transaction_.exec(for_postgresql(sql));
    }
    bool is_postgresql() const override { return true; }

  private:
    pqxx::result run(std::string_view sql, std::span<const Param> params) {
        watch_.expect(link_);
        std::vector<std::string> texts;
        texts.reserve(params.size());
        for (const Param& param : params) texts.push_back(as_text(param));
        return transaction_.exec_prepared(link_.name_of(sql), pqxx::prepare::make_dynamic_params(texts));
    }

    Watch& watch_;
    Link& link_;
    pqxx::transaction_base& transaction_;
};

std::string first_line(const char* text) {
    const std::string_view all(text);
    return std::string(all.substr(0, all.find('\n')));
}

class PostgresDatabase final : public Database {
  public:
    PostgresDatabase(std::string url, std::chrono::milliseconds patience)
        : url_(with_time_outs(std::move(url))), patience_(patience), watch_(patience) {
        try {
            read([](Session& session) { (void)session.query("SELECT 1"); });
        } catch (const DatabaseError& error) {
            throw host::ToolError(error.what());
        }
    }

    void write(const Job& job) override {
        run([this, &job](Link& link) {
            pqxx::work transaction(link.connection);
            PostgresSession session(watch_, link, transaction);
            job(session);
            watch_.expect(link);
            transaction.commit();
        });
    }
    void read(const Job& job) override {
        run([this, &job](Link& link) {
            pqxx::nontransaction transaction(link.connection);
            PostgresSession session(watch_, link, transaction);
            job(session);
        });
    }
    void backup(const std::string&) override {
        throw host::ToolError("backup: a PostgreSQL database is backed up with pg_dump, while the server runs",
                              host::ExitCode::kUsage);
    }

  private:
    // A link of the pool for as long as the object lives; with broken(), it does not go back.
    class Loan {
      public:
        explicit Loan(PostgresDatabase& owner) : owner_(owner), link_(owner.take()) {}
        ~Loan() {
            if (link_) owner_.watch_.forget(*link_);
            owner_.give_back(std::move(link_));
        }
        Loan(const Loan&) = delete;
        Loan& operator=(const Loan&) = delete;
        Link& link() {
            if (!link_) link_ = std::make_unique<Link>(owner_.url_);
            owner_.watch_.expect(*link_);
            return *link_;
        }
        void broken() {
            if (link_) owner_.watch_.forget(*link_);
            link_.reset();
        }

      private:
        PostgresDatabase& owner_;
        std::unique_ptr<Link> link_;
    };

    template <typename Work>
    void run(Work work) {
        Loan loan(*this);
        for (unsigned attempt = 1;; ++attempt) {
            try {
                work(loan.link());
                return;
            } catch (const pqxx::in_doubt_error& error) {
                loan.broken();
                throw DatabaseAway(
                    "database: the connection was lost while writing, whether it was written is not known: " +
                    first_line(error.what()));
            } catch (const pqxx::transaction_rollback& error) {
                if (attempt == kAttempts) throw DatabaseError("database: " + first_line(error.what()));
                std::this_thread::sleep_for(std::chrono::milliseconds(attempt * attempt));
            } catch (const pqxx::unique_violation& error) {
                // Another transaction was first; the next attempt sees what it did.
                if (attempt >= 3) throw DatabaseError("database: " + first_line(error.what()));
            } catch (const pqxx::broken_connection& error) {
                // Nothing was committed: a new connection may do it.
                loan.broken();
                if (attempt >= 2) throw DatabaseAway("database: " + first_line(error.what()));
            } catch (const pqxx::disk_full& error) {
                throw DatabaseFull("database: " + first_line(error.what()));
            } catch (const pqxx::sql_error& error) {
                throw DatabaseError("database: " + first_line(error.what()) + " (" + error.query().substr(0, 60) + ")");
            } catch (const pqxx::failure& error) {
                loan.broken();
                throw DatabaseError("database: " + first_line(error.what()));
            }
        }
    }

    std::unique_ptr<Link> take() {
        std::unique_lock lock(mutex_);
        if (!returned_.wait_for(lock, patience_, [this] { return lent_ < kMostConnections; }))
            throw DatabaseAway("database: none of its " + std::to_string(kMostConnections) + " connections came free");
        ++lent_;
        if (idle_.empty()) return nullptr;  // made by its user, outside of the lock
        std::unique_ptr<Link> link = std::move(idle_.back());
        idle_.pop_back();
        return link;
    }
    void give_back(std::unique_ptr<Link> link) {
        {
            const std::lock_guard lock(mutex_);
            --lent_;
            if (link) idle_.push_back(std::move(link));
        }
        returned_.notify_one();
    }

    std::string url_;
    std::chrono::milliseconds patience_;
    Watch watch_;
    std::mutex mutex_;  // of what follows
    std::condition_variable returned_;
    std::vector<std::unique_ptr<Link>> idle_;
    std::size_t lent_ = 0;
};

}  // namespace

std::unique_ptr<Database> open_postgresql(const std::string& url, std::chrono::milliseconds patience) {
    return std::make_unique<PostgresDatabase>(url, patience);
}

}  // namespace gatehouse::server
