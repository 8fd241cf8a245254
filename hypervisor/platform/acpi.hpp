// The machine's ACPI tables, read as hostile bytes: the firmware and everything after it may have forged them. AML is
// never run, and nothing that protects the hypervisor or its keys is taken from them. ACPI Specification 6.5, section 5.2.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::platform {

// Memory that may hold tables.
class AcpiMemory {
  public:
    // `size` bytes at a physical address; empty if they may not be read.
    [[nodiscard]] virtual Bytes view(std::uint64_t physical, std::uint64_t size) = 0;

  protected:
    ~AcpiMemory() = default;
};

[[nodiscard]] constexpr std::uint32_t signature(const char (&text)[5]) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(text[i])} << (8 * i);
    return value;
}

inline constexpr std::size_t kAcpiHeaderSize = 36;
inline constexpr std::size_t kRsdpSize = 36;

// "ACPI ", signature, a blank, OEM table ID; what is not printable in them is a blank. Of at least a header.
using AcpiTableName = std::array<char, 18>;
[[nodiscard]] AcpiTableName acpi_table_name(Bytes table);
// Makes the sum of `bytes` zero by the one at `at`.
void fix_acpi_checksum(MutableBytes bytes, std::size_t at);

class AcpiTables {
  public:
    static constexpr std::size_t kMaxTables = 96;
    struct Table {
        std::uint32_t signature = 0;
        std::uint64_t address = 0;
        Bytes bytes;
    };

    // The whole table at `address`: kOutOfRange if it is not readable, kBadLength, kBadChecksum.
    [[nodiscard]] static Result<Table> read(AcpiMemory& memory, std::uint64_t address);
    // Reads the RSDP's root table: the XSDT, or the RSDT of a revision 0 RSDP. An entry whose table is not readable, too
    // short or of a wrong checksum is left out, with a line. Errors: kTruncated, kBadMagic, kBadChecksum, kBadLength,
    // kOutOfRange (of the RSDP or the root), kNoSpace (more than kMaxTables entries).
    [[nodiscard]] Status open(Bytes rsdp, AcpiMemory& memory);
    [[nodiscard]] std::span<const Table> all() const { return std::span(tables_).first(count_); }

  private:
    std::array<Table, kMaxTables> tables_{};
    std::size_t count_ = 0;
};

}  // namespace gatehouse::platform
