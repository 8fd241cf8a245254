// What the launcher does to the CPU, the APIC and the TPM.
#pragma once

#include <cstdint>

namespace gatehouse::launcher {

enum class Register : std::uint8_t { kEax, kEbx, kEcx, kEdx };

[[nodiscard]] bool has_feature(std::uint32_t leaf, Register where, unsigned bit);
// VM_CR.SVMDIS: the firmware has switched SVM off (AMD64 APM vol. 2, 15.4). The CPU must have SVM.
[[nodiscard]] bool svm_disabled();
[[noreturn]] void halt();

// Gives up every locality of the TPM, whatever its interface: the CPU measures the SLB only if none is in use.
void relinquish_tpm();
// Masks both 8259 interrupt controllers: the firmware's timer would interrupt a guest that has no handler for it.
void mask_legacy_interrupts();
// INIT to all other CPUs, and time for it to arrive.
void park_other_cpus();
void enable_svm();

}  // namespace gatehouse::launcher
