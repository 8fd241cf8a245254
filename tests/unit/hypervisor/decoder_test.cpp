#include "hypervisor/cpu/decoder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/hypervisor/decoder_encodings.hpp"

namespace gatehouse::cpu {
namespace {

std::vector<std::byte> bytes_of(const std::string& hex) {
    std::istringstream in(hex);
    std::vector<std::byte> out;
    for (unsigned value = 0; in >> std::hex >> value;) out.push_back(static_cast<std::byte>(value));
    return out;
}

struct NamedRegister {
    int index = 0;
    unsigned size = 0;
    bool high = false;
};

std::optional<NamedRegister> register_named(const std::string& name) {
    static const std::map<std::string, NamedRegister> kNames = [] {
        const char* const base[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
        std::map<std::string, NamedRegister> names{{"rip", {MmioInstruction::kRip, 8, false}}};
        for (int i = 0; i < 8; ++i) {
            const std::string word = base[i];
            names["r" + word] = {i, 8, false};
            names["e" + word] = {i, 4, false};
            names[word] = {i, 2, false};
            names[i < 4 ? word.substr(0, 1) + "l" : word + "l"] = {i, 1, false};
            if (i < 4) names[word.substr(0, 1) + "h"] = {i, 1, true};
            const std::string number = "r" + std::to_string(i + 8);
            names[number] = {i + 8, 8, false};
            names[number + "d"] = {i + 8, 4, false};
            names[number + "w"] = {i + 8, 2, false};
            names[number + "b"] = {i + 8, 1, false};
        }
        return names;
    }();
    const auto found = kNames.find(name);
    return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

std::uint64_t number(const std::string& text) {
    const bool negative = text[0] == '-';
    const std::uint64_t value = std::stoull(text.substr(text[0] == '-' || text[0] == '+' ? 1 : 0), nullptr, 0);
    return negative ? 0 - value : value;
}

// What objdump's text says about a memory operand: "DWORD PTR gs:[rax+rcx*4-0x8]", "ds:0xfee00300".
struct MemoryText {
    unsigned size = 0;
    std::string segment, base, index;
    unsigned scale = 1;
    std::uint64_t displacement = 0;
};

MemoryText parse_memory(std::string text) {
    MemoryText out;
    for (const auto& [name, size] :
         {std::pair{"BYTE PTR ", 1u}, {"DWORD PTR ", 4u}, {"QWORD PTR ", 8u}, {"WORD PTR ", 2u}}) {
        if (text.rfind(name, 0) == 0) {
            out.size = size;
            text = text.substr(std::string(name).size());
        }
    }
    if (const auto colon = text.find(':'); colon != std::string::npos) {
        out.segment = text.substr(0, colon);
        text = text.substr(colon + 1);
    }
    if (text[0] != '[') {
        out.displacement = number(text);
        return out;
    }
    text = text.substr(1, text.size() - 2);
    while (!text.empty()) {
        const auto end = text.find_first_of("+-", 1);
        std::string term = text.substr(0, end);
        text = end == std::string::npos ? "" : text.substr(end);
        const std::string name = term[0] == '+' ? term.substr(1) : term;
        const auto star = name.find('*');
        const auto named = register_named(name.substr(0, star));
        if (!named && name.substr(0, star) != "riz" && name.substr(0, star) != "eiz") {
            out.displacement = number(term);
            continue;
        }
        if (star == std::string::npos) {
            out.base = name;
        } else {
            if (named) out.index = name.substr(0, star);
            out.scale = static_cast<unsigned>(number(name.substr(star + 1)));
        }
    }
    return out;
}

void expect_memory(const MmioInstruction& found, const MemoryText& expected) {
    EXPECT_EQ(found.base, expected.base.empty() ? MmioInstruction::kNone : register_named(expected.base)->index);
    EXPECT_EQ(found.index, expected.index.empty() ? MmioInstruction::kNone : register_named(expected.index)->index);
    if (!expected.index.empty()) {
        EXPECT_EQ(found.scale, expected.scale);
    }
    EXPECT_EQ(found.displacement, expected.displacement);
}

// A prefix of another segment or address size, or one that does nothing.
bool has_odd_prefix(const std::vector<std::byte>& code) {
    constexpr unsigned char kOdd[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67};
    for (const std::byte byte : code) {
        const auto value = std::to_integer<unsigned char>(byte);
        if (std::ranges::find(kOdd, value) != std::end(kOdd)) return true;
        if (value != 0x66 && (value & 0xf0) != 0x40) return false;
    }
    return false;
}

// An instruction as objdump writes it, and whether it is one of those that the decoder is for.
struct Text {
    explicit Text(const Encoding& row) {
        const std::string text = row.text;
        const std::string mnemonic = text.substr(0, text.find(' '));
        const std::string operands = text.substr(text.find(' ') + 1);
        const std::string first = operands.substr(0, operands.find(','));
        second = operands.substr(operands.find(',') + 1);
        target = register_named(first);
        reg = target ? target : register_named(second);
        extends = mnemonic == "movzx";
        supported = row.bits == 64 && !has_odd_prefix(bytes_of(row.bytes)) && (mnemonic == "mov" || extends) &&
                    !(reg && reg->high) && !(extends && target->size == 2);
        if (supported) memory = parse_memory(target ? second : first);
    }
    std::optional<NamedRegister> target, reg;
    std::string second;
    MemoryText memory;
    bool extends = false, supported = false;
};

TEST(Decoder, AgreesWithObjdump) {
    unsigned supported = 0;
    for (const Encoding& row : kEncodings) {
        SCOPED_TRACE(row.text);
        const Text expected(row);
        if (!expected.supported) continue;
        ++supported;
        const auto code = bytes_of(row.bytes);
        const auto found = decode_mmio(code);
        ASSERT_TRUE(found.ok()) << error_name(found.error());
        EXPECT_EQ(found->length, code.size());
        EXPECT_EQ(found->write, !expected.target);
        if (expected.reg) {
            EXPECT_EQ(found->reg, expected.reg->index);
        } else {
            EXPECT_EQ(found->reg, MmioInstruction::kNone);
            EXPECT_EQ(found->value & found->mask(), number(expected.second) & found->mask());
        }
        EXPECT_EQ(found->size, expected.memory.size != 0 ? expected.memory.size : expected.reg->size);
        EXPECT_EQ(found->keeps_rest, !expected.extends && found->size < 4 && expected.reg.has_value());
        expect_memory(*found, expected.memory);
    }
    EXPECT_GT(supported, 60u);
}

TEST(Decoder, RefusesSegmentsAddressSizesSignsAndHighBytes) {
    for (const Encoding& row : kEncodings) {
        if (row.bits == 64 && !Text(row).supported) {
            EXPECT_EQ(decode_mmio(bytes_of(row.bytes)).error(), Error::kUnsupported) << row.text;
        }
    }
}

TEST(Decoder, SaysTruncatedAtEveryShorterLength) {
    for (const Encoding& row : kEncodings) {
        if (!Text(row).supported) continue;
        const auto code = bytes_of(row.bytes);
        for (std::size_t size = 0; size < code.size(); ++size) {
            const auto found = decode_mmio(Bytes(code).first(size));
            EXPECT_EQ(found.error(), Error::kTruncated) << row.text << " cut to " << size;
        }
    }
}

TEST(Decoder, AddsUpAnAddress) {
    Registers registers{};
    registers[3] = 0x1000;
    registers[9] = 0x20;
    EXPECT_EQ(decode_mmio(bytes_of("42 8b 44 cb f8"))->address(registers, 0), 0x10f8u);  // [rbx+r9*8-0x8]
    EXPECT_EQ(decode_mmio(bytes_of("8b 05 f0 ff ff ff"))->address(registers, 0x5000), 0x4ff6u) << "of the next one";
    EXPECT_EQ(decode_mmio(bytes_of("8b 04 25 00 03 e0 fe"))->address(registers, 0), 0xfffffffffee00300u);
}

TEST(Decoder, RefusesWhatIsNotAPlainMove) {
    for (const char* hex : {
             "f0 89 07",  // lock mov (invalid anyway)
             "f3 a4",
             "f3 ab",  // rep movsb, rep stosd
             "a4",
             "aa",     // movsb, stosb
             "87 07",  // xchg
             "09 07",
             "21 07",  // or, and
             "85 07",
             "3b 07",     // test, cmp
             "0f c3 07",  // movnti
             "0f 11 07",  // movups
             "0f b1 0f",  // cmpxchg
             "ff 37",
             "8f 07",              // push, pop
             "c7 0f 00 00 00 00",  // c7 /1 is not MOV
             "c7 f8 00 00 00 00",  // xbegin
             "89 c0",
             "8b c8",        // register to register
             "c5 fa 6f 07",  // VEX
             "f2 89 07",     // xacquire
             "cc",
             "0f 0b",
         }) {
        EXPECT_EQ(decode_mmio(bytes_of(hex)).error(), Error::kUnsupported) << hex;
    }
}

TEST(Decoder, RefusesMoreThanFifteenBytes) {
    std::vector<std::byte> code(14, std::byte{0x66});
    code.push_back(std::byte{0x89});
    code.push_back(std::byte{0x07});
    EXPECT_EQ(decode_mmio(code).error(), Error::kTruncated);
    code.erase(code.begin());
    EXPECT_TRUE(decode_mmio(code).ok());
}

TEST(Decoder, RexCountsOnlyRightBeforeTheOpcode) {
    const auto with = decode_mmio(bytes_of("66 48 89 07"));
    ASSERT_TRUE(with.ok());
    EXPECT_EQ(with->size, 8);
    const auto without = decode_mmio(bytes_of("48 66 89 07"));
    ASSERT_TRUE(without.ok());
    EXPECT_EQ(without->size, 2);
}

// Whatever the bytes are: an answer within the bytes, or an error.
TEST(Decoder, StaysWithinAnyThreeByteOpcodeAndModrm) {
    std::array<std::byte, 15> code{};
    for (unsigned opcode = 0; opcode < 0x10000; ++opcode) {
        for (unsigned modrm = 0; modrm < 0x100; modrm += 31) {
            code[0] = static_cast<std::byte>(opcode >> 8);
            code[1] = static_cast<std::byte>(opcode);
            code[2] = static_cast<std::byte>(modrm);
            const std::size_t size = 2 + (opcode ^ modrm) % 13;
            const auto found = decode_mmio(Bytes(code).first(size));
            if (!found.ok()) continue;
            ASSERT_LE(found->length, size);
            ASSERT_TRUE(found->size == 1 || found->size == 2 || found->size == 4 || found->size == 8);
            ASSERT_TRUE(found->reg < 16 && (found->reg >= 0 || found->write));
            ASSERT_TRUE(found->base <= MmioInstruction::kRip && found->index < 16);
        }
    }
}

TEST(Decoder, LoadsChangeAsMuchOfARegisterAsTheProcessorWould) {
    EXPECT_TRUE(decode_mmio(bytes_of("8a 07"))->keeps_rest) << "mov al";
    EXPECT_TRUE(decode_mmio(bytes_of("66 8b 07"))->keeps_rest) << "mov ax";
    EXPECT_FALSE(decode_mmio(bytes_of("8b 07"))->keeps_rest) << "mov eax";
    EXPECT_FALSE(decode_mmio(bytes_of("48 8b 07"))->keeps_rest) << "mov rax";
    EXPECT_FALSE(decode_mmio(bytes_of("0f b6 07"))->keeps_rest) << "movzx eax, byte";
    EXPECT_FALSE(decode_mmio(bytes_of("48 0f b7 07"))->keeps_rest) << "movzx rax, word";
    EXPECT_EQ(decode_mmio(bytes_of("8a 07"))->mask(), 0xffu);
    EXPECT_EQ(decode_mmio(bytes_of("48 8b 07"))->mask(), ~std::uint64_t{0});
}

}  // namespace
}  // namespace gatehouse::cpu
