// Provisioning, resuming and upgrading on a disk that fails at every write and every flush, one after the other: what it
// leaves is an image on which nothing has been encrypted, or a vault that opens with its recovery key and goes on.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ata/xts/xts.hpp"
#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/upgrade.hpp"
#include "tests/unit/keyvault/version_one.hpp"

namespace gatehouse::host {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::uint64_t kTotal = 2700;
constexpr std::uint64_t kVaultFirst = 64;
constexpr std::size_t kWindow = 128 * kSector;  // small, so that there are several

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
        try {
            count();
        } catch (const ToolError&) {
            if (cache_lies_) pending_.clear();
            throw;
        }
        for (const auto& [lba, sector] : pending_) copy_bytes(MutableBytes(stable_).subspan(lba * kSector), sector);
        pending_.clear();
    }

    // The operation of this number, from 1, is the last; 0: none.
    void fail_at(unsigned number) {
        fail_at_ = number;
        operations_ = 0;
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
        if (++operations_ == fail_at_) throw ToolError("the disk fails");
    }
    std::string path_ = "disk";
    Buffer seen_;
    Buffer stable_;
    std::map<std::uint64_t, Buffer> pending_;
    std::set<std::uint64_t> bad_;
    unsigned operations_ = 0;
    unsigned fail_at_ = 0;
    bool cache_lies_ = false;
};

void put_entry(Buffer& table, std::size_t index, const volume::Guid& type, std::uint64_t first, std::uint64_t last,
               std::string_view name) {
    Writer writer(MutableBytes(table).subspan(index * volume::kGptEntrySize, volume::kGptEntrySize));
    writer.bytes(type);
    writer.bytes(type);
    writer.u64(first);
    writer.u64(last);
    writer.u64(0);
    for (const char unit : name) writer.u16(static_cast<std::uint16_t>(unit));
}

