#include "hypervisor/boot/dma_proof.hpp"

#include <optional>

#include "ata/ahci/port.hpp"

namespace gatehouse::boot {

using namespace ata::ahci;
using enum PortRegister;

namespace {

std::optional<PortHardware> port_with_device(ata::Environment& controller) {
    controller.write(bits(Hba::kControl), bits(GlobalControl::kAhciEnable));
    const std::uint32_t implemented = controller.read(bits(Hba::kPortsImplemented));
    for (std::uint32_t port = 0; port < kPorts; ++port) {
        const PortHardware hardware{&controller, kPortBase + port * kPortStride};
        if ((implemented >> port & 1) == 0) continue;
        if ((hardware.read(kSataStatus) & kDetectionMask) == kDetectionUp) return hardware;
    }
    return std::nullopt;
}

}  // namespace

Result<bool> provoke_fis(ata::Environment& controller, HostPhysical area) {
    constexpr std::uint32_t kQuiet = 0x300;            // PxSCTL.IPM: no power saving states
    constexpr std::uint64_t kLinkLimit = 1'000;        // milliseconds
    constexpr std::uint64_t kSignatureLimit = 10'000;  // a disk may have to spin up
    const auto port = port_with_device(controller);
    if (!port) return false;
    const PortHardware& hardware = *port;
    GATEHOUSE_TRY(hardware.stop());
    hardware.write(kFis, static_cast<std::uint32_t>(area.value()));
    hardware.write(kFisUpper, static_cast<std::uint32_t>(area.value() >> 32));
    hardware.write(kSataControl, kQuiet | kDetectionReset);
    (void)wait_for(controller, 1, [] { return false; });
    hardware.write(kSataControl, kQuiet);
    (void)wait_for(controller, kLinkLimit,
                   [&] { return (hardware.read(kSataStatus) & kDetectionMask) == kDetectionUp; });
    hardware.write(kSataError, ~0u);
    hardware.write(kCommand, hardware.read(kCommand) | bits(PortCommand::kFisEnable));
    (void)wait_for(controller, kSignatureLimit, [&] {  // a controller whose write has failed may give up FIS reception
        return (hardware.read(kTaskFile) & bits(ata::TaskBit::kBusyOrData)) == 0 ||
               (hardware.read(kCommand) & bits(PortCommand::kFisEnable)) == 0;
    });
    GATEHOUSE_TRY(hardware.stop());
    return true;
}

}  // namespace gatehouse::boot
