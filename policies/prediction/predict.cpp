#include "policies/prediction/predict.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::policies {
namespace {

using host::ToolError;
using nlohmann::json;

constexpr std::size_t kMaxMeasuredFile = std::size_t{2} << 30;
constexpr std::size_t kSlbHeaderSize = 4;
constexpr std::array kPredictedPcrs{evidence::kLaunchPcr, evidence::kPayloadPcr};
constexpr auto kBundleTag = static_cast<std::uint32_t>(evidence::MeasurementTag::kPolicy);

ExpectedEvent event_of(const evidence::Measurement& measurement, Bytes object) {
    ExpectedEvent event{.pcr = measurement.pcr,
                        .tag = static_cast<std::uint32_t>(measurement.tag),
                        .name = std::string(measurement.name)};
    for (std::size_t i = 0; i < kPredictedBanks.size(); ++i) event.digests[i] = hash(kPredictedBanks[i], object);
    return event;
}

Digest replay(const std::vector<ExpectedEvent>& events, HashAlgorithm bank, std::uint32_t pcr) {
    Digest value{.algorithm = bank};
    for (const ExpectedEvent& event : events) {
        if (event.pcr == pcr) value = evidence::extended(bank, value.bytes(), event.digest(bank));
    }
    return value;
}

Digest digest_of_hex(HashAlgorithm bank, const std::string& text) {
    const Buffer bytes = host::from_hex(text, "digest");
    Digest digest{.algorithm = bank};
    if (bytes.size() != digest_size(bank)) throw ToolError("digest of " + bank_name(bank) + " has a wrong size");
    copy_bytes(digest.storage, bytes);
    return digest;
}

// What a launch measures, with the bundle that is described.
void check(const Prediction& prediction) {
    const bool whole = std::ranges::equal(
        prediction.events, evidence::kMeasurements, [](const ExpectedEvent& event, const evidence::Measurement& row) {
            return event.pcr == row.pcr && event.tag == static_cast<std::uint32_t>(row.tag);
        });
    if (!whole) throw ToolError("reference values: the events are not those of a launch until the unseal");
    const auto bundle = std::ranges::find(prediction.events, kBundleTag, &ExpectedEvent::tag);
    if (!equal_bytes(bundle->digest(HashAlgorithm::kSha256), prediction.bundle.digest) ||
        sha256(bundle_file(prediction.bundle)) != prediction.bundle.digest)
        throw ToolError("reference values: the measured bundle is not the one described");
}

json values_json(const std::vector<ExpectedEvent>& events) {
    json values;
    for (const HashAlgorithm bank : kPredictedBanks) {
        for (const std::uint32_t pcr : kPredictedPcrs) {
            values[bank_name(bank)][std::to_string(pcr)] = host::hex(replay(events, bank, pcr).bytes());
        }
    }
    return values;
}

// The vault that a boot of the image opens, as given or as pinned; empty if neither is.
Bytes known_vault(const BundleFacts& bundle, Bytes given) {
    if (given.empty()) return bundle.vault_id;
    if (given.size() != kSha256Size) throw ToolError("vault id: 64 hex digits are wanted", host::ExitCode::kUsage);
    if (!bundle.vault_id.empty() && !equal_bytes(given, bundle.vault_id)) {
        throw ToolError("vault id: the image's bundle pins another one, " + host::hex(bundle.vault_id),
                        host::ExitCode::kUsage);
    }
    return given;
}

}  // namespace

Buffer bundle_file(const BundleFacts& facts) {
    Buffer bytes(kMaxBundleSize);
    bytes.resize(host::expect(write_bundle({.flags = facts.flags,
                                            .counter_index = facts.counter_index,
                                            .srk_name = facts.srk_name,
                                            .vault_id = facts.vault_id,
                                            .enrollment = facts.enrollment,
                                            .authority = facts.authority,
                                            .policy_ref = facts.policy_ref},
                                           bytes),
                              kBundleFile));
    return bytes;
}

std::string bank_name(HashAlgorithm bank) {
    switch (bank) {
        case HashAlgorithm::kSha1: return "sha1";
        case HashAlgorithm::kSha256: return "sha256";
        case HashAlgorithm::kSha384: return "sha384";
        case HashAlgorithm::kSha512: return "sha512";
        case HashAlgorithm::kSm3_256: return "sm3_256";
    }
    return "0x" + std::to_string(static_cast<unsigned>(bank));
}

Bytes ExpectedEvent::digest(HashAlgorithm bank) const {
    for (const Digest& one : digests) {
        if (one.algorithm == bank) return one.bytes();
    }
    return {};
}

Digest Prediction::sealing_value(HashAlgorithm bank, std::uint32_t pcr) const { return replay(events, bank, pcr); }
Digest Prediction::capped_value(HashAlgorithm bank, std::uint32_t pcr, Bytes vault_id) const {
    return replay(launch_events(vault_id), bank, pcr);
}

std::vector<ExpectedEvent> Prediction::launch_events(Bytes vault_id) const {
    std::vector<ExpectedEvent> all = events;
    if (!vault_id.empty()) all.push_back(event_of(evidence::kVaultMeasurement, vault_id));
    for (const std::uint32_t pcr : kPredictedPcrs) all.push_back(event_of({pcr, {}, "cap"}, evidence::kCapData));
    return all;
}

const std::array<std::string, evidence::kMeasurements.size()>& measured_files() {
    static const std::array<std::string, evidence::kMeasurements.size()> kFiles{
        "slb.bin", "hypervisor.bin", kBundleFile, "kernel", "initrd", "cmdline"};
    return kFiles;
}

