#include "hypervisor/guest/linux.hpp"

#include <algorithm>

namespace gatehouse::guest {
namespace {

// Fields of boot_params (zero-page.rst); the setup header is at kSetupAt in the bzImage as well.
constexpr std::size_t kRsdpAt = 0x070;         // u64, acpi_rsdp_addr
constexpr std::size_t kE820EntriesAt = 0x1e8;  // u8
constexpr std::size_t kSetupAt = 0x1f1;
constexpr std::size_t kE820TableAt = 0x2d0;  // 128 * { u64 base, u64 length, u32 type }, as MemoryRange starts
constexpr std::size_t kE820EntrySize = 20;

struct [[gnu::packed]] SetupHeader {
    std::uint8_t setup_sectors;  // 0 means 4
    std::array<std::byte, 12> unused1f2;
    std::uint16_t boot_flag;  // 0xaa55
    std::uint8_t unused200;
    std::uint8_t size;    // from `magic` on
    std::uint32_t magic;  // "HdrS"
    std::uint16_t version;
    std::array<std::byte, 8> unused208;
    std::uint8_t loader_type;  // 0xff: unassigned
    std::uint8_t load_flags;   // bit 0: LOADED_HIGH
    std::array<std::byte, 6> unused212;
    std::uint32_t ramdisk;
    std::uint32_t ramdisk_size;
    std::array<std::byte, 8> unused220;
    std::uint32_t command_line;
    std::uint32_t ramdisk_max;  // highest address of the initrd's last byte
    std::uint32_t alignment;
    std::uint8_t relocatable;
    std::uint8_t unused235;
    std::uint16_t extended_flags;    // bit 0: XLF_KERNEL_64
    std::uint32_t command_line_max;  // without the terminator
    std::array<std::byte, 28> unused23c;
    std::uint64_t preferred;
    std::uint32_t init_size;

