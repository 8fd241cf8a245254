// Changes of a vault's keys on a disk that fails at every write and every flush, one after the other: nothing is lost, no sector
// is read with the wrong key, and the same command ends what was begun.
#include <gtest/gtest.h>

#include <algorithm>

#include "keyvault/tool/rotation.hpp"
#include "keyvault/volume_writer/previous_key_writer.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"

namespace gatehouse::host {
namespace {

void rotate_on(BlockDevice& disk, std::uint64_t seed, std::size_t window = kWindow) {
    const auto vault = open_vault(disk);
    VaultStore store = store_of(disk);
    Sequence random(seed);
    rotate_disk_key(disk, store, *vault, random, window);
}

bool has_previous_key(FragileDisk& disk) {
    const VaultStore store = store_of(disk);
    return std::ranges::any_of(volume::kPreviousKeyOffset, [&](std::uint64_t offset) {
        return volume::looks_like_previous_key(store.read(offset, volume::kPreviousKeySize));
    });
}

// The plaintext is as it was, under a key that is not `old`; nothing of the change is left.
void expect_rotated(FragileDisk& disk, const volume::Dek& old) {
    ASSERT_NO_FATAL_FAILURE(expect_done(disk));
    const auto vault = open_vault(disk);
    ASSERT_GE(vault->header.data_key.epoch, 2u);
    ASSERT_FALSE(vault->keys.dek.equals(old.bytes()));
    ASSERT_FALSE(has_previous_key(disk));
}

unsigned operations_of_a_rotation(const FragileDisk& from) {
    FragileDisk disk = from;
    disk.fail_at(0);
    rotate_on(disk, 5);
    return disk.operations();
}

FragileDisk rotation_cut_at(const FragileDisk& from, unsigned cut, std::uint64_t chance) {
    FragileDisk disk = from;
    disk.fail_at(cut);
    EXPECT_THROW(rotate_on(disk, 5), ToolError);
    disk.power_up(chance);
    return disk;
}

// Disks with keys of several epochs: the journals of the change before lie in the vault still, in either place.
std::vector<FragileDisk> disks_of_several_epochs() {
    std::vector<FragileDisk> disks{provisioned_disk()};
    for (std::uint64_t seed = 10; seed < 13; ++seed) {
        disks.push_back(disks.back());
        rotate_on(disks.back(), seed);
    }
    return disks;
}

TEST(DiskKey, IsChangedAndEverySectorWithIt) {
    for (FragileDisk& disk : disks_of_several_epochs()) {
        const auto before = open_vault(disk);
        const Buffer old = disk.content();
        rotate_on(disk, 5);
        ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
        EXPECT_EQ(open_vault(disk)->header.data_key.epoch, before->header.data_key.epoch + 1);
        for (const Extent& extent : encrypted_extents(before->header)) {
            for (std::uint64_t lba = extent.first; lba < extent.first + extent.count; ++lba) {
                ASSERT_FALSE(equal_bytes(Bytes(old).subspan(lba * kSector, kSector),
                                         Bytes(disk.content()).subspan(lba * kSector, kSector)))
                    << lba;
            }
        }
    }
}

// With two windows in all, the first one's journal of the change before lies where that of the next one's first window will.
TEST(DiskKey, ChangeIsNotMisledByTheJournalsOfTheOneBefore) {
    FragileDisk disk = provisioned_disk();
    for (std::uint64_t seed = 20; seed < 24; ++seed) {
        const auto before = open_vault(disk);
        rotate_on(disk, seed, volume::kWindowSize);
        ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek)) << seed;
    }
}

TEST(DiskKey, ChangeMayBeCutAtAnyWriteOrFlush) {
    std::vector<FragileDisk> disks = disks_of_several_epochs();
    disks.pop_back();
    disks.pop_back();
    for (const FragileDisk& from : disks) {
        const auto before = open_vault(from);
        SCOPED_TRACE("epoch " + std::to_string(before->header.data_key.epoch));
        const unsigned whole = operations_of_a_rotation(from);
        ASSERT_GT(whole, 40u);
        for (unsigned cut = 1; cut <= whole; ++cut) {
            for (const std::uint64_t chance : kChances) {
                SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
                FragileDisk disk = rotation_cut_at(from, cut, chance);
                rotate_on(disk, 6);
                ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
            }
        }
    }
}

