#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "hypervisor/boot/vault.hpp"

namespace gatehouse::boot {
namespace {

constexpr std::uint64_t kSectors = 8192;  // 4 MiB
constexpr std::uint64_t kVaultFirst = 2048;
constexpr std::uint64_t kVaultCount = 2048;
constexpr volume::Guid kDiskGuid{std::byte{0xd1}, std::byte{0x5c}};

class MemoryDisk final : public SectorSource {
  public:
    std::size_t sector_size() const override { return 512; }
    std::uint64_t total_sectors() const override { return total; }
    Status read(std::uint64_t lba, MutableBytes out) override {
        EXPECT_EQ(out.size() % 512, 0u);
        if (broken.contains(lba)) return {Error::kDeviceError, "disk: read", lba};
        if (lba * 512 + out.size() > bytes.size()) return {Error::kOutOfRange, "disk: read", lba};
        copy_bytes(out, Bytes(bytes).subspan(lba * 512, out.size()));
        return {};
    }
    MutableBytes sector(std::uint64_t lba, std::size_t count = 1) {
        return MutableBytes(bytes).subspan(lba * 512, count * 512);
    }
    std::uint64_t total = kSectors;
    std::vector<std::byte> bytes = std::vector<std::byte>(kSectors * 512);
    std::set<std::uint64_t> broken;
};

class TestRandom final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(engine_());
    }

  private:
    std::mt19937 engine_{1};
};

class FixedUnsealer final : public Unsealer {
  public:
    Result<volume::SlotSecret> unseal(const volume::TpmSlot& slot) override {
        ++calls;
        EXPECT_EQ(slot.sealed_public.size, 3);
        if (failure) return *failure;
        return volume::SlotSecret(secret.bytes());
    }
    volume::SlotSecret secret;
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

class OpenVault : public testing::Test {
  protected:
    OpenVault() {
        random.fill(unsealer.secret.bytes());
        random.fill(kek.bytes());
        random.fill(dek.bytes());
        write_tables(volume::kVaultPartitionType);
        write_copy(0, 1);
        write_copy(1, 2);
    }
    void write_tables(const volume::Guid& type) {
        std::vector<std::byte> table(128 * 128);
        Writer writer(MutableBytes(table).first(128));
        writer.bytes(type);
        writer.bytes(volume::Guid{std::byte{7}});
        writer.u64(kVaultFirst);
        writer.u64(kVaultFirst + kVaultCount - 1);
        copy_bytes(disk.sector(2, 32), table);
        copy_bytes(disk.sector(kSectors - 33, 32), table);
        write_gpt_header(disk, 1, kSectors - 1, 2, table);
        write_gpt_header(disk, kSectors - 1, 1, kSectors - 33, table);
    }
    void write_copy(std::size_t number, std::uint64_t generation, const volume::Guid& guid = kDiskGuid,
                    std::uint64_t total = kSectors) {
        auto made = std::make_unique<volume::Header>();
        made->generation = generation;
        made->disk = guid;
        made->total_sectors = total;
        made->regions[0] = {kVaultFirst, kVaultCount, volume::RegionClass::kHidden};
        made->region_count = 1;
        made->slots.tpm.emplace();
        ASSERT_TRUE(made->slots.tpm->sealed_public.assign(literal_bytes("pub"), "x").ok());
        ASSERT_TRUE(made->slots.tpm->sealed_private.assign(literal_bytes("priv"), "x").ok());
        made->slots.tpm->kek = volume::wrap_kek(kek, volume::SlotKind::kTpm, unsealer.secret, guid, random);
        auto key = volume::wrap_dek(dek, 1, kek, guid, random);
        ASSERT_TRUE(key.ok());
        made->data_key = *key;
        const MutableBytes place =
            MutableBytes(disk.bytes)
                .subspan(kVaultFirst * 512 + volume::kCopyOffset[number], volume::kMaximumHeaderSize);
        const auto size = volume::serialise(*made, kek, place);
        ASSERT_TRUE(size.ok()) << size.failure().item;
    }
    Status open() {
        const auto place = find_vault(disk, *scratch);
        if (!place) return place.failure();
        return open_vault(disk, *place, unsealer, *scratch, *header, keys);
    }
    MutableBytes copy_bytes_of(std::size_t number) {
        return MutableBytes(disk.bytes).subspan(kVaultFirst * 512 + volume::kCopyOffset[number], 4096);
    }

