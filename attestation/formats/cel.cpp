#include "attestation/formats/cel.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "attestation/formats/cbor.hpp"

namespace gatehouse::formats {
namespace {

using verifier::EventLog;
using verifier::kLogBanks;
using verifier::LogEvent;
using Json = nlohmann::ordered_json;

constexpr std::uint64_t kPcclientStd = 5;
constexpr std::uint32_t kLastPcr = 0x00ff'ffff;
constexpr std::array kBankNames{"sha1", "sha256", "sha384", "sha512", "sm3_256"};
static_assert(kBankNames.size() == kLogBanks.size());

// Labels of a record, and in digests and content.
constexpr std::int64_t kRecnum = 0, kPcr = 1, kDigests = 3, kContentType = 9, kContent = 10;
constexpr std::int64_t kFirst = 0, kSecond = 1;

std::size_t digests_of(const LogEvent& event) {
    const auto count = std::ranges::count_if(event.digests, [](Bytes digest) { return !digest.empty(); });
    if (count == 0) throw host::ToolError("event " + std::to_string(event.number) + ": has no digest for a CEL record");
    return static_cast<std::size_t>(count);
}

// Calls `each` (event, recnum) of all that have a record: how many.
template <typename Each>
std::size_t for_each_record(const EventLog& log, const Each& each) {
    std::map<std::uint32_t, std::uint64_t> next;
    std::size_t records = 0;
    for (const LogEvent& event : log.events) {
        if (event.pcr > kLastPcr) continue;
        each(event, next[event.pcr]++);
        ++records;
    }
    return records;
}

Json type_json(const LogEvent& event) {
    const std::string name = event_type_name(event.type);
    if (name.starts_with("EV_")) return name;
    return static_cast<std::uint32_t>(event.type);
}

}  // namespace

std::string cel_json(const EventLog& log) {
    Json records = Json::array();
    (void)for_each_record(log, [&](const LogEvent& event, std::uint64_t recnum) {
        (void)digests_of(event);
        Json digests = Json::array();
        for (std::size_t i = 0; i < kLogBanks.size(); ++i)
            if (!event.digests[i].empty())
                digests.push_back({{"hashAlg", kBankNames[i]}, {"digest", host::hex(event.digests[i])}});
        Json record;
        record["recnum"] = recnum;
        record["pcr"] = event.pcr;
        record["digests"] = std::move(digests);
        record["content_type"] = "pcclient_std";
        record["content"]["event_type"] = type_json(event);
        record["content"]["event_data"] = host::hex(event.data);
        records.push_back(std::move(record));
    });
    return records.dump(2) + "\n";
}

Buffer cel_cbor(const EventLog& log) {
    CborWriter writer;
    const std::size_t records = for_each_record(log, [&](const LogEvent& event, std::uint64_t recnum) {
        writer.map(5).integer(kRecnum).number(recnum).integer(kPcr).number(event.pcr);
        writer.integer(kDigests).array(digests_of(event));
        for (std::size_t i = 0; i < kLogBanks.size(); ++i) {
            if (event.digests[i].empty()) continue;
            writer.map(2).integer(kFirst).number(static_cast<std::uint64_t>(kLogBanks[i]));
            writer.integer(kSecond).bytes(event.digests[i]);
        }
        writer.integer(kContentType).number(kPcclientStd).integer(kContent).map(2);
        writer.integer(kFirst).number(static_cast<std::uint64_t>(event.type));
        writer.integer(kSecond).bytes(event.data);
    });
    return CborWriter().array(records).item(writer.out()).out();
}

}  // namespace gatehouse::formats
