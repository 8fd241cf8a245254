// An image put onto disks whose power fails at every operation, which are bad, or which lie.
#include "image/flash/flash.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/image/fragile_target.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ExitCode;
using host::ToolError;
using testing::HasSubstr;

constexpr std::uint32_t kChunk = 64 << 10;
constexpr std::size_t kDiskSize = std::size_t{5} << 20;

Buffer noise(std::size_t size) {
    Buffer bytes(size);
    host::Sequence(99).fill(bytes);
    return bytes;
}

// A disk with data of somebody's, which nothing boots from.
Buffer used_disk() {
    Buffer bytes = noise(kDiskSize);
    std::fill_n(bytes.begin(), 512, std::byte{0});
    return bytes;
}

const Observer kNobody = [](Phase, std::uint64_t, std::uint64_t) {};

struct Image {
    explicit Image(std::size_t sector = 512, std::uint64_t attributes = kGrows)
        : disk(small_image(sector, attributes), sector), manifest(describe_image(disk, kChunk, [](std::uint64_t) {})) {}
    FragileTarget disk;
    Manifest manifest;
};

const Image& image() {
    static const Image kImage;
    return kImage;
}

Flashed flash_on(FragileTarget& target, bool resume = false, const Image& from = image(), std::uint64_t seed = 1) {
    host::Sequence random(seed);
    return flash(from.disk, from.manifest, target, resume, random, kNobody);
}

std::string error_of(FragileTarget& target, bool resume = false) try {
    (void)flash_on(target, resume);
    return "";
} catch (const ToolError& error) {
    return error.what();
}