Buffer make_image() {
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

const Buffer& image() {
    static const Buffer kImage = make_image();
    return kImage;
}

const volume::SlotSecret& recovery() {
    static volume::SlotSecret secret;
    secret.bytes()[3] = std::byte{9};
    return secret;
}

// As make_vault() does it, without a TPM.
void make_keys(RandomSource& random, OpenVault& vault) {
    volume::Header& header = vault.header;
    random.fill(vault.keys.kek.bytes());
    random.fill(vault.keys.root.bytes());
    header.vault_id = volume::vault_id(vault.keys.root);
    header.root = volume::wrap_root(vault.keys.root, vault.keys.kek, header.disk, random);
    header.data_key =
        expect(volume::wrap_dek(vault.keys.dek, header.data_key.epoch, vault.keys.kek, header.disk, random), "key");
    header.slots.recovery = volume::wrap_kek(vault.keys.kek, volume::SlotKind::kRecovery, recovery(), header, random);
}

void provision_on(BlockDevice& disk, std::uint64_t seed) {
    Sequence random(seed);
    PartitionTables tables = read_partition_tables(disk);
    renew_identity(tables, random);
    const auto vault = std::make_unique<OpenVault>();
    lay_out(disk, tables, vault->header);
    random.fill(vault->keys.dek.bytes());
    make_keys(random, *vault);
    put_vault(disk, tables, *vault, kWindow);
}

void resume_on(BlockDevice& disk, OpenVault& vault) {
    VaultStore store(disk, read_partition_tables(disk).vault_entry());
    encrypt(disk, store, vault, kWindow);
}

// Nothing outside of the vault and the tables has been touched, and there is no vault.
bool is_untouched(const FragileDisk& disk) {
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
void expect_done(const FragileDisk& disk) {
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

constexpr std::uint64_t kChances[] = {0, 1, 0x1234567};

unsigned operations_of_a_whole_run() {
    FragileDisk disk(image());
    provision_on(disk, 1);
    expect_done(disk);
    return disk.operations();
}

// Makes an interrupted disk whole by the means of an operator. True if there was a vault to go on with.
bool put_right(FragileDisk& disk) {
    const auto vault = std::make_unique<OpenVault>();
    if (open_with_recovery_key(disk, recovery(), *vault).ok()) {
        resume_on(disk, *vault);
        return true;
    }
    EXPECT_TRUE(is_untouched(disk));
    provision_on(disk, 2);
    return false;
}

// The disk after provisioning was cut at the operation of this number.
FragileDisk disk_cut_at(unsigned cut, std::uint64_t chance) {
    FragileDisk disk(image());
    disk.fail_at(cut);
    EXPECT_THROW(provision_on(disk, 1), ToolError);
    disk.power_up(chance);
    return disk;
}

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

TEST(PowerCut, AtAnyWriteOrFlushOfProvisioningLosesNothing) {
    const unsigned whole = operations_of_a_whole_run();
    ASSERT_GT(whole, 50u);
    unsigned resumed = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = disk_cut_at(cut, chance);
            resumed += put_right(disk) ? 1 : 0;
            ASSERT_NO_FATAL_FAILURE(expect_done(disk));
        }
    }
    EXPECT_GT(resumed, 2 * whole);
}

TEST(PowerCut, OfAResumedRunLosesNothingEither) {
    const unsigned whole = operations_of_a_whole_run();
    for (unsigned cut = 8; cut <= whole; cut += 7) {
        for (unsigned second = 1; second < whole; second += 5) {
            SCOPED_TRACE("operations " + std::to_string(cut) + ", " + std::to_string(second));
            FragileDisk disk = disk_cut_at(cut, cut * 31 + 2);
            with_a_cut_at(second, disk, [&] { (void)put_right(disk); });
            (void)put_right(disk);
            ASSERT_NO_FATAL_FAILURE(expect_done(disk));
        }
    }
}

// Spoils the newest copy of the header. False if there is not another one that opens.
bool lose_newest_copy(FragileDisk& disk) {
    const auto vault = std::make_unique<OpenVault>();
    if (!open_with_recovery_key(disk, recovery(), *vault).ok()) return false;
    const std::uint64_t lba = kVaultFirst + volume::kCopyOffset[vault->copy] / kSector + 1;
    Buffer sector = disk.read_sectors(lba, 1);
    sector[7] ^= std::byte{1};
    disk.write(lba, sector);
    disk.flush();
    return open_with_recovery_key(disk, recovery(), *vault).ok();
}

TEST(PowerCut, ThatCostsTheNewestHeaderEncryptsNothingTwice) {
    const unsigned whole = operations_of_a_whole_run();
    unsigned lost = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = disk_cut_at(cut, chance);
            if (!lose_newest_copy(disk)) continue;
            ++lost;
            ASSERT_TRUE(put_right(disk));
            ASSERT_NO_FATAL_FAILURE(expect_done(disk));
        }
    }
    EXPECT_GT(lost, whole);
}

// And another cut while that is put right.
TEST(PowerCut, ThatCostsTheNewestHeaderMayBeFollowedByAnother) {
    const unsigned whole = operations_of_a_whole_run();
    for (unsigned cut = 8; cut <= whole; cut += 3) {
        for (unsigned second = 1; second < 16; ++second) {
            SCOPED_TRACE("operations " + std::to_string(cut) + ", " + std::to_string(second));
            FragileDisk disk = disk_cut_at(cut, cut * 31 + 2);
            if (!lose_newest_copy(disk)) continue;
            with_a_cut_at(second, disk, [&] { (void)put_right(disk); });
            ASSERT_TRUE(put_right(disk));
            ASSERT_NO_FATAL_FAILURE(expect_done(disk));
        }
    }
}

// What the system shows after a failed flush is gone on from, and then the power fails.
TEST(PowerCut, AfterAFlushThatFailedLosesNothing) {
    const unsigned whole = operations_of_a_whole_run();
    for (unsigned failed = 1; failed <= whole; ++failed) {
        for (unsigned second = 1; second < 16; ++second) {
            SCOPED_TRACE("operations " + std::to_string(failed) + ", " + std::to_string(second));
            FragileDisk disk(image());
            disk.let_cache_lie();
            disk.fail_at(failed);
            EXPECT_THROW(provision_on(disk, 1), ToolError);
            disk.fail_at(second);
            try {
                (void)put_right(disk);
                disk.power_up(0);
                ASSERT_NO_FATAL_FAILURE(expect_done(disk));
                break;
            } catch (const ToolError&) {
                disk.power_up(second * 17 + 2);
            }
            ASSERT_NO_THROW((void)put_right(disk));
            ASSERT_NO_FATAL_FAILURE(expect_done(disk));
        }
    }
}

