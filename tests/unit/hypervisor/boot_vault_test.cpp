#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "ata/policy.hpp"
#include "hypervisor/boot/vault.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "keyvault/volume_writer/gpt_check.hpp"
#include "keyvault/volume_writer/header_writer.hpp"

// Here nobody else's registers are in the processor.
void gatehouse::cpu::begin_vectors() {}
void gatehouse::cpu::end_vectors() {}

namespace gatehouse::boot {
namespace {

constexpr std::uint64_t kSectors = 8192;  // 4 MiB
constexpr std::uint64_t kVaultFirst = 2048;
constexpr std::uint64_t kVaultCount = 2048;
constexpr volume::Guid kDiskGuid{std::byte{0xd1}, std::byte{0x5c}};

class MemoryDisk final : public ata::Disk, private ata::OwnCommands {
  public:
    explicit MemoryDisk(std::uint32_t port = 0) {
        number_ = port;
        EXPECT_TRUE(identify().ok());
    }
    Status execute(const ata::TaskFile& task, MutableBytes out) override {
        if (task.command == ata::kIdentifyDevice.command) {
            store(&out[2 * 100], total, Endian::kLittle);
            store(&out[2 * 106], std::uint16_t{0x5000}, Endian::kLittle);
            store(&out[2 * 117], size / 2, Endian::kLittle);
            return {};
        }
        EXPECT_EQ(task.command, ata::read_dma_ext(0, 1).command);
        EXPECT_EQ(out.size(), std::size_t{task.count} * size);
        if (broken.contains(task.lba) || dead) return {Error::kDeviceError, "disk: read", task.lba};
        copy_bytes(out, Bytes(bytes).subspan(task.lba * size, out.size()));
        return {};
    }
    // Whether the guest's sectors are encrypted by that key.
    [[nodiscard]] bool is_attached_with(const volume::Dek& dek) const {
        ata::XtsKey expected;
        if (!is_attached() || !expected.set(dek.bytes())) return false;
        std::array<std::byte, 512> ours{}, theirs{};
        expected.transform(ata::XtsKey::Direction::kEncrypt, ours.data(), ours.data(), 1, 512, 1);
        volume_.key->transform(ata::XtsKey::Direction::kEncrypt, theirs.data(), theirs.data(), 1, 512, 1);
        return ours == theirs;
    }
    [[nodiscard]] std::span<const Region> regions() const { return volume_.regions; }
    [[nodiscard]] const ata::Boundary& boundary() const { return volume_.boundary; }
    OwnCommands* own_commands() override { return takes_writes ? this : nullptr; }
    Status rest() override { return busy ? Status(Error::kState, "disk: busy") : Status(); }
    void resume() override { ++resumed; }
    Status write_sectors(std::uint64_t lba, Bytes data) override {
        for (std::uint64_t at = lba; at < lba + data.size() / size; ++at) {
            if (unwritable.contains(at)) return {Error::kDeviceError, "disk: write", at};
        }
        copy_bytes(MutableBytes(bytes).subspan(lba * size), data);
        return {};
    }
    Status flush() override { return {}; }
    MutableBytes sector(std::uint64_t lba, std::size_t count = 1) {
        return MutableBytes(bytes).subspan(lba * 512, count * 512);
    }
    MutableBytes copy(std::size_t number) {
        return MutableBytes(bytes).subspan(kVaultFirst * 512 + volume::kCopyOffset[number], volume::kMaximumHeaderSize);
    }
    std::uint32_t size = 512;
    std::uint64_t total = kSectors;
    std::vector<std::byte> bytes = std::vector<std::byte>(kSectors * 512);
    std::set<std::uint64_t> broken;
    bool dead = false;  // once it has been identified
    bool takes_writes = false;
    bool busy = false;
    unsigned resumed = 0;
    std::set<std::uint64_t> unwritable;
    std::optional<Failure> attach_failure;
};

// The port that a MemoryDisk is at.
class TestPort final : public PortDisk {
  public:
    explicit TestPort(MemoryDisk& of) : of_(of) { disk = &of; }
    Status attach(const volume::Header& header, const volume::Dek& dek) override {
        return of_.attach_failure ? Status(*of_.attach_failure) : PortDisk::attach(header, dek);
    }

  private:
    MemoryDisk& of_;
};

class TestRandom final : public RandomSource {
  public:
    explicit TestRandom(unsigned seed) : engine_(seed) {}
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(engine_());
    }

