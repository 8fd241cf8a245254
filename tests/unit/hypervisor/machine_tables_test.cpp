#include "hypervisor/platform/machine_tables.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "hypervisor/base/log.hpp"
#include "hypervisor/platform/guest_tables.hpp"
#include "tests/unit/hypervisor/acpi_model.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::uint64_t kAt = 0x3f140000;  // of what the guest gets
constexpr std::uint16_t kPm1Control = 0x604;
constexpr std::uint64_t kFadtAt = 0x2000;
constexpr std::uint64_t kDsdtAt = 0x3000;

std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Offsets as the specification counts them.
Octets fadt(std::size_t size = 276) {
    Octets table = make_table("FACP", Octets(size - kAcpiHeaderSize));
    put(table, 36, std::uint32_t{0x7000});  // FACS
    put(table, 40, static_cast<std::uint32_t>(kDsdtAt));
    put(table, 64, std::uint32_t{kPm1Control});
    put(table, 132, std::uint64_t{0x7000});
    put(table, 140, kDsdtAt);
    put(table, 172, std::uint32_t{0x02001001});
    put(table, 176, std::uint64_t{kPm1Control});
    fix_checksum(table, 9, table.size());
    return table;
}

template <std::unsigned_integral T>
Octets changed(Octets table, std::size_t at, T value) {
    put(table, at, value);
    fix_checksum(table, 9, table.size());
    return table;
}

class MachineTablesTest : public testing::Test {
  protected:
    // A machine with this FADT, a DSDT and these tables after the FADT.
    static Firmware with(const Octets& facp, std::vector<std::pair<std::uint64_t, Octets>> others = {}) {
        others.insert(others.begin(), {kFadtAt, facp});
        Firmware firmware = made(others);
        firmware.memory.pieces.emplace_back(kDsdtAt, make_table("DSDT", Octets(100, std::byte{0xd5})));
        return firmware;
    }
    // The emulated machine's; what was collected lacks the DSDT.
    static Firmware whole(const char* file) {
        Firmware firmware = collected(file);
        const auto place = load<std::uint32_t>(firmware.memory.named("FACP")->data() + 40, Endian::kLittle);
        firmware.memory.pieces.emplace_back(place, make_table("DSDT", Octets(100, std::byte{0xd5})));
        return firmware;
    }
    Status copy(Firmware& firmware) {
        tables = {};
        return tables.copy(firmware.rsdp, firmware.memory, kPm1Control, MutableBytes(out).subspan(kGuestTablesSize),
                           kAt + kGuestTablesSize);
    }
    // As the guest finds it.
    AcpiTables handed_on() {
        tables.link();
        GuestPlatform machine;
        machine.ecam = {0xf0000000, 63};
        machine.channel = channel;
        machine.machine_tables = tables.all();
        EXPECT_TRUE(build_guest_tables(machine, MutableBytes(out).first(kGuestTablesSize), kAt).ok());
        guest.pieces = {{kAt, out}};
        AcpiTables seen;
        EXPECT_TRUE(seen.open(Bytes(out).first(kRsdpSize), guest).ok());
        return seen;
    }
    [[nodiscard]] std::vector<std::uint32_t> names() const {
        std::vector<std::uint32_t> list;
        for (const AcpiTable& table : tables.all()) list.push_back(table.signature);
        return list;
    }

    Octets out = Octets(0x40000, std::byte{0xee});
    Octets channel = Octets(24, std::byte{0xcc});
    FakeMemory guest;
    MachineTables tables;
};

TEST_F(MachineTablesTest, CopiesInTheOrderOfTheXsdtTheDsdtAfterTheFadt) {
    Firmware firmware = with(fadt(), {{0x4000, make_table("SSDT", Octets(7))},
                                      {0x5000, make_table("APIC", Octets(8))},
                                      {0x6000, make_table("SSDT", Octets(9))}});
    ASSERT_TRUE(copy(firmware).ok());
    EXPECT_EQ(names(), (std::vector<std::uint32_t>{signature("FACP"), signature("DSDT"), signature("SSDT"),
                                                   signature("APIC"), signature("SSDT")}));
    for (const AcpiTable& table : tables.all()) {
        EXPECT_EQ(table.address % 16, 0u);
        EXPECT_EQ(table.bytes.data(), &out[table.address - kAt]) << "a view of the firmware's memory";
    }
    EXPECT_TRUE(equal_bytes(tables.all()[0].bytes, fadt())) << "measured as copied";
    EXPECT_TRUE(equal_bytes(tables.all()[1].bytes, make_table("DSDT", Octets(100, std::byte{0xd5}))));
    EXPECT_TRUE(equal_bytes(tables.all()[4].bytes, make_table("SSDT", Octets(9))));
}

