#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "attestation/agent/server_client.hpp"
#include "attestation/server/authority.hpp"
#include "attestation/server/service.hpp"
#include "attestation/verifier/policy.hpp"
#include "tests/bench/measurements.hpp"
#include "tests/unit/server/software_endpoint.hpp"

namespace gatehouse::bench {
namespace {

using Clock = std::chrono::steady_clock;
using host::ToolError;

const server::Principal kOperator{.name = "bench", .role = server::Role::kAdmin};
constexpr const char* kGroup = "bench";

// The operator's part, at the server's own database.
void prepare(server::Service& service, const std::vector<test::SoftwareEndpoint>& endpoints) {
    try {
        service.create_group(kOperator, kGroup);
    } catch (const server::ServiceError&) {
        // it is there, from the run before
    }
    const test::SoftwareKey authority = test::make_p256_key();
    const auto version = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    const std::string name = "bench-" + std::to_string(version);
    service.add_policy_authority(kOperator, name, server::public_pem(authority.get()));
    (void)service.add_policy(kOperator,
                             verifier::sign_policy(test::hypervisor_policy("bench", version), authority.get()));
    for (const server::Assignment& old : service.assignments(kOperator)) {
        if (old.group == kGroup) service.unassign(kOperator, kGroup, old.policy, old.version);
    }
    service.assign(kOperator, kGroup, "bench", version, server::Stage::kEnforce);
    for (const test::SoftwareEndpoint& endpoint : endpoints) {
        service.register_endorsement(kOperator, endpoint.ek_hash(), kGroup);
    }
}

std::string text_of(const std::string& path) {
    const host::Buffer bytes = host::read_file(path, 1 << 20);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// One endpoint on its connection.
class Endpoint {
  public:
    Endpoint(test::SoftwareEndpoint made, const LoadOptions& options, const std::string& ca)
        : made_(std::move(made)),
          reconnects_(options.reconnect),
          connection_({.url = options.url, .ca = ca, .identity = enroll(options, ca)}),
          client_(connection_) {
        if (!options.by_key) return;
        connection_.key = client_.connection_key();
        client_ = agent::ServerClient(connection_);
    }

    void attest() {
        made_.clock += 1000;
        if (reconnects_) client_.close();
        if (next_nonce_.empty()) next_nonce_ = client_.nonce().nonce;
        protocol::AttestAnswer answer = client_.attest(made_.attest(next_nonce_));
        if (answer.verdict != "trusted") {
            throw ToolError("good evidence is refused: " + (answer.failures.empty() ? "" : answer.failures.front()));
        }
        if (answer.result.empty()) throw ToolError("a verdict without a signed result");
        next_nonce_ = std::move(answer.next_nonce);
        if (client_.by_key() != connection_.key.has_value()) throw ToolError("the connection was opened otherwise");
    }

    std::vector<float> latencies_ms;
    unsigned long refused = 0;
    std::string first_refusal;

  private:
    [[nodiscard]] std::string enroll(const LoadOptions& options, const std::string& ca) const {
        agent::ServerClient client({.url = options.url, .ca = ca, .identity = {}});
        const protocol::EnrollChallenge challenge = client.enroll(made_.enroll_request());
        const protocol::EnrollStatus status = client.activate(challenge.id, made_.activate(challenge));
        if (status.state != "approved") throw ToolError("enrollment is " + status.state + ": " + status.reason);
        return made_.tls_key_pem() + status.certificate;
    }

    test::SoftwareEndpoint made_;
    bool reconnects_;
    agent::ConnectionOptions connection_;
    agent::ServerClient client_;
    host::Buffer next_nonce_;
};

void keep_attesting(Endpoint& endpoint, Clock::time_point from, Clock::time_point until) {
    for (;;) {
        const auto begun = Clock::now();
        if (begun >= until) return;
        std::string refusal;
        try {
            endpoint.attest();
        } catch (const std::exception& error) {
            refusal = error.what();
        }
        const auto ended = Clock::now();
        if (begun < from || ended > until) continue;
        if (refusal.empty()) {
            endpoint.latencies_ms.push_back(std::chrono::duration<float, std::milli>(ended - begun).count());
        } else if (endpoint.refused++ == 0) {
            endpoint.first_refusal = refusal;
        }
    }
}

double processor_time() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Of another process; proc(5), /proc/pid/stat, fields 14 and 15.
double processor_time_of(int pid) {
    if (pid == 0) return 0;
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(file, text) || text.rfind(')') == text.npos)
        throw ToolError("process " + std::to_string(pid) + ": its processor time cannot be read");
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string ignored;
    for (int i = 3; i < 14; ++i) fields >> ignored;
    double user = 0, system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

LoadFigures figures_of(const std::vector<std::unique_ptr<Endpoint>>& endpoints, double seconds) {
    LoadFigures figures;
    std::vector<float> all;
    for (const auto& one : endpoints) {
        all.insert(all.end(), one->latencies_ms.begin(), one->latencies_ms.end());
        figures.refused += one->refused;
        if (figures.first_refusal.empty()) figures.first_refusal = one->first_refusal;
    }
    std::ranges::sort(all);
    figures.rounds = all.size();
    figures.per_s = static_cast<double>(all.size()) / seconds;
    if (!all.empty()) {
        figures.p50_ms = all[all.size() / 2];
        figures.p99_ms = all[all.size() * 99 / 100];
    }
    return figures;
}

}  // namespace

LoadFigures measure_server(const LoadOptions& options) {
    std::vector<test::SoftwareEndpoint> made;
    for (unsigned i = 0; i < options.connections; ++i) made.emplace_back("bench-" + std::to_string(i));
    {
        server::ServiceOptions own;
        own.database = options.database;
        own.directory = options.data;
        server::Service service(own);
        prepare(service, made);
    }
    const std::string ca = text_of(options.ca_file);
    std::vector<std::unique_ptr<Endpoint>> endpoints;
    for (test::SoftwareEndpoint& one : made) {
        endpoints.push_back(std::make_unique<Endpoint>(std::move(one), options, ca));
        endpoints.back()->attest();
    }
    const auto from =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.warm_up_s));
    const auto until =
        from + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
    std::vector<std::thread> threads;
    for (const auto& one : endpoints) threads.emplace_back([&] { keep_attesting(*one, from, until); });
    std::this_thread::sleep_until(from);
    const double before = processor_time(), server_before = processor_time_of(options.server_pid);
    for (std::thread& thread : threads) thread.join();
    const double taken = processor_time() - before;
    const double server_taken = processor_time_of(options.server_pid) - server_before;
    LoadFigures figures = figures_of(endpoints, options.seconds);
    figures.generator_cpu_s = taken;
    figures.server_cpu_us = server_taken * 1e6 / static_cast<double>(std::max(figures.rounds, 1UL));
    return figures;
}

}  // namespace gatehouse::bench
