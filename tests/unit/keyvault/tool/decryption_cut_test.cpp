// A disk brought back to plaintext that fails at every write and every flush, one after the other: nothing is lost, no sector is
// decrypted twice, no boot opens what is half done, and the same command ends what was begun.
#include <gtest/gtest.h>

#include <algorithm>

#include "keyvault/tool/decryption.hpp"
#include "keyvault/tool/rotation.hpp"
#include "keyvault/tool/vault_wipe.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"

namespace gatehouse::host {
namespace {

// A disk whose key is its second one: journals of a change lie in its vault still.
const FragileDisk& rotated_disk() {
    static const FragileDisk kDisk = [] {
        FragileDisk disk = provisioned_disk();
        const auto vault = open_vault(disk);
        VaultStore store = store_of(disk);
        Sequence random(11);
        rotate_disk_key(disk, store, *vault, random, kWindow);
        return disk;
    }();
    return kDisk;
}

class Noise final : public RandomSource {
  public:
    void fill(MutableBytes out) override { std::ranges::fill(out, std::byte{0xa5}); }
};

void wipe_on(FragileDisk& disk) {
    Noise random;
    wipe_vault(disk, read_partition_tables(disk).vault_entry(), random,
               [&](std::uint64_t lba, MutableBytes out) { disk.read(lba, out); });
}

// As decrypt() does it.
void decrypt_on(FragileDisk& disk) {
    const auto vault = open_vault(disk);
    VaultStore store = store_of(disk);
    Sequence random(5);
    bring_to_plaintext(disk, store, *vault, random, kWindow);
    wipe_on(disk);
}

bool has_header(const FragileDisk& disk) {
    return std::ranges::any_of(read_header_copies(disk, read_partition_tables(disk).vault_entry()),
                               [](const Buffer& copy) { return kind_of(copy) == CopyKind::kHeader; });
}

bool same_sectors(const FragileDisk& disk, const Buffer& as, std::uint64_t first, std::uint64_t end) {
    return equal_bytes(Bytes(disk.content()).subspan(first * kSector, (end - first) * kSector),
                       Bytes(as).subspan(first * kSector, (end - first) * kSector));
}

// Outside of the vault every byte is that of the image before its provisioning, but for the tables' GUIDs.
void expect_plaintext(const FragileDisk& disk) {
    ASSERT_TRUE(same_sectors(disk, image(), 0, 1));
    ASSERT_TRUE(same_sectors(disk, image(), 34, kVaultFirst));
    ASSERT_TRUE(same_sectors(disk, image(), kVaultFirst + 2048, kTotal - 33));
    ASSERT_TRUE(same_sectors(disk, provisioned_disk().content(), 1, 34));
    ASSERT_TRUE(same_sectors(disk, provisioned_disk().content(), kTotal - 33, kTotal));
}
void expect_decrypted(const FragileDisk& disk) {
    ASSERT_NO_FATAL_FAILURE(expect_plaintext(disk));
    ASSERT_TRUE(same_sectors(disk, Buffer(kTotal * kSector), kVaultFirst, kVaultFirst + 2048));
}

// By the means of an operator. False if the header was gone, and the rest of the vault was to be erased.
bool put_right(FragileDisk& disk) {
    if (has_header(disk)) {
        decrypt_on(disk);
        return true;
    }
    expect_plaintext(disk);
    wipe_on(disk);
    return false;
}

unsigned operations_of_a_decryption(const FragileDisk& from) {
    FragileDisk disk = from;
    disk.fail_at(0);
    decrypt_on(disk);
    return disk.operations();
}

FragileDisk decryption_cut_at(const FragileDisk& from, unsigned cut, std::uint64_t chance) {
    FragileDisk disk = from;
    disk.fail_at(cut);
    EXPECT_THROW(decrypt_on(disk), ToolError);
    disk.power_up(chance);
    return disk;
}

TEST(Decryption, GivesThePlainImageBack) {
    for (const FragileDisk* const from : {&provisioned_disk(), &rotated_disk()}) {
        FragileDisk disk = *from;
        decrypt_on(disk);
        ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
    }
}

TEST(Decryption, MayBeCutAtAnyWriteOrFlush) {
    const FragileDisk& from = rotated_disk();
    const unsigned whole = operations_of_a_decryption(from);
    ASSERT_GT(whole, 60u);
    unsigned resumed = 0;
    unsigned erased = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = decryption_cut_at(from, cut, chance);
            ++(put_right(disk) ? resumed : erased);
            ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
        }
    }
    EXPECT_GT(resumed, whole);
    EXPECT_GT(erased, 20u);
}

