#include "hypervisor/cpu/decoder.hpp"

#include <gtest/gtest.h>

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
        std::map<std::string, NamedRegister> names{{"rip", {MemoryOperand::kRip, 8, false}},
                                                   {"eip", {MemoryOperand::kRip, 4, false}}};
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
    unsigned address_size = 0;  // of its registers; 0: none
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
        if (named) out.address_size = named->size;
        if (star == std::string::npos) {
            out.base = name;
        } else {
            if (named) out.index = name.substr(0, star);
            out.scale = static_cast<unsigned>(number(name.substr(star + 1)));
        }
    }
    return out;
}

const char* segment_text(SegmentName segment) {
    constexpr const char* kNames[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    return kNames[static_cast<std::size_t>(segment)];
}

void expect_memory(const MmioInstruction& found, const MemoryText& expected, const Encoding& row) {
    const MemoryOperand& memory = found.memory;
    EXPECT_EQ(memory.base, expected.base.empty() ? MemoryOperand::kNone : register_named(expected.base)->index);
    EXPECT_EQ(memory.index, expected.index.empty() ? MemoryOperand::kNone : register_named(expected.index)->index);
    if (!expected.index.empty()) {
        EXPECT_EQ(memory.scale, expected.scale);
    }
    const std::uint64_t mask = memory.address_bits == 64 ? ~std::uint64_t{0} : 0xffffffff;
    EXPECT_EQ(memory.displacement & mask, expected.displacement & mask);
    if (expected.address_size != 0) {
        EXPECT_EQ(memory.address_bits, expected.address_size * 8);
    }
    const bool stack =
        expected.base == "rsp" || expected.base == "esp" || expected.base == "rbp" || expected.base == "ebp";
    const bool flat = row.bits == 64 && expected.segment != "fs" && expected.segment != "gs";
    if (!flat) {
        EXPECT_EQ(segment_text(memory.segment), expected.segment.empty() ? (stack ? "ss" : "ds") : expected.segment);
    } else {
        EXPECT_TRUE(memory.segment != SegmentName::kFs && memory.segment != SegmentName::kGs);
    }
}

TEST(Decoder, AgreesWithObjdump) {
    for (const Encoding& row : kEncodings) {
        SCOPED_TRACE(row.text);
        const auto code = bytes_of(row.bytes);
        const auto found = decode_mmio(code, row.bits == 64 ? CodeSize::k64 : CodeSize::k32);
        ASSERT_TRUE(found.ok()) << error_name(found.error());
        EXPECT_EQ(found->length, code.size());

        std::string text = row.text;
        for (const char* prefix : {"es ", "cs ", "ds ", "ss "}) {
            if (text.rfind(prefix, 0) == 0) text = text.substr(3);
        }
        const std::string mnemonic = text.substr(0, text.find(' '));
        const std::string operands = text.substr(text.find(' ') + 1);
        const std::string first = operands.substr(0, operands.find(','));
        const std::string second = operands.substr(operands.find(',') + 1);
        const auto target = register_named(first);
        EXPECT_EQ(found->write, !target);
        EXPECT_EQ(found->sign_extend, mnemonic == "movsx" || mnemonic == "movsxd");
        const MemoryText memory = parse_memory(target ? second : first);
        const auto reg = target ? target : register_named(second);
        EXPECT_EQ(found->immediate, !reg);
        if (reg) {
            EXPECT_EQ(found->reg, reg->index);
            EXPECT_EQ(found->high_byte, reg->high);
        } else {
            const std::uint64_t mask = found->size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * found->size) - 1;
            EXPECT_EQ(found->value & mask, number(second) & mask);
        }
        EXPECT_EQ(found->size, memory.size != 0 ? memory.size : reg->size);
        if (target) {
            EXPECT_EQ(found->reg_size, target->size);
        }
        expect_memory(*found, memory, row);
    }
}

TEST(Decoder, SaysTruncatedAtEveryShorterLength) {
    for (const Encoding& row : kEncodings) {
        const auto code = bytes_of(row.bytes);
        for (std::size_t size = 0; size < code.size(); ++size) {
            const auto found = decode_mmio(Bytes(code).first(size), row.bits == 64 ? CodeSize::k64 : CodeSize::k32);
            EXPECT_EQ(found.error(), Error::kTruncated) << row.text << " cut to " << size;
        }
    }
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
        EXPECT_EQ(decode_mmio(bytes_of(hex), CodeSize::k64).error(), Error::kUnsupported) << hex;
    }
    EXPECT_EQ(decode_mmio(bytes_of("67 89 07"), CodeSize::k32).error(), Error::kUnsupported) << "16-bit address";
    EXPECT_EQ(decode_mmio(bytes_of("63 07"), CodeSize::k32).error(), Error::kUnsupported) << "arpl";
    EXPECT_EQ(decode_mmio(bytes_of("89 07"), CodeSize::k16).error(), Error::kUnsupported) << "real mode";
}

