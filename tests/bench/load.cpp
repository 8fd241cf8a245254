#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "attestation/agent/server_client.hpp"
#include "attestation/server/authority.hpp"
#include "attestation/server/connection_keys.hpp"
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
constexpr unsigned kLease = 900;

// The operator's part, at the server's own database.
void prepare(server::Service& service, const std::vector<test::SoftwareEndpoint>& endpoints, unsigned lease_s) {
    try {
        service.create_group(kOperator, kGroup);
    } catch (const server::ServiceError&) {
        // it is there, from the run before
    }
    const test::SoftwareKey authority = test::make_p256_key();
    const auto version = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    const std::string name = "bench-" + std::to_string(version);
    service.add_policy_authority(kOperator, name, server::public_pem(authority.get()));
    const std::string lease = R"({"lease_s": )" + std::to_string(lease_s) + "}";
    (void)service.add_policy(kOperator,
                             verifier::sign_policy(test::hypervisor_policy("bench", version, lease), authority.get()));
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

    [[nodiscard]] test::SoftwareEndpoint end() && { return std::move(made_); }

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
        prepare(service, made, kLease);
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

namespace {

// All that the fleet's threads share.
class Fleet {
  public:
    Fleet(const FleetOptions& options, std::string url, server::ConnectionKeys keys, test::SoftwareEndpoint model,
          std::string ca)
        : options_(options),
          url_(std::move(url)),
          keys_(std::move(keys)),
          model_(std::move(model)),
          ca_(std::move(ca)),
          begun_(Clock::now()) {}

    // The turns that no other thread has taken, each at its time.
    void attest_in_turn() {
        const std::chrono::duration<double> between(options_.interval_s / static_cast<double>(options_.endpoints));
        for (;;) {
            const unsigned long turn = next_++;
            const auto due = begun_ + std::chrono::duration_cast<Clock::duration>(between * turn);
            if (due >= begun_ + std::chrono::duration<double>(options_.seconds)) return;
            const unsigned long endpoint = turn * kStride % options_.endpoints + 1;
            if (options_.silent_each != 0 && endpoint % options_.silent_each == 0) continue;
            std::this_thread::sleep_until(due);
            const auto from = Clock::now();
            std::string refusal;
            try {
                attest(endpoint);
            } catch (const std::exception& error) {
                refusal = error.what();
            }
            note(std::chrono::duration<float>(from - due).count(),
                 std::chrono::duration<float, std::milli>(Clock::now() - from).count(), refusal);
        }
    }

    [[nodiscard]] FleetFigures figures() {
        FleetFigures figures = counts_;
        std::ranges::sort(late_s_);
        std::ranges::sort(took_ms_);
        const auto at = [](const std::vector<float>& all, std::size_t percent) {
            return all.empty() ? 0 : all[(all.size() - 1) * percent / 100];
        };
        figures.late_p50_s = at(late_s_, 50);
        figures.late_p99_s = at(late_s_, 99);
        figures.late_most_s = at(late_s_, 100);
        figures.p50_ms = at(took_ms_, 50);
        figures.p99_ms = at(took_ms_, 99);
        return figures;
    }

  private:
    // A prime: every endpoint has its turn once in each round, unless there are multiples of it.
    static constexpr unsigned long kStride = 15'485'863;

    void attest(unsigned long endpoint) {
        const Sha256Digest certificate = sha256(host::text_bytes(std::to_string(endpoint)));
        const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
        agent::ServerClient client(
            {.url = url_, .ca = ca_, .identity = {}, .key = keys_.issue(certificate, now + 3600, now)});
        const host::Buffer nonce = client.nonce().nonce;
        protocol::AttestRequest evidence;
        {
            const std::lock_guard lock(model_lock_);
            model_.clock += 1000;  // past what any of them has shown
            evidence = model_.attest(nonce);
        }
        const protocol::AttestAnswer answer = client.attest(evidence);
        if (answer.verdict != "trusted")
            throw ToolError("good evidence is refused: " + (answer.failures.empty() ? "" : answer.failures.front()));
    }

    void note(float late_s, float took_ms, const std::string& refusal) {
        const std::lock_guard lock(figures_lock_);
        if (!refusal.empty()) {
            if (counts_.refused++ == 0) counts_.first_refusal = refusal;
            return;
        }
        ++counts_.attested;
        late_s_.push_back(late_s);
        took_ms_.push_back(took_ms);
    }

    const FleetOptions& options_;
    std::string url_;
    server::ConnectionKeys keys_;
    test::SoftwareEndpoint model_;
    std::string ca_;
    Clock::time_point begun_;
    std::atomic<unsigned long> next_ = 0;
    std::mutex model_lock_, figures_lock_;
    FleetFigures counts_;
    std::vector<float> late_s_, took_ms_;
};

}  // namespace

FleetFigures measure_fleet(const FleetOptions& options, const std::function<RunningServer()>& multiply) {
    std::vector<test::SoftwareEndpoint> made;
    made.emplace_back("model");
    std::shared_ptr<const server::ConnectionKeys> keys;
    {
        server::ServiceOptions own;
        own.database = options.database;
        own.directory = options.data;
        server::Service service(own);
        prepare(service, made, options.lease_s);
        keys = service.connection_keys();
    }
    const std::string ca = text_of(options.ca_file);
    LoadOptions first;
    first.url = options.url;
    Endpoint model(std::move(made.front()), first, ca);
    model.attest();
    const RunningServer server = multiply();
    Fleet fleet(options, server.url, *keys, std::move(model).end(), ca);
    const double before = processor_time(), server_before = processor_time_of(server.pid);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < options.threads; ++i) threads.emplace_back([&] { fleet.attest_in_turn(); });
    for (std::thread& thread : threads) thread.join();
    FleetFigures figures = fleet.figures();
    figures.generator_cpu_s = processor_time() - before;
    figures.server_cpu_us =
        (processor_time_of(server.pid) - server_before) * 1e6 / static_cast<double>(std::max(figures.attested, 1UL));
    return figures;
}

}  // namespace gatehouse::bench
