// INS from a trapped port, as handle_port() hands it over: into guest RAM, through the guest's page table.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <memory>
#include <vector>

#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"

namespace gatehouse::cpu {
namespace {

memory::PhysicalMemory* ram = nullptr;
IoPortMap* ports = nullptr;

}  // namespace

// Of the hypervisor's own: what the instruction needs.
memory::PhysicalMemory& guest_memory() { return *ram; }
IoPortMap& port_map() { return *ports; }
bool svm::in_64_bit_code(const Vmcb& vmcb) { return (vmcb.cs.attributes & kAttributeLong) != 0; }
void svm::skip(Vcpu& vcpu, unsigned length) { vcpu.vmcb.rip += length; }

namespace svm {
namespace {

constexpr std::uint64_t kRepeated = 1u << 3, k16Bits = 1u << 7, k32Bits = 1u << 8, k64Bits = 1u << 9;  // EXITINFO1
constexpr std::uint64_t kDirection = 1u << 10, kRip = 0x1000, kCount = 0xffff'8880'0000'0000;

// A device whose data are 1, 2, 3, ...
struct Counter final : IoPortHandler {
    std::uint32_t read(std::uint16_t port, unsigned size) override {
        EXPECT_EQ(port, 0x1f0);
        sizes.push_back(size);
        return static_cast<std::uint32_t>(sizes.size()) | 0xffff0000u;
    }
    void write(std::uint16_t, unsigned, std::uint32_t) override { ADD_FAILURE(); }
    std::vector<unsigned> sizes;
};

std::uint8_t real(std::uint16_t) {
    ADD_FAILURE() << "the real port is read";
    return 0;
}

// Pages of the guest at an address that is below 512 GiB in this program too: four of tables, then four of data. The first of
// these is mapped at kMapped, behind it the third, the one after that is not there, and the next is no RAM.
class StringInput : public testing::Test {
  protected:
    static constexpr std::uint64_t kBase = 0x20000000, kMapped = 0x7fff0000, kPage = 4096, kFirst = 4, kSecond = 6;
    static constexpr std::size_t kSize = 8 * kPage;

