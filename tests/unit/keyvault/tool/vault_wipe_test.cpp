// A vault wiped on a disk whose power fails at every write and flush, whose sectors are bad, or which lies.
#include "keyvault/tool/vault_wipe.hpp"

#include <algorithm>

#include "keyvault/volume_writer/peek.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"

namespace gatehouse::host {
namespace {

constexpr std::uint64_t kVaultSectors = 2048;

// What is under it, until `may_write` says no or it has failed once: then nothing is done any more, as after a power cut.
class Guarded final : public BlockDevice {
  public:
    using MayWrite = std::function<bool(std::uint64_t lba, std::uint64_t count)>;
    explicit Guarded(FragileDisk& disk, MayWrite may_write = {}) : disk_(disk), may_write_(std::move(may_write)) {}

    [[nodiscard]] const std::string& path() const override { return disk_.path(); }
    [[nodiscard]] std::size_t sector_size() const override { return disk_.sector_size(); }
    [[nodiscard]] std::uint64_t total_sectors() const override { return disk_.total_sectors(); }
    void read(std::uint64_t lba, MutableBytes out) const override { disk_.read(lba, out); }
    void write(std::uint64_t lba, Bytes data) override {
        if (may_write_ && !may_write_(lba, data.size() / kSector)) throw ToolError("a bad sector");
        log_ += "write " + std::to_string(lba) + "+" + std::to_string(data.size() / kSector) + "\n";
        attempt([&] { disk_.write(lba, data); });
    }
    void flush() override {
        log_ += "flush\n";
        attempt([&] { disk_.flush(); });
    }
    // "write LBA+COUNT", "flush", one line each.
    [[nodiscard]] const std::string& log() const { return log_; }

