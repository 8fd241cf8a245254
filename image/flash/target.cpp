#include "image/flash/target.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "keyvault/host_support/aligned_buffer.hpp"

namespace gatehouse::flash {
namespace {

using host::AlignedBuffer;
using host::ExitCode;
using host::ToolError;

constexpr std::size_t kZerosAtOnce = std::size_t{1} << 20;

bool is_aligned(Bytes bytes) { return reinterpret_cast<std::uintptr_t>(bytes.data()) % host::kDirectAlignment == 0; }

}  // namespace

void transfer_all(const Transfer& transfer, std::uint64_t offset, MutableBytes bytes, const std::string& what) {
    while (!bytes.empty()) {
        const ssize_t done = transfer(offset, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0 || static_cast<std::size_t>(done) > bytes.size()) {
            throw ToolError(what + " at byte " + std::to_string(offset) + ": " +
                            (done < 0 ? std::strerror(errno) : "the disk takes no more"));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(done));
        offset += static_cast<std::uint64_t>(done);
    }
}

DirectDisk::DirectDisk(std::string path, Access access, std::uint64_t device, Kinds kinds, std::size_t file_sector_size)
    : path_(std::move(path)) {
    open((access == Access::kWrite ? O_RDWR : O_RDONLY) | O_CLOEXEC, kinds);
    struct stat about {};
    if (::fstat(file_.get(), &about) != 0) throw ToolError(path_ + ": " + std::strerror(errno));
    std::uint64_t bytes = 0;
    if (is_file_) {
        bytes = static_cast<std::uint64_t>(about.st_size);
        sector_size_ = file_sector_size;
    } else {
        int size = 0;
        if (!S_ISBLK(about.st_mode) || (device != 0 && about.st_rdev != device)) {
            throw ToolError(path_ + ": is another device than a moment ago", ExitCode::kNo);
        }
        if (::ioctl(file_.get(), BLKSSZGET, &size) != 0 || ::ioctl(file_.get(), BLKGETSIZE64, &bytes) != 0) {
            throw ToolError(path_ + ": size of the device: " + std::strerror(errno));
        }
        sector_size_ = static_cast<std::size_t>(size);
    }
    total_sectors_ = bytes / sector_size_;
}

void DirectDisk::open(int flags, Kinds kinds) {
    struct stat about {};
    if (::stat(path_.c_str(), &about) != 0) throw ToolError(path_ + ": " + std::strerror(errno), ExitCode::kUsage);
    is_file_ = S_ISREG(about.st_mode) && kinds == Kinds::kFilesToo;
    if (!S_ISBLK(about.st_mode) && !is_file_) throw ToolError(path_ + ": not a block device", ExitCode::kUsage);
    // O_EXCL without O_CREAT means nothing for a file.
    file_ = host::File(::open(path_.c_str(), flags | O_DIRECT | (is_file_ ? 0 : O_EXCL)));
    if (file_.get() < 0 && is_file_ && errno == EINVAL) file_ = host::File(::open(path_.c_str(), flags));
    if (file_.get() >= 0) return;
    if (errno == EBUSY)
        throw ToolError(path_ + ": refused: in use (mounted, swap, or held by another program)", ExitCode::kNo);
    if (errno == EROFS) throw ToolError(path_ + ": refused: read-only", ExitCode::kNo);
    throw ToolError(path_ + ": cannot be opened: " + std::strerror(errno));
}

void DirectDisk::read(std::uint64_t lba, MutableBytes out) const {
    if (!is_aligned(out)) {
        AlignedBuffer aligned(out.size());
        read(lba, aligned.bytes());
        return copy_bytes(out, aligned.bytes());
    }
    const Transfer transfer = [&](std::uint64_t offset, MutableBytes bytes) {
        return ::pread(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    };
    transfer_all(transfer, lba * sector_size_, out, path_ + ": cannot be read");
}

void DirectDisk::write(std::uint64_t lba, Bytes data) {
    if (!is_aligned(data)) {
        AlignedBuffer aligned(data.size());
        copy_bytes(aligned.bytes(), data);
        return write(lba, aligned.bytes());
    }
    const Transfer transfer = [&](std::uint64_t offset, MutableBytes bytes) {
        return ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    };
    // Nothing is written to it: a Transfer is of either direction.
    const MutableBytes bytes(const_cast<std::byte*>(data.data()), data.size());
    transfer_all(transfer, lba * sector_size_, bytes, path_ + ": cannot be written");
}

void DirectDisk::flush() {
    if (::fsync(file_.get()) != 0) throw ToolError(path_ + ": cannot be flushed: " + std::strerror(errno));
}

void DirectDisk::zero(std::uint64_t lba, std::uint64_t count) {
    std::uint64_t range[2] = {lba * sector_size_, count * sector_size_};
    if (!is_file_ && ::ioctl(file_.get(), BLKZEROOUT, range) == 0) return;
    const int error = is_file_ ? EOPNOTSUPP : errno;
    if (error != EOPNOTSUPP && error != EINVAL && error != ENOTTY) {
        throw ToolError(path_ + ": cannot be zeroed at byte " + std::to_string(range[0]) + ": " + std::strerror(error));
    }
    AlignedBuffer zeros(std::min<std::size_t>(kZerosAtOnce, range[1]));
    const std::uint64_t at_once = zeros.bytes().size() / sector_size_;
    for (std::uint64_t done = 0; done < count; done += at_once) {
        const std::uint64_t now = std::min(at_once, count - done);
        write(lba + done, Bytes(zeros.bytes()).first(now * sector_size_));
    }
}

void DirectDisk::announce_partitions() const {
    if (!is_file_) (void)::ioctl(file_.get(), BLKRRPART);
}

}  // namespace gatehouse::flash
