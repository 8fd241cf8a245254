// The local APIC: sending IPIs, and what a guest's IPI means (APM vol. 2, chapter 16).
#pragma once

#include "hypervisor/platform/io.hpp"

namespace gatehouse::cpu::apic {

inline constexpr std::uint64_t kPage = 0xfee00000;

// Register offsets (table 16-2); an x2APIC's MSR is 0x800 + offset / 16.
using Register = platform::Register<struct Page, std::uint32_t>;
inline constexpr Register kId{0x020};
inline constexpr Register kTaskPriority{0x080};
inline constexpr Register kEndOfInterrupt{0x0b0};
inline constexpr Register kSpurious{0x0f0};
inline constexpr Register kIcrLow{0x300};
inline constexpr Register kIcrHigh{0x310};  // xAPIC only; an x2APIC's ICR is one 64-bit register
inline constexpr Register kTimer{0x320};    // local vector table: timer ...
inline constexpr Register kError{0x370};    // ... error, 0x10 apart
inline constexpr Register kTimerInitial{0x380};

// What a guest writes to its interrupt command register (16.5).
struct Icr {
    std::uint64_t value = 0;
    bool x2apic = false;

    [[nodiscard]] bool is_init() const { return (value >> 8 & 7) == 5; }
    [[nodiscard]] bool is_startup() const { return (value >> 8 & 7) == 6; }
    // Trigger level, level 0: an INIT that does nothing.
    [[nodiscard]] bool is_deassert() const { return (value >> 14 & 3) == 2; }
    [[nodiscard]] std::uint8_t vector() const { return static_cast<std::uint8_t>(value); }
    // Whether the processor `apic_id` is meant; `self`: it is the sender. An xAPIC's logical destination matches
    // nobody: its logical IDs are the other processor's secret, and no system starts processors by them.
    [[nodiscard]] bool targets(std::uint32_t apic_id, bool self) const;
};

// --- this processor's own APIC ---

// Puts the APIC page where it belongs, turns the APIC on and gives it this processor's ID.
void enable();
[[nodiscard]] bool x2apic();
// As the processor says (CPUID), whatever the APIC has been told.
[[nodiscard]] std::uint32_t id();
[[nodiscard]] std::uint32_t read(Register reg);
void write(Register reg, std::uint32_t value);
// The guest's own write of its ICR, whose upper half an xAPIC has already.
void write_icr(std::uint64_t value);
// Sends ICR[31:0] = `command` to one processor and waits until it is out. The guest's ICR[63:32] is left as it was.
void send(std::uint32_t destination, std::uint32_t command);
// As INIT does: vectors masked, timer stopped, disabled, nothing in service.
void reset();

inline constexpr std::uint32_t kOthers = 3u << 18;        // shorthand: all but self, whatever the destination
inline constexpr std::uint32_t kCommandInit = 0x4500;     // INIT, assert
inline constexpr std::uint32_t kCommandStartup = 0x4600;  // SIPI, assert; + vector

}  // namespace gatehouse::cpu::apic