    void SetUp() override {
        void* const at = mmap(reinterpret_cast<void*>(kBase), kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        ASSERT_EQ(at, reinterpret_cast<void*>(kBase));
        ASSERT_TRUE(ram_.add({kBase, kSize}).ok());
        ASSERT_TRUE(ports_.add(0x1f0, 0x1f7, device).ok());
        ram = &ram_;
        ports = &ports_;
        const auto entry = [](std::uint64_t table, std::uint64_t index, std::uint64_t to) {
            reinterpret_cast<std::uint64_t*>(kBase + table * kPage)[index] = to | 3;
        };
        for (std::uint64_t i = 0; i < 3; ++i) entry(i, kMapped >> (39 - 9 * i) & 511, kBase + (i + 1) * kPage);
        const std::uint64_t last = kMapped >> 12 & 511;
        entry(3, last, kBase + kFirst * kPage);
        entry(3, last + 1, kBase + kSecond * kPage);
        entry(3, last + 3, kBase + kSize);
        vcpu.vmcb.cr3 = kBase;
        vcpu.vmcb.cs.attributes = kAttributeLong;
        vcpu.vmcb.exit_info1 = kPortIn | kPortString | k64Bits;
        vcpu.vmcb.rip = kRip;
        vcpu.vmcb.exit_info2 = kRip + 2;
        address() = kMapped;
        count() = kCount;
    }
    void TearDown() override {
        munmap(reinterpret_cast<void*>(kBase), kSize);
        ram = nullptr;
        ports = nullptr;
    }
    std::uint64_t& address() { return vcpu.registers[7]; }
    std::uint64_t& count() { return vcpu.registers[1]; }
    bool input(unsigned size = 2) { return handle_string_input(vcpu, 0x1f0, size, real); }
    void repeat(std::uint64_t times) {
        vcpu.vmcb.exit_info1 |= kRepeated;
        count() = times;
    }
    static std::uint16_t word(std::uint64_t page, std::uint64_t offset) {
        return load<std::uint16_t>(reinterpret_cast<const std::byte*>(kBase + page * kPage + offset), Endian::kLittle);
    }
    // Nothing has been read, written or skipped.
    void expect_refused(unsigned size = 2) {
        const std::uint64_t address_before = address(), count_before = count();
        EXPECT_FALSE(input(size));
        EXPECT_TRUE(device.sizes.empty());
        EXPECT_EQ(vcpu.vmcb.rip, kRip);
        EXPECT_EQ(address(), address_before);
        EXPECT_EQ(count(), count_before);
    }

    memory::PhysicalMemory ram_;
    IoPortMap ports_;
    Counter device;
    std::unique_ptr<Vcpu> owned = std::make_unique<Vcpu>();
    Vcpu& vcpu = *owned;
};

TEST_F(StringInput, ReadsOneElementWithoutRep) {
    address() = kMapped + 6;
    ASSERT_TRUE(input());
    EXPECT_EQ(device.sizes, std::vector{2u});
    EXPECT_EQ(word(kFirst, 6), 1);
    EXPECT_EQ(word(kFirst, 8), 0) << "no more than the element";
    EXPECT_EQ(address(), kMapped + 8);
    EXPECT_EQ(count(), kCount) << "RCX is not the instruction's";
    EXPECT_EQ(vcpu.vmcb.rip, kRip + 2);
}

TEST_F(StringInput, ReadsAsManyElementsAsRcxSays) {
    repeat(256);
    ASSERT_TRUE(input());
    EXPECT_EQ(device.sizes, std::vector<unsigned>(256, 2));
    for (std::uint64_t i = 0; i < 256; ++i) ASSERT_EQ(word(kFirst, 2 * i), i + 1);
    EXPECT_EQ(word(kFirst, 512), 0);
    EXPECT_EQ(address(), kMapped + 512);
    EXPECT_EQ(count(), 0u);
    EXPECT_EQ(vcpu.vmcb.rip, kRip + 2);
}

TEST_F(StringInput, ReadsElementsOfOneAndOfFourBytes) {
    ASSERT_TRUE(input(1));
    ASSERT_TRUE(input(4));
    EXPECT_EQ(device.sizes, (std::vector{1u, 4u}));
    EXPECT_EQ(word(kFirst, 0), 0x0201);
    EXPECT_EQ(word(kFirst, 2), 0xff00);
    EXPECT_EQ(word(kFirst, 4), 0x00ff);
    EXPECT_EQ(address(), kMapped + 5);
}

// The guest executes the instruction anew for what lies on the next page, which is another one in its memory.
TEST_F(StringInput, StopsAtTheEndOfAPageAndGoesOn) {
    address() = kMapped + kPage - 4;
    repeat(5);
    ASSERT_TRUE(input());
    EXPECT_EQ(device.sizes.size(), 2u);
    EXPECT_EQ(address(), kMapped + kPage);
    EXPECT_EQ(count(), 3u);
    EXPECT_EQ(vcpu.vmcb.rip, kRip);
    EXPECT_EQ(word(kFirst + 1, 0), 0) << "the next page of the machine's";
    ASSERT_TRUE(input());
    EXPECT_EQ(count(), 0u);
    EXPECT_EQ(vcpu.vmcb.rip, kRip + 2);
    EXPECT_EQ(word(kFirst, kPage - 2), 2);
    EXPECT_EQ(word(kSecond, 0), 3);
    EXPECT_EQ(word(kSecond, 4), 5);
}

TEST_F(StringInput, OfNoElementsIsSkipped) {
    repeat(0);
    address() = 0;  // not mapped
    ASSERT_TRUE(input());
    EXPECT_TRUE(device.sizes.empty());
    EXPECT_EQ(vcpu.vmcb.rip, kRip + 2);
    EXPECT_EQ(address(), 0u);
}

TEST_F(StringInput, RefusesMemoryThatIsNotMappedOrNoRam) {
    for (const std::uint64_t page : {2, 3}) {
        address() = kMapped + page * kPage;
        expect_refused();
    }
    repeat(4);
    address() = 0;
    expect_refused();
}

TEST_F(StringInput, RefusesAnElementThatCrossesPages) {
    address() = kMapped + kPage - 1;
    expect_refused();
    address() = kMapped + kPage - 3;
    expect_refused(4);
}

TEST_F(StringInput, RefusesWhatIsNotAKernels64BitCodeUpwards) {
    Vmcb& vmcb = vcpu.vmcb;
    vmcb.cpl = 3;
    expect_refused();
    vmcb.cpl = 0;
    vmcb.cs.attributes = 0;
    expect_refused();
    vmcb.cs.attributes = kAttributeLong;
    vmcb.rflags = kDirection;
    expect_refused();
    vmcb.rflags = 0;
    for (const std::uint64_t narrow : {k16Bits, k32Bits}) {
        vmcb.exit_info1 = kPortIn | kPortString | narrow;
        expect_refused();
    }
    vmcb.exit_info1 = kPortString | k64Bits;  // OUTS
    expect_refused();
    vmcb.exit_info1 |= kPortIn;
    EXPECT_TRUE(input());
}

}  // namespace
}  // namespace svm
}  // namespace gatehouse::cpu
