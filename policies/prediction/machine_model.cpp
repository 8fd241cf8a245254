#include "policies/prediction/machine_model.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "policies/prediction/show.hpp"

namespace gatehouse::policies {
namespace {

using evidence::MachineFacts;
using evidence::MeasurementTag;
using host::hex;
using host::ToolError;
using nlohmann::json;

constexpr auto kFactsTag = static_cast<std::uint32_t>(MeasurementTag::kMachineFacts);
constexpr auto kTableTag = static_cast<std::uint32_t>(MeasurementTag::kAcpiTable);
constexpr std::string_view kTablePrefix = "ACPI ";
constexpr std::size_t kSignatureSize = 4;

std::string hex_number(std::uint64_t value, int digits) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "0x%0*llx", digits, static_cast<unsigned long long>(value));
    return text.data();
}

std::string function_text(std::uint16_t function) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), "%02x:%02x.%x", function >> 8, (function >> 3) & 0x1f, function & 7);
    return text.data();
}

// Each event is of the kind that its place demands, and the facts are those that were measured.
void check(const MachineModel& model) {
    if (model.events.empty()) throw ToolError("machine model: nothing is measured into PCR 19");
    for (std::size_t i = 0; i < model.events.size(); ++i) {
        const ModelEvent& event = model.events[i];
        if (event.tag != (i == 0 ? kFactsTag : kTableTag)) {
            throw ToolError("machine model: event " + std::to_string(i + 1) +
                            " of PCR 19: " + (i == 0 ? "not the machine's facts" : "not an ACPI table"));
        }
        if (event.digest(HashAlgorithm::kSha256).empty()) {
            throw ToolError("machine model: event " + std::to_string(i + 1) + " of PCR 19: no SHA-256 digest");
        }
    }
    if (model.facts.empty()) return;
    (void)host::expect(evidence::decode_machine_facts(model.facts), "machine model");
    if (!equal_bytes(sha256(model.facts), model.events.front().digest(HashAlgorithm::kSha256))) {
        throw ToolError("machine model: its facts are not those that were measured");
    }
}

ModelEvent event_of(const evidence::Event& event, std::span<const HashAlgorithm> banks) {
    Reader data(event.data);
    ModelEvent result{.tag = data.u32(), .name = printable_text(data.bytes(data.u32())), .digests = {}};
    if (event.type != evidence::EventType::kEventTag || !data.finished("tagged event").ok()) {
        throw ToolError("event log: event " + std::to_string(event.number) + " of PCR 19 is no measurement");
    }
    for (std::size_t i = 0; i < banks.size(); ++i) {
        Digest digest{.algorithm = banks[i]};
        copy_bytes(digest.storage, event.digests[i]);
        result.digests.push_back(digest);
    }
    return result;
}

json facts_json(Bytes encoded) {
    if (encoded.empty()) return nullptr;
    const MachineFacts facts = host::expect(evidence::decode_machine_facts(encoded), "machine model");
    json iommus = json::array();
    for (const evidence::IommuFact& iommu : facts.all_iommus()) {
        iommus.push_back({{"function", function_text(iommu.function)}, {"registers", hex_number(iommu.registers, 8)}});
    }
    return {{"processor_signature", hex_number(facts.processor_signature, 8)},
            {"microcode", hex_number(facts.microcode, 8)},
            {"smm_locked", facts.smm_locked},
            {"processors", facts.processors},
            {"iommus", iommus}};
}

json table_json(const ModelEvent& event) {
    const bool named = event.name.starts_with(kTablePrefix) && event.name.size() > kTablePrefix.size() + kSignatureSize;
    return {{"signature", named ? event.name.substr(kTablePrefix.size(), kSignatureSize) : event.name},
            {"oem_table_id", named ? event.name.substr(kTablePrefix.size() + kSignatureSize + 1) : ""},
            {"sha256", hex(event.digest(HashAlgorithm::kSha256))}};
}

// The tables by name; of several with one name the second is "... #2".
using Tables = std::map<std::string, Buffer>;
Tables tables_of(const MachineModel& model) {
    Tables tables;
    for (std::size_t i = 1; i < model.events.size(); ++i) {
        const std::string& name = model.events[i].name;
        std::string key = name;
        for (int number = 2; tables.contains(key); ++number) key = name + " #" + std::to_string(number);
        const Bytes digest = model.events[i].digest(HashAlgorithm::kSha256);
        tables.emplace(key, Buffer(digest.begin(), digest.end()));
    }
    return tables;
}

void compare_facts(const MachineModel& one, const MachineModel& other, std::vector<std::string>& found) {
    if (equal_bytes(one.events.front().digest(HashAlgorithm::kSha256),
                    other.events.front().digest(HashAlgorithm::kSha256)))
        return;
    const json left = facts_json(one.facts);
    const json right = facts_json(other.facts);
    if (left.is_null() || right.is_null()) {
        found.emplace_back("machine: other facts (which, the evidence's claims would tell)");
        return;
    }
    for (const auto& item : left.items()) {
        if (item.value() == right[item.key()]) continue;
        found.push_back(item.key() + ": " + item.value().dump() + " here, " + right[item.key()].dump() + " there");
    }
}

