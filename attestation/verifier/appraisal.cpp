#include "attestation/verifier/appraisal.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/verifier/appraisal_case.hpp"
#include "attestation/verifier/event_data.hpp"
#include "attestation/verifier/tpm_identity.hpp"

namespace gatehouse::verifier {
namespace {

constexpr std::size_t kMinNonce = 16;
constexpr std::size_t kMaxNonce = 64;
// TPMs refuse to be set to a later time (Part 3, 29.2).
constexpr std::uint64_t kLatestClock = 0xffff'0000'0000'0000;
// The clock's value in NV may be this old when power is lost (Part 1, 36.3: at most 2^22 ms).
constexpr std::uint64_t kClockSlack = std::uint64_t{1} << 22;
// More resets than a machine can do between two quotes that anybody waits for: some minutes each, for years.
constexpr std::uint32_t kPlausibleResets = 1u << 20;
constexpr const char* kNoQuote = "no quote to judge";

std::string number(std::uint64_t value) { return std::to_string(value); }

void judge_quote(Case& on) {
    if (!on.quote.ok()) {
        std::string why = host::describe(on.quote.failure());
        if (on.quote.error() == Error::kBadValue && on.evidence.quote.size() >= 6) {
            const auto tag = load<std::uint16_t>(on.evidence.quote.data() + 4, Endian::kBig);
            if (std::string_view(attestation_kind(tag)) != "quote")
                why += std::string(", of type ") + attestation_kind(tag);
        }
        return on.fail("quote", why);
    }
    on.hold("quote", "made by a TPM, of type quote");
}

void judge_key(Case& on) {
    on.judge("ak", on.key.unfit_for(on.evidence.source),
             "fit for a " + source_name(on.evidence.source) + "'s evidence");
}

void judge_signature(Case& on) {
    const Result<Signature> signature = parse_signature(on.evidence.signature);
    if (!signature.ok()) return on.fail("signature", host::describe(signature.failure()));
    on.judge("signature", on.key.why_not(on.evidence.quote, *signature), "the enrolled key's");
}

void judge_signer(Case& on, const Match& match) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("signer", kNoQuote);
    const Bytes signer = quote->qualified_signer;
    const Bytes name = on.key.name();
    if (signer.size() != name.size() || !equal_bytes(signer.first(2), name.first(2)))
        return on.fail("signer", "the quote names a key of another kind than the enrolled one");
    if (!on.known.qualified_signer.empty() && !equal_bytes(signer, on.known.qualified_signer))
        return on.fail("signer", "the quote names another key than the endpoint's earlier quotes did");
    if (match.reference == nullptr) {
        return on.hold("signer",
                       on.known.qualified_signer.empty() ? "taken from this first quote" : "as in earlier quotes");
    }
    const Result<evidence::Claims> claims = evidence::decode_claims(on.evidence.claims);
    const Bytes pinned = match.reference->bundle.srk_name;
    // A fleet's endpoints have records, which the measured hypervisor checks: its word for the SRK is the record's.
    const bool by_record = pinned.empty() && claims.ok();
    const Bytes srk = by_record ? Bytes(claims->storage_root) : pinned;
    const bool child = equal_bytes(signer, qualified_name(srk, on.key).bytes());
    on.judge("signer",
             child ? ""
                   : std::string("the signing key is not the enrolled one as a child of the SRK that the ") +
                         (by_record ? "endpoint's record" : "policy bundle") + " pins",
             "child of SRK " + host::hex(srk));
}

void judge_nonce(Case& on) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("nonce", kNoQuote);
    if (on.nonce.size() < kMinNonce || on.nonce.size() > kMaxNonce)
        return on.fail("nonce", "the nonce must have 16 to 64 bytes, not " + number(on.nonce.size()));
    if (quote->extra_data.size() != kSha256Size) {
        return on.fail("nonce", "the quote's qualifying data have " + number(quote->extra_data.size()) +
                                    " bytes, not those of a SHA-256 digest");
    }
    const bool fresh = equal_bytes(quote->extra_data, evidence::qualifying_data(on.nonce, on.evidence.claims));
    if (!fresh && on.evidence.bare_nonce && on.evidence.source == Source::kTpm && on.evidence.claims.empty() &&
        equal_bytes(quote->extra_data, sha256(on.nonce)))
        return on.hold("nonce", host::hex(on.nonce) + ", quoted as older agents did");
    on.judge("nonce", fresh ? "" : "the quote was not made for this nonce and these claims", host::hex(on.nonce));
}

