// A hostile guest in front of the AHCI mediator. Input: one byte of device timing, TRIM and whether the port has a packet
// device in place of the disk, then operations of 8
// bytes: what, which, and six bytes of argument: register accesses of any kind, changes to command list,
// tables and descriptors, steps of the device. Whatever comes: DMA stays in guest RAM and the arena,
// hypervisor memory and the protected sectors stay as they are, nothing of the vault lands in guest RAM, no
// plaintext on the disk, no command that the policy refuses reaches it.
#include <memory>

#include "tests/fuzz/promises.hpp"
#include "tests/unit/ata/device_model.hpp"

namespace gatehouse::ata::testing {
namespace {

constexpr std::uint64_t kHole = 0x80000;
constexpr std::uint64_t kHoleSize = 0xc0000;
constexpr std::uint64_t kMemory = 0x180000;
constexpr std::uint64_t kCommandList = 0x1000;
constexpr std::uint64_t kTables = 0x10000;
constexpr std::uint64_t kTableSize = 0x400;
constexpr std::uint64_t kBuffers = 0x20000;
constexpr std::uint64_t kSectors = 512;
constexpr std::uint64_t kProtected = 96;  // overlay, read-only, vault: 32 sectors each
constexpr std::uint32_t kPort = 0x100;

void poke_command(PhysicalMemory& memory, std::uint32_t slot, std::span<const std::uint8_t, 6> a) {
    constexpr std::uint8_t kOpcodes[] = {0x60, 0x61, 0x25, 0x35, 0xc8, 0xca, 0xec, 0x2f,
                                         0xe7, 0x20, 0x30, 0xb0, 0x06, 0xa0, 0xa1};
    std::byte* table = memory.map(kTables + slot * kTableSize, kTableSize);
    std::byte* header = memory.map(kCommandList + slot * 32, 32);
    const std::uint8_t opcode = a[0] < 0xc0 ? kOpcodes[a[0] % std::size(kOpcodes)] : a[0];
    const bool queued = opcode == 0x60 || opcode == 0x61;
    const std::uint32_t count = 1 + a[2] % 40u;
    const auto put = [&](std::size_t i, unsigned v) { table[i] = static_cast<std::byte>(v & 0xff); };
    std::memset(table, 0, 0x80);
    put(0, 0x27), put(1, 0x80), put(2, opcode), put(7, 0x40), put(4, a[1]), put(5, a[3] & 1u);
    put(3, queued ? count : a[4]), put(12, queued ? slot << 3 : count);
    const std::uint32_t pieces = 1 + a[3] % 8u;
    const std::uint32_t piece = (count * 512 / pieces + 2) & ~1u;
    for (std::uint32_t i = 0; i < pieces; ++i) {
        store<std::uint64_t>(table + 0x80 + 16 * i, kBuffers + slot * 0x2000 + i * piece, Endian::kLittle);
        store<std::uint32_t>(table + 0x8c + 16 * i, piece - 1, Endian::kLittle);
    }
    constexpr std::uint8_t kOperations[] = {0x28, 0x12, 0x00, 0x03, 0x2a, 0x3b, 0x55, 0xa1};
    const bool packet = opcode == 0xa0;
    if (packet) put(3, a[4] & 7u), put(0x40, kOperations[a[1] % 8]), put(0x45, a[3]), put(0x48, 1 + a[2] % 8u);
    store<std::uint32_t>(header, 5u | (packet ? 1u << 5 : 0) | pieces << 16, Endian::kLittle);
    store<std::uint64_t>(header + 8, kTables + slot * kTableSize, Endian::kLittle);
}

void run(std::span<const std::uint8_t> input) {
    PhysicalMemory memory(kMemory, kHole, kHoleSize, ahci::Port::kMinimumArena);
    const bool packet_device = (input[0] & 0x40) != 0;
    DiskModel disk(512, kSectors);
    HbaModel hba(memory, input[0]);
    std::array<std::byte, 64> key{};
    key[0] = std::byte{1};
    XtsKey xts;
    check(xts.set(key).ok(), "key");
    std::array<std::byte, 16> secret;
    std::array<std::byte, 16> plaintext;
    for (std::size_t i = 0; i < 16; ++i) {
        secret[i] = static_cast<std::byte>(0xd0 + i);
        plaintext[i] = static_cast<std::byte>(0xb0 + 3 * i);
    }
    for (std::size_t at = 64 * 512; at < kProtected * 512; at += 16)
        copy_bytes(disk.sector(0, 512).subspan(at), secret);
    if (packet_device) wipe(disk.sector(64, 32));  // all of a medium may be read
    const std::vector<std::byte> protected_before(disk.sector(0, kProtected).begin(), disk.sector(0, kProtected).end());
    for (std::uint64_t at = kBuffers; at < kHole; at += 16) copy_bytes({memory.map(at, 16), 16}, plaintext);
    if (!packet_device) memory.never_in_guest.assign(secret.begin(), secret.end());
    const std::vector<std::byte> overlay(32 * 512);
    const std::array<Region, 3> regions{{{0, 32, RegionClass::kOverlay, overlay.data()},
                                         {32, 32, RegionClass::kReadOnly, nullptr},
                                         {64, 32, RegionClass::kHidden, nullptr}}};
    hba.plug(0, disk, packet_device ? 0xeb140101 : 0x101);
    const auto controller = std::make_unique<ahci::Controller>();
    check(controller->take_over(hba, memory.arena()).ok(), "take_over");
    check(controller->disks().size() == 1, "disks");
    if (!packet_device) {
        check(controller->disks()[0].identify().ok(), "identify");
        controller->disks()[0].attach(regions, xts);
    }
    controller->disks()[0].allow_trim((input[0] & 0x80) != 0);
    check(controller->hand_over().ok(), "hand_over");
    hba.chaos = input[0] % 64;
    for (const auto& [offset, value] : std::initializer_list<std::pair<std::uint32_t, std::uint32_t>>{
             {0x00, kCommandList}, {0x08, 0x2000}, {0x18, 0x16}, {0x14, ~0u}, {0x18, 0x17}}) {
        controller->write(kPort + offset, 4, value);
    }

    for (input = input.subspan(1); input.size() >= 8; input = input.subspan(8)) {
        const auto argument = input.subspan<2, 6>();
        std::uint64_t value = 0;
        for (const std::uint8_t byte : argument) value = value << 8 | byte;
        switch (input[0] % 12) {
            case 0: controller->write(input[1] * 4u, 4, value); break;
            case 1: controller->write(kPort + input[1] % 32u * 4u, 4, value); break;
            case 2: controller->write(static_cast<std::uint32_t>(value % 0x1200), 1u << (input[1] % 4u), value); break;
            case 3: (void)controller->read(static_cast<std::uint32_t>(value % 0x1200), 1u << (input[1] % 4u)); break;
            case 4: *memory.map(kCommandList + (argument[0] * 4u + input[1] % 4u), 1) = std::byte{argument[5]}; break;
            case 5: *memory.map(kTables + value % 0x8000, 1) = std::byte{input[1]}; break;
            case 6: controller->write(kPort + 0x18, 4, 0x16u | (input[1] & 1u)); break;
            case 7: (void)controller->read(kPort + 0x20, 4); break;
            case 8:
                for (unsigned i = input[1]; i != 0 && hba.step(); --i) {}
                (void)controller->read(kPort + 0x34, 4);
                (void)controller->read(kPort + 0x38, 4);
                break;
            default: {
                const std::uint32_t slot = input[1] % 32;
                poke_command(memory, slot, argument);
                if (argument[0] % 2 == 0 || argument[5] % 4 != 0) controller->write(kPort + 0x34, 4, 1u << slot);
                controller->write(kPort + 0x38, 4, 1u << slot);
                break;
            }
        }
    }
    for (int i = 0; i < 2000 && hba.step(); ++i) {
        if (i % 8 == 0) (void)controller->read(kPort + 0x20, 4);
    }
    check(memory.stray_accesses == 0, "DMA outside of guest RAM and arena");
    check(memory.leaks == 0, "vault bytes moved into guest RAM");
    check(!memory.guest_contains(secret), "vault bytes in guest RAM");
    check(memory.hypervisor_untouched(), "hypervisor memory changed");
    check(disk.dangerous_commands == 0, "a refused command reached the drive");
    check(disk.packets.empty() || packet_device, "a packet reached a disk");
    check(equal_bytes(disk.sector(0, kProtected), protected_before), "protected sectors changed");
    check(!contains(disk.sector(kProtected, kSectors - kProtected), plaintext), "plaintext on the disk");
}

}  // namespace
}  // namespace gatehouse::ata::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 0) gatehouse::ata::testing::run({data, size});
    return 0;
}