    // Of the real-mode part, in bytes.
    [[nodiscard]] std::size_t setup_size() const { return ((setup_sectors == 0 ? 4u : setup_sectors) + 1) * 512; }
    // Offset of its end in the file.
    [[nodiscard]] std::size_t end() const { return kSetupAt + offsetof(SetupHeader, magic) + size; }
};
static_assert(sizeof(SetupHeader) == 0x264 - kSetupAt);

constexpr std::uint32_t kHdrS = 0x53726448;
constexpr std::uint16_t kMinVersion = 0x020c;
constexpr std::uint64_t kEntry64 = 0x200;

// The setup block: boot_params, command line, GDT, page tables, a stack; one page each but for the command line.
constexpr std::uint64_t kParamsAt = 0 * kPageSize;
constexpr std::uint64_t kGdtAt = 1 * kPageSize;
constexpr std::uint64_t kPml4At = 2 * kPageSize;
constexpr std::uint64_t kPdptAt = 3 * kPageSize;
constexpr std::uint64_t kStackTop = 5 * kPageSize;
constexpr std::uint64_t kCommandLineAt = 5 * kPageSize;
constexpr std::size_t kMaxCommandLine = 2048;
constexpr std::uint64_t kBlockSize = 6 * kPageSize;

Result<SetupHeader> parse_header(Bytes file) {
    if (file.size() < 0x400) return {Error::kTruncated, "kernel: setup header", file.size()};
    SetupHeader header;
    std::memcpy(&header, file.data() + kSetupAt, sizeof(header));
    if (header.boot_flag != 0xaa55 || header.magic != kHdrS) return {Error::kBadMagic, "kernel: not a bzImage"};
    if (header.version < kMinVersion) return {Error::kBadVersion, "kernel: boot protocol", header.version};
    if ((header.extended_flags & 1) == 0) return {Error::kUnsupported, "kernel: no 64-bit entry point"};
    if (file.size() <= header.setup_size()) return {Error::kTruncated, "kernel: protected-mode part", file.size()};
    if (file.size() - header.setup_size() > header.init_size) {
        return {Error::kBadLength, "kernel: init_size", header.init_size};
    }
    if (header.end() > 0x290 || header.end() < kSetupAt + sizeof(header)) {
        return {Error::kBadLength, "kernel: setup header", header.end()};
    }
    const std::uint32_t alignment = header.alignment;
    if (alignment < kPageSize || alignment > 0x40000000 || (alignment & (alignment - 1)) != 0) {
        return {Error::kMisaligned, "kernel: alignment", alignment};
    }
    return header;
}

// The preferred place if it is free, else (a relocatable kernel) any other.
Result<std::uint64_t> place_kernel(const MemoryMap& map, const SetupHeader& header, std::span<const Extent> busy) {
    const Extent preferred{header.preferred, header.init_size};
    if (preferred.base % kPageSize == 0 && preferred.end() <= kFourGiB && map.usable(preferred) &&
        std::ranges::none_of(busy, [&](const Extent& extent) { return extent.overlaps(preferred); })) {
        return preferred.base;
    }
    if (header.relocatable == 0) return {Error::kUnsupported, "kernel: its fixed address is taken", preferred.base};
    return map.find(preferred.length, header.alignment, kFourGiB, busy);
}

// The framebuffer of a screen_info (include/uapi/linux/screen_info.h), at least as large as Linux takes it for.
Extent framebuffer(Bytes screen) {
    const auto at = [&]<typename T>(std::size_t offset, T) { return load<T>(screen.data() + offset, Endian::kLittle); };
    constexpr std::uint8_t kVesa = 0x23;  // orig_video_isVGA at 0x0f; lfb_size in units of 64 KiB, else in bytes
    const std::uint64_t unit = at(0x0f, std::uint8_t{}) == kVesa ? 0x10000 : 1;
    const std::uint64_t drawn = std::uint64_t{at(0x14, std::uint16_t{})} * at(0x24, std::uint16_t{});
    // The upper half counts if a capability says so, and never to vesafb: what is unclear is no framebuffer.
    const std::uint64_t upper = at(0x3a, std::uint32_t{});
    if (upper != 0 && (unit != 1 || (at(0x36, std::uint32_t{}) & 2) == 0)) return {0, ~std::uint64_t{0}};
    return {at(0x18, std::uint32_t{}) | upper << 32, std::max(at(0x1c, std::uint32_t{}) * unit, drawn)};
}

template <typename T>
void put(MutableBytes to, std::size_t at, const T& value) {
    copy_bytes(to.subspan(at), std::as_bytes(std::span(&value, 1)));
}

}  // namespace

Result<cpu::svm::GuestEntry> load_linux(PhysicalView& memory, const MemoryMap& map, const LinuxImage& image) {
    const auto place = map.usable(image.kernel);
    if (!place) return {Error::kOutOfRange, "kernel", image.kernel.base};
    const MutableBytes file = memory.at(*place, image.kernel.length);
    GATEHOUSE_ASSIGN(SetupHeader header, parse_header(file));

    if (image.initrd.length != 0) {
        if (!map.usable(image.initrd) || image.initrd.end() - 1 > header.ramdisk_max) {
            return {Error::kOutOfRange, "initrd", image.initrd.base};
        }
        if (image.initrd.overlaps(image.kernel)) return {Error::kOverlap, "initrd and kernel", image.initrd.base};
    }
    if (image.command_line.size() > std::min<std::size_t>(header.command_line_max, kMaxCommandLine)) {
        return {Error::kBadLength, "command line", image.command_line.size()};
    }
    if (std::ranges::find(image.command_line, std::byte{0}) != image.command_line.end()) {
        return {Error::kBadValue, "command line: zero byte"};
    }

    std::array<Extent, 3> busy{image.initrd, image.kernel, {}};
    GATEHOUSE_ASSIGN(const std::uint64_t kernel, place_kernel(map, header, busy));
    busy[2] = {kernel, header.init_size};
    GATEHOUSE_ASSIGN(const std::uint64_t block, map.find(kBlockSize, kPageSize, kFourGiB, busy));

    const MutableBytes setup = memory.at(HostPhysical(block), kBlockSize);
    std::ranges::fill(setup, std::byte{0});
    const MutableBytes params = setup.subspan(kParamsAt, kPageSize);
    copy_bytes(params.subspan(kSetupAt), Bytes(file).first(header.end()).subspan(kSetupAt));
    header.loader_type = 0xff;
    header.load_flags |= 1;
    header.ramdisk = static_cast<std::uint32_t>(image.initrd.base);
    header.ramdisk_size = static_cast<std::uint32_t>(image.initrd.length);
    header.command_line = static_cast<std::uint32_t>(block + kCommandLineAt);
    put(params, kSetupAt, header);
    put(params, kRsdpAt, image.rsdp);
    if (map.is_no_ram(framebuffer(image.screen))) copy_bytes(params, image.screen);
    put(params, kE820EntriesAt, static_cast<std::uint8_t>(map.ranges().size()));
    for (std::size_t i = 0; i < map.ranges().size(); ++i) {
        MemoryRange range = map.ranges()[i];
        // Linux lets /dev/mem, and so the mailbox, reach reserved memory only.
        if (range.type == MemoryType::kUnusable) range.type = MemoryType::kReserved;
        const Bytes bytes = std::as_bytes(std::span(&range, 1));
        copy_bytes(params.subspan(kE820TableAt + i * kE820EntrySize), bytes.first(kE820EntrySize));
    }
    copy_bytes(setup.subspan(kCommandLineAt), image.command_line);
    put(setup, kGdtAt + 0x10, std::uint64_t{0x00af9b000000ffff});  // __BOOT_CS: 64-bit code
    put(setup, kGdtAt + 0x18, std::uint64_t{0x00cf93000000ffff});  // __BOOT_DS: flat data
    // One 512 GiB identity map of 1 GiB pages, which every processor with SKINIT has.
    put(setup, kPml4At, (block + kPdptAt) | 0x3);
    for (std::uint64_t i = 0; i < 512; ++i) put(setup, kPdptAt + 8 * i, (i << 30) | 0x83);

    copy_bytes(memory.at(HostPhysical(kernel), header.init_size), Bytes(file).subspan(header.setup_size()));
    return cpu::svm::GuestEntry{.rip = kernel + kEntry64,
                                .rsi = block + kParamsAt,
                                .rsp = block + kStackTop,
                                .cr3 = block + kPml4At,
                                .gdt = block + kGdtAt};
}

}  // namespace gatehouse::guest
