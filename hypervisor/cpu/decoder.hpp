// A decoder for the instructions with which drivers access registers, and for nothing else.
//
//   88 89 8a 8b          MOV r/m,r and r,r/m          8, 16, 32, 64 bits
//   a0 a1 a2 a3          MOV accumulator,moffs and back
//   c6/0 c7/0            MOV r/m,imm
//   0f b6 b7 be bf 63    MOVZX, MOVSX, MOVSXD
//
// with operand-size, address-size, segment and REX prefixes, in 64- and 32-bit code (APM vol. 3, chapter 1).
// All else, LOCK and REP prefixes and 16-bit addresses are refused with kUnsupported, missing bytes with
// kTruncated.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::cpu {

inline constexpr std::size_t kMaxInstruction = 15;

enum class CodeSize : std::uint8_t { k16, k32, k64 };
enum class SegmentName : std::uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };  // by encoding

// segment base + base register + index register * scale + displacement, cut to the address size
struct MemoryOperand {
    static constexpr std::int8_t kNone = -1;
    static constexpr std::int8_t kRip = 16;  // address of the next instruction
    SegmentName segment = SegmentName::kDs;
    std::int8_t base = kNone;  // 0 to 15 by encoding
    std::int8_t index = kNone;
    std::uint8_t scale = 1;
    std::uint8_t address_bits = 64;
    std::uint64_t displacement = 0;  // sign-extended
};

struct MmioInstruction {
    std::uint8_t length = 0;
    std::uint8_t size = 0;  // of the access: 1, 2, 4 or 8 bytes
    bool write = false;
    bool immediate = false;  // write: `value` is stored, not a register
    std::uint64_t value = 0;
    std::uint8_t reg = 0;       // 0 to 15 by encoding
    bool high_byte = false;     // bits 15:8 of reg (AH, CH, DH, BH); reg is 0 to 3
    std::uint8_t reg_size = 0;  // read: how much of reg is written; 4 clears its upper half
    bool sign_extend = false;   // read: from size to reg_size; else zeros
    MemoryOperand memory;
};

[[nodiscard]] Result<MmioInstruction> decode_mmio(Bytes code, CodeSize mode);

// Length of the one- or two-byte opcode `opcode` (0x0fa2: CPUID) with its prefixes; `fallback` if the code is
// something else, because another processor has changed it.
[[nodiscard]] unsigned prefixed_length(Bytes code, CodeSize mode, std::uint16_t opcode, unsigned fallback);

// What a register holds after `loaded` (of instruction.size bytes) has been read into it.
[[nodiscard]] std::uint64_t merge_register(const MmioInstruction& instruction, std::uint64_t old, std::uint64_t loaded);

}  // namespace gatehouse::cpu