TEST(Decoder, RefusesMoreThanFifteenBytes) {
    std::vector<std::byte> code(14, std::byte{0x66});
    code.push_back(std::byte{0x89});
    code.push_back(std::byte{0x07});
    EXPECT_EQ(decode_mmio(code, CodeSize::k64).error(), Error::kTruncated);
    code.erase(code.begin());
    EXPECT_TRUE(decode_mmio(code, CodeSize::k64).ok());
}

TEST(Decoder, RexCountsOnlyRightBeforeTheOpcode) {
    const auto with = decode_mmio(bytes_of("66 48 89 07"), CodeSize::k64);
    ASSERT_TRUE(with.ok());
    EXPECT_EQ(with->size, 8);
    const auto without = decode_mmio(bytes_of("48 66 89 07"), CodeSize::k64);
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
            for (const CodeSize mode : {CodeSize::k16, CodeSize::k32, CodeSize::k64}) {
                const auto found = decode_mmio(Bytes(code).first(size), mode);
                if (!found.ok()) continue;
                ASSERT_LE(found->length, size);
                ASSERT_TRUE(found->size == 1 || found->size == 2 || found->size == 4 || found->size == 8);
                ASSERT_LT(found->reg, 16);
                ASSERT_TRUE(!found->high_byte || found->reg < 4);
            }
        }
    }
}

std::uint64_t loaded(const char* hex, std::uint64_t old, std::uint64_t value) {
    return merge_register(*decode_mmio(bytes_of(hex), CodeSize::k64), old, value);
}

TEST(Decoder, LoadsChangeAsMuchOfARegisterAsTheProcessorWould) {
    constexpr std::uint64_t kOld = 0x1111111111111111, kValue = 0x8182838485868788;
    EXPECT_EQ(loaded("8a 07", kOld, kValue), 0x1111111111111188u);        // mov al
    EXPECT_EQ(loaded("8a 27", kOld, kValue), 0x1111111111118811u);        // mov ah
    EXPECT_EQ(loaded("66 8b 07", kOld, kValue), 0x1111111111118788u);     // mov ax
    EXPECT_EQ(loaded("8b 07", kOld, kValue), 0x0000000085868788u);        // mov eax
    EXPECT_EQ(loaded("48 8b 07", kOld, kValue), kValue);                  // mov rax
    EXPECT_EQ(loaded("66 0f b6 07", kOld, kValue), 0x1111111111110088u);  // movzx ax, byte
    EXPECT_EQ(loaded("66 0f be 07", kOld, kValue), 0x111111111111ff88u);  // movsx ax, byte
    EXPECT_EQ(loaded("0f b7 07", kOld, kValue), 0x0000000000008788u);     // movzx eax, word
    EXPECT_EQ(loaded("0f bf 07", kOld, kValue), 0x00000000ffff8788u);     // movsx eax, word
    EXPECT_EQ(loaded("48 0f be 07", kOld, kValue), 0xffffffffffffff88u);  // movsx rax, byte
    EXPECT_EQ(loaded("48 63 07", kOld, kValue), 0xffffffff85868788u);     // movsxd rax, dword
    EXPECT_EQ(loaded("48 63 07", kOld, 0x7fffffff), 0x000000007fffffffu);
}

TEST(Decoder, MeasuresOpcodesWithPrefixes) {
    EXPECT_EQ(prefixed_length(bytes_of("0f a2"), CodeSize::k64, 0x0fa2, 2), 2u);
    EXPECT_EQ(prefixed_length(bytes_of("48 0f a2 90"), CodeSize::k64, 0x0fa2, 2), 3u);
    EXPECT_EQ(prefixed_length(bytes_of("2e 66 0f a2"), CodeSize::k32, 0x0fa2, 2), 4u);
    EXPECT_EQ(prefixed_length(bytes_of("48 0f a2"), CodeSize::k32, 0x0fa2, 2), 2u) << "48 is DEC EAX there";
    EXPECT_EQ(prefixed_length(bytes_of("0f 30"), CodeSize::k64, 0x0fa2, 2), 2u) << "changed meanwhile";
    EXPECT_EQ(prefixed_length({}, CodeSize::k64, 0x0fa2, 2), 2u);
}

}  // namespace
}  // namespace gatehouse::cpu
