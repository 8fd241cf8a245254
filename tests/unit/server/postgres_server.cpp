#include "tests/unit/server/postgres_server.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>
#include <vector>

namespace gatehouse::test {
namespace {

constexpr std::chrono::seconds kPatience{300};

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("PostgreSQL: " + what); }

// As postgres if this is root, which PostgreSQL refuses to run as; goes when the test goes.
pid_t start(const std::vector<std::string>& arguments) {
    std::vector<char*> words;
    for (const std::string& one : arguments) words.push_back(const_cast<char*>(one.c_str()));
    words.push_back(nullptr);
    const passwd* const user = ::geteuid() == 0 ? ::getpwnam("postgres") : nullptr;
    const pid_t child = ::fork();
    if (child < 0) fail("cannot fork");
    if (child != 0) return child;
    if (user != nullptr && (::setgid(user->pw_gid) != 0 || ::setuid(user->pw_uid) != 0)) ::_exit(127);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR);
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, stream);
    if (::chdir("/") != 0) ::_exit(127);
    ::execv(words[0], words.data());
    ::_exit(127);
}

std::string installed_programs() {
    std::error_code none;
    for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
        if (std::filesystem::exists(version.path() / "bin/initdb")) return (version.path() / "bin").string();
    }
    return "";
}

}  // namespace

PostgresServer* PostgresServer::get() {
    static const std::string programs = installed_programs();
    static const std::unique_ptr<PostgresServer> server(programs.empty() ? nullptr : new PostgresServer(programs));
    return server.get();
}

PostgresServer::PostgresServer(std::string programs) : programs_(std::move(programs)) {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-postgres-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail("no temporary directory");
    directory_ = name;
    if (const passwd* const user = ::getpwnam("postgres"); ::geteuid() == 0 && user != nullptr) {
        if (::chown(directory_.c_str(), user->pw_uid, user->pw_gid) != 0) fail("cannot give its directory away");
    }
    const std::string data = directory_ + "/data";
    int status = -1;
    ::waitpid(start({programs_ + "/initdb", "-D", data, "-A", "trust", "-U", "gatehouse", "-E", "UTF8", "--no-sync"}),
              &status, 0);
    if (status != 0) fail("initdb failed");
    child_ = start({programs_ + "/postgres", "-D", data, "-k", directory_, "-c", "listen_addresses=", "-F"});
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        try {
            pqxx::connection connection(url("postgres"));
            return;
        } catch (const pqxx::failure& error) {
            if (std::chrono::steady_clock::now() > end) fail(error.what());
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
}

PostgresServer::~PostgresServer() {
    if (child_ > 0) {
        ::kill(child_, SIGQUIT);  // immediate shutdown, its children with it
        ::waitpid(child_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

std::string PostgresServer::url(const std::string& database) const {
    std::string host;
    for (const char c : directory_) host += c == '/' ? "%2F" : std::string(1, c);
    return "postgresql://gatehouse@" + host + "/" + database;
}

std::string PostgresServer::empty_database() {
    pqxx::connection connection(url("postgres"));
    pqxx::nontransaction(connection).exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    return url("postgres");
}

}  // namespace gatehouse::test