Bytes measured_part_of_slb(Bytes slb) {
    Reader reader(slb);
    reader.skip(2);  // entry point
    const std::uint16_t length = reader.u16();
    if (reader.failed()) throw ToolError("slb.bin: shorter than its header");
    if (length < kSlbHeaderSize || length > slb.size()) {
        throw ToolError("slb.bin: its header says " + std::to_string(length) + " bytes, the file has " +
                        std::to_string(slb.size()));
    }
    return slb.first(length);
}

BundleFacts read_bundle(Bytes bytes) {
    const Bundle bundle = host::expect(parse_bundle(bytes), kBundleFile);
    const auto owned = [](Bytes view) { return Buffer(view.begin(), view.end()); };
    return {.flags = bundle.flags,
            .counter_index = bundle.counter_index,
            .srk_name = owned(bundle.srk_name),
            .vault_id = owned(bundle.vault_id),
            .enrollment = owned(bundle.enrollment),
            .authority = owned(bundle.authority),
            .policy_ref = owned(bundle.policy_ref),
            .digest = sha256(bytes)};
}

Prediction predict(const std::function<Buffer(const std::string& name)>& read_file) {
    Prediction prediction;
    for (std::size_t i = 0; i < evidence::kMeasurements.size(); ++i) {
        const evidence::Measurement& measurement = evidence::kMeasurements[i];
        const Buffer content = read_file(measured_files()[i]);
        Bytes object = content;
        if (measurement.tag == evidence::MeasurementTag::kSlb) object = measured_part_of_slb(content);
        if (measurement.tag == evidence::MeasurementTag::kPolicy) prediction.bundle = read_bundle(content);
        prediction.events.push_back(event_of(measurement, object));
    }
    return prediction;
}

Prediction with_endpoint(const Prediction& prediction, Bytes srk_name, Bytes vault_id) {
    check(prediction);
    Prediction other = prediction;
    if (prediction.bundle.is_fleet()) return other;
    other.bundle.srk_name.assign(srk_name.begin(), srk_name.end());
    other.bundle.vault_id.assign(vault_id.begin(), vault_id.end());
    const Buffer bundle = bundle_file(other.bundle);
    other.bundle.digest = sha256(bundle);
    for (std::size_t i = 0; i < other.events.size(); ++i) {
        if (other.events[i].tag == kBundleTag) other.events[i] = event_of(evidence::kMeasurements[i], bundle);
    }
    return other;
}

Prediction predict_boot_partition(const host::Disk& disk, const volume::GptEntry& boot) {
    return predict([&](const std::string& name) { return read_boot_file(disk, boot, name, kMaxMeasuredFile); });
}

Prediction predict_image(const std::string& path) {
    const host::Disk disk(path, host::Disk::Access::kRead);
    return predict_boot_partition(disk, host::read_primary_table(disk).boot_partition());
}

Prediction predict_directory(const std::string& path) {
    return predict([&](const std::string& name) { return host::read_file(path + "/" + name, kMaxMeasuredFile); });
}

json to_json(const Prediction& prediction, Bytes vault_id) {
    json events = json::array();
    for (const ExpectedEvent& event : prediction.events) {
        json digests;
        for (const Digest& digest : event.digests) digests[bank_name(digest.algorithm)] = host::hex(digest.bytes());
        events.push_back({{"pcr", event.pcr}, {"tag", event.tag}, {"name", event.name}, {"digests", digests}});
    }
    const BundleFacts& bundle = prediction.bundle;
    json result{{"events", events},
                {"pcrs", values_json(prediction.events)},
                {"bundle",
                 {{"sha256", host::hex(bundle.digest)},
                  {"flags", bundle.flags},
                  {"acpi", bundle.has(BundleFlag::kMachineAcpi) ? "machine" : "minimal"},
                  {"counter_index", bundle.counter_index},
                  {"srk_name", host::hex(bundle.srk_name)},
                  {"vault_id", host::hex(bundle.vault_id)},
                  {"enrollment", host::hex(bundle.enrollment)},
                  {"authority", host::hex(bundle.authority)},
                  {"policy_ref", host::hex(bundle.policy_ref)}}}};
    if (const Bytes vault = known_vault(bundle, vault_id); !vault.empty()) {
        result["vault_id"] = host::hex(vault);
        result["pcrs_capped"] = values_json(prediction.launch_events(vault));
    }
    return result;
}

Prediction from_json(const json& from) try {
    Prediction prediction;
    for (const json& item : from.at("events")) {
        ExpectedEvent event{.pcr = item.at("pcr"), .tag = item.at("tag"), .name = item.at("name")};
        for (std::size_t i = 0; i < kPredictedBanks.size(); ++i) {
            event.digests[i] = digest_of_hex(kPredictedBanks[i], item.at("digests").at(bank_name(kPredictedBanks[i])));
        }
        prediction.events.push_back(std::move(event));
    }
    const json& bundle = from.at("bundle");
    const auto bytes = [&](const char* name) { return host::from_hex(bundle.at(name).get<std::string>(), name); };
    prediction.bundle = {.flags = bundle.at("flags"),
                         .counter_index = bundle.at("counter_index"),
                         .srk_name = bytes("srk_name"),
                         .vault_id = bytes("vault_id"),
                         .enrollment = bytes("enrollment"),
                         .authority = bytes("authority"),
                         .policy_ref = bytes("policy_ref")};
    const Buffer digest = bytes("sha256");
    if (digest.size() != kSha256Size) throw ToolError("reference values: sha256 of the bundle has a wrong size");
    copy_bytes(prediction.bundle.digest, digest);
    check(prediction);
    return prediction;
} catch (const json::exception& error) {
    throw ToolError(std::string("reference values: not what policyctl predict --json prints: ") + error.what());
}

}  // namespace gatehouse::policies
