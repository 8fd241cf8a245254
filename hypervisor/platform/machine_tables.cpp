#include "hypervisor/platform/machine_tables.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::uint32_t kHidden[] = {signature("IVRS"), signature("DMAR"), signature("TPM2"), signature("TCPA"),
                                     signature("DRTM"), signature("GTHS"), signature("DSDT")};

// Offsets in a FADT of revision 3 or later, which has the extended addresses: generic address structures but for two.
constexpr std::size_t kFirmwareControl = 36, kDsdt = 40, kPm1aControl = 64, kPm1bControl = 68,
                      kExtendedFirmwareControl = 132, kExtendedDsdt = 140, kExtendedPm1aControl = 172,
                      kExtendedPm1bControl = 184, kAddress = 4, kShortestFadt = 244;

std::uint32_t u32(Bytes table, std::size_t at) { return load<std::uint32_t>(&table[at], Endian::kLittle); }
std::uint64_t u64(Bytes table, std::size_t at) { return load<std::uint64_t>(&table[at], Endian::kLittle); }

// The DSDT's address.
Result<std::uint64_t> check_fadt(Bytes fadt, std::uint16_t pm1_control) {
    constexpr std::byte kPorts{1};
    if (fadt.size() < kShortestFadt) return {Error::kBadLength, "FADT", fadt.size()};
    const std::uint64_t extended = u64(fadt, kExtendedPm1aControl + kAddress);
    if (u32(fadt, kPm1aControl) != pm1_control || u32(fadt, kPm1bControl) != 0 ||
        (extended != 0 && (extended != pm1_control || fadt[kExtendedPm1aControl] != kPorts)) ||
        u64(fadt, kExtendedPm1bControl + kAddress) != 0) {
        return {Error::kMismatch, "FADT: PM1 control register is not the chipset's", u32(fadt, kPm1aControl)};
    }
    const std::uint64_t dsdt = u64(fadt, kExtendedDsdt);
    return dsdt != 0 ? dsdt : u32(fadt, kDsdt);
}

}  // namespace

Status MachineTables::add(const AcpiTable& table) {
    if (count_ == tables_.size() || table.bytes.size() > room_.size() - used_) {
        const AcpiTableName name = acpi_table_name(table.bytes);
        log("gatehouse: no room for ", std::string_view(name.data(), name.size()));
        return {Error::kNoSpace, "ACPI table", table.bytes.size()};
    }
    const MutableBytes copy = room_.subspan(used_, table.bytes.size());
    copy_bytes(copy, table.bytes);
    tables_[count_++] = {table.signature, physical_ + used_, copy};
    used_ = std::min(room_.size(), (used_ + copy.size() + 15) & ~std::size_t{15});
    return {};
}

Status MachineTables::copy(Bytes rsdp, AcpiMemory& memory, std::uint16_t pm1_control, MutableBytes room,
                           std::uint64_t physical) {
    room_ = room;
    physical_ = physical;
    bool has_fadt = false;
    GATEHOUSE_ASSIGN(const AcpiRoot root, find_acpi_root(rsdp, memory));
    for (Reader reader(root.entries); reader.remaining() >= root.entry_size;) {
        const std::uint64_t place = root.entry_size == 8 ? reader.u64() : reader.u32();
        if (place == 0) continue;
        const auto table = read_acpi_table(memory, place);
        if (!table) {
            log("gatehouse: left out: ", table.failure());
            continue;
        }
        if (std::ranges::find(kHidden, table->signature) != std::end(kHidden)) continue;
        GATEHOUSE_TRY(add(*table));
        if (table->signature != signature("FACP")) continue;
        if (has_fadt) return {Error::kBadValue, "FADT: more than one"};
        has_fadt = true;
        fadt_ = count_ - 1;
        GATEHOUSE_ASSIGN(const std::uint64_t address, check_fadt(tables_[fadt_].bytes, pm1_control));
        GATEHOUSE_ASSIGN(const AcpiTable dsdt, read_acpi_table(memory, address));
        if (dsdt.signature != signature("DSDT")) return {Error::kBadMagic, "DSDT", address};
        GATEHOUSE_TRY(add(dsdt));
    }
    if (!has_fadt) return {Error::kNotFound, "FADT"};
    return {};
}

void MachineTables::link() {
    const AcpiTable& copy = tables_[fadt_];
    const MutableBytes fadt = room_.subspan(copy.address - physical_, copy.bytes.size());
    const std::uint64_t dsdt = tables_[fadt_ + 1].address;
    store(&fadt[kFirmwareControl], std::uint32_t{0}, Endian::kLittle);
    store(&fadt[kDsdt], static_cast<std::uint32_t>(dsdt), Endian::kLittle);
    store(&fadt[kExtendedFirmwareControl], std::uint64_t{0}, Endian::kLittle);
    store(&fadt[kExtendedDsdt], dsdt, Endian::kLittle);
    fix_acpi_checksum(fadt, 9);
}

}  // namespace gatehouse::platform