void compare_tables(const MachineModel& one, const MachineModel& other, std::vector<std::string>& found) {
    const Tables left = tables_of(one);
    const Tables right = tables_of(other);
    for (const auto& [name, digest] : left) {
        const auto match = right.find(name);
        if (match == right.end()) {
            found.push_back(name + ": only here");
        } else if (match->second != digest) {
            found.push_back(name + ": " + hex(digest) + " here, " + hex(match->second) + " there");
        }
    }
    for (const auto& [name, digest] : right) {
        if (!left.contains(name)) found.push_back(name + ": only there");
    }
}

}  // namespace

Bytes ModelEvent::digest(HashAlgorithm bank) const {
    const auto found = std::ranges::find(digests, bank, &Digest::algorithm);
    return found == digests.end() ? Bytes{} : found->bytes();
}

Digest MachineModel::pcr19(HashAlgorithm bank) const {
    Digest value{.algorithm = bank};
    for (const ModelEvent& event : events) {
        const Bytes digest = event.digest(bank);
        if (digest.empty()) throw ToolError("machine model: " + event.name + " has no " + bank_name(bank) + " digest");
        value = evidence::extended(bank, value.bytes(), digest);
    }
    return value;
}

MachineModel learn_model(Bytes event_log, Bytes claims) {
    evidence::EventLogReader reader = host::expect(evidence::EventLogReader::open(event_log), "event log");
    MachineModel model;
    while (!reader.at_end()) {
        const evidence::Event event = host::expect(reader.next(), "event log");
        if (event.pcr != evidence::kMachinePcr) continue;
        if (event.type == evidence::EventType::kSeparator) break;
        model.events.push_back(event_of(event, reader.banks().all()));
    }
    if (!claims.empty()) {
        const evidence::Claims claimed = host::expect(evidence::decode_claims(claims), "claims");
        model.facts.resize(evidence::kMaxMachineFactsSize);
        model.facts.resize(host::expect(evidence::encode_machine_facts(claimed.machine, model.facts), "claims"));
    }
    check(model);
    return model;
}

MachineModel read_model(Bytes file) try {
    const json from = json::parse(reinterpret_cast<const char*>(file.data()),
                                  reinterpret_cast<const char*>(file.data()) + file.size());
    if (from.at("gatehouse_machine_model") != 1) throw ToolError("machine model: of another version");
    MachineModel model{.facts = host::from_hex(from.at("facts").get<std::string>(), "facts"), .events = {}};
    for (const json& item : from.at("events")) {
        ModelEvent event{.tag = item.at("tag"), .name = item.at("name"), .digests = {}};
        for (const HashAlgorithm bank : kPredictedBanks) {
            if (!item.at("digests").contains(bank_name(bank))) continue;
            const Buffer bytes = host::from_hex(item.at("digests").at(bank_name(bank)).get<std::string>(), "digest");
            if (bytes.size() != digest_size(bank)) throw ToolError("machine model: a digest has a wrong size");
            Digest digest{.algorithm = bank};
            copy_bytes(digest.storage, bytes);
            event.digests.push_back(digest);
        }
        model.events.push_back(std::move(event));
    }
    check(model);
    return model;
} catch (const json::exception& error) {
    throw ToolError(std::string("not a machine model as policyctl machine learn writes it: ") + error.what());
}

std::string model_file(const MachineModel& model) {
    json events = json::array();
    for (const ModelEvent& event : model.events) {
        json digests;
        for (const Digest& digest : event.digests) {
            if (can_hash(digest.algorithm)) digests[bank_name(digest.algorithm)] = hex(digest.bytes());
        }
        events.push_back({{"tag", event.tag}, {"name", event.name}, {"digests", digests}});
    }
    return json{{"gatehouse_machine_model", 1}, {"facts", hex(model.facts)}, {"events", events}}.dump(2) + "\n";
}

json describe(const MachineModel& model) {
    json pcr;
    for (const Digest& digest : model.events.front().digests) {
        if (can_hash(digest.algorithm)) pcr[bank_name(digest.algorithm)] = hex(model.pcr19(digest.algorithm).bytes());
    }
    json tables = json::array();
    for (std::size_t i = 1; i < model.events.size(); ++i) tables.push_back(table_json(model.events[i]));
    return {{"kind", "machine model"},
            {"pcr19", pcr},
            {"machine", facts_json(model.facts)},
            {"machine_digest", hex(model.events.front().digest(HashAlgorithm::kSha256))},
            {"tables", tables}};
}

std::vector<std::string> differences(const MachineModel& one, const MachineModel& other) {
    std::vector<std::string> found;
    if (equal_bytes(one.pcr19(HashAlgorithm::kSha256).bytes(), other.pcr19(HashAlgorithm::kSha256).bytes()))
        return found;
    compare_facts(one, other, found);
    compare_tables(one, other, found);
    if (found.empty()) found.emplace_back("ACPI tables: the same in another order");
    return found;
}

}  // namespace gatehouse::policies
