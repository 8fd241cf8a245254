#include "hypervisor/platform/guest_tables.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/unit/hypervisor/acpi_model.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::uint64_t kAt = 0x3f140000;
constexpr Chipset kFch{.pm1_event = 0x800,
                       .pm1_control = 0x804,
                       .pm_timer = 0x808,
                       .gpe0 = 0x820,
                       .gpe0_size = 8,
                       .s5_type = 5,
                       .sci_active_low = true,
                       .fch = true};

template <std::unsigned_integral T>
T at(Bytes bytes, std::size_t offset) {
    return load<T>(bytes.data() + offset, Endian::kLittle);
}

std::uint8_t sum(Bytes bytes) {
    unsigned total = 0;
    for (const std::byte byte : bytes) total += std::to_integer<unsigned>(byte);
    return static_cast<std::uint8_t>(total);
}

Octets octets(std::initializer_list<int> values) {
    Octets out;
    for (const int value : values) out.push_back(static_cast<std::byte>(value));
    return out;
}

class GuestTablesTest : public testing::Test, public AcpiMemory {
  protected:
    Bytes view(std::uint64_t physical, std::uint64_t size) override {
        if (physical < kAt || physical - kAt > out.size() || size > out.size() - (physical - kAt)) return {};
        return Bytes(out).subspan(physical - kAt, size);
    }
    Status build() {
        machine.apic_ids = ids;
        machine.channel = channel;
        GATEHOUSE_TRY(build_guest_tables(machine, out, kAt));
        tables = {};
        return tables.open(Bytes(out).first(kRsdpSize), *this);
    }
    // A whole table that the XSDT lists, or the DSDT.
    Bytes table(const char (&name)[5]) const {
        const auto found = std::ranges::find(tables.all(), signature(name), &AcpiTable::signature);
        return found == tables.all().end() ? Bytes{} : found->bytes;
    }
    Bytes dsdt() {
        const std::uint32_t place = at<std::uint32_t>(table("FACP"), 40);
        return view(place, at<std::uint32_t>(view(place, kAcpiHeaderSize), 4));
    }

    std::vector<std::uint32_t> ids{0, 1};
    Octets channel = octets({1, 2, 3});
    GuestPlatform machine{.apic_ids = {},
                          .io_apic_id = 7,
                          .chipset = kFch,
                          .hpet = 0x0429b17e'10228210,
                          .ecam = {0xf0000000, 63},
                          .channel = {}};
    Octets out = Octets(0x4000, std::byte{0xee});
    AcpiTables tables;
};

TEST_F(GuestTablesTest, AreReachedFromTheRsdpThroughTheXsdtAlone) {
    ASSERT_TRUE(build().ok());
    EXPECT_TRUE(equal_bytes(Bytes(out).first(8), literal_bytes("RSD PTR ")));
    EXPECT_EQ(at<std::uint8_t>(out, 15), 2);
    EXPECT_EQ(at<std::uint32_t>(out, 16), 0u) << "an RSDT to fall back to";
    EXPECT_EQ(at<std::uint32_t>(out, 20), kRsdpSize);
    const std::uint64_t xsdt = at<std::uint64_t>(out, 24);
    EXPECT_EQ(xsdt % 16, 0u);
    EXPECT_EQ(at<std::uint32_t>(view(xsdt, 8), 4), kAcpiHeaderSize + 8 * 5);
    std::vector<std::uint32_t> names;
    for (const AcpiTable& entry : tables.all()) {
        names.push_back(entry.signature);
        EXPECT_EQ(entry.address % 16, 0u);
        EXPECT_TRUE(equal_bytes(entry.bytes.subspan(10, 14), literal_bytes("GATEHSGATEHOUS")));
    }
    EXPECT_EQ(names, (std::vector<std::uint32_t>{signature("FACP"), signature("APIC"), signature("HPET"),
                                                 signature("MCFG"), signature("GTHS")}));
}

TEST_F(GuestTablesTest, HoldNothingOfWhatWasThereBefore) {
    ASSERT_TRUE(build().ok());
    EXPECT_EQ(std::ranges::count(out, std::byte{0xee}), 0);
}

