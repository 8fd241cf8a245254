// attest: judges evidence.
#include <openssl/core_names.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/formats/cel.hpp"
#include "attestation/formats/others_evidence.hpp"
#include "attestation/protocol/verdict_json.hpp"
#include "attestation/tool/endorsement_report.hpp"
#include "attestation/tool/event_log_report.hpp"
#include "attestation/tool/result_output.hpp"
#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/event_log.hpp"
#include "keyvault/host_support/authority.hpp"

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
    std::string vault_id;
    std::string record;
    std::string enrollment;
    std::string machine_model;
    std::string policy;
    std::string authority;
    ResultOutput result;
    bool as_json = false;
};

struct Judged {
    host::Buffer quote;
    Verdict verdict;
    std::string maker = {};                  // of others' evidence: whose
    std::vector<std::string> unjudged = {};  // and what the verdict says nothing of
};

constexpr std::size_t kLeastNonce = 8;          // of others, in bytes
constexpr std::size_t kMaxEvidence = 4u << 20;  // a firmware's event log can be large
constexpr std::size_t kMaxPolicy = 16u << 20;

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

json judged_json(const Judged& judged) {
    const Verdict& verdict = judged.verdict;
    json result = protocol::verdict_json(verdict);
    result["rules"] = std::move(result["findings"]);
    result.erase("findings");
    for (json& event : result["events"])
        event["type"] = event_type_name(static_cast<LogEventType>(event["type"].get<std::uint32_t>()));
    result["accepted"] = verdict.accepted();
    result["vault_pinned"] = !verdict.vault_pinned_by.empty();
    result["policy"] = verdict.policy;
    result["policy_version"] = verdict.policy_version;
    if (!judged.maker.empty()) {
        result["maker"] = judged.maker;
        result["unjudged"] = judged.unjudged;
    }
    result["quote"] = nullptr;
    if (const auto quote = parse_attestation(judged.quote); quote.ok()) {
        result["quote"] = {{"clock", quote->clock},
                           {"reset_count", quote->reset_count},
                           {"restart_count", quote->restart_count},
                           {"clock_safe", quote->clock_safe},
                           {"firmware_version", quote->firmware_version}};
    }
    return result;
}

void print_findings(const std::vector<Finding>& findings, const std::vector<std::string>& quirks) {
    const bool colour = ::isatty(STDOUT_FILENO) == 1;
    for (const Finding& finding : findings) {
        const char* const mark = finding.ok ? "ok  " : "FAIL";
        const char* const on = !colour ? "" : finding.ok ? "\033[32m" : "\033[31m";
        std::printf("%s%s%s  %-14s  %s\n", on, mark, colour ? "\033[0m" : "", finding.rule.c_str(),
                    host::one_line(finding.detail).c_str());
    }
    for (const std::string& quirk : quirks) std::printf("note  %s\n", host::one_line(quirk).c_str());
}

void print_lines(const Judged& judged) {
    const Verdict& verdict = judged.verdict;
    print_findings(verdict.findings, verdict.quirks);
    if (!judged.maker.empty()) std::printf("      evidence of     %s\n", judged.maker.c_str());
    for (const std::string& what : judged.unjudged)
        std::printf("      not judged      %s\n", host::one_line(what).c_str());
    const Coverage& coverage = verdict.coverage;
    std::printf("      judged          %u of %u events, %u of %u PCRs\n", coverage.events_judged, coverage.events,
                coverage.pcrs_judged, coverage.pcrs);
    if (verdict.claims && verdict.vault_pinned_by.empty()) {
        std::printf(
            "WARNING: no vault is pinned: this proves that *some* vault sealed to this policy was opened, not "
            "whose\n");
    }
    std::printf("%s\n", verdict.accepted() ? "accepted" : "REJECTED");
}

Sha256Digest vault_id_of(Bytes bytes, const char* item) {
    Sha256Digest id{};
    if (bytes.size() != id.size()) throw ToolError(std::string(item) + ": a vault id has 32 bytes", ExitCode::kUsage);
    copy_bytes(id, bytes);
    return id;
}

// 0x04 || X || Y of a public key, as bundles have it.
host::Buffer point_of(const std::string& path) {
    const host::Key key = host::read_public_key(path);
    host::Buffer point(policies::kPointSize);
    std::size_t size = 0;
    if (EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                        reinterpret_cast<unsigned char*>(point.data()), point.size(), &size) != 1 ||
        size != point.size() || point[0] != std::byte{4}) {
        throw ToolError(path + ": not a P-256 key");
    }
    return point;
}

