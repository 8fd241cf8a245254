// What the probe touches: ports, model-specific registers, the local APIC, PCI, the serial line. 32-bit, flat, no paging.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace probe {

inline void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
inline void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
inline uint8_t in8(uint16_t port) {
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline uint32_t in32(uint16_t port) {
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

template <typename T>
inline T load(uint32_t address) {
    return *reinterpret_cast<volatile T*>(address);
}
template <typename T>
inline void store(uint32_t address, T value) {
    *reinterpret_cast<volatile T*>(address) = value;
}

enum class Msr : uint32_t {
    kApicBase = 0x0000001b,
    kPatchLevel = 0x0000008b,
    kMtrrFix64K = 0x00000250,   // 0-7ffffh; fields of 64 KiB, one byte each (APM vol. 2, 7.7.2)
    kMtrrFix4KF0 = 0x0000026e,  // f0000h-f7fffh; fields of 4 KiB
    kPat = 0x00000277,
    kMtrrDefaultType = 0x000002ff,
    kEfer = 0xc0000080,
    kStar = 0xc0000081,
    kSyscfg = 0xc0010010,  // APM vol. 2, 7.9
    kHwcr = 0xc0010015,
    kIorrBase0 = 0xc0010016,
    kIorrMask1 = 0xc0010019,
    kTopMem = 0xc001001a,
    kTopMem2 = 0xc001001d,
    kVmCr = 0xc0010114,  // APM vol. 2, 15.30.1
    kVmHsavePa = 0xc0010117,
    kSvmKey = 0xc0010118,  // APM vol. 2, 15.31.1
};
inline constexpr uint64_t kEferSvme = 1u << 12;
inline constexpr uint64_t kSyscfgMtrrFixDramEn = 1u << 18;
inline constexpr uint64_t kSyscfgMtrrFixDramModEn = 1u << 19;
inline constexpr uint64_t kMtrrRdMem = 0x10, kMtrrWrMem = 0x08;
inline constexpr uint64_t kVmCrRInit = 1u << 1;
inline constexpr uint64_t kVmCrLock = 1u << 3;
inline constexpr uint64_t kVmCrSvmdis = 1u << 4;

inline uint64_t read_msr(Msr msr) {
    uint64_t value;
    asm volatile("rdmsr" : "=A"(value) : "c"(msr));
    return value;
}
inline void write_msr(Msr msr, uint64_t value) { asm volatile("wrmsr" ::"A"(value), "c"(msr) : "memory"); }

// Waits by doing nothing `count` million times: there is no clock here that needs no set-up.
inline void pause_millions(uint32_t count) {
    for (uint32_t i = 0; i < count * 1000000; ++i) asm volatile("");
}

// Local APIC, xAPIC mode (APM vol. 2, 16.5).
inline constexpr uint32_t kApic = 0xfee00000;
inline void send_ipi(uint32_t apic_id, uint32_t command) {
    store<uint32_t>(kApic + 0x310, apic_id << 24);
    store<uint32_t>(kApic + 0x300, command);
    while (load<uint32_t>(kApic + 0x300) & 0x1000) {}
}
inline void send_init(uint32_t apic_id) { send_ipi(apic_id, 0x4500); }
inline void send_startup(uint32_t apic_id, uint32_t page) { send_ipi(apic_id, 0x4600 | page); }

// PCI configuration, function = bus 0.
inline uint32_t pci_address(uint32_t device, uint32_t function, uint32_t offset) {
    return 0x80000000 | device << 11 | function << 8 | (offset & 0xfc);
}
inline uint32_t pci_read(uint32_t device, uint32_t function, uint32_t offset) {
    out32(0xcf8, pci_address(device, function, offset));
    return in32(0xcfc);
}
inline void pci_write(uint32_t device, uint32_t function, uint32_t offset, uint32_t value) {
    out32(0xcf8, pci_address(device, function, offset));
    out32(0xcfc, value);
}

void print(const char* text);
void print_hex(const uint8_t* bytes, size_t count);
void print_fact(const char* name, uint64_t value);  // "fact NAME VALUE" with the value in hexadecimal
[[noreturn]] void finish(uint8_t code);             // ends the machine with status 2 * code + 1

}  // namespace probe
