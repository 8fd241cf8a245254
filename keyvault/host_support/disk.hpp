// A disk image file or a block device, and the partition table on it.
#pragma once

#include "keyvault/host_support/support.hpp"
#include "keyvault/volume_writer/gpt_check.hpp"

namespace gatehouse::host {

// Sectors that can be read, written and flushed: a disk, or what a test puts in its place.
class BlockDevice {
  public:
    virtual ~BlockDevice() = default;
    // For messages.
    [[nodiscard]] virtual const std::string& path() const = 0;
    [[nodiscard]] virtual std::size_t sector_size() const = 0;
    [[nodiscard]] virtual std::uint64_t total_sectors() const = 0;
    // Whole sectors; an error, or the end of the disk, is a ToolError. After one of write() or flush() any of the sectors
    // written since the last flush() may be on stable media.
    virtual void read(std::uint64_t lba, MutableBytes out) const = 0;
    virtual void write(std::uint64_t lba, Bytes data) = 0;
    // Returns when everything written is on stable media.
    virtual void flush() = 0;

    [[nodiscard]] Buffer read_sectors(std::uint64_t lba, std::uint64_t count) const;
};

class Disk final : public BlockDevice {
  public:
    enum class Access { kRead, kWrite };
    // Writing claims it: a device that is mounted or otherwise in use, or a file that another program of this
    // kind writes to, is refused, by whichever of its names, and so is one with another loop device over it. The logical
    // sector size is a device's own; of a file, the size (512 or 4,096) with which there is a GPT header at LBA 1, or else at
    // the last.
    Disk(std::string path, Access access);

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::size_t sector_size() const override { return sector_size_; }
    [[nodiscard]] std::uint64_t total_sectors() const override { return total_sectors_; }
    [[nodiscard]] int descriptor() const { return file_.get(); }

    void read(std::uint64_t lba, MutableBytes out) const override;
    void write(std::uint64_t lba, Bytes data) override;
    void flush() override;

  private:
    void claim();

    std::string path_;
    File file_;
    File backing_;  // of a loop device
    std::size_t sector_size_ = 512;
    std::uint64_t total_sectors_ = 0;
};

// One copy of the partition table, checked.
struct PartitionTable {
    std::string disk;  // its path, for messages
    volume::GptHeader header;
    Buffer sector;  // the header's, as it is on the disk
    Buffer array;   // of entries: header.table_sectors() whole sectors
    [[nodiscard]] Bytes entries() const { return Bytes(array).first(header.table_size()); }

    [[nodiscard]] std::vector<volume::GptEntry> partitions() const;
    // The partition with Gatehouse's boot files: type EFI system partition, name kBootPartitionName;
    // ToolError unless there is exactly one.
    [[nodiscard]] volume::GptEntry boot_partition() const;
    // The vault; ToolError unless there is exactly one.
    [[nodiscard]] volume::GptEntry vault_partition() const;
};

// The copy whose header is at `lba`; ToolError that says what is wrong with it.
[[nodiscard]] PartitionTable read_partition_table(const BlockDevice& disk, std::uint64_t lba);
[[nodiscard]] inline PartitionTable read_primary_table(const BlockDevice& disk) {
    return read_partition_table(disk, volume::kPrimaryGptLba);
}

// Name of a partition; characters outside of ASCII as '?'.
[[nodiscard]] std::string partition_name(const volume::GptEntry& entry);

// Text of a file on the boot partition (FAT), read and written by mtools' mcopy: /gatehouse/NAME. mtools
// knows every FAT and keeps its allocation right when it writes, which is why nothing of that is written
// again here.
[[nodiscard]] Buffer read_boot_file(const Disk& disk, const volume::GptEntry& boot, const std::string& name,
                                    std::size_t limit);
[[nodiscard]] bool boot_file_exists(const Disk& disk, const volume::GptEntry& boot, const std::string& name);
// Replaces it. The image is claimed as by Disk::Access::kWrite.
void write_boot_file(const std::string& image, const std::string& name, Bytes content);

}  // namespace gatehouse::host
