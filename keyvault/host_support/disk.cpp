#include "keyvault/host_support/disk.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "keyvault/host_support/ground.hpp"

namespace gatehouse::host {
namespace {

[[noreturn]] void fail(const std::string& what) { throw ToolError(what + ": " + std::strerror(errno)); }

bool has_table_at(int descriptor, std::uint64_t offset) {
    std::array<std::byte, 8> magic{};
    return ::pread(descriptor, magic.data(), magic.size(), static_cast<off_t>(offset)) == 8 &&
           equal_bytes(magic, literal_bytes("EFI PART"));
}

// Of a file, by where its table is; a run that was cut while it wrote the primary one leaves the backup.
std::size_t sector_size_by_table(int descriptor, std::uint64_t bytes) {
    for (const std::size_t size : {512u, 4096u}) {
        if (has_table_at(descriptor, size)) return size;
    }
    return bytes > 4096 && !has_table_at(descriptor, bytes - 512) && has_table_at(descriptor, bytes - 4096) ? 4096
                                                                                                            : 512;
}

std::string lba_text(std::uint64_t lba) { return "sector " + std::to_string(lba); }

// mtools' name of the file system on a partition of the disk that it inherits as descriptor 3.
std::string drive(const Disk& disk, const volume::GptEntry& boot) {
    return "/proc/self/fd/3@@" + std::to_string(boot.first * disk.sector_size());
}

}  // namespace

Buffer BlockDevice::read_sectors(std::uint64_t lba, std::uint64_t count) const {
    if (lba >= total_sectors() || count > total_sectors() - lba) {
        throw ToolError(path() + ": too short for " + lba_text(lba + count));
    }
    Buffer out(count * sector_size());
    read(lba, out);
    return out;
}

Disk::Disk(std::string path, Access access) : path_(std::move(path)) {
    const int flags = (access == Access::kWrite ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    file_ = File(::open(path_.c_str(), flags));
    if (file_.get() < 0) fail(path_ + ": cannot be opened");
    struct stat about {};
    if (::fstat(file_.get(), &about) != 0) fail(path_);
    std::uint64_t bytes = 0;
    if (S_ISBLK(about.st_mode)) {
        int size = 0;
        if (::ioctl(file_.get(), BLKSSZGET, &size) != 0 || ::ioctl(file_.get(), BLKGETSIZE64, &bytes) != 0) {
            fail(path_ + ": size of the device");
        }
        sector_size_ = static_cast<std::size_t>(size);
        if (access == Access::kWrite) {
            file_ = File(::open(path_.c_str(), flags | O_EXCL));
            if (file_.get() < 0) fail(path_ + ": in use; unmount all of its partitions");
        }
    } else if (S_ISREG(about.st_mode)) {
        if (access == Access::kWrite && ::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
            fail(path_ + ": another program writes to it");
        }
        bytes = static_cast<std::uint64_t>(about.st_size);
        sector_size_ = sector_size_by_table(file_.get(), bytes);
    } else {
        throw ToolError(path_ + ": neither a file nor a block device", ExitCode::kUsage);
    }
    if (sector_size_ != 512 && sector_size_ != 4096) {
        throw ToolError(path_ + ": sectors of " + std::to_string(sector_size_) + " bytes are not supported");
    }
    if (access == Access::kWrite) claim();
    if (bytes % sector_size_ != 0) throw ToolError(path_ + ": not a whole number of sectors; is the image complete?");
    total_sectors_ = bytes / sector_size_;
}

// Under its other names.
void Disk::claim() {
    const Ground ground = ground_of(path_);
    if (const std::string loop = other_loop_over(ground); !loop.empty()) {
        throw ToolError(path_ + ": in use; " + loop + " is over it: losetup --detach " + loop);
    }
    if (ground.backing.empty()) return;
    backing_ = File(::open(ground.backing.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat about {};
    const bool same = backing_.get() >= 0 && ::fstat(backing_.get(), &about) == 0 && about.st_dev == ground.device &&
                      about.st_ino == ground.inode;
    if (same && ::flock(backing_.get(), LOCK_EX | LOCK_NB) != 0) {
        fail(path_ + ": another program writes to " + ground.backing);
    }
}

void Disk::read(std::uint64_t lba, MutableBytes out) const {
    auto at = static_cast<off_t>(lba * sector_size_);
    while (!out.empty()) {
        const ssize_t got = ::pread(file_.get(), out.data(), out.size(), at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(path_ + ": cannot be read at " + lba_text(static_cast<std::uint64_t>(at) / sector_size_));
        if (got == 0) throw ToolError(path_ + ": ends before " + lba_text(lba + out.size() / sector_size_));
        out = out.subspan(static_cast<std::size_t>(got));
        at += got;
    }
}

void Disk::write(std::uint64_t lba, Bytes data) {
    auto at = static_cast<off_t>(lba * sector_size_);
    while (!data.empty()) {
        const ssize_t put = ::pwrite(file_.get(), data.data(), data.size(), at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) fail(path_ + ": cannot be written at " + lba_text(static_cast<std::uint64_t>(at) / sector_size_));
        data = data.subspan(static_cast<std::size_t>(put));
        at += put;
    }
}

void Disk::flush() {
    if (::fsync(file_.get()) != 0) fail(path_ + ": cannot be flushed");
}

std::vector<volume::GptEntry> PartitionTable::partitions() const {
    std::vector<volume::GptEntry> found;
    for (std::uint32_t i = 0; i < header.entry_count; ++i) {
        if (const volume::GptEntry entry = volume::gpt_entry(entries(), i); entry.used()) found.push_back(entry);
    }
    return found;
}

volume::GptEntry PartitionTable::boot_partition() const {
    volume::GptEntry found;
    for (const volume::GptEntry& entry : partitions()) {
        if (entry.type != volume::kBootPartitionType) continue;
        if (partition_name(entry) != volume::kBootPartitionName) continue;
        if (found.used()) throw ToolError(disk + ": partition table: more than one boot partition");
        found = entry;
    }
    if (!found.used()) {
        throw ToolError(disk + ": partition table: no boot partition: an EFI system partition (type " +
                        guid_text(volume::kBootPartitionType) + ") with the name " + volume::kBootPartitionName);
    }
    return found;
}

volume::GptEntry PartitionTable::vault_partition() const {
    const auto found = volume::find_partition(header, entries(), volume::kVaultPartitionType);
    if (!found.ok()) {
        throw ToolError(disk + ": partition table: vault partition (type " + guid_text(volume::kVaultPartitionType) +
                        "): " + describe(found.failure()));
    }
    return found.value();
}

PartitionTable read_partition_table(const BlockDevice& disk, std::uint64_t lba) {
    const std::string what = disk.path() + ": partition table at " + lba_text(lba);
    PartitionTable table;
    table.disk = disk.path();
    table.sector = disk.read_sectors(lba, 1);
    table.header = expect(volume::parse_gpt_header(table.sector, lba, disk.total_sectors()), what);
    table.array = disk.read_sectors(table.header.entries_lba, table.header.table_sectors(disk.sector_size()));
    expect(volume::check_gpt_entries(table.header, table.entries()), what);
    return table;
}

std::string partition_name(const volume::GptEntry& entry) {
    std::string name;
    for (const std::uint16_t unit : entry.name) {
        if (unit == 0) break;
        name += unit >= 0x20 && unit < 0x7f ? static_cast<char>(unit) : '?';
    }
    return name;
}

Buffer read_boot_file(const Disk& disk, const volume::GptEntry& boot, const std::string& name, std::size_t limit) {
    try {
        return run_program({"mcopy", "-i", drive(disk, boot), "::/gatehouse/" + name, "-"}, {}, limit,
                           disk.descriptor());
    } catch (const ToolError& error) {
        throw ToolError(disk.path() + ": /gatehouse/" + name + " on the boot partition: " + error.what());
    }
}

bool boot_file_exists(const Disk& disk, const volume::GptEntry& boot, const std::string& name) {
    const Buffer listing =
        run_program({"mdir", "-b", "-i", drive(disk, boot), "::/gatehouse"}, {}, 1 << 20, disk.descriptor());
    std::istringstream lines(std::string(reinterpret_cast<const char*>(listing.data()), listing.size()));
    for (std::string line; std::getline(lines, line);) {
        if (line == "::/gatehouse/" + name) return true;
    }
    return false;
}

void write_boot_file(const std::string& image, const std::string& name, Bytes content) {
    Disk disk(image, Disk::Access::kWrite);
    const volume::GptEntry boot = read_primary_table(disk).boot_partition();
    try {
        (void)run_program({"mcopy", "-D", "o", "-i", drive(disk, boot), "-", "::/gatehouse/" + name}, content, 4096,
                          disk.descriptor());
    } catch (const ToolError& error) {
        throw ToolError(image + ": /gatehouse/" + name + " on the boot partition: " + error.what());
    }
    disk.flush();
}

}  // namespace gatehouse::host
