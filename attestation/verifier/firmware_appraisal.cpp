// Evidence of a TPM alone: quoted PCR values against a policy's, and a firmware's log that explains them.
#include <algorithm>
#include <map>

#include "attestation/verifier/appraisal_case.hpp"
#include "attestation/verifier/event_data.hpp"
#include "attestation/verifier/quick_hash.hpp"

namespace gatehouse::verifier {
namespace {

constexpr const char* kNoQuote = "no quote to judge";
// Later PCRs are extended by operating systems as well, past the end of the firmware's log.
constexpr std::uint32_t kFirmwarePcrs = 8;
// Of a dynamic launch (PC Client Platform TPM Profile, "PCR attributes").
constexpr std::uint32_t kFirstLaunchPcr = 17;
constexpr std::uint32_t kLastLaunchPcr = 22;

// "10, 23" of the bits of a mask.
std::string pcr_numbers(std::uint32_t mask) {
    std::string text;
    for (std::uint32_t pcr = 0; pcr < 32; ++pcr) {
        if ((mask >> pcr & 1) != 0) text += (text.empty() ? "" : ", ") + std::to_string(pcr);
    }
    return text;
}

using Values = std::map<HashAlgorithm, std::map<std::uint32_t, Digest>>;

std::string pcr_text(HashAlgorithm bank, std::uint32_t pcr) { return bank_text(bank) + " PCR " + std::to_string(pcr); }

class FirmwareAppraisal {
  public:
    explicit FirmwareAppraisal(Case& on) : on_(on), has_log_(!on.evidence.event_log.empty()) {}

    void run() {
        judge_selection();
        judge_log();
        judge_events();
        judge_pcrs();
        view_pcrs();
    }

  private:
    void judge_selection() {
        const Attestation* const quote = on_.attestation();
        if (quote == nullptr) return on_.fail("selection", kNoQuote);
        std::string why = malformed_selections(*quote);
        std::string found;
        for (const Selection& selection : quote->selections)
            found += (found.empty() ? "" : " ") + bank_text(selection.bank);
        if (why.empty() && on_.policy == nullptr) why = "no policy says which PCRs are wanted";
        if (why.empty()) why = missing_pcr(*quote);
        on_.judge("selection", std::move(why), std::move(found));
    }

    [[nodiscard]] std::string missing_pcr(const Attestation& quote) const {
        for (const auto& [bank, pcrs] : on_.policy->pcrs) {
            const auto selection = std::ranges::find(quote.selections, bank, &Selection::bank);
            for (const auto& [pcr, values] : pcrs) {
                if (selection == quote.selections.end() || (selection->pcrs >> pcr & 1) == 0)
                    return pcr_text(bank, pcr) + " is not quoted, and the policy has a value for it";
            }
        }
        return {};
    }

    // --- values

    // The quoted PCRs' values as they were sent, if they are those quoted; else why not.
    std::string take_sent_values(const Attestation& quote) {
        Reader reader(on_.evidence.pcr_values);
        Values sent;
        for (const Selection& selection : quote.selections) {
            if (digest_size(selection.bank) == 0)
                return "a bank of unknown algorithm " + std::to_string(static_cast<unsigned>(selection.bank)) +
                       " is quoted";
            for (const std::uint32_t pcr : pcrs_of(selection)) {
                Digest value{.algorithm = selection.bank};
                reader.copy(MutableBytes(value.storage).first(digest_size(selection.bank)));
                sent[selection.bank][pcr] = value;
            }
        }
        if (const Status whole = reader.finished("PCR values"); !whole.ok())
            return host::describe(whole.failure()) + ": not as many as are quoted";
        if (!equal_bytes(quick_hash(on_.key.hash(), {on_.evidence.pcr_values}).bytes(), quote.pcr_digest))
            return "the PCR values sent are not those quoted";
        values_ = std::move(sent);
        return {};
    }

