#include "policies/policyctl/attestation_policy.hpp"

#include <CLI/CLI.hpp>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "attestation/formats/corim.hpp"
#include "attestation/verifier/policy.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::policies {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

constexpr std::size_t kMaxFile = 16u << 20;

std::string read_text(const std::string& path) {
    const Buffer content = host::read_file(path, kMaxFile);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
}

Prediction read_reference(const std::string& path) {
    const json parsed = json::parse(read_text(path), nullptr, false);
    if (parsed.is_discarded()) throw ToolError(path + ": not JSON");
    try {
        return from_json(parsed);
    } catch (const ToolError& error) {
        throw ToolError(path + ": " + error.what());
    }
}

// "sha256:7=HEX" as a member of pcrs.
void add_pcr(json& pcrs, const std::string& text) {
    const std::size_t colon = text.find(':');
    const std::size_t equals = text.find('=');
    if (colon == std::string::npos || equals == std::string::npos || equals < colon)
        throw ToolError("--pcr " + text + ": must be BANK:PCR=HEX, as in sha256:7=...", ExitCode::kUsage);
    pcrs[text.substr(0, colon)][text.substr(colon + 1, equals - colon - 1)].push_back(text.substr(equals + 1));
}

// "0x00a20f10=0x0a20102b" as a member of minimum_microcode.
void add_microcode(json& levels, const std::string& text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos)
        throw ToolError("--minimum-microcode " + text + ": must be SIGNATURE=LEVEL, as in 0x00a20f10=0x0a20102b",
                        ExitCode::kUsage);
    levels[text.substr(0, equals)] = text.substr(equals + 1);
}

// A CoRIM's launches as references; without any, its PCRs as those of endpoints without a measured hypervisor. Says what it
// could not use on standard error. `environment`: whose PCRs those of the CoRIMs before were.
void add_corim(json& policy, const std::string& path, const EVP_PKEY* key, std::string& environment) {
    const formats::Corim corim =
        formats::read_corim(host::read_file(path, formats::kMaxCorim), key, std::time(nullptr), path);
    for (const std::string& what : corim.passed_over) std::cerr << path << ": passed over: " << what << '\n';
    for (const Prediction& launch : corim.launches) policy["references"].push_back(to_json(launch));
    if (!corim.launches.empty()) {
        if (!corim.registers.empty()) std::cerr << path << ": passed over: integrity registers beside a launch\n";
        return;
    }
    if (!environment.empty() && corim.environment != environment)
        throw ToolError(
            path + ": has integrity registers of another environment than the CoRIM before it; make a policy of each");
    environment = corim.environment;
    bool any = false;
    for (const auto& [bank, registers] : corim.registers) {
        if (bank == HashAlgorithm::kSha1) {  // no policy is made of it
            std::cerr << path << ": passed over: values of SHA-1\n";
            continue;
        }
        any = true;
        for (const auto& [pcr, values] : registers) {
            for (const Digest& value : values)
                policy["pcrs"][bank_name(bank)][std::to_string(pcr)].push_back(host::hex(value.bytes()));
        }
    }
    if (!any) throw ToolError(path + ": has no reference values that a policy could use");
}

void print_summary(const verifier::Policy& policy, const std::string& text) {
    std::cout << "name      " << policy.name << "\nversion   " << policy.version << "\nsource    "
              << verifier::source_name(policy.source) << "\naddress   " << verifier::policy_address(text) << '\n';
}

}  // namespace

void MakeAttestationPolicy::add_to(CLI::App& command) {
    command.add_option("--name", name, "1 to 64 of a-z 0-9 . _ -")->required();
    command.add_option("--version", version, "rises with each issue of the same name")->required();
    command.add_option("--reference", references, "what policyctl predict --json printed for an acceptable image");
    command.add_option("--image", images, "an acceptable image itself");
    CLI::Option* const corim = command.add_option(
        "--corim", corims,
        "a signed CoRIM: acceptable launches as policyctl predict --corim wrote them, or others' PCRs (source tpm)");
    corim->needs(command.add_option("--corim-key", corim_key, "with --corim: the key that signed it, public, PEM"));
    command.add_option("--pcr", pcrs,
                       "BANK:PCR=HEX, an acceptable value, for endpoints without a measured hypervisor "
                       "(source tpm)");
    command.add_flag(
        "--refuse-contradictions", refuse_contradictions,
        "with --pcr: refuse an event log with an event whose digest is not its data's; without, it is named "
        "and not believed, for some firmware is so");
    command.add_option("--counter-floor", counter_floor, "least counter limit of an acceptable approval")
        ->capture_default_str();
    command.add_option("--minimum-hypervisor", minimum_hypervisor, "oldest acceptable version, as in 0.1.0");
    command.add_flag("--own-storage-root", own_storage_root,
                     "a reference serves every endpoint with that image: bundles may pin other SRKs");
    command.add_flag("--allow-no-iommu", allow_no_iommu, "the bundle's own permission to go without suffices");
    command.add_option("--vault-id", vault_ids, "an acceptable vault, hex; none: as bundle and first evidence have it");
    command.add_flag("--allow-unpinned-vault", allow_unpinned_vault,
                     "accept a boot whose vault neither bundle nor record pins");
    command.add_option("--machine-model", machine_models,
                       "an approved machine, as policyctl machine learn wrote it; none: it must not change");
    command.add_option(
        "--minimum-microcode", minimum_microcode,
        "SIGNATURE=LEVEL, as in 0x00a20f10=0x0a20102b; if there are any, no other processor is accepted");
    command.add_flag("--require-smm-lock", require_smm_lock, "SMM must be locked");
    command.add_option("--minimum-iommus", minimum_iommus, "least number of IOMMUs")->capture_default_str();
    command.add_option("--acpi", acpi,
                       "minimal or machine: whose ACPI tables the guest may have; none: as the bundle says");
    command.add_option("--tpm-firmware", tpm_firmware,
                       "an acceptable firmwareVersion as quoted, 16 hex digits; none: it must not change");
    command.add_option(
        "--max-crl-age-days", max_crl_age_days,
        "days since the thisUpdate of the oldest CRL that the path of an endpoint's EK certificate depends "
        "on; none may be wanting or ended then (1 to 3650) [their age is of no account]");
    command.add_option("--lease", lease_s, "seconds that a good verdict stands")->capture_default_str();
    command.add_option("-o,--output", out, "the policy, JSON")->required();
}

