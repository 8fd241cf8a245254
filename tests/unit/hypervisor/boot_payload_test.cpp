#include <gtest/gtest.h>

#include <vector>

#include "hypervisor/boot/payload.hpp"
#include "tests/unit/hypervisor/msr_model.hpp"

namespace gatehouse::boot {
namespace {

using launch::MemoryType;
using launch::ModuleRole;

constexpr std::uint64_t kTop = 0x4000000;
constexpr std::uint64_t kKept = 0x2000000;

class PayloadTest : public testing::Test, public guest::PhysicalView {
  protected:
    PayloadTest() {
        block.header.kept_base = kKept;
        add(ModuleRole::kPolicy, 0x1000000, "policy");
        add(ModuleRole::kApproval, 0x1001000, "approval");
        add(ModuleRole::kKernel, 0x1002000, "kernel");
        add(ModuleRole::kInitrd, 0x1003000, "initrd");
        add(ModuleRole::kCommandLine, 0x1004000, "root=/dev/sda4 ro");
        add_range(0, 0x9fc00, MemoryType::kUsable);
        add_range(0xf0000, 0x10000, MemoryType::kReserved);
        add_range(0x100000, kTop - 0x100000, MemoryType::kUsable);
    }
    MutableBytes at(HostPhysical place, std::size_t size) override {
        const std::uint64_t physical = place.value();
        return MutableBytes(bytes).subspan(physical, size);
    }
    void add(ModuleRole role, std::uint64_t address, std::string_view text) {
        copy_bytes(at(HostPhysical(address), text.size()), std::as_bytes(std::span(text)));
        block.modules[block.module_count++] = {.role = role, .address = address, .size = text.size()};
    }
    void add_range(std::uint64_t base, std::uint64_t length, MemoryType type) {
        block.memory[block.memory_count++] = {.base = base, .length = length, .type = type};
    }
    launch::Module& module(ModuleRole role) { return *const_cast<launch::Module*>(block.module(role)); }
    Status build() {
        map = {};
        GATEHOUSE_TRY(ram.read());
        return build_memory_map(block, ram, map);
    }
    Result<Payload> find() {
        GATEHOUSE_TRY(build());
        return find_payload(block, map, ram, *this, room);
    }
    static std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

    std::vector<std::byte> bytes = std::vector<std::byte>(kTop);
    std::vector<std::byte> room = std::vector<std::byte>(launch::kModulesSize);
    memory::MsrModel msrs{kTop};
    memory::Ram ram;
    launch::LaunchBlock block;
    guest::MemoryMap map;
};

TEST_F(PayloadTest, SmallModulesAreUsedFromTheCopy) {
    add(ModuleRole::kRecord, 0x1005000, "record");
    add(ModuleRole::kMachineApproval, 0x1006000, "machine");
    const auto payload = find();
    ASSERT_TRUE(payload.ok()) << payload.failure().item;
    std::fill(bytes.begin(), bytes.end(), std::byte{0});  // whatever is placed over them later
    EXPECT_EQ(text(payload->policy), "policy");
    EXPECT_EQ(text(payload->approval), "approval");
    EXPECT_EQ(text(payload->command_line), "root=/dev/sda4 ro");
    EXPECT_EQ(text(payload->record), "record");
    EXPECT_EQ(text(payload->machine_approval), "machine");
}

TEST_F(PayloadTest, KernelAndInitrdStayAndAreBusy) {
    const auto payload = find();
    ASSERT_TRUE(payload.ok());
    EXPECT_EQ(payload->kernel.data(), &bytes[0x1002000]);
    EXPECT_EQ(payload->initrd.data(), &bytes[0x1003000]);
    EXPECT_EQ(payload->busy[0], (Extent{0x1002000, 6}));
    EXPECT_EQ(payload->busy[1], (Extent{0x1003000, 6}));
    EXPECT_TRUE(payload->record.empty());
}

TEST_F(PayloadTest, RefusesMissingAndOversizedModules) {
    module(ModuleRole::kCommandLine).size = 0x1001;
    EXPECT_EQ(find().error(), Error::kBadLength);
    module(ModuleRole::kCommandLine).role = ModuleRole::kRecord;
    module(ModuleRole::kRecord).size = 10;
    EXPECT_EQ(find().error(), Error::kNotFound);
}

TEST_F(PayloadTest, RefusesModulesOutsideOfUsableMemory) {
    module(ModuleRole::kKernel).address = 0xf0000;
    EXPECT_EQ(find().error(), Error::kOutOfRange);
    module(ModuleRole::kKernel).address = kKept;
    EXPECT_EQ(find().error(), Error::kOutOfRange) << "kept";
    module(ModuleRole::kKernel).address = kTop;
    EXPECT_EQ(find().error(), Error::kOutOfRange);
}

TEST_F(PayloadTest, RefusesModulesThatAreNotCachedOrdinarily) {
    msrs.registers[0x200] = 0x1003000;  // one page uncacheable
    msrs.registers[0x201] = 0x000ffffffffff800;
    EXPECT_EQ(find().error(), Error::kRefused);
    msrs.registers[0x200] = 0x1008000;
    EXPECT_TRUE(find().ok());
}

TEST_F(PayloadTest, RefusesWhenTheCopiesDoNotFit) {
    room.resize(20);
    EXPECT_EQ(find().error(), Error::kNoSpace);
}

TEST_F(PayloadTest, RefusesAMapThatCallsADevicesMemoryRam) {
    for (const MemoryType type : {MemoryType::kUsable, MemoryType::kAcpi, MemoryType::kNvs}) {
        block.memory_count = 3;
        add_range(0xfd000000, 0x1000000, type);
        EXPECT_EQ(build().error(), Error::kOutOfRange);
        EXPECT_EQ(build().failure().detail, 0xfd000000u);
    }
    for (const MemoryType type : {MemoryType::kReserved, MemoryType::kUnusable}) {
        block.memory_count = 3;
        add_range(0xfd000000, 0x1000000, type);
        EXPECT_TRUE(build().ok());
    }
}

TEST_F(PayloadTest, RefusesShadowMemoryThatIsCalledUsable) {
    add_range(0xc0000, 0x10000, MemoryType::kUsable);
    EXPECT_EQ(build().error(), Error::kOutOfRange);
}

TEST_F(PayloadTest, RefusesAKeptRegionOutsideOfUsableMemory) {
    block.header.kept_base = kTop - launch::kKeptSize + 0x200000;
    EXPECT_EQ(build().error(), Error::kOutOfRange);
}

}  // namespace
}  // namespace gatehouse::boot
