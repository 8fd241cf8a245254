#include "tests/unit/ata/machine.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>

namespace gatehouse::ata::testing {

using ahci::bits;
using ahci::PortCommand;
using ahci::PortRegister;

std::vector<std::byte> openssl_xts(bool encrypt, std::span<const std::byte, 64> key, Bytes data,
                                   std::uint32_t sector_size, std::uint64_t lba) {
    std::vector<std::byte> out(data.size());
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    for (std::size_t at = 0; at < data.size(); at += sector_size, ++lba) {
        std::array<unsigned char, 16> tweak{};
        const std::uint64_t unit = lba * (sector_size / 512);
        for (std::size_t i = 0; i < 8; ++i) tweak[i] = static_cast<unsigned char>(unit >> (8 * i));
        int size = 0;
        EXPECT_EQ(1, EVP_CipherInit_ex(context, EVP_aes_256_xts(), nullptr, raw(Bytes(key)), tweak.data(), encrypt));
        EXPECT_EQ(1, EVP_CipherUpdate(context, reinterpret_cast<unsigned char*>(out.data() + at), &size,
                                      raw(data.subspan(at, sector_size)), static_cast<int>(sector_size)));
    }
    EVP_CIPHER_CTX_free(context);
    return out;
}

Machine::Machine(const Options& o)
    : options(o),
      memory(o.memory, kHole, kHoleSize, o.arena),
      disk(o.sector_size, o.sectors),
      hba(memory, o.seed),
      random(o.seed) {
    for (auto& b : key) b = static_cast<std::byte>(random());
    for (auto& b : secret) b = static_cast<std::byte>(random());
    EXPECT_TRUE(xts.set(key).ok());
    hba.plug(kPort, disk, o.signature);
    overlay = random_bytes(kGptEnd * o.sector_size);
    for (std::uint64_t lba = 0; lba < kVault; ++lba) copy_bytes(disk.sector(lba), random_bytes(o.sector_size));
    for (std::uint64_t lba = kVault; lba < kData; ++lba) {
        for (std::size_t at = 0; at < o.sector_size; at += secret.size()) {
            copy_bytes(disk.sector(lba).subspan(at), secret);
        }
    }
    regions = {{0, kGptEnd, RegionClass::kOverlay, overlay.data()},
               {kBoot, kVault - kBoot, RegionClass::kReadOnly, nullptr},
               {kVault, kData - kVault, RegionClass::kHidden, nullptr}};
    memory.never_in_guest.assign(secret.begin(), secret.end());
}

ahci::Port& Machine::take_over() {
    const Status taken = mediator->take_over(hba, memory.arena());
    EXPECT_TRUE(taken.ok()) << taken.failure().item;
    EXPECT_EQ(mediator->disks().size(), 1u);
    EXPECT_EQ(mediator->disks()[0].number(), kPort);
    return mediator->disks()[0];
}

void Machine::launch() {
    ahci::Port& port = take_over();
    if (options.signature == 0x101) {
        const Status identified = port.identify();
        ASSERT_TRUE(identified.ok()) << identified.failure().item;
        ASSERT_EQ(port.geometry().sector_size, options.sector_size);
        ASSERT_EQ(port.geometry().sectors, options.sectors);
        port.attach(regions, xts);
    }
    ASSERT_TRUE(mediator->hand_over().ok());
    hba.chaos = options.chaos;
}

void Machine::boot_guest() {
    mediator->write(4, 4, 0x80000000);
    mediator->write(4, 4, 0x80000001);
    for (int i = 0; (mediator->read(4, 4) & 1) != 0; ++i) {
        ASSERT_LT(i, 1000) << "controller reset";
        hba.run();
    }
    mediator->write(4, 4, 0x80000000);
    start_port();
    mediator->write(8, 4, mediator->read(8, 4));
    mediator->write(4, 4, 0x80000002);
}

void Machine::start_port() {
    set(PortRegister::kCommandList, kCommandList);
    set(PortRegister::kCommandListUpper, 0);
    set(PortRegister::kFis, kFisArea);
    set(PortRegister::kFisUpper, 0);
    std::uint32_t command = reg(PortRegister::kCommand) | bits(PortCommand::kFisEnable);
    set(PortRegister::kCommand, command);
    set(PortRegister::kSataError, reg(PortRegister::kSataError));
    set(PortRegister::kInterruptStatus, reg(PortRegister::kInterruptStatus));
    mediator->write(8, 4, 1u << kPort);
    set(PortRegister::kInterruptEnable, 0x7840007f);
    command = reg(PortRegister::kCommand) | bits(PortCommand::kStart);
    set(PortRegister::kCommand, command);
    issued = issued_queued = error = 0;
}

void Machine::stop_port() {
    set(PortRegister::kCommand, reg(PortRegister::kCommand) & ~bits(PortCommand::kStart));
    for (int i = 0; (reg(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0; ++i) {
        ASSERT_LT(i, 1000) << "port does not stop";
        hba.run();
    }
    issued = issued_queued = 0;
}

void Machine::build(std::uint32_t slot, const Request& r) {
    auto regions_of = r.regions;
    if (regions_of.empty()) {
        for (std::uint64_t at = 0; at < r.bytes; at += 0x400000) {
            regions_of.emplace_back(r.buffer + at,
                                    static_cast<std::uint32_t>(std::min<std::uint64_t>(0x400000, r.bytes - at)));
        }
    }
    const std::uint64_t own_table = kTables + slot * kTableStride;
    std::byte* table = memory.guest(own_table, kTableStride);
    std::array<std::byte, 64> fis{};
    const auto put = [&](std::size_t i, std::uint64_t v) { fis[i] = static_cast<std::byte>(v & 0xff); };
    std::uint64_t features = r.features;
    std::uint64_t count = r.count;
    if (is_queued(r.opcode)) {
        features = r.count;
        count = slot << 3;
    }
    put(0, 0x27), put(1, 0x80), put(2, r.opcode), put(3, features), put(11, features >> 8);
    for (std::size_t i = 0; i < 3; ++i) put(4 + i, r.lba >> (8 * i)), put(8 + i, r.lba >> (24 + 8 * i));
    put(7, r.device), put(12, count), put(13, count >> 8), put(15, 0x08);
    if (r.edit_fis) r.edit_fis(fis);
    std::copy(fis.begin(), fis.end(), table);
    std::ranges::fill_n(table + fis.size(), 16, std::byte{0});
    std::ranges::copy(std::as_bytes(std::span(r.packet)), table + fis.size());
    for (std::size_t i = 0; i < regions_of.size() && i < 16000; ++i) {
        store<std::uint64_t>(table + 0x80 + 16 * i, regions_of[i].first, Endian::kLittle);
        store<std::uint32_t>(table + 0x8c + 16 * i, regions_of[i].second - 1, Endian::kLittle);
    }
    std::byte* header = memory.guest(kCommandList + slot * 32, 32);
    const std::uint32_t prdtl = r.prdtl.value_or(static_cast<std::uint16_t>(regions_of.size()));
    store<std::uint32_t>(header, r.header_flags | prdtl << 16, Endian::kLittle);
    store<std::uint32_t>(header + 4, 0, Endian::kLittle);
    store<std::uint64_t>(header + 8, r.table.value_or(own_table), Endian::kLittle);
}

void Machine::issue(std::uint32_t slots, std::uint32_t queued) {
    issued |= slots;
    issued_queued |= queued;
    if (queued != 0) set(PortRegister::kSataActive, queued);
    set(PortRegister::kCommandIssue, slots);
}

void Machine::submit(std::uint32_t slot, const Request& request) {
    build(slot, request);
    issue(1u << slot, is_queued(request.opcode) ? 1u << slot : 0);
}

// The order of ahci_single_level_irq_intr and ahci_port_intr of Linux 6.1.
std::uint32_t Machine::handle_interrupt() {
    ++interrupts;
    const auto global = static_cast<std::uint32_t>(mediator->read(8, 4));
    if (global == 0) return 0;
    EXPECT_EQ(global & ~(1u << kPort), 0u);
    const std::uint32_t status = reg(PortRegister::kInterruptStatus);
    set(PortRegister::kInterruptStatus, status);
    std::uint32_t completed = 0;
    error = status & 0x7d800010;
    if (error == 0) {
        const std::uint32_t active =
            issued_queued != 0 ? reg(PortRegister::kSataActive) : reg(PortRegister::kCommandIssue);
        EXPECT_EQ(active & ~issued, 0u) << "a slot became active by itself";
        completed = issued & ~active;
        issued &= ~completed;
        issued_queued &= ~completed;
    }
    mediator->write(8, 4, global);
    return completed;
}

std::uint32_t Machine::wait(std::uint32_t mask) {
    std::uint32_t completed = 0;
    for (int idle = 0; (completed & mask) != mask && error == 0; ++idle) {
        if (idle > 10000) {
            ADD_FAILURE() << "no interrupt for slots " << std::hex << (mask & ~completed);
            break;
        }
        if (!hba.paused) {
            const std::lock_guard lock(hba.mutex);
            hba.step();
        }
        if (!hba.take_interrupt()) continue;
        idle = 0;
        completed |= handle_interrupt();
    }
    return completed;
}

bool Machine::command(const Request& request, std::uint32_t slot) {
    submit(slot, request);
    return wait(1u << slot) == 1u << slot && error == 0;
}

std::optional<std::uint32_t> Machine::recover(bool was_queued) {
    stop_port();
    start_port();
    if (!was_queued) return std::nullopt;
    const std::uint64_t buffer = kFisArea + 0x1000;
    EXPECT_TRUE(command({.opcode = 0x2f, .lba = 0x10, .count = 1, .buffer = buffer, .bytes = 512}));
    const MutableBytes page = ram(buffer, 512);
    unsigned sum = 0;
    for (const std::byte b : page) sum += std::to_integer<unsigned>(b);
    if ((page[0] & std::byte{0x80}) != std::byte{0}) return std::nullopt;
    EXPECT_EQ(sum & 0xff, 0u) << "log 10h checksum";
    return std::to_integer<std::uint32_t>(page[0]) & 0x1f;
}

bool Machine::read(std::uint64_t lba, std::uint32_t count, MutableBytes out) {
    const Request request{.opcode = 0x25, .lba = lba, .count = count, .buffer = kBuffers, .bytes = out.size()};
    if (!command(request)) return false;
    copy_bytes(out, ram(kBuffers, out.size()));
    return true;
}

bool Machine::write(std::uint64_t lba, Bytes data) {
    copy_bytes(ram(kBuffers, data.size()), data);
    const auto count = static_cast<std::uint32_t>(data.size() / options.sector_size);
    return command({.opcode = 0x35,
                    .lba = lba,
                    .count = count,
                    .buffer = kBuffers,
                    .bytes = data.size(),
                    .header_flags = 5 | 1u << 6});
}

std::vector<std::byte> Machine::decrypted(std::uint64_t lba, std::uint64_t count) {
    return openssl_xts(false, key, disk.sector(lba, count), options.sector_size, lba);
}

void Machine::fill_encrypted(std::uint64_t lba, Bytes plaintext) {
    copy_bytes(disk.sector(lba, plaintext.size() / options.sector_size),
               openssl_xts(true, key, plaintext, options.sector_size, lba));
}

std::vector<std::byte> Machine::random_bytes(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (auto& b : bytes) b = static_cast<std::byte>(random());
    return bytes;
}

void Machine::expect_untouched() const {
    EXPECT_EQ(memory.stray_accesses, 0u) << "DMA outside of guest RAM and arena";
    EXPECT_EQ(memory.leaks, 0u) << "vault bytes moved into guest RAM";
    EXPECT_FALSE(memory.guest_contains(secret)) << "vault bytes in guest RAM";
    EXPECT_TRUE(memory.hypervisor_untouched());
    EXPECT_EQ(hba.protocol_violations, 0u);
    EXPECT_EQ(hba.short_tables, 0u);
    EXPECT_EQ(disk.dangerous_commands, 0u);
}

}  // namespace gatehouse::ata::testing