  private:
    std::mt19937 engine_;
};

// A TPM whose sealing policy anybody can seal to: it gives back what was sealed, whoever sealed it.
class OpenTpm final : public Unsealer {
  public:
    Result<volume::SlotSecret> unseal(const volume::Slots& slots) override {
        ++calls;
        if (failure) return *failure;
        if (!slots.tpm) return {Error::kNotFound, "vault: no TPM slot"};
        volume::SlotSecret secret;
        copy_bytes(secret.bytes(), slots.tpm->sealed_public.bytes());
        return secret;
    }
    std::optional<Failure> failure;
    int calls = 0;
};

void write_gpt_header(MemoryDisk& disk, std::uint64_t lba, std::uint64_t alternate, std::uint64_t entries,
                      Bytes table) {
    const MutableBytes sector = disk.sector(lba);
    Writer writer(sector);
    writer.bytes(literal_bytes("EFI PART"));
    writer.u32(0x10000);
    writer.u32(92);
    writer.u64(0);
    writer.u64(lba);
    writer.u64(alternate);
    writer.u64(34);
    writer.u64(kSectors - 34);
    writer.bytes(kDiskGuid);
    writer.u64(entries);
    writer.u32(128);
    writer.u32(128);
    writer.u32(volume::crc32(table));
    store(sector.data() + 16, volume::crc32(Bytes(sector).first(92)), Endian::kLittle);
}

void write_tables(MemoryDisk& disk, const volume::Guid& type, std::uint64_t count = kVaultCount) {
    std::vector<std::byte> table(128 * 128);
    Writer writer(MutableBytes(table).first(128));
    writer.bytes(type);
    writer.bytes(volume::Guid{std::byte{7}});
    writer.u64(kVaultFirst);
    writer.u64(kVaultFirst + count - 1);
    copy_bytes(disk.sector(2, 32), table);
    copy_bytes(disk.sector(kSectors - 33, 32), table);
    write_gpt_header(disk, 1, kSectors - 1, 2, table);
    write_gpt_header(disk, kSectors - 1, 1, kSectors - 33, table);
}

// A vault with keys of its own, as its owner has it.
struct Vault {
    explicit Vault(unsigned seed) {
        TestRandom random(seed);
        random.fill(secret.bytes());
        random.fill(kek.bytes());
        random.fill(dek.bytes());
        random.fill(root.bytes());
        header->disk = kDiskGuid;
        header->total_sectors = kSectors;
        header->regions[0] = {kVaultFirst, kVaultCount, RegionClass::kHidden};
        header->region_count = 1;
        header->vault_id = volume::vault_id(root);
    }
    // What the owner, or whoever makes the vault, wants in the header is right; the slots follow.
    void write(MemoryDisk& disk, std::size_t number, std::uint64_t generation) {
        TestRandom random(99);
        header->generation = generation;
        header->slots = {};
        if (in_tpm) {
            header->slots.tpm.emplace();
            ASSERT_TRUE(header->slots.tpm->sealed_public.assign(secret.bytes(), "x").ok());
            ASSERT_TRUE(header->slots.tpm->sealed_private.assign(literal_bytes("priv"), "x").ok());
            header->slots.tpm->kek = volume::wrap_kek(kek, volume::SlotKind::kTpm, secret, *header, random);
        }
        if (boot != nullptr) {
            header->slots.member = volume::wrap_kek(kek, volume::SlotKind::kMember, boot->root, *header, random);
        }
        header->root = volume::wrap_root(root, kek, header->disk, random);
        auto key = volume::wrap_dek(dek, 1, kek, header->disk, random);
        ASSERT_TRUE(key.ok());
        header->data_key = *key;
        const auto size = volume::serialise(*header, kek, disk.copy(number));
        ASSERT_TRUE(size.ok()) << size.failure().item;
    }
    void write_both(MemoryDisk& disk) {
        write_tables(disk, volume::kVaultPartitionType);
        write(disk, 0, 1);
        write(disk, 1, 2);
    }
    volume::SlotSecret secret;
    volume::Kek kek;
    volume::Dek dek;
    volume::Root root;
    bool in_tpm = true;
    const Vault* boot = nullptr;  // whose member it is
    std::unique_ptr<volume::Header> header = std::make_unique<volume::Header>();
};

class OpenVaults : public testing::Test {
  protected:
    OpenVaults() { own.write_both(disk); }
    Status open(const std::vector<MemoryDisk*>& disks) {
        std::vector<PortDisk*> all;
        for (MemoryDisk* const one : disks) {
            EXPECT_TRUE(one->identify().ok());
            ports.push_back(std::make_unique<TestPort>(*one));
            all.push_back(ports.back().get());
        }
        vaults->conversion().allow(change_in_use);
        return vaults->open(all, own.header->vault_id, tpm);
    }
    Status open() { return open({&disk}); }
    void add_member(const volume::VaultId& id) {
        own.header->members[own.header->member_count++] = id;
        std::sort(own.header->members.begin(), own.header->members.begin() + own.header->member_count);
        own.write_both(disk);
    }
    void expect_boot_vault_only() {
        ASSERT_EQ(vaults->all().size(), 1u);
        EXPECT_EQ(vaults->all()[0].disk->disk, &disk);
        EXPECT_TRUE(disk.is_attached_with(own.dek));
        ASSERT_EQ(disk.regions().size(), 1u);
        EXPECT_EQ(disk.regions()[0].first, kVaultFirst);
        EXPECT_EQ(disk.regions()[0].kind, RegionClass::kHidden);
    }
    // Nothing of these keys is left in the object that opened the vaults.
    void expect_no_secret_left(std::initializer_list<Bytes> secrets) {
        const Bytes memory = std::as_bytes(std::span(vaults.get(), 1));
        for (const Bytes secret : secrets) {
            for (std::size_t at = 0; at + 8 <= secret.size(); at += 8) {
                const Bytes part = secret.subspan(at, 8);
                EXPECT_EQ(std::search(memory.begin(), memory.end(), part.begin(), part.end()), memory.end()) << at;
            }
        }
    }

