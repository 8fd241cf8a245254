// The local APIC: sending IPIs, and what a guest's IPI means (APM vol. 2, chapter 16).
#pragma once

#include <cstdint>

namespace gatehouse::cpu::apic {

inline constexpr std::uint64_t kPage = 0xfee00000;

// Register offsets (table 16-2); an x2APIC's MSR is 0x800 + offset / 16.
enum Register : std::uint32_t {
    kId = 0x020,
    kTaskPriority = 0x080,
    kEndOfInterrupt = 0x0b0,
    kSpurious = 0x0f0,
    kIcrLow = 0x300,
    kIcrHigh = 0x310,  // xAPIC only; an x2APIC's ICR is one 64-bit register
    kTimer = 0x320,    // local vector table: timer ...
    kError = 0x370,    // ... error, 0x10 apart
    kTimerInitial = 0x380,
};

enum class Delivery : std::uint8_t {  // ICR[10:8], of which some
    kFixed = 0,
    kNmi = 4,
    kInit = 5,
    kStartup = 6,
};

enum class Shorthand : std::uint8_t { kNone = 0, kSelf = 1, kAll = 2, kOthers = 3 };  // ICR[19:18]

// An ICR value, taken apart.
struct IpiCommand {
    Delivery delivery = Delivery::kFixed;
    std::uint8_t vector = 0;
    bool logical = false;   // ICR[11]: destination is a mask of logical IDs
    bool deassert = false;  // ICR[15:14]: trigger level, level 0: an INIT that does nothing
    Shorthand shorthand = Shorthand::kNone;
    std::uint32_t destination = 0;  // xAPIC: ICR[63:56]; x2APIC: ICR[63:32]
    bool x2apic = false;

    // Whether the processor `apic_id` is meant; `self`: it is the sender. An xAPIC's logical destination
    // matches nobody: its logical IDs are the other processor's secret, and no system starts processors by
    // them.
    [[nodiscard]] bool targets(std::uint32_t apic_id, bool self) const;
};

[[nodiscard]] IpiCommand decode_icr(std::uint64_t value, bool x2apic);

// --- this processor's own APIC ---

// Puts the APIC page where it belongs, turns the APIC on and gives it this processor's ID.
void enable();
[[nodiscard]] bool x2apic();
// As the processor says (CPUID), whatever the APIC has been told.
[[nodiscard]] std::uint32_t id();
[[nodiscard]] std::uint32_t read(std::uint32_t reg);
void write(std::uint32_t reg, std::uint32_t value);
// The guest's own write of its ICR, whose upper half an xAPIC has already.
void write_icr(std::uint64_t value);
// Sends ICR[31:0] = `command` to one processor and waits until it is out. The guest's ICR[63:32] is left as
// it was.
void send(std::uint32_t destination, std::uint32_t command);
// As INIT does: vectors masked, timer stopped, disabled, nothing in service.
void reset();

inline constexpr std::uint32_t kOthers = 3u << 18;        // shorthand: all but self, whatever the destination
inline constexpr std::uint32_t kCommandInit = 0x4500;     // INIT, assert
inline constexpr std::uint32_t kCommandStartup = 0x4600;  // SIPI, assert; + vector

}  // namespace gatehouse::cpu::apic