bool is_zero(Bytes bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// Neither firmware finds a table nor a BIOS code.
bool boots_nothing(const FragileTarget& target) {
    std::string why_not;
    return !host::try_partition_table(target, 1, why_not) &&
           !host::try_partition_table(target, target.total_sectors() - 1, why_not) &&
           is_zero(Bytes(target.content()).first(440));
}

// Everything of the image is there, but for the tables, which are the disk's.
void expect_right(const FragileTarget& target, const Image& from = image()) {
    const std::size_t sector = target.sector_size();
    const Bytes now = target.content();
    const Bytes wanted = from.disk.content();
    const std::size_t front = 2 * sector + volume::kGptMaxTableSize;
    const std::size_t back = target.content().size() - sector - volume::kGptMaxTableSize;
    ASSERT_TRUE(equal_bytes(now.first(446), wanted.first(446)));
    const std::size_t end = std::min(back, kImageSize);
    ASSERT_TRUE(equal_bytes(now.subspan(front, end - front), wanted.subspan(front, end - front)));

    const host::PartitionTables tables = host::read_partition_tables(target);
    ASSERT_EQ(tables.primary.header.last_usable, back / sector - 1);
    ASSERT_TRUE(equal_bytes(tables.primary.entries(), tables.backup.entries()));
    ASSERT_EQ(load<std::uint32_t>(now.data() + 446 + 12, Endian::kLittle), target.total_sectors() - 1);
    const auto before = host::read_primary_table(from.disk).partitions();
    const auto after = tables.primary.partitions();
    ASSERT_EQ(after.size(), before.size());
    for (std::size_t i = 0; i < after.size(); ++i) {
        ASSERT_EQ(after[i].first, before[i].first);
        ASSERT_NE(after[i].id, before[i].id);
        ASSERT_TRUE(i == 2 || after[i].last == before[i].last);
    }
}

TEST(Flash, PutsTheImageOnALargerDiskAndFitsItsTable) {
    FragileTarget target(noise(kDiskSize));
    const Flashed done = flash_on(target);
    ASSERT_NO_FATAL_FAILURE(expect_right(target));
    EXPECT_EQ(done.written, image().manifest.mapped_bytes());
    EXPECT_EQ(done.written + done.zeroed, kImageSize);
    EXPECT_EQ(done.disk, host::read_primary_table(target).header.disk);
    const volume::GptEntry root = host::read_primary_table(target).partitions()[2];
    EXPECT_EQ((root.last + 1) % 8, 0u) << "a multiple of 4,096 bytes";
    EXPECT_GT(root.last + 1 + 8, host::read_primary_table(target).header.last_usable);
}

TEST(Flash, LeavesNothingOldWhereTheImageHasZeros) {
    FragileTarget target(noise(kDiskSize));
    const Flashed done = flash_on(target);
    EXPECT_GT(done.zeroed, kImageSize / 3);
    EXPECT_TRUE(is_zero(Bytes(target.content()).subspan(kVaultAt, std::size_t{1} << 20)));
    EXPECT_TRUE(is_zero(Bytes(target.content()).subspan(kRootAt + kRootSize / 2, kRootSize / 2)));
}

TEST(Flash, LeavesWhatIsBehindTheImageButForTheLastMebibyte) {
    FragileTarget target(noise(kDiskSize));
    (void)flash_on(target);
    const std::size_t left = kDiskSize - (std::size_t{1} << 20) - kImageSize;
    EXPECT_TRUE(equal_bytes(Bytes(target.content()).subspan(kImageSize, left),
                            Bytes(noise(kDiskSize)).subspan(kImageSize, left)));
    EXPECT_TRUE(is_zero(Bytes(target.content()).subspan(kImageSize + left, std::size_t{1} << 19)));
}

TEST(Flash, GrowsNoPartitionThatDoesNotAskForIt) {
    const Image fixed(512, 0);
    FragileTarget target(noise(kDiskSize));
    (void)flash_on(target, false, fixed);
    ASSERT_NO_FATAL_FAILURE(expect_right(target, fixed));
    EXPECT_EQ(host::read_primary_table(target).partitions()[2].last, (kRootAt + kRootSize) / 512 - 1);
}

// The backup table of the disk begins among what the image has, at each of these.
TEST(Flash, FitsADiskOfTheImagesSizeAndOnesThatAreHardlyLarger) {
    for (const std::size_t more : {0u, 1u, 16u, 32u, 33u, 34u, 127u, 128u, 129u}) {
        SCOPED_TRACE(more);
        FragileTarget target(noise(kImageSize + more * 512));
        (void)flash_on(target);
        ASSERT_NO_FATAL_FAILURE(expect_right(target));
    }
}

TEST(Flash, FitsDisksOf4096ByteSectors) {
    const Image large(4096);
    for (const std::size_t size : {kImageSize, kDiskSize}) {
        FragileTarget target(noise(size), 4096);
        (void)flash_on(target, false, large);
        ASSERT_NO_FATAL_FAILURE(expect_right(target, large));
    }
}

TEST(Flash, GivesEachDiskGuidsOfItsOwn) {
    FragileTarget one(noise(kDiskSize));
    FragileTarget other(noise(kDiskSize));
    EXPECT_NE(flash_on(one, false, image(), 1).disk, flash_on(other, false, image(), 2).disk);
}

TEST(Flash, TellsItsPhasesInOrderAndEachToItsEnd) {
    FragileTarget target(noise(kDiskSize));
    host::Sequence random(1);
    std::string told;
    (void)flash(image().disk, image().manifest, target, false, random,
                [&](Phase phase, std::uint64_t done, std::uint64_t total) {
                    if (done == 0) told += std::string(name_of(phase)) + "(";
                    EXPECT_LE(done, total);
                    if (done == total) told += ")";
                });
    EXPECT_EQ(told, "clear()write()verify()tables()");
}

// --- Refusals

TEST(FlashRefuses, DisksThatAreTooSmallOrOfOtherSectors) {
    FragileTarget small(noise(kImageSize - 512));
    EXPECT_THAT(error_of(small), HasSubstr("/dev/fragile: refused: too small: 3145216 bytes, the image has 3145728"));
    FragileTarget other(noise(kDiskSize), 4096);
    EXPECT_THAT(error_of(other), HasSubstr("refused: its sectors have 4096 bytes, and the image is made for 512"));
    EXPECT_EQ(small.operations() + other.operations(), 0u);
}

TEST(FlashRefuses, AnImageWhoseVaultHasBeenMade) {
    FragileTarget made(small_image());
    host::Sequence random(1);
    host::PartitionTables tables = host::read_partition_tables(made);
    const auto vault = std::make_unique<host::OpenVault>();
    host::lay_out(made, tables, vault->header);
    random.fill(vault->keys.dek.bytes());
    host::make_keys(random, *vault);
    host::put_vault(made, tables, *vault, host::kWindow);
    EXPECT_THROW((void)describe_image(made, kChunk, [](std::uint64_t) {}), ToolError);
    FragileTarget target(noise(kDiskSize));
    EXPECT_THROW((void)flash(made, image().manifest, target, false, random, kNobody), ToolError);
    EXPECT_EQ(target.operations(), 0u);
}

TEST(FlashRefuses, AnImageThatWasChangedAfterItWasChecked) {
    const Image before;
    FragileTarget changed(before.disk.content());
    for (const std::size_t at : {kBootAt, kRootAt}) {
        SCOPED_TRACE(at);
        Buffer sector = changed.read_sectors(at / 512, 1);
        sector[7] ^= std::byte{1};
        changed.write(at / 512, sector);
        FragileTarget target(noise(kDiskSize));
        host::Sequence random(1);
        try {
            (void)flash(changed, before.manifest, target, false, random, kNobody);
            ADD_FAILURE();
        } catch (const ToolError& error) {
            EXPECT_EQ(error.code(), ExitCode::kNo);
            EXPECT_THAT(error.what(),
                        HasSubstr("not as its manifest says in the 65536 bytes from " + std::to_string(at)));
        }
        EXPECT_TRUE(boots_nothing(target));
        changed = FragileTarget(before.disk.content());
    }
}

// --- Bad disks

// Whose MBR, table or backup is another one at a single read: at the check it was right, and it is right again.
class FlickeringImage final : public host::BlockDevice {
  public:
    FlickeringImage(std::uint64_t lba, unsigned read) : lba_(lba), wrong_(read) {}
    [[nodiscard]] const std::string& path() const override { return image().disk.path(); }
    [[nodiscard]] std::size_t sector_size() const override { return 512; }
    [[nodiscard]] std::uint64_t total_sectors() const override { return image().disk.total_sectors(); }
    void read(std::uint64_t lba, MutableBytes out) const override {
        image().disk.read(lba, out);
        if (lba_ < lba || lba_ >= lba + out.size() / 512 || ++reads_ != wrong_) return;
        out[(lba_ - lba) * 512 + 100] ^= std::byte{1};  // boot code, or behind what a header's CRC covers
    }
    void write(std::uint64_t /*lba*/, Bytes /*data*/) override { std::abort(); }
    void flush() override { std::abort(); }
    [[nodiscard]] unsigned reads() const { return reads_; }

  private:
    std::uint64_t lba_;
    unsigned wrong_;
    mutable unsigned reads_ = 0;
};

TEST(FlashRefuses, AnImageWhoseTablesAreOthersAtASingleRead) {
    FragileTarget wanted(used_disk());
    (void)flash_on(wanted);
    for (const std::uint64_t lba : {std::uint64_t{0}, std::uint64_t{1}, image().disk.total_sectors() - 1}) {
        for (unsigned read = 1;; ++read) {
            SCOPED_TRACE("sector " + std::to_string(lba) + ", read " + std::to_string(read));
            const FlickeringImage image_then(lba, read);
            FragileTarget target(used_disk());
            host::Sequence random(1);
            try {
                (void)flash(image_then, image().manifest, target, false, random, kNobody);
                ASSERT_TRUE(target.content() == wanted.content());
                if (image_then.reads() < read) break;
            } catch (const ToolError&) {
                ASSERT_THROW((void)host::read_partition_tables(target), ToolError);
            }
        }
    }
}

TEST(BadDisk, ThatCannotBeWrittenFailsAndIsNamedWithTheByte) {
    FragileTarget target(noise(kDiskSize));
    target.make_unwritable(kRootAt / 512 + 5);
    EXPECT_THAT(error_of(target),
                HasSubstr("/dev/fragile: cannot be written at byte 2097152: Input/output error (do not use"));
    EXPECT_TRUE(boots_nothing(target));
}

TEST(BadDisk, ThatCannotBeReadBackFails) {
    FragileTarget target(noise(kDiskSize));
    target.make_unreadable(kRootAt / 512 + 5);
    EXPECT_THAT(error_of(target), HasSubstr("/dev/fragile: cannot be read at byte 2097152"));
    EXPECT_TRUE(boots_nothing(target));
}

// Among data, among zeros, in the last chunk.
TEST(BadDisk, ThatReadsBackSomethingElseFails) {
    for (const std::size_t at : {kBootAt, kVaultAt + 4096, kImageSize - 60 * 512}) {
        FragileTarget target(noise(kDiskSize));
        target.lie_at(at / 512);
        EXPECT_THAT(error_of(target),
                    HasSubstr("/dev/fragile: reads back other bytes than were written, in the 65536 bytes from " +
                              std::to_string(at / kChunk * kChunk)));
        EXPECT_TRUE(boots_nothing(target));
    }
}

TEST(BadDisk, ThatReadsBackAnotherTableFails) {
    for (const std::uint64_t lba :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}, kDiskSize / 512 - 33, kDiskSize / 512 - 1}) {
        FragileTarget target(noise(kDiskSize));
        target.lie_at(lba);
        EXPECT_THAT(error_of(target), HasSubstr("reads back another partition table than was written, at byte " +
                                                std::to_string(lba * 512)));
    }
}