ExitCode MakeAttestationPolicy::run() const {
    json policy{{"gatehouse_attestation_policy", 1}, {"name", name}, {"version", version}, {"lease_s", lease_s}};
    if (!corims.empty()) {
        const host::Key key = host::read_public_key(corim_key);
        std::string environment;
        for (const std::string& path : corims) add_corim(policy, path, key.get(), environment);
    }
    const bool by_image = !references.empty() || !images.empty() || policy.contains("references");
    if (by_image == (!pcrs.empty() || policy.contains("pcrs")))
        throw ToolError(
            "give --reference, --image or --corim, or else --pcr: a policy that expects nothing accepts nothing, and one "
            "of both kinds is none",
            ExitCode::kUsage);
    policy["source"] = verifier::source_name(by_image ? verifier::Source::kHypervisor : verifier::Source::kTpm);
    for (const std::string& path : references) policy["references"].push_back(to_json(read_reference(path)));
    for (const std::string& path : images) policy["references"].push_back(to_json(predict_image(path)));
    if (refuse_contradictions && by_image)
        throw ToolError(
            "--refuse-contradictions is for policies of PCR values: a launch's events must be its reference's",
            ExitCode::kUsage);
    if (refuse_contradictions) policy["refuse_contradictions"] = true;
    for (const std::string& value : pcrs) add_pcr(policy["pcrs"], value);
    if (max_crl_age_days != 0) policy["max_crl_age_days"] = max_crl_age_days;
    if (counter_floor != 0) policy["counter_floor"] = counter_floor;
    if (own_storage_root) policy["storage_root"] = "own";
    if (!minimum_hypervisor.empty()) policy["minimum_hypervisor"] = minimum_hypervisor;
    if (by_image) policy["require_iommu"] = !allow_no_iommu;
    if (!vault_ids.empty()) policy["vault"]["ids"] = vault_ids;
    if (allow_unpinned_vault) policy["vault"]["allow_unpinned"] = true;
    for (const std::string& path : machine_models) {
        const json model = json::parse(read_text(path), nullptr, false);
        if (model.is_discarded()) throw ToolError(path + ": not JSON");
        policy["machine"]["models"].push_back(model);
    }
    for (const std::string& level : minimum_microcode) add_microcode(policy["machine"]["minimum_microcode"], level);
    if (require_smm_lock) policy["machine"]["smm_locked"] = true;
    if (minimum_iommus != 0) policy["machine"]["minimum_iommus"] = minimum_iommus;
    if (!acpi.empty()) policy["acpi"] = acpi;
    if (!tpm_firmware.empty()) policy["tpm_firmware"] = tpm_firmware;
    const std::string text = policy.dump();
    const verifier::Policy checked = verifier::parse_policy(text);
    host::replace_file(out, host::text_bytes(text));
    print_summary(checked, text);
    return ExitCode::kYes;
}

void SignAttestationPolicy::add_to(CLI::App& command) {
    command.add_option("POLICY", policy, "what policyctl attestation-policy wrote")->required();
    command.add_option("--key", key, "the authority's private key, P-256, PEM")->required();
    command.add_option("-o,--output", out, "the signed policy, a JWS in compact form")->required();
}

ExitCode SignAttestationPolicy::run() const {
    const host::Key authority = host::read_private_key(key);
    const std::string text = read_text(policy);
    const std::string jws = verifier::sign_policy(text, authority.get());
    host::replace_file(out, host::text_bytes(jws + "\n"));
    print_summary(verifier::parse_policy(text), text);
    return ExitCode::kYes;
}

}  // namespace gatehouse::policies
