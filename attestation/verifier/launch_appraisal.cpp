// Evidence of a measured hypervisor: PCRs 17, 18 and 19, the launch's log, and its claims.
#include <algorithm>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/verifier/appraisal_case.hpp"
#include "attestation/verifier/quick_hash.hpp"

namespace gatehouse::verifier {
namespace {

using evidence::ClaimFlag;
using evidence::Claims;
using policies::ExpectedEvent;
using policies::Prediction;

constexpr const auto& kPcrs = evidence::kCappedPcrs;
constexpr std::uint32_t kQuotedPcrs =
    (1u << evidence::kLaunchPcr) | (1u << evidence::kPayloadPcr) | (1u << evidence::kMachinePcr);
constexpr const char* kNoQuote = "no quote to judge";
constexpr const char* kNoClaims = "no claims to judge";
constexpr const char* kNoReference = "no reference value to compare with";

// An event that anything may be the object of, or, with `object`, only that; predicted in `banks` alone.
ExpectedEvent expected_event(const evidence::Measurement& measurement, std::optional<Bytes> object,
                             std::span<const HashAlgorithm> banks) {
    ExpectedEvent event{.pcr = measurement.pcr,
                        .tag = static_cast<std::uint32_t>(measurement.tag),
                        .name = std::string(measurement.name)};
    for (std::size_t i = 0; i < event.digests.size(); ++i) {
        const HashAlgorithm bank = policies::kPredictedBanks[i];
        const bool wanted = object && std::ranges::find(banks, bank) != banks.end();
        event.digests[i] = wanted ? quick_hash(bank, {*object}) : Digest{.algorithm = HashAlgorithm{}};
    }
    return event;
}

std::vector<ExpectedEvent> expected_caps() {
    std::vector<ExpectedEvent> caps;
    caps.reserve(kPcrs.size());
    for (const std::uint32_t pcr : kPcrs)
        caps.push_back(expected_event({pcr, {}, "cap"}, evidence::kCapData, policies::kPredictedBanks));
    return caps;
}

// All that a launch of the reference logs, of each PCR in order, ACPI tables aside. What only claims tell is any object
// if they cannot be read: other rules fail then.
std::vector<ExpectedEvent> expected_events(const Prediction& reference, const Result<Claims>& claims,
                                           std::span<const HashAlgorithm> banks) {
    static const std::vector<ExpectedEvent> kCaps = expected_caps();
    std::vector<ExpectedEvent> events = reference.events;
    std::array<std::byte, evidence::kMaxMachineFactsSize> facts{};
    std::optional<Bytes> vault, machine;
    if (claims.ok()) {
        const Result<std::size_t> size = evidence::encode_machine_facts(claims->machine, facts);
        vault = claims->vault_id;
        machine = Bytes(facts).first(size.ok() ? *size : 0);
    }
    events.push_back(expected_event(evidence::kVaultMeasurement, vault, banks));
    events.push_back(expected_event(evidence::kMachineMeasurement, machine, banks));
    events.insert(events.end(), kCaps.begin(), kCaps.end());
    return events;
}

// The expected event number `position` of a PCR; null past the end.
const ExpectedEvent* event_of(const std::vector<ExpectedEvent>& events, std::uint32_t pcr, std::size_t position) {
    for (const ExpectedEvent& event : events) {
        if (event.pcr == pcr && position-- == 0) return &event;
    }
    return nullptr;
}

// The data of an expected event: TCG_PCClientTaggedEvent with its name, or a cap's.
Buffer expected_data(const ExpectedEvent& expected) {
    if (expected.tag == 0) return {evidence::kCapData.begin(), evidence::kCapData.end()};
    Buffer data(8 + expected.name.size());
    Writer writer(data);
    writer.u32(expected.tag);
    writer.u32(static_cast<std::uint32_t>(expected.name.size()));
    writer.bytes(host::text_bytes(expected.name));
    return data;
}

// How an event differs from the expected one; empty if it does not. A bank that the reference does not
// predict (SM3) cannot be computed, so that a quote of it fails the rule "log".
std::string difference(const LogEvent& event, const ExpectedEvent* expected, const EventLog& log) {
    if (expected == nullptr) return "one more than expected";
    const auto type = expected->tag == 0 ? LogEventType::kSeparator : LogEventType::kEventTag;
    if (event.type != type) return "not of the type of the " + expected->name;
    for (const HashAlgorithm bank : log.banks) {
        const Bytes digest = expected->digest(bank);
        if (!digest.empty() && !equal_bytes(event.digest(bank), digest))
            return bank_text(bank) + " digest is not that of the " + expected->name;
    }
    // No digest covers the data: they are what people are shown, so they are the reference's or none.
    if (!equal_bytes(event.data, expected_data(*expected))) return "not named as the " + expected->name;
    return {};
}

Match match_with(const EventLog& log, const Prediction& reference, const Result<Claims>& claims) {
    const std::vector<ExpectedEvent> expected = expected_events(reference, claims, log.banks);
    const bool with_tables = !claims.ok() || claims->acpi == evidence::Acpi::kMachine;
    Match match{.reference = &reference, .own = {}, .matched = 0, .why_not = {}, .matches = {}};
    match.matches.reserve(log.events.size());
    std::array<std::size_t, kPcrs.size()> next{};
    for (const LogEvent& event : log.events) {
        const auto* const pcr = std::ranges::find(kPcrs, event.pcr);
        std::string why;
        if (pcr == kPcrs.end()) {
            why = "extends a PCR that is not part of the launch";
        } else {
            std::size_t& position = next[static_cast<std::size_t>(pcr - kPcrs.begin())];
            // Which tables, the rule "acpi" says.
            const bool table = with_tables && position == 1 && is_acpi_table(event);
            if (!table) why = difference(event, event_of(expected, event.pcr, position++), log);
        }
        match.matches.push_back(why.empty());
        if (why.empty()) {
            ++match.matched;
        } else if (match.why_not.empty()) {
            match.why_not = place_of(event) + ": " + why;
        }
    }
    for (std::size_t i = 0; i < kPcrs.size() && match.why_not.empty(); ++i) {
        if (const ExpectedEvent* const missing = event_of(expected, kPcrs[i], next[i]))
            match.why_not = "PCR " + std::to_string(kPcrs[i]) + ": no event for the " + missing->name;
    }
    return match;
}

void judge_selection(Case& on) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("selection", kNoQuote);
    std::string why = malformed_selections(*quote);
    std::string found;
    bool sha256 = false;
    for (const Selection& selection : quote->selections) {
        if (why.empty() && selection.pcrs != kQuotedPcrs)
            why = "bank " + bank_text(selection.bank) + ": PCRs 17, 18 and 19 are wanted, and no others";
        sha256 = sha256 || selection.bank == HashAlgorithm::kSha256;
        found += (found.empty() ? "" : " ") + bank_text(selection.bank);
    }
    if (why.empty() && !sha256) why = "the SHA-256 bank is not quoted";
    on.judge("selection", std::move(why), std::move(found));
}

// Replays into the views on the way.
std::string log_failure(Case& on, const Attestation& quote, const Match& match) {
    const EventLog& log = on.log;
    if (log.stopped.error != Error::kNone) return host::describe(log.stopped);
    if (!log.quirks.empty()) return "not as the hypervisor writes it: " + log.quirks.front();
    if (quote.selections.empty()) return "nothing is quoted";
    std::vector<std::byte> values;
    for (const Selection& selection : quote.selections) {
        if (!can_hash(selection.bank) || std::ranges::find(log.banks, selection.bank) == log.banks.end())
            return "bank " + bank_text(selection.bank) + " is quoted, and the log has no digests of it";
        for (const std::uint32_t pcr : pcrs_of(selection)) {
            const Digest value = replay(log, selection.bank, pcr, start_value(log, selection.bank, pcr));
            values.insert(values.end(), value.bytes().begin(), value.bytes().end());
            if (selection.bank == HashAlgorithm::kSha256)
                on.verdict.pcrs.push_back({.pcr = pcr, .expected = {}, .found = host::hex(value.bytes())});
        }
    }
    if (equal_bytes(quick_hash(on.key.hash(), {values}).bytes(), quote.pcr_digest)) return {};
    on.verdict.pcrs.clear();  // what a wrong log replays to is not what was found
    return "the event log does not replay to the quoted PCRs; " +
           (match.why_not.empty() ? std::string("its events are those expected, so the PCRs hold something else")
                                  : match.why_not);
}

void judge_log(Case& on, const Match& match) {
    const Attestation* const quote = on.attestation();
    if (quote == nullptr) return on.fail("log", kNoQuote);
    on.judge("log", log_failure(on, *quote, match), std::to_string(on.evidence.event_log.size()) + " bytes");
}

void judge_events(Case& on, const Match& match) {
    Coverage& coverage = on.verdict.coverage;
    coverage.events = static_cast<unsigned>(on.log.events.size());
    if (match.reference == nullptr) {
        on.event_ok.assign(on.log.events.size(), false);
        return on.fail("events", kNoReference);
    }
    on.event_ok = match.matches;
    const bool quoted = on.holds("log");
    for (std::size_t i = 0; i < match.matches.size(); ++i)
        on.event_hashed[i] = !quoted ? "not quoted" : match.matches[i] ? "as expected" : "elsewhere";
    coverage.events_judged = coverage.events;
    std::string why = match.why_not;
    if (on.log.stopped.error != Error::kNone) why = "the log cannot be read to its end";
    if (!why.empty() && on.policy->references.size() > 1)
        why += " (the closest of " + std::to_string(on.policy->references.size()) + " references)";
    on.judge("events", std::move(why), std::to_string(match.matched) + " events as expected");
}

void judge_claims(Case& on) {
    const Result<Claims> claims = evidence::decode_claims(on.evidence.claims);
    if (!claims.ok()) return on.fail("claims", host::describe(claims.failure()));
    on.verdict.claims = *claims;
    const auto has = [&](ClaimFlag flag) { return (claims->flags & static_cast<std::uint32_t>(flag)) != 0; };
    const auto disks = std::span(claims->disks).first(claims->disk_count);
    const auto any = [&](evidence::DiskState state) {
        return std::ranges::any_of(disks, [state](const auto& disk) { return disk.state == state; });
    };
    std::string why;
    if (claims->launch == evidence::Launch::kNone) {
        why = "no dynamic launch";
    } else if (!has(ClaimFlag::kCapped)) {
        why = "PCRs 17, 18 and 19 were not capped";
    } else if (!has(ClaimFlag::kVaultOpened)) {
        why = "the vault was not opened";
    } else if (any(evidence::DiskState::kEncrypting)) {  // whichever; a change from key to key claims kEncrypted
        why = "a disk is still being encrypted: part of it is plaintext";
    } else if (!any(evidence::DiskState::kEncrypted)) {
        why = "no disk is encrypted";
    }
    on.judge("claims", std::move(why),
             std::to_string(claims->cpus) + " CPUs, " + std::to_string(disks.size()) + " disks");
}

void judge_bundle(Case& on, const Match& match) {
    if (!on.verdict.claims) return on.fail("policy", kNoClaims);
    if (match.reference == nullptr) return on.fail("policy", kNoReference);
    const bool same = equal_bytes(on.verdict.claims->policy_digest, match.reference->bundle.digest);
    on.judge("policy", same ? "" : "the claimed policy bundle is another one",
             host::hex(on.verdict.claims->policy_digest));
}

void judge_iommu(Case& on, const Match& match) {
    if (!on.verdict.claims) return on.fail("iommu", kNoClaims);
    if (on.verdict.claims->iommu != evidence::Iommu::kNone) return on.hold("iommu", "in use");
    if (on.policy == nullptr || on.policy->require_iommu)
        return on.fail("iommu", "no IOMMU, and the policy requires one: any device can read the disk key");
    const bool allowed = match.reference != nullptr && match.reference->bundle.has(policies::BundleFlag::kAllowNoIommu);
    on.judge("iommu", allowed ? "" : "no IOMMU: any device can read the disk key", "none, as the policy bundle allows");
}

void judge_counter(Case& on) {
    if (!on.verdict.claims) return on.fail("counter", kNoClaims);
    if (on.policy == nullptr) return on.fail("counter", "no policy gives a floor");
    const std::uint64_t limit = on.verdict.claims->counter_limit;
    const std::uint64_t floor = on.policy->counter_floor;
    on.judge("counter",
             limit >= floor
                 ? ""
                 : "the approval's counter limit is " + std::to_string(limit) + ", the floor " + std::to_string(floor),
             "limit " + std::to_string(limit));
}

std::string version_text(std::uint32_t version) {
    return std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
           std::to_string(version & 0xff);
}

void judge_version(Case& on) {
    if (!on.verdict.claims) return on.fail("version", kNoClaims);
    if (on.policy == nullptr) return on.fail("version", "no policy gives a minimum");
    const std::uint32_t version = on.verdict.claims->hypervisor_version;
    const std::uint32_t minimum = on.policy->minimum_hypervisor;
    on.judge(
        "version",
        version >= minimum ? "" : "hypervisor " + version_text(version) + " is older than " + version_text(minimum),
        "hypervisor " + version_text(version));
}

// What the reference expects in the SHA-256 bank beside what was found, and how many PCRs that judged.
void view_pcrs(Case& on, const Match& match) {
    if (match.reference == nullptr) return;
    const bool replayed = on.holds("log");
    if (replayed) {
        for (const Selection& selection : on.quote->selections) {
            if (match.reference->events.front().digest(selection.bank).empty()) continue;
            for (const std::uint32_t pcr : pcrs_of(selection)) {
                if (std::ranges::find(kPcrs, pcr) != kPcrs.end()) ++on.verdict.coverage.pcrs_judged;
            }
        }
    }
    if (!on.with_views && on.verdict.accepted()) return;
    if (on.verdict.pcrs.empty()) {
        for (const std::uint32_t pcr : kPcrs) on.verdict.pcrs.push_back({.pcr = pcr, .expected = {}, .found = {}});
    }
    const Bytes vault = on.verdict.claims ? Bytes(on.verdict.claims->vault_id) : Bytes{};
    for (Verdict::PcrView& view : on.verdict.pcrs) {
        if (std::ranges::find(kPcrs, view.pcr) == kPcrs.end()) continue;
        view.expected = view.pcr == evidence::kMachinePcr
                            ? expected_machine_value(on)
                            : host::hex(match.reference->capped_value(HashAlgorithm::kSha256, view.pcr, vault).bytes());
    }
}

}  // namespace

