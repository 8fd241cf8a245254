// attest: judges evidence.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "attestation/verifier/verify.hpp"
#include "keyvault/tool/authority.hpp"

namespace gatehouse::verifier {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

struct VerifyRequest {
    std::string directory;
    std::string nonce;
    std::string nonce_file;
    std::string key;
    std::string image;
    std::string expected;
    std::uint64_t counter_floor = 0;
    bool as_json = false;
};

policies::Prediction reference_of(const VerifyRequest& request) {
    if (!request.image.empty()) return policies::predict_image(request.image);
    const host::Buffer text = host::read_file(request.expected, 1 << 20);
    const auto* const begin = reinterpret_cast<const char*>(text.data());
    const json parsed = json::parse(begin, begin + text.size(), nullptr, false);
    if (parsed.is_discarded()) throw ToolError(request.expected + ": not JSON");
    return policies::from_json(parsed);
}

host::Buffer nonce_of(const VerifyRequest& request) {
    if (!request.nonce_file.empty()) return host::read_file(request.nonce_file, 64);
    return host::from_hex(request.nonce, "--nonce");
}

json claims_json(const evidence::Claims& claims) {
    static constexpr const char* kLaunch[] = {"none", "skinit", "senter"};
    static constexpr const char* kIommu[] = {"none", "amd-vi", "vt-d"};
    const std::uint32_t version = claims.hypervisor_version;
    json disks = json::array();
    for (const evidence::DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) {
        disks.push_back({{"disk", host::guid_text(disk.guid)},
                         {"state", disk.state == evidence::DiskState::kEncrypted ? "encrypted" : "absent"},
                         {"key_epoch", disk.key_epoch}});
    }
    return {{"hypervisor_version", std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) +
                                       "." + std::to_string(version & 0xff)},
            {"launch", kLaunch[static_cast<std::size_t>(claims.launch)]},
            {"iommu", kIommu[static_cast<std::size_t>(claims.iommu)]},
            {"cpus", claims.cpus},
            {"flags", claims.flags},
            {"kept_bytes", claims.kept_bytes},
            {"counter_limit", claims.counter_limit},
            {"policy_digest", host::hex(claims.policy_digest)},
            {"disks", disks}};
}

json verdict_json(const Verdict& verdict) {
    json rules = json::array();
    for (const Finding& finding : verdict.findings) {
        rules.push_back({{"rule", finding.rule}, {"ok", finding.ok}, {"detail", finding.detail}});
    }
    json result{{"accepted", verdict.accepted()}, {"rules", rules}, {"claims", nullptr}, {"quote", nullptr}};
    if (verdict.claims) result["claims"] = claims_json(*verdict.claims);
    if (verdict.attestation) {
        result["quote"] = {{"clock", verdict.attestation->clock},
                           {"reset_count", verdict.attestation->reset_count},
                           {"restart_count", verdict.attestation->restart_count},
                           {"clock_safe", verdict.attestation->clock_safe},
                           {"firmware_version", verdict.attestation->firmware_version}};
    }
    return result;
}

void print_lines(const Verdict& verdict) {
    const bool colour = ::isatty(STDOUT_FILENO) == 1;
    for (const Finding& finding : verdict.findings) {
        const char* const mark = finding.ok ? "ok  " : "FAIL";
        const char* const on = !colour ? "" : finding.ok ? "\033[32m" : "\033[31m";
        std::printf("%s%s%s  %-10s %s\n", on, mark, colour ? "\033[0m" : "", finding.rule.c_str(),
                    finding.detail.c_str());
    }
    std::printf("%s\n", verdict.accepted() ? "accepted" : "REJECTED");
}

ExitCode run_verify(const VerifyRequest& request) {
    if (request.nonce.empty() == request.nonce_file.empty()) {
        throw ToolError("give --nonce or --nonce-file", ExitCode::kUsage);
    }
    if (request.image.empty() == request.expected.empty()) {
        throw ToolError("give --image or --expected", ExitCode::kUsage);
    }
    const auto read = [&](const char* name) {
        return host::read_file(request.directory + "/" + name, 1 << 16);
    };
    const host::Buffer quote = read("quote.msg");
    const host::Buffer signature = read("quote.sig");
    const host::Buffer key = read("ak.pub");
    const host::Buffer claims = read("claims.bin");
    const host::Buffer event_log = read("eventlog.bin");
    const host::Buffer nonce = nonce_of(request);
    const host::Key pinned = host::read_public_key(request.key);
    const Verdict verdict =
        verify({quote, signature, key, claims, event_log}, {.nonce = nonce,
                                                            .pinned_key = pinned.get(),
                                                            .reference = reference_of(request),
                                                            .counter_floor = request.counter_floor});
    if (request.as_json) {
        std::printf("%s\n", verdict_json(verdict).dump(2).c_str());
    } else {
        print_lines(verdict);
    }
    return verdict.accepted() ? ExitCode::kYes : ExitCode::kNo;
}

int run(int argc, char** argv) {
    CLI::App app("Judges evidence. Exit status: 0 accepted, 1 rejected, 2 usage, 3 failure.", "attest");
    app.require_subcommand(1);
    VerifyRequest request;
    CLI::App* const command = app.add_subcommand("verify", "whether evidence shows the expected launch");
    command
        ->add_option("EVIDENCE", request.directory,
                     "directory with quote.msg, quote.sig, ak.pub, claims.bin and eventlog.bin")
        ->required();
    command->add_option("--nonce", request.nonce, "the nonce that was sent, hex");
    command->add_option("--nonce-file", request.nonce_file, "the same, a binary file");
    command
        ->add_option("--ak", request.key,
                     "the endpoint's attestation key, PEM (sealed-key provision --ak-out)")
        ->required();
    command->add_option("--image", request.image, "reference values: the image that the endpoint should run");
    command->add_option("--expected", request.expected,
                        "reference values: what policyctl predict --json printed");
    command
        ->add_option("--counter-floor", request.counter_floor,
                     "least counter limit of an acceptable approval")
        ->capture_default_str();
    command->add_flag("--json", request.as_json, "print JSON");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
    }
    return host::run_tool("attest", [&] { return run_verify(request); });
}

}  // namespace
}  // namespace gatehouse::verifier

int main(int argc, char** argv) { return gatehouse::verifier::run(argc, argv); }