TEST(DiskKey, ChangeMayBeCutAgainAndAgain) {
    const FragileDisk& from = provisioned_disk();
    const auto before = open_vault(from);
    const unsigned whole = operations_of_a_rotation(from);
    for (unsigned cut = 1; cut <= whole; cut += 2) {
        for (unsigned second = 1; second < 16; second += 4) {
            SCOPED_TRACE("operations " + std::to_string(cut) + ", " + std::to_string(second));
            FragileDisk disk = rotation_cut_at(from, cut, cut * 31 + 2);
            with_a_cut_at(second, disk, [&] { rotate_on(disk, 6); });
            rotate_on(disk, 7);
            ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
        }
    }
}

// One copy of the header, whichever, is lost as well.
TEST(DiskKey, ChangeSurvivesTheLossOfACopyOfTheHeader) {
    const FragileDisk& from = provisioned_disk();
    const auto before = open_vault(from);
    const unsigned whole = operations_of_a_rotation(from);
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const bool newest : {false, true}) {
            SCOPED_TRACE("operation " + std::to_string(cut) + (newest ? ", newest" : ", other"));
            FragileDisk disk = rotation_cut_at(from, cut, 1);
            lose_copy(disk, newest);
            if (OpenVault any; !open_with_recovery_key(disk, recovery(), any).ok()) {
                EXPECT_TRUE(newest);  // while the other one was being written there is but this one
                continue;
            }
            rotate_on(disk, 6);
            ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
        }
    }
}

// What the system shows after a failed flush is gone on from, and then the power fails.
TEST(DiskKey, ChangeLosesNothingByAFlushThatFailed) {
    const FragileDisk& from = provisioned_disk();
    const auto before = open_vault(from);
    const unsigned whole = operations_of_a_rotation(from);
    for (unsigned failed = 1; failed <= whole; failed += 2) {
        for (unsigned second = failed % 5 + 1; second < 16; second += 3) {
            SCOPED_TRACE("operations " + std::to_string(failed) + ", " + std::to_string(second));
            FragileDisk disk = from;
            disk.let_cache_lie();
            disk.fail_at(failed);
            EXPECT_THROW(rotate_on(disk, 5), ToolError);
            with_a_cut_at(second, disk, [&] { rotate_on(disk, 6); });
            rotate_on(disk, 7);
            disk.power_up(0);
            ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
        }
    }
}

// The header of its beginning, or of before, put back without the journals: in its midst at any step, and after its end.
TEST(DiskKey, ChangeConvertsNothingTwiceByAHeaderThatWasPutBack) {
    const FragileDisk& from = provisioned_disk();
    const auto before = open_vault(from);
    const unsigned whole = operations_of_a_rotation(from);
    std::vector<FragileDisk> under_way;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        FragileDisk disk = rotation_cut_at(from, cut, 1);
        if (open_vault(disk)->header.cursor.state == volume::CursorState::kChangingKey) under_way.push_back(disk);
    }
    const FragileDisk begun = before_first_window(under_way);
    FragileDisk done = from;
    rotate_on(done, 5);
    under_way.push_back(done);
    unsigned refused = 0;
    for (const FragileDisk* const then : {&begun, &from}) {
        SCOPED_TRACE(then == &from ? "idle" : "begun");
        refused += refusals_of_put_back_headers(
            *then, under_way, [](FragileDisk& disk) { rotate_on(disk, 6); },
            [&](FragileDisk& disk) { expect_rotated(disk, before->keys.dek); });
    }
    EXPECT_GT(refused, whole);
}

