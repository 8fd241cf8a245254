#include "hypervisor/guest/config_filter.hpp"

#include <algorithm>

namespace gatehouse::guest {
namespace {

// Configuration header, type 0 (PCI 3.0, figure 6-1).
enum Register : std::uint16_t {
    kCommand = 0x04,        // 16 bits
    kStatus = 0x06,         // 16 bits, bits 15:11 and 8 write-one-to-clear
    kClass = 0x08,          // 32 bits: class, subclass, programming interface, revision
    kCacheLineSize = 0x0c,  // 8 bits
    kBar0 = 0x10,           // six of 32 bits
    kBarEnd = 0x28,
    kCapabilities = 0x34,   // 8 bits
    kInterruptLine = 0x3c,  // 8 bits
    kHeaderEnd = 0x40,
    kConventionalEnd = 0x100,
};

constexpr Extent kBusNumbers{0x18, 3};  // type 1: primary, secondary, subordinate

constexpr std::uint32_t kIoSpace = 1u << 0;  // command bits
constexpr std::uint32_t kMemorySpace = 1u << 1;
constexpr std::uint32_t kBusMaster = 1u << 2;
constexpr std::uint32_t kIdeClass = 0x0101, kIdeNative = 0x05;  // of its programming interface: a channel each
constexpr std::uint8_t kMsiId = 0x05;                           // capability identifiers
constexpr std::uint8_t kMsiXId = 0x11;
constexpr std::uint8_t kSataId = 0x12;
constexpr std::uint32_t kMsiEnable = 1u << 0;  // message control
constexpr std::uint32_t kMsi64 = 1u << 7;      // 64-bit address
constexpr std::uint32_t kMsiMasks = 1u << 8;
constexpr std::uint32_t kMsiXEnable = 1u << 15;
constexpr std::uint32_t kInterruptAddress = 0xfee00000;
constexpr std::uint32_t kInterruptBits = 0x000ffffc;  // destination and mode

constexpr std::uint32_t ones(unsigned size) { return size == 4 ? 0xffffffffu : (1u << (8 * size)) - 1; }

}  // namespace

const ConfigFilter::Function* ConfigFilter::find(FunctionId function) const {
    const auto all = protected_functions();
    const auto found = std::ranges::find(all, function, &Function::id);
    return found == all.end() ? nullptr : &*found;
}

ConfigFilter::Disk* ConfigFilter::find_disk(FunctionId function) const {
    const Function* const found = find(function);
    return found == nullptr ? nullptr : found->disk;
}

Status ConfigFilter::protect(FunctionId function, FunctionKind kind) {
    if (count_ == kMaxFunctions || (kind == FunctionKind::kDisk && disk_count_ == kMaxDisks)) {
        return {Error::kNoSpace, "protected PCI functions", function};
    }
    Disk* const disk = kind == FunctionKind::kDisk ? &disks_[disk_count_++] : nullptr;
    if (disk != nullptr) {
        const std::uint32_t code = real_.read(function, kClass, 4) >> 8;
        if (code >> 8 == kIdeClass) disk->enabled = (code & kIdeNative) == 0 ? kIoSpace | kBusMaster : 0;
        size_bars(function, *disk);
        walk_capabilities(function, *disk);
        write_disk(function, *disk, kCommand, 2, real_.read(function, kCommand, 2));
    }
    functions_[count_++] = {function, kind, disk};
    return {};
}

void ConfigFilter::size_bars(FunctionId function, Disk& disk) {
    const std::uint32_t command = real_.read(function, kCommand, 2);
    real_.write(function, kCommand, 2, command & ~3u);
    bool upper_half = false;  // of a 64-bit memory BAR
    for (std::size_t i = 0; i < kBars; ++i) {
        const auto at = static_cast<std::uint16_t>(kBar0 + 4 * i);
        const std::uint32_t value = real_.read(function, at, 4);
        real_.write(function, at, 4, 0xffffffff);
        const std::uint32_t sized = real_.read(function, at, 4);
        real_.write(function, at, 4, value);
        const std::uint32_t type_bits = upper_half ? 0 : (value & 1) != 0 ? 0x3u : 0xfu;
        disk.bar[i] = value;
        disk.writable[i] = sized & ~type_bits;
        disk.fixed[i] = value & type_bits;
        upper_half = !upper_half && (value & 7) == 4;
    }
    real_.write(function, kCommand, 2, command);
}

// What the launcher may have programmed into the interrupt capabilities is undone.
void ConfigFilter::walk_capabilities(FunctionId function, Disk& disk) {
    std::uint8_t next = static_cast<std::uint8_t>(real_.read(function, kCapabilities, 1) & 0xfc);
    for (unsigned steps = 0; next >= kHeaderEnd && steps < 48; ++steps) {
        const std::uint8_t at = next;
        const auto word = [at](unsigned offset) { return static_cast<std::uint16_t>(at + offset); };
        const auto id = static_cast<std::uint8_t>(real_.read(function, at, 1));
        const std::uint32_t control = real_.read(function, word(2), 2);
        next = static_cast<std::uint8_t>(real_.read(function, word(1), 1) & 0xfc);
        if (id == kSataId) disk.hidden[0] = {at, word(8)};
        if (id == kMsiXId) {
            disk.hidden[1] = {at, word(12)};
            real_.write(function, word(2), 2, control & ~kMsiXEnable);
        } else if (id == kMsiId) {
            const unsigned address_end = (control & kMsi64) != 0 ? 12 : 8;
            const unsigned size = address_end + 2 + ((control & kMsiMasks) != 0 ? 10 : 0);
            real_.write(function, word(2), 2, control & ~kMsiEnable);
            if (at + size > kConventionalEnd) continue;  // no device has this
            real_.write(function, word(4), 4, kInterruptAddress);
            if (address_end == 12) real_.write(function, word(8), 4, 0);
            disk.msi = at;
            disk.msi_address_end = word(address_end);
            disk.msi_end = word(size);
        }
    }
}

Extent ConfigFilter::memory_bar(FunctionId function, std::size_t bar) const {
    const Disk* const disk = find_disk(function);
    if (disk == nullptr || bar >= kBars) return {};
    const bool is_memory = (disk->fixed[bar] & 1) == 0 && disk->writable[bar] != 0;
    const bool is_wide = (disk->fixed[bar] & 6) == 4;
    if (!is_memory || (is_wide && bar + 1 == kBars)) return {};
    const std::uint64_t base = (disk->bar[bar] & ~0xfull) | (is_wide ? std::uint64_t{disk->bar[bar + 1]} << 32 : 0);
    const std::uint64_t size = disk->writable[bar] & (~disk->writable[bar] + 1);  // the lowest address bit
    return {base & ~(kPageSize - 1), (size + (base & (kPageSize - 1)) + kPageSize - 1) & ~(kPageSize - 1)};
}

std::uint8_t ConfigFilter::disk_byte(FunctionId function, const Disk& disk, std::uint16_t offset) {
    if (offset >= kBar0 && offset < kBarEnd) {
        return static_cast<std::uint8_t>(disk.bar[(offset - kBar0) / 4u] >> (8 * (offset % 4u)));
    }
    for (const Disk::Hidden& hidden : disk.hidden) {  // but where the next one is
        if (offset >= hidden.at && offset < hidden.end && offset != hidden.at + 1) return 0;
    }
    return static_cast<std::uint8_t>(real_.read(function, offset, 1));
}

std::uint32_t ConfigFilter::read(FunctionId function, std::uint16_t offset, unsigned size) {
    if (offset % size != 0) return ones(size);
    const SpinGuard guard(lock_);
    const Disk* const disk = find_disk(function);
    if (disk == nullptr) return real_.read(function, offset, size);
    std::uint32_t value = 0;
    for (unsigned i = size; i-- > 0;) {
        value = value << 8 | disk_byte(function, *disk, static_cast<std::uint16_t>(offset + i));
    }
    return value;
}

void ConfigFilter::write_disk(FunctionId function, Disk& disk, std::uint16_t offset, unsigned size,
                              std::uint32_t value) {
    const Extent access{offset, size};
    if (offset >= kBar0 && offset < kBarEnd) {
        const std::size_t i = (offset - kBar0) / 4u;
        const unsigned shift = 8 * (offset % 4u);
        const std::uint32_t mask = ones(size) << shift;
        const std::uint32_t merged = (disk.bar[i] & ~mask) | ((value << shift) & mask);
        disk.bar[i] = (merged & disk.writable[i]) | disk.fixed[i];
        return;
    }
    if (offset == kCommand) value = (value & ~(kIoSpace | kMemorySpace | kBusMaster)) | disk.enabled;
    if (disk.msi != 0 && access.overlaps({disk.msi + 4u, disk.msi_address_end - disk.msi - 4u})) {
        if (offset == disk.msi + 4 && size == 4) {
            real_.write(function, offset, size, kInterruptAddress | (value & kInterruptBits));
        }
        return;
    }
    // Not a byte of the command alone: nobody does this, and it could clear what must stay on.
    const bool passes = (offset == kCommand && size >= 2) || (offset == kCommand + 1 && size == 1) ||
                        (offset == kStatus && size == 2) || (offset == kCacheLineSize && size == 1) ||
                        (offset == kInterruptLine && size == 1) ||
                        (disk.msi != 0 && offset >= disk.msi + 2 && offset + size <= disk.msi_end);
    if (passes) real_.write(function, offset, size, value);
}

void ConfigFilter::write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    if (offset % size != 0) return;
    const SpinGuard guard(lock_);
    const Function* const found = find(function);
    if (found != nullptr && found->disk != nullptr) return write_disk(function, *found->disk, offset, size, value);
    const bool is_bridge = found != nullptr && found->kind == FunctionKind::kBridge;
    const bool passes = found == nullptr || (is_bridge && !Extent{offset, size}.overlaps(kBusNumbers));
    if (passes) real_.write(function, offset, size, value);
}

}  // namespace gatehouse::guest
