#include "hypervisor/cpu/decoder.hpp"

#include <algorithm>
#include <optional>

namespace gatehouse::cpu {
namespace {

constexpr Failure kRefused{Error::kUnsupported, "instruction", 0};

struct Prefixes {
    bool operand = false;         // 66
    bool address = false;         // 67
    bool repeat_or_lock = false;  // f2, f3, f0
    std::optional<SegmentName> segment;
    std::uint8_t rex = 0;
    std::uint8_t opcode = 0;  // the first byte that is no prefix

    [[nodiscard]] bool rex_w() const { return (rex & 8) != 0; }
    // The fourth bit of a register's number; `bit` of REX: R 2, X 1, B 0.
    [[nodiscard]] std::uint8_t high(unsigned bit) const { return (rex >> bit & 1) != 0 ? 8 : 0; }
};

Prefixes read_prefixes(Reader& code, CodeSize mode) {
    Prefixes out;
    const auto segment = [&out, mode](SegmentName name) {
        if (mode == CodeSize::k64 && name != SegmentName::kFs && name != SegmentName::kGs) return;  // without effect
        out.segment = name;
    };
    while (!code.failed()) {
        const std::uint8_t byte = code.u8();
        if (mode == CodeSize::k64 && (byte & 0xf0) == 0x40) {
            out.rex = byte;
            continue;
        }
        switch (byte) {
            case 0x66: out.operand = true; break;
            case 0x67: out.address = true; break;
            case 0xf0:
            case 0xf2:
            case 0xf3: out.repeat_or_lock = true; break;
            case 0x26: segment(SegmentName::kEs); break;
            case 0x2e: segment(SegmentName::kCs); break;
            case 0x36: segment(SegmentName::kSs); break;
            case 0x3e: segment(SegmentName::kDs); break;
            case 0x64: segment(SegmentName::kFs); break;
            case 0x65: segment(SegmentName::kGs); break;
            default: out.opcode = byte; return out;
        }
        out.rex = 0;  // a REX prefix counts only right before the opcode
    }
    return out;
}

std::uint64_t read_signed(Reader& code, unsigned size) {
    switch (size) {
        case 1: return static_cast<std::uint64_t>(static_cast<std::int8_t>(code.u8()));
        case 2: return static_cast<std::uint64_t>(static_cast<std::int16_t>(code.u16()));
        default: return static_cast<std::uint64_t>(static_cast<std::int32_t>(code.u32()));
    }
}

// ModRM, SIB and displacement (APM vol. 3, 1.4). False for a register operand.
bool read_modrm(Reader& code, CodeSize mode, const Prefixes& prefixes, std::uint8_t& reg, MemoryOperand& memory) {
    const std::uint8_t modrm = code.u8();
    const unsigned mod = modrm >> 6;
    const std::uint8_t rm = modrm & 7;
    reg = static_cast<std::uint8_t>((modrm >> 3 & 7) | prefixes.high(2));
    if (mod == 3) return false;

    unsigned displacement = mod == 0 ? 0 : mod == 1 ? 1 : 4;
    if (rm == 4) {
        const std::uint8_t sib = code.u8();
        const auto index = static_cast<std::int8_t>((sib >> 3 & 7) | prefixes.high(1));
        if (index != 4) memory.index = index;
        memory.scale = static_cast<std::uint8_t>(1u << (sib >> 6));
        if ((sib & 7) == 5 && mod == 0) {
            displacement = 4;
        } else {
            memory.base = static_cast<std::int8_t>((sib & 7) | prefixes.high(0));
        }
    } else if (rm == 5 && mod == 0) {
        displacement = 4;
        if (mode == CodeSize::k64) memory.base = MemoryOperand::kRip;
    } else {
        memory.base = static_cast<std::int8_t>(rm | prefixes.high(0));
    }
    if (displacement != 0) memory.displacement = read_signed(code, displacement);
    if (!prefixes.segment && (memory.base == 4 || memory.base == 5)) memory.segment = SegmentName::kSs;
    return true;
}

constexpr std::uint16_t kMovsxd = 0x63;  // ARPL outside of 64-bit code

bool has_modrm(std::uint16_t opcode, CodeSize mode) {
    if (opcode == kMovsxd) return mode == CodeSize::k64;
    return (opcode >= 0x88 && opcode <= 0x8b) || opcode == 0xc6 || opcode == 0xc7 || opcode == 0x0fb6 ||
           opcode == 0x0fb7 || opcode == 0x0fbe || opcode == 0x0fbf;
}

}  // namespace

Result<MmioInstruction> decode_mmio(Bytes bytes, CodeSize mode) {
    Reader code(bytes.first(std::min(bytes.size(), kMaxInstruction)));
    const Prefixes prefixes = read_prefixes(code, mode);
    std::uint16_t opcode = prefixes.opcode;
    if (opcode == 0x0f) opcode = static_cast<std::uint16_t>(0x0f00 | code.u8());
    if (mode == CodeSize::k16 || prefixes.repeat_or_lock) return kRefused;
    if (mode == CodeSize::k32 && prefixes.address) return kRefused;

    MmioInstruction out;
    const std::uint8_t operand_size = prefixes.rex_w() ? 8 : prefixes.operand ? 2 : 4;
    out.memory.address_bits = mode == CodeSize::k64 && !prefixes.address ? 64 : 32;
    out.memory.segment = prefixes.segment.value_or(SegmentName::kDs);

    if (opcode >= 0xa0 && opcode <= 0xa3) {  // an absolute address instead of ModRM
        out.memory.displacement = out.memory.address_bits == 64 ? code.u64() : code.u32();
    } else {
        // Before ModRM is read, so that an unknown opcode is kUnsupported.
        if (code.failed()) return code.status("instruction").failure();
        if (!has_modrm(opcode, mode)) return kRefused;
        if (!read_modrm(code, mode, prefixes, out.reg, out.memory) && !code.failed()) return kRefused;
    }

    const bool byte_sized = opcode < 0x100 && (opcode & 1) == 0;  // of 88..8b, a0..a3, c6, c7
    const bool extends = opcode > 0x100 || opcode == kMovsxd;
    out.size = opcode == kMovsxd ? (operand_size == 2 ? 2 : 4)
               : extends         ? ((opcode & 1) == 0 ? 1 : 2)
               : byte_sized      ? 1
                                 : operand_size;
    out.write =
        opcode == 0x88 || opcode == 0x89 || opcode == 0xa2 || opcode == 0xa3 || opcode == 0xc6 || opcode == 0xc7;
    out.reg_size = extends ? operand_size : out.size;
    out.sign_extend = opcode == 0x0fbe || opcode == 0x0fbf || opcode == kMovsxd;
    if (opcode == 0xc6 || opcode == 0xc7) {
        if ((out.reg & 7) != 0 && !code.failed()) return kRefused;
        out.immediate = true;
        out.value = read_signed(code, std::min<unsigned>(out.size, 4));
    } else if (out.size == 1 && !extends && prefixes.rex == 0 && out.reg >= 4) {
        out.high_byte = true;
        out.reg = static_cast<std::uint8_t>(out.reg - 4);
    }
    GATEHOUSE_TRY(code.status("instruction"));
    out.length = static_cast<std::uint8_t>(code.offset());
    return out;
}

unsigned prefixed_length(Bytes bytes, CodeSize mode, std::uint16_t opcode, unsigned fallback) {
    Reader code(bytes.first(std::min(bytes.size(), kMaxInstruction)));
    std::uint16_t found = read_prefixes(code, mode).opcode;
    if (found == 0x0f) found = static_cast<std::uint16_t>(0x0f00 | code.u8());
    return code.failed() || found != opcode ? fallback : static_cast<unsigned>(code.offset());
}

std::uint64_t merge_register(const MmioInstruction& instruction, std::uint64_t old, std::uint64_t loaded) {
    const auto mask = [](unsigned size) { return size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * size) - 1; };
    std::uint64_t value = loaded & mask(instruction.size);
    const std::uint64_t sign = std::uint64_t{1} << (8 * instruction.size - 1);
    if (instruction.sign_extend && (value & sign) != 0) value |= ~mask(instruction.size);
    if (instruction.high_byte) return (old & ~std::uint64_t{0xff00}) | value << 8;
    if (instruction.reg_size >= 4) return value & mask(instruction.reg_size);
    return (old & ~mask(instruction.reg_size)) | (value & mask(instruction.reg_size));
}

}  // namespace gatehouse::cpu
