// A server of HTTP for tests: on the loopback address and a port of the system's choice, one request at a time, each
// answered with what the test has set for its target.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace gatehouse::test {

// A socket that listens there, and its port. std::runtime_error.
using Listening = std::pair<int, unsigned>;
[[nodiscard]] Listening listen_on_loopback();

class FileServer {
  public:
    FileServer();
    ~FileServer();
    FileServer(const FileServer&) = delete;
    FileServer& operator=(const FileServer&) = delete;

    [[nodiscard]] std::string url(const std::string& path) const;
    [[nodiscard]] std::string authority() const;
    // The whole answer, byte for byte; `target` as it is in the request line. What is not set is 404.
    void answer(const std::string& target, const std::string& text);
    // 200 with this body and these header lines ("ETag: \"x\"\r\n").
    void give(const std::string& target, const std::string& body, const std::string& headers = "");
    // Takes the request and says nothing until the client has gone.
    void be_silent(const std::string& target);
    // Requests, from the request line to the empty line.
    [[nodiscard]] std::vector<std::string> requests();

  private:
    void serve();
    void take(int peer);

    int socket_ = -1;
    unsigned port_ = 0;
    std::atomic<bool> stop_ = false;
    std::mutex mutex_;  // of the next three
    std::map<std::string, std::string> answers_;
    std::vector<std::string> silent_;
    std::vector<std::string> requests_;
    std::thread thread_;
};

}  // namespace gatehouse::test
