// The launch block: what the launcher tells about the machine and the modules (layout.hpp has the format).
//
// The launcher is untrusted: parse_launch_block() takes nothing for granted, and what it returns is
// well-formed, not true. Modules and memory ranges are what the launcher says they are; module contents are
// to be hashed where they are used.
#pragma once

#include "hypervisor/base/bytes.hpp"
#include "hypervisor/launch/layout.hpp"

namespace gatehouse::launch {

struct Framebuffer {
    std::uint64_t address = 0;  // 0: none
    std::uint32_t pitch = 0;
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::uint8_t bits_per_pixel = 0;
    std::uint8_t red_position = 0, red_size = 0;
    std::uint8_t green_position = 0, green_size = 0;
    std::uint8_t blue_position = 0, blue_size = 0;
};

struct Module {
    ModuleRole role = ModuleRole::kPolicy;
    std::uint64_t address = 0;
    std::uint64_t size = 0;
};

struct MemoryRange {
    std::uint64_t base = 0;
    std::uint64_t length = 0;
    std::uint32_t type = 0;  // E820
};

inline constexpr std::size_t kRsdpSize = 36;

struct LaunchBlock {
    std::uint64_t kept_base = 0;
    std::uint32_t hypervisor_size = 0;
    bool uefi = false;
    std::array<std::byte, kRsdpSize> rsdp{};
    Framebuffer framebuffer{};
    std::array<Module, kMaxModules> modules{};
    std::size_t module_count = 0;
    std::array<MemoryRange, kMaxMemoryRanges> memory{};
    std::size_t memory_count = 0;

    [[nodiscard]] std::span<const Module> all_modules() const { return std::span(modules).first(module_count); }
    [[nodiscard]] std::span<const MemoryRange> all_memory() const { return std::span(memory).first(memory_count); }
    // The module of this role, or nullptr.
    [[nodiscard]] const Module* module(ModuleRole role) const;
};

// Takes `bytes` (kLaunchBlockSize bytes or fewer) apart into `block`, about 7 KiB of plain data. Beyond the
// format: the kept region is the one at `kept_base`; hypervisor_size fits the image area; modules have known,
// different roles, page-aligned addresses and at least one byte, lie below 4 GiB, and overlap neither each
// other nor the kept region; memory ranges have a length and do not wrap. Errors name the field; detail is
// its value or number.
[[nodiscard]] Status parse_launch_block(Bytes bytes, std::uint64_t kept_base, LaunchBlock& block);
// The first fields alone, without modules and memory: all that the SLB needs, a hundred bytes of it.
struct LaunchHeader {
    std::uint32_t size = 0;
    std::uint32_t hypervisor_size = 0;
    std::array<std::byte, kRsdpSize> rsdp{};
};
[[nodiscard]] Result<LaunchHeader> parse_launch_header(Bytes bytes, std::uint64_t kept_base);

// Writes a block that parse_launch_block() accepts if its contents are right. kNoSpace if `bytes` is too
// short.
[[nodiscard]] Status write_launch_block(const LaunchBlock& block, MutableBytes bytes);

// The header of hypervisor.bin, of which `module_size` bytes have been loaded.
struct ImageHeader {
    std::uint32_t file_size = 0;
    std::uint32_t memory_size = 0;
    std::uint32_t entry = 0;
};
[[nodiscard]] Result<ImageHeader> parse_image_header(Bytes bytes, std::uint32_t module_size);

}  // namespace gatehouse::launch