TEST(DiskKey, OfTheEpochBeforeIsWantedForTheRest) {
    const FragileDisk& from = provisioned_disk();
    const unsigned whole = operations_of_a_rotation(from);
    FragileDisk disk = rotation_cut_at(from, whole / 2, 1);
    const VaultStore store = store_of(disk);
    const Buffer record = store.read(volume::kPreviousKeyOffset[0], volume::kPreviousKeySize);
    const auto with_records = [&](const Buffer& first, const Buffer& second) {
        FragileDisk changed(disk.content());
        VaultStore its = store_of(changed);
        (void)its.write(volume::kPreviousKeyOffset[0], first);
        (void)its.write(volume::kPreviousKeyOffset[1], second);
        return changed;
    };
    const Buffer none(volume::kPreviousKeySize);
    for (const std::size_t bad : {std::size_t{0}, std::size_t{8}, std::size_t{13}, std::size_t{40}, std::size_t{103}}) {
        Buffer forged = record;
        forged[bad] ^= std::byte{1};
        FragileDisk refused = with_records(forged, none);
        const Buffer untouched = refused.content();
        EXPECT_THROW(rotate_on(refused, 6), ToolError) << bad;
        EXPECT_TRUE(refused.content() == untouched) << bad;
        FragileDisk one_is_enough = with_records(forged, record);
        rotate_on(one_is_enough, 6);
        ASSERT_NO_FATAL_FAILURE(expect_done(one_is_enough));
    }
}

// A record that cannot be read is no worse than one that is not good.
TEST(DiskKey, OfTheEpochBeforeIsReadFromEitherRecord) {
    const FragileDisk& from = provisioned_disk();
    const auto before = open_vault(from);
    for (const std::uint64_t offset : volume::kPreviousKeyOffset) {
        FragileDisk disk = rotation_cut_at(from, operations_of_a_rotation(from) / 2, 1);
        disk.go_bad(kVaultFirst + offset / kSector);
        rotate_on(disk, 6);
        ASSERT_NO_FATAL_FAILURE(expect_rotated(disk, before->keys.dek));
    }
}

TEST(DiskKey, ChangeDoesNotBeginOnADiskThatCannotBeReadWhole) {
    FragileDisk disk = provisioned_disk();
    const Buffer before = disk.content();
    disk.go_bad(kTotal - 40);
    EXPECT_THROW(rotate_on(disk, 5), ToolError);
    EXPECT_TRUE(disk.content() == before);
    EXPECT_EQ(open_vault(disk)->header.cursor.state, volume::CursorState::kIdle);
}

// A record that says of another vault, or of another epoch, what it says of this one.
TEST(DiskKey, OfAnotherVaultOrEpochIsNotTaken) {
    std::vector<FragileDisk> disks = disks_of_several_epochs();
    FragileDisk first = rotation_cut_at(disks[0], operations_of_a_rotation(disks[0]) / 2, 1);
    FragileDisk second = rotation_cut_at(disks[1], operations_of_a_rotation(disks[1]) / 2, 1);
    FragileDisk other(image());
    provision_on(other, 99);
    other = rotation_cut_at(other, operations_of_a_rotation(other) / 2, 1);
    const auto record = [](FragileDisk& disk) {
        return store_of(disk).read(volume::kPreviousKeyOffset[0], volume::kPreviousKeySize);
    };
    const auto vault = open_vault(first);
    volume::Dek dek;
    EXPECT_TRUE(volume::read_previous_key(record(first), vault->header, vault->keys.kek, dek).ok());
    EXPECT_EQ(volume::read_previous_key(record(second), vault->header, vault->keys.kek, dek).error(), Error::kMismatch);
    EXPECT_EQ(volume::read_previous_key(record(other), vault->header, vault->keys.kek, dek).error(),
              Error::kAuthFailed);
}

