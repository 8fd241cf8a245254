// The values of PCRs 17 and 18 that a launch of an appliance image gives, from its files alone.
//
// Follows attestation/evidence/measurements.hpp. Until the unseal the files tell everything; after it PCR 18 also holds
// which vault was opened. PCR 19, the machine, is in no image (machine_model.hpp). Banks: SHA-1, SHA-256, SHA-384 and
// SHA-512.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "keyvault/host_support/disk.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::policies {

using host::Buffer;

inline constexpr std::array kPredictedBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256, HashAlgorithm::kSha384,
                                            HashAlgorithm::kSha512};

// "sha256" for kSha256, as in tpm2-tools.
[[nodiscard]] std::string bank_name(HashAlgorithm bank);

// One event that the launch is expected to log.
struct ExpectedEvent {
    std::uint32_t pcr = 0;
    std::uint32_t tag = 0;  // MeasurementTag; 0 for a cap
    std::string name;
    std::array<Digest, kPredictedBanks.size()> digests{};  // in the order of kPredictedBanks
    [[nodiscard]] Bytes digest(HashAlgorithm bank) const;  // empty if not predicted
};

// A policy bundle's contents, owned.
struct BundleFacts {
    std::uint32_t flags = 0;
    std::uint32_t counter_index = 0;
    Buffer srk_name;  // these two: of the one endpoint that is pinned; both empty in a fleet's bundle
    Buffer vault_id;
    Buffer enrollment;  // a fleet's enrollment key, 0x04 || X || Y; else empty
    Buffer authority;   // TPMT_PUBLIC
    Buffer policy_ref;
    Sha256Digest digest{};  // SHA-256 of the whole bundle
    [[nodiscard]] bool has(BundleFlag flag) const { return (flags & static_cast<std::uint32_t>(flag)) != 0; }
    [[nodiscard]] bool is_fleet() const { return !enrollment.empty(); }
};

// The policy.bundle that these are of. Errors: those of check(Bundle).
[[nodiscard]] Buffer bundle_file(const BundleFacts& facts);

struct Prediction {
    std::vector<ExpectedEvent> events;  // those of kMeasurements: what is measured before the unseal, in this order
    BundleFacts bundle;

    // Value of PCR 17 or 18 in a bank of kPredictedBanks when the sealing policy is met.
    [[nodiscard]] Digest sealing_value(HashAlgorithm bank, std::uint32_t pcr) const;
    // The same after the cap, as guests and quotes have it, in a boot that opened the vault of this id (32 bytes; empty:
    // none was opened).
    [[nodiscard]] Digest capped_value(HashAlgorithm bank, std::uint32_t pcr, Bytes vault_id) const;
    // All that such a boot logs of PCRs 17 and 18: `events`, the vault's identity, the caps.
    [[nodiscard]] std::vector<ExpectedEvent> launch_events(Bytes vault_id) const;
};

// Names of the measured files, in the order of kMeasurements: slb.bin, hypervisor.bin, policy.bundle, kernel,
// initrd, cmdline.
[[nodiscard]] const std::array<std::string, evidence::kMeasurements.size()>& measured_files();
inline constexpr const char* kBundleFile = "policy.bundle";
// Boot files that are not measured: what they say is signed.
inline constexpr const char* kApprovalFile = "policy.approval";
inline constexpr const char* kMachineApprovalFile = "machine.approval";
inline constexpr const char* kRecordFile = "endpoint.record";

// The part of the SLB that the CPU measures: [0, length), length being the 16-bit number at offset 2 (AMD64
// APM vol. 2, 15.27.1). ToolError if the file is shorter than that, or the length is less than the header.
[[nodiscard]] Bytes measured_part_of_slb(Bytes slb);

[[nodiscard]] BundleFacts read_bundle(Bytes bytes);

// `read_file(name)` gives the whole contents of one of measured_files().
[[nodiscard]] Prediction predict(const std::function<Buffer(const std::string& name)>& read_file);
// What the same image gives on another endpoint: a bundle that pins one endpoint differs by the SRK's Name (34 bytes) and
// the vault id (32 bytes) that it pins, and in nothing else; a fleet's does not differ. ToolError if the prediction's own
// bundle is not the one that its facts encode to.
[[nodiscard]] Prediction with_endpoint(const Prediction& prediction, Bytes srk_name, Bytes vault_id);
// From the boot partition of a disk image or device.
[[nodiscard]] Prediction predict_boot_partition(const host::Disk& disk, const volume::GptEntry& boot);
[[nodiscard]] Prediction predict_image(const std::string& path);
// From a directory that holds the files.
[[nodiscard]] Prediction predict_directory(const std::string& path);

// {"events": [{"pcr", "name", "tag", "digests": {BANK: HEX}}...],
//  "pcrs": {BANK: {"17": HEX, "18": HEX}},         while the sealing policy is met
//  "pcrs_capped": {BANK: {"17": HEX, "18": HEX}},  afterwards: what guests and quotes see; if the vault is known
//  "vault_id": HEX,                                likewise: as given, or as the bundle pins it
//  "bundle": {"sha256", "flags", "acpi": "minimal" | "machine", "counter_index", "srk_name", "vault_id", "enrollment",
//             "authority", "policy_ref"}}          in hex where not numbers or words; empty what it does not have
// ToolError (usage) if `vault_id` is given, and is not 32 bytes or not the one that the bundle pins.
[[nodiscard]] nlohmann::json to_json(const Prediction& prediction, Bytes vault_id = {});
// Of the above only "events" and "bundle" are read; the PCR values follow from them. ToolError if it is not of that form,
// its events are not those of kMeasurements, or it measures another bundle than it describes.
[[nodiscard]] Prediction from_json(const nlohmann::json& from);

}  // namespace gatehouse::policies
