// What a register's type allows, and what it does not: the second half does not compile, so it is asked by concepts.
#include "hypervisor/platform/io.hpp"

#include <gtest/gtest.h>

#include <array>

#include "hypervisor/cpu/apic.hpp"
#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/platform/guest_tables.hpp"
#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::platform {
namespace {

template <typename Registers, typename Reg>
concept Reads = requires(Registers& bus, Reg reg) {
    bus.read(reg);
};
template <typename Number>
concept IsMsr = requires(Number number) {
    read_msr(number);
};

// The width is the register's.
static_assert(std::is_same_v<decltype(Mmio<Hpet>(HostPhysical()).read(kHpetCapabilities)), std::uint64_t>);
static_assert(std::is_same_v<decltype(Mmio<IoApic>(HostPhysical()).read(kIoApicWindow)), std::uint32_t>);
static_assert(std::is_same_v<decltype(std::declval<TpmBus&>().read(kTpmAccess)), std::uint8_t>);
static_assert(std::is_same_v<decltype(std::declval<TpmBus&>().read(kTpmInterfaceId)), std::uint32_t>);
static_assert(std::is_same_v<decltype(in(kResetControl)), std::uint8_t>);
// No register of another device, no other width, no offset without a declaration.
static_assert(Reads<Mmio<Hpet>, decltype(kHpetCapabilities)> && !Reads<Mmio<IoApic>, decltype(kHpetCapabilities)>);
static_assert(!Reads<Mmio<Hpet>, std::uint32_t> && !Reads<TpmBus, std::uint32_t>);
static_assert(!Reads<TpmBus, Register<TpmBus, std::uint64_t>>);
static_assert(!Reads<TpmBus, cpu::apic::Register>);
static_assert(Reads<memory::IommuRegisters, memory::IommuRegisters::Register>);
static_assert(!Reads<memory::IommuRegisters, Register<memory::IommuRegisters, std::uint32_t>>);
static_assert(!Reads<memory::IommuRegisters, decltype(kHpetCapabilities)>);
static_assert(!Reads<memory::IommuRegisters, std::uint32_t>);
static_assert(IsMsr<Msr> && !IsMsr<std::uint32_t> && !IsMsr<std::uint16_t> && !IsMsr<int>);
// Registers are found by addresses of the machine's: no number is one.
static_assert(!std::is_constructible_v<Mmio<Hpet>, std::uint64_t>);

struct Block;

TEST(Mmio, AccessesAreAsWideAsTheRegister) {
    alignas(8) std::array<std::uint8_t, 16> memory{};
    const Mmio<Block> block{HostPhysical(reinterpret_cast<std::uint64_t>(memory.data()))};
    constexpr Register<Block, std::uint8_t> kByte{1};
    constexpr Register<Block, std::uint16_t> kWord{2};
    constexpr Register<Block, std::uint32_t> kDouble{4};
    constexpr Register<Block, std::uint64_t> kQuad{8};
    block.write(kByte, 0x11);
    block.write(kWord, 0x3322);
    block.write(kDouble, 0x77665544);
    block.write(kQuad, 0xffeeddccbbaa9988);
    EXPECT_EQ(memory, (std::array<std::uint8_t, 16>{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb,
                                                    0xcc, 0xdd, 0xee, 0xff}));
    EXPECT_EQ(block.read(kByte), 0x11);
    EXPECT_EQ(block.read(kWord), 0x3322);
    EXPECT_EQ(block.read(kDouble), 0x77665544u);
    EXPECT_EQ(block.read(kQuad), 0xffeeddccbbaa9988u);
}

}  // namespace
}  // namespace gatehouse::platform
