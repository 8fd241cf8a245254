#include "hypervisor/guest/config_ports.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace gatehouse::guest {
namespace {

struct Access {
    FunctionId function;
    std::uint16_t offset;
    unsigned size;
    std::uint32_t value;
    bool operator==(const Access&) const = default;
};

class RecordingConfig final : public ConfigSpace {
  public:
    std::uint32_t read(FunctionId function, std::uint16_t offset, unsigned size) override {
        accesses.push_back({function, offset, size, 0});
        return 0x11223344;
    }
    void write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) override {
        accesses.push_back({function, offset, size, value});
    }
    std::vector<Access> accesses;
};

class ConfigPortsTest : public testing::Test {
  protected:
    RecordingConfig real;
    ConfigFilter filter{real};
    ConfigPorts ports{filter};
};

TEST_F(ConfigPortsTest, SelectsFunctionAndRegister) {
    ports.write(0xcf8, 4, 0x8000fa24);
    EXPECT_EQ(ports.read(0xcf8, 4), 0x8000fa24u);
    ports.write(0xcfe, 2, 0xbeef);
    ASSERT_EQ(real.accesses.size(), 1u);
    EXPECT_EQ(real.accesses[0], (Access{0x00fa, 0x26, 2, 0xbeef}));
}

TEST_F(ConfigPortsTest, AnswersAllOnesWhileDisabledOrCrossing) {
    ports.write(0xcf8, 4, 0x0000fa24);
    EXPECT_EQ(ports.read(0xcfc, 4), 0xffffffffu);
    ports.write(0xcf8, 4, 0x8000fa24);
    EXPECT_EQ(ports.read(0xcff, 2) & 0xffff, 0xffffu);
    EXPECT_TRUE(real.accesses.empty());
}

TEST_F(ConfigPortsTest, TakesOnlyWholeAddressWrites) {
    ports.write(0xcf8, 4, 0x80000010);
    ports.write(0xcf8, 2, 0xffff);
    ports.write(0xcfa, 1, 0xff);
    EXPECT_EQ(ports.read(0xcf8, 4), 0x80000010u);
}

TEST_F(ConfigPortsTest, EcamPagesAreThoseOfTheirFunctions) {
    EcamPages pages(filter);
    pages.set_base(0xb0000000);
    EXPECT_EQ(pages.read(GuestPhysical(0xb0102010), 4), 0x11223344u);
    pages.write(GuestPhysical(0xb0102110), 4, 0xbbbbbbbb);
    ASSERT_EQ(real.accesses.size(), 2u);
    EXPECT_EQ(real.accesses[0], (Access{0x0102, 0x010, 4, 0}));
    EXPECT_EQ(real.accesses[1], (Access{0x0102, 0x110, 4, 0xbbbbbbbb}));
}

TEST_F(ConfigPortsTest, EcamRefusesEightByteAccesses) {
    EcamPages pages(filter);
    EXPECT_EQ(pages.read(GuestPhysical(0x10), 8), ~std::uint64_t{0});
    pages.write(GuestPhysical(0x10), 8, 0);
    EXPECT_TRUE(real.accesses.empty());
}

}  // namespace
}  // namespace gatehouse::guest
