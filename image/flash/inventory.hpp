// The disks of this machine, as Linux tells of them, and why one may not be overwritten.
//
// From /sys/block, /proc/self/mountinfo and /proc/swaps. Nothing is opened and no disk is asked: what holds a disk in another
// mount namespace, or without a trace there, is found when it is opened for writing (O_EXCL).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::flash {

// What lies on a disk and is in use: the disk itself, a partition, or what is made of one (a mapping, an array).
struct Use {
    enum class Kind : std::uint8_t { kMounted, kSwap, kHeld };
    Kind kind = Kind::kMounted;
    std::string device;  // "sda2", "dm-0"
    std::string where;   // mount point; of what is held, by whom: "dm-0 (vg-root)"

    [[nodiscard]] std::string text() const;  // "sda2 is mounted at /boot"
};
[[nodiscard]] const char* name_of(Use::Kind kind);  // "mounted", "swap", "held"

struct DiskFacts {
    std::string name;   // as in /sys/block: "sda", "nvme0n1"
    std::string path;   // "/dev/sda"
    std::string model;  // both without blanks at their ends; empty if it has none. Whoever made the disk chose them
    std::string serial;
    std::uint64_t device = 0;           // device_number()
    std::uint64_t size = 0;             // bytes; 0: no medium
    std::uint32_t logical_sector = 0;   // bytes
    std::uint32_t physical_sector = 0;  // bytes
    bool removable = false;
    bool read_only = false;
    std::vector<Use> uses;
    std::vector<std::string> refusals;  // why it may not be a target, the gravest first; none: it may
};

// Of a block device, as st_rdev has it.
[[nodiscard]] std::uint64_t device_number(std::uint32_t major, std::uint32_t minor);

struct Inventory {
    std::vector<DiskFacts> disks;                  // by name; without loop and RAM devices that hold nothing
    std::map<std::uint64_t, std::string> disk_of;  // partition's device number: its disk's name
    [[nodiscard]] const DiskFacts* find(std::uint64_t device) const;
};

// `root`: what stands before /sys and /proc: nothing, but for tests. ToolError if the disks or the mounts cannot be told, in
// whole or in a line: what is not understood might be mounted.
[[nodiscard]] Inventory read_inventory(const std::string& root = "");

// The disk of this name, if it may be overwritten. ToolError: usage for what is no whole disk, kNo with every refusal of the
// disk otherwise.
[[nodiscard]] const DiskFacts& require_target(const Inventory& inventory, const std::string& path);

}  // namespace gatehouse::flash
