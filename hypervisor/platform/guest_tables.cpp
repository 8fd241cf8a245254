#include "hypervisor/platform/guest_tables.hpp"

#include <algorithm>

namespace gatehouse::platform {
namespace {

constexpr std::uint8_t kSciInterrupt = 9;
constexpr std::size_t kXsdtAt = 48;                     // after the RSDP, 16-byte aligned
constexpr std::size_t kMaxTables = kMaxAcpiTables + 1;  // and ours
constexpr std::size_t kTablesAt = (kXsdtAt + kAcpiHeaderSize + 8 * kMaxTables + 15) & ~std::size_t{15};

// RSDP, XSDT, then tables one after the other, each at the next 16-byte boundary.
class Tables {
  public:
    // `out` has room for kTablesAt bytes.
    Tables(MutableBytes out, std::uint64_t physical) : out_(out), physical_(physical), xsdt_(out.subspan(kXsdtAt)) {
        Writer rsdp(out);
        rsdp.bytes(literal_bytes("RSD PTR "));
        rsdp.u8(0);
        rsdp.bytes(literal_bytes("GATEHS"));
        rsdp.u8(2);
        rsdp.u32(0);  // no RSDT
        rsdp.u32(kRsdpSize);
        rsdp.u64(physical + kXsdtAt);
        fix_acpi_checksum(out.first(20), 8);
        fix_acpi_checksum(out.first(kRsdpSize), 32);
        write_header(xsdt_, "XSDT", 1);
    }
    // Where the next table will be.
    [[nodiscard]] std::uint64_t next() const { return physical_ + at_; }
    void list(std::uint64_t address) { xsdt_.u64(address); }
    // The next table; `write` writes what follows its header. The DSDT is not listed: the FADT names it.
    template <typename Write>
    [[nodiscard]] Status add(const char (&name)[5], std::uint8_t revision, Write write) {
        Writer table(out_.subspan(std::min(at_, out_.size())));
        write_header(table, name, revision);
        write(table);
        GATEHOUSE_TRY(table.status("guest ACPI tables"));
        finish(table, at_);
        if (signature(name) != signature("DSDT")) list(next());
        at_ += (table.offset() + 15) & ~std::size_t{15};
        return {};
    }
    void finish_root() { finish(xsdt_, kXsdtAt); }

  private:
    static void write_header(Writer& table, const char (&name)[5], std::uint8_t revision) {
        table.u32(signature(name));
        table.u32(0);  // length
        table.u8(revision);
        table.u8(0);  // checksum
        table.bytes(literal_bytes("GATEHSGATEHOUS"));
        table.u32(1);
        table.bytes(literal_bytes("GTHS"));
        table.u32(1);
    }
    void finish(Writer& table, std::size_t at) {
        table.patch(4, static_cast<std::uint32_t>(table.offset()));
        fix_acpi_checksum(out_.subspan(at, table.offset()), 9);
    }