TEST_F(MachineTablesTest, GuestGetsTheCopiesAndGthsAndNothingElse) {
    for (const char* const file : {"q35_bios.tables", "q35_uefi.tables"}) {
        Firmware firmware = whole(file);
        AcpiTables before;
        ASSERT_TRUE(open(firmware, before).ok());
        ASSERT_TRUE(copy(firmware).ok()) << file;
        for (auto& [address, bytes] : firmware.memory.pieces) std::ranges::fill(bytes, std::byte{0});
        const AcpiTables seen = handed_on();
        EXPECT_EQ(seen.all().size(), before.all().size() - 2 + 1) << "IVRS and TPM2 are not handed on, GTHS is";
        EXPECT_EQ(seen.all().back().signature, signature("GTHS"));
        EXPECT_TRUE(equal_bytes(seen.all().back().bytes.subspan(kAcpiHeaderSize), channel));
        for (const AcpiTable& table : seen.all()) {
            EXPECT_GE(table.address, kAt);
            EXPECT_NE(table.signature, signature("IVRS"));
            EXPECT_NE(table.signature, signature("TPM2"));
        }
    }
}

TEST_F(MachineTablesTest, HandedOnFadtNamesTheCopyAndNoFacs) {
    for (const std::size_t size : {244u, 268u, 276u}) {
        Firmware firmware = with(fadt(size), {{0x4000, make_table("SSDT", Octets(7))}});
        ASSERT_TRUE(copy(firmware).ok()) << size;
        const std::uint64_t dsdt = tables.all()[1].address;
        const AcpiTables seen = handed_on();
        EXPECT_EQ(seen.all().size(), 3u) << "the DSDT is no entry of the XSDT";
        Octets wanted = changed(fadt(size), 36, std::uint32_t{0});
        put(wanted, 40, static_cast<std::uint32_t>(dsdt));
        put(wanted, 132, std::uint64_t{0});
        put(wanted, 140, dsdt);
        fix_checksum(wanted, 9, size);
        EXPECT_TRUE(equal_bytes(seen.all()[0].bytes, wanted)) << size;
    }
}

TEST_F(MachineTablesTest, TakesTheDsdtThatTheGuestWouldTake) {
    Firmware firmware = with(changed(fadt(), 40, std::uint32_t{0x9000}));
    EXPECT_TRUE(copy(firmware).ok()) << "the extended address counts";
    firmware = with(changed(fadt(), 140, std::uint64_t{0}));
    EXPECT_TRUE(copy(firmware).ok()) << "there is none";
    firmware = with(changed(fadt(), 140, std::uint64_t{0x9000}));
    EXPECT_EQ(copy(firmware).error(), Error::kOutOfRange);
    firmware = with(changed(fadt(), 140, std::uint64_t{0x4000}), {{0x4000, make_table("SSDT", {})}});
    EXPECT_EQ(copy(firmware).error(), Error::kBadMagic);
}

TEST_F(MachineTablesTest, HidesWhatIsTheHypervisors) {
    std::vector<std::pair<std::uint64_t, Octets>> others;
    std::uint64_t address = 0x4000;
    for (const auto& table :
         {make_table("IVRS", {}), make_table("DMAR", {}), make_table("TPM2", {}), make_table("TCPA", {}),
          make_table("DRTM", {}), make_table("GTHS", {}), make_table("DSDT", {}), make_table("MCFG", {})}) {
        others.emplace_back(address, table);
        address += 0x100;
    }
    Firmware firmware = with(fadt(), others);
    ASSERT_TRUE(copy(firmware).ok());
    EXPECT_EQ(names(), (std::vector<std::uint32_t>{signature("FACP"), signature("DSDT"), signature("MCFG")}));
}

