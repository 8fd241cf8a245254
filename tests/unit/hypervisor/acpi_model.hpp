// ACPI tables in memory for tests: those that were collected on the emulated machine, and made ones.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "hypervisor/platform/acpi.hpp"

namespace gatehouse::platform {

using Octets = std::vector<std::byte>;

inline constexpr std::uint64_t kRsdpAt = 0xf0000;
inline constexpr std::uint64_t kRootAt = 0x100000;

inline void fix_checksum(Octets& table, std::size_t at, std::size_t size) {
    table[at] = std::byte{0};
    unsigned sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += std::to_integer<unsigned>(table[i]);
    table[at] = static_cast<std::byte>(-sum);
}

template <std::unsigned_integral T>
void put(Octets& table, std::size_t at, T value) {
    store(table.data() + at, value, Endian::kLittle);
}

inline Octets make_table(const char (&name)[5], const Octets& body) {
    Octets table(kAcpiHeaderSize);
    put(table, 0, signature(name));
    put(table, 4, static_cast<std::uint32_t>(kAcpiHeaderSize + body.size()));
    table.insert(table.end(), body.begin(), body.end());
    fix_checksum(table, 9, table.size());
    return table;
}

template <std::unsigned_integral T>
Octets integers(std::initializer_list<T> values) {
    Octets out(values.size() * sizeof(T));
    std::size_t at = 0;
    for (const T value : values) put(out, std::exchange(at, at + sizeof(T)), value);
    return out;
}

// Pieces of physical memory; nothing else is readable.
class FakeMemory final : public AcpiMemory {
  public:
    Bytes view(std::uint64_t physical, std::uint64_t size) override {
        for (const auto& [address, bytes] : pieces) {
            if (physical >= address && physical - address <= bytes.size() &&
                size <= bytes.size() - (physical - address)) {
                return Bytes(bytes).subspan(physical - address, size);
            }
        }
        return {};
    }
    [[nodiscard]] Octets* named(const char (&name)[5]) {
        for (auto& [address, bytes] : pieces) {
            if (load<std::uint32_t>(bytes.data(), Endian::kLittle) == signature(name)) return &bytes;
        }
        return nullptr;
    }
    std::vector<std::pair<std::uint64_t, Octets>> pieces;
};

// What a root table leads to, in its order; what is not readable is left out.
class AcpiTables {
  public:
    Status open(Bytes rsdp, AcpiMemory& memory) {
        GATEHOUSE_ASSIGN(const AcpiRoot root, find_acpi_root(rsdp, memory));
        tables_.clear();
        for (Reader reader(root.entries); reader.remaining() >= root.entry_size;) {
            const auto table = read_acpi_table(memory, root.entry_size == 8 ? reader.u64() : reader.u32());
            if (table) tables_.push_back(*table);
        }
        return {};
    }
    [[nodiscard]] const std::vector<AcpiTable>& all() const { return tables_; }

  private:
    std::vector<AcpiTable> tables_;
};

struct Firmware {
    Octets rsdp;  // as the launch block has it: 36 bytes
    FakeMemory memory;
};

// Tables as collect.py has found them on the emulated machine.
inline Firmware collected(const std::string& file) {
    std::ifstream in(std::string(GATEHOUSE_TEST_DATA) + "/acpi/" + file, std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
    EXPECT_FALSE(text.empty()) << file;
    Reader reader(std::as_bytes(std::span(text)));
    Firmware out;
    while (reader.remaining() != 0) {
        const std::uint64_t address = reader.u64();
        const Bytes bytes = reader.bytes(reader.u32());
        out.memory.pieces.emplace_back(address, Octets(bytes.begin(), bytes.end()));
    }
    EXPECT_FALSE(reader.failed());
    out.rsdp = out.memory.pieces.at(0).second;
    out.rsdp.resize(kRsdpSize);
    return out;
}

// A revision 2 RSDP, an XSDT at kRootAt and these tables.
inline Firmware made(const std::vector<std::pair<std::uint64_t, Octets>>& tables) {
    Firmware out;
    Octets entries;
    for (const auto& [address, bytes] : tables) {
        const Octets entry = integers<std::uint64_t>({address});
        entries.insert(entries.end(), entry.begin(), entry.end());
    }
    out.memory.pieces.emplace_back(kRootAt, make_table("XSDT", entries));
    for (const auto& table : tables) out.memory.pieces.push_back(table);
    out.rsdp.resize(kRsdpSize);
    copy_bytes(out.rsdp, literal_bytes("RSD PTR "));
    put(out.rsdp, 15, std::uint8_t{2});
    put(out.rsdp, 20, std::uint32_t{kRsdpSize});
    put(out.rsdp, 24, kRootAt);
    fix_checksum(out.rsdp, 8, 20);
    fix_checksum(out.rsdp, 32, kRsdpSize);
    return out;
}

inline Status open(Firmware& firmware, AcpiTables& tables) { return tables.open(firmware.rsdp, firmware.memory); }

}  // namespace gatehouse::platform