    // The log's, where no values were sent.
    std::string take_replayed_values(const Attestation& quote) {
        if (!has_log_) return "neither PCR values nor a log were sent";
        for (const Selection& selection : quote.selections) {
            if (!in_log(selection.bank))
                return "no PCR values were sent, and the log lacks bank " + bank_text(selection.bank);
        }
        for (const std::uint8_t locality : start_localities(on_.log)) {
            std::vector<std::byte> all;
            Values replayed;
            for (const Selection& selection : quote.selections) {
                for (const std::uint32_t pcr : pcrs_of(selection)) {
                    const Digest value = replayed_value(selection.bank, pcr, locality);
                    all.insert(all.end(), value.bytes().begin(), value.bytes().end());
                    replayed[selection.bank][pcr] = value;
                }
            }
            if (!equal_bytes(quick_hash(on_.key.hash(), {all}).bytes(), quote.pcr_digest)) continue;
            values_ = std::move(replayed);
            return {};
        }
        return "the event log does not replay to the quoted PCRs";
    }

    // --- log

    [[nodiscard]] bool in_log(HashAlgorithm bank) const {
        return can_hash(bank) && std::ranges::find(on_.log.banks, bank) != on_.log.banks.end();
    }
    [[nodiscard]] Digest replayed_value(HashAlgorithm bank, std::uint32_t pcr, std::uint8_t locality) const {
        return replay(on_.log, bank, pcr, start_value(on_.log, bank, pcr, locality));
    }
    [[nodiscard]] bool has_events(std::uint32_t pcr) const {
        return std::ranges::any_of(on_.log.events, [pcr](const LogEvent& event) {
            return event.pcr == pcr && event.type != LogEventType::kNoAction;
        });
    }

    // Whether the log replays to a value from a start that there is. Some firmware does not log the right one.
    bool explains(HashAlgorithm bank, std::uint32_t pcr, const Digest& value) {
        const auto localities = start_localities(on_.log);
        for (const std::uint8_t locality : localities) {
            if (!equal_bytes(replayed_value(bank, pcr, locality).bytes(), value.bytes())) {
                if (pcr != 0) return false;  // none but PCR 0 starts otherwise
                continue;
            }
            if (locality != localities.front())
                note("PCR 0 was started at locality " + std::to_string(locality) + ", which the log does not say");
            return true;
        }
        return false;
    }

    std::string compare_replay() {
        std::string why;
        std::uint32_t silent = 0;  // bit n: PCR n is not as at its start, and no event says why
        bool any_bank = false;
        for (const auto& [bank, pcrs] : values_) {
            if (!in_log(bank)) continue;
            any_bank = true;
            for (const auto& [pcr, value] : pcrs) {
                if (explains(bank, pcr, value)) {
                    explained_[bank_index(bank)] |= 1u << pcr;
                    continue;
                }
                unexplained_ |= 1u << pcr;
                const std::string what = "the log does not replay to the quoted value of " + pcr_text(bank, pcr);
                if (pcr < kFirmwarePcrs) {
                    if (why.empty()) why = what;
                } else if (has_events(pcr)) {
                    // Which of the two cannot be told: who leaves out what was measured says that it came later.
                    on_.verdict.quirks.push_back(what + ": extended after its end, or events are left out of it");
                } else {
                    silent |= 1u << pcr;
                }
            }
        }
        if (silent != 0)
            on_.verdict.quirks.push_back("extended, and the log has no event of it: PCR " + pcr_numbers(silent));
        if (!any_bank) {
            on_.verdict.quirks.emplace_back("the log has none of the quoted banks: it explains nothing");
            unexplained_ = ~0u;
        }
        return why;
    }

    void judge_log() {
        const Attestation* const quote = on_.attestation();
        unexplained_ = ~0u;
        if (quote == nullptr) return on_.fail("log", kNoQuote);
        if (has_log_ && on_.log.stopped.error != Error::kNone) return on_.fail("log", host::describe(on_.log.stopped));
        const bool sent = !on_.evidence.pcr_values.empty();
        std::string why = sent ? take_sent_values(*quote) : take_replayed_values(*quote);
        if (why.empty()) unexplained_ = 0;
        if (why.empty() && has_log_) why = compare_replay();
        if (!has_log_) unexplained_ = ~0u;
        on_.judge("log", std::move(why),
                  has_log_ ? std::to_string(on_.evidence.event_log.size()) + " bytes" : "no log was sent");
    }

