#include "hypervisor/cpu/decoder.hpp"

#include <algorithm>

namespace gatehouse::cpu {
namespace {

constexpr Failure kRefused{Error::kUnsupported, "instruction", 0};
constexpr std::uint8_t kOperandSize = 0x66;
constexpr unsigned kRexW = 8;

std::uint64_t read_signed(Reader& code, unsigned size) {
    const std::uint64_t value = size == 1 ? code.u8() : size == 2 ? code.u16() : code.u32();
    const unsigned shift = 64 - 8 * size;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << shift) >> shift);
}

// ModRM, SIB and displacement (APM vol. 3, 1.4). False for a register operand.
bool read_operands(Reader& code, std::uint8_t rex, MmioInstruction& out) {
    // A register's number: three bits, and one of REX: R 2, X 1, B 0.
    const auto number = [rex](unsigned low, unsigned bit) {
        return static_cast<std::int8_t>((low & 7) | (rex >> bit & 1u) << 3);
    };
    const unsigned modrm = code.u8();
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    out.reg = number(modrm >> 3, 2);
    unsigned base = rm;
    if (rm == 4 && mod != 3) {
        const unsigned sib = code.u8();
        if (const std::int8_t index = number(sib >> 3, 1); index != 4) out.index = index;
        out.scale = static_cast<std::uint8_t>(1u << (sib >> 6));
        base = sib & 7;
    }
    const bool no_base = mod == 0 && base == 5;
    if (!no_base) out.base = number(base, 0);
    if (no_base && rm == 5) out.base = MmioInstruction::kRip;
    if (mod == 1) out.displacement = read_signed(code, 1);
    if (mod == 2 || no_base) out.displacement = read_signed(code, 4);
    return mod != 3;
}

}  // namespace

std::uint64_t MmioInstruction::address(const Registers& registers, std::uint64_t rip) const {
    const auto part = [&](std::int8_t number) {
        return number == kNone ? 0 : number == kRip ? rip + length : registers[static_cast<std::size_t>(number)];
    };
    return displacement + part(base) + part(index) * scale;
}

Result<MmioInstruction> decode_mmio(Bytes bytes) {
    Reader code(bytes.first(std::min(bytes.size(), kMaxInstruction)));
    std::uint8_t rex = 0;
    bool narrow = false;
    unsigned opcode = code.u8();
    for (; opcode == kOperandSize || (opcode & 0xf0) == 0x40; opcode = code.u8()) {
        narrow = narrow || opcode == kOperandSize;
        rex = opcode == kOperandSize ? 0 : static_cast<std::uint8_t>(opcode);  // counts only right before the opcode
    }
    if (opcode == 0x0f) opcode = 0x0f00u | code.u8();
    GATEHOUSE_TRY(code.status("instruction"));

    const bool wide = (rex & kRexW) != 0;
    const bool extends = opcode == 0x0fb6 || opcode == 0x0fb7;
    const bool immediate = opcode == 0xc6 || opcode == 0xc7;
    const bool moves = opcode >= 0x88 && opcode <= 0x8b;
    if (!moves && !immediate && !extends) return kRefused;
    MmioInstruction out;
    if (!read_operands(code, rex, out)) return kRefused;
    out.size = opcode % 2 == 0 ? 1 : extends ? 2 : wide ? 8 : narrow ? 2 : 4;
    out.write = immediate || opcode == 0x88 || opcode == 0x89;
    out.keeps_rest = moves && out.size < 4;
    const bool high_byte = moves && out.size == 1 && rex == 0 && out.reg >= 4;
    if (high_byte || (extends && narrow && !wide) || (immediate && (out.reg & 7) != 0)) return kRefused;
    if (immediate) {
        out.reg = MmioInstruction::kNone;
        out.value = read_signed(code, std::min<unsigned>(out.size, 4));
    }
    GATEHOUSE_TRY(code.status("instruction"));
    out.length = static_cast<std::uint8_t>(code.offset());
    return out;
}

}  // namespace gatehouse::cpu