TEST(Decryption, MayBeCutAgainAndAgain) {
    const FragileDisk& from = rotated_disk();
    const unsigned whole = operations_of_a_decryption(from);
    for (unsigned cut = 1; cut <= whole; cut += 2) {
        for (unsigned second = 1; second < 24; second += 6) {
            SCOPED_TRACE("operations " + std::to_string(cut) + ", " + std::to_string(second));
            FragileDisk disk = decryption_cut_at(from, cut, cut * 31 + 2);
            with_a_cut_at(second, disk, [&] { (void)put_right(disk); });
            (void)put_right(disk);
            ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
        }
    }
}

// One copy of the header, whichever, is lost as well.
TEST(Decryption, SurvivesTheLossOfACopyOfTheHeader) {
    const FragileDisk& from = rotated_disk();
    const unsigned whole = operations_of_a_decryption(from);
    unsigned survived = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const bool newest : {false, true}) {
            SCOPED_TRACE("operation " + std::to_string(cut) + (newest ? ", newest" : ", other"));
            FragileDisk disk = decryption_cut_at(from, cut, 1);
            if (!has_header(disk)) continue;
            lose_copy(disk, newest);
            if (OpenVault any; !open_with_recovery_key(disk, recovery(), any).ok()) {
                EXPECT_TRUE(newest);  // while the other one was being written, or is overwritten, there is but this one
                continue;
            }
            decrypt_on(disk);
            ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
            ++survived;
        }
    }
    EXPECT_GT(survived, whole);
}

// What the system shows after a failed flush is gone on from, and then the power fails.
TEST(Decryption, LosesNothingByAFlushThatFailed) {
    const FragileDisk& from = rotated_disk();
    const unsigned whole = operations_of_a_decryption(from);
    for (unsigned failed = 1; failed <= whole; failed += 2) {
        for (unsigned second = failed % 5 + 1; second < 16; second += 3) {
            SCOPED_TRACE("operations " + std::to_string(failed) + ", " + std::to_string(second));
            FragileDisk disk = from;
            disk.let_cache_lie();
            disk.fail_at(failed);
            EXPECT_THROW(decrypt_on(disk), ToolError);
            with_a_cut_at(second, disk, [&] { (void)put_right(disk); });
            (void)put_right(disk);
            disk.power_up(0);
            ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
        }
    }
}

// A boot opens whichever copy of the header is left, if its cursor is idle, and decrypts every sector.
TEST(Decryption, LeavesNoIdleHeaderOnceASectorIsPlain) {
    const FragileDisk& from = provisioned_disk();
    const unsigned whole = operations_of_a_decryption(from);
    unsigned seen = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            const FragileDisk disk = decryption_cut_at(from, cut, chance);
            if (same_sectors(disk, from.content(), 34, 40) && same_sectors(disk, from.content(), 2112, kTotal - 33)) {
                continue;
            }
            const PartitionTable table = read_primary_table(disk);
            for (const Buffer& copy : read_header_copies(disk, table.vault_partition())) {
                const auto vault = std::make_unique<OpenVault>();
                if (!volume::open_header(copy, volume::SlotKind::kRecovery, recovery(), nullptr, vault->header,
                                         vault->keys)
                         .ok()) {
                    continue;
                }
                ASSERT_TRUE(volume::is_being_decrypted(vault->header));
                ++seen;
            }
        }
    }
    EXPECT_GT(seen, whole);
}

