// A disk whose power can fail at any write or flush, with an image on it and a vault whose keys need no TPM: for tests that
// cut a work of sealed-key at every step.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "ata/xts/xts.hpp"
#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"

namespace gatehouse::host {

inline constexpr std::size_t kSector = 512;
inline constexpr std::uint64_t kTotal = 2700;
inline constexpr std::uint64_t kVaultFirst = 64;
inline constexpr std::size_t kWindow = 128 * kSector;  // small, so that there are several

class Sequence final : public RandomSource {
  public:
    explicit Sequence(std::uint64_t seed) : seed_(seed) {}
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(next());
    }
    std::uint64_t next() {  // xorshift64*
        seed_ ^= seed_ >> 12;
        seed_ ^= seed_ << 25;
        seed_ ^= seed_ >> 27;
        return (seed_ * 0x2545f4914f6cdd1d) >> 56;
    }

  private:
    std::uint64_t seed_;
};

// A disk whose power can fail. Sectors are written whole; those that have not been flushed are on the medium or not. Sectors
// go bad until they are written again.
class FragileDisk final : public BlockDevice {
  public:
    explicit FragileDisk(Buffer content) : seen_(content), stable_(std::move(content)) {}

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::size_t sector_size() const override { return kSector; }
    [[nodiscard]] std::uint64_t total_sectors() const override { return kTotal; }
    void read(std::uint64_t lba, MutableBytes out) const override {
        const auto bad = bad_.lower_bound(lba);
        if (bad != bad_.end() && *bad < lba + out.size() / kSector) throw ToolError("the disk cannot be read");
        copy_bytes(out, Bytes(seen_).subspan(lba * kSector, out.size()));
    }
    void write(std::uint64_t lba, Bytes data) override {
        demand_power();
        if (cache_lies_ && operations_ + 1 == fail_at_) count();  // refused as a whole: the cache would show it
        for (std::size_t at = 0; at < data.size(); at += kSector) {
            const Bytes sector = data.subspan(at, kSector);
            pending_[lba + at / kSector] = Buffer(sector.begin(), sector.end());
        }
        count();
        bad_.erase(bad_.lower_bound(lba), bad_.lower_bound(lba + data.size() / kSector));
        copy_bytes(MutableBytes(seen_).subspan(lba * kSector), data);
    }
    void flush() override {
        demand_power();
        try {
            count();
        } catch (const ToolError&) {
            if (cache_lies_) pending_.clear();
            throw;
        }
        for (const auto& [lba, sector] : pending_) copy_bytes(MutableBytes(stable_).subspan(lba * kSector), sector);
        pending_.clear();
    }

    // The operation of this number, from 1, is the last: it fails, and so does every other one after it; 0: none.
    void fail_at(unsigned number) {
        fail_at_ = number;
        operations_ = 0;
        off_ = false;
    }
    [[nodiscard]] unsigned operations() const { return operations_; }

    // What a flush that fails did not write reads as if it had, until the power fails; nobody writes it any more. So does
    // Linux's page cache.
    void let_cache_lie() { cache_lies_ = true; }
    // Back after the cut: of what was not flushed, each sector is there by chance; 0 none, 1 all.
    void power_up(std::uint64_t chance) {
        Sequence random(chance);
        for (const auto& [lba, sector] : pending_) {
            if (chance == 0 || (chance > 1 && random.next() % 2 == 0)) continue;
            copy_bytes(MutableBytes(stable_).subspan(lba * kSector), sector);
        }
        pending_.clear();
        seen_ = stable_;
        fail_at(0);
    }
    void go_bad(std::uint64_t lba) { bad_.insert(lba); }
    [[nodiscard]] const Buffer& content() const { return seen_; }

  private:
    void count() {
        off_ = ++operations_ == fail_at_;
        demand_power();
    }
    void demand_power() const {
        if (off_) throw ToolError("the disk fails");
    }
    std::string path_ = "disk";
    Buffer seen_;
    Buffer stable_;
    std::map<std::uint64_t, Buffer> pending_;
    std::set<std::uint64_t> bad_;
    unsigned operations_ = 0;
    unsigned fail_at_ = 0;
    bool off_ = false;
    bool cache_lies_ = false;
};

inline void put_entry(Buffer& table, std::size_t index, const volume::Guid& type, std::uint64_t first,
                      std::uint64_t last, std::string_view name) {
    Writer writer(MutableBytes(table).subspan(index * volume::kGptEntrySize, volume::kGptEntrySize));
    writer.bytes(type);
    writer.bytes(type);
    writer.u64(first);
    writer.u64(last);
    writer.u64(0);
    for (const char unit : name) writer.u16(static_cast<std::uint16_t>(unit));
}

