// The launch block: what the launcher tells about the machine and the modules.
//
// The launcher is untrusted: parse_launch_block() takes nothing for granted, and what it returns is
// well-formed, not true. Modules and memory ranges are what the launcher says they are (memory/ram.hpp knows better);
// module contents are to be hashed where they are used.
#pragma once

#include "hypervisor/base/bytes.hpp"
#include "hypervisor/base/extent.hpp"
#include "hypervisor/launch/layout.hpp"

namespace gatehouse::launch {

// E820 types (ACPI 6.5, table 15.4).
enum class MemoryType : std::uint32_t { kUsable = 1, kReserved = 2, kAcpi = 3, kNvs = 4, kUnusable = 5 };

struct MemoryRange {
    std::uint64_t base = 0;
    std::uint64_t length = 0;
    MemoryType type = MemoryType::kReserved;
    std::uint32_t reserved = 0;
    [[nodiscard]] constexpr std::uint64_t end() const { return base + length; }
    [[nodiscard]] constexpr Extent extent() const { return {base, length}; }
    // What the guest uses as RAM.
    [[nodiscard]] constexpr bool is_ram() const {
        return type == MemoryType::kUsable || type == MemoryType::kAcpi || type == MemoryType::kNvs;
    }
};

struct Module {
    ModuleRole role = ModuleRole::kPolicy;
    std::uint32_t reserved = 0;
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    [[nodiscard]] constexpr Extent extent() const { return {address, size}; }
};

inline constexpr std::size_t kRsdpSize = 36;

// What the SLB needs of it.
struct LaunchHeader {
    std::uint64_t magic = kLaunchMagic;
    std::uint32_t version = kLaunchVersion;
    std::uint32_t hypervisor_size = 0;  // bytes of hypervisor.bin, which is at kept_base + kImageOffset
    std::uint64_t kept_base = 0;
};

struct LaunchBlock {
    LaunchHeader header{};
    std::array<std::byte, kRsdpSize> rsdp{};  // a copy; of revision 0 with 16 trailing zero bytes
    std::uint32_t module_count = 0;
    // Linux's struct screen_info, the first 64 bytes of boot_params: for the guest,
    // which the hypervisor does not look at but for where the framebuffer is.
    std::array<std::byte, 64> screen{};
    std::uint32_t memory_count = 0;
    std::uint32_t reserved = 0;
    std::array<Module, kMaxModules> modules{};
    std::array<MemoryRange, kMaxMemoryRanges> memory{};

    [[nodiscard]] std::span<const Module> all_modules() const { return std::span(modules).first(module_count); }
    [[nodiscard]] std::span<const MemoryRange> all_memory() const { return std::span(memory).first(memory_count); }
    // The module of this role, or nullptr.
    [[nodiscard]] const Module* module(ModuleRole role) const;
};
// The same for the launcher, a 32-bit program, as for the rest.
static_assert(sizeof(LaunchBlock) == 24 + 40 + 64 + 8 + 24 * (kMaxModules + kMaxMemoryRanges));
static_assert(sizeof(LaunchBlock) <= kLaunchBlockSize);

// The first fields alone. kTruncated, kBadMagic, kBadVersion, kMismatch (another kept region), kBadLength
// (hypervisor_size does not fit the image area).
[[nodiscard]] Result<LaunchHeader> parse_launch_header(Bytes bytes, std::uint64_t kept_base);
// Copies the block at the start of `bytes` to `block`, about 7 KiB of plain data, and checks the
// copy: modules have known, different roles, page-aligned addresses and at least one byte, lie
// below 4 GiB, and overlap neither each other nor the kept region; memory ranges have a length and
// a known type and do not wrap. Errors name the field; detail is its value or number.
[[nodiscard]] Status parse_launch_block(Bytes bytes, std::uint64_t kept_base, LaunchBlock& block);

// Whether `image` starts with the header of hypervisor.bin and is as long as that says. kBadMagic, kBadLength.
[[nodiscard]] Status check_image(Bytes image);

}  // namespace gatehouse::launch
