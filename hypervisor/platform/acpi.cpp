#include "hypervisor/platform/acpi.hpp"

#include <algorithm>

namespace gatehouse::platform {
namespace {

constexpr std::size_t kLengthAt = 4;

std::uint8_t sum(Bytes bytes) {
    unsigned total = 0;
    for (const std::byte byte : bytes) total += std::to_integer<unsigned>(byte);
    return static_cast<std::uint8_t>(total);
}

// A whole table at `address`.
Result<Bytes> table_at(AcpiMemory& memory, std::uint64_t address) {
    const Bytes header = memory.view(address, kAcpiHeaderSize);
    if (header.empty()) return {Error::kOutOfRange, "ACPI table", address};
    const auto length = load<std::uint32_t>(header.data() + kLengthAt, Endian::kLittle);
    if (length < kAcpiHeaderSize || length > AcpiTables::kMaxTableSize) {
        return {Error::kBadLength, "ACPI table", length};
    }
    const Bytes table = memory.view(address, length);
    if (table.empty()) return {Error::kOutOfRange, "ACPI table", address};
    if (sum(table) != 0) return {Error::kBadChecksum, "ACPI table", address};
    return table;
}

struct Root {
    Bytes entries;
    std::size_t entry_size;
};

Result<Root> find_root(Bytes rsdp, AcpiMemory& memory) {
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
    GATEHOUSE_ASSIGN(const Bytes table, table_at(memory, use_xsdt ? xsdt : rsdt));
    const std::uint32_t wanted = use_xsdt ? signature("XSDT") : signature("RSDT");
    if (load<std::uint32_t>(table.data(), Endian::kLittle) != wanted) return {Error::kBadMagic, "ACPI root table"};
    return Root{table.subspan(kAcpiHeaderSize), use_xsdt ? sizeof(std::uint64_t) : sizeof(std::uint32_t)};
}

}  // namespace

Status AcpiTables::open(Bytes rsdp, AcpiMemory& memory) {
    GATEHOUSE_ASSIGN(const Root root, find_root(rsdp, memory));
    for (Reader reader(root.entries); reader.remaining() >= root.entry_size;) {
        const std::uint64_t address = root.entry_size == 8 ? reader.u64() : reader.u32();
        if (address == 0) continue;
        if (count_ + left_out_ == kMaxTables) return {Error::kNoSpace, "ACPI tables", kMaxTables};
        const auto table = table_at(memory, address);
        if (!table) {
            ++left_out_;
            continue;
        }
        tables_[count_++] = {load<std::uint32_t>(table->data(), Endian::kLittle), address, *table};
    }
    return {};
}

Bytes AcpiTables::find(std::uint32_t wanted) const {
    const auto found = std::ranges::find(all(), wanted, &Table::signature);
    return found == all().end() ? Bytes{} : found->bytes;
}

}  // namespace gatehouse::platform