std::string clock_went_wrong(const Attestation& quote, const TpmState& known) {
    if (quote.clock >= kLatestClock) return "clock " + number(quote.clock) + " is later than any TPM's can be";
    if (known.qualified_signer.empty()) return {};
    const std::uint32_t resets = quote.reset_count - known.reset_count;  // modulo 2^32
    const std::uint32_t restarts = quote.restart_count - known.restart_count;
    if (static_cast<std::int32_t>(resets) < 0)
        return "resetCount went back by " + number(0u - resets) + ": an older quote, or another TPM";
    if (resets > kPlausibleResets) return "resetCount rose by " + number(resets) + ", which is not plausible";
    const bool same_boot = resets == 0;
    // After a loss of power the TPM may not know its latest time, and says so by `safe`.
    const std::uint64_t slack = !same_boot && !quote.clock_safe ? kClockSlack : 0;
    if (quote.clock < known.clock && known.clock - quote.clock > slack)
        return "clock went back by " + number(known.clock - quote.clock) + " ms";
    if (same_boot && static_cast<std::int32_t>(restarts) < 0)
        return "restartCount went back by " + number(0u - restarts) + " without a reset";
    if (same_boot && restarts > kPlausibleResets)
        return "restartCount rose by " + number(restarts) + ", which is not plausible";
    return {};
}

void judge_clock(Case& on) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("clock", kNoQuote);
    std::string found = "clock " + number(quote->clock) + " ms" + (quote->clock_safe ? "" : " (not safe)");
    if (!on.known.qualified_signer.empty()) {
        found += ", " + number(quote->reset_count - on.known.reset_count) + " resets since the last quote";
    }
    on.judge("clock", clock_went_wrong(*quote, on.known), std::move(found));
}

void judge_firmware(Case& on) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("firmware", kNoQuote);
    std::array<std::byte, 8> bytes{};
    store(bytes.data(), quote->firmware_version, Endian::kBig);
    const std::string version = host::hex(bytes);
    if (on.policy != nullptr && !on.policy->tpm_firmware.empty()) {
        const bool listed =
            std::ranges::find(on.policy->tpm_firmware, quote->firmware_version) != on.policy->tpm_firmware.end();
        return on.judge("firmware", listed ? "" : "firmwareVersion " + version + " is not in the policy's list",
                        version);
    }
    if (!on.known.qualified_signer.empty() && quote->firmware_version != on.known.firmware_version)
        return on.fail("firmware", "firmwareVersion changed after enrollment, to " + version);
    on.hold("firmware", version);
}

void judge_source(Case& on) {
    if (on.policy == nullptr) return on.fail("source", "no policy says of which kind evidence must be");
    const bool same = on.evidence.source == on.policy->source;
    on.judge("source",
             same ? ""
                  : "the evidence is a " + source_name(on.evidence.source) + "'s, the policy \"" + on.policy->name +
                        "\" wants a " + source_name(on.policy->source) + "'s",
             source_name(on.evidence.source));
}

void judge_reference(Case& on) {
    if (on.policy == nullptr) return on.fail("reference", "no policy: nothing is expected, so nothing is accepted");
    const bool any =
        on.policy->source == Source::kHypervisor ? !on.policy->references.empty() : !on.policy->pcrs.empty();
    on.judge("reference", any ? "" : "the policy \"" + on.policy->name + "\" expects nothing, so it accepts nothing",
             "policy \"" + on.policy->name + "\", version " + number(on.policy->version));
}

// To be remembered once the quote is known to be the TPM's own and fresh. A firmware version that was refused
// is not: it would be the accepted one the next time.
void remember(Case& on) {
    for (const char* const rule : {"quote", "ak", "signature", "signer", "nonce", "clock"}) {
        if (!on.holds(rule)) return;
    }
    const Attestation& quote = *on.quote;
    const bool first = on.known.qualified_signer.empty();
    const bool keep = !first && !on.holds("firmware");
    const bool accepted = on.verdict.accepted() && on.evidence.source == Source::kHypervisor;
    on.verdict.tpm = TpmState{.qualified_signer = {quote.qualified_signer.begin(), quote.qualified_signer.end()},
                              .clock = quote.clock,
                              .reset_count = quote.reset_count,
                              .restart_count = quote.restart_count,
                              .firmware_version = keep ? on.known.firmware_version : quote.firmware_version,
                              .vaults = accepted ? vaults_to_remember(on) : on.known.vaults,
                              .identity = on.known.identity};
    if (accepted) on.verdict.tpm->identity = identity_to_remember(on);
}

