#include "hypervisor/launch/launch_block.hpp"

namespace gatehouse::launch {
namespace {

constexpr std::uint64_t kPageSize = 0x1000;
constexpr std::uint64_t kFourGiB = 0x1'0000'0000;

bool overlap(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
    return a < b + b_size && b < a + a_size;
}

// Magic to RSDP.
Result<LaunchHeader> read_header(Reader& reader, std::uint64_t kept_base, bool& uefi) {
    LaunchHeader header;
    if (reader.u64() != kLaunchMagic) return {Error::kBadMagic, "launch block"};
    if (const std::uint32_t version = reader.u32(); version != kLaunchVersion) {
        return {Error::kBadVersion, "launch block", version};
    }
    header.size = reader.u32();
    if (const std::uint64_t base = reader.u64(); base != kept_base) {
        return {Error::kMismatch, "launch block: kept region", base};
    }
    header.hypervisor_size = reader.u32();
    if (header.hypervisor_size < kImageHeaderSize || header.hypervisor_size > kImageMaxSize) {
        return {Error::kBadLength, "launch block: hypervisor size", header.hypervisor_size};
    }
    const std::uint32_t firmware = reader.u32();
    if (firmware > 1) return {Error::kBadValue, "launch block: firmware", firmware};
    uefi = firmware == 1;
    reader.copy(header.rsdp);
    GATEHOUSE_TRY(reader.status("launch block"));
    return header;
}

Status check_module(const LaunchBlock& block, std::size_t number) {
    const Module& module = block.modules[number];
    switch (module.role) {
        case ModuleRole::kPolicy:
        case ModuleRole::kApproval:
        case ModuleRole::kKernel:
        case ModuleRole::kInitrd:
        case ModuleRole::kCommandLine: break;
        default: return {Error::kBadValue, "launch block: module role", number};
    }
    if (module.address % kPageSize != 0) return {Error::kMisaligned, "launch block: module address", module.address};
    if (module.size == 0) return {Error::kBadLength, "launch block: empty module", number};
    if (module.address >= kFourGiB || module.size > kFourGiB - module.address) {
        return {Error::kOutOfRange, "launch block: module beyond 4 GiB", number};
    }
    if (overlap(module.address, module.size, block.kept_base, kKeptSize)) {
        return {Error::kOverlap, "launch block: module in the kept region", number};
    }
    for (const Module& earlier : std::span(block.modules).first(number)) {
        if (earlier.role == module.role) return {Error::kBadValue, "launch block: role given twice", number};
        if (overlap(module.address, module.size, earlier.address, earlier.size)) {
            return {Error::kOverlap, "launch block: modules", number};
        }
    }
    return {};
}

}  // namespace

const Module* LaunchBlock::module(ModuleRole role) const {
    for (const Module& candidate : all_modules()) {
        if (candidate.role == role) return &candidate;
    }
    return nullptr;
}

Result<LaunchHeader> parse_launch_header(Bytes bytes, std::uint64_t kept_base) {
    Reader reader(bytes);
    bool uefi = false;
    return read_header(reader, kept_base, uefi);
}

Status parse_launch_block(Bytes bytes, std::uint64_t kept_base, LaunchBlock& block) {
    block.kept_base = kept_base;
    Reader whole(bytes);
    GATEHOUSE_ASSIGN(const LaunchHeader header, read_header(whole, kept_base, block.uefi));
    if (header.size > bytes.size() || header.size > kLaunchBlockSize || header.size < whole.offset()) {
        return {Error::kBadLength, "launch block: size", header.size};
    }
    block.hypervisor_size = header.hypervisor_size;
    block.rsdp = header.rsdp;

    Reader reader(bytes.subspan(whole.offset(), header.size - whole.offset()));
    block.module_count = reader.u32();
    block.memory_count = reader.u32();
    if (block.module_count > kMaxModules) return {Error::kNoSpace, "launch block: modules", block.module_count};
    if (block.memory_count > kMaxMemoryRanges) {
        return {Error::kNoSpace, "launch block: memory ranges", block.memory_count};
    }
    if (reader.u32() != 0) return {Error::kBadValue, "launch block: reserved field"};

    Framebuffer& screen = block.framebuffer;
    screen.address = reader.u64();
    screen.pitch = reader.u32();
    screen.width = reader.u32();
    screen.height = reader.u32();
    for (std::uint8_t* field : {&screen.bits_per_pixel, &screen.red_position, &screen.red_size, &screen.green_position,
                                &screen.green_size, &screen.blue_position, &screen.blue_size}) {
        *field = reader.u8();
    }
    if (reader.u8() != 0) return {Error::kBadValue, "launch block: reserved field"};

    for (std::size_t i = 0; i < block.module_count; ++i) {
        block.modules[i].role = ModuleRole{reader.u32()};
        if (reader.u32() != 0) return {Error::kBadValue, "launch block: reserved field of module", i};
        block.modules[i].address = reader.u64();
        block.modules[i].size = reader.u64();
        GATEHOUSE_TRY(reader.status("launch block: modules"));
        GATEHOUSE_TRY(check_module(block, i));
    }
    for (std::size_t i = 0; i < block.memory_count; ++i) {
        MemoryRange& range = block.memory[i];
        range = {.base = reader.u64(), .length = reader.u64(), .type = reader.u32()};
        if (reader.u32() != 0) return {Error::kBadValue, "launch block: reserved field of memory range", i};
        GATEHOUSE_TRY(reader.status("launch block: memory ranges"));
        if (range.length == 0 || range.length > ~range.base) {
            return {Error::kBadLength, "launch block: memory range", i};
        }
    }
    return reader.finished("launch block");
}

Status write_launch_block(const LaunchBlock& block, MutableBytes bytes) {
    Writer writer(bytes);
    writer.u64(kLaunchMagic);
    writer.u32(kLaunchVersion);
    const std::size_t size_at = writer.reserve<std::uint32_t>();
    writer.u64(block.kept_base);
    writer.u32(block.hypervisor_size);
    writer.u32(block.uefi ? 1 : 0);
    writer.bytes(block.rsdp);
    writer.u32(static_cast<std::uint32_t>(block.module_count));
    writer.u32(static_cast<std::uint32_t>(block.memory_count));
    writer.u32(0);
    const Framebuffer& screen = block.framebuffer;
    writer.u64(screen.address);
    writer.u32(screen.pitch);
    writer.u32(screen.width);
    writer.u32(screen.height);
    for (const std::uint8_t field : {screen.bits_per_pixel, screen.red_position, screen.red_size, screen.green_position,
                                     screen.green_size, screen.blue_position, screen.blue_size, std::uint8_t{0}}) {
        writer.u8(field);
    }
    for (const Module& module : block.all_modules()) {
        writer.u32(static_cast<std::uint32_t>(module.role));
        writer.u32(0);
        writer.u64(module.address);
        writer.u64(module.size);
    }
    for (const MemoryRange& range : block.all_memory()) {
        writer.u64(range.base);
        writer.u64(range.length);
        writer.u32(range.type);
        writer.u32(0);
    }
    writer.patch(size_at, static_cast<std::uint32_t>(writer.offset()));
    return writer.status("launch block");
}

Result<ImageHeader> parse_image_header(Bytes bytes, std::uint32_t module_size) {
    Reader reader(bytes);
    if (reader.u64() != kImageMagic) return {Error::kBadMagic, "hypervisor image"};
    if (const std::uint32_t version = reader.u32(); version != kImageVersion) {
        return {Error::kBadVersion, "hypervisor image", version};
    }
    const ImageHeader header{.file_size = reader.u32(), .memory_size = reader.u32(), .entry = reader.u32()};
    GATEHOUSE_TRY(reader.status("hypervisor image"));
    if (header.file_size != module_size || header.file_size % 16 != 0 || header.file_size > kImageMaxSize) {
        return {Error::kBadLength, "hypervisor image: file size", header.file_size};
    }
    if (header.memory_size < header.file_size || header.memory_size > kImageMaxSize) {
        return {Error::kBadLength, "hypervisor image: memory size", header.memory_size};
    }
    if (header.entry < kImageHeaderSize || header.entry >= header.file_size) {
        return {Error::kOutOfRange, "hypervisor image: entry", header.entry};
    }
    return header;
}

}  // namespace gatehouse::launch
