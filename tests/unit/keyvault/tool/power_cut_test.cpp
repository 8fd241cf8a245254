// Provisioning, resuming and upgrading on a disk that fails at every write and every flush, one after the other: what it
// leaves is an image on which nothing has been encrypted, or a vault that opens with its recovery key and goes on.
#include <gtest/gtest.h>

#include "keyvault/tool/upgrade.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"
#include "tests/unit/keyvault/version_one.hpp"

namespace gatehouse::host {
namespace {

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
