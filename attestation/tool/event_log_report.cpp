#include "attestation/tool/event_log_report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "attestation/verifier/event_data.hpp"

namespace gatehouse::verifier {
namespace {

using nlohmann::json;

constexpr const char* kBanks[] = {"sha1", "sha256", "sha384", "sha512", "sm3_256"};
static_assert(std::size(kBanks) == kLogBanks.size());

const char* name_of(HashAlgorithm bank) { return kBanks[bank_index(bank)]; }

std::set<std::uint32_t> extended_pcrs(const EventLog& log) {
    std::set<std::uint32_t> pcrs;
    for (const LogEvent& event : log.events)
        if (event.type != LogEventType::kNoAction && event.pcr < 24) pcrs.insert(event.pcr);
    return pcrs;
}

// Calls `each` (bank, PCR, value) for what the events replay to.
template <typename Each>
void replay_all(const EventLog& log, const Each& each) {
    for (const HashAlgorithm bank : log.banks) {
        if (!can_hash(bank)) continue;
        for (const std::uint32_t pcr : extended_pcrs(log))
            each(bank, pcr, host::hex(replay(log, bank, pcr, start_value(log, bank, pcr)).bytes()));
    }
}

struct Count {
    unsigned recomputed = 0;
    unsigned values = 0;  // of variables, alone
    unsigned extending = 0;
};
Count count_events(const EventLog& log) {
    Count count;
    for (const LogEvent& event : log.events) {
        const DataJudgement judgement = judge_event_data(event).judgement;
        if (judgement != DataJudgement::kNothingHashed) ++count.extending;
        if (judgement == DataJudgement::kMatches) ++count.recomputed;
        if (judgement == DataJudgement::kValue) ++count.values;
    }
    return count;
}

std::string padded(std::string text, std::size_t width) {
    text.resize(std::max(width, text.size()), ' ');
    return text;
}

}  // namespace

LogReport inspect_log(Bytes bytes) {
    LogReport report{.log = read_event_log(bytes), .consistent = false};
    report.consistent =
        report.log.stopped.error == Error::kNone && std::ranges::none_of(report.log.events, [](const LogEvent& event) {
            return judge_event_data(event).judgement == DataJudgement::kDiffers;
        });
    if (lost_its_end(report.log)) {
        report.log.quirks.emplace_back(kLostItsEnd);
        report.consistent = false;
    }
    return report;
}

json log_json(const LogReport& report) {
    const EventLog& log = report.log;
    json banks = json::array();
    for (const HashAlgorithm bank : log.banks) banks.push_back(name_of(bank));
    json events = json::array();
    for (const LogEvent& event : log.events) {
        json digests = json::object();
        for (std::size_t i = 0; i < kLogBanks.size(); ++i)
            if (!event.digests[i].empty()) digests[kBanks[i]] = host::hex(event.digests[i]);
        const DataFinding finding = judge_event_data(event);
        events.push_back({{"number", event.number},
                          {"offset", event.offset},
                          {"pcr", event.pcr},
                          {"type", event_type_name(event.type)},
                          {"text", event_text(event)},
                          {"size", event.data.size()},
                          {"digests", digests},
                          {"hashed", judgement_name(finding.judgement)},
                          {"note", finding.detail}});
    }
    json pcrs = json::object();
    replay_all(log, [&pcrs](HashAlgorithm bank, std::uint32_t pcr, const std::string& value) {
        pcrs[name_of(bank)][std::to_string(pcr)] = value;
    });
    json result{{"crypto_agile", log.crypto_agile},
                {"banks", banks},
                {"events", events},
                {"recomputed", count_events(log).recomputed},
                {"quirks", log.quirks},
                {"pcrs", pcrs},
                {"stopped", nullptr},
                {"consistent", report.consistent}};
    if (log.stopped.error != Error::kNone) result["stopped"] = host::describe(log.stopped);
    return result;
}

std::string log_text(const LogReport& report) {
    const EventLog& log = report.log;
    std::string text;
    for (const LogEvent& event : log.events) {
        const DataFinding finding = judge_event_data(event);
        const bool differs = finding.judgement == DataJudgement::kDiffers;
        text += std::string(differs ? "FAIL" : "    ") + padded(std::to_string(event.number), 5) + "PCR " +
                padded(std::to_string(event.pcr), 3) + padded(event_type_name(event.type), 32) + event_text(event);
        if (differs)
            text += "  [the data have another digest in " + finding.detail + "]";
        else if (!finding.detail.empty())
            text += "  [" + finding.detail + "]";
        else if (finding.judgement == DataJudgement::kValue)
            text += "  [the value is hashed, the name is not]";
        text += '\n';
    }
    for (const std::string& quirk : log.quirks) text += "note  " + quirk + '\n';
    const Count count = count_events(log);
    text += "note  " + std::to_string(count.recomputed) + " of " + std::to_string(count.extending) +
            " events recomputed from their data";
    if (count.values != 0)
        text += ", of " + std::to_string(count.values) + " more a variable's value, but not its name";
    text += "; what the others say is in no digest\n";
    replay_all(log, [&text](HashAlgorithm bank, std::uint32_t pcr, const std::string& value) {
        text += "pcr   " + padded(name_of(bank), 8) + padded(std::to_string(pcr), 3) + value + '\n';
    });
    if (log.stopped.error != Error::kNone) text += "FAIL  " + host::describe(log.stopped) + '\n';
    text += report.consistent ? "consistent\n" : "NOT CONSISTENT\n";
    return text;
}

}  // namespace gatehouse::verifier
