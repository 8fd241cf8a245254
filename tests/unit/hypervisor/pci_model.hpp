// Configuration space for tests, linked in place of platform/pci_ports.cpp (pci_test.cpp defines its
// functions).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>

#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {

// Functions that have not been added read all ones. There is one model at a time: the newest.
class PciModel {
  public:
    PciModel() : before_(current_) { current_ = this; }
    ~PciModel() { current_ = before_; }
    PciModel(const PciModel&) = delete;
    PciModel& operator=(const PciModel&) = delete;
    static PciModel& current() { return *current_; }

    // A function with this device << 16 | vendor and a capability list that starts at `capabilities` (0:
    // none).
    void add(FunctionId function, std::uint32_t identity, std::uint8_t capabilities = 0) {
        functions_[function] = {};
        put(function, 0x00, 4, identity);
        put(function, 0x06, 2, capabilities != 0 ? 0x10 : 0);
        put(function, 0x34, 1, capabilities);
    }
    void put(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
        for (unsigned i = 0; i < size; ++i) {
            functions_.at(function).at(offset + i) = static_cast<std::uint8_t>(value >> (8 * i));
        }
    }
    [[nodiscard]] std::uint32_t get(FunctionId function, std::uint16_t offset, unsigned size) const {
        const auto found = functions_.find(function);
        std::uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            const std::uint32_t byte = found == functions_.end() ? 0xff : found->second.at(offset + i);
            value |= byte << (8 * i);
        }
        return value;
    }
    void write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
        if (!functions_.contains(function)) return;
        put(function, offset, size, value);
        if (on_write) on_write(function, offset, value);
    }
    // The PM registers of an AMD FCH.
    std::array<std::uint8_t, 256> fch{};
    // What a device does about a write, which has been stored already.
    std::function<void(FunctionId function, std::uint16_t offset, std::uint32_t value)> on_write;

  private:
    static inline PciModel* current_ = nullptr;
    PciModel* before_;
    std::map<FunctionId, std::array<std::uint8_t, 256>> functions_;
};

}  // namespace gatehouse::platform
