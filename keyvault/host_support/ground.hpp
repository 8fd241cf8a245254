// What a disk lies on: two names may be of one, a file and its loop device, or a disk and its partition.
#pragma once

#include <sys/types.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

// Below every loop device: a file, or a block device.
struct Ground {
    dev_t device = 0;        // of a file that of its file system
    dev_t disk = 0;          // of a partition the whole disk's; of a disk its own; 0: a file
    ino_t inode = 0;         // of a file
    std::string backing;     // the file, if a loop device that was named is over one
    std::vector<dev_t> way;  // the loop devices that were named, and those under them
};

// ToolError if there is nothing of that name. What a loop device is over is asked of itself, or else of sysfs.
[[nodiscard]] Ground ground_of(const std::string& path);
// Whether what is written to one changes the other.
[[nodiscard]] bool overlap(const Ground& one, const Ground& other);
// The loop device over the same file or disk that is not on this one's own way down, as "/dev/loop3"; empty if there is none.
[[nodiscard]] std::string other_loop_over(const Ground& ground);

// Of "loop3": the number of the block device that it is over; 0 if that is a file, or it cannot be told.
[[nodiscard]] dev_t device_under_loop(const std::string& name);

}  // namespace gatehouse::host
