#include "attestation/server/http/restore.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>

#include "attestation/server/database/database.hpp"

namespace gatehouse::http {
namespace {

using host::ToolError;
namespace fs = std::filesystem;

void check_integrity(const std::string& path, const std::string& shown) {
    const std::string fault = server::integrity_fault(path);
    if (!fault.empty()) throw ToolError(shown + ": not a whole backup: " + fault);
}

void flush(const std::string& path) {
    const host::File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0 || ::fsync(file.get()) != 0) throw ToolError(path + ": cannot be flushed");
}

// The copy, gone unless it has been put in place.
class Copy {
  public:
    Copy(const std::string& from, std::string path) : path_(std::move(path)) {
        remove();
        std::error_code error;
        fs::copy_file(from, path_, error);
        if (error) throw ToolError(from + ": cannot be copied to " + path_ + ": " + error.message());
        fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
    }
    ~Copy() { remove(); }
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;

  private:
    void remove() const {
        std::error_code ignored;
        for (const char* suffix : {"", "-wal", "-shm", "-journal"}) fs::remove(path_ + suffix, ignored);
    }
    std::string path_;
};

// How many audit entries the backup has; one is added, that it was restored.
std::int64_t check_and_note(const std::string& file, const server::ServiceOptions& options) {
    server::Service service(options);
    const auto check = service.verify_audit();
    if (!check.ok) throw ToolError(file + ": its audit log is broken: " + check.fault);
    // An empty file is a whole database to SQLite, and the trial has filled it with tables.
    if (check.entries == 0) throw ToolError(file + ": not a backup of an attestation-server: its audit log is empty");
    service.note("console", "database.restore", file, "{}");
    return check.entries;
}

}  // namespace

DirectoryLock::DirectoryLock(const std::string& directory) {
    const std::string path = directory + "/server.lock";
    file_ = host::File(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (file_.get() < 0) throw ToolError(path + ": cannot be made; is " + directory + " there, and writable?");
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
        throw ToolError(directory + ": an attestation-server runs here; stop it, or give another --data");
    }
}

std::int64_t restore_backup(const std::string& file, const server::ServiceOptions& options, bool force) {
    const std::string scheme = "sqlite:";
    if (!options.database.starts_with(scheme)) {
        throw ToolError("restore is for SQLite; for PostgreSQL use pg_restore");
    }
    const std::string target = options.database.substr(scheme.size());
    if (!fs::exists(file)) throw ToolError(file + ": there is no such file");
    if (!fs::exists(options.directory + "/master.key")) {
        throw ToolError(options.directory +
                        "/master.key: missing; put the one of the server that made the backup there");
    }
    const DirectoryLock lock(options.directory);
    if (!force && fs::exists(target)) {
        throw ToolError(target + ": there is a database already; --force replaces it");
    }
    const std::string path = target + ".restore";
    const Copy copy(file, path);
    check_integrity(path, file);
    server::ServiceOptions trial = options;
    trial.database = scheme + path;
    const std::int64_t entries = check_and_note(file, trial);
    check_integrity(path, file);  // takes in what the trial left in the write-ahead log
    flush(path);
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(target + suffix);
    fs::rename(path, target);
    flush(fs::path(target).parent_path().string());
    return entries;
}

}  // namespace gatehouse::http