TEST(BadDisk, ThatIsSmallerThanItSaysFails) {
    FragileTarget target(noise(kDiskSize));
    target.wrap_at((kRootAt - kChunk) / 512);
    EXPECT_THAT(error_of(target), HasSubstr("reads back other bytes"));
}

// --- Power cuts

TEST(FlashCut, AtAnyOperationLeavesWhatBootsNothingOrIsRightAndResumes) {
    FragileTarget whole(noise(kDiskSize));
    (void)flash_on(whole);
    const unsigned operations = whole.operations();
    ASSERT_GT(operations, 50u);
    unsigned bootless = 0;
    for (unsigned cut = 1; cut <= operations; ++cut) {
        for (const std::uint64_t chance : host::kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileTarget target(used_disk());
            target.fail_at(cut);
            ASSERT_THROW((void)flash_on(target), ToolError);
            target.power_up(chance);
            if (boots_nothing(target)) {
                ++bootless;
            } else {  // the tables have come, and so all of the rest has
                ASSERT_GT(cut, operations - 10);
                const std::size_t front = 2 * 512 + volume::kGptMaxTableSize;
                ASSERT_TRUE(equal_bytes(Bytes(target.content()).subspan(front, kImageSize - front),
                                        Bytes(image().disk.content()).subspan(front, kImageSize - front)));
            }
            (void)flash_on(target, true);
            ASSERT_NO_FATAL_FAILURE(expect_right(target));
        }
    }
    EXPECT_GT(bootless, 2 * operations);
}

