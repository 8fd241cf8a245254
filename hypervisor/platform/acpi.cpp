#include "hypervisor/platform/acpi.hpp"

#include <algorithm>

namespace gatehouse::platform {
namespace {

constexpr std::size_t kLengthAt = 4;
constexpr std::size_t kChecksumAt = 9;

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

// A generic address structure (5.2.3.2) that is a port; 0 for any other.
std::uint16_t port_of(Bytes fadt, std::size_t at) {
    constexpr std::uint8_t kSystemIo = 1;
    if (fadt.size() < at + 12 || fadt[at] != std::byte{kSystemIo}) return 0;
    const auto address = load<std::uint64_t>(fadt.data() + at + 4, Endian::kLittle);
    return address <= 0xffff ? static_cast<std::uint16_t>(address) : std::uint16_t{0};
}

void write_header(Writer& writer, std::uint32_t table_signature, std::uint32_t length) {
    writer.u32(table_signature);
    writer.u32(length);
    writer.u8(1);  // revision
    writer.u8(0);  // checksum
    writer.bytes(literal_bytes("GATEHS"));
    writer.bytes(literal_bytes("GATEHOUS"));
    writer.u32(1);
    writer.bytes(literal_bytes("GTHS"));
    writer.u32(1);
}

void fix_checksum(MutableBytes bytes, std::size_t at) {
    bytes[at] = std::byte{0};
    bytes[at] = static_cast<std::byte>(-sum(bytes));
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

Status read_madt(Bytes madt, CpuList& cpus) {
    constexpr std::size_t kEntriesAt = 44;
    constexpr std::uint32_t kEnabled = 1;
    if (madt.size() < kEntriesAt) return {Error::kTruncated, "MADT", madt.size()};
    for (Reader reader(madt.subspan(kEntriesAt)); reader.remaining() >= 2;) {
        const std::uint8_t type = reader.u8();
        const std::uint8_t length = reader.u8();
        if (length < 2) return {Error::kBadLength, "MADT entry", reader.offset()};
        Reader entry(reader.bytes(length - 2u));
        GATEHOUSE_TRY(reader.status("MADT entry"));
        std::uint32_t id = 0;
        std::uint32_t broadcast = 0;
        if (type == 0) {  // processor local APIC
            entry.skip(1);
            id = entry.u8();
            broadcast = 0xff;
        } else if (type == 9) {  // processor local x2APIC
            entry.skip(2);
            id = entry.u32();
            broadcast = 0xffffffff;
        } else {
            continue;
        }
        const std::uint32_t flags = entry.u32();
        GATEHOUSE_TRY(entry.status("MADT entry"));
        if ((flags & kEnabled) == 0 || std::ranges::find(cpus.all(), id) != cpus.all().end()) continue;
        if (id == broadcast) return {Error::kBadValue, "MADT: APIC ID", id};
        if (cpus.count == cpus.apic_ids.size()) return {Error::kNoSpace, "processors", cpus.count};
        cpus.apic_ids[cpus.count++] = id;
    }
    return {};
}

Result<FadtPorts> read_fadt(Bytes fadt) {
    constexpr std::size_t kPm1a = 64, kPm1b = 68, kFlags = 112, kReset = 116, kResetValue = 128;
    constexpr std::size_t kExtendedPm1a = 172, kExtendedPm1b = 184;
    constexpr std::uint32_t kResetSupported = 1u << 10;
    if (fadt.size() < kFlags + 4) return {Error::kTruncated, "FADT", fadt.size()};
    const auto word = [&](std::size_t at) { return load<std::uint32_t>(fadt.data() + at, Endian::kLittle); };
    FadtPorts ports;
    ports.pm1a_control = port_of(fadt, kExtendedPm1a);
    ports.pm1b_control = port_of(fadt, kExtendedPm1b);
    if (ports.pm1a_control == 0 && word(kPm1a) <= 0xffff) ports.pm1a_control = static_cast<std::uint16_t>(word(kPm1a));
    if (ports.pm1b_control == 0 && word(kPm1b) <= 0xffff) ports.pm1b_control = static_cast<std::uint16_t>(word(kPm1b));
    if (ports.pm1a_control == 0) return {Error::kUnsupported, "FADT: PM1 control register is not a port"};
    if ((word(kFlags) & kResetSupported) != 0 && fadt.size() > kResetValue) {
        ports.reset = port_of(fadt, kReset);
        ports.reset_value = std::to_integer<std::uint8_t>(fadt[kResetValue]);
    }
    return ports;
}

Result<std::size_t> build_guest_root(const AcpiTables& tables, std::span<const std::uint32_t> hidden,
                                     std::uint32_t extra_signature, Bytes extra_body, MutableBytes out,
                                     std::uint64_t physical) {
    const auto is_shown = [&](const AcpiTables::Table& table) {
        return std::ranges::find(hidden, table.signature) == hidden.end();
    };
    const auto shown = static_cast<std::size_t>(std::ranges::count_if(tables.all(), is_shown));
    constexpr std::size_t kXsdtAt = 48;  // after the RSDP, 16-byte aligned
    const std::size_t xsdt_size = kAcpiHeaderSize + 8 * (shown + 1);
    const std::size_t extra_at = (kXsdtAt + xsdt_size + 15) & ~std::size_t{15};
    const std::size_t extra_size = kAcpiHeaderSize + extra_body.size();
    if (out.size() < extra_at + extra_size) return {Error::kNoSpace, "guest ACPI tables", out.size()};

    std::ranges::fill(out, std::byte{0});
    Writer rsdp(out.first(kRsdpSize));
    rsdp.bytes(literal_bytes("RSD PTR "));
    rsdp.u8(0);
    rsdp.bytes(literal_bytes("GATEHS"));
    rsdp.u8(2);
    rsdp.u32(0);  // no RSDT
    rsdp.u32(kRsdpSize);
    rsdp.u64(physical + kXsdtAt);
    fix_checksum(out.first(20), 8);
    fix_checksum(out.first(kRsdpSize), 32);

    const MutableBytes xsdt_bytes = out.subspan(kXsdtAt, xsdt_size);
    Writer xsdt(xsdt_bytes);
    write_header(xsdt, signature("XSDT"), static_cast<std::uint32_t>(xsdt_size));
    for (const AcpiTables::Table& table : tables.all()) {
        if (is_shown(table)) xsdt.u64(table.address);
    }
    xsdt.u64(physical + extra_at);
    fix_checksum(xsdt_bytes, kChecksumAt);

    const MutableBytes extra_bytes = out.subspan(extra_at, extra_size);
    Writer extra(extra_bytes);
    write_header(extra, extra_signature, static_cast<std::uint32_t>(extra_size));
    extra.bytes(extra_body);
    fix_checksum(extra_bytes, kChecksumAt);
    return extra_at + extra_size;
}

}  // namespace gatehouse::platform
