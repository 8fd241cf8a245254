// Who is told of a change of state, how often, and how it is known who tells.
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <tuple>

#include "tests/unit/server/file_server.hpp"
#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::test {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

// What is waited for is a state; this only bounds a failure, on a machine that is busy with other things.
constexpr std::chrono::seconds kPatience{300};

// Takes one request after the other and answers each with `status`; on a port of the system's choice.
class Listener {
  public:
    Listener() {
        std::tie(socket_, port_) = listen_on_loopback();
        thread_ = std::thread([this] { serve(); });
    }
    ~Listener() {
        stop_ = true;
        thread_.join();
        ::close(socket_);
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    struct Received {
        std::string head, body;
        [[nodiscard]] std::string header(const std::string& name) const {
            const std::size_t at = head.find("\r\n" + name + ": ");
            if (at == std::string::npos) return "";
            const std::size_t from = at + name.size() + 4;
            return head.substr(from, head.find("\r\n", from) - from);
        }
    };
    [[nodiscard]] std::vector<Received> received() {
        const std::lock_guard lock(mutex_);
        return received_;
    }
    [[nodiscard]] std::string url(const std::string& path = "/hook?x=1") const {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    std::atomic<int> status = 204;
    std::string more;  // headers of the answer; set before it is used

  private:
    void serve() {
        while (!stop_) {
            pollfd wait{socket_, POLLIN, 0};
            if (::poll(&wait, 1, 20) != 1) continue;
            const int peer = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
            take(peer);
            ::close(peer);
        }
    }
    void take(int peer) {
        std::string text;
        std::size_t end = std::string::npos, length = 0;
        std::array<char, 4096> part{};
        while (end == std::string::npos || text.size() < end + 4 + length) {
            const ssize_t size = ::recv(peer, part.data(), part.size(), 0);
            if (size <= 0) return;
            text.append(part.data(), static_cast<std::size_t>(size));
            end = text.find("\r\n\r\n");
            if (const std::size_t at = text.find("Content-Length: "); at != std::string::npos)
                length = std::stoul(text.substr(at + 16));
        }
        {
            const std::lock_guard lock(mutex_);
            received_.push_back({text.substr(0, end + 2), text.substr(end + 4)});
        }
        const std::string answer = "HTTP/1.1 " + std::to_string(status) + " x\r\n" + more + "Content-Length: 0\r\n\r\n";
        (void)::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
    }

    int socket_ = -1;
    unsigned port_ = 0;
    std::atomic<bool> stop_ = false;
    std::mutex mutex_;
    std::vector<Received> received_;
    std::thread thread_;
};

class Actions : public ServiceTest {
  protected:
    void SetUp() override {
        ServiceTest::SetUp();
        if (!service_) return;
        enforce(hypervisor_policy("laptops", 1));
        id_ = enroll(endpoint_);
    }
    void hook(const Listener& listener) {
        service_->add_action(kAdmin, {"hook", "webhook", listener.url(), "a shared secret"});
    }
    // A change of state each time.
    void change() {
        endpoint_.other_kernel = !endpoint_.other_kernel;
        (void)attest(id_, endpoint_);
    }
    // A program for the actions directory.
    void program(const std::string& name, const std::string& text, unsigned mode = 0755) {
        const std::string directory = options_.directory + "/actions";
        std::filesystem::create_directory(directory);
        std::ofstream(directory + "/" + name) << "#!/bin/sh\n" << text << "\n";
        ASSERT_EQ(::chmod((directory + "/" + name).c_str(), mode), 0);
    }

    SoftwareEndpoint endpoint_;
    std::string id_;
};

TEST_P(Actions, WebhookIsToldOfEachChangeWithASignature) {
    Listener listener;
    hook(listener);
    (void)attest(id_, endpoint_);
    (void)attest(id_, endpoint_);  // no change
    change();
    EXPECT_THAT(listener.received(), SizeIs(0));  // attestations do not wait for it
    service_->tick();
    const auto received = listener.received();
    ASSERT_EQ(received.size(), 2u);
    EXPECT_THAT(received[0].head, HasSubstr("POST /hook?x=1 HTTP/1.1"));
    const nlohmann::json event = nlohmann::json::parse(received[1].body);
    EXPECT_EQ(event.at("endpoint"), id_);
    EXPECT_EQ(event.at("from"), "trusted");
    EXPECT_EQ(event.at("to"), "untrusted");
    EXPECT_THAT(event.at("reason").get<std::string>(), HasSubstr("kernel"));
    const std::string time = std::to_string(now_->load());
    const Sha256Digest mac = hmac_sha256(literal_bytes("a shared secret"), {host::text_bytes(time), literal_bytes("."),
                                                                            host::text_bytes(received[1].body)});
    EXPECT_EQ(received[1].header("Gatehouse-Signature"), "t=" + time + ",v1=" + host::hex(mac));
    EXPECT_EQ(service_->totals().actions_delivered, 2u);
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(2));
}

TEST_P(Actions, OneThatIsDownDoesNotHoldUpTheOthers) {
    Listener down, listener;
    down.status = 500;
    service_->add_action(kAdmin, {"down", "webhook", down.url(), "secret"});
    for (int i = 0; i < 70; ++i) change();
    hook(listener);
    change();
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(1));
    EXPECT_THAT(down.received(), SizeIs(1));
}

