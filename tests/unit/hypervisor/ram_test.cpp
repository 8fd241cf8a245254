#include "hypervisor/memory/ram.hpp"

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/msr_model.hpp"
#include "tests/unit/hypervisor/pci_model.hpp"

namespace gatehouse::memory {

std::uint64_t read_msr(Msr msr) { return MsrModel::current().read(msr); }
void write_msr(Msr msr, std::uint64_t value) { MsrModel::current().write(msr, value); }

namespace {

constexpr std::uint64_t kMiB = 0x100000;
constexpr std::uint64_t kGiB = 0x40000000;
constexpr std::uint64_t kTop = 3 * kGiB;
constexpr std::uint64_t kTop2 = 6 * kGiB;

class RamTest : public testing::Test {
  protected:
    RamTest() { pci.add(0x0000, 0x29c08086); }
    Error read() { return ram.read().error(); }
    bool is_ram(std::uint64_t base, std::uint64_t length) {
        EXPECT_EQ(read(), Error::kNone);
        return ram.check({base, length}, "piece").ok();
    }
    bool is_write_back(std::uint64_t base, std::uint64_t length) {
        EXPECT_EQ(read(), Error::kNone);
        return ram.check_write_back({base, length}, "piece").ok();
    }
    void set_variable(unsigned number, std::uint64_t base, std::uint64_t mask) {
        msrs.registers[0x200 + 2 * number] = base;
        msrs.registers[0x201 + 2 * number] = mask;
    }

