// attestation-bench: how fast evidence is judged, by the library and by the server. For ci/bench.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/support.hpp"
#include "tests/bench/measurements.hpp"

namespace gatehouse::bench {
namespace {

host::ExitCode run(int argc, char** argv) {
    CLI::App app{"Measures the attestation library and server; prints JSON. Exit status: 0 done, 2 usage, 3 failure."};
    app.require_subcommand(1);
    double seconds = 10;
    LoadOptions load;
    CLI::App* const library = app.add_subcommand("library", "appraisals against plain ECDSA verifications");
    library->add_option("--seconds", seconds)->check(CLI::Range(0.1, 60.0));
    CLI::App* const server = app.add_subcommand("load", "endpoints that attest to a server as fast as it answers");
    server->add_option("--url", load.url)->required();
    server->add_option("--ca", load.ca_file, "the server's CA, PEM")->required();
    server->add_option("--data", load.data, "the server's directory")->required();
    server->add_option("--database", load.database, "the server's database")->required();
    server->add_option("--connections", load.connections)->check(CLI::Range(1, 512));
    server->add_option("--server-pid", load.server_pid, "tells its processor time");
    server->add_flag("--reconnect", load.reconnect, "a connection for each attestation");
    server->add_flag("--by-key", load.by_key, "opened by a connection key, not by the client certificate");
    server->add_option("--warm-up", load.warm_up_s)->check(CLI::Range(0.0, 30.0));
    server->add_option("--seconds", load.seconds)->check(CLI::Range(0.1, 60.0));
    FleetOptions fleet;
    CLI::App* const life = app.add_subcommand("fleet",
                                              "many endpoints that attest each in its turn; says \"multiply\" once "
                                              "there is one of them, and goes on with the server's URL and process");
    life->add_option("--url", fleet.url)->required();
    life->add_option("--ca", fleet.ca_file, "the server's CA, PEM")->required();
    life->add_option("--data", fleet.data, "the server's directory")->required();
    life->add_option("--database", fleet.database, "the server's database")->required();
    life->add_option("--endpoints", fleet.endpoints)->check(CLI::Range(1, 10'000'000));
    life->add_option("--silent-each", fleet.silent_each, "of so many one never attests");
    life->add_option("--interval", fleet.interval_s, "seconds from one attestation of an endpoint to its next");
    life->add_option("--threads", fleet.threads)->check(CLI::Range(1, 512));
    life->add_option("--lease", fleet.lease_s, "seconds, of the policy");
    life->add_option("--seconds", fleet.seconds)->check(CLI::Range(1.0, 86'400.0));
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? host::ExitCode::kYes : host::ExitCode::kUsage;
    }
    nlohmann::ordered_json json;
    if (*library) {
        const LibraryFigures figures = measure_library(seconds);
        json = {{"library_per_s", figures.appraisals_per_s},
                {"ecdsa_limit_per_s", figures.ecdsa_per_s},
                {"sha256_per_s", figures.sha256_per_s}};
    } else if (*life) {
        const FleetFigures figures = measure_fleet(fleet, [] {
            std::cout << "multiply" << std::endl;
            RunningServer running;
            if (!(std::cin >> running.url >> running.pid))
                throw host::ToolError("nobody has made a fleet of the endpoint");
            return running;
        });
        json = {{"attested", figures.attested},
                {"refused", figures.refused},
                {"first_refusal", figures.first_refusal},
                {"late_p50_s", figures.late_p50_s},
                {"late_p99_s", figures.late_p99_s},
                {"late_most_s", figures.late_most_s},
                {"p50_ms", figures.p50_ms},
                {"p99_ms", figures.p99_ms},
                {"server_cpu_us", figures.server_cpu_us},
                {"generator_cpu_s", figures.generator_cpu_s}};
    } else {
        const LoadFigures figures = measure_server(load);
        json = {{"server_per_s", figures.per_s},
                {"rounds", figures.rounds},
                {"refused", figures.refused},
                {"first_refusal", figures.first_refusal},
                {"p50_ms", figures.p50_ms},
                {"p99_ms", figures.p99_ms},
                {"server_cpu_us", figures.server_cpu_us},
                {"generator_cpu_s", figures.generator_cpu_s}};
    }
    std::cout << json.dump(2) << '\n';
    return host::ExitCode::kYes;
}

}  // namespace
}  // namespace gatehouse::bench

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    return gatehouse::host::run_tool("attestation-bench", [&] { return gatehouse::bench::run(argc, argv); });
}