// The older copy is opened by mistake, or because the newer one is lost, after the guest has written.
TEST(PowerCut, BetweenTheLastCursorsLeavesNoCopyThatWouldEncryptAgain) {
    const unsigned whole = operations_of_a_whole_run();
    FragileDisk disk = disk_cut_at(whole - 1, 0);  // the write of the second idle copy
    const PartitionTable table = read_primary_table(disk);
    const HeaderCopies copies = read_header_copies(disk, table.vault_partition());
    const auto vault = std::make_unique<OpenVault>();
    unsigned idle = 0;
    for (std::size_t i = 0; i < copies.size(); ++i) {
        vault->copy = i;
        ASSERT_TRUE(volume::open_header(copies[i], volume::SlotKind::kRecovery, recovery(), &table.header.disk,
                                        vault->header, vault->keys)
                        .ok());
        if (vault->header.cursor.state == volume::CursorState::kIdle) {
            ++idle;
            continue;
        }
        EXPECT_EQ(percent_done(vault->header), 100u);
        FragileDisk older(disk.content());
        resume_on(older, *vault);
        EXPECT_TRUE(equal_bytes(Bytes(older.content()).subspan(2112 * kSector, 500 * kSector),
                                Bytes(disk.content()).subspan(2112 * kSector, 500 * kSector)));
    }
    EXPECT_EQ(idle, 1u);
}

TEST(PowerCut, ResumingADoneDiskMakesADamagedCopyAgain) {
    FragileDisk disk(image());
    provision_on(disk, 1);
    for (const std::uint64_t offset : volume::kCopyOffset) {
        FragileDisk damaged(disk.content());
        damaged.write(kVaultFirst + offset / kSector, Buffer(8 * kSector));
        const auto vault = std::make_unique<OpenVault>();
        ASSERT_TRUE(open_with_recovery_key(damaged, recovery(), *vault).ok());
        resume_on(damaged, *vault);
        ASSERT_NO_FATAL_FAILURE(expect_done(damaged));
    }
}

// --- Upgrading

// A disk of the release before: as provision_on() leaves it, but for headers of version 1.
FragileDisk old_disk() {
    FragileDisk disk(image());
    provision_on(disk, 1);
    const auto vault = std::make_unique<OpenVault>();
    EXPECT_TRUE(open_with_recovery_key(disk, recovery(), *vault).ok());
    Sequence random(5);
    const Buffer copy = test::version_one(vault->header, vault->keys, recovery(), random, volume::kMaximumHeaderSize);
    VaultStore store(disk, read_partition_tables(disk).vault_entry());
    for (std::size_t i = 0; i < volume::kCopies; ++i) store.put_copy(i, copy);
    EXPECT_FALSE(open_with_recovery_key(disk, recovery(), *vault).ok());
    return FragileDisk(disk.content());
}

// As upgrade() does it, without a TPM. False if there was a new vault already.
bool upgrade_on(BlockDevice& disk, std::uint64_t seed) {
    Sequence random(seed);
    const auto vault = std::make_unique<OpenVault>();
    if (open_with_recovery_key(disk, recovery(), *vault).ok()) {
        finish_conversion(disk, *vault);
        return false;
    }
    convert_vault(
        disk, recovery(), random, [&](OpenVault& made) { make_keys(random, made); }, *vault);
    return true;
}

TEST(Upgrade, KeepsTheDiskKeyAndMakesTheRestAnew) {
    FragileDisk disk = old_disk();
    const volume::Guid guid = read_primary_table(disk).header.disk;
    ASSERT_TRUE(upgrade_on(disk, 2));
    ASSERT_NO_FATAL_FAILURE(expect_done(disk));
    const auto vault = std::make_unique<OpenVault>();
    ASSERT_TRUE(open_with_recovery_key(disk, recovery(), *vault).ok());
    EXPECT_EQ(vault->header.vault_id, volume::vault_id(vault->keys.root));
    EXPECT_NE(vault->header.disk, guid);
    FragileDisk again(disk.content());
    EXPECT_FALSE(upgrade_on(again, 3));
    EXPECT_TRUE(again.content() == disk.content());
}