inline Buffer make_image() {
    Buffer image(kTotal * kSector);
    Sequence(7).fill(image);
    std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(kVaultFirst * kSector), 2048 * kSector, std::byte{0});
    Buffer table(volume::kGptMaxTableSize);
    put_entry(table, 0, volume::kBootPartitionType, 40, 63, volume::kBootPartitionName);
    put_entry(table, 4, volume::kVaultPartitionType, kVaultFirst, kVaultFirst + 2047, "vault");
    put_entry(table, 1, volume::Guid{std::byte{1}}, 2120, 2600, "root");
    const auto put = [&](std::uint64_t lba, std::uint64_t other, std::uint64_t entries) {
        const MutableBytes sector = MutableBytes(image).subspan(lba * kSector, kSector);
        std::ranges::fill(sector, std::byte{0});
        Writer writer(sector);
        writer.bytes(literal_bytes("EFI PART"));
        writer.u32(0x00010000);
        writer.u32(92);
        writer.zeros(8);
        writer.u64(lba);
        writer.u64(other);
        writer.u64(34);
        writer.u64(kTotal - 34);
        writer.zeros(16);
        writer.u64(entries);
        writer.u32(128);
        writer.u32(128);
        writer.u32(volume::crc32(table));
        store(sector.data() + volume::kGptHeaderCrcAt, volume::crc32(sector.first(92)), Endian::kLittle);
        copy_bytes(MutableBytes(image).subspan(entries * kSector), table);
    };
    put(1, kTotal - 1, 2);
    put(kTotal - 1, 1, kTotal - 33);
    return image;
}

inline const Buffer& image() {
    static const Buffer kImage = make_image();
    return kImage;
}

inline const volume::SlotSecret& recovery() {
    static volume::SlotSecret secret;
    secret.bytes()[3] = std::byte{9};
    return secret;
}

// As make_vault() does it, without a TPM.
inline void make_keys(RandomSource& random, OpenVault& vault) {
    volume::Header& header = vault.header;
    random.fill(vault.keys.kek.bytes());
    random.fill(vault.keys.root.bytes());
    header.vault_id = volume::vault_id(vault.keys.root);
    header.root = volume::wrap_root(vault.keys.root, vault.keys.kek, header.disk, random);
    header.data_key =
        expect(volume::wrap_dek(vault.keys.dek, header.data_key.epoch, vault.keys.kek, header.disk, random), "key");
    header.slots.recovery = volume::wrap_kek(vault.keys.kek, volume::SlotKind::kRecovery, recovery(), header, random);
}

// A vault for the disk, not on it yet; `tables` become those that it wants.
inline std::unique_ptr<OpenVault> new_vault(BlockDevice& disk, PartitionTables& tables, std::uint64_t seed) {
    Sequence random(seed);
    renew_identity(tables, random);
    auto vault = std::make_unique<OpenVault>();
    lay_out(disk, tables, vault->header);
    random.fill(vault->keys.dek.bytes());
    make_keys(random, *vault);
    return vault;
}

inline void provision_on(BlockDevice& disk, std::uint64_t seed) {
    PartitionTables tables = read_partition_tables(disk);
    const auto vault = new_vault(disk, tables, seed);
    put_vault(disk, tables, *vault, kWindow);
}

inline void resume_on(BlockDevice& disk, OpenVault& vault) {
    VaultStore store(disk, read_partition_tables(disk).vault_entry());
    encrypt(disk, store, vault, kWindow);
}

// Nothing outside of the vault and the tables has been touched, and there is no vault.
inline bool is_untouched(const FragileDisk& disk) {
    const PartitionTables tables = read_partition_tables(disk);
    for (const Buffer& copy : read_header_copies(disk, tables.vault_entry())) {
        if (kind_of(copy) != CopyKind::kNone) return false;
    }
    volume::Header header;
    lay_out(disk, tables, header);
    for (const Extent& extent : encrypted_extents(header)) {
        const std::size_t at = extent.first * kSector;
        const std::size_t size = extent.count * kSector;
        if (!equal_bytes(Bytes(disk.content()).subspan(at, size), Bytes(image()).subspan(at, size))) return false;
    }
    return true;
}

// Everything is encrypted once, both copies of the header are good and idle, and what is plain is as it was.
inline void expect_done(const FragileDisk& disk) {
    const PartitionTable table = read_primary_table(disk);
    const auto vault = std::make_unique<OpenVault>();
    for (const Buffer& copy : read_header_copies(disk, table.vault_partition())) {
        const Status opened = volume::open_header(copy, volume::SlotKind::kRecovery, recovery(), &table.header.disk,
                                                  vault->header, vault->keys);
        ASSERT_TRUE(opened.ok()) << describe(opened.failure());
        ASSERT_EQ(vault->header.cursor.state, volume::CursorState::kIdle);
    }
    ata::XtsKey key;
    ASSERT_TRUE(key.set(vault->keys.dek.bytes()).ok());
    Buffer plain = disk.content();
    for (const Extent& extent : encrypted_extents(vault->header)) {
        std::byte* const at = plain.data() + extent.first * kSector;
        key.transform(ata::XtsKey::Direction::kDecrypt, at, at, extent.count, kSector, extent.first);
    }
    const auto same = [&](std::uint64_t first, std::uint64_t end) {
        return std::equal(plain.begin() + static_cast<std::ptrdiff_t>(first * kSector),
                          plain.begin() + static_cast<std::ptrdiff_t>(end * kSector),
                          image().begin() + static_cast<std::ptrdiff_t>(first * kSector));
    };
    ASSERT_TRUE(same(0, 1) && same(34, kVaultFirst) && same(kVaultFirst + 2048, kTotal - 33));
    (void)read_partition_table(disk, kTotal - 1);
}

