// The database under the server: SQLite in one file, or PostgreSQL shared by several server processes. This room owns
// every SQL string of the server; nothing outside of it says SELECT.
//
//   database.hpp                  opening, jobs, backup: what the other rooms begin with
//   administration.hpp  enrollments.hpp  endpoints.hpp  attestations.hpp  policies.hpp  actions.hpp  audit_rows.hpp  crls.hpp
//                                 the records of a kind, and what can be asked and changed of them
//   records.hpp                   those records that the server's users see as well
//   text.hpp  tpm_state.hpp       what text, and what is remembered of a TPM, is like in a column
//   inside only: session.hpp (statements), record.hpp (records by name), migrations.hpp (the tables), sqlite, postgres
//
// A record is a struct with one table of columns: which SQL expression goes into which member (record.hpp). All reads
// are by that table, and writes of a whole record that is a row as it is. Writers of rows that are read in parts, in
// joins or not at all (endpoints, evidence, outcomes, a token with its hash) name the columns themselves. The calls
// take the Session of a job and do one thing to the rows: they judge nothing, check nobody's role, write no audit
// entry. What is sought and is not there is an empty optional or false.
//
// Errors: DatabaseFull, for want of room; DatabaseAway, of a database that is out of reach; DatabaseError, of one that
// refuses, and of a column that is of another type than the record's, which is a fault of the program.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::server {

using host::Buffer;
class Session;  // session.hpp; outside of this room only its reference is passed on

// The database refused; the message names the statement's beginning.
class DatabaseError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// There is no room for what was to be written: a full disk, a quota, a limit of the file's size. Nothing of the job was
// written; the next one is, once there is room.
class DatabaseFull : public DatabaseError {
  public:
    using DatabaseError::DatabaseError;
};

// It cannot be reached, or was lost on the way: it restarts, is stopped, has failed over. Nothing of the job was written,
// unless the message says that this is not known.
class DatabaseAway : public DatabaseError {
  public:
    using DatabaseError::DatabaseError;
};

class Database {
  public:
    using Job = std::function<void(Session&)>;

    Database() = default;
    virtual ~Database() = default;
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    // "sqlite:PATH" (made if it is not there, mode 0600) or "postgresql://..."; migrations.hpp makes the tables.
    // ToolError.
    [[nodiscard]] static std::unique_ptr<Database> open(const std::string& url);

    // Runs the job in a transaction and returns when that is on disk. What the job throws undoes the job alone and is
    // thrown here. A job may be run again from its start (PostgreSQL: a conflict with another process), so it must set
    // all it gives out anew each time. It may run on another thread, and must not call the database itself.
    virtual void write(const Job& job) = 0;
    // Reads what has been committed; no transaction.
    virtual void read(const Job& job) = 0;
    // A copy of the whole database in a new file, while it is in use. ToolError if that fails, and on PostgreSQL.
    virtual void backup(const std::string& path) = 0;
};

// What SQLite finds wrong with the file, "" if nothing; it takes in what lies in the write-ahead log beside it.
[[nodiscard]] std::string integrity_fault(const std::string& path);

}  // namespace gatehouse::server
