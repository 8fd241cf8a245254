#include "keyvault/tool/uncached_reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "keyvault/host_support/aligned_buffer.hpp"

namespace gatehouse::host {

UncachedReader::UncachedReader(const Disk& disk) : disk_(disk) {
    // The same file, whatever its name stands for by now.
    const std::string path = "/proc/self/fd/" + std::to_string(disk.descriptor());
    direct_ = File(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
}

void UncachedReader::read(std::uint64_t lba, MutableBytes out) {
    const auto offset = static_cast<off_t>(lba * disk_.sector_size());
    if (direct_.get() >= 0) {
        AlignedBuffer memory(out.size());
        const ssize_t got = ::pread(direct_.get(), memory.bytes().data(), out.size(), offset);
        if (got == static_cast<ssize_t>(out.size())) {
            copy_bytes(out, memory.bytes());
            return;
        }
        if (got >= 0 || errno != EINVAL) {
            throw ToolError(disk_.path() + ": cannot be read back at sector " + std::to_string(lba));
        }
        direct_.close();  // wants another alignment than the partition has
    }
    (void)::posix_fadvise(disk_.descriptor(), offset, static_cast<off_t>(out.size()), POSIX_FADV_DONTNEED);
    disk_.read(lba, out);
}

}  // namespace gatehouse::host
