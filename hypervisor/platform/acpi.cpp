#include "hypervisor/platform/acpi.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::size_t kLengthAt = 4;

std::uint8_t sum(Bytes bytes) {
    unsigned total = 0;
    for (const std::byte byte : bytes) total += std::to_integer<unsigned>(byte);
    return static_cast<std::uint8_t>(total);
}

}  // namespace

AcpiTableName acpi_table_name(Bytes table) {
    constexpr std::size_t kSignatureAt = 0, kOemTableIdAt = 16;
    AcpiTableName name{'A', 'C', 'P', 'I', ' '};
    std::memcpy(&name[5], &table[kSignatureAt], 4);
    std::memcpy(&name[10], &table[kOemTableIdAt], 8);
    for (char& letter : name) letter = letter < ' ' || letter > '~' ? ' ' : letter;
    return name;
}

void fix_acpi_checksum(MutableBytes bytes, std::size_t at) {
    bytes[at] = static_cast<std::byte>(std::to_integer<unsigned>(bytes[at]) - sum(bytes));
}

Result<AcpiTable> read_acpi_table(AcpiMemory& memory, std::uint64_t address) {
    const Bytes header = memory.view(address, kAcpiHeaderSize);
    if (header.empty()) return {Error::kOutOfRange, "ACPI table", address};
    const auto length = load<std::uint32_t>(header.data() + kLengthAt, Endian::kLittle);
    if (length < kAcpiHeaderSize) return {Error::kBadLength, "ACPI table", length};
    const Bytes table = memory.view(address, length);
    if (table.empty()) return {Error::kOutOfRange, "ACPI table", address};
    if (sum(table) != 0) return {Error::kBadChecksum, "ACPI table", address};
    return AcpiTable{load<std::uint32_t>(table.data(), Endian::kLittle), address, table};
}

Result<AcpiRoot> find_acpi_root(Bytes rsdp, AcpiMemory& memory) {
    if (rsdp.size() < kRsdpSize) return {Error::kTruncated, "RSDP", rsdp.size()};
    if (!equal_bytes(rsdp.first(8), literal_bytes("RSD PTR "))) return {Error::kBadMagic, "RSDP"};
    if (sum(rsdp.first(20)) != 0) return {Error::kBadChecksum, "RSDP"};
    Reader reader(rsdp.subspan(15));
    const bool extended = reader.u8() >= 2;
    const std::uint64_t rsdt = reader.u32();
    reader.skip(4);
    const std::uint64_t xsdt = reader.u64();
    if (extended && sum(rsdp.first(kRsdpSize)) != 0) return {Error::kBadChecksum, "RSDP"};
    const bool use_xsdt = extended && xsdt != 0;
    GATEHOUSE_ASSIGN(const AcpiTable table, read_acpi_table(memory, use_xsdt ? xsdt : rsdt));
    const std::uint32_t wanted = use_xsdt ? signature("XSDT") : signature("RSDT");
    if (table.signature != wanted) return {Error::kBadMagic, "ACPI root table"};
    const AcpiRoot root{table.bytes.subspan(kAcpiHeaderSize), use_xsdt ? sizeof(std::uint64_t) : sizeof(std::uint32_t)};
    if (root.entries.size() / root.entry_size > kMaxAcpiTables) return {Error::kNoSpace, "ACPI tables", kMaxAcpiTables};
    return root;
}

}  // namespace gatehouse::platform