    TestRandom random;
    MemoryDisk disk;
    FixedUnsealer unsealer;
    volume::Kek kek;
    volume::Dek dek;
    std::unique_ptr<VaultScratch> scratch = std::make_unique<VaultScratch>();
    std::unique_ptr<volume::Header> header = std::make_unique<volume::Header>();
    volume::Keys keys;
};

TEST_F(OpenVault, OpensTheNewestCopy) {
    const Status status = open();
    ASSERT_TRUE(status.ok()) << status.failure().item;
    EXPECT_EQ(header->generation, 2u);
    EXPECT_TRUE(keys.dek.equals(dek.bytes()));
}

TEST_F(OpenVault, UsesTheBackupTableIfThePrimaryIsBroken) {
    disk.sector(1)[20] ^= std::byte{1};
    EXPECT_TRUE(open().ok());
    disk.sector(3)[0] ^= std::byte{1};
    EXPECT_TRUE(open().ok());
    disk.broken.insert(1);
    EXPECT_TRUE(open().ok());
}

TEST_F(OpenVault, ReportsThePrimaryTablesFaultIfBothAreBroken) {
    disk.sector(1)[20] ^= std::byte{1};
    disk.sector(kSectors - 1)[0] ^= std::byte{1};
    EXPECT_EQ(find_vault(disk, *scratch).error(), Error::kBadChecksum);
}

TEST_F(OpenVault, TellsADiskWithoutVaultFromABrokenOne) {
    write_tables(volume::kBootPartitionType);
    EXPECT_EQ(find_vault(disk, *scratch).error(), Error::kNotFound);
    disk.total = 2;
    EXPECT_EQ(find_vault(disk, *scratch).error(), Error::kNotFound);
}

TEST_F(OpenVault, FallsBackToTheOlderCopy) {
    copy_bytes_of(1)[200] ^= std::byte{1};
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(header->generation, 1u);
}

TEST_F(OpenVault, FallsBackIfTheNewerCopyCannotBeRead) {
    disk.broken.insert(kVaultFirst + 1024);
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(header->generation, 1u);
}

TEST_F(OpenVault, RefusesWhenNoCopyIsAuthentic) {
    copy_bytes_of(0)[200] ^= std::byte{1};
    copy_bytes_of(1)[200] ^= std::byte{1};
    EXPECT_FALSE(open().ok());
    copy_bytes_of(0)[0] ^= std::byte{1};
    copy_bytes_of(1)[0] ^= std::byte{1};
    EXPECT_EQ(open().error(), Error::kNotFound);
}

TEST_F(OpenVault, RefusesTheVaultOfAnotherDisk) {
    write_copy(0, 1, {std::byte{0xee}});
    write_copy(1, 2, {std::byte{0xee}});
    EXPECT_EQ(open().error(), Error::kMismatch);
    EXPECT_EQ(unsealer.calls, 0) << "not even the TPM is asked";
    write_copy(0, 1, kDiskGuid, kSectors * 2);
    write_copy(1, 2, kDiskGuid, kSectors * 2);
    EXPECT_EQ(open().error(), Error::kMismatch);
}

TEST_F(OpenVault, PassesOnWhatTheTpmSaid) {
    unsealer.failure = Failure{Error::kAuthFailed, "TPM refuses to unseal", 0x99d};
    const Status status = open();
    EXPECT_EQ(status.error(), Error::kAuthFailed);
    EXPECT_EQ(status.failure().detail, 0x99du);
}

TEST_F(OpenVault, RefusesAVaultPartitionThatIsTooSmall) {
    EXPECT_EQ(open_vault(disk, {kDiskGuid, kVaultFirst, 2047}, unsealer, *scratch, *header, keys).error(),
              Error::kBadLength);
}

}  // namespace
}  // namespace gatehouse::boot
