// The machine's ACPI tables, read as hostile bytes: the firmware and everything
// after it may have forged them. AML is never run, and nothing that protects the
// hypervisor or its keys is taken from them. ACPI Specification 6.5, section 5.2.
#pragma once

#include "hypervisor/launch/launch_block.hpp"

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
using launch::kRsdpSize;

// "ACPI ", signature, a blank, OEM table ID; what is not printable in them is a blank. Of at least a header.
using AcpiTableName = std::array<char, 18>;
[[nodiscard]] AcpiTableName acpi_table_name(Bytes table);
// Makes the sum of `bytes` zero by the one at `at`.
void fix_acpi_checksum(MutableBytes bytes, std::size_t at);

struct AcpiTable {
    std::uint32_t signature = 0;
    std::uint64_t address = 0;
    Bytes bytes;
};
// The whole table at `address`: kOutOfRange if it is not readable, kBadLength, kBadChecksum.
[[nodiscard]] Result<AcpiTable> read_acpi_table(AcpiMemory& memory, std::uint64_t address);

inline constexpr std::size_t kMaxAcpiTables = 96;
struct AcpiRoot {
    Bytes entries;  // addresses of tables; 0: none
    std::size_t entry_size;
};
// The XSDT, or the RSDT of a revision 0 RSDP. kTruncated, kBadMagic, kBadChecksum, kBadLength,
// kOutOfRange (of the RSDP or the root), kNoSpace (more than kMaxAcpiTables entries).
[[nodiscard]] Result<AcpiRoot> find_acpi_root(Bytes rsdp, AcpiMemory& memory);

}  // namespace gatehouse::platform