inline const FragileDisk& provisioned_disk() {
    static const FragileDisk kDisk = [] {
        FragileDisk disk(image());
        provision_on(disk, 1);
        return disk;
    }();
    return kDisk;
}

inline std::unique_ptr<OpenVault> open_vault(const BlockDevice& disk, const volume::SlotSecret& key = recovery()) {
    auto vault = std::make_unique<OpenVault>();
    const Status opened = open_with_recovery_key(disk, key, *vault);
    if (!opened.ok()) throw std::logic_error("the vault does not open: " + describe(opened.failure()));
    return vault;
}

// A sector of a copy of the header, of the newest one or of the other.
inline void lose_copy(FragileDisk& disk, bool newest) {
    const std::size_t copy = open_vault(disk)->copy;
    disk.write(kVaultFirst + volume::kCopyOffset[newest ? copy : 1 - copy] / kSector + 1, Buffer(kSector));
    disk.flush();
}

inline VaultStore store_of(BlockDevice& disk) { return {disk, read_partition_tables(disk).vault_entry()}; }

inline Buffer vault_partition(const FragileDisk& disk) { return disk.read_sectors(kVaultFirst, 2048); }
// With a vault partition of another time, and a guest's writes since.
inline FragileDisk with_vault_of(const FragileDisk& then, const FragileDisk& now) {
    FragileDisk mixed(now.content());
    Sequence random(77);
    Buffer sector(kSector);
    for (const std::uint64_t lba : {std::uint64_t{35}, std::uint64_t{2300}, kTotal - 35, kTotal - 34}) {
        random.fill(sector);
        mixed.write(lba, sector);
    }
    mixed.write(kVaultFirst, vault_partition(then));
    mixed.flush();
    return mixed;
}
// With both copies of the header of another time, and the journals as they are; or with one of them, and without the other.
enum class Copies : std::uint8_t { kBoth, kFirst, kSecond };
inline FragileDisk with_headers_of(const FragileDisk& then, const FragileDisk& now, Copies copies = Copies::kBoth) {
    FragileDisk mixed(now.content());
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        const std::uint64_t lba = kVaultFirst + volume::kCopyOffset[i] / kSector;
        const bool put_back = copies == Copies::kBoth || (copies == Copies::kFirst) == (i == 0);
        const std::uint64_t count = volume::kMaximumHeaderSize / kSector;
        mixed.write(lba, put_back ? then.read_sectors(lba, count) : Buffer(volume::kMaximumHeaderSize));
    }
    mixed.flush();
    return mixed;
}
// Of each state of a change under way the headers are put back to those of `then`, both copies at every state, one alone at every
// fifth; a disk that still opens is gone on with, which either ends it, as expect_ended() wants it, or throws with nothing changed.
// How many times it was the latter.
template <typename GoOn, typename ExpectEnded>
unsigned refusals_of_put_back_headers(const FragileDisk& then, std::span<const FragileDisk> under_way, GoOn go_on,
                                      ExpectEnded expect_ended) {
    unsigned refused = 0;
    for (const Copies copies : {Copies::kBoth, Copies::kFirst, Copies::kSecond}) {
        for (std::size_t i = 0; i < under_way.size(); i += copies == Copies::kBoth ? 1 : 5) {
            SCOPED_TRACE("step " + std::to_string(i) + ", copies " + std::to_string(static_cast<int>(copies)));
            FragileDisk disk = with_headers_of(then, under_way[i], copies);
            if (OpenVault any; !open_with_recovery_key(disk, recovery(), any).ok()) continue;
            const Buffer before = disk.content();
            try {
                go_on(disk);
                expect_ended(disk);
            } catch (const ToolError&) {
                EXPECT_TRUE(disk.content() == before);
                ++refused;
            }
            if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) return refused;
        }
    }
    return refused;
}
// The last state before the first window: both copies stand there.
inline const FragileDisk& before_first_window(std::span<const FragileDisk> under_way) {
    return *std::prev(std::ranges::find_if(
        under_way, [](const FragileDisk& each) { return open_vault(each)->header.cursor.count != 0; }));
}
inline bool same_outside_of_vault(const FragileDisk& one, const Buffer& other) {
    const auto same = [&](std::uint64_t first, std::uint64_t end) {
        return equal_bytes(Bytes(one.content()).subspan(first * kSector, (end - first) * kSector),
                           Bytes(other).subspan(first * kSector, (end - first) * kSector));
    };
    return same(0, kVaultFirst) && same(kVaultFirst + 2048, kTotal);
}

inline constexpr std::uint64_t kChances[] = {0, 1, 0x1234567};

// `action` with a cut at the operation of this number, or at its end if that comes first.
template <typename Action>
void with_a_cut_at(unsigned cut, FragileDisk& disk, Action action) {
    disk.fail_at(cut);
    try {
        action();
        disk.power_up(1);
    } catch (const ToolError&) {
        disk.power_up(cut * 17 + 2);
    }
}

}  // namespace gatehouse::host
