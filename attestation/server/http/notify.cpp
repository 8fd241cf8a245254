#include "attestation/server/http/notify.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace gatehouse::http {

void notify_manager(std::string_view state) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || (*path != '/' && *path != '@')) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, path, length);
    if (*path == '@') address.sun_path[0] = '\0';  // the abstract name space
    const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return;
    // A manager that does not listen is not our failure.
    (void)::sendto(descriptor, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
    ::close(descriptor);
}

std::optional<std::chrono::microseconds> watchdog_interval() {
    const char* const text = std::getenv("WATCHDOG_USEC");
    const char* const pid = std::getenv("WATCHDOG_PID");
    if (text == nullptr || (pid != nullptr && std::to_string(::getpid()) != pid)) return std::nullopt;
    long long microseconds = 0;
    const char* const end = text + std::strlen(text);
    const auto [rest, fault] = std::from_chars(text, end, microseconds);
    if (fault != std::errc() || rest != end || microseconds <= 0) return std::nullopt;
    return std::chrono::microseconds(microseconds / 2);
}

bool is_journal(int descriptor) {
    const char* const stream = std::getenv("JOURNAL_STREAM");
    struct stat facts {};
    return stream != nullptr && ::fstat(descriptor, &facts) == 0 &&
           std::to_string(facts.st_dev) + ":" + std::to_string(facts.st_ino) == stream;
}

}  // namespace gatehouse::http
