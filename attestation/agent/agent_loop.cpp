// The daemon: enroll until there is a certificate, then attest on schedule, renew, and listen for an
// operator's wish.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include "attestation/agent/agent.hpp"
#include "attestation/agent/schedule.hpp"
#include "attestation/agent/server_client.hpp"

namespace gatehouse::agent {

using Seconds = std::chrono::duration<double>;

class Agent::Loop {
  public:
    Loop(Agent& agent, const std::function<void(const std::string&)>& say) : agent_(agent), say_(say) {}

    // One round: what is due now, then a wait. Whatever goes wrong is said and tried again.
    void round() {
        try {
            if (state().endpoint_id.empty()) return enroll();
            if (state().pending) beside("enrollment", [this] { take_up_enrollment(); });
            beside("renewal", [this] {
                if (agent_.renew_if_due()) say_("certificate renewed");
            });
            attest();
            backoff_.reset();
        } catch (const Refused& refused) {
            const bool is_stranger = refused.status() == 401 || refused.status() == 403;
            if (is_stranger && !state().pending) say_(kHint);
            trouble(refused.what(), refused.retry_after());
        } catch (const std::exception& error) {
            trouble(error.what(), 0);
        }
    }

  private:
    static constexpr const char* kHint =
        "the server does not know this endpoint any more; `attestation-agent enroll --again` enrolls it anew";

    [[nodiscard]] State state() const { return agent_.directory().state(); }
    [[nodiscard]] double unit() { return std::uniform_real_distribution<double>(0, 1)(random_); }
    static void sleep(double seconds) { std::this_thread::sleep_for(Seconds(seconds)); }

    // What an endpoint does beside attesting, with the certificate that it has: its failure is no reason not
    // to attest.
    void beside(const char* what, const std::function<void()>& step) {
        try {
            step();
        } catch (const std::exception& error) {
            agent_.connection_.reset();
            say_(std::string(what) + ": " + error.what());
        }
    }

    // Whether there is a new certificate.
    bool take_up_enrollment() {
        const protocol::EnrollStatus status = agent_.enroll(false);
        const bool is_approved = status.state == "approved";
        say_(is_approved ? "enrolled as " + status.endpoint_id
                         : "enrollment is " + status.state + (status.reason.empty() ? "" : ": " + status.reason));
        return is_approved;
    }

    void enroll() {
        if (take_up_enrollment()) return backoff_.reset();
        sleep(backoff_.next(0, unit()));
    }

    void attest() {
        const protocol::AttestAnswer answer = agent_.attest();
        std::string line = "verdict: " + answer.verdict;
        for (const std::string& failure : answer.failures) line += "; " + failure;
        say_(line);
        listen(until_next(agent_.config_.interval_s, answer.next_s, unit()));
    }

    // Until `seconds` have passed, or evidence is wanted. A server that has no connection to spare, or is
    // away, is left alone until then: no verdict depends on listening.
    void listen(double seconds) {
        const auto due = std::chrono::steady_clock::now() + Seconds(seconds);
        for (;;) {
            const double left = Seconds(due - std::chrono::steady_clock::now()).count();
            if (left <= 0) return;
            const auto started = std::chrono::steady_clock::now();
            bool is_wanted = false;
            try {
                is_wanted = agent_.connection().wanted(static_cast<unsigned>(std::ceil(left)));
            } catch (const std::exception&) {
                agent_.connection_.reset();
                return sleep(std::max(0.0, Seconds(due - std::chrono::steady_clock::now()).count()));
            }
            // A server that answers at once is not asked at once again, nor is it sent evidence without a
            // pause.
            const Seconds taken = std::chrono::steady_clock::now() - started;
            if (taken.count() < 1) sleep(std::min(left, 1 - taken.count()));
            if (is_wanted) return say_("evidence is wanted");
        }
    }

    void trouble(const std::string& what, unsigned retry_after) {
        agent_.connection_.reset();
        const double seconds = backoff_.next(retry_after, unit());
        say_(what + "; next try in " + std::to_string(std::lround(seconds)) + " s");
        sleep(seconds);
    }

    Agent& agent_;
    const std::function<void(const std::string&)>& say_;
    Backoff backoff_;
    std::mt19937_64 random_{std::random_device{}()};
};

void Agent::run(const std::function<void(const std::string&)>& say) {
    Loop loop(*this, say);
    for (;;) loop.round();
}

}  // namespace gatehouse::agent