    // --- events

    [[nodiscard]] bool pinned(std::uint32_t pcr) const {
        return on_.policy != nullptr &&
               std::ranges::any_of(on_.policy->pcrs, [pcr](const auto& bank) { return bank.second.contains(pcr); });
    }

    // Whether the quote vouches for an event: it is part of what a quoted value was replayed from.
    [[nodiscard]] bool vouched_for(const LogEvent& event) const {
        if (event.pcr >= 32 || (unexplained_ >> event.pcr & 1) != 0) return false;
        for (std::size_t bank = 0; bank < explained_.size(); ++bank) {
            if ((explained_[bank] >> event.pcr & 1) != 0 && !event.digests[bank].empty()) return true;
        }
        return false;
    }
    // Whether an event is shown to be wrong: its PCR was quoted, and holds something else.
    [[nodiscard]] bool does_not_belong(const LogEvent& event) const {
        if (event.pcr >= 32) return false;
        const bool replayed =
            std::ranges::any_of(explained_, [&](std::uint32_t pcrs) { return (pcrs >> event.pcr & 1) != 0; });
        if ((unexplained_ >> event.pcr & 1) != 0) return event.pcr < kFirmwarePcrs;
        return replayed && !vouched_for(event);
    }

    // What of an event its digest covers, as the quote vouches for that: Verdict::EventView::hashed.
    [[nodiscard]] const char* hashed(const LogEvent& event, DataJudgement judgement) const {
        const bool extends = judgement != DataJudgement::kNothingHashed && judgement != DataJudgement::kDiffers;
        return extends && !vouched_for(event) ? "not quoted" : judgement_name(judgement);
    }

    // What the policy refuses by itself. A launch's PCRs hold what measured code logs, which does not contradict itself.
    [[nodiscard]] bool refused_if_it_differs(const LogEvent& event) const {
        return (on_.policy != nullptr && on_.policy->refuse_contradictions) ||
               (event.pcr >= kFirstLaunchPcr && event.pcr <= kLastLaunchPcr);
    }

    void judge_events() {
        Coverage& coverage = on_.verdict.coverage;
        std::string why;
        std::string contradicts;
        std::vector<std::string> named;  // events that contradict themselves
        unsigned recomputed = 0;
        unsigned differing = 0;
        for (std::size_t i = 0; i < on_.log.events.size(); ++i) {
            const LogEvent& event = on_.log.events[i];
            const DataFinding data = judge_event_data(event);
            on_.event_hashed[i] = hashed(event, data.judgement);
            on_.event_front[i] = data.front;
            if (event.type == LogEventType::kNoAction) continue;
            ++coverage.events;
            if (data.judgement == DataJudgement::kMatches) {
                ++recomputed;
            }
            const bool differs = data.judgement == DataJudgement::kDiffers;
            if (!differs && !data.detail.empty()) note(event_type_name(event.type) + ": " + data.detail);
            if (differs) {
                ++differing;
                const std::string what = place_of(event) + ": " + data.detail + " digest is not that of its data (" +
                                         event_type_name(event.type) + ")";
                if (differing <= kMaxQuirks) named.push_back(what + ": nothing that it says is believed");
                if (contradicts.empty()) contradicts = what;
                if (why.empty() && refused_if_it_differs(event)) why = what;
            } else if (vouched_for(event) && (data.judgement == DataJudgement::kMatches || pinned(event.pcr))) {
                ++coverage.events_judged;
            }
            on_.event_ok[i] = !differs && !does_not_belong(event);
        }
        if (on_.log.stopped.error != Error::kNone && why.empty()) why = "the log cannot be read to its end";
        // Before all other quirks, and not among those that are counted: nothing may hide them.
        if (differing > kMaxQuirks)
            named.push_back(std::to_string(differing - kMaxQuirks) + " more events have digests not of their data");
        on_.verdict.quirks.insert(on_.verdict.quirks.begin(), named.begin(), named.end());
        if (lost_its_end(on_.log)) on_.verdict.quirks.emplace_back(kLostItsEnd);
        std::string found = std::to_string(recomputed) + " of " + std::to_string(coverage.events) +
                            " events recomputed from their data";
        if (differing != 0) found += ", " + std::to_string(differing) + " passed over: " + contradicts;
        on_.judge("events", std::move(why), std::move(found));
    }

