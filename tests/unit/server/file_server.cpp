#include "tests/unit/server/file_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <tuple>

namespace gatehouse::test {

Listening listen_on_loopback() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (::bind(socket, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(socket, 64) != 0 ||
        ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        throw std::runtime_error("no listener");
    }
    return {socket, ntohs(address.sin_port)};
}

FileServer::FileServer() {
    std::tie(socket_, port_) = listen_on_loopback();
    thread_ = std::thread([this] { serve(); });
}

FileServer::~FileServer() {
    stop_ = true;
    thread_.join();
    ::close(socket_);
}

std::string FileServer::authority() const { return "127.0.0.1:" + std::to_string(port_); }
std::string FileServer::url(const std::string& path) const { return "http://" + authority() + path; }

void FileServer::answer(const std::string& target, const std::string& text) {
    const std::lock_guard lock(mutex_);
    answers_[target] = text;
}

void FileServer::give(const std::string& target, const std::string& body, const std::string& headers) {
    answer(target,
           "HTTP/1.1 200 OK\r\n" + headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

void FileServer::be_silent(const std::string& target) {
    const std::lock_guard lock(mutex_);
    silent_.push_back(target);
}

std::vector<std::string> FileServer::requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
}

void FileServer::serve() {
    while (!stop_) {
        pollfd wait{socket_, POLLIN, 0};
        if (::poll(&wait, 1, 20) != 1) continue;
        const int peer = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
        take(peer);
        ::close(peer);
    }
}

void FileServer::take(int peer) {
    std::string text;
    std::array<char, 4096> part{};
    while (text.find("\r\n\r\n") == std::string::npos) {
        const ssize_t size = ::recv(peer, part.data(), part.size(), 0);
        if (size <= 0) return;
        text.append(part.data(), static_cast<std::size_t>(size));
    }
    const std::string target = text.substr(4, text.find(' ', 4) - 4);
    std::string out = "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n";
    bool silent = false;
    {
        const std::lock_guard lock(mutex_);
        requests_.push_back(text);
        if (const auto found = answers_.find(target); found != answers_.end()) out = found->second;
        silent = std::ranges::find(silent_, target) != silent_.end();
    }
    if (!silent) {
        (void)::send(peer, out.data(), out.size(), MSG_NOSIGNAL);
        return;
    }
    while (!stop_) {
        pollfd wait{peer, POLLIN, 0};
        if (::poll(&wait, 1, 20) == 1) return;  // nothing more comes but the end
    }
}

}  // namespace gatehouse::test