TEST_F(MachineTablesTest, LeavesOutWhatCannotBeTrusted) {
    Octets wrong = make_table("BBBB", Octets(8));
    wrong.back() ^= std::byte{1};
    Octets too_short = make_table("DDDD", Octets(8));
    put(too_short, 4, std::uint32_t{35});
    Firmware firmware = with(fadt(), {{0x4000, make_table("AAAA", Octets(8))},
                                      {0x5000, wrong},
                                      {0x6000, too_short},
                                      {0, {}},
                                      {0xffff'ffff'ffff'fff0, {}},
                                      {0x7000, make_table("EEEE", {})}});
    ASSERT_TRUE(copy(firmware).ok());
    EXPECT_EQ(names(),
              (std::vector<std::uint32_t>{signature("FACP"), signature("DSDT"), signature("AAAA"), signature("EEEE")}));
}

TEST_F(MachineTablesTest, RefusesAFadtWithAnotherPm1Control) {
    for (const Octets& other : {changed(fadt(), 64, std::uint32_t{0x804}), changed(fadt(), 64, std::uint32_t{0x10604}),
                                changed(fadt(), 64, std::uint32_t{0}), changed(fadt(), 68, std::uint32_t{0x704}),
                                changed(fadt(), 176, std::uint64_t{0x804}), changed(fadt(), 172, std::uint8_t{0}),
                                changed(fadt(), 188, std::uint64_t{0x704})}) {
        Firmware firmware = with(other);
        EXPECT_EQ(copy(firmware).error(), Error::kMismatch);
        EXPECT_STREQ(copy(firmware).failure().item, "FADT: PM1 control register is not the chipset's");
    }
    Firmware firmware = with(changed(fadt(), 176, std::uint64_t{0}));
    EXPECT_TRUE(copy(firmware).ok());
}

TEST_F(MachineTablesTest, RefusesNoFadtTwoAndHalfOnes) {
    Firmware none = made({{0x4000, make_table("SSDT", {})}});
    EXPECT_EQ(copy(none).error(), Error::kNotFound);
    Firmware two = with(fadt(), {{0x4000, fadt()}});
    EXPECT_EQ(copy(two).error(), Error::kBadValue);
    for (const std::size_t size : {36u, 116u, 132u, 243u}) {
        Octets whole = fadt();
        whole.resize(size);
        Firmware half = with(changed(whole, 4, static_cast<std::uint32_t>(size)));
        EXPECT_EQ(copy(half).error(), Error::kBadLength) << size;
    }
}

TEST_F(MachineTablesTest, RefusesWhatDoesNotFitAndNamesIt) {
    static std::string logged;
    set_log_sink([](std::string_view line) { logged = line; });
    Octets large = make_table("SSDT", Octets(0x3f000));
    copy_bytes(MutableBytes(large).subspan(16), literal_bytes("Large\0\x1bX"));
    fix_checksum(large, 9, large.size());
    Firmware firmware = with(fadt(), {{0x100000000, large}});
    EXPECT_EQ(copy(firmware).error(), Error::kNoSpace);
    EXPECT_EQ(logged, "gatehouse: no room for ACPI SSDT Large  X");
    set_log_sink(nullptr);

    ASSERT_TRUE(copy(firmware = with(fadt())).ok());
    const std::size_t used = tables.all().back().address + tables.all().back().bytes.size() - kAt;
    for (std::size_t size = kGuestTablesSize; size <= used; ++size) {
        out = Octets(size);  // ASan watches its end
        EXPECT_EQ(copy(firmware).ok(), size == used) << size;
    }
}

TEST_F(MachineTablesTest, AsManyAsAreReadAreHandedOn) {
    std::vector<std::pair<std::uint64_t, Octets>> others(kMaxAcpiTables - 1, {0x4000, make_table("SSDT", Octets(5))});
    Firmware firmware = with(fadt(), others);
    ASSERT_TRUE(copy(firmware).ok());
    EXPECT_EQ(tables.all().size(), kMaxAcpiTables + 1);
    tables.link();
    GuestPlatform machine;
    machine.channel = channel;
    machine.machine_tables = tables.all();
    ASSERT_TRUE(build_guest_tables(machine, MutableBytes(out).first(kGuestTablesSize), kAt).ok());
    guest.pieces = {{kAt, out}};
    const std::uint64_t xsdt = load<std::uint64_t>(&out[24], Endian::kLittle);
    const auto root = read_acpi_table(guest, xsdt);
    ASSERT_TRUE(root.ok());
    EXPECT_EQ(root->bytes.size(), kAcpiHeaderSize + 8 * (kMaxAcpiTables + 1));
    const std::uint64_t last = load<std::uint64_t>(root->bytes.last(8).data(), Endian::kLittle);
    EXPECT_EQ(read_acpi_table(guest, last)->signature, signature("GTHS"));
}

TEST_F(MachineTablesTest, SurvivesForgedTables) {
    const Firmware genuine = whole("q35_uefi.tables");
    std::mt19937 random(11);
    int good = 0;
    for (int round = 0; round < 2000; ++round) {
        Firmware forged = genuine;
        for (auto& [address, bytes] : forged.memory.pieces) {
            if (text(Bytes(bytes).first(4)) == "RSD ") continue;
            if (random() % 4 == 0) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
            fix_checksum(bytes, 9, bytes.size());
        }
        if (!copy(forged).ok()) continue;
        ++good;
        (void)handed_on();
    }
    EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace gatehouse::platform