    void note(const std::string& text) {
        if (std::ranges::find(on_.verdict.quirks, text) == on_.verdict.quirks.end() &&
            on_.verdict.quirks.size() < kMaxQuirks)
            on_.verdict.quirks.push_back(text);
    }

    // --- PCRs

    [[nodiscard]] const Digest* value_of(HashAlgorithm bank, std::uint32_t pcr) const {
        const auto values = values_.find(bank);
        if (values == values_.end()) return nullptr;
        const auto value = values->second.find(pcr);
        return value == values->second.end() ? nullptr : &value->second;
    }

    void judge_pcrs() {
        if (on_.policy == nullptr) return on_.fail("pcrs", "no policy says which values are wanted");
        if (on_.policy->pcrs.empty()) return on_.fail("pcrs", "the policy has no value of any PCR");
        if (values_.empty()) return on_.fail("pcrs", "no values that the quote vouches for");
        std::string why;
        for (const auto& [bank, pcrs] : on_.policy->pcrs) {
            for (const auto& [pcr, accepted] : pcrs) {
                const Digest* const value = value_of(bank, pcr);
                if (value != nullptr) ++on_.verdict.coverage.pcrs_judged;
                const bool good = value != nullptr && std::ranges::any_of(accepted, [&](const Digest& one) {
                                      return equal_bytes(one.bytes(), value->bytes());
                                  });
                if (good) continue;
                if (!why.empty()) why += "; ";
                why += pcr_text(bank, pcr) +
                       (value == nullptr ? std::string(" is not quoted")
                                         : " is " + host::hex(value->bytes()) + ", which the policy does not list");
            }
        }
        on_.judge("pcrs", std::move(why), std::to_string(on_.verdict.coverage.pcrs_judged) + " PCRs as listed");
    }

    [[nodiscard]] std::string expected_text(std::uint32_t pcr, const Digest* found) const {
        if (on_.policy == nullptr) return {};
        const auto bank = on_.policy->pcrs.find(HashAlgorithm::kSha256);
        if (bank == on_.policy->pcrs.end()) return {};
        const auto accepted = bank->second.find(pcr);
        if (accepted == bank->second.end() || accepted->second.empty()) return {};
        for (const Digest& one : accepted->second) {
            if (found != nullptr && equal_bytes(one.bytes(), found->bytes())) return host::hex(one.bytes());
        }
        return host::hex(accepted->second.front().bytes());
    }

    void view_pcrs() {
        if (!on_.with_views && on_.verdict.accepted()) return;
        for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
            const Digest* const found = value_of(HashAlgorithm::kSha256, pcr);
            std::string expected = expected_text(pcr, found);
            if (found == nullptr && expected.empty()) continue;
            on_.verdict.pcrs.push_back({.pcr = pcr,
                                        .expected = std::move(expected),
                                        .found = found != nullptr ? host::hex(found->bytes()) : ""});
        }
    }

    Case& on_;
    bool has_log_;
    Values values_;  // only such as the quote vouches for
    // Bit n: PCR n is what the log replays to in this bank, or in some bank it is not.
    std::array<std::uint32_t, kLogBanks.size()> explained_{};
    std::uint32_t unexplained_ = 0;
};

}  // namespace

void appraise_firmware(Case& on) { FirmwareAppraisal(on).run(); }

}  // namespace gatehouse::verifier
