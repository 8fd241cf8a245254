#include "policies/prediction/show.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "hypervisor/base/log.hpp"
#include "keyvault/tpm/types.hpp"
#include "policies/prediction/machine_model.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::policies {
namespace {

using host::hex;
using nlohmann::json;

std::string index_text(std::uint32_t index) {
    LogLine line;
    line << Hex{index};
    return std::string(line.text());
}

json describe_bundle(Bytes content) {
    const BundleFacts bundle = read_bundle(content);
    json result{{"kind", "bundle"},
                {"sha256", hex(bundle.digest)},
                {"endpoints", bundle.is_fleet() ? "a fleet, by records" : "one, pinned"},
                {"acpi", bundle.has(BundleFlag::kMachineAcpi) ? "machine" : "minimal"},
                {"allow_no_iommu", bundle.has(BundleFlag::kAllowNoIommu)},
                {"trim", bundle.has(BundleFlag::kTrim)},
                {"change_in_use", bundle.has(BundleFlag::kChangeInUse)},
                {"other_disks", bundle.has(BundleFlag::kShowDisks) ? "read-only" : "absent"},
                {"counter_index", index_text(bundle.counter_index)},
                {"authority_name", hex(tpm::name_of(bundle.authority))},
                {"policy_ref", printable_text(bundle.policy_ref)}};
    if (bundle.is_fleet()) {
        result["enrollment"] = hex(bundle.enrollment);
    } else {
        result["srk_name"] = hex(bundle.srk_name);
        result["vault_id"] = hex(bundle.vault_id);
    }
    return result;
}

json describe_approval(Bytes content) {
    const Approval approval = host::expect(parse_approval(content), kApprovalFile);
    return {{"kind", "approval"},
            {"counter_limit", approval.counter_limit},
            {"pcr17", hex(approval.pcr17)},
            {"pcr18", hex(approval.pcr18)},
            {"policy_digest", hex(approval.policy_digest)},
            {"signature", hex(approval.signature)}};
}

json describe_machine_approval(Bytes content) {
    const MachineApproval approval = host::expect(parse_machine_approval(content), kMachineApprovalFile);
    return {{"kind", "machine approval"},
            {"pcr19", hex(approval.pcr19)},
            {"policy_digest", hex(approval.policy_digest)},
            {"signature", hex(approval.signature)}};
}

json describe_record(Bytes content, Bytes enrollment) {
    const Record record = host::expect(parse_record(content, enrollment), kRecordFile);
    return {{"kind", "endpoint record"},
            {"srk_name", hex(record.srk_name)},
            {"vault_id", hex(record.vault_id)},
            {"label", printable_text(record.label)},
            {"signed_by", hex(enrollment)}};
}

std::string type_name(evidence::EventType type) {
    switch (type) {
        case evidence::EventType::kNoAction: return "EV_NO_ACTION";
        case evidence::EventType::kSeparator: return "EV_SEPARATOR";
        case evidence::EventType::kEventTag: return "EV_EVENT_TAG";
    }
    return index_text(static_cast<std::uint32_t>(type));
}

// The name in a tagged event, if it is one and printable.
std::string name_of_event(const evidence::Event& event) {
    if (event.type == evidence::EventType::kSeparator) return "cap";
    Reader reader(event.data);
    reader.skip(4);
    const Bytes name = reader.bytes(reader.u32());
    if (event.type != evidence::EventType::kEventTag || reader.failed()) return "";
    return printable_text(name);
}

json describe_event_log(Bytes content) {
    evidence::EventLogReader reader = host::expect(evidence::EventLogReader::open(content), "event log");
    const auto banks = reader.banks().all();
    json events = json::array();
    while (!reader.at_end()) {
        const evidence::Event event = host::expect(reader.next(), "event log");
        json digests;
        for (std::size_t i = 0; i < banks.size(); ++i) digests[bank_name(banks[i])] = hex(event.digests[i]);
        events.push_back({{"number", event.number},
                          {"offset", event.offset},
                          {"pcr", event.pcr},
                          {"type", type_name(event.type)},
                          {"name", name_of_event(event)},
                          {"digests", digests}});
    }
    json pcrs;
    for (const HashAlgorithm bank : banks) {
        if (!can_hash(bank)) continue;
        for (const std::uint32_t pcr : evidence::kCappedPcrs) {
            pcrs[bank_name(bank)][std::to_string(pcr)] =
                hex(host::expect(evidence::replay(content, bank, pcr), "event log").bytes());
        }
    }
    return {{"kind", "event log"}, {"events", events}, {"pcrs", pcrs}};
}

bool starts_with(Bytes content, Bytes magic) {
    return content.size() >= magic.size() && equal_bytes(content.first(magic.size()), magic);
}

void append_lines(std::string& text, const json& value, const std::string& indent) {
    std::size_t width = 0;
    for (const auto& item : value.items()) width = std::max(width, item.key().size());
    for (const auto& item : value.items()) {
        const json& content = item.value();
        std::string key = indent + item.key();
        if (content.is_object()) {
            text += key + "\n";
            append_lines(text, content, indent + "  ");
            continue;
        }
        key.append(width - item.key().size() + 2, ' ');
        if (content.is_array() && !content.empty() && content.front().is_object()) {
            for (const json& element : content) {
                text += indent + item.key() + "\n";
                append_lines(text, element, indent + "  ");
            }
            continue;
        }
        text += key + (content.is_string() ? content.get<std::string>() : content.dump()) + "\n";
    }
}

}  // namespace

bool is_event_log(Bytes content) {
    constexpr std::size_t kSignatureAt = 32;
    return content.size() > kSignatureAt && starts_with(content.subspan(kSignatureAt), literal_bytes("Spec ID Event"));
}

json describe_file(Bytes content, Bytes enrollment) {
    if (starts_with(content, literal_bytes("GHPOLICY"))) return describe_bundle(content);
    if (starts_with(content, literal_bytes("GHAPPROV"))) return describe_approval(content);
    if (starts_with(content, literal_bytes("GHMACHIN"))) return describe_machine_approval(content);
    if (starts_with(content, literal_bytes("GHRECORD"))) {
        if (enrollment.empty()) {
            throw host::ToolError("an endpoint record: give --enrollment, the key that signed it",
                                  host::ExitCode::kUsage);
        }
        return describe_record(content, enrollment);
    }
    if (is_event_log(content)) return describe_event_log(content);
    if (starts_with(content, literal_bytes("{"))) return describe(read_model(content));
    throw host::ToolError("neither a policy bundle, an approval, an endpoint record, an event log nor a machine model");
}

std::string as_text(const json& description) {
    std::string text;
    append_lines(text, description, "");
    return text;
}

std::string printable_text(Bytes text) {
    const bool printable = std::ranges::all_of(text, [](std::byte byte) {
        return std::to_integer<unsigned>(byte) >= 0x20 && std::to_integer<unsigned>(byte) < 0x7f;
    });
    if (!printable) return "0x" + hex(text);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
}

}  // namespace gatehouse::policies
