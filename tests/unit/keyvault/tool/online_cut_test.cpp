// A change of the disk's key that goes on in use (keyvault/volume/conversion.hpp), on a disk that fails at every write and every flush,
// one after the other, with a guest that writes between the windows, and the offline tool taking turns with it: nothing is lost,
// no sector is read with the wrong key.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "keyvault/tool/rotation.hpp"
#include "keyvault/volume/conversion.hpp"
#include "keyvault/volume_writer/previous_key_writer.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"

namespace gatehouse::host {
namespace {

// The disk as the hypervisor has it: no exceptions, and the keys before and after.
class Attached final : public volume::Medium {
  public:
    explicit Attached(FragileDisk& disk) : disk_(disk) {}
    Status read(std::uint64_t lba, MutableBytes out) override {
        return attempt([&] { disk_.read(lba, out); });
    }
    Status write(std::uint64_t lba, Bytes data) override {
        if (std::ranges::any_of(unwritable,
                                [&](std::uint64_t bad) { return bad >= lba && bad < lba + data.size() / kSector; })) {
            return {Error::kDeviceError, "unwritable"};
        }
        return attempt([&] { disk_.write(lba, data); });
    }
    Status flush() override {
        return attempt([&] { disk_.flush(); });
    }
    void convert(std::uint64_t lba, MutableBytes data) override {
        using enum ata::XtsKey::Direction;
        const std::size_t count = data.size() / kSector;
        if (from) from->transform(kDecrypt, data.data(), data.data(), count, kSector, lba);
        to.transform(kEncrypt, data.data(), data.data(), count, kSector, lba);
    }
    std::optional<ata::XtsKey> from;
    ata::XtsKey to;
    std::set<std::uint64_t> unwritable;

  private:
    template <typename Action>
    static Status attempt(Action action) try {
        action();
        return {};
    } catch (const ToolError&) {
        return {Error::kDeviceError, "disk"};
    }
    FragileDisk& disk_;
};

// A boot of the machine, and the guest in it.
class Boot {
  public:
    // `unwritable`: from the beginning.
    explicit Boot(FragileDisk& disk, std::set<std::uint64_t> unwritable = {}) : disk_(disk), medium_(disk) {
        medium_.unwritable = std::move(unwritable);
        const HeaderCopies copies = read_header_copies(disk, read_partition_tables(disk).vault_entry());
        vault_ = open_vault(disk);
        if (vault_->header.cursor.state == volume::CursorState::kIdle) return;
        const bool changes = vault_->header.cursor.state == volume::CursorState::kChangingKey;
        volume::Dek before;
        opened = conversion_->open(medium_, kVaultFirst, vault_->copy, copies[vault_->copy], vault_->header,
                                   vault_->keys.kek, before);
        if (!opened) return;
        if (changes) {
            EXPECT_TRUE(medium_.from.emplace().set(before.bytes()).ok());
        }
        EXPECT_TRUE(medium_.to.set(vault_->keys.dek.bytes()).ok());
    }
    void refuse_writes_of(std::uint64_t lba) { medium_.unwritable.insert(lba); }
    Status go_on() { return opened && is_active() ? conversion_->go_on() : opened; }
    Status step() { return conversion_->step(); }
    [[nodiscard]] bool is_active() const { return conversion_->is_active(); }
    [[nodiscard]] const Extent locked() const { return {conversion_->locked().base, conversion_->locked().length}; }
    [[nodiscard]] bool is_locked(std::uint64_t lba) const {
        return lba >= locked().first && lba < locked().first + locked().count;
    }
    // Each of the guest's sectors; false: it is refused.
    bool write(std::uint64_t lba, Bytes plain) {
        if (is_locked(lba)) return false;
        Buffer sector(plain.begin(), plain.end());
        if (const ata::XtsKey* key = key_of(lba)) {
            key->transform(ata::XtsKey::Direction::kEncrypt, sector.data(), sector.data(), 1, kSector, lba);
        }
        return medium_.write(lba, sector).ok();
    }
    [[nodiscard]] Buffer read(std::uint64_t lba) {
        Buffer sector = disk_.read_sectors(lba, 1);
        if (const ata::XtsKey* key = key_of(lba)) {
            key->transform(ata::XtsKey::Direction::kDecrypt, sector.data(), sector.data(), 1, kSector, lba);
        }
        return sector;
    }
    Status opened;