    MsrModel msrs{kTop, kTop2};
    platform::PciModel pci;
    Ram ram;
};

TEST_F(RamTest, IsWhatTheProcessorRoutesToMemory) {
    EXPECT_TRUE(is_ram(0, 0xa0000));
    EXPECT_TRUE(is_ram(0x9fc00, 0x400));
    EXPECT_TRUE(is_ram(kMiB, kTop - kMiB));
    EXPECT_TRUE(is_ram(4 * kGiB, 2 * kGiB));
}

// Each page would have a second address, by the bit that says whether it is encrypted.
TEST_F(RamTest, RefusesMemoryEncryption) {
    for (const unsigned bit : {23u, 24u, 25u}) {
        MsrModel encrypted{kTop, kTop2};
        encrypted.registers[0xc0010010] |= 1ull << bit;
        EXPECT_EQ(read(), Error::kRefused) << bit;
    }
}

TEST_F(RamTest, EndsAtTheHolesAndTheTops) {
    EXPECT_FALSE(is_ram(0x9f000, 0x2000));
    EXPECT_FALSE(is_ram(0xc0000, 0x1000)) << "shadow memory";
    EXPECT_FALSE(is_ram(0xfffff, 2));
    EXPECT_FALSE(is_ram(kTop - 0x1000, 0x1001));
    EXPECT_FALSE(is_ram(kTop, 0x1000));
    EXPECT_FALSE(is_ram(0xfd000000, 0x1000));
    EXPECT_FALSE(is_ram(kTop2 - 1, 2));
    EXPECT_FALSE(is_ram(4 * kGiB - 1, 2));
    EXPECT_FALSE(is_ram(0xffff'ffff'ffff'f000, 0x2000));
}

TEST_F(RamTest, AboveFourGiBThereIsNoneUnlessTopMem2Counts) {
    msrs.registers[0xc0010010] &= ~(1ull << 21);
    EXPECT_FALSE(is_ram(4 * kGiB, 0x1000));
    EXPECT_TRUE(is_ram(kMiB, 0x1000));
}

TEST_F(RamTest, RefusesRegistersThatLeaveItOpen) {
    const auto with = [&](std::uint32_t msr, std::uint64_t value) {
        const auto saved = msrs.registers;
        msrs.registers[msr] = value;
        const Error error = read();
        msrs.registers = saved;
        return error;
    };
    EXPECT_EQ(with(0xc0010010, 1u << 18), Error::kRefused) << "variable-range DRAM off";
    EXPECT_EQ(with(0xc001001a, 0), Error::kOutOfRange);
    EXPECT_EQ(with(0xc001001a, 5 * kGiB), Error::kOutOfRange);
    EXPECT_EQ(with(0xc0010017, 1u << 11), Error::kRefused);
    EXPECT_EQ(with(0xc0010019, 1u << 11), Error::kRefused);
    EXPECT_EQ(with(0x1b, 0x10000900), Error::kRefused) << "the APIC over RAM";
    EXPECT_EQ(with(0x2ff, 6), Error::kRefused) << "MTRRs off: uncacheable";
    EXPECT_EQ(with(0xfe, 17), Error::kUnsupported);
    EXPECT_EQ(read(), Error::kNone);
}

TEST_F(RamTest, FixedRangesMustReadAndWriteMemory) {
    EXPECT_TRUE(is_ram(0x7f000, 0x2000));
    msrs.registers[0x250] &= ~(0x08ull << 56);  // WrMem of 0x70000
    EXPECT_FALSE(is_ram(0x7f000, 0x2000));
    EXPECT_TRUE(is_ram(0x80000, 0x20000));
    msrs.registers[0x258] &= ~(0x10ull << 56);  // RdMem of 0x9c000
    EXPECT_FALSE(is_ram(0x9f000, 0x400));
    EXPECT_TRUE(is_ram(0x98000, 0x4000));
    EXPECT_EQ(msrs.registers[0xc0010010] & 1u << 19, 0u) << "and are hidden again";
    msrs.registers[0xc0010010] &= ~(1ull << 18);
    EXPECT_TRUE(is_ram(0x9f000, 0x400)) << "they do not count";
}

TEST_F(RamTest, ProtectedSystemManagementMemoryIsNone) {
    msrs.registers[0xc0010112] = 0xbf000000;
    msrs.registers[0xc0010113] = 0x000fffffff000000 | 2;  // 16 MiB
    EXPECT_FALSE(is_ram(0xbf800000, 0x1000));
    EXPECT_FALSE(is_ram(0xbeff0000, 0x20000));
    EXPECT_TRUE(is_ram(0xbe000000, 0x1000000));
    msrs.registers[0xc0010113] = (0x000fffffff000000 & ~0x80000000ull) | 2;
    EXPECT_EQ(read(), Error::kUnsupported) << "a mask with a hole";
    msrs.registers[0xc0010113] = 0;
    EXPECT_TRUE(is_ram(0xbf800000, 0x1000)) << "not protected";
}

TEST_F(RamTest, IsWriteBackByDefaultType) {
    EXPECT_TRUE(is_write_back(kMiB, 64 * kMiB));
    msrs.registers[0x2ff] = 0xc00;
    EXPECT_FALSE(is_write_back(kMiB, 0x1000));
    EXPECT_FALSE(ram.check_write_back({kTop, 0x1000}, "no RAM").ok());
}

TEST_F(RamTest, VariableRangesCountPageByPage) {
    msrs.registers[0x2ff] = 0xc00;
    set_variable(0, 6, 0x000fffff80000800);  // [0, 2 GiB) write-back
    EXPECT_TRUE(is_write_back(kGiB, 16 * kMiB));
    EXPECT_TRUE(is_write_back(2 * kGiB - 0x1000, 0x1000));
    EXPECT_FALSE(is_write_back(2 * kGiB - 0x1000, 0x2000));
    set_variable(1, kGiB + 0x5000, 0x000ffffffffff800);  // one page uncacheable in it
    EXPECT_FALSE(is_write_back(kGiB, 16 * kMiB));
    EXPECT_TRUE(is_write_back(kGiB, 0x5000));
    set_variable(1, (kGiB + 0x5000) | 4, 0x000ffffffffff800);  // write-through wins as well
    EXPECT_FALSE(is_write_back(kGiB + 0x5000, 0x1000));
    set_variable(1, kGiB + 0x5000, 0x000ffffffffff000);  // not valid
    EXPECT_TRUE(is_write_back(kGiB, 16 * kMiB));
    set_variable(7, 0, 0x800);  // everything
    EXPECT_FALSE(is_write_back(kGiB, 0x1000));
}

TEST_F(RamTest, FixedRangesTypesCountBelowOneMiB) {
    EXPECT_TRUE(is_write_back(0x9f000, 0x400));
    msrs.registers[0x258] = 0x181e1e1e1e1e1e1e;  // 0x9c000 uncacheable
    EXPECT_FALSE(is_write_back(0x9f000, 0x400));
    EXPECT_TRUE(is_write_back(0x9b000, 0x1000));
    msrs.registers[0x2ff] = 0x806;  // fixed ranges off
    EXPECT_TRUE(is_write_back(0x9f000, 0x400));
}

class Devices : public RamTest {
  protected:
    Devices() {
        pci.add(0x0010, 0x11111234);
        pci.put(0x0010, 0x04, 2, 2);
        EXPECT_EQ(read(), Error::kNone);
    }
    Error check(std::uint16_t offset, std::uint32_t low, std::uint32_t high = 0) {
        pci.put(0x0010, offset, 4, low);
        pci.put(0x0010, static_cast<std::uint16_t>(offset + 4), 4, high);
        const Error error = ram.check_devices(0xb0000000 + kGiB).error();
        pci.put(0x0010, offset, 4, 0);
        pci.put(0x0010, static_cast<std::uint16_t>(offset + 4), 4, 0);
        return error;
    }
};

TEST_F(Devices, StayOutOfMemory) {
    EXPECT_EQ(check(0x10, 0xfd000008), Error::kNone);
    EXPECT_EQ(check(0x10, 0x40000000), Error::kOverlap);
    EXPECT_EQ(check(0x24, 0x40000000), Error::kOverlap);
    EXPECT_EQ(check(0x10, 0x0000c001), Error::kNone) << "ports";
    EXPECT_EQ(check(0x14, 0x4000000c, 0x1), Error::kOverlap) << "64-bit, above 4 GiB";
    EXPECT_EQ(check(0x14, 0x4000000c, 0x8), Error::kNone) << "above all memory: the halves are one";
    EXPECT_EQ(check(0x14, 0x0000000c, 0x8), Error::kNone);
    EXPECT_EQ(check(0x30, 0x40000001), Error::kOverlap) << "an expansion ROM";
    EXPECT_EQ(check(0x30, 0x40000000), Error::kNone) << "switched off";
}

TEST_F(Devices, CountOnlyWhatIsDecoded) {
    pci.put(0x0010, 0x04, 2, 1);
    EXPECT_EQ(check(0x10, 0x40000000), Error::kNone);
    pci.put(0x0010, 0x04, 2, 2);
    EXPECT_EQ(check(0x10, 0), Error::kNone) << "has been given no place";
}

TEST_F(Devices, BridgesHaveTwoBarsAndTheirRomElsewhere) {
    pci.put(0x0010, 0x0e, 1, 1);
    EXPECT_EQ(check(0x14, 0x40000000), Error::kOverlap);
    EXPECT_EQ(check(0x38, 0x40000001), Error::kOverlap);
    EXPECT_EQ(check(0x20, 0x40004000), Error::kNone) << "a window, no BAR";
}

TEST_F(Devices, ConfigurationSpaceIsNotOverMemory) {
    EXPECT_EQ(ram.check_devices(0x80000000).error(), Error::kOverlap);
    EXPECT_EQ(ram.check_devices(0xe0000000).error(), Error::kNone);
    EXPECT_EQ(ram.check_devices(0).error(), Error::kNone) << "there is none";
}

}  // namespace
}  // namespace gatehouse::memory
