// The machine's own ACPI tables for the guest, with acpi = machine: copied before anything
// is believed of them, measured (PCR 19) as copied, and handed on from the copy.
//
// Handed on is what the XSDT lists, in its order, and the DSDT right after the FADT that names it. Kept from the
// guest are the tables of what the hypervisor has for itself (IVRS, DMAR, TPM2, TCPA, DRTM), and a GTHS, which
// is not the machine's. AML is run by the guest alone, which could do all that it does: no trap is set, and no
// memory given, by a table's word. AML that it loads from elsewhere in memory (Load) is not measured.
// S3 cannot be hidden, as that takes AML: guest/power_ports.hpp ends the guest instead. ACPI Specification 6.5, 5.2.9.
#pragma once

#include "hypervisor/platform/acpi.hpp"

namespace gatehouse::platform {

class MachineTables {
  public:
    // Copies the tables of `rsdp` into `room`, which is at `physical`, below 4 GiB and 16-byte aligned.
    // `pm1_control` is the chipset's. kNoSpace, with a line that names the table; kNotFound (no FADT), kBadLength
    // (one below revision 3), kBadValue (more than one FADT), kMismatch "FADT: PM1 control register is not the
    // chipset's"; errors of read_acpi_table() for the DSDT, kBadMagic; errors of find_acpi_root(). Any other
    // table that is not readable, too short or of a wrong checksum is left out, with a line.
    [[nodiscard]] Status copy(Bytes rsdp, AcpiMemory& memory, std::uint16_t pm1_control, MutableBytes room,
                              std::uint64_t physical);
    // Copies, with their addresses, in the order of handing on.
    [[nodiscard]] std::span<const AcpiTable> all() const { return std::span(tables_).first(count_); }
    // Once they are measured: the FADT names the DSDT's copy, and no FACS.
    void link();

  private:
    [[nodiscard]] Status add(const AcpiTable& table);

    std::array<AcpiTable, kMaxAcpiTables + 1> tables_{};
    std::size_t count_ = 0;
    MutableBytes room_;
    std::uint64_t physical_ = 0;
    std::size_t used_ = 0;
    std::size_t fadt_ = 0;  // among tables_; the DSDT is the next
};

}  // namespace gatehouse::platform