// What the options pin beside the policy's own words.
void pin(const VerifyRequest& request, Policy& policy) {
    std::vector<Sha256Digest> ids;
    if (!request.vault_id.empty())
        ids.push_back(vault_id_of(host::from_hex(request.vault_id, "--vault-id"), "--vault-id"));
    if (!request.record.empty()) {
        const host::Buffer file = host::read_file(request.record, policies::kMaxRecordSize);
        const host::Buffer enrollment = point_of(request.enrollment);
        const policies::Record record = host::expect(policies::parse_record(file, enrollment), request.record.c_str());
        ids.push_back(vault_id_of(record.vault_id, "--record"));
    }
    if (ids.size() == 2 && ids[0] != ids[1])
        throw ToolError("--vault-id and --record are of two vaults", ExitCode::kUsage);
    if (!ids.empty()) {
        const bool listed =
            policy.vault_ids.empty() || std::ranges::find(policy.vault_ids, ids.front()) != policy.vault_ids.end();
        if (!listed) throw ToolError("the vault is not one that the policy pins");
        policy.vault_ids = {ids.front()};
    }
    if (!request.machine_model.empty())
        policy.machine_models = {policies::read_model(host::read_file(request.machine_model, kMaxPolicy))};
}

// The policy of a signed file, or what --image or --expected and --counter-floor amount to.
struct GivenPolicy {
    Policy policy;
    std::string address;  // policy_address() of a file's
};
GivenPolicy policy_of(const VerifyRequest& request) {
    if (request.policy.empty()) {
        Policy policy;
        policy.name = "command-line";
        policy.references.push_back(reference_of(request));
        policy.counter_floor = request.counter_floor;
        policy.require_iommu = false;  // the bundle's word suffices
        return {std::move(policy), {}};
    }
    const host::Key authority = host::read_public_key(request.authority);
    const evp_pkey_st* const trusted[] = {authority.get()};
    const host::Buffer file = host::read_file(request.policy, kMaxPolicy);
    std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    while (text.ends_with('\n')) text.remove_suffix(1);
    const std::string payload = verify_signed_policy(text, trusted);
    return {parse_policy(payload), policy_address(payload)};
}

// What others' agents quote: the nonce itself.
Finding others_nonce(Bytes quote, Bytes nonce) {
    const Result<Attestation> parsed = parse_attestation(quote);
    if (!parsed.ok()) return {"nonce", false, host::describe(parsed.failure())};
    if (nonce.size() < kLeastNonce)
        return {"nonce", false, "a nonce of fewer than " + std::to_string(kLeastNonce) + " bytes shows no freshness"};
    const bool fresh = equal_bytes(parsed->extra_data, nonce);
    return {"nonce", fresh, fresh ? host::hex(nonce) : "the quote was not made for this nonce"};
}

// By the key of the evidence, if it is the pinned one: what another key signs is not judged at all.
Verdict judge_by_pinned(Bytes public_area, const EVP_PKEY* pinned, const Evidence& evidence, Bytes nonce,
                        const Policy& policy) {
    Verdict verdict;
    std::vector<Finding> findings = check_attestation_key(public_area, policy.source);
    if (findings.front().ok) {
        const AttestationKey key(public_area);
        const bool same = key.is_key(pinned);
        findings.push_back({"ak pinned", same,
                            same ? host::hex(key.name())
                                 : "the evidence's key is not the pinned attestation key; nothing else was judged"});
        if (same) verdict = appraise(evidence, key, {}, nonce, &policy, true);
    }
    verdict.findings.insert(verdict.findings.begin(), findings.begin(), findings.end());
    return verdict;
}

Judged judge_others(const VerifyRequest& request, const Policy& policy, const formats::EvidenceFiles& files) {
    const formats::OthersEvidence evidence = formats::read_others_evidence(files);
    if (policy.source != Source::kTpm)
        throw ToolError(request.directory + ": evidence by " + evidence.maker +
                            " shows no launch of ours; a policy of source "
                            "tpm judges it (policyctl attestation-policy --pcr)",
                        ExitCode::kUsage);
    const host::Buffer nonce = nonce_of(request);
    const host::Key pinned = read_any_public_key(request.key);
    Judged judged{.quote = evidence.quote, .verdict = {}, .maker = evidence.maker, .unjudged = evidence.unjudged};
    judged.verdict = judge_by_pinned(evidence.public_area, pinned.get(),
                                     {.source = policy.source,
                                      .quote = evidence.quote,
                                      .signature = evidence.signature,
                                      .claims = {},
                                      .event_log = evidence.event_log,
                                      .pcr_values = evidence.pcr_values},
                                     nonce, policy);
    for (Finding& finding : judged.verdict.findings)
        if (finding.rule == "nonce") finding = others_nonce(evidence.quote, nonce);
    return judged;
}