  private:
    template <typename Action>
    void attempt(Action action) {
        if (off_) throw ToolError("the power is off");
        off_ = true;
        action();
        off_ = false;
    }
    FragileDisk& disk_;
    MayWrite may_write_;
    std::string log_;
    bool off_ = false;
};

const FragileDisk& provisioned() {
    static const FragileDisk kDisk = [] {
        FragileDisk disk(image());
        provision_on(disk, 1);
        return FragileDisk(disk.content());
    }();
    return kDisk;
}

// Returns what was done.
std::string wipe(FragileDisk& disk, const Guarded::MayWrite& may_write = {}) {
    Guarded guarded(disk, may_write);
    Sequence random(11);
    wipe_vault(guarded, read_primary_table(disk).vault_partition(), random,
               [&](std::uint64_t lba, MutableBytes out) { disk.read(lba, out); });
    return guarded.log();
}

Bytes vault_of(const FragileDisk& disk) {
    return Bytes(disk.content()).subspan(kVaultFirst * kSector, kVaultSectors * kSector);
}
bool is_zero(Bytes bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

void expect_wiped(const FragileDisk& disk) {
    ASSERT_TRUE(is_zero(vault_of(disk)));
    const std::size_t first = kVaultFirst * kSector;
    const std::size_t end = first + kVaultSectors * kSector;
    const Bytes now = disk.content();
    const Bytes before = provisioned().content();
    ASSERT_TRUE(equal_bytes(now.first(first), before.first(first)));
    ASSERT_TRUE(equal_bytes(now.subspan(end), before.subspan(end)));
}

// How many copies of the header open; one that looks like a header and does not open fails the test, as it would be taken
// for a good one by who has no key.
unsigned copies_that_open(const FragileDisk& disk) {
    const PartitionTable table = read_primary_table(disk);
    const auto vault = std::make_unique<OpenVault>();
    unsigned count = 0;
    for (const Buffer& copy : read_header_copies(disk, table.vault_partition())) {
        const bool opens = volume::open_header(copy, volume::SlotKind::kRecovery, recovery(), &table.header.disk,
                                               vault->header, vault->keys)
                               .ok();
        EXPECT_EQ(volume::peek(copy, vault->header).ok(), opens);
        count += opens ? 1 : 0;
    }
    return count;
}

TEST(VaultWipe, LeavesZerosAndTouchesNothingElse) {
    FragileDisk disk = provisioned();
    ASSERT_EQ(copies_that_open(disk), 2u);
    wipe(disk);
    expect_wiped(disk);
    disk.power_up(0);
    expect_wiped(disk);
}

TEST(VaultWipe, CutAnywhereLeavesNoCopyThatOnlyLooksGoodAndIsEndedByTheSameAgain) {
    FragileDisk uncut = provisioned();
    wipe(uncut);
    const unsigned whole = uncut.operations();
    ASSERT_GT(whole, 36u);
    unsigned open[3] = {};
    for (unsigned cut = 1; cut <= whole; ++cut) {
        for (const std::uint64_t chance : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{cut * 31 + 2}}) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = provisioned();
            disk.fail_at(cut);
            ASSERT_THROW((void)wipe(disk), ToolError);
            disk.power_up(chance);
            const unsigned count = copies_that_open(disk);
            ++open[count];
            ASSERT_TRUE(count == 0 || cut <= 3) << "both are gone with the first flush";
            wipe(disk);
            ASSERT_NO_FATAL_FAILURE(expect_wiped(disk));
        }
    }
    EXPECT_GT(open[1], 0u);
    EXPECT_GT(open[0], 2 * whole);
}

// Behind a header's first sector any part of a write may be missing, its MAC too, and who has no key does not see that.
TEST(VaultWipe, TakesWhatMakesACopyAHeaderFirst) {
    FragileDisk disk = provisioned();
    const std::string log = wipe(disk);
    EXPECT_TRUE(log.starts_with("write 64+1\nwrite 1088+1\nflush\nwrite 64+128\nwrite 1088+128\nflush\n")) << log;
}

TEST(VaultWipe, WritesNoiseBeforeZeros) {
    FragileDisk disk = provisioned();
    disk.fail_at(24);  // the pass of zeros has begun or not: most of it is noise
    EXPECT_THROW((void)wipe(disk), ToolError);
    const Bytes rest = vault_of(disk).subspan(1000 * kSector);
    EXPECT_FALSE(is_zero(rest.first(kSector)));
    EXPECT_FALSE(is_zero(rest.last(kSector)));
}

TEST(VaultWipe, GoesOnPastABadSectorAndTellsOfIt) {
    FragileDisk disk = provisioned();
    constexpr std::uint64_t kBad = kVaultFirst + 5;
    const auto not_that = [](std::uint64_t lba, std::uint64_t count) { return kBad < lba || kBad >= lba + count; };
    try {
        wipe(disk, not_that);
        FAIL() << "says nothing";
    } catch (const ToolError& error) {
        const std::string text = error.what();
        EXPECT_NE(text.find("1 sectors"), std::string::npos) << text;
        EXPECT_NE(text.find(std::to_string(kBad)), std::string::npos) << text;
    }
    EXPECT_FALSE(is_zero(vault_of(disk).subspan(5 * kSector, kSector)));
    EXPECT_TRUE(is_zero(vault_of(disk).first(5 * kSector)));
    EXPECT_TRUE(is_zero(vault_of(disk).subspan(6 * kSector)));
    EXPECT_EQ(copies_that_open(disk), 0u);
}

TEST(VaultWipe, NoticesAMediumThatKeepsWhatWasThere) {
    for (const std::uint64_t kept : {std::uint64_t{0}, kVaultSectors - 1}) {
        FragileDisk disk = provisioned();
        Sequence random(11);
        const auto read_back = [&](std::uint64_t lba, MutableBytes out) {
            disk.read(lba, out);
            const std::uint64_t at = kVaultFirst + kept;
            if (at < lba || at >= lba + out.size() / kSector) return;
            copy_bytes(out.subspan((at - lba) * kSector),
                       Bytes(provisioned().content()).subspan(at * kSector, kSector - 1));
        };
        EXPECT_THROW(wipe_vault(disk, read_primary_table(disk).vault_partition(), random, read_back), ToolError);
    }
}

TEST(VaultWipe, TakesAPartitionThatIsTooSmallForAVault) {
    FragileDisk disk = provisioned();
    volume::GptEntry vault = read_primary_table(disk).vault_partition();
    vault.last = vault.first + 129;  // a chunk and two sectors
    Sequence random(11);
    wipe_vault(disk, vault, random, [&](std::uint64_t lba, MutableBytes out) { disk.read(lba, out); });
    EXPECT_TRUE(is_zero(vault_of(disk).first(130 * kSector)));
    EXPECT_TRUE(equal_bytes(vault_of(disk).subspan(130 * kSector), vault_of(provisioned()).subspan(130 * kSector)));
}

}  // namespace
}  // namespace gatehouse::host
