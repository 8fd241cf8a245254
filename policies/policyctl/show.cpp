#include "policies/policyctl/show.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hypervisor/base/log.hpp"
#include "keyvault/tpm/types.hpp"
#include "policies/policyctl/predict.hpp"

namespace gatehouse::policies {
namespace {

using host::hex;
using nlohmann::json;

std::string index_text(std::uint32_t index) {
    LogLine line;
    line << Hex{index};
    return std::string(line.text());
}

json flag_names(const BundleFacts& bundle) {
    json names = json::array();
    if (bundle.has(BundleFlag::kAllowNoIommu)) names.push_back("allow-no-iommu");
    if (bundle.has(BundleFlag::kShowForeignDisks)) names.push_back("show-foreign-disks");
    return names;
}

json describe_bundle(Bytes content) {
    const BundleFacts bundle = read_bundle(content);
    return {{"kind", "bundle"},
            {"sha256", hex(bundle.digest)},
            {"flags", flag_names(bundle)},
            {"counter_index", index_text(bundle.counter_index)},
            {"srk_name", hex(bundle.srk_name)},
            {"authority_name", hex(tpm::name_of(bundle.authority))},
            {"policy_ref", policy_ref_text(bundle.policy_ref)}};
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
    return policy_ref_text(name);
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
        for (const std::uint32_t pcr : {evidence::kLaunchPcr, evidence::kPayloadPcr}) {
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

json describe_file(Bytes content) {
    if (starts_with(content, literal_bytes("GHPOLICY"))) return describe_bundle(content);
    if (starts_with(content, literal_bytes("GHAPPROV"))) return describe_approval(content);
    constexpr std::size_t kSignatureAt = 32;  // in an event log
    if (content.size() > kSignatureAt && starts_with(content.subspan(kSignatureAt), literal_bytes("Spec ID Event"))) {
        return describe_event_log(content);
    }
    throw host::ToolError("neither a policy bundle, nor an approval, nor an event log");
}

std::string as_text(const json& description) {
    std::string text;
    append_lines(text, description, "");
    return text;
}

std::string policy_ref_text(Bytes policy_ref) {
    const bool printable = std::ranges::all_of(policy_ref, [](std::byte byte) {
        return std::to_integer<unsigned>(byte) >= 0x20 && std::to_integer<unsigned>(byte) < 0x7f;
    });
    if (!printable) return "0x" + hex(policy_ref);
    return {reinterpret_cast<const char*>(policy_ref.data()), policy_ref.size()};
}

}  // namespace gatehouse::policies
