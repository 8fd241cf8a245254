// Ranges of a disk and what the guest may do with them: as a vault header lists them and a mediator enforces them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gatehouse {

// The numbers are those of the vault header.
enum class RegionClass : std::uint32_t {
    kEncrypted = 0,  // ciphertext on disk, plaintext for the guest
    kReadOnly = 1,   // plaintext on disk; the guest's writes are aborted
    kHidden = 2,     // the guest reads zeros, its writes are aborted; the content never reaches guest memory
    kOverlay = 3,    // the guest reads other bytes than those on disk, its writes are aborted
};

// A range of logical sectors.
struct Region {
    std::uint64_t first = 0;  // LBA
    std::uint64_t count = 0;  // at least 1
    RegionClass kind = RegionClass::kReadOnly;
    const std::byte* overlay = nullptr;  // for the mediator, kOverlay: count * sector_size bytes, contiguous
};

}  // namespace gatehouse