Match closest_reference(const EventLog& log, const Policy* policy, Bytes claims) {
    Match closest;
    if (policy == nullptr) return closest;
    const Result<Claims> claimed = evidence::decode_claims(claims);
    for (const Prediction& reference : policy->references) {
        std::unique_ptr<const Prediction> own;
        if (policy->own_storage_root && claimed.ok() && policies::is_storage_root(claimed->storage_root) &&
            (!equal_bytes(claimed->storage_root, reference.bundle.srk_name) ||
             !equal_bytes(claimed->vault_id, reference.bundle.vault_id))) {
            own = std::make_unique<const Prediction>(
                policies::with_endpoint(reference, claimed->storage_root, claimed->vault_id));
        }
        Match match = match_with(log, own ? *own : reference, claimed);
        match.own = std::move(own);
        const bool whole = match.why_not.empty();
        if (closest.reference == nullptr || whole || match.matched > closest.matched) closest = std::move(match);
        if (whole) break;
    }
    return closest;
}

void appraise_launch(Case& on, const Match& match) {
    judge_selection(on);
    judge_log(on, match);
    judge_events(on, match);
    judge_claims(on);
    judge_bundle(on, match);
    judge_iommu(on, match);
    judge_counter(on);
    judge_version(on);
    appraise_endpoint(on, match);
    view_pcrs(on, match);
}

}  // namespace gatehouse::verifier