Judged judge(const VerifyRequest& request, const Policy& policy) {
    const formats::EvidenceFiles files =
        std::filesystem::is_directory(request.directory)
            ? formats::read_directory(request.directory)
            : formats::read_tar(host::read_file(request.directory, formats::kMaxArchive), request.directory);
    if (formats::is_others_evidence(files)) return judge_others(request, policy, files);
    const auto read_if_there = [&](const char* name) {
        const auto found = files.find(name);
        return found == files.end() ? host::Buffer{} : found->second;
    };
    const auto read = [&](const char* name) {
        if (!files.contains(name)) throw ToolError(request.directory + "/" + name + ": is not there, or too large");
        return read_if_there(name);
    };
    const bool hypervisor = policy.source == Source::kHypervisor;
    Judged judged{.quote = read("quote.msg"), .verdict = {}};
    const host::Buffer signature = read("quote.sig");
    const host::Buffer key_file = read("ak.pub");
    const host::Buffer claims = hypervisor ? read("claims.bin") : host::Buffer{};
    const host::Buffer event_log = hypervisor ? read("eventlog.bin") : read_if_there("eventlog.bin");
    const host::Buffer pcr_values =
        hypervisor ? host::Buffer{} : formats::bare_pcr_values(read_if_there("pcrs.bin"), judged.quote);
    const host::Buffer nonce = nonce_of(request);
    const host::Key pinned = read_any_public_key(request.key);

    if (is_pem(key_file)) {
        judged.verdict.findings.push_back({"ak type", false, kNoPublicArea});
        return judged;
    }
    judged.verdict = judge_by_pinned(without_size(key_file), pinned.get(),
                                     {.source = policy.source,
                                      .quote = judged.quote,
                                      .signature = signature,
                                      .claims = claims,
                                      .event_log = event_log,
                                      .pcr_values = pcr_values,
                                      .bare_nonce = !hypervisor},
                                     nonce, policy);
    return judged;
}

ExitCode run_verify(const VerifyRequest& request) {
    if (request.nonce.empty() == request.nonce_file.empty()) {
        throw ToolError("give --nonce or --nonce-file", ExitCode::kUsage);
    }
    const int ways =
        (request.image.empty() ? 0 : 1) + (request.expected.empty() ? 0 : 1) + (request.policy.empty() ? 0 : 1);
    if (ways != 1) throw ToolError("give --image, --expected or --policy", ExitCode::kUsage);
    if (request.record.empty() != request.enrollment.empty())
        throw ToolError("give --record and --enrollment together", ExitCode::kUsage);
    request.result.check();
    auto [policy, address] = policy_of(request);
    pin(request, policy);
    Judged judged = judge(request, policy);
    if (policy.max_crl_age_days != 0) {
        // A rule that is not applied must not be passed over.
        judged.verdict.findings.push_back(
            {"crl age", false, "the policy asks for it, and only the server knows the CRLs of the endpoint's vendor"});
    }
    request.result.write(judged.verdict, policy, address, nonce_of(request), std::time(nullptr));
    if (request.as_json) {
        std::printf("%s\n", judged_json(judged).dump(2, ' ', true, json::error_handler_t::replace).c_str());
    } else {
        print_lines(judged);
    }
    return judged.verdict.accepted() ? ExitCode::kYes : ExitCode::kNo;
}

struct LogRequest {
    std::string path;
    std::string cel;
    bool as_json = false;
};