TEST_F(GuestTablesTest, DsdtHasS5AndARootBridge) {
    for (const int type : {0, 5}) {
        machine.chipset.s5_type = static_cast<std::uint8_t>(type);
        ASSERT_TRUE(build().ok());
        const Bytes table = dsdt();
        EXPECT_EQ(at<std::uint32_t>(table, 0), signature("DSDT"));
        EXPECT_EQ(sum(table), 0);
        EXPECT_TRUE(equal_bytes(
            table.subspan(kAcpiHeaderSize),
            octets({0x08, '_',  'S',  '5', '_', 0x12, 0x08, 0x04, 0x0a, type, 0x0a, type, 0x00, 0x00,  // _S5
                    0x10, 0x21, '\\', '_', 'S', 'B',  '_',  0x5b, 0x82, 0x19, 'P',  'C',  'I',  '0',   // \_SB.PCI0
                    0x08, '_',  'H',  'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x08,                          // PNP0A08
                    0x08, '_',  'C',  'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x03})));                      // PNP0A03
    }
}

TEST_F(GuestTablesTest, FadtNamesTheChipsetsRegistersAndNoFirmware) {
    ASSERT_TRUE(build().ok());
    const Bytes fadt = table("FACP");
    ASSERT_EQ(fadt.size(), 244u);
    EXPECT_EQ(at<std::uint8_t>(fadt, 8), 4) << "revision of that size";
    EXPECT_EQ(at<std::uint32_t>(fadt, 36), 0u) << "FACS";
    EXPECT_EQ(at<std::uint16_t>(fadt, 46), 9) << "SCI_INT";
    EXPECT_EQ(at<std::uint32_t>(fadt, 48), 0u) << "SMI_CMD";
    EXPECT_EQ(at<std::uint32_t>(fadt, 56), 0x800u) << "PM1a_EVT_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 60), 0u) << "PM1b_EVT_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 64), 0x804u) << "PM1a_CNT_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 68), 0u) << "PM1b_CNT_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 72), 0u) << "PM2_CNT_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 76), 0x808u) << "PM_TMR_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 80), 0x820u) << "GPE0_BLK";
    EXPECT_EQ(at<std::uint32_t>(fadt, 84), 0u) << "GPE1_BLK";
    EXPECT_TRUE(equal_bytes(fadt.subspan(88, 6), octets({4, 2, 0, 4, 8, 0}))) << "lengths";
    EXPECT_GT(at<std::uint16_t>(fadt, 96), 100) << "P_LVL2_LAT: no C2";
    EXPECT_GT(at<std::uint16_t>(fadt, 98), 1000) << "P_LVL3_LAT: no C3";
    EXPECT_EQ(at<std::uint8_t>(fadt, 108), 0x32) << "CENTURY";
    EXPECT_EQ(at<std::uint16_t>(fadt, 109), 3) << "IAPC_BOOT_ARCH";
    EXPECT_EQ(at<std::uint32_t>(fadt, 112), 0x465u)
        << "WBINVD, C1, no sleep button, no RTC wake status, reset register";
    EXPECT_TRUE(equal_bytes(fadt.subspan(116, 13), octets({1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6}))) << "reset";
    EXPECT_EQ(std::ranges::count(fadt.subspan(129), std::byte{0}), 115) << "no extended addresses";
}

TEST_F(GuestTablesTest, MadtListsProcessorsInterruptControllerAndOverrides) {
    ids = {0, 1, 254, 255, 0x1234};
    ASSERT_TRUE(build().ok());
    const Octets wanted = octets({0, 0,  0xe0, 0xfe, 1,    0,    0,    0,  // APICs, PC-AT
                                  0, 8,  0,    0,    1,    0,    0,    0,  //
                                  0, 8,  1,    1,    1,    0,    0,    0,  //
                                  0, 8,  2,    254,  1,    0,    0,    0,  // the last of 8 bits
                                  9, 16, 0,    0,    255,  0,    0,    0,    1,    0, 0, 0, 3, 0, 0, 0,  // x2APIC
                                  9, 16, 0,    0,    0x34, 0x12, 0,    0,    1,    0, 0, 0, 4, 0, 0, 0,  //
                                  1, 12, 7,    0,    0,    0,    0xc0, 0xfe, 0,    0, 0, 0,              // I/O APIC
                                  2, 10, 0,    0,    2,    0,    0,    0,    0,    0,                    // timer
                                  2, 10, 0,    9,    9,    0,    0,    0,    0x0f, 0});  // SCI: level, low
    EXPECT_TRUE(equal_bytes(table("APIC").subspan(kAcpiHeaderSize), wanted));
    machine.chipset.sci_active_low = false;
    ASSERT_TRUE(build().ok());
    EXPECT_EQ(at<std::uint16_t>(table("APIC"), table("APIC").size() - 2), 0x0d);
}

TEST_F(GuestTablesTest, GthsHoldsTheChannel) {
    ASSERT_TRUE(build().ok());
    EXPECT_EQ(at<std::uint8_t>(table("GTHS"), 8), 2);
    EXPECT_TRUE(equal_bytes(table("GTHS").subspan(kAcpiHeaderSize), channel));
}

TEST_F(GuestTablesTest, McfgNamesTheWindow) {
    ASSERT_TRUE(build().ok());
    EXPECT_TRUE(equal_bytes(table("MCFG").subspan(kAcpiHeaderSize),
                            octets({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0, 0, 0, 0, 0, 0, 0, 63, 0, 0, 0, 0})));
    machine.ecam = {};
    ASSERT_TRUE(build().ok());
    EXPECT_TRUE(table("MCFG").empty());
}

TEST_F(GuestTablesTest, HpetIsThereIfItsRegisterIsSane) {
    ASSERT_TRUE(build().ok());
    EXPECT_TRUE(equal_bytes(table("HPET").subspan(kAcpiHeaderSize),
                            octets({0x10, 0x82, 0x22, 0x10, 0, 0, 0, 0, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0})));
    for (const std::uint64_t bad :
         {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x0429b17e'10228200}, std::uint64_t{0x0429b17e'102282ff},
          std::uint64_t{0x00000000'10228210}, std::uint64_t{0x05f5e101'10228210}}) {
        machine.hpet = bad;
        ASSERT_TRUE(build().ok());
        EXPECT_TRUE(table("HPET").empty()) << std::hex << bad;
    }
    machine.hpet = 0x05f5e100'10228210;  // 100 ns
    ASSERT_TRUE(build().ok());
    EXPECT_FALSE(table("HPET").empty());
}

TEST_F(GuestTablesTest, StayInTheirRoom) {
    ASSERT_TRUE(build().ok());
    const std::size_t used = tables.all().back().address + tables.all().back().bytes.size() - kAt;
    for (std::size_t size = 0; size < used; ++size) {
        out = Octets(size);  // ASan watches its end
        EXPECT_EQ(build().error(), Error::kNoSpace) << size;
    }
    out = Octets(used);
    EXPECT_TRUE(build().ok());
}

}  // namespace
}  // namespace gatehouse::platform
