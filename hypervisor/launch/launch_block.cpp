#include "hypervisor/launch/launch_block.hpp"

#include <algorithm>

namespace gatehouse::launch {
namespace {

Status check_module(const LaunchBlock& block, std::size_t number) {
    const Module& module = block.modules[number];
    if (module.role < ModuleRole::kPolicy || module.role > ModuleRole::kMachineApproval) {
        return {Error::kBadValue, "launch block: module role", number};
    }
    if (module.address % kPageSize != 0) return {Error::kMisaligned, "launch block: module address", module.address};
    if (module.address == 0) return {Error::kOutOfRange, "launch block: module at 0", number};
    if (module.size == 0) return {Error::kBadLength, "launch block: empty module", number};
    if (module.address >= kFourGiB || module.size > kFourGiB - module.address) {
        return {Error::kOutOfRange, "launch block: module beyond 4 GiB", number};
    }
    if (module.extent().overlaps({block.header.kept_base, kKeptSize})) {
        return {Error::kOverlap, "launch block: module in the kept region", number};
    }
    for (const Module& earlier : std::span(block.modules).first(number)) {
        if (earlier.role == module.role) return {Error::kBadValue, "launch block: role given twice", number};
        if (module.extent().overlaps(earlier.extent())) return {Error::kOverlap, "launch block: modules", number};
    }
    return {};
}

}  // namespace

const Module* LaunchBlock::module(ModuleRole role) const {
    const auto found = std::ranges::find(all_modules(), role, &Module::role);
    return found == all_modules().end() ? nullptr : &*found;
}

Result<LaunchHeader> parse_launch_header(Bytes bytes, std::uint64_t kept_base) {
    LaunchHeader header;
    if (bytes.size() < sizeof(header)) return {Error::kTruncated, "launch block", bytes.size()};
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.magic != kLaunchMagic) return {Error::kBadMagic, "launch block"};
    if (header.version != kLaunchVersion) return {Error::kBadVersion, "launch block", header.version};
    if (header.kept_base != kept_base) return {Error::kMismatch, "launch block: kept region", header.kept_base};
    if (header.hypervisor_size < kImageHeaderSize || header.hypervisor_size > kImageMaxSize) {
        return {Error::kBadLength, "launch block: hypervisor size", header.hypervisor_size};
    }
    return header;
}

Status parse_launch_block(Bytes bytes, std::uint64_t kept_base, LaunchBlock& block) {
    if (bytes.size() < sizeof(block)) return {Error::kTruncated, "launch block", bytes.size()};
    std::memcpy(&block, bytes.data(), sizeof(block));
    GATEHOUSE_ASSIGN(block.header,
                     parse_launch_header(Bytes(reinterpret_cast<std::byte*>(&block), sizeof(block)), kept_base));
    if (block.module_count > kMaxModules) return {Error::kNoSpace, "launch block: modules", block.module_count};
    if (block.memory_count > kMaxMemoryRanges) {
        return {Error::kNoSpace, "launch block: memory ranges", block.memory_count};
    }
    for (std::size_t i = 0; i < block.module_count; ++i) GATEHOUSE_TRY(check_module(block, i));
    for (const MemoryRange& range : block.all_memory()) {
        if (range.length == 0 || range.extent().wraps()) {
            return {Error::kBadLength, "launch block: memory range", range.base};
        }
        if (range.type < MemoryType::kUsable || range.type > MemoryType::kUnusable) {
            return {Error::kBadValue, "launch block: memory range", range.base};
        }
    }
    return {};
}

Status check_image(Bytes image) {
    Reader reader(image);
    if (reader.u64() != kImageMagic) return {Error::kBadMagic, "hypervisor image"};
    if (reader.u64() != image.size()) return {Error::kBadLength, "hypervisor image", image.size()};
    return {};
}

}  // namespace gatehouse::launch
