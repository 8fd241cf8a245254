// One appraisal on its way: what appraisal.cpp, launch_appraisal.cpp and firmware_appraisal.cpp share. Not
// for anybody else.
#pragma once

#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/event_log.hpp"

namespace gatehouse::verifier {

struct Case {
    const Evidence& evidence;
    const AttestationKey& key;
    const TpmState& known;
    Bytes nonce;
    const Policy* policy;
    bool with_views;

    Result<Attestation> quote;
    Verdict verdict{};
    EventLog log{};
    // For each of log.events: Verdict::EventView.
    std::vector<bool> event_ok{};
    std::vector<const char*> event_hashed{};
    std::vector<std::size_t> event_front{};  // bytes of the data that come before what was hashed

    // The quote, or null if there is none to judge.
    [[nodiscard]] const Attestation* attestation() const { return quote.ok() ? &*quote : nullptr; }

    void hold(const char* rule, std::string detail) { verdict.findings.push_back({rule, true, std::move(detail)}); }
    void fail(const char* rule, std::string detail) { verdict.findings.push_back({rule, false, std::move(detail)}); }
    // Holds if `why_not` is empty; `found` says what was found.
    void judge(const char* rule, std::string why_not, std::string found) {
        why_not.empty() ? hold(rule, std::move(found)) : fail(rule, std::move(why_not));
    }
    [[nodiscard]] bool holds(std::string_view rule) const {
        const auto found = std::ranges::find(verdict.findings, rule, &Finding::rule);
        return found != verdict.findings.end() && found->ok;
    }
};

// "event 3 at offset 210 (PCR 18)".
[[nodiscard]] std::string place_of(const LogEvent& event);
[[nodiscard]] std::string bank_text(HashAlgorithm bank);
// The quoted PCRs of a selection, ascending.
[[nodiscard]] std::vector<std::uint32_t> pcrs_of(const Selection& selection);
// What is wrong with the selections themselves, if anything: none at all, or a bank quoted twice.
[[nodiscard]] std::string malformed_selections(const Attestation& quote);

// How a launch compares with one reference.
struct Match {
    const policies::Prediction* reference = nullptr;    // the policy's, or `own`
    std::unique_ptr<const policies::Prediction> own{};  // the policy's with the endpoint's own SRK and vault
    std::size_t matched = 0;                            // events as the reference has them
    std::string why_not;                                // the first difference; empty if there is none
    std::vector<bool> matches;                          // for each event of the log
};
// The reference that the log is closest to; its `reference` is null if the policy has none. `claims` are asked for the
// endpoint's SRK, vault and machine; whether they are, the rules "signer", "vault pin" and "machine" say.
[[nodiscard]] Match closest_reference(const EventLog& log, const Policy* policy, Bytes claims);
// Whether the log calls it a measured ACPI table.
[[nodiscard]] bool is_acpi_table(const LogEvent& event);

// Rules selection, log, events, claims, policy, iommu, counter, version, those of appraise_endpoint(); coverage and PCR
// views.
void appraise_launch(Case& on, const Match& match);
// Rules vault id, vault pin, vault, machine, acpi; `claims` have been read.
void appraise_endpoint(Case& on, const Match& match);
// What PCR 19 must hold in the SHA-256 bank, by the claims and the closest approved model, hex; empty if nothing says.
[[nodiscard]] std::string expected_machine_value(const Case& on);
// The known vaults with the generations of this evidence, which has been accepted; or, if none is known, its
// own.
[[nodiscard]] std::vector<VaultState> vaults_to_remember(const Case& on);
[[nodiscard]] EndpointIdentity identity_to_remember(const Case& on);
// Rules selection, log, events, pcrs; coverage and PCR views.
void appraise_firmware(Case& on);

}  // namespace gatehouse::verifier
