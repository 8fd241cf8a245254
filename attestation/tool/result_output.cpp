#include "attestation/tool/result_output.hpp"

#include <CLI/CLI.hpp>

#include "attestation/formats/ear.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::verifier {
namespace {

using host::ExitCode;
using host::ToolError;

formats::ResultForm form_of(const std::string& text) {
    if (text == "jwt") return formats::ResultForm::kJwt;
    if (text == "cwt") return formats::ResultForm::kCwt;
    throw ToolError("--result-form: jwt or cwt", ExitCode::kUsage);
}

formats::ResultProfile profile_of(const std::string& text) {
    const auto profile = formats::result_profile(text);
    if (!profile) throw ToolError("--result-profile: there are " + formats::result_profiles(), ExitCode::kUsage);
    return *profile;
}

}  // namespace

void ResultOutput::add_to(CLI::App& command) {
    CLI::Option* const path = command.add_option("--result", path_, "also write the verdict as a signed result (EAR)");
    command.add_option("--result-profile", profile_, "its profile: " + formats::result_profiles())
        ->capture_default_str();
    command.add_option("--result-form", form_, "jwt, or cwt (not of profile gatehouse)")->capture_default_str();
    CLI::Option* const key = command.add_option("--result-key", key_, "what signs it: a private key, P-256, PEM");
    command.add_option("--result-issuer", issuer_, "its iss")->capture_default_str();
    path->needs(key);
}

void ResultOutput::check() const {
    if (!formats::is_offered(profile_of(profile_), form_of(form_)))
        throw ToolError("--result-form: results of profile gatehouse are JWTs", ExitCode::kUsage);
}

void ResultOutput::write(const Verdict& verdict, const Policy& policy, const std::string& address, Bytes nonce,
                         std::time_t now) const {
    if (path_.empty()) return;
    const bool hypervisor = policy.source == Source::kHypervisor;
    ResultFacts facts;
    facts.issuer = issuer_;
    facts.issued = now;
    facts.expires = now + (verdict.accepted() ? static_cast<std::time_t>(policy.lease_s) : 0);
    facts.nonce = nonce;
    facts.status = !verdict.accepted() ? Tier::kContraindicated : hypervisor ? Tier::kAffirming : Tier::kWarning;
    facts.vector = trust_vector(verdict.findings, policy.source, &policy, false);
    facts.policy_id = policy.name + ":" + std::to_string(policy.version);
    if (!address.empty()) facts.policy_id += ":" + address;
    facts.source = hypervisor ? "hypervisor" : "tpm";
    facts.findings = &verdict.findings;
    facts.coverage = verdict.coverage;
    const host::Key key = host::read_private_key(key_);
    host::replace_file(path_, formats::sign_result(facts, profile_of(profile_), form_of(form_), key.get()));
}

}  // namespace gatehouse::verifier
