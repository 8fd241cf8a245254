// The measured launch: what this boot measures, on whose word it goes on, and what it states of itself.
//
// The SLB has measured the hypervisor into PCR 17. The rest is measured here: payload into PCR 18, machine into PCR 19,
// last the identity of the vault; then all three are capped. What is decided is decided by measured data alone, and
// what was measured, found and opened is in the claims that every quote of this boot vouches for.
//
// The TPM is ours, at locality 2.
#pragma once

#include "hypervisor/boot/disks.hpp"
#include "hypervisor/boot/policy.hpp"
#include "hypervisor/channel/quote_source.hpp"
#include "hypervisor/launch/hand_off.hpp"
#include "hypervisor/platform/machine_tables.hpp"
#include "hypervisor/platform/tpm_mmio.hpp"

namespace gatehouse::boot {

// Version of the hypervisor, the project's, as its claims state it: major << 16 | minor << 8 | patch.
inline constexpr std::uint32_t kVersion = GATEHOUSE_VERSION_NUMBER;

// Large: static. In this order, each step once.
class MeasuredLaunch {
  public:
    explicit MeasuredLaunch(MachineMemory& memory) : memory_(memory) {}

    // The SLB's word. Errors: those of parse_hand_off().
    [[nodiscard]] Status read_hand_off();
    // kMismatch: the banks that the SLB extended are not all of the active ones: one left alone could be replayed.
    [[nodiscard]] Status start_tpm();
    [[nodiscard]] Status measure_payload();
    // Errors: those of read_policy(); kRefused without a dynamic launch, or without an IOMMU if the bundle wants one.
    [[nodiscard]] Status check_policy();
    // From RDRAND and the TPM.
    [[nodiscard]] Status seed_random();
    // What the hardware itself says of the machine and, with acpi = machine, the tables that the guest will get.
    // kRefused: SMM is not locked. kNotFound: no approval of this machine.
    [[nodiscard]] Status measure_machine(const Devices& devices);
    // Opens the disks by the vault that is pinned, and measures which one that is. Errors: those of Disks::open().
    [[nodiscard]] Status open_vault(Disks& disks);
    // Whatever came of the steps before: nothing later in this boot meets the sealing policy again.
    [[nodiscard]] Status cap() { return measurer_.cap(); }
    // After all of it: from here on there are quotes.
    void state_claims(const Disks& disks);

    [[nodiscard]] const launch::HandOff& hand_off() const { return hand_off_; }
    [[nodiscard]] const Payload& payload() const { return payload_; }
    // Empty: the guest gets the hypervisor's own.
    [[nodiscard]] std::span<const platform::AcpiTable> machine_tables() const { return tables_.all(); }
    [[nodiscard]] channel::Source& quotes() { return quotes_; }
    // Forgets the random numbers to come.
    void wipe() { random_.clear(); }
    // Shuts the TPM down, for reset and power-off.
    void stop();

  private:
    [[nodiscard]] Status show_pcr(std::uint32_t pcr);
    [[nodiscard]] Status measure_tables(std::uint16_t pm1_control);

    MachineMemory& memory_;
    launch::HandOff hand_off_;
    evidence::EventLogWriter event_log_;  // in the hand-off block
    platform::TpmMmioBus tpm_bus_;
    platform::TpmTransport transport_{tpm_bus_};
    tpm::Tpm tpm_{transport_};
    Measurer measurer_{tpm_, event_log_};
    Random random_;
    Payload payload_;
    Policy policy_;
    platform::MachineTables tables_;
    evidence::Claims claims_;
    channel::QuoteSource quotes_{tpm_, random_, claims_, event_log_};
};

}  // namespace gatehouse::boot
