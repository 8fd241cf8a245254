// A decoder for the instructions with which drivers access registers, and for nothing else.
//
//   88 89 8a 8b    MOV r/m,r and r,r/m    8, 16, 32, 64 bits
//   c6/0 c7/0      MOV r/m,imm
//   0f b6 b7       MOVZX                  to 32 or 64 bits
//
// with operand-size and REX prefixes, in 64-bit code (APM vol. 3, chapter 1). All else, AH to
// DH among the registers, is refused with kUnsupported, missing bytes with kTruncated.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::cpu {

inline constexpr std::size_t kMaxInstruction = 15;

using Registers = std::array<std::uint64_t, 16>;  // by instruction encoding: rax, rcx, rdx, rbx, rsp, ...

struct MmioInstruction {
    static constexpr std::int8_t kNone = -1;
    static constexpr std::int8_t kRip = 16;  // address of the next instruction

    std::uint8_t length = 0;
    std::uint8_t size = 0;  // of the access: 1, 2, 4 or 8 bytes
    bool write = false;
    std::int8_t reg = kNone;  // 0 to 15 by encoding; kNone: `value` is stored
    std::uint64_t value = 0;
    bool keeps_rest = false;  // read: of the register, what is above `size`; else it becomes zero
    // base register + index register * scale + displacement
    std::int8_t base = kNone;
    std::int8_t index = kNone;
    std::uint8_t scale = 1;
    std::uint64_t displacement = 0;  // sign-extended

    // The bits of `size` bytes.
    [[nodiscard]] std::uint64_t mask() const { return ~std::uint64_t{0} >> (64 - 8 * size); }
    // What it accesses, if it is at `rip`.
    [[nodiscard]] std::uint64_t address(const Registers& registers, std::uint64_t rip) const;
};

[[nodiscard]] Result<MmioInstruction> decode_mmio(Bytes bytes);

}  // namespace gatehouse::cpu