    bool change_in_use = true;  // the policy's word
    OpenTpm tpm;
    Vault own{1};
    MemoryDisk disk{4};
    MemoryDisk other{1};  // of a smaller port number: it is looked at first where the test says so
    std::vector<std::unique_ptr<TestPort>> ports;
    std::unique_ptr<Vaults> vaults = std::make_unique<Vaults>();
};

// --- The boot vault

TEST_F(OpenVaults, OpensTheNewestCopy) {
    const Status status = open();
    ASSERT_TRUE(status.ok()) << status.failure().item;
    expect_boot_vault_only();
    EXPECT_EQ(vaults->all()[0].header.generation, 2u);
    EXPECT_EQ(tpm.calls, 1);
}

TEST_F(OpenVaults, UsesTheBackupTableIfThePrimaryIsBroken) {
    for (const std::uint64_t unreadable : {1, 2}) {
        disk.broken = {unreadable};
        vaults = std::make_unique<Vaults>();
        EXPECT_TRUE(open().ok()) << unreadable;
    }
}

// Whatever is changed of what the primary table says of the vault.
TEST_F(OpenVaults, UsesTheBackupTableIfThePrimaryDoesNotLeadToAHeaderOfThisDisk) {
    const auto good = disk.bytes;
    for (const auto& [sector, offset] : {std::pair{1, 0},
                                         {1, 56},
                                         {1, 71},
                                         {1, 72},
                                         {1, 79},
                                         {2, 0},
                                         {2, 15},
                                         {2, 32},
                                         {2, 33},
                                         {2, 39},
                                         {2, 41},
                                         {2, 47}}) {
        disk.bytes = good;
        disk.sector(static_cast<std::uint64_t>(sector))[static_cast<std::size_t>(offset)] ^= std::byte{0x80};
        vaults = std::make_unique<Vaults>();
        EXPECT_TRUE(open().ok()) << sector << " " << offset;
    }
}

TEST_F(OpenVaults, FindsTheVaultAmongTheEntriesOfATable) {
    const MutableBytes table = disk.sector(2, 32);
    std::vector<std::byte> entry(table.begin(), table.begin() + 128);
    for (const std::size_t number : {1u, 4u, 127u}) {
        std::ranges::fill(table, std::byte{0});
        copy_bytes(table.subspan(number * 128), entry);
        disk.broken = {kSectors - 1};
        vaults = std::make_unique<Vaults>();
        EXPECT_TRUE(open().ok()) << number;
    }
}

TEST_F(OpenVaults, FindsTheVaultOnADiskOfLargeSectors) {
    constexpr std::size_t kSize = 4096;
    const std::vector<std::byte> table(disk.sector(2, 32).begin(), disk.sector(2, 32).end());
    const std::vector<std::byte> head(disk.sector(1).begin(), disk.sector(1).end());
    disk.size = kSize;
    disk.total = kSectors / 8;
    std::ranges::fill(disk.sector(1, 40), std::byte{0});
    copy_bytes(MutableBytes(disk.bytes).subspan(kSize), head);
    copy_bytes(MutableBytes(disk.bytes).subspan(2 * kSize), table);
    MutableBytes entry = MutableBytes(disk.bytes).subspan(2 * kSize);
    store(entry.data() + 32, kVaultFirst / 8, Endian::kLittle);
    store(entry.data() + 40, (kVaultFirst + kVaultCount) / 8 - 1, Endian::kLittle);
    own.header->sector_size = kSize;
    own.header->total_sectors = kSectors / 8;
    own.header->regions[0] = {kVaultFirst / 8, kVaultCount / 8, RegionClass::kHidden};
    own.write(disk, 0, 1);
    own.write(disk, 1, 2);
    const Status status = open();
    EXPECT_TRUE(status.ok()) << status.failure().item;
}

TEST_F(OpenVaults, TheFirstOfSeveralVaultPartitionsIsTaken) {
    for (const std::uint64_t table : {std::uint64_t{2}, kSectors - 33}) {
        copy_bytes(disk.sector(table).subspan(128), Bytes(disk.sector(table)).first(128));
        store(disk.sector(table).data() + 128 + 32, kVaultFirst + 8, Endian::kLittle);
    }
    EXPECT_TRUE(open().ok());
}

TEST_F(OpenVaults, ReportsThePrimaryTablesFaultIfBothAreBroken) {
    disk.sector(1)[0] ^= std::byte{1};
    disk.sector(kSectors - 33)[0] ^= std::byte{1};
    auto scratch = std::make_unique<VaultScratch>();
    EXPECT_EQ(load_vault(disk, *scratch).error(), Error::kBadMagic);
}

TEST_F(OpenVaults, TellsADiskWithoutVaultFromABrokenOne) {
    auto scratch = std::make_unique<VaultScratch>();
    write_tables(disk, volume::kBootPartitionType);
    EXPECT_EQ(load_vault(disk, *scratch).error(), Error::kNotFound);
}

TEST_F(OpenVaults, RefusesAVaultPartitionThatIsTooSmall) {
    write_tables(disk, volume::kVaultPartitionType, 2047);
    auto scratch = std::make_unique<VaultScratch>();
    EXPECT_EQ(load_vault(disk, *scratch).error(), Error::kBadLength);
}

TEST_F(OpenVaults, RefusesAVaultPartitionBeyondTheDisk) {
    auto scratch = std::make_unique<VaultScratch>();
    write_tables(disk, volume::kVaultPartitionType, kSectors - kVaultFirst + 1);
    EXPECT_EQ(load_vault(disk, *scratch).error(), Error::kOutOfRange);
    write_tables(disk, volume::kVaultPartitionType, 0);  // its end lies before its beginning
    EXPECT_EQ(load_vault(disk, *scratch).error(), Error::kOutOfRange);
}

TEST_F(OpenVaults, FallsBackToTheOlderCopy) {
    disk.copy(1)[200] ^= std::byte{1};
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(vaults->all()[0].header.generation, 1u);
}

TEST_F(OpenVaults, FallsBackIfTheNewerCopyCannotBeRead) {
    disk.broken.insert(kVaultFirst + 1024);
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(vaults->all()[0].header.generation, 1u);
}

TEST_F(OpenVaults, RefusesWhenNoCopyIsAuthentic) {
    disk.copy(0)[4000] ^= std::byte{1};
    disk.copy(1)[4000] ^= std::byte{1};
    EXPECT_EQ(open().error(), Error::kBadMac);
    disk.copy(0)[0] ^= std::byte{1};
    disk.copy(1)[0] ^= std::byte{1};
    const Status status = open();
    EXPECT_EQ(status.error(), Error::kNotFound);
    EXPECT_EQ(status.failure().item, std::string_view("boot vault: on no disk"));
}

TEST_F(OpenVaults, RefusesTheVaultOfAnotherDisk) {
    own.header->disk = {std::byte{0xee}};
    own.write(disk, 0, 1);
    own.write(disk, 1, 2);
    EXPECT_EQ(open().error(), Error::kNotFound);
    EXPECT_EQ(tpm.calls, 0) << "not even the TPM is asked";
    own.header->disk = kDiskGuid;
    own.header->total_sectors = kSectors * 2;
    own.write(disk, 0, 1);
    own.write(disk, 1, 2);
    EXPECT_EQ(open().error(), Error::kMismatch);
    EXPECT_FALSE(disk.is_attached());
}

TEST_F(OpenVaults, PassesOnWhatTheTpmSaid) {
    tpm.failure = Failure{Error::kAuthFailed, "TPM refuses to unseal", 0x99d};
    const Status status = open();
    EXPECT_EQ(status.error(), Error::kAuthFailed);
    EXPECT_EQ(status.failure().detail, 0x99du);
}

TEST_F(OpenVaults, RefusesInterruptedProvisioning) {
    own.header->cursor = {volume::CursorState::kEncrypting, 0, 100, 0};
    own.write_both(disk);
    const Status status = open();
    EXPECT_EQ(status.error(), Error::kRefused);
    EXPECT_EQ(status.failure().item,
              std::string_view("vault header: encryption was interrupted; go on with sealed-key"));
    EXPECT_FALSE(disk.is_attached());
}

// The older copy says that nothing is under way, and is authentic as well: the disk is of two kinds all the same.
TEST_F(OpenVaults, DoesNotGoBackBehindANewerCopyThatIsAuthentic) {
    own.header->cursor = {volume::CursorState::kEncrypting, 0, 100, 0};
    own.write(disk, 1, 2);
    EXPECT_EQ(open().error(), Error::kRefused);
    EXPECT_FALSE(disk.is_attached());
}

// --- A vault in the midst of an encryption, on a disk that takes the hypervisor's own writes

struct Progress {
    std::uint64_t done = 0, total = 0;
    std::uint32_t active = 0;
};

class OpenVaultsInTheMidst : public OpenVaults {
  protected:
    OpenVaultsInTheMidst() {
        TestRandom(11).fill(MutableBytes(plain));
        copy_bytes(disk.sector(kFirst, kSectors - 33 - kFirst), plain);
        own.header->regions[0] = {0, kFirst, RegionClass::kReadOnly};
        own.header->regions[1] = {kSectors - 33, 33, RegionClass::kReadOnly};
        own.header->region_count = 2;
        own.header->cursor = {volume::CursorState::kEncrypting, 0, kFirst, 0};
        disk.takes_writes = true;
        own.write_both(disk);
    }
    [[nodiscard]] Bytes disk_from(std::uint64_t lba) { return Bytes(disk.bytes).subspan(lba * 512); }
    Result<Progress> convert(std::uint32_t windows) {
        std::array<std::byte, 64> out{};
        const auto written = vaults->conversion().convert(windows, out);
        if (!written) return written.failure();
        Reader reader(Bytes(out).first(*written));
        const Progress progress{reader.u64(), reader.u64(), reader.u32()};
        EXPECT_TRUE(reader.finished("").ok());
        return progress;
    }
    // Here the vault lies at the beginning of the disk's read-only part.
    static constexpr std::uint64_t kFirst = kVaultFirst + kVaultCount;
    static constexpr std::uint64_t kWindows = (kSectors - 33 - kFirst + 511) / 512;
    std::vector<std::byte> plain = std::vector<std::byte>((kSectors - 33 - kFirst) * 512);
};

TEST_F(OpenVaultsInTheMidst, BootsAndGoesOnToTheEnd) {
    const Status status = open();
    ASSERT_TRUE(status.ok()) << status.failure().item;
    EXPECT_TRUE(disk.is_attached_with(own.dek));
    EXPECT_EQ(disk.boundary().changed, kFirst);
    EXPECT_EQ(disk.boundary().before, nullptr) << "plaintext";
    EXPECT_EQ(claim_of(vaults->all()[0].header).state, evidence::DiskState::kEncrypting);
    EXPECT_EQ(convert(0)->done, kFirst);
    EXPECT_EQ(disk.resumed, 0u);
    for (std::uint64_t window = 1; window <= kWindows; ++window) {
        const auto progress = convert(1);
        ASSERT_TRUE(progress.ok()) << progress.failure().item;
        EXPECT_EQ(progress->done, std::min(kFirst + window * 512, kSectors - 33));
        EXPECT_EQ(progress->total, kSectors);
        EXPECT_EQ(progress->active, 1u);
        EXPECT_EQ(disk.boundary().changed, progress->done);
        EXPECT_EQ(disk.boundary().locked.length, 0u);
        EXPECT_EQ(disk.resumed, window);
        EXPECT_TRUE(equal_bytes(disk_from(progress->done).first((kSectors - 33 - progress->done) * 512),
                                Bytes(plain).subspan((progress->done - kFirst) * 512)));
    }
    EXPECT_EQ(convert(1)->active, 0u);
    EXPECT_EQ(convert(1)->done, kSectors);
    EXPECT_EQ(disk.boundary().changed, ~std::uint64_t{0});
    ata::XtsKey key;
    ASSERT_TRUE(key.set(own.dek.bytes()).ok());
    std::vector<std::byte> found(plain.size());
    key.transform(ata::XtsKey::Direction::kDecrypt, disk_from(kFirst).data(), found.data(), plain.size() / 512, 512,
                  kFirst);
    EXPECT_EQ(found, plain);
    vaults = std::make_unique<Vaults>();
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(vaults->all()[0].header.cursor.state, volume::CursorState::kIdle);
    EXPECT_EQ(claim_of(vaults->all()[0].header).state, evidence::DiskState::kEncrypted);
    EXPECT_EQ(convert(1).error(), Error::kState);
}

// Else who has copied such a vault puts it back, and what is written since is plaintext, or under the key before.
TEST_F(OpenVaultsInTheMidst, BootsOnlyIfThePolicySaysSo) {
    change_in_use = false;
    for (const auto state : {volume::CursorState::kEncrypting, volume::CursorState::kChangingKey}) {
        own.header->cursor.state = state;
        own.write_both(disk);
        const std::vector<std::byte> with_header = disk.bytes;
        const Status status = open();
        EXPECT_EQ(status.error(), Error::kRefused);
        EXPECT_EQ(status.failure().item,
                  std::string_view("vault header: encryption was interrupted; go on with sealed-key"));
        EXPECT_FALSE(disk.is_attached());
        EXPECT_EQ(disk.bytes, with_header);
        EXPECT_EQ(convert(1).error(), Error::kState);
    }
}

TEST_F(OpenVaultsInTheMidst, DoesNoWindowWhileTheGuestsCommandsDoNotEnd) {
    ASSERT_TRUE(open().ok());
    disk.busy = true;
    EXPECT_EQ(convert(1)->done, kFirst);
    EXPECT_EQ(disk.resumed, 0u);
    disk.busy = false;
    EXPECT_EQ(convert(1)->done, kFirst + 512);
}

// A copy of the header that is not written: the guest has its disk all the same, and is told that nothing goes on.
TEST_F(OpenVaultsInTheMidst, BootsIfACopyOfTheHeaderIsNotWritten) {
    for (const std::uint64_t bad : {kVaultFirst + 1, kVaultFirst + 1025}) {
        disk.unwritable = {bad};
        vaults = std::make_unique<Vaults>();
        const Status status = open();
        ASSERT_TRUE(status.ok()) << status.failure().item;
        EXPECT_EQ(disk.boundary().changed, kFirst);
        EXPECT_EQ(convert(1).error(), Error::kDeviceError);
        EXPECT_EQ(disk.boundary().locked.length, 0u);
    }
    disk.unwritable = {};
    EXPECT_TRUE(convert(1).ok());
}

TEST_F(OpenVaultsInTheMidst, LocksTheWindowThatIsNotWritten) {
    ASSERT_TRUE(open().ok());
    disk.unwritable = {kFirst + 5};
    EXPECT_EQ(convert(1).error(), Error::kDeviceError);
    EXPECT_EQ(disk.boundary().locked, (Extent{kFirst, 512}));
    EXPECT_EQ(disk.resumed, 1u);
    disk.unwritable = {};
    EXPECT_EQ(convert(1)->done, kFirst + 512);
    EXPECT_EQ(disk.boundary().locked.length, 0u);
}

TEST_F(OpenVaultsInTheMidst, AChangeOfKeyWantsTheKeyBefore) {
    own.header->cursor.state = volume::CursorState::kChangingKey;
    own.write_both(disk);
    EXPECT_EQ(open().error(), Error::kBadMagic);
    EXPECT_FALSE(disk.is_attached());
    EXPECT_EQ(convert(1).error(), Error::kState);
}

// One at a time; the boot vault's comes first.
TEST_F(OpenVaultsInTheMidst, AMemberInTheMidstAsWellStaysAbsent) {
    Vault member(2);
    member.boot = &own;
    member.header->cursor = {volume::CursorState::kEncrypting, 0, 100, 0};
    other.takes_writes = true;
    member.write_both(other);
    add_member(member.header->vault_id);
    ASSERT_TRUE(open({&other, &disk}).ok());
    EXPECT_FALSE(other.is_attached());
    EXPECT_EQ(convert(1)->done, kFirst + 512);
}

TEST_F(OpenVaultsInTheMidst, LeavesNeitherKekNorRootBehindAndAtTheEndNoDataKey) {
    const std::vector<std::byte> begun = disk.bytes;
    ASSERT_TRUE(open().ok());
    expect_no_secret_left({Bytes(own.kek.bytes()), Bytes(own.root.bytes())});
    while (convert(1)->active != 0) {}
    expect_no_secret_left({Bytes(own.kek.bytes()), Bytes(own.root.bytes()), Bytes(own.dek.bytes())});
    vaults = std::make_unique<Vaults>();
    disk.bytes = begun;
    ASSERT_TRUE(open().ok());
    vaults->conversion().wipe();
    expect_no_secret_left({Bytes(own.kek.bytes()), Bytes(own.root.bytes()), Bytes(own.dek.bytes())});
}

TEST_F(OpenVaults, ReportsABootVaultThatCannotBeAttached) {
    disk.attach_failure = Failure{Error::kMismatch, "disk: geometry", 0};
    EXPECT_EQ(open().error(), Error::kMismatch);
    EXPECT_TRUE(vaults->all().empty());
}

// --- Foreign disks

// The thief's: sealed to the same public policy, with the same disk GUID, on the port that is looked at first.
TEST_F(OpenVaults, AVaultOfAnotherIdIsNotEvenShownToTheTpm) {
    Vault thief(2);
    thief.write_both(other);
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
    EXPECT_FALSE(other.is_attached());
    EXPECT_EQ(tpm.calls, 1);
}

TEST_F(OpenVaults, AVaultThatOnlyClaimsTheIdDoesNotStopTheTrueOne) {
    Vault thief(2);
    thief.header->vault_id = own.header->vault_id;
    thief.write_both(other);
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
    EXPECT_FALSE(other.is_attached());
}

TEST_F(OpenVaults, AVaultThatOnlyClaimsTheIdOpensNothing) {
    Vault thief(2);
    thief.header->vault_id = own.header->vault_id;
    thief.boot = &thief;
    thief.write_both(other);
    const Status status = open({&other});
    EXPECT_EQ(status.error(), Error::kMismatch);
    EXPECT_EQ(status.failure().item, std::string_view("vault header: vault id is not its root's"));
    EXPECT_FALSE(other.is_attached());
    EXPECT_TRUE(vaults->all().empty());
    expect_no_secret_left({thief.kek.bytes(), thief.dek.bytes(), thief.root.bytes()});
}

// A vault that does not open lists a second one of the liar's as member, wrapped under each root that could be left over.
TEST_F(OpenVaults, MembersOfAVaultThatDidNotOpenStayAbsent) {
    Vault zeros(7);
    zeros.root = volume::Root();
    MemoryDisk second{2};
    Vault follower(3);
    Vault thief(2);
    for (const Vault* root : {static_cast<const Vault*>(&zeros), static_cast<const Vault*>(&thief)}) {
        follower.boot = root;
        follower.write_both(second);
        thief.header->vault_id = own.header->vault_id;
        thief.header->members[0] = follower.header->vault_id;
        thief.header->member_count = 1;
        thief.write_both(other);
        EXPECT_FALSE(open({&other, &second}).ok());
        EXPECT_FALSE(second.is_attached());
    }
}

TEST_F(OpenVaults, NoForeignDiskStopsTheBoot) {
    MemoryDisk dead{0};
    dead.dead = true;
    MemoryDisk blank{1};
    MemoryDisk broken_table{2};
    write_tables(broken_table, volume::kVaultPartitionType);
    broken_table.sector(1)[20] ^= std::byte{1};
    broken_table.sector(kSectors - 1)[20] ^= std::byte{1};
    MemoryDisk noise{3};
    write_tables(noise, volume::kVaultPartitionType);
    TestRandom(5).fill(noise.copy(0));
    copy_bytes(noise.copy(1), disk.copy(1).first(40));
    MemoryDisk tiny{5};
    tiny.total = 1;
    ASSERT_TRUE(open({&dead, &blank, &broken_table, &noise, &tiny, &disk}).ok());
    expect_boot_vault_only();
    vaults = std::make_unique<Vaults>();
    const Status without = open({&dead, &blank, &broken_table, &noise, &tiny});
    EXPECT_EQ(without.failure().item, std::string_view("boot vault: on no disk"));
}

TEST_F(OpenVaults, ADoubleOfTheBootDiskStaysAbsent) {
    other.bytes = disk.bytes;
    ASSERT_TRUE(open({&disk, &other}).ok());
    expect_boot_vault_only();
    EXPECT_FALSE(other.is_attached());
}

// --- Members

TEST_F(OpenVaults, OpensItsMembersWithItsRootAndWithoutTheTpm) {
    Vault member(2);
    member.in_tpm = false;
    member.boot = &own;
    member.write_both(other);
    add_member(member.header->vault_id);
    ASSERT_TRUE(open({&other, &disk}).ok());
    ASSERT_EQ(vaults->all().size(), 2u);
    EXPECT_EQ(vaults->all()[0].disk->disk, &disk) << "the boot vault is the first, wherever it is";
    EXPECT_EQ(vaults->all()[1].disk->disk, &other);
    EXPECT_TRUE(other.is_attached_with(member.dek));
    EXPECT_TRUE(disk.is_attached_with(own.dek));
    EXPECT_EQ(tpm.calls, 1);
}

TEST_F(OpenVaults, AVaultUnderItsRootThatItDoesNotListIsNoMember) {
    Vault removed(2);
    removed.boot = &own;
    removed.write_both(other);
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
}

TEST_F(OpenVaults, AMemberOfAnotherEndpointStaysAbsent) {
    Vault other_endpoint(3);
    Vault member(2);
    member.boot = &other_endpoint;
    member.write_both(other);
    add_member(member.header->vault_id);  // its id copied; the wrapped KEK cannot be
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
    EXPECT_FALSE(other.is_attached());
}

TEST_F(OpenVaults, AVaultThatOnlyClaimsAMembersIdStaysAbsent) {
    Vault member(2);
    add_member(member.header->vault_id);
    Vault thief(3);
    thief.header->vault_id = member.header->vault_id;
    thief.boot = &thief;
    thief.write_both(other);
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
}

TEST_F(OpenVaults, AMemberThatCannotBeUsedStaysAbsent) {
    Vault member(2);
    member.boot = &own;
    member.header->cursor = {volume::CursorState::kEncrypting, 0, 100, 0};
    member.write_both(other);
    add_member(member.header->vault_id);
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
    member.header->cursor = {};
    member.write_both(other);
    other.attach_failure = Failure{Error::kMismatch, "disk: geometry", 0};
    vaults = std::make_unique<Vaults>();
    ASSERT_TRUE(open({&other, &disk}).ok());
    expect_boot_vault_only();
}

TEST_F(OpenVaults, OpensAsManyMembersAsAHeaderLists) {
    std::vector<std::unique_ptr<MemoryDisk>> disks;
    std::vector<MemoryDisk*> all{&disk};
    for (unsigned i = 0; i < volume::kMaximumMembers; ++i) {
        Vault member(10 + i);
        member.boot = &own;
        disks.push_back(std::make_unique<MemoryDisk>(10 + i));
        member.write_both(*disks.back());
        all.push_back(disks.back().get());
        add_member(member.header->vault_id);
    }
    disks.push_back(std::make_unique<MemoryDisk>(20u));  // one of them twice
    disks.back()->bytes = disks.front()->bytes;
    all.push_back(disks.back().get());
    ASSERT_TRUE(open(all).ok());
    EXPECT_EQ(vaults->all().size(), 1 + volume::kMaximumMembers);
    EXPECT_FALSE(disks.back()->is_attached());
}

TEST_F(OpenVaults, LeavesNoSecretBehind) {
    Vault member(2);
    member.boot = &own;
    member.write_both(other);
    add_member(member.header->vault_id);
    ASSERT_TRUE(open({&other, &disk}).ok());
    // The model's TPM takes the "sealed" secret in clear from the header, which is kept.
    expect_no_secret_left({Bytes(own.kek.bytes()), Bytes(own.dek.bytes()), Bytes(own.root.bytes()),
                           Bytes(member.kek.bytes()), Bytes(member.dek.bytes()), Bytes(member.root.bytes())});
    disk.attach_failure = Failure{Error::kMismatch, "disk: geometry", 0};
    vaults = std::make_unique<Vaults>();
    ASSERT_FALSE(open({&other, &disk}).ok());
    expect_no_secret_left({Bytes(own.kek.bytes()), Bytes(own.dek.bytes()), Bytes(own.root.bytes())});
}

}  // namespace
}  // namespace gatehouse::boot
