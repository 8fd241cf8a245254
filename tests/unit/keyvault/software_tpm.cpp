#include "tests/unit/keyvault/software_tpm.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <thread>

namespace gatehouse::test {
namespace {

// Control commands of swtpm (swtpm_ioctls(3)); everything big-endian.
constexpr std::uint32_t kSetLocality = 5;
constexpr std::uint32_t kHashStart = 6;
constexpr std::uint32_t kHashData = 7;
constexpr std::uint32_t kHashEnd = 8;
constexpr std::uint32_t kSuccess = 0;
constexpr int kTimeoutMilliseconds = 300'000;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("swtpm: " + what); }

int connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) fail("socket path is too long: " + path);
    path.copy(address.sun_path, path.size());
    const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return socket;
    ::close(socket);
    return -1;
}

void send_all(int socket, Bytes bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) fail("connection lost");
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
}

Buffer receive(int socket, std::size_t size) {
    Buffer bytes(size);
    std::size_t done = 0;
    while (done < size) {
        pollfd wait{socket, POLLIN, 0};
        if (::poll(&wait, 1, kTimeoutMilliseconds) != 1) fail("no answer");
        const ssize_t received = ::recv(socket, bytes.data() + done, size - done, 0);
        if (received <= 0) fail("connection lost");
        done += static_cast<std::size_t>(received);
    }
    return bytes;
}

}  // namespace

SoftwareTpm::SoftwareTpm(const std::string& state) {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-swtpm-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail("no temporary directory");
    directory_ = name;
    if (!state.empty()) std::filesystem::copy(state, directory_);
    const std::string server = "type=unixio,path=" + data_path();
    const std::string channel = "type=unixio,path=" + control_path();
    const std::string own_state = "dir=" + directory_;
    const pid_t parent = ::getpid();
    child_ = ::vfork();  // as run_tool() does
    if (child_ < 0) fail("cannot fork");
    if (child_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(127);
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, STDIN_FILENO);
        ::dup2(null, STDOUT_FILENO);
        ::dup2(null, STDERR_FILENO);
        ::execlp("swtpm", "swtpm", "socket", "--tpm2", "--server", server.c_str(), "--ctrl", channel.c_str(),
                 "--tpmstate", own_state.c_str(), "--flags", "not-need-init,startup-clear",
                 static_cast<const char*>(nullptr));
        ::_exit(127);
    }
    connect();
}

void SoftwareTpm::connect() {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kTimeoutMilliseconds);
    while ((control_ = connect_to(control_path())) < 0 || (data_ = connect_to(data_path())) < 0) {
        if (control_ >= 0) ::close(control_);
        if (::waitpid(child_, nullptr, WNOHANG) == child_) {
            child_ = -1;
            fail("ended at once; is it installed?");
        }
        if (std::chrono::steady_clock::now() > give_up) fail("does not listen");
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

void SoftwareTpm::disconnect() {
    for (int* const socket : {&data_, &control_}) {
        if (*socket >= 0) ::close(*socket);
        *socket = -1;
    }
}

SoftwareTpm::~SoftwareTpm() {
    disconnect();
    if (child_ > 0) {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

Result<std::size_t> SoftwareTpm::transmit(Bytes command, MutableBytes response) {
    Buffer sent(command.begin(), command.end());
    const auto code = sent.size() >= 10 ? load<std::uint32_t>(sent.data() + 6, Endian::kBig) : 0;
    if (command_interposer) command_interposer(code, sent);
    send_all(data_, sent);
    traffic.push_back(sent);
    Buffer received = receive(data_, 10);
    const auto size = load<std::uint32_t>(received.data() + 2, Endian::kBig);
    const Buffer rest = receive(data_, size - received.size());
    received.insert(received.end(), rest.begin(), rest.end());
    traffic.push_back(received);
    if (interposer) interposer(code, received);
    if (received.size() > response.size()) return {Error::kNoSpace, "swtpm", received.size()};
    copy_bytes(response, received);
    return received.size();
}

void SoftwareTpm::control(std::uint32_t command, Bytes payload) {
    Buffer message(sizeof(command));
    store(message.data(), command, Endian::kBig);
    message.insert(message.end(), payload.begin(), payload.end());
    send_all(control_, message);
    const Buffer answer = receive(control_, 4);
    if (load<std::uint32_t>(answer.data(), Endian::kBig) != kSuccess) fail("control command refused");
}

void SoftwareTpm::set_locality(unsigned locality) {
    const std::array<std::byte, 1> payload{static_cast<std::byte>(locality)};
    control(kSetLocality, payload);
}

void SoftwareTpm::dynamic_launch(Bytes image) {
    Buffer data(4);
    store(data.data(), static_cast<std::uint32_t>(image.size()), Endian::kBig);
    data.insert(data.end(), image.begin(), image.end());
    control(kHashStart, {});
    control(kHashData, data);
    control(kHashEnd, {});
}

}  // namespace gatehouse::test
