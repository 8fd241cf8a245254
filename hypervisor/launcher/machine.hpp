// What the launcher does to the CPU, the APIC and the TPM.
#pragma once

#include <cstdint>

namespace gatehouse::launcher {

enum class Register : std::uint8_t { kEax, kEbx, kEcx, kEdx };
enum class Msr : std::uint32_t {
    kApicBase = 0x1b,
    kX2ApicIcr = 0x830,
    kEfer = 0xc0000080,
    kVmCr = 0xc0010114
};

inline void out8(std::uint16_t port, std::uint8_t value) {
    asm volatile("outb %0, %1" : : "a"(value), "d"(port));
}
[[nodiscard]] inline std::uint8_t in8(std::uint16_t port) {
    std::uint8_t value = 0;
    asm volatile("inb %1, %0" : "=a"(value) : "d"(port));
    return value;
}
[[nodiscard]] bool has_feature(std::uint32_t leaf, Register where, unsigned bit);
[[nodiscard]] std::uint64_t read_msr(Msr msr);
[[noreturn]] void halt();

// Gives up every locality of the TPM, whatever its interface: the CPU measures the SLB only if none is in
// use.
void relinquish_tpm();
// INIT to all other CPUs, and time for it to arrive.
void park_other_cpus();
void enable_svm();

}  // namespace gatehouse::launcher
