// A hostile guest in front of the IDE mediator. Input: one byte of how the device misbehaves, then operations of 8 bytes: what,
// which, and six bytes of argument: register accesses of any kind and size, changes to the descriptors, steps of the device.
// Whatever comes: no DMA to guest RAM or hypervisor memory but the arena, the protected sectors stay as they are, nothing of
// the vault lands in guest RAM, no plaintext on the disk, no command that the policy refuses reaches it, nor any while busy.
#include <memory>

#include "tests/fuzz/promises.hpp"
#include "tests/unit/ata/ide_model.hpp"

namespace gatehouse::ata::testing {
namespace {

constexpr std::uint64_t kHole = 0x80000, kHoleSize = 0xc0000, kMemory = 0x180000;
constexpr std::uint64_t kTable = 0x10000, kBuffers = 0x20000;
constexpr std::uint64_t kSectors = 512;
constexpr std::uint64_t kProtected = 96;  // overlay, read-only, vault: 32 sectors each
constexpr std::uint16_t kMaster = IdeModel::kMasters;

// A command as a driver gives it, up to COMMAND.
void set_up(ide::Channel& channel, PhysicalMemory& memory, std::span<const std::uint8_t, 6> a) {
    const std::uint32_t count = 1 + a[2] % 40u, pieces = 1 + a[3] % 8u;
    const std::uint32_t piece = (count * 512 / pieces + 2) & ~1u;
    for (std::uint32_t i = 0; i < pieces; ++i) {
        store<std::uint32_t>(memory.map(kTable + 8 * i, 4), static_cast<std::uint32_t>(kBuffers + i * piece),
                             Endian::kLittle);
        store<std::uint32_t>(memory.map(kTable + 8 * i + 4, 4), piece | (i + 1 == pieces ? 1u << 31 : 0),
                             Endian::kLittle);
    }
    channel.write(kMaster + 4, 4, kTable);
    const std::uint8_t registers[] = {
        0, 0, 0, 0, 0, a[4], static_cast<std::uint8_t>(count), a[1], static_cast<std::uint8_t>(a[3] & 1), 0};
    channel.write(0x1f6, 1, 0x40);
    for (std::size_t i = 0; i < std::size(registers); ++i)
        channel.write(static_cast<std::uint16_t>(0x1f1 + i % 5), 1, registers[i]);
}

void run(std::span<const std::uint8_t> input) {
    PhysicalMemory memory(kMemory, kHole, kHoleSize, ide::Channel::kArena);
    DiskModel disk(512, kSectors), other(512, 16);
    IdeModel model(memory);
    std::array<std::byte, 64> key{};
    key[0] = std::byte{1};
    XtsKey xts;
    check(xts.set(key).ok(), "key");
    std::array<std::byte, 16> secret, plaintext;
    for (std::size_t i = 0; i < 16; ++i) {
        secret[i] = static_cast<std::byte>(0xd0 + i);
        plaintext[i] = static_cast<std::byte>(0xb0 + 3 * i);
    }
    for (std::size_t at = 64 * 512; at < kProtected * 512; at += 16)
        copy_bytes(disk.sector(0, kSectors).subspan(at), secret);
    const std::vector<std::byte> before(disk.sector(0, kProtected).begin(), disk.sector(0, kProtected).end());
    for (std::uint64_t at = kBuffers; at < kHole; at += 16) copy_bytes({memory.map(at, 16), 16}, plaintext);
    const std::vector<std::byte> overlay(32 * 512);
    const std::array<Region, 3> regions{{{0, 32, RegionClass::kOverlay, overlay.data()},
                                         {32, 32, RegionClass::kReadOnly, nullptr},
                                         {64, 32, RegionClass::kHidden, nullptr}}};
    model.plug(0, 0, disk);
    model.plug(0, 1, other);
    const auto channel = std::make_unique<ide::Channel>();
    check(channel->open(model, 0, kMaster, memory.arena()).ok(), "open");
    check(channel->identify().ok(), "identify");
    channel->attach(regions, xts);
    model.vault = {64, 32};
    const std::uint64_t others = other.opcodes_seen.size();
    model.paused = (input[0] & 1) != 0;
    model.late_transfers = (input[0] & 2) != 0;
    model.short_transfer = (input[0] & 4) != 0;
    model.spurious_data = (input[0] & 0x18) == 0x18;

    for (input = input.subspan(1); input.size() >= 8; input = input.subspan(8)) {
        const auto a = input.subspan<2, 6>();
        const unsigned size = 1u << (input[1] >> 4) % 3u, reg = input[1] % 8u;
        const std::uint32_t value = load<std::uint32_t>(reinterpret_cast<const std::byte*>(a.data()), Endian::kLittle);
        constexpr std::uint8_t kOpcodes[] = {0x25, 0x35, 0xc8, 0xca, 0x24, 0x34, 0x20, 0x30, 0xec, 0x47, 0x2f, 0xe7};
        switch (input[0] % 14) {
            case 0: channel->write(static_cast<std::uint16_t>(0x1f0 + reg), size, value); break;
            case 1: (void)channel->read(static_cast<std::uint16_t>(0x1f0 + reg), size); break;
            case 2: channel->write(static_cast<std::uint16_t>(kMaster + reg), size, value); break;
            case 3: (void)channel->read(static_cast<std::uint16_t>(kMaster + reg), size); break;
            case 4: channel->write(0x3f6, 1, value); break;
            case 5: *memory.map(kTable + a[0], 1) = std::byte{a[1]}; break;
            case 6: (void)model.step(); break;
            case 7: model.run(); break;
            case 8: model.land_late(); break;
            case 9:
                for (unsigned n = a[0]; n != 0; --n) (void)channel->read(0x1f0, 2);
                break;
            case 10:
                for (unsigned n = a[0]; n != 0; --n) channel->write(0x1f0, 4, value);
                break;
            case 11: model.vanished = a[0] > 0xf0; break;
            default:
                set_up(*channel, memory, a);
                channel->write(0x1f7, 1, a[0] < 0xe0 ? kOpcodes[a[0] % std::size(kOpcodes)] : a[5]);
                if (input[0] % 14 == 12) channel->write(kMaster, 1, 1);
                break;
        }
    }
    model.run();
    for (unsigned reg = 0; reg < 8; ++reg) (void)channel->read(static_cast<std::uint16_t>(kMaster + reg), 1);
    model.land_late();
    check(memory.stray_accesses == 0 && memory.guest_dma_writes == 0, "DMA outside of the arena");
    check(model.foreign_tables == 0, "descriptors outside of the arena");
    check(model.vault_moved == 0, "sectors of the vault in memory");
    check(model.forbidden_writes == 0, "DMA to descriptors, or to what is to be written");
    check(!memory.guest_contains(secret), "vault bytes in guest RAM");
    check(memory.hypervisor_untouched(), "hypervisor memory changed");
    check(model.refused_executed == 0, "a refused command reached the drive");
    check(other.opcodes_seen.size() == others, "a command reached a drive that is not attached");
    check(equal_bytes(disk.sector(0, kProtected), before), "protected sectors changed");
    check(!contains(disk.sector(kProtected, kSectors - kProtected), plaintext), "plaintext on the disk");
    check(model.vectors == 0, "vector registers");
}

}  // namespace
}  // namespace gatehouse::ata::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 0) gatehouse::ata::testing::run({data, size});
    return 0;
}