TEST_P(Actions, AuditLogDoesNotTellAWebhooksPath) {
    const std::string url = "https://hooks.example/services/T0/secret-of-the-path?key=1";
    service_->add_action(kAdmin, {"hook", "webhook", url, "a shared secret"});
    std::string told;
    service_->export_audit([&](const server::AuditEntry& entry) { told += entry.detail; });
    EXPECT_THAT(told, HasSubstr("hooks.example"));
    EXPECT_THAT(told, testing::Not(HasSubstr("secret")));
}

TEST_P(Actions, FailedDeliveryIsTriedAgainLaterAndLater) {
    Listener listener;
    listener.status = 500;
    hook(listener);
    change();
    service_->tick();
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(1));
    *now_ += 11;
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(2));
    *now_ += 11;
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(2));  // twice as long now
    *now_ += 10;
    listener.status = 200;
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(3));
    EXPECT_EQ(service_->totals().actions_delivered, 1u);
    EXPECT_EQ(service_->totals().actions_failed, 2u);
}

TEST_P(Actions, GivesUpAfterTwelveAttemptsAndSaysSo) {
    Listener listener;
    listener.status = 500;
    hook(listener);
    change();
    for (int i = 0; i < 20; ++i) {
        service_->tick();
        *now_ += 7201;
    }
    EXPECT_EQ(audited("action.give_up"), std::vector<std::string>{"hook"});
    std::size_t untrusted = 0;
    for (const auto& one : listener.received()) untrusted += one.body.find("\"to\":\"untrusted\"") != std::string::npos;
    EXPECT_EQ(untrusted, 12u);
}

TEST_P(Actions, DoesNotFollowARedirect) {
    Listener elsewhere, listener;
    listener.status = 307;
    listener.more = "Location: " + elsewhere.url() + "\r\n";
    hook(listener);
    change();
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(1));
    EXPECT_THAT(elsewhere.received(), SizeIs(0));
    EXPECT_EQ(service_->totals().actions_failed, 1u);
}

TEST_P(Actions, ServersOfOneDatabaseDeliverEachEventOnce) {
    Listener listener;
    hook(listener);
    for (int i = 0; i < 12; ++i) change();
    std::vector<std::unique_ptr<Service>> servers;
    for (int i = 0; i < 4; ++i) servers.push_back(another());
    std::vector<std::thread> threads;
    for (const auto& server : servers) threads.emplace_back([&server] { server->tick(); });
    for (std::thread& thread : threads) thread.join();
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(12));
}