TEST(Upgrade, MayBeCutAtAnyWriteOrFlush) {
    const FragileDisk old = old_disk();
    FragileDisk uncut = old;
    upgrade_on(uncut, 2);
    const unsigned whole = uncut.operations();
    ASSERT_GT(whole, 12u);
    unsigned finished = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            for (unsigned second = 1; second <= whole; second += 6) {
                SCOPED_TRACE("operations " + std::to_string(cut) + ", " + std::to_string(second) + ", chance " +
                             std::to_string(chance));
                FragileDisk disk = old;
                disk.fail_at(cut);
                EXPECT_THROW((void)upgrade_on(disk, 2), ToolError);
                disk.power_up(chance);
                with_a_cut_at(second, disk, [&] { (void)upgrade_on(disk, 3); });
                finished += upgrade_on(disk, 4) ? 0 : 1;
                ASSERT_NO_FATAL_FAILURE(expect_done(disk));
            }
        }
    }
    EXPECT_GT(finished, whole);
}

TEST(Upgrade, RefusesADiskWithOtherPartitionsAndAnotherRecoveryKey) {
    FragileDisk disk = old_disk();
    PartitionTables tables = read_partition_tables(disk);
    for (PartitionTable* const table : {&tables.primary, &tables.backup}) {
        store(table->array.data() + volume::kGptEntrySize + 40, std::uint64_t{2599}, Endian::kLittle);
        store(table->array.data() + 40, std::uint64_t{62}, Endian::kLittle);  // the boot partition's last sector
    }
    renew_identity(tables, *std::make_unique<Sequence>(9));
    write_partition_tables(disk, tables);
    const Buffer before = disk.content();
    EXPECT_THROW((void)upgrade_on(disk, 2), ToolError);
    EXPECT_TRUE(disk.content() == before);

    FragileDisk other = old_disk();
    Sequence random(2);
    volume::SlotSecret wrong;
    const auto vault = std::make_unique<OpenVault>();
    const Buffer closed = other.content();
    EXPECT_THROW(convert_vault(
                     other, wrong, random, [&](OpenVault& made) { make_keys(random, made); }, *vault),
                 ToolError);
    EXPECT_TRUE(other.content() == closed);
}

TEST(BadSectors, InOneCopyOfTheHeaderLeaveTheOther) {
    FragileDisk disk(image());
    provision_on(disk, 1);
    for (const std::uint64_t offset : volume::kCopyOffset) {
        FragileDisk damaged(disk.content());
        damaged.go_bad(kVaultFirst + offset / kSector + 2);
        const auto vault = std::make_unique<OpenVault>();
        ASSERT_TRUE(open_with_recovery_key(damaged, recovery(), *vault).ok());
        resume_on(damaged, *vault);
        ASSERT_NO_FATAL_FAILURE(expect_done(damaged));
        for (const Buffer& copy : read_header_copies(damaged, read_partition_tables(damaged).vault_entry())) {
            EXPECT_EQ(kind_of(copy), CopyKind::kHeader);
        }
    }
}

TEST(BadSectors, DoNotLookLikeADiskWithoutAVault) {
    FragileDisk disk(image());
    const volume::GptEntry vault = read_partition_tables(disk).vault_entry();
    disk.go_bad(kVaultFirst);
    EXPECT_THROW((void)read_header_copies(disk, vault), ToolError);
    provision_on(disk, 1);
    for (const std::uint64_t offset : volume::kCopyOffset) disk.go_bad(kVaultFirst + offset / kSector);
    EXPECT_THROW((void)read_header_copies(disk, vault), ToolError);
}

