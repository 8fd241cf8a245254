// A disk that is to get an image: past the page cache, and nobody else's while it is open.
#pragma once

#include <sys/types.h>

#include "keyvault/host_support/disk.hpp"

namespace gatehouse::flash {

// A block device that can be made zeros without zeros being sent to it.
class Target : public host::BlockDevice {
  public:
    // Whole sectors, which then read as zeros. ToolError.
    virtual void zero(std::uint64_t lba, std::uint64_t count) = 0;
};

// pread or pwrite, over `bytes` from `offset` on: how many were transferred, or -1 and errno.
using Transfer = std::function<ssize_t(std::uint64_t offset, MutableBytes bytes)>;
// Repeats it until all of `bytes` is through. ToolError "WHAT at byte OFFSET: reason" where nothing goes on: -1 but for EINTR,
// or 0, or more than asked for.
void transfer_all(const Transfer& transfer, std::uint64_t offset, MutableBytes bytes, const std::string& what);

// O_EXCL and O_DIRECT.
class DirectDisk final : public Target {
  public:
    // kDisks: block devices only. kFilesToo: regular files as well, as disks of `file_sector_size` bytes, with or without
    // O_DIRECT, as their file system has it: for tests, which then need no root.
    enum class Kinds : std::uint8_t { kDisks, kFilesToo };
    enum class Access : std::uint8_t { kRead, kWrite };
    // ToolError (kNo) if it is in use or read-only. `device`: the number that it must have, as it was looked at before; 0: any.
    DirectDisk(std::string path, Access access, std::uint64_t device, Kinds kinds = Kinds::kDisks,
               std::size_t file_sector_size = 512);

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::size_t sector_size() const override { return sector_size_; }
    [[nodiscard]] std::uint64_t total_sectors() const override { return total_sectors_; }
    void read(std::uint64_t lba, MutableBytes out) const override;
    void write(std::uint64_t lba, Bytes data) override;
    void flush() override;
    // By BLKZEROOUT: the disk's own way to zeros, where it has one that reads as zeros for certain (discarding alone does not).
    void zero(std::uint64_t lba, std::uint64_t count) override;
    // Has the kernel read the partition table anew; whoever holds a partition keeps it from that, which is no error.
    void announce_partitions() const;

  private:
    void open(int flags, Kinds kinds);

    std::string path_;
    host::File file_;
    bool is_file_ = false;
    std::size_t sector_size_ = 512;
    std::uint64_t total_sectors_ = 0;
};

}  // namespace gatehouse::flash