// The vault of its midst, put back after its end.
TEST(Decryption, ThatEndedLongAgoDecryptsNothingAgain) {
    const FragileDisk& from = rotated_disk();
    FragileDisk done = from;
    decrypt_on(done);
    const unsigned whole = operations_of_a_decryption(from);
    unsigned refused = 0;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        SCOPED_TRACE("operation " + std::to_string(cut));
        const FragileDisk then = decryption_cut_at(from, cut, 1);
        if (!has_header(then) || !volume::is_being_decrypted(open_vault(then)->header)) continue;
        FragileDisk disk = with_vault_of(then, done);
        const Buffer before = disk.content();
        try {
            decrypt_on(disk);
            ASSERT_TRUE(same_outside_of_vault(disk, before));
        } catch (const ToolError&) {
            ASSERT_TRUE(disk.content() == before);
            ++refused;
        }
    }
    EXPECT_GT(refused, 15u);
}

// The header of its beginning, or of before, put back without the journals: in its midst at any step, and after its end.
TEST(Decryption, DecryptsNothingTwiceByAHeaderThatWasPutBack) {
    const FragileDisk& from = rotated_disk();
    const unsigned whole = operations_of_a_decryption(from);
    std::vector<FragileDisk> under_way;
    for (unsigned cut = 1; cut <= whole; ++cut) {
        under_way.push_back(decryption_cut_at(from, cut, 1));
        if (has_header(under_way.back()) && volume::is_being_decrypted(open_vault(under_way.back())->header)) continue;
        under_way.pop_back();
    }
    const FragileDisk begun = before_first_window(under_way);
    FragileDisk done = from;
    decrypt_on(done);
    under_way.push_back(done);
    const auto refusals = [](const FragileDisk& then, std::span<const FragileDisk> of) {
        return refusals_of_put_back_headers(
            then, of, [](FragileDisk& disk) { decrypt_on(disk); },
            [](const FragileDisk& disk) { expect_decrypted(disk); });
    };
    unsigned refused = refusals(begun, under_way);
    // A whole idle vault without a journal is what any disk has whose key was never changed.
    refused += refusals(from, std::span(under_way).first(under_way.size() - 1));
    EXPECT_GT(refused, whole);
}

TEST(Decryption, UnderWayIsNotTakenForAnythingElse) {
    const FragileDisk& from = rotated_disk();
    FragileDisk disk = decryption_cut_at(from, 30, 1);
    ASSERT_TRUE(volume::is_being_decrypted(open_vault(disk)->header));
    const Buffer before = disk.content();
    Sequence random(9);
    {
        const auto vault = open_vault(disk);
        EXPECT_THROW(resume_on(disk, *vault), ToolError);
    }
    {
        const auto vault = open_vault(disk);
        VaultStore store = store_of(disk);
        EXPECT_THROW(rotate_disk_key(disk, store, *vault, random, kWindow), ToolError);
    }
    EXPECT_TRUE(disk.content() == before);
    decrypt_on(disk);
    ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
}

TEST(Decryption, DoesNotBeginOnADiskThatCannotBeReadWhole) {
    FragileDisk disk = provisioned_disk();
    const Buffer before = disk.content();
    disk.go_bad(kTotal - 40);
    EXPECT_THROW(decrypt_on(disk), ToolError);
    EXPECT_TRUE(disk.content() == before);
}

TEST(Decryption, WaitsForASectorThatFailsUnderWay) {
    const FragileDisk& from = provisioned_disk();
    const std::uint64_t bad = kTotal - 40;
    FragileDisk disk = decryption_cut_at(from, 24, 1);
    const Buffer content = disk.read_sectors(bad, 1);
    ASSERT_TRUE(same_sectors(disk, from.content(), bad, bad + 1)) << "it is not reached yet";
    disk.go_bad(bad);
    EXPECT_THROW(decrypt_on(disk), ToolError);
    disk.write(bad, content);
    decrypt_on(disk);
    ASSERT_NO_FATAL_FAILURE(expect_decrypted(disk));
}

}  // namespace
}  // namespace gatehouse::host