  private:
    const ata::XtsKey* key_of(std::uint64_t lba) {
        if (!is_active()) {
            EXPECT_TRUE(medium_.to.set(vault_->keys.dek.bytes()).ok());
        }
        if (!is_active() || lba < conversion_->changed()) return &medium_.to;
        return medium_.from ? &*medium_.from : nullptr;
    }
    FragileDisk& disk_;
    Attached medium_;
    std::unique_ptr<OpenVault> vault_;
    std::unique_ptr<volume::Conversion> conversion_ = std::make_unique<volume::Conversion>();
};

// What the guest has, sector by sector; those of a write that failed may be either.
using Plain = std::map<std::uint64_t, std::set<Buffer>>;

Plain plain_of_image() {
    Plain plain;
    for (const Extent& extent : encrypted_extents(open_vault(provisioned_disk())->header)) {
        for (std::uint64_t lba = extent.first; lba < extent.first + extent.count; ++lba) {
            const Bytes sector = Bytes(image()).subspan(lba * kSector, kSector);
            plain[lba] = {Buffer(sector.begin(), sector.end())};
        }
    }
    return plain;
}

FragileDisk begun_on(const FragileDisk& from) {
    FragileDisk disk = from;
    disk.fail_at(0);
    const auto vault = open_vault(disk);
    VaultStore store = store_of(disk);
    Sequence random(5);
    begin_disk_key_change(disk, store, *vault, random, kWindow);
    return disk;
}

FragileDisk encryption_begun() {
    FragileDisk disk(image());
    PartitionTables tables = read_partition_tables(disk);
    const auto vault = new_vault(disk, tables, 1);
    write_partition_tables(disk, tables);
    VaultStore store = store_of(disk);
    begin_encryption(store, *vault);
    return disk;
}

// What the guest does between windows: writes here and there, at the first sectors of the disk's parts above all.
void work(Boot& boot, Plain& plain, Sequence& random) {
    constexpr std::uint64_t kFavourites[] = {34, 35, 39, 2112, 2113, kTotal - 34, kTotal - 35};
    for (int i = 0; i < 6; ++i) {
        auto at = plain.begin();
        std::advance(at, static_cast<std::ptrdiff_t>((random.next() << 8 | random.next()) % plain.size()));
        if (i < 3) {
            const auto favourite = plain.find(kFavourites[random.next() % std::size(kFavourites)]);
            if (favourite != plain.end()) at = favourite;
        }
        Buffer sector(kSector);
        random.fill(sector);
        if (boot.is_locked(at->first)) continue;
        if (boot.write(at->first, sector))
            at->second = {sector};
        else
            at->second.insert(sector);
    }
}

// The guest flushes its own writes at once: what it has written is what it expects.
void expect_content(Boot& boot, const Plain& plain) {
    for (const auto& [lba, contents] : plain) {
        if (boot.is_locked(lba)) continue;
        ASSERT_TRUE(contents.contains(boot.read(lba))) << lba;
    }
}

void demand_done(FragileDisk& disk, const Plain& plain, const volume::Dek* old, bool was_cut = false) {
    // Idle in the newest copy, so that no boot has anything to do: what is left in the other one, and the record, is the tool's.
    ASSERT_EQ(open_vault(disk)->header.cursor.state, volume::CursorState::kIdle);
    if (was_cut) resume_on(disk, *open_vault(disk));
    for (const bool newest : {true, false}) {
        FragileDisk one = disk;
        lose_copy(one, newest);
        const auto vault = open_vault(one);
        ASSERT_EQ(vault->header.cursor.state, volume::CursorState::kIdle);
        if (old != nullptr) {
            ASSERT_FALSE(vault->keys.dek.equals(old->bytes()));
        }
    }
    Boot boot(disk);
    ASSERT_FALSE(boot.is_active());
    ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
    const VaultStore store = store_of(disk);
    for (const std::uint64_t offset : volume::kPreviousKeyOffset) {
        ASSERT_FALSE(volume::looks_like_previous_key(store.read(offset, volume::kPreviousKeySize)));
    }
}

// Windows and the guest's work in turn, until the end or the failure of something.
bool convert(Boot& boot, FragileDisk& disk, Plain& plain, Sequence& random) {
    if (!boot.go_on()) return false;
    for (int i = 0; boot.is_active(); ++i) {
        EXPECT_LT(i, 100);
        work(boot, plain, random);
        try {
            disk.flush();
        } catch (const ToolError&) {
            return false;
        }
        if (!boot.step()) return false;
    }
    return true;
}

void keep_both(Plain& plain, const Plain& before) {
    for (auto& [lba, contents] : plain) contents.insert(before.at(lba).begin(), before.at(lba).end());
}

class OnlineChange : public testing::TestWithParam<bool> {
  protected:
    [[nodiscard]] static FragileDisk begun() { return GetParam() ? begun_on(provisioned_disk()) : encryption_begun(); }
    [[nodiscard]] const volume::Dek* old() const { return GetParam() ? &before->keys.dek : nullptr; }
    std::unique_ptr<OpenVault> before = open_vault(provisioned_disk());
};
INSTANTIATE_TEST_SUITE_P(Of, OnlineChange, testing::Bool(),
                         [](const auto& kind) { return kind.param ? std::string("AKey") : std::string("Plaintext"); });

TEST_P(OnlineChange, EndsWhileTheGuestWrites) {
    FragileDisk disk = begun();
    Plain plain = plain_of_image();
    Sequence random(3);
    {
        Boot boot(disk);
        ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
        ASSERT_TRUE(convert(boot, disk, plain, random));
        expect_content(boot, plain);
    }
    demand_done(disk, plain, old());
}

TEST_P(OnlineChange, MayBeCutAtAnyWriteOrFlush) {
    const FragileDisk from = begun();
    bool whole = false;
    for (unsigned cut = 1; !whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = from;
            Plain plain = plain_of_image();
            Sequence random(cut + 7);
            disk.fail_at(cut);
            {
                Boot boot(disk);
                // The guest's writes of the last turn are on the medium or not.
                Plain then = plain;
                Status done = boot.go_on();
                while (done && boot.is_active()) {
                    then = plain;
                    work(boot, plain, random);
                    try {
                        disk.flush();
                        then = plain;
                    } catch (const ToolError&) {
                        break;
                    }
                    done = boot.step();
                }
                whole = done.ok() && !boot.is_active();
                keep_both(plain, then);
            }
            disk.power_up(chance);
            disk.fail_at(0);
            bool is_idle = false;
            {
                Boot boot(disk);
                ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
                is_idle = !boot.is_active();
                ASSERT_TRUE(boot.go_on().ok());
                if (!whole) {
                    ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
                }
                if (boot.is_active()) {
                    ASSERT_TRUE(convert(boot, disk, plain, random));
                }
            }
            ASSERT_NO_FATAL_FAILURE(demand_done(disk, plain, old(), is_idle));
        }
    }
}

// After the cut one copy of the header, whichever, is lost as well.
TEST_P(OnlineChange, SurvivesTheLossOfACopyOfTheHeader) {
    const FragileDisk from = begun();
    bool whole = false;
    for (unsigned cut = 1; !whole; ++cut) {
        for (const bool newest : {false, true}) {
            SCOPED_TRACE("operation " + std::to_string(cut) + (newest ? ", newest" : ", other"));
            FragileDisk disk = from;
            Plain plain = plain_of_image();
            Sequence random(cut + 7);
            disk.fail_at(cut);
            {
                Boot boot(disk);
                const Plain then = plain;
                whole = convert(boot, disk, plain, random);
            }
            disk.power_up(1);
            lose_copy(disk, newest);
            OpenVault any;
            if (!open_with_recovery_key(disk, recovery(), any).ok()) {
                EXPECT_TRUE(newest);  // while the other one was being written there is but this one
                continue;
            }
            Boot boot(disk);
            ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
            ASSERT_TRUE(boot.go_on().ok());
            if (boot.is_active()) {
                ASSERT_TRUE(convert(boot, disk, plain, random));
            }
            ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
        }
    }
}

// Cut in use, ended by the tool; and the other way about.
TEST_P(OnlineChange, IsGoneOnWithByTheTool) {
    const FragileDisk from = begun();
    bool whole = false;
    for (unsigned cut = 1; !whole; ++cut) {
        SCOPED_TRACE("operation " + std::to_string(cut));
        FragileDisk disk = from;
        Plain plain = plain_of_image();
        Sequence random(cut + 7);
        disk.fail_at(cut);
        {
            Boot boot(disk);
            whole = convert(boot, disk, plain, random);
        }
        disk.power_up(1);
        resume_on(disk, *open_vault(disk));
        ASSERT_NO_FATAL_FAILURE(demand_done(disk, plain, old()));
    }
}

TEST_P(OnlineChange, GoesOnWithWhatTheToolHasBegun) {
    const FragileDisk from = begun();
    bool whole = false;
    for (unsigned cut = 1; !whole; ++cut) {
        for (const std::uint64_t chance : kChances) {
            SCOPED_TRACE("operation " + std::to_string(cut) + ", chance " + std::to_string(chance));
            FragileDisk disk = from;
            disk.fail_at(cut);
            try {
                resume_on(disk, *open_vault(disk));
                whole = true;
            } catch (const ToolError&) {
                disk.power_up(chance);
            }
            disk.fail_at(0);
            Plain plain = plain_of_image();
            Sequence random(cut + 7);
            bool is_idle = false;
            {
                Boot boot(disk);
                ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
                is_idle = !boot.is_active();
                ASSERT_TRUE(boot.go_on().ok());
                ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
                if (boot.is_active()) {
                    ASSERT_TRUE(convert(boot, disk, plain, random));
                }
            }
            ASSERT_NO_FATAL_FAILURE(demand_done(disk, plain, old(), is_idle));
        }
    }
}

// A sector that is not written, of a window, of a journal or of a copy of the header: the guest goes on, but for the window that
// is not at its end, and so does the change once it is written again.
TEST_P(OnlineChange, RestsWhileASectorIsNotWritten) {
    constexpr std::uint64_t kHeaders[] = {kVaultFirst + 2, kVaultFirst + volume::kCopyOffset[1] / kSector + 2};
    constexpr std::uint64_t kJournals[] = {kVaultFirst + volume::kJournalOffset[0] / kSector,
                                           kVaultFirst + volume::kJournalOffset[1] / kSector};
    for (const std::uint64_t bad :
         {kHeaders[0], kHeaders[1], kJournals[0], kJournals[1], std::uint64_t{36}, std::uint64_t{2300}, kTotal - 34}) {
        for (const bool at_boot : {false, true}) {
            SCOPED_TRACE(std::to_string(bad) + (at_boot ? " at boot" : " later"));
            FragileDisk disk = begun();
            Plain plain = plain_of_image();
            Sequence random(bad);
            {
                Boot boot(disk);
                if (at_boot) boot.refuse_writes_of(bad);
                if (boot.go_on()) {
                    boot.refuse_writes_of(bad);
                    for (int i = 0; i < 30 && boot.is_active() && boot.step(); ++i) work(boot, plain, random);
                }
                ASSERT_TRUE(boot.is_active());
                for (int i = 0; i < 5; ++i) {
                    work(boot, plain, random);
                    ASSERT_FALSE(boot.step().ok());
                    ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
                }
            }
            Boot boot(disk);
            ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
            ASSERT_TRUE(convert(boot, disk, plain, random));
            ASSERT_NO_FATAL_FAILURE(demand_done(disk, plain, old()));
        }
    }
}

TEST_P(OnlineChange, GoesOnInTheSameBootOnceTheSectorIsWritten) {
    FragileDisk disk = begun();
    Plain plain = plain_of_image();
    Sequence random(9);
    Boot boot(disk);
    ASSERT_TRUE(boot.go_on().ok());
    for (unsigned cut = 1; boot.is_active(); ++cut) {
        disk.fail_at(cut % 13 + 1);
        const Status done = boot.step();
        if (!done) disk.power_up(1);
        disk.fail_at(0);
        ASSERT_NO_FATAL_FAILURE(expect_content(boot, plain));
        work(boot, plain, random);
        ASSERT_LT(cut, 300u);
    }
    demand_done(disk, plain, old());
}

// The boot after a cut cannot write one copy of the header, which may name a window that is done; the guest writes wherever it may;
// then the newer copy is lost as well.
TEST_P(OnlineChange, SurvivesAnUnwritableCopyAndThenTheLossOfTheOther) {
    const FragileDisk from = begun();
    unsigned tried = 0;
    bool whole = false;
    for (unsigned cut = 1; !whole; ++cut) {
        SCOPED_TRACE("operation " + std::to_string(cut));
        FragileDisk disk = from;
        Plain plain = plain_of_image();
        Sequence random(cut + 7);
        disk.fail_at(cut);
        {
            Boot boot(disk);
            whole = convert(boot, disk, plain, random);
        }
        disk.power_up(1);
        disk.fail_at(0);
        {
            const auto vault = open_vault(disk);
            if (vault->header.cursor.state == volume::CursorState::kIdle) continue;
            Boot boot(disk, {kVaultFirst + volume::kCopyOffset[1 - vault->copy] / kSector});
            ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
            ASSERT_FALSE(boot.go_on().ok());
            for (auto& [lba, contents] : plain) {
                Buffer sector(kSector);
                random.fill(sector);
                contents = {sector};
                if (!boot.write(lba, sector)) contents.clear();
            }
            disk.flush();
        }
        lose_copy(disk, true);
        OpenVault any;
        if (!open_with_recovery_key(disk, recovery(), any).ok()) continue;  // the cut was in the other one
        Boot boot(disk);
        ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
        ASSERT_TRUE(boot.go_on().ok());
        for (const auto& [lba, contents] : plain) {
            if (!contents.empty()) {
                ASSERT_TRUE(contents.contains(boot.read(lba))) << lba;
            }
        }
        ++tried;
    }
    EXPECT_GT(tried, 10u);
}

// With it the tool begins a change from key to key, and it says what the first sector is.
TEST_P(OnlineChange, BootsThoughTheJournalOfNoWindowIsNotTakenAway) {
    FragileDisk disk = begun();
    Plain plain = plain_of_image();
    Sequence random(5);
    {
        Boot boot(disk, {kVaultFirst + volume::kJournalOffset[0] / kSector});
        ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
        EXPECT_EQ(boot.go_on().ok(), !GetParam());
        EXPECT_EQ(boot.is_locked(plain.begin()->first), GetParam());
        for (int i = 0; i < 30; ++i) work(boot, plain, random);
        expect_content(boot, plain);
    }
    Boot boot(disk);
    ASSERT_TRUE(boot.opened.ok()) << describe(boot.opened.failure());
    ASSERT_TRUE(convert(boot, disk, plain, random));
    demand_done(disk, plain, old());
}

// Without the journals; with them, between two windows, nothing tells.
TEST_P(OnlineChange, RefusesAHeaderOfItsBeginningThatWasPutBack) {
    const FragileDisk from = begun();
    FragileDisk disk = from;
    Boot boot(disk);
    ASSERT_TRUE(boot.go_on().ok());
    for (int windows = 0; windows < 8 && boot.is_active(); ++windows) {
        ASSERT_TRUE(boot.step().ok());
        if (windows < 2 || !boot.is_active()) continue;
        FragileDisk back = disk, then = from;
        for (const std::uint64_t offset : volume::kCopyOffset) {
            const std::uint64_t lba = kVaultFirst + offset / kSector;
            back.write(lba, then.read_sectors(lba, volume::kMaximumHeaderSize / kSector));
        }
        back.flush();
        const Buffer content = back.content();
        const Boot again(back);
        EXPECT_EQ(again.opened.error(), Error::kMismatch) << windows;
        EXPECT_TRUE(back.content() == content);
    }
}

// The vault of its midst, put back after its end.
TEST(OnlineChangeOfAKey, ThatTheToolHasEndedConvertsNothingAgain) {
    FragileDisk done = provisioned_disk();
    {
        const auto vault = open_vault(done);
        VaultStore store = store_of(done);
        Sequence random(5);
        rotate_disk_key(done, store, *vault, random, kWindow);
    }
    const FragileDisk from = begun_on(provisioned_disk());
    unsigned refused = 0;
    for (unsigned cut = 1; cut < 40; cut += 3) {
        FragileDisk then = from;
        then.fail_at(cut);
        EXPECT_THROW(resume_on(then, *open_vault(then)), ToolError);
        then.power_up(1);
        if (open_vault(then)->header.cursor.state == volume::CursorState::kIdle) continue;
        FragileDisk disk = with_vault_of(then, done);
        const Buffer content = disk.content();
        const Boot boot(disk);
        EXPECT_FALSE(boot.opened.ok()) << cut;
        EXPECT_EQ(boot.opened.error(), Error::kMismatch) << cut;
        EXPECT_TRUE(disk.content() == content);
        ++refused;
    }
    EXPECT_GT(refused, 5u);
}

TEST(OnlineChangeOfAKey, WantsAGoodRecordAndJournal) {
    FragileDisk disk = begun_on(provisioned_disk());
    disk.fail_at(10);
    EXPECT_THROW(resume_on(disk, *open_vault(disk)), ToolError);
    disk.power_up(1);
    ASSERT_NE(open_vault(disk)->header.cursor.count, 0u);
    const auto refused = [&](std::initializer_list<std::uint64_t> offsets) {
        FragileDisk forged = disk;
        for (const std::uint64_t offset : offsets) {
            Buffer sector = forged.read_sectors(kVaultFirst + offset / kSector, 1);
            sector[40] ^= std::byte{1};
            forged.write(kVaultFirst + offset / kSector, sector);
        }
        forged.flush();
        const Buffer content = forged.content();
        const Boot boot(forged);
        EXPECT_TRUE(forged.content() == content);
        return boot.opened.error();
    };
    EXPECT_EQ(refused({volume::kPreviousKeyOffset[0], volume::kPreviousKeyOffset[1]}), Error::kAuthFailed);
    EXPECT_EQ(refused({volume::kPreviousKeyOffset[0]}), Error::kNone);
    EXPECT_EQ(refused({volume::kJournalOffset[0], volume::kJournalOffset[1]}), Error::kBadMac);
}

TEST(OnlineChangeOfAKey, IsNotTheWayBackToPlaintext) {
    FragileDisk disk = provisioned_disk();
    const auto vault = open_vault(disk);
    vault->header.cursor = {volume::CursorState::kChangingKey, 0, 34, 0};
    vault->header.data_key.epoch = volume::kPlaintextEpoch;
    volume::Conversion conversion;
    Attached medium(disk);
    volume::Dek before;
    const Buffer copy = whole_copy(*vault);
    EXPECT_EQ(conversion.open(medium, kVaultFirst, 0, copy, vault->header, vault->keys.kek, before).error(),
              Error::kRefused);
    EXPECT_FALSE(conversion.is_active());
}

// Calls `check` with a disk, and its vault, for each of the tool's writes that a change of key may be cut at.
void for_each_cut_of_the_tool(const std::function<void(FragileDisk&, const OpenVault&)>& check) {
    const FragileDisk from = begun_on(provisioned_disk());
    for (unsigned cut = 5; cut < 60; ++cut) {
        SCOPED_TRACE(cut);
        FragileDisk disk = from;
        disk.fail_at(cut);
        try {
            resume_on(disk, *open_vault(disk));
            return;
        } catch (const ToolError&) {
            disk.power_up(1);
        }
        disk.fail_at(0);
        const auto vault = open_vault(disk);
        if (vault->header.cursor.state == volume::CursorState::kIdle) return;
        check(disk, *vault);
    }
}

// The tool's journal tells of the sector behind its window. While a boot cannot bring that window to its end the guest may not
// write it: by it disk and vault are known to be of one time.
TEST(Online, AToolsWindowThatABootCannotWriteLocksNobodyOut) {
    unsigned tried = 0;
    for_each_cut_of_the_tool([&](FragileDisk& disk, const OpenVault&) {
        Extent window{};
        {
            Boot probe(disk);
            ASSERT_TRUE(probe.opened.ok());
            window = probe.locked();
        }
        if (window.count == 0) return;
        {
            Boot boot(disk, {window.first});
            ASSERT_TRUE(boot.opened.ok());
            if (boot.go_on()) return;
            const Plain plain = plain_of_image();
            const auto at = plain.lower_bound(boot.locked().first + boot.locked().count);
            if (at == plain.end()) return;
            ASSERT_TRUE(boot.write(at->first, Buffer(kSector, std::byte{0x5a})));
            disk.flush();
        }
        ++tried;
        FragileDisk for_the_tool = disk;
        EXPECT_NO_THROW(resume_on(for_the_tool, *open_vault(for_the_tool)));
        Boot boot(disk);
        EXPECT_TRUE(boot.opened.ok());
    });
    EXPECT_GT(tried, 0u);
}

// The window is ended, and the older copy of the header still names it: once, or at two boots one after the other.
TEST(Online, AToolsWindowThatAnOlderCopyNamesLocksNobodyOutOnceTheNewestIsLost) {
    for (const int boots : {1, 2}) {
        SCOPED_TRACE(boots);
        unsigned tried = 0;
        for_each_cut_of_the_tool([&](FragileDisk& disk, const OpenVault& vault) {
            const std::uint64_t bad = kVaultFirst + volume::kCopyOffset[vault.copy] / kSector;
            for (int i = 0; i < boots; ++i) {
                Boot boot(disk, {bad});
                if (!boot.opened.ok() || boot.go_on()) break;
                const Buffer sector(kSector, std::byte{0x5a});
                if (i + 1 == boots)
                    for (const auto& [lba, content] : plain_of_image()) (void)boot.write(lba, sector);
                disk.flush();
            }
            lose_copy(disk, true);
            OpenVault any;
            if (!open_with_recovery_key(disk, recovery(), any).ok()) return;
            ++tried;
            Boot boot(disk);
            EXPECT_TRUE(boot.opened.ok());
        });
        EXPECT_GT(tried, 0u);
    }
}

}  // namespace
}  // namespace gatehouse::host
