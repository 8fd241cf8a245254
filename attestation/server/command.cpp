#include "attestation/server/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "attestation/server/service.hpp"

namespace gatehouse::server {
namespace {

constexpr int kPatienceMilliseconds = 10'000;

[[noreturn]] void refuse(const std::string& why) { throw ServiceError(400, "command", "command: " + why); }

struct Attributes {
    Attributes() {
        posix_spawn_file_actions_init(&files);
        posix_spawnattr_init(&process);
    }
    ~Attributes() {
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&process);
    }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
    posix_spawn_file_actions_t files{};
    posix_spawnattr_t process{};
};

host::File file_with(const std::string& content) {
    host::File file(::memfd_create("event", MFD_CLOEXEC));
    if (file.get() < 0 || ::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()) ||
        ::lseek(file.get(), 0, SEEK_SET) != 0) {
        return {};
    }
    return file;
}

// Its end status as waitid() has it; after the patience is over it is killed first.
std::string wait_for(pid_t child) {
    const host::File handle(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    pollfd wait{handle.get(), POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&wait, 1, kPatienceMilliseconds);
    } while (ready < 0 && errno == EINTR);
    if (ready != 1) ::kill(-child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (ready != 1) return "did not end within " + std::to_string(kPatienceMilliseconds / 1000) + " s";
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
    return WIFEXITED(status) ? "ended with " + std::to_string(WEXITSTATUS(status))
                             : "was ended by signal " + std::to_string(WTERMSIG(status));
}

}  // namespace

std::string command_path(const std::string& directory, const std::string& name) {
    if (name.empty() || name.size() > 128 || name.front() == '.' || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
        refuse("must be the name of a file in " + directory + ", without a path");
    }
    std::string path = directory + "/" + name;
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) != 0) refuse(path + ": " + std::strerror(errno));
    if (!S_ISREG(facts.st_mode) || ::access(path.c_str(), X_OK) != 0) refuse(path + ": is not a program");
    if ((facts.st_mode & 022) != 0) refuse(path + ": may be changed by others: chmod go-w");
    return path;
}

std::string run_command(const std::string& path, const std::string& input) {
    const host::File event = file_with(input);
    if (event.get() < 0) return "no memory for its input";
    Attributes attributes;
    posix_spawn_file_actions_adddup2(&attributes.files, event.get(), STDIN_FILENO);
    posix_spawn_file_actions_addopen(&attributes.files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&attributes.files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&attributes.files, STDERR_FILENO + 1);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes.process, &none);
    posix_spawnattr_setsigdefault(&attributes.process, &all);
    posix_spawnattr_setpgroup(&attributes.process, 0);
    posix_spawnattr_setflags(&attributes.process,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::string program = path;
    std::string search = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const std::array<char*, 2> arguments{program.data(), nullptr};
    const std::array<char*, 2> environment{search.data(), nullptr};
    pid_t child = -1;
    const int error = ::posix_spawn(&child, path.c_str(), &attributes.files, &attributes.process, arguments.data(),
                                    environment.data());
    if (error != 0) return std::strerror(error);
    return wait_for(child);
}

}  // namespace gatehouse::server