// The vault of its midst, put back after its end: everything would be converted twice.
TEST(DiskKey, ChangeThatEndedLongAgoConvertsNothingAgain) {
    for (const FragileDisk& from : {provisioned_disk(), disks_of_several_epochs().back()}) {
        FragileDisk done = from;
        rotate_on(done, 5);
        const unsigned whole = operations_of_a_rotation(from);
        unsigned refused = 0;
        for (unsigned cut = 1; cut <= whole; ++cut) {
            SCOPED_TRACE("operation " + std::to_string(cut));
            const FragileDisk then = rotation_cut_at(from, cut, 1);
            if (open_vault(then)->header.cursor.state != volume::CursorState::kChangingKey) continue;
            FragileDisk disk = with_vault_of(then, done);
            const Buffer before = disk.content();
            try {
                rotate_on(disk, 6);
                ASSERT_TRUE(same_outside_of_vault(disk, before));
            } catch (const ToolError&) {
                ASSERT_TRUE(disk.content() == before);
                ++refused;
            }
        }
        EXPECT_GT(refused, whole / 2);
    }
}

// --- Changes of the header alone

using Change = void (*)(VaultStore& store, OpenVault& vault, std::uint64_t seed);

const volume::SlotSecret& next_recovery() {
    static volume::SlotSecret secret;
    secret.bytes()[5] = std::byte{7};
    return secret;
}

void change_kek(VaultStore& store, OpenVault& vault, std::uint64_t seed) {
    Sequence random(seed);
    change_header(store, vault, [&](OpenVault& of) { renew_kek(random, &recovery(), of); });
}

void change_recovery_key(VaultStore& store, OpenVault& vault, std::uint64_t seed) {
    Sequence random(seed);
    rotate_recovery_key(store, vault, next_recovery(), random);
}

// Opens with the recovery key before or with the next one.
std::unique_ptr<OpenVault> open_by_either(const BlockDevice& disk) {
    auto vault = std::make_unique<OpenVault>();
    if (open_with_recovery_key(disk, next_recovery(), *vault).ok()) return vault;
    return open_vault(disk);
}

TEST(HeaderChange, MayBeCutAtAnyWriteOrFlush) {
    for (const Change change : {change_kek, change_recovery_key}) {
        const auto before = open_vault(provisioned_disk());
        for (unsigned cut = 1;; ++cut) {
            bool whole = false;
            for (const std::uint64_t chance : kChances) {
                SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
                FragileDisk disk = provisioned_disk();
                const auto work = [&](std::uint64_t seed) {
                    const auto vault = open_by_either(disk);
                    VaultStore store = store_of(disk);
                    change(store, *vault, seed);
                };
                disk.fail_at(cut);
                try {
                    work(3);
                    whole = true;
                } catch (const ToolError&) {
                    disk.power_up(chance);
                }
                disk.fail_at(0);
                ASSERT_TRUE(open_by_either(disk)->keys.dek.equals(before->keys.dek.bytes()));
                work(4);
                const auto vault = std::make_unique<OpenVault>();
                for (const Buffer& copy : read_header_copies(disk, read_partition_tables(disk).vault_entry())) {
                    const volume::SlotSecret& key = change == change_kek ? recovery() : next_recovery();
                    const Status opened = volume::open_header(copy, volume::SlotKind::kRecovery, key,
                                                              &before->header.disk, vault->header, vault->keys);
                    ASSERT_TRUE(opened.ok()) << describe(opened.failure());
                    ASSERT_TRUE(vault->keys.dek.equals(before->keys.dek.bytes()));
                    ASSERT_EQ(vault->header.vault_id, before->header.vault_id);
                    ASSERT_EQ(change == change_kek, !vault->keys.kek.equals(before->keys.kek.bytes()));
                }
            }
            if (whole) break;
        }
    }
}

// A disk key whose change has ended but for its record: the next change of anything takes that away.
TEST(HeaderChange, TakesTheRecordOfAKeyBeforeAway) {
    FragileDisk disk = provisioned_disk();
    VaultStore store = store_of(disk);
    const auto vault = open_vault(disk);
    keep_previous_key(store, vault->header.data_key);
    ASSERT_TRUE(has_previous_key(disk));
    change_kek(store, *vault, 3);
    EXPECT_FALSE(has_previous_key(disk));
}

}  // namespace
}  // namespace gatehouse::host
