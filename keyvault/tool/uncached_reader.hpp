// A disk read from its medium, not from the system's page cache.
#pragma once

#include <memory>

#include "keyvault/host_support/disk.hpp"

namespace gatehouse::host {

class UncachedReader {
  public:
    // `disk` must outlive it. Everything written must have been flushed before read().
    explicit UncachedReader(const Disk& disk);

    // Whole sectors. ToolError.
    void read(std::uint64_t lba, MutableBytes out);
    // "O_DIRECT"; or "POSIX_FADV_DONTNEED", if the file system has no such thing: the cache was asked to forget, and may
    // not have done so.
    [[nodiscard]] const char* method() const { return direct_.get() >= 0 ? "O_DIRECT" : "POSIX_FADV_DONTNEED"; }

  private:
    const Disk& disk_;
    File direct_;
};

}  // namespace gatehouse::host