// A disk that had another appliance, which booted, boots neither once the clearing is over.
TEST(FlashCut, OfADiskWithATableLeavesNoMixtureThatBoots) {
    FragileTarget before(noise(kDiskSize));
    (void)flash_on(before, false, image(), 5);
    FragileTarget whole(before.content());
    (void)flash_on(whole);
    for (unsigned cut = 4; cut <= whole.operations() - 10; ++cut) {
        FragileTarget target(before.content());
        target.fail_at(cut);
        ASSERT_THROW((void)flash_on(target), ToolError);
        target.power_up(cut);
        ASSERT_TRUE(boots_nothing(target)) << cut;
    }
}

TEST(FlashCut, IsResumedWithoutWritingAgainWhatIsRight) {
    FragileTarget whole(noise(kDiskSize));
    (void)flash_on(whole);
    FragileTarget target(noise(kDiskSize));
    target.fail_at(whole.operations() - 12);  // among the last chunks
    EXPECT_THROW((void)flash_on(target), ToolError);
    target.power_up(1);
    FragileTarget after(target.content());
    const Flashed done = flash_on(after, true);
    ASSERT_NO_FATAL_FAILURE(expect_right(after));
    EXPECT_GT(done.kept, kImageSize / 2);
    // The first MiB was cleared once more: with five chunks of the map; then what was cut.
    EXPECT_LE(done.written, std::uint64_t{6} * kChunk);
    EXPECT_LT(done.written, image().manifest.mapped_bytes() * 3 / 4);
    EXPECT_EQ(done.kept + done.written + done.zeroed, kImageSize);
}

TEST(FlashCut, IsResumedAlsoOverAChunkThatRotted) {
    FragileTarget target(noise(kDiskSize));
    (void)flash_on(target);
    for (const std::size_t at : {kRootAt + 9, kVaultAt + 7777}) {
        Buffer sector = target.read_sectors(at / 512, 1);
        sector[at % 512] ^= std::byte{4};
        target.write(at / 512, sector);
    }
    (void)flash_on(target, true);
    ASSERT_NO_FATAL_FAILURE(expect_right(target));
}

// --- Transfers of a disk

TEST(TransferAll, GoesOnAfterShortOnesAndInterruptions) {
    Buffer bytes(10);
    std::vector<std::pair<std::uint64_t, std::size_t>> calls;
    transfer_all(
        [&](std::uint64_t offset, MutableBytes rest) -> ssize_t {
            calls.emplace_back(offset, rest.size());
            if (calls.size() == 2) {
                errno = EINTR;
                return -1;
            }
            return std::min<ssize_t>(4, static_cast<ssize_t>(rest.size()));
        },
        100, bytes, "disk");
    EXPECT_THAT(calls,
                testing::ElementsAre(std::pair(100, 10), std::pair(104, 6), std::pair(104, 6), std::pair(108, 2)));
}

TEST(TransferAll, FailsWhereNothingGoesOn) {
    Buffer bytes(10);
    const auto error = [&](ssize_t answer, int number) -> std::string {
        try {
            transfer_all(
                [&](std::uint64_t offset, MutableBytes) -> ssize_t {
                    errno = number;
                    return offset == 100 ? 4 : answer;
                },
                100, bytes, "disk: cannot be written");
        } catch (const ToolError& failure) {
            return failure.what();
        }
        return "";
    };
    EXPECT_EQ(error(-1, EIO), "disk: cannot be written at byte 104: Input/output error");
    EXPECT_EQ(error(0, 0), "disk: cannot be written at byte 104: the disk takes no more");
    EXPECT_EQ(error(7, 0), "disk: cannot be written at byte 104: the disk takes no more");
}

}  // namespace
}  // namespace gatehouse::flash
