// Which handler an access goes to: ports and memory.
#include "hypervisor/cpu/io_ports.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "hypervisor/cpu/mmio.hpp"

namespace gatehouse::cpu {
namespace {

struct Ports final : IoPortHandler {
    std::uint32_t read(std::uint16_t, unsigned) override { return 0; }
    void write(std::uint16_t, unsigned, std::uint32_t) override {}
};
struct Registers final : MmioHandler {
    std::uint64_t read(GuestPhysical, unsigned) override { return 0; }
    void write(GuestPhysical, unsigned, std::uint64_t) override {}
};

TEST(IoPortMap, AnAccessGoesToTheSmallestRegionThatHoldsIt) {
    IoPortMap map;
    Ports config, reset;
    ASSERT_TRUE(map.add(0xcf9, 0xcf9, reset).ok());
    ASSERT_TRUE(map.add(0xcf8, 0xcfb, config).ok());
    ASSERT_TRUE(map.add(0xfffe, 0xffff, reset).ok());
    EXPECT_EQ(map.find(0xcf8, 4), &config);
    EXPECT_EQ(map.find(0xcf9, 1), &reset);
    EXPECT_EQ(map.find(0xcf9, 2), &config);
    EXPECT_EQ(map.find(0xcf6, 4), nullptr);
    EXPECT_EQ(map.find(0xcf9, 4), nullptr);
    EXPECT_EQ(map.find(0xffff, 1), &reset);
    EXPECT_EQ(map.add(0xcfa, 0xcff, config).error(), Error::kOverlap) << "neither within nor around";
    EXPECT_EQ(map.add(0xcf9, 0xcf9, config).error(), Error::kOverlap) << "the same";
    EXPECT_EQ(map.add(2, 1, config).error(), Error::kBadValue);
}

// What reached a real port, as "port:value".
std::string real_ports;
void real_write(std::uint16_t port, std::uint8_t value) {
    real_ports += std::to_string(port) + ":" + std::to_string(value) + " ";
}

TEST(IoPortMap, SplitsAnAccessThatSpansHandlersIntoBytes) {
    struct Recorder final : IoPortHandler {
        std::uint32_t read(std::uint16_t port, unsigned size) override { return port + 0x10 * size; }
        void write(std::uint16_t port, unsigned size, std::uint32_t value) override {
            seen += std::to_string(port) + "/" + std::to_string(size) + "=" + std::to_string(value) + " ";
        }
        std::string seen;
    };
    IoPortMap map;
    Recorder address, reset, data;
    ASSERT_TRUE(map.add(10, 13, address).ok());
    ASSERT_TRUE(map.add(11, 11, reset).ok());
    ASSERT_TRUE(map.add(14, 17, data).ok());
    real_ports.clear();
    map.write(11, 4, 0x44332211, real_write);  // as a 4-byte OUT at 0xcf9, whose last byte is configuration data
    EXPECT_EQ(reset.seen, "11/1=17 ");
    EXPECT_EQ(address.seen, "12/1=34 13/1=51 ");
    EXPECT_EQ(data.seen, "14/1=68 ");
    EXPECT_EQ(real_ports, "");
    map.write(16, 4, 0x04030201, real_write);
    EXPECT_EQ(data.seen, "14/1=68 16/1=1 17/1=2 ");
    EXPECT_EQ(real_ports, "18:3 19:4 ");
    EXPECT_EQ(map.read(17, 2, [](std::uint16_t) { return std::uint8_t{0xab}; }), 0xab00u + 17 + 0x10);
    EXPECT_EQ(map.read(14, 4, [](std::uint16_t) { return std::uint8_t{0}; }), 14u + 0x40) << "whole";
}

TEST(IoPortMap, BitmapHasABitForEachTrappedPort) {
    IoPortMap map;
    Ports handler;
    ASSERT_TRUE(map.add(0x10, 0x1f, handler).ok());
    ASSERT_TRUE(map.add(0xfff9, 0xffff, handler).ok());
    std::array<std::uint8_t, IoPortMap::kBitmapSize> bitmap{};
    map.write_bitmap(bitmap);
    for (unsigned port = 0; port < 0x10000; ++port) {
        const bool expected = (port >= 0x10 && port <= 0x1f) || port >= 0xfff9;
        ASSERT_EQ((bitmap[port / 8] >> port % 8 & 1) != 0, expected) << port;
    }
}

TEST(MmioMap, FindsTheHandlerOfAPage) {
    MmioMap map;
    Registers a, b;
    ASSERT_TRUE(map.add(0xfe000000, 0x2000, a).ok());
    ASSERT_TRUE(map.add(0xfe002000, 0x1000, b).ok());
    EXPECT_EQ(map.find(GuestPhysical(0xfe001fff)), &a);
    EXPECT_EQ(map.find(GuestPhysical(0xfe002000)), &b);
    EXPECT_EQ(map.find(GuestPhysical(0xfe003000)), nullptr);
    EXPECT_EQ(map.find(GuestPhysical(0xfdffffff)), nullptr);
    EXPECT_EQ(map.add(0xfe001000, 0x1000, b).error(), Error::kOverlap);
    EXPECT_EQ(map.add(0xfe003800, 0x1000, b).error(), Error::kMisaligned);
    EXPECT_EQ(map.add(0xfe004000, 0, b).error(), Error::kMisaligned);
}

}  // namespace
}  // namespace gatehouse::cpu