// What an event says is not shown if its digest shows that it is something else, nor what stands before the hashed.
std::string name_in_view(const LogEvent& event, std::string_view hashed, std::size_t front) {
    if (hashed == judgement_name(DataJudgement::kDiffers))
        return event_type_name(event.type) + ", data not those of its digest";
    LogEvent shown = event;
    if (hashed == judgement_name(DataJudgement::kMatches)) shown.data = event.data.subspan(front);
    return event_text(shown);
}

void view_events(Case& on) {
    for (std::size_t i = 0; i < on.log.events.size(); ++i) {
        const LogEvent& event = on.log.events[i];
        Bytes digest = event.digest(HashAlgorithm::kSha256);
        for (const Bytes other : event.digests) {
            if (digest.empty()) digest = other;
        }
        on.verdict.events.push_back({.offset = event.offset,
                                     .number = event.number,
                                     .pcr = event.pcr,
                                     .type = static_cast<std::uint32_t>(event.type),
                                     .name = name_in_view(event, on.event_hashed[i], on.event_front[i]),
                                     .digest = host::hex(digest),
                                     .hashed = on.event_hashed[i],
                                     .ok = on.event_ok[i]});
    }
}

}  // namespace

std::string place_of(const LogEvent& event) {
    return "event " + number(event.number) + " at offset " + number(event.offset) + " (PCR " + number(event.pcr) + ")";
}

std::string bank_text(HashAlgorithm bank) { return policies::bank_name(bank); }

std::vector<std::uint32_t> pcrs_of(const Selection& selection) {
    std::vector<std::uint32_t> pcrs;
    for (std::uint32_t pcr = 0; pcr < 32; ++pcr) {
        if ((selection.pcrs >> pcr & 1) != 0) pcrs.push_back(pcr);
    }
    return pcrs;
}

std::string malformed_selections(const Attestation& quote) {
    if (quote.selections.empty()) return "nothing is quoted";
    for (std::size_t i = 0; i < quote.selections.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (quote.selections[i].bank == quote.selections[j].bank)
                return "bank " + bank_text(quote.selections[i].bank) + " is quoted twice";
        }
    }
    return {};
}

Verdict appraise(const Evidence& evidence, const AttestationKey& key, const TpmState& known, Bytes nonce,
                 const Policy* policy, bool with_views) {
    Case on{.evidence = evidence,
            .key = key,
            .known = known,
            .nonce = nonce,
            .policy = policy,
            .with_views = with_views,
            .quote = parse_attestation(evidence.quote)};
    on.verdict.findings.reserve(24);
    if (policy != nullptr) {
        on.verdict.policy = policy->name;
        on.verdict.policy_version = policy->version;
    }
    const bool launch = evidence.source == Source::kHypervisor;
    if (launch || !evidence.event_log.empty()) on.log = read_event_log(evidence.event_log);
    on.event_ok.assign(on.log.events.size(), true);
    on.event_hashed.assign(on.log.events.size(), judgement_name(DataJudgement::kElsewhere));
    on.event_front.assign(on.log.events.size(), 0);
    on.verdict.quirks = on.log.quirks;
    const Match match = launch ? closest_reference(on.log, policy, evidence.claims) : Match{};

    judge_quote(on);
    judge_key(on);
    judge_signature(on);
    judge_signer(on, match);
    judge_nonce(on);
    judge_clock(on);
    judge_firmware(on);
    judge_source(on);
    judge_reference(on);
    launch ? appraise_launch(on, match) : appraise_firmware(on);

    remember(on);
    if (const Attestation* const quote = on.attestation()) {
        for (const Selection& selection : quote->selections)
            on.verdict.coverage.pcrs += static_cast<unsigned>(std::popcount(selection.pcrs));
    }
    if (with_views || !on.verdict.accepted()) {
        view_events(on);
    } else {
        on.verdict.pcrs.clear();
    }
    return std::move(on.verdict);
}

}  // namespace gatehouse::verifier