    MutableBytes out_;
    std::uint64_t physical_;
    Writer xsdt_;
    std::size_t at_ = kTablesAt;
};

void write_dsdt(Writer& aml, std::uint8_t s5_type) {
    aml.bytes(literal_bytes("\x08_S5_\x12\x08\x04"));  // Name, Package of 4
    for (int i = 0; i < 2; ++i) {
        aml.u8(0x0a);
        aml.u8(s5_type);
    }
    aml.u16(0);
    aml.bytes(literal_bytes("\x10\x21\\_SB_\x5b\x82\x19PCI0"));
    aml.bytes(literal_bytes("\x08_HID\x0c\x41\xd0\x0a\x08\x08_CID\x0c\x41\xd0\x0a\x03"));
}

// ACPI 6.5, 5.2.9, of revision 4: 244 bytes.
void write_fadt(Writer& fadt, const Chipset& chipset, std::uint64_t dsdt) {
    constexpr std::uint32_t kC1 = 1u << 2, kNoSleepButton = 1u << 5, kNoRtcWake = 1u << 6, kResetRegister = 1u << 10;
    fadt.u32(0);  // FACS
    fadt.u32(static_cast<std::uint32_t>(dsdt));
    fadt.u16(0);
    fadt.u16(kSciInterrupt);
    fadt.zeros(8);  // SMI_CMD and its values: always in ACPI mode
    for (const std::uint16_t port : {chipset.pm1_event, std::uint16_t{0}, chipset.pm1_control, std::uint16_t{0},
                                     std::uint16_t{0}, chipset.pm_timer, chipset.gpe0, std::uint16_t{0}}) {
        fadt.u32(port);
    }
    fadt.u32(0x04000204);  // bytes of PM1 event, PM1 control, PM2 control, timer
    fadt.u32(chipset.gpe0_size);
    fadt.u32(0xffffffff);  // no C2, no C3
    fadt.zeros(8);
    fadt.u8(0x32);  // century in the RTC
    fadt.u16(3);    // legacy devices, keyboard controller
    fadt.u8(0);
    fadt.u32(kC1 | kNoSleepButton | kNoRtcWake | kResetRegister | 1);  // 1: WBINVD works
    fadt.u32(0x01000801);                                              // reset register: a byte, a port
    fadt.u64(kResetControl.number);
    fadt.u8(6);
    fadt.zeros(115);
}

// ACPI 6.5, 5.2.12.
void write_madt(Writer& madt, const GuestPlatform& machine) {
    constexpr std::uint16_t kLevelLow = 0xf, kLevelHigh = 0xd;
    madt.u32(0xfee00000);
    madt.u32(1);  // 8259s as well
    std::uint32_t number = 0;
    for (const std::uint32_t id : machine.apic_ids) {
        if (id < 255) {
            madt.u16(0x0800);
            madt.u8(static_cast<std::uint8_t>(number));
            madt.u8(static_cast<std::uint8_t>(id));
            madt.u32(1);
        } else {
            madt.u32(0x1009);
            madt.u32(id);
            madt.u32(1);
            madt.u32(number);
        }
        ++number;
    }
    madt.u16(0x0c01);
    madt.u16(machine.io_apic_id);
    madt.u32(static_cast<std::uint32_t>(kIoApicBase));
    madt.u32(0);
    const auto interrupt = [&](std::uint8_t from, std::uint32_t to, std::uint16_t flags) {
        madt.u16(0x0a02);
        madt.u8(0);
        madt.u8(from);
        madt.u32(to);
        madt.u16(flags);
    };
    interrupt(0, 2, 0);
    interrupt(kSciInterrupt, kSciInterrupt, machine.chipset.sci_active_low ? kLevelLow : kLevelHigh);
}

// Revision and period (at most 100 ns, in femtoseconds) as the specification bounds them.
bool is_hpet(std::uint64_t capability) {
    const std::uint64_t period = capability >> 32;
    return (capability & 0xff) != 0 && (capability & 0xff) != 0xff && period != 0 && period <= 100'000'000;
}

Status write_hardware_tables(Tables& tables, const GuestPlatform& machine) {
    const std::uint64_t dsdt = tables.next();
    GATEHOUSE_TRY(tables.add("DSDT", 2, [&](Writer& aml) { write_dsdt(aml, machine.chipset.s5_type); }));
    GATEHOUSE_TRY(tables.add("FACP", 4, [&](Writer& fadt) { write_fadt(fadt, machine.chipset, dsdt); }));
    GATEHOUSE_TRY(tables.add("APIC", 4, [&](Writer& madt) { write_madt(madt, machine); }));
    const auto write_hpet = [&](Writer& hpet) {
        hpet.u32(static_cast<std::uint32_t>(machine.hpet));
        hpet.u32(0);  // in memory
        hpet.u64(kHpetBase);
        hpet.zeros(4);
    };
    if (is_hpet(machine.hpet)) GATEHOUSE_TRY(tables.add("HPET", 1, write_hpet));
    if (machine.ecam.base == 0) return {};
    return tables.add("MCFG", 1, [&](Writer& mcfg) {
        mcfg.zeros(8);
        mcfg.u64(machine.ecam.base);
        mcfg.zeros(3);  // segment, first bus
        mcfg.u8(machine.ecam.last_bus);
        mcfg.u32(0);
    });
}

}  // namespace

Status build_guest_tables(const GuestPlatform& machine, MutableBytes out, std::uint64_t physical) {
    if (out.size() < kTablesAt) return {Error::kNoSpace, "guest ACPI tables"};
    std::ranges::fill(out, std::byte{0});
    Tables tables(out, physical);
    for (const AcpiTable& table : machine.machine_tables) {
        if (table.signature != signature("DSDT")) tables.list(table.address);
    }
    if (machine.machine_tables.empty()) GATEHOUSE_TRY(write_hardware_tables(tables, machine));
    GATEHOUSE_TRY(tables.add("GTHS", 2, [&](Writer& channel) { channel.bytes(machine.channel); }));
    tables.finish_root();
    return {};
}

}  // namespace gatehouse::platform