std::string log_output(const LogRequest& request, const LogReport& report) {
    if (request.cel == "json") return formats::cel_json(report.log);
    if (request.cel == "cbor") {
        const host::Buffer bytes = formats::cel_cbor(report.log);
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    return request.as_json ? log_json(report).dump(2) + "\n" : log_text(report);
}

ExitCode run_log(const LogRequest& request) {
    if (!request.cel.empty() && request.cel != "json" && request.cel != "cbor")
        throw ToolError("--cel: json or cbor", ExitCode::kUsage);
    const host::Buffer file = host::read_file(request.path, kMaxEvidence);
    const LogReport report = inspect_log(file);
    const std::string text = log_output(request, report);
    std::fwrite(text.data(), 1, text.size(), stdout);
    if (!request.cel.empty() && report.log.stopped.error != Error::kNone)
        throw ToolError(request.path + ": " + host::describe(report.log.stopped) + "; written as far as that",
                        ExitCode::kNo);
    if (!request.cel.empty() && !report.consistent)
        throw ToolError(request.path + ": written whole, but the log is not consistent; `attest log " + request.path +
                            "` says where",
                        ExitCode::kNo);
    return report.consistent ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode run_endorsement(const EndorsementRequest& request, bool as_json) {
    const EndorsementVerdict verdict = inspect_endorsement(request, std::time(nullptr));
    if (as_json) {
        std::printf("%s\n",
                    endorsement_json(request, verdict).dump(2, ' ', true, json::error_handler_t::replace).c_str());
    } else {
        print_findings(verdict.findings, verdict.quirks);
        std::printf("%s\n", verdict.accepted() ? "accepted" : "REJECTED");
    }
    return verdict.accepted() ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode run(int argc, char** argv) {
    CLI::App app("Judges evidence. Exit status: 0 accepted, 1 rejected, 2 usage, 3 failure.", "attest");
    app.require_subcommand(1);
    VerifyRequest request;
    CLI::App* const command = app.add_subcommand("verify", "whether evidence shows the expected launch");
    command
        ->add_option(
            "EVIDENCE", request.directory,
            "directory or tar archive with quote.msg, quote.sig, ak.pub, claims.bin and eventlog.bin; for a "
            "policy of source tpm quote.msg, quote.sig, ak.pub, and pcrs.bin or eventlog.bin; or what others' "
            "agents make: tpm2_quote's files (quote.out, sig.out, pcrs.out, ak.pub), an answer of Keylime's agent, "
            "go-attestation's parameters (JSON)")
        ->required();
    command->add_option("--nonce", request.nonce, "the nonce that was sent, hex");
    command->add_option("--nonce-file", request.nonce_file, "the same, a binary file");
    command
        ->add_option("--ak", request.key,
                     "the endpoint's attestation key: PEM (sealed-key provision --ak-out), TPM2B_PUBLIC or TPMT_PUBLIC")
        ->required();
    command->add_option("--image", request.image, "reference values: the image that the endpoint should run");
    command->add_option("--expected", request.expected, "reference values: what policyctl predict --json printed");
    command->add_option("--counter-floor", request.counter_floor, "least counter limit of an acceptable approval")
        ->capture_default_str();
    command->add_option("--vault-id", request.vault_id,
                        "the vault that must have been opened, hex (sealed-key status)");
    command->add_option("--record", request.record, "the endpoint's record, which says which vault that is");
    command->add_option("--enrollment", request.enrollment, "with --record: the fleet's enrollment key, public, PEM");
    command->add_option("--machine-model", request.machine_model,
                        "the machine that it must be, as policyctl machine learn wrote it");
    CLI::Option* const policy =
        command->add_option("--policy", request.policy, "a signed attestation policy, instead of reference values");
    CLI::Option* const authority =
        command->add_option("--authority", request.authority, "with --policy: the public key that signed it, PEM");
    policy->needs(authority);
    authority->needs(policy);
    request.result.add_to(*command);
    command->add_flag("--json", request.as_json, "print JSON");

    LogRequest log_request;
    bool as_json = false;
    CLI::App* const log =
        app.add_subcommand("log", "what an event log says, what it replays to, and whether it contradicts itself");
    log->footer(
        "Exit status 1, and the reason: it is no log or was cut off, or an event's digest is not that of its data. That it is\n"
        "consistent does not make it true: types and what was not recomputed are in no digest. `attest verify` says what a\n"
        "quote vouches for.");
    log->add_option("LOG", log_request.path, "an event log, binary: of the launch, or a firmware's")->required();
    CLI::Option* const cel =
        log->add_option("--cel", log_request.cel,
                        "json or cbor: print it in the TCG's Canonical Event Log Format, for others' readers");
    log->add_flag("--json", log_request.as_json, "print JSON")->excludes(cel);

    EndorsementRequest ek;
    CLI::App* const endorsement =
        app.add_subcommand("endorsement", "whether an endorsement key would be accepted, for trying a vendor");
    endorsement->add_option("CERTIFICATE", ek.certificate, "the EK certificate: DER as read from NV, or PEM")
        ->required();
    endorsement->add_option("--public", ek.public_area, "the EK: TPMT_PUBLIC or TPM2B_PUBLIC")->required();
    endorsement->add_option("--root", ek.roots, "the vendor's root certificates, DER or PEM")->required();
    endorsement->add_option("--intermediate", ek.intermediates, "intermediate certificates, DER or PEM");
    endorsement->add_option("--crl", ek.revocations, "revocation lists, DER or PEM");
    endorsement->add_option("--chain", ek.chain, "certificates from NV 0x01c00100 and after");
    endorsement->add_flag("--json", as_json, "print JSON");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
    }
    if (log->parsed()) return run_log(log_request);
    if (endorsement->parsed()) return run_endorsement(ek, as_json);
    return run_verify(request);
}

}  // namespace
}  // namespace gatehouse::verifier

int main(int argc, char** argv) {
    return gatehouse::host::run_tool("attest", [&] { return gatehouse::verifier::run(argc, argv); });
}
