// attestation-agent: shows a server what this machine runs. For root.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/agent/agent.hpp"
#include "attestation/agent/client_key.hpp"
#include "keyvault/host_support/escrow_blob.hpp"

namespace gatehouse::agent {
namespace {

using host::ExitCode;
using Json = nlohmann::ordered_json;

// Empty where the command line says nothing.
Config nothing_given() {
    Config config;
    config.state.clear();
    config.source.clear();
    config.firmware_log.clear();
    config.interval_s = 0;
    return config;
}

struct Options {
    std::string config_file = kConfigFile;
    Config given = nothing_given();
    std::string token;
    bool json = false;
    bool again = false;
    std::string blob_file;
    std::string blob_name;
    bool any_vault = false;
    unsigned wait_s = 0;
};

void replace_if(std::string& value, const std::string& given) {
    if (!given.empty()) value = given;
}

Config effective(const Options& options) {
    Config config = read_config(options.config_file);
    const Config& given = options.given;
    replace_if(config.server, given.server);
    replace_if(config.ca_file, given.ca_file);
    replace_if(config.ca_pin, given.ca_pin);
    replace_if(config.state, given.state);
    replace_if(config.source, given.source);
    replace_if(config.hostname, given.hostname);
    replace_if(config.token_file, given.token_file);
    replace_if(config.firmware_log, given.firmware_log);
    if (given.interval_s != 0) config.interval_s = given.interval_s;
    complete_config(config);
    return config;
}

// In ASCII: what a server says must not steer a terminal, in JSON neither.
std::string print(const Json& json) { return json.dump(2, ' ', true, Json::error_handler_t::replace); }

ExitCode enroll(const Options& options) {
    Agent agent(effective(options), options.token);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(options.wait_s);
    protocol::EnrollStatus status = agent.enroll(options.again);
    while (status.state == "waiting" && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        status = agent.enroll(false);
    }
    if (options.json) {
        std::cout << print({{"state", status.state}, {"endpoint_id", status.endpoint_id}, {"reason", status.reason}})
                  << '\n';
    } else if (status.state == "approved") {
        std::cout << "enrolled as " << host::one_line(status.endpoint_id) << '\n';
    } else if (status.state == "waiting") {
        const auto pending = agent.directory().state().pending;
        std::cout << "enrollment " << host::one_line(pending ? pending->id : "") << " waits for an operator"
                  << (status.reason.empty() ? "" : " (" + status.reason + ")") << "; `attestation-agent run` or a "
                  << "further `enroll` takes it up\n";
    } else {
        std::cout << "enrollment " << status.state << ": " << status.reason << '\n';
    }
    return status.state == "approved" ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode attest(const Options& options) {
    const protocol::AttestAnswer answer = Agent(effective(options), "").attest();
    if (options.json) {
        std::cout << print({{"verdict", answer.verdict},
                            {"lease_until", answer.lease_until},
                            {"failures", answer.failures},
                            {"result", answer.result}})
                  << '\n';
    } else {
        std::cout << answer.verdict << '\n';
        for (const std::string& failure : answer.failures) std::cout << "  " << failure << '\n';
    }
    return answer.verdict == "untrusted" ? ExitCode::kNo : ExitCode::kYes;
}

std::string utc(std::int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts{};
    std::array<char, 32> text{};
    gmtime_r(&time, &parts);
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

Json status_of(const Config& config, const StateDirectory& directory) {
    const State state = directory.state();
    const auto identity = directory.read("identity.pem");
    Json json;
    json["server"] = config.server;
    json["source"] = config.source;
    json["hostname"] = config.hostname;
    json["state"] = state.pending ? "waiting" : state.endpoint_id.empty() ? "not enrolled" : "enrolled";
    json["endpoint_id"] = state.endpoint_id;
    if (state.pending) json["enrollment"] = state.pending->id;
    if (identity) json["certificate_until"] = utc(validity_of(*identity).until);
    if (state.last) {
        json["last"] = {{"time", utc(state.last->time)},
                        {"verdict", state.last->verdict},
                        {"lease_until", utc(state.last->lease_until)},
                        {"failures", state.last->failures}};
    }
    json["clock"] = utc(std::time(nullptr));
    json["trouble"] = state.trouble;
    return json;
}

// Yes: enrolled, and the last verdict was good and still stands.
ExitCode status(const Options& options) {
    const Config config = effective(options);
    const StateDirectory directory(config.state);
    const Json json = status_of(config, directory);
    if (options.json) {
        std::cout << print(json) << '\n';
    } else {
        for (const auto& [key, value] : json.items()) {
            const std::string text = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', true);
            std::cout << key << std::string(20 - key.size(), ' ') << host::one_line(text) << '\n';
        }
    }
    const State state = directory.state();
    const bool good = state.last && state.last->verdict != "untrusted" && state.last->lease_until > std::time(nullptr);
    return good && !state.endpoint_id.empty() ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode escrow(const Options& options) {
    const std::string name =
        options.blob_name.empty() ? std::filesystem::path(options.blob_file).filename().string() : options.blob_name;
    const host::Buffer blob = host::read_file(options.blob_file, host::kMostEscrowFile);
    const Sha256Digest vault =
        Agent(effective(options), "").put_escrow(name, blob, options.blob_file, options.any_vault);
    if (options.json) {
        std::cout << print({{"name", name}, {"vault", host::hex(vault)}}) << '\n';
    } else {
        std::cout << "the server keeps the recovery key of vault " << host::hex(vault) << " as " << name << '\n';
    }
    return ExitCode::kYes;
}

[[noreturn]] void run(const Options& options) {
    Agent agent(effective(options), options.token);
    agent.run([](const std::string& line) { std::cerr << host::one_line(line) << std::endl; });
}

void add_options(CLI::App& app, Options& options) {
    app.add_option("--config", options.config_file, "configuration, TOML")->capture_default_str();
    app.add_option("--server", options.given.server, "https://HOST[:PORT]");
    app.add_option("--ca", options.given.ca_file, "PEM file: who may have certified the server");
    app.add_option("--ca-pin", options.given.ca_pin, "SHA-256 of the CA's certificate, for the first contact");
    app.add_option("--state", options.given.state, "directory for what the agent remembers");
    app.add_option("--source", options.given.source, "\"channel\", or a TCTI string: device:/dev/tpmrm0");
    app.add_option("--hostname", options.given.hostname, "what the endpoint calls itself");
    app.add_option("--interval", options.given.interval_s, "attest at least every so many seconds")
        ->check(CLI::Range(1, 86400));
    app.add_option("--firmware-log", options.given.firmware_log, "the firmware's event log, for a TPM's evidence");
}

ExitCode parse_and_run(int argc, char** argv) {
    CLI::App app{
        "Shows an attestation server what this machine runs. For root.\n"
        "Exit status: 0 yes (enrolled, accepted), 1 no (waiting, rejected, untrusted), 2 usage, 3 failure."};
    app.require_subcommand(1);
    app.fallthrough();
    Options options;
    add_options(app, options);
    CLI::App* const enrolling = app.add_subcommand("enroll", "make this endpoint known to the server");
    enrolling->add_flag("--again", options.again, "enroll anew, even if it is enrolled");
    enrolling->add_option("--wait", options.wait_s, "seconds to wait for an operator's approval");
    enrolling->add_option("--token", options.token, "one-time enrollment token");
    enrolling->add_option("--token-file", options.given.token_file, "file with the one-time enrollment token");
    CLI::App* const attesting = app.add_subcommand("attest", "send evidence, once");
    CLI::App* const running = app.add_subcommand("run", "the daemon: enroll, attest, renew, listen");
    running->add_option("--token-file", options.given.token_file, "file with the one-time enrollment token");
    CLI::App* const telling = app.add_subcommand("status", "what the agent knows of itself");
    CLI::App* const escrowing = app.add_subcommand(
        "escrow", "have the server keep a recovery key in escrow, of `sealed-key provision --escrow-out`");
    escrowing->add_option("FILE", options.blob_file, "the blob")->required();
    escrowing->add_option("--name", options.blob_name,
                          "what the server calls it, instead of the file's name: a-z, 0-9, '.', '_', '-'");
    escrowing->add_flag("--any-vault", options.any_vault, "also if it is of another vault than the boot disk's");
    for (CLI::App* one : {enrolling, attesting, telling, escrowing})
        one->add_flag("--json", options.json, "print JSON");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
    }
    if (*enrolling) return enroll(options);
    if (*attesting) return attest(options);
    if (*telling) return status(options);
    if (*escrowing) return escrow(options);
    run(options);
}

}  // namespace
}  // namespace gatehouse::agent

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // a lost connection is an error of the call that finds it
    return gatehouse::host::run_tool("attestation-agent", [&] { return gatehouse::agent::parse_and_run(argc, argv); });
}
