// The PCR values of an appliance image, from its files alone: what a launch of them leaves in PCRs 17 and 18.
//
// Follows attestation/evidence/measurements.hpp. Banks: SHA-1, SHA-256, SHA-384 and SHA-512.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/evidence/event_log.hpp"
#include "keyvault/tool/support.hpp"
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
    Buffer srk_name;
    Buffer authority;  // TPMT_PUBLIC
    Buffer policy_ref;
    Sha256Digest digest{};  // SHA-256 of the whole bundle
    [[nodiscard]] bool has(BundleFlag flag) const { return (flags & static_cast<std::uint32_t>(flag)) != 0; }
};

struct Prediction {
    std::vector<ExpectedEvent> events;  // in the order of the launch, the caps last
    BundleFacts bundle;

    // Value of a PCR in a bank of kPredictedBanks: when the sealing policy is met, and after the cap, as
    // quotes have it.
    [[nodiscard]] Digest sealing_value(HashAlgorithm bank, std::uint32_t pcr) const;
    [[nodiscard]] Digest capped_value(HashAlgorithm bank, std::uint32_t pcr) const;
};

// Names of the measured files, in the order of kMeasurements: slb.bin, hypervisor.bin, policy.bundle, kernel,
// initrd, cmdline.
[[nodiscard]] const std::array<std::string, evidence::kMeasurements.size()>& measured_files();
inline constexpr const char* kBundleFile = "policy.bundle";
inline constexpr const char* kApprovalFile = "policy.approval";

// The part of the SLB that the CPU measures: [0, length), length being the 16-bit number at offset 2 (AMD64
// APM vol. 2, 15.27.1). ToolError if the file is shorter than that, or the length is less than the header.
[[nodiscard]] Bytes measured_part_of_slb(Bytes slb);

[[nodiscard]] BundleFacts read_bundle(Bytes bundle);

// `read_file(name)` gives the whole contents of one of measured_files().
[[nodiscard]] Prediction predict(const std::function<Buffer(const std::string& name)>& read_file);
// What the same image gives on another endpoint: its bundle differs by the SRK's Name that it pins (34
// bytes), and in nothing else. ToolError if the prediction's own bundle is not the one that its facts encode
// to.
[[nodiscard]] Prediction with_storage_root(const Prediction& prediction, Bytes srk_name);
// From the boot partition of a disk image or device.
[[nodiscard]] Prediction predict_image(const std::string& path);
// From a directory that holds the files.
[[nodiscard]] Prediction predict_directory(const std::string& path);

// {"events": [{"pcr", "name", "tag", "digests": {BANK: HEX}}...],
//  "pcrs": {BANK: {"17": HEX, "18": HEX}},         while the sealing policy is met
//  "pcrs_capped": {BANK: {"17": HEX, "18": HEX}},  afterwards: what guests and quotes see
//  "bundle": {"sha256", "flags", "counter_index", "srk_name", "authority", "policy_ref"}}, in hex where not
//  numbers
[[nodiscard]] nlohmann::json to_json(const Prediction& prediction);
// Of the above only "events" and "bundle" are read; the PCR values follow from them. ToolError if it is not
// of that form, does not end with the caps, or measures another bundle than it describes.
[[nodiscard]] Prediction from_json(const nlohmann::json& json);

}  // namespace gatehouse::policies
