// What is measured, where, and in which order. The SLB and the hypervisor extend by this table; policyctl predicts
// and the verifier judges by it.
//
// PCRs 17, 18 and 19 start at zero by SKINIT (AMD64 APM vol. 2, 15.27.4); for each active bank:
//
//   PCR  what                 digest                                      extended by
//   17   secure loader block  H(SLB[0, length))                           CPU, TPM locality 4
//   17   hypervisor           H(hypervisor.bin, every byte)               SLB, locality 2
//   18   policy bundle        H(file)                                     hypervisor, locality 2
//   18   kernel               H(file)                                     hypervisor
//   18   initrd               H(file)                                     hypervisor
//   18   command line         H(file)                                     hypervisor
//   19   machine              H(encoded machine facts)                    hypervisor
//   19   ACPI table           H(table), in the guest's order              hypervisor, with acpi = machine only
//        -- the sealing policy is met here, and only here --
//   18   vault identity       H(vault id, 32 bytes)                       hypervisor, once the vault is open
//   17   cap                  H(kCapData)                                 hypervisor
//   18   cap                  H(kCapData)                                 hypervisor
//   19   cap                  H(kCapData)                                 hypervisor
//
// PCR 17 is code, PCR 18 payload and whose vault, PCR 19 the machine.
//
// In the event log each has type EV_EVENT_TAG (6) with a TCG_PCClientTaggedEvent (tag = MeasurementTag,
// data = the name as in the table, no terminator; of a table "ACPI ", its signature, a blank and its
// OEM table ID), the caps EV_SEPARATOR (4) with kCapData. Event data is for people: the digest is of
// the object, not of the event data (but for the cap). A verifier trusts digests and replay only.
// TCG PC Client Platform Firmware Profile 1.05, sections 10.2 and 10.4.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse::evidence {

inline constexpr std::uint32_t kLaunchPcr = 17;
inline constexpr std::uint32_t kPayloadPcr = 18;
inline constexpr std::uint32_t kMachinePcr = 19;
inline constexpr std::array kCappedPcrs{kLaunchPcr, kPayloadPcr, kMachinePcr};
inline constexpr std::array<std::byte, 4> kCapData{};

enum class MeasurementTag : std::uint32_t {
    kSlb = 0x47480001,
    kHypervisor = 0x47480002,
    kPolicy = 0x47480011,
    kKernel = 0x47480012,
    kInitrd = 0x47480013,
    kCommandLine = 0x47480014,
    kVaultIdentity = 0x47480015,
    kMachineFacts = 0x47480021,
    kAcpiTable = 0x47480022,
};

struct Measurement {
    std::uint32_t pcr;
    MeasurementTag tag;
    std::string_view name;
};

// What every boot measures before the unseal and the file alone tells, in this order.
inline constexpr std::array<Measurement, 6> kMeasurements{
    Measurement{kLaunchPcr, MeasurementTag::kSlb, "secure loader block"},
    Measurement{kLaunchPcr, MeasurementTag::kHypervisor, "hypervisor"},
    Measurement{kPayloadPcr, MeasurementTag::kPolicy, "policy bundle"},
    Measurement{kPayloadPcr, MeasurementTag::kKernel, "kernel"},
    Measurement{kPayloadPcr, MeasurementTag::kInitrd, "initrd"},
    Measurement{kPayloadPcr, MeasurementTag::kCommandLine, "command line"},
};
inline constexpr Measurement kVaultMeasurement{kPayloadPcr, MeasurementTag::kVaultIdentity, "vault identity"};
inline constexpr Measurement kMachineMeasurement{kMachinePcr, MeasurementTag::kMachineFacts, "machine"};

}  // namespace gatehouse::evidence
