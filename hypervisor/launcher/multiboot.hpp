// What the boot loader says: the multiboot2 information, taken apart.
//
// Multiboot2 Specification 2.0, section 3.6. Tags that are of no use here are skipped, those that are come
// once or the last one counts. The launcher is not trusted by anybody, but it should stop with a clear line
// rather than run wild: sizes and addresses are checked as if the boot loader were hostile.
#pragma once

#include <string_view>

#include "hypervisor/launch/launch_block.hpp"

namespace gatehouse::launcher {

inline constexpr std::uint32_t kMultibootMagic = 0x36d76289;  // in EAX at entry
inline constexpr std::size_t kMultibootMaximumSize = 0x100000;

// `launch` holds what goes into the launch block as it is: RSDP, screen, memory map (from the memory map tag
// or, without one, from the UEFI map), and the modules at the addresses where the boot loader put them.
struct BootInformation {
    launch::LaunchBlock launch{};
    Extent slb{};         // length 0: not given
    Extent hypervisor{};  // the same
    bool uefi = false;
    bool text_screen = false;
    bool has_rsdp = false;
    std::array<char, 256> command_line{};  // cut there; ends with a zero

    // Whether the launcher's command line has this word.
    [[nodiscard]] bool has_option(std::string_view option) const;
};

// `bytes` starts with the information's total size and must hold all of it. Modules are told apart by their
// strings: "slb", "hypervisor", "policy", "approval", "kernel", "initrd", "command-line", "record",
// "machine-approval". Errors: kTruncated, kBadLength, kBadValue (a module that ends before it starts; a role
// twice), kNotFound (an unknown role), kNoSpace (too many ranges), kState (boot services still run).
[[nodiscard]] Status parse_multiboot(Bytes bytes, BootInformation& information);

}  // namespace gatehouse::launcher
