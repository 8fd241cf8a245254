#include "hypervisor/boot/dma_proof.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace gatehouse::boot {
namespace {

constexpr std::uint64_t kAllowed = 0x10000, kRefused = 0x20000;

// An AHCI controller with a disk at port 2, which sends its signature after a reset of the link (AHCI 1.3.1, 10.4.2).
class Controller final : public ata::Environment {
  public:
    Controller() {
        registers[0x0c] = 0x7;
        for (const std::uint32_t port : {0x100u, 0x180u, 0x200u}) registers[port + 0x20] = 0x80;
        registers[0x228] = 0x113;
    }
    std::uint32_t read(std::uint32_t offset) override { return registers[offset]; }
    void write(std::uint32_t offset, std::uint32_t value) override {
        const std::uint32_t before = registers[offset];
        registers[offset] = value;
        if (offset == 0x22c && (before & 0xf) == 1 && (value & 0xf) == 0) {
            EXPECT_GE(time - reset_at, 1000u) << "a reset of the link lasts a millisecond (SATA 3.0, 10.4.2)";
            pending_ = !unplugged;
            if (unplugged) registers[0x228] = 0;
            registers[0x220] = 0x80;
        }
        if (offset == 0x22c && (value & 0xf) == 1) reset_at = time;
        if (offset != 0x218) return;
        registers[offset] = (value & 0x3fff) | (value & 0x10) << 10 | (value & 1) << 15;
        if (pending_ && (value & 0x10) != 0) post();
    }
    std::uint64_t microseconds() override { return time += 50; }
    ata::GuestBytes map(GuestPhysical, std::uint64_t) override { return {}; }
    void begin_vectors() override {}
    void end_vectors() override {}

    std::map<std::uint32_t, std::uint32_t> registers;
    std::map<std::uint64_t, std::vector<std::byte>> memory{{kAllowed, std::vector<std::byte>(4096)},
                                                           {kRefused, std::vector<std::byte>(4096)}};
    bool refuses = true;
    bool unplugged = false;  // after the reset
    bool gives_up = false;   // as QEMU does when its write fails
    std::uint64_t time = 0, reset_at = 0;

  private:
    void post() {
        const std::uint64_t area = registers[0x208] | std::uint64_t{registers[0x20c]} << 32;
        if (!refuses || area == kAllowed) {
            memory.at(area)[0x40] = std::byte{0x34};
        } else if (gives_up) {
            registers[0x218] &= ~0x4010u;
            return;
        }
        registers[0x220] = 0x50;
        pending_ = false;
    }
    bool pending_ = false;
};

bool holds_fis(const std::vector<std::byte>& area) { return area != std::vector<std::byte>(4096); }

TEST(DmaProof, TakesThePortWithADevice) {
    Controller controller;
    EXPECT_TRUE(*provoke_fis(controller, HostPhysical(kAllowed)));
    EXPECT_EQ(controller.registers[0x04], 0x80000000u) << "AHCI mode";
    Controller none;
    none.registers[0x0c] = 0x3;
    EXPECT_FALSE(*provoke_fis(none, HostPhysical(kAllowed))) << "not implemented";
    EXPECT_FALSE(holds_fis(none.memory[kAllowed]));
}

TEST(DmaProof, AWriteLandsWhereItMay) {
    Controller controller;
    ASSERT_TRUE(provoke_fis(controller, HostPhysical(kAllowed)).ok());
    EXPECT_TRUE(holds_fis(controller.memory[kAllowed]));
    EXPECT_EQ(controller.registers[0x218] & 0x4010, 0u) << "the area is in no use any more";
}

TEST(DmaProof, AnIommuThatRefusesLeavesTheAreaAlone) {
    for (const bool gives_up : {false, true}) {
        Controller controller;
        controller.gives_up = gives_up;
        ASSERT_TRUE(provoke_fis(controller, HostPhysical(kRefused)).ok());
        EXPECT_FALSE(holds_fis(controller.memory[kRefused]));
        EXPECT_LT(controller.time, 5'000'000u);
        ASSERT_TRUE(provoke_fis(controller, HostPhysical(kAllowed)).ok());
        EXPECT_TRUE(holds_fis(controller.memory[kAllowed])) << "and the same write is seen where it may land";
    }
}

TEST(DmaProof, AnIommuThatDoesNotIsSeen) {
    Controller controller;
    controller.refuses = false;
    ASSERT_TRUE(provoke_fis(controller, HostPhysical(kRefused)).ok());
    EXPECT_TRUE(holds_fis(controller.memory[kRefused]));
}

TEST(DmaProof, EndsWithoutAnAnswer) {
    Controller controller;
    controller.unplugged = true;
    EXPECT_TRUE(provoke_fis(controller, HostPhysical(kAllowed)).ok());
    EXPECT_FALSE(holds_fis(controller.memory[kAllowed]));
}

}  // namespace
}  // namespace gatehouse::boot
