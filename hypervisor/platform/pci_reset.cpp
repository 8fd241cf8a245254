#include "hypervisor/platform/pci_reset.hpp"

#include <algorithm>

namespace gatehouse::platform {
namespace {

enum Offset : std::uint16_t {
    kCommand = 0x04,        // bits 0 and 1: decoding, 2: bus master, 10: interrupt disable
    kBridgeControl = 0x3e,  // bit 6: secondary bus reset
};
constexpr std::uint32_t kDecoding = 3;
constexpr std::uint32_t kInterruptDisable = 1u << 10;
constexpr std::uint32_t kBusReset = 1u << 6;
// Dwords of a device's header that a reset loses: cache line size, BARs, ROM, interrupt line.
constexpr std::uint16_t kSaved[] = {0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30, 0x3c};

constexpr std::uint8_t kPowerManagement = 0x01;
constexpr std::uint8_t kExpress = 0x10;
constexpr std::uint8_t kAdvancedFeatures = 0x13;
constexpr std::uint32_t kStartFlr = 1u << 15;  // device control
constexpr std::uint32_t kD3hot = 3;
constexpr std::uint32_t kNoSoftReset = 1u << 3;

// Say that they have FLR, and hang (Linux, drivers/pci/quirks.c, quirk_no_flr): device << 16 | vendor.
constexpr std::uint32_t kBrokenFlr[] = {0x14871022, 0x148c1022, 0x149c1022, 0x79011022, 0x15028086, 0x15038086};

std::uint16_t at(std::uint8_t capability, unsigned offset) { return static_cast<std::uint16_t>(capability + offset); }

void set_bits(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t clear, std::uint32_t set) {
    write_config(function, offset, size, (read_config(function, offset, size) & ~clear) | set);
}

// Root, upstream and downstream ports hand on requests as they are.
bool is_express_port(FunctionId bridge) {
    const auto express = find_capability(bridge, kExpress);
    const std::uint32_t type = express ? read_config(bridge, at(*express, 2), 2) >> 4 & 0xf : 0;
    return type >= 4 && type <= 6;
}

}  // namespace

bool FunctionResets::add(FunctionId function) {
    const std::uint32_t code = class_of(function) >> 8;
    if (code >> 8 == 0x06 || code == 0x0806) return true;
    if (count_ == kMaxFunctions) return false;
    bool eligible = header_type(function) == 0;
    for_each_bridge_above(function, [&](FunctionId bridge) { eligible = eligible && is_express_port(bridge); });
    functions_[count_++] = {.id = function, .eligible = eligible, .display = code >> 8 == 0x03};
    return true;
}

bool FunctionResets::may_reset_bus(FunctionId function) const {
    bool may = function >> 8 != 0;
    for_each_function([&](FunctionId other) {
        if (other >> 8 != function >> 8) return;
        const auto found = std::ranges::find(all(), other, &Function::id);
        may = may && found != all().end() && found->eligible && !found->display;
    });
    return may;
}

void FunctionResets::apply(const Function& function, Method method, bool begin) {
    const FunctionId id = function.id;
    if (method == Method::kFunctionLevel) {
        if (!begin || std::ranges::find(kBrokenFlr, function.header[0]) != std::end(kBrokenFlr)) return;
        const auto express = find_capability(id, kExpress);
        const auto features = find_capability(id, kAdvancedFeatures);
        if (express && (read_config(id, at(*express, 4), 4) >> 28 & 1) != 0) {
            set_bits(id, at(*express, 8), 2, 0, kStartFlr);
        } else if (features && (read_config(id, at(*features, 3), 1) & 3) == 3) {
            write_config(id, at(*features, 4), 1, 1);
        }
    } else if (function.display) {
        return;
    } else if (method == Method::kPower) {
        const auto power = find_capability(id, kPowerManagement);
        if (power && (read_config(id, at(*power, 4), 2) & kNoSoftReset) == 0) {
            set_bits(id, at(*power, 4), 2, kD3hot, begin ? kD3hot : 0);
        }
    } else if (may_reset_bus(id)) {
        for_each_bridge_above(id, [&](FunctionId bridge) {
            if (read_config(bridge, 0x19, 1) != id >> 8u) return;
            set_bits(bridge, kBridgeControl, 2, kBusReset, begin ? kBusReset : 0);
        });
    }
}

void FunctionResets::run(void (*wait)(unsigned milliseconds)) {
    const auto listed = std::span(functions_).first(count_);
    for (Function& function : listed) {
        if (!function.eligible) continue;
        for (std::uint16_t i = 0; i < 16; ++i) function.header[i] = read_config(function.id, 4 * i, 4);
        if (const auto express = find_capability(function.id, kExpress)) {
            function.device_control = static_cast<std::uint16_t>(read_config(function.id, at(*express, 8), 2));
        }
    }
    for (const Method method : {Method::kFunctionLevel, Method::kPower, Method::kBus}) {
        const auto left = [](const Function& function) { return function.eligible && !function.reset; };
        if (std::ranges::none_of(listed, left)) break;
        for (Function& function : listed) {
            if (!left(function)) continue;
            write_config(function.id, kCommand, 2, (function.header[1] & kDecoding) | kInterruptDisable);
            function.marked = read_config(function.id, kCommand, 2) != 0;
            apply(function, method, true);
        }
        wait(100);
        for (const Function& function : listed) {
            if (left(function)) apply(function, method, false);
        }
        wait(100);
        for (Function& function : listed) {
            if (left(function)) function.reset = function.marked && read_config(function.id, kCommand, 2) == 0;
        }
    }
    for (const Function& function : listed) {
        if (!function.eligible) continue;
        for (const std::uint16_t offset : kSaved) write_config(function.id, offset, 4, function.header[offset / 4]);
        if (const auto express = find_capability(function.id, kExpress)) {
            write_config(function.id, at(*express, 8), 2, function.device_control & ~kStartFlr);
        }
        write_config(function.id, kCommand, 2, function.header[1] & 0xffff & ~4u);
    }
}

}  // namespace gatehouse::platform