// The journal that the cursor does not name is wanted only if a newer copy of the header may have named it.
TEST(BadSectors, InTheOtherJournalMatterOnlyIfAHeaderIsLost) {
    const unsigned whole = operations_of_a_whole_run();
    unsigned resumed = 0;
    unsigned refused = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        SCOPED_TRACE("operation " + std::to_string(cut));
        FragileDisk disk = disk_cut_at(cut, 1);
        FragileDisk lost(disk.content());
        if (!lose_newest_copy(lost)) continue;
        for (FragileDisk* const each : {&disk, &lost}) {
            const auto vault = std::make_unique<OpenVault>();
            ASSERT_TRUE(open_with_recovery_key(*each, recovery(), *vault).ok());
            each->go_bad(kVaultFirst + volume::kJournalOffset[1 - vault->header.cursor.journal] / kSector + 3);
            try {
                resume_on(*each, *vault);
                ASSERT_NO_FATAL_FAILURE(expect_done(*each));
                ++resumed;
            } catch (const ToolError&) {
                ASSERT_EQ(each, &lost);
                ++refused;
            }
        }
    }
    EXPECT_GT(resumed, whole / 2);
    EXPECT_GT(refused, whole / 2);
}

TEST(Percent, CountsWhatIsEncrypted) {
    FragileDisk disk(image());
    const auto vault = std::make_unique<OpenVault>();
    lay_out(disk, read_partition_tables(disk), vault->header);
    EXPECT_EQ(percent_done(vault->header), 100u);
    vault->header.cursor = {volume::CursorState::kEncrypting, 0, 34, 0};
    EXPECT_EQ(percent_done(vault->header), 0u);
    vault->header.cursor.next = 2112 + (kTotal - 33 - 2112) / 2;
    EXPECT_NEAR(percent_done(vault->header), 50, 2);
}

// --- GUIDs

TEST(PartitionTables, GetAnIdentityOfTheirOwn) {
    FragileDisk disk(image());
    Sequence random(3);
    PartitionTables tables = read_partition_tables(disk);
    const std::vector<volume::GptEntry> before = tables.primary.partitions();
    const volume::Guid disk_before = tables.primary.header.disk;
    renew_identity(tables, random);
    write_partition_tables(disk, tables);
    for (const std::uint64_t lba : {volume::kPrimaryGptLba, kTotal - 1}) {
        const PartitionTable table = read_partition_table(disk, lba);
        EXPECT_NE(table.header.disk, disk_before);
        EXPECT_EQ(table.header.disk[7] & std::byte{0xf0}, std::byte{0x40});
        const std::vector<volume::GptEntry> after = table.partitions();
        ASSERT_EQ(after.size(), before.size());
        for (std::size_t i = 0; i < after.size(); ++i) {
            EXPECT_NE(after[i].id, before[i].id);
            EXPECT_EQ(after[i].type, before[i].type);
            EXPECT_EQ(after[i].first, before[i].first);
            EXPECT_EQ(after[i].last, before[i].last);
            EXPECT_EQ(after[i].name, before[i].name);
        }
        EXPECT_NE(after[0].id, after[1].id);
    }
}

TEST(PartitionTables, AreReadFromEitherCopyAndTheOtherIsMadeAgain) {
    for (const std::uint64_t lba : {volume::kPrimaryGptLba, kTotal - 1}) {
        FragileDisk disk(image());
        disk.write(lba, Buffer(kSector));
        write_partition_tables(disk, read_partition_tables(disk));
        EXPECT_TRUE(disk.content() == image()) << lba;
    }
}

TEST(PartitionTables, ThatDifferInPartitionsAreRefused) {
    FragileDisk disk(image());
    PartitionTables tables = read_partition_tables(disk);
    MutableBytes entries = tables.backup.array;
    store(entries.data() + volume::kGptEntrySize + 40, std::uint64_t{2599}, Endian::kLittle);
    store(tables.backup.sector.data() + volume::kGptEntriesCrcAt, volume::crc32(tables.backup.entries()),
          Endian::kLittle);
    store(tables.backup.sector.data() + volume::kGptHeaderCrcAt, std::uint32_t{0}, Endian::kLittle);
    store(tables.backup.sector.data() + volume::kGptHeaderCrcAt, volume::crc32(Bytes(tables.backup.sector).first(92)),
          Endian::kLittle);
    write_partition_tables(disk, tables);
    EXPECT_THROW((void)read_partition_tables(disk), ToolError);
}

}  // namespace
}  // namespace gatehouse::host