TEST_P(Actions, WhatAServerThatDiedHadClaimedIsFreeAfterAMinute) {
    const std::string told = path("told"), hold = path("hold");
    program("tell", "echo told >> " + told + "\n[ \"$(wc -l < " + told + ")\" != 1 ] || while [ -e " + hold +
                        " ]; do sleep 0.02; done");
    const auto lines = [&told] {
        std::ifstream file(told);
        return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
    };
    std::ofstream(hold).close();
    service_->add_action(kAdmin, {"tell", "command", "tell", {}});
    change();
    const std::unique_ptr<Service> dead = another();  // as far as the others can tell
    std::thread thread([&dead] { dead->tick(); });
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (lines() == 0 && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (lines() == 0) {
        std::filesystem::remove(hold);  // should it begin yet, it ends
        thread.join();
        FAIL() << "the command was not begun within " << kPatience.count() << " s";
    }
    *now_ += 60;
    service_->tick();
    EXPECT_EQ(lines(), 1);
    *now_ += 1;
    service_->tick();
    EXPECT_EQ(lines(), 2);
    std::filesystem::remove(hold);
    thread.join();
    service_->tick();
    EXPECT_EQ(lines(), 2);
    EXPECT_EQ(service_->totals().actions_delivered, 1u);
}

TEST_P(Actions, RefusesTargetsThatWouldReachTooFar) {
    for (const char* const url :
         {"http://192.0.2.1/", "http://intranet/", "ftp://127.0.0.1/", "https://user:pass@example.org/", "https:///x",
          "https://example.org/#f", "https://example.org:port/", "https://example.org/a b",
          "http://127.0.0.1.example.org/"}) {
        EXPECT_EQ(code_of([&] { service_->add_action(kAdmin, {"x", "webhook", url, "s"}); }), "url") << url;
    }
    unsigned number = 0;
    for (const char* const url : {"https://example.org", "http://[::1]:8080/x", "http://localhost"}) {
        const std::string name = "good-" + std::to_string(++number);
        EXPECT_EQ(code_of([&] { service_->add_action(kAdmin, {name, "webhook", url, "s"}); }), "") << url;
    }
    EXPECT_EQ(code_of([&] { service_->add_action(kAdmin, {"x", "webhook", "https://example.org", ""}); }), "secret");
    program("writable", "exit 0", 0777);
    program("data", "exit 0", 0644);
    for (const char* const name : {"../master.key", "/bin/sh", ".hidden", "", "absent", "writable", "data"})
        EXPECT_EQ(code_of([&] { service_->add_action(kAdmin, {"x", "command", name, ""}); }), "command") << name;
    for (const auto& action : service_->actions(kAdmin)) EXPECT_EQ(action.secret, "");
}

TEST_P(Actions, CommandGetsTheEventAndNothingElse) {
    const std::string out = path("out");
    program("tell", "cat > " + out + "; env >> " + out + "; ls /proc/self/fd | wc -l >> " + out);
    service_->add_action(kAdmin, {"command", "command", "tell", ""});
    change();
    service_->tick();
    std::ifstream file(out);
    std::string event, rest, line;
    std::getline(file, event, '}');
    EXPECT_EQ(nlohmann::json::parse(event + "}").at("to"), "untrusted");
    while (std::getline(file, line)) rest += line + "\n";
    EXPECT_EQ(rest.find("HOME="), std::string::npos) << rest;
    EXPECT_EQ(service_->totals().actions_delivered, 1u);
}

TEST_P(Actions, CommandThatFailsIsTriedAgain) {
    program("fail", "exit 3");
    service_->add_action(kAdmin, {"command", "command", "fail", ""});
    change();
    service_->tick();
    EXPECT_EQ(service_->totals().actions_failed, 1u);
    program("fail", "exit 0");
    *now_ += 11;
    service_->tick();
    EXPECT_EQ(service_->totals().actions_delivered, 1u);
}

TEST_P(Actions, RemovedActionIsNotToldWhatWaitedForIt) {
    Listener listener;
    hook(listener);
    change();
    service_->remove_action(kAdmin, "hook");
    service_->tick();
    EXPECT_THAT(listener.received(), SizeIs(0));
}

INSTANTIATE_TEST_SUITE_P(SQLite, Actions, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Actions, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test
