// Resets PCI functions, so that whatever DMA they were told to do before the launch is forgotten.
//
// Bus mastering off does not do that: an armed ring goes on when a driver sets it again. A
// function counts as reset only if its command register has been seen to fall back to zero (PCI
// 3.0, 6.2.2), whatever its capabilities promise. Tried in this order, all functions at once:
//   - function level reset, of the PCI Express or the Advanced Features capability (PCIe 6.0, 6.6.2, 100 ms);
//   - D3hot and back, where No_Soft_Reset is clear (PCI Power Management 1.2, 5.4.1, 10 ms each way);
//   - secondary bus reset of the bridge, if all functions behind it may be reset (PCIe 6.0, 6.6.1, 100 ms).
// Display controllers take the first way only: the others cost the picture and are seldom what firmware expects.
//
// Never reset: bridges and IOMMUs, which are not listed, and functions behind a bridge to conventional PCI, which send
// under the bridge's number and so under each other's.
#pragma once

#include <array>
#include <span>

#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {

class FunctionResets {
  public:
    static constexpr std::size_t kMaxFunctions = 256;
    struct Function {
        FunctionId id = 0;
        bool eligible = false;
        bool display = false;
        bool marked = false;  // its command register holds what is written
        bool reset = false;
        std::uint16_t device_control = 0;
        std::array<std::uint32_t, 16> header{};
    };

    // False: there are too many.
    [[nodiscard]] bool add(FunctionId function);
    // Resets what can be, with wait(milliseconds) in between, and puts back what the firmware has configured: BARs,
    // interrupt line, payload size, and the command register but for bus mastering, which stays off.
    void run(void (*wait)(unsigned milliseconds));
    [[nodiscard]] std::span<const Function> all() const { return std::span(functions_).first(count_); }

  private:
    enum class Method : std::uint8_t { kFunctionLevel, kPower, kBus };
    // Begins the reset, or ends it: back to power, the bus out of its reset.
    void apply(const Function& function, Method method, bool begin);
    [[nodiscard]] bool may_reset_bus(FunctionId function) const;

    std::array<Function, kMaxFunctions> functions_{};
    std::size_t count_ = 0;
};

}  // namespace gatehouse::platform
