#include "hypervisor/guest/linux.hpp"

#include <algorithm>

namespace gatehouse::guest {
namespace {

// Fields of the setup header, by their offset in the bzImage and in boot_params alike.
enum class Setup : std::size_t {
    kSetupSects = 0x1f1,        // u8, 0 means 4
    kHeader = 0x1f1,            // the part that is copied into boot_params starts here
    kBootFlag = 0x1fe,          // u16, 0xaa55
    kJump = 0x200,              // u16, its second byte tells where the header ends
    kMagic = 0x202,             // u32, "HdrS"
    kVersion = 0x206,           // u16
    kTypeOfLoader = 0x210,      // u8, 0xff: unassigned
    kLoadFlags = 0x211,         // u8, bit 0: LOADED_HIGH
    kRamdiskImage = 0x218,      // u32
    kRamdiskSize = 0x21c,       // u32
    kCommandLine = 0x228,       // u32
    kRamdiskMax = 0x22c,        // u32, highest address of the initrd's last byte
    kKernelAlignment = 0x230,   // u32
    kRelocatable = 0x234,       // u8
    kXLoadFlags = 0x236,        // u16, bit 0: XLF_KERNEL_64
    kCommandLineMax = 0x238,    // u32, without the terminator
    kPreferredAddress = 0x258,  // u64
    kInitSize = 0x260,          // u32
};

// Other fields of boot_params (zero-page.rst).
enum class Zero : std::size_t {
    kRsdp = 0x070,         // u64, acpi_rsdp_addr
    kE820Entries = 0x1e8,  // u8
    kE820Table = 0x2d0,    // 128 * { u64 base, u64 length, u32 type }
};

constexpr std::size_t kPage = 0x1000;
constexpr std::uint32_t kHdrS = 0x53726448;
constexpr std::uint16_t kMinVersion = 0x020c;
constexpr std::uint64_t kEntry64 = 0x200;
constexpr std::uint64_t kBelow4GiB = 0x100000000;

// The setup block: boot_params, command line, GDT, page tables, a stack; one page each but for the command line.
constexpr std::uint64_t kParamsAt = 0 * kPage;
constexpr std::uint64_t kGdtAt = 1 * kPage;
constexpr std::uint64_t kPml4At = 2 * kPage;
constexpr std::uint64_t kPdptAt = 3 * kPage;
constexpr std::uint64_t kStackTop = 5 * kPage;
constexpr std::uint64_t kCommandLineAt = 5 * kPage;
constexpr std::size_t kMaxCommandLine = 2048;
constexpr std::uint64_t kBlockSize = 6 * kPage;

struct KernelHeader {
    std::size_t setup_size;  // real-mode part, bytes
    std::size_t header_end;  // end of the setup header, offset in the file
    std::uint64_t preferred;
    std::uint32_t init_size;
    std::uint32_t alignment;
    std::uint32_t ramdisk_max;
    std::uint32_t command_line_max;
    bool relocatable;
};

template <std::unsigned_integral T>
T field(Bytes from, Setup at) {
    return load<T>(from.data() + static_cast<std::size_t>(at), Endian::kLittle);
}

template <std::unsigned_integral T, typename Field>
void put(MutableBytes to, Field at, T value, std::size_t offset = 0) {
    store<T>(to.data() + static_cast<std::size_t>(at) + offset, value, Endian::kLittle);
}

Result<KernelHeader> parse_header(Bytes file) {
    if (file.size() < 0x400) return {Error::kTruncated, "kernel: setup header", file.size()};
    if (field<std::uint16_t>(file, Setup::kBootFlag) != 0xaa55 || field<std::uint32_t>(file, Setup::kMagic) != kHdrS) {
        return {Error::kBadMagic, "kernel: not a bzImage"};
    }
    const auto version = field<std::uint16_t>(file, Setup::kVersion);
    if (version < kMinVersion) return {Error::kBadVersion, "kernel: boot protocol", version};
    if ((field<std::uint16_t>(file, Setup::kXLoadFlags) & 1) == 0) {
        return {Error::kUnsupported, "kernel: no 64-bit entry point"};
    }
    const auto sectors = std::to_integer<std::size_t>(file[static_cast<std::size_t>(Setup::kSetupSects)]);
    const KernelHeader header{
        .setup_size = ((sectors == 0 ? 4 : sectors) + 1) * 512,
        .header_end = static_cast<std::size_t>(Setup::kMagic) +
                      std::to_integer<std::size_t>(file[static_cast<std::size_t>(Setup::kJump) + 1]),
        .preferred = field<std::uint64_t>(file, Setup::kPreferredAddress),
        .init_size = field<std::uint32_t>(file, Setup::kInitSize),
        .alignment = field<std::uint32_t>(file, Setup::kKernelAlignment),
        .ramdisk_max = field<std::uint32_t>(file, Setup::kRamdiskMax),
        .command_line_max = field<std::uint32_t>(file, Setup::kCommandLineMax),
        .relocatable = std::to_integer<unsigned>(file[static_cast<std::size_t>(Setup::kRelocatable)]) != 0,
    };
    if (file.size() <= header.setup_size) return {Error::kTruncated, "kernel: protected-mode part", file.size()};
    if (file.size() - header.setup_size > header.init_size) {
        return {Error::kBadLength, "kernel: init_size", header.init_size};
    }
    if (header.header_end > 0x290 || header.header_end < 0x264) {
        return {Error::kBadLength, "kernel: setup header", header.header_end};
    }
    const std::uint32_t alignment = header.alignment;
    if (alignment < kPage || alignment > 0x40000000 || (alignment & (alignment - 1)) != 0) {
        return {Error::kMisaligned, "kernel: alignment", alignment};
    }
    return header;
}

// The preferred place if it is free, else (a relocatable kernel) any other.
Result<std::uint64_t> place_kernel(const MemoryMap& map, const KernelHeader& header, std::span<const Extent> busy) {
    const Extent preferred{header.preferred, header.init_size};
    if (header.preferred % kPage == 0 && preferred.end() <= kBelow4GiB && map.usable(preferred) &&
        std::ranges::none_of(busy, [&](const Extent& extent) { return extent.overlaps(preferred); })) {
        return header.preferred;
    }
    if (!header.relocatable) return {Error::kUnsupported, "kernel: its fixed address is taken", header.preferred};
    return map.find(header.init_size, header.alignment, kBelow4GiB, busy);
}

// The framebuffer of a screen_info (include/uapi/linux/screen_info.h), at least as large as Linux takes it for.
Extent framebuffer(Bytes screen) {
    const auto at = [&]<typename T>(std::size_t offset, T) { return load<T>(screen.data() + offset, Endian::kLittle); };
    constexpr std::uint8_t kVesa = 0x23;  // orig_video_isVGA at 0x0f; lfb_size in units of 64 KiB, else in bytes
    const std::uint64_t unit = at(0x0f, std::uint8_t{}) == kVesa ? 0x10000 : 1;
    const std::uint64_t drawn = std::uint64_t{at(0x14, std::uint16_t{})} * at(0x24, std::uint16_t{});
    return {at(0x18, std::uint32_t{}) | std::uint64_t{at(0x3a, std::uint32_t{})} << 32,
            std::max(at(0x1c, std::uint32_t{}) * unit, drawn)};
}

void write_gdt(MutableBytes gdt) {
    put<std::uint64_t>(gdt, std::size_t{0x10}, 0x00af9b000000ffff);  // __BOOT_CS: 64-bit code
    put<std::uint64_t>(gdt, std::size_t{0x18}, 0x00cf93000000ffff);  // __BOOT_DS: flat data
}

// One 512 GiB identity map of 1 GiB pages, which every processor with SKINIT has.
void write_page_tables(MutableBytes pml4, MutableBytes pdpt, std::uint64_t pdpt_address) {
    put<std::uint64_t>(pml4, std::size_t{0}, pdpt_address | 0x3);
    for (std::uint64_t i = 0; i < 512; ++i) put<std::uint64_t>(pdpt, std::size_t{8} * i, (i << 30) | 0x83);
}

}  // namespace

Result<EntryState> load_linux(PhysicalView& memory, const MemoryMap& map, const LinuxImage& image) {
    if (!map.usable(image.kernel)) return {Error::kOutOfRange, "kernel", image.kernel.base};
    const MutableBytes file = memory.at(image.kernel.base, image.kernel.length);
    GATEHOUSE_ASSIGN(const KernelHeader header, parse_header(file));

    if (image.initrd.length != 0) {
        if (!map.usable(image.initrd)) return {Error::kOutOfRange, "initrd", image.initrd.base};
        if (image.initrd.end() - 1 > header.ramdisk_max) return {Error::kOutOfRange, "initrd", image.initrd.base};
        if (image.initrd.overlaps(image.kernel)) return {Error::kOverlap, "initrd and kernel", image.initrd.base};
    }
    if (image.command_line.size() > std::min<std::size_t>(header.command_line_max, kMaxCommandLine)) {
        return {Error::kBadLength, "command line", image.command_line.size()};
    }
    if (std::ranges::find(image.command_line, std::byte{0}) != image.command_line.end()) {
        return {Error::kBadValue, "command line: zero byte"};
    }

    std::array<Extent, 3> busy{image.initrd, image.kernel, {}};
    const bool has_initrd = image.initrd.length != 0;
    const auto taken = std::span(busy).subspan(has_initrd ? 0 : 1);
    GATEHOUSE_ASSIGN(const std::uint64_t kernel, place_kernel(map, header, taken.first(has_initrd ? 2 : 1)));
    busy[2] = {kernel, header.init_size};
    GATEHOUSE_ASSIGN(const std::uint64_t block, map.find(kBlockSize, kPage, kBelow4GiB, taken));

    const MutableBytes setup = memory.at(block, kBlockSize);
    std::ranges::fill(setup, std::byte{0});
    const MutableBytes params = setup.subspan(kParamsAt, kPage);
    const auto header_at = static_cast<std::size_t>(Setup::kHeader);
    copy_bytes(params.subspan(header_at), Bytes(file).subspan(header_at, header.header_end - header_at));
    put<std::uint8_t>(params, Setup::kTypeOfLoader, 0xff);
    put<std::uint8_t>(params, Setup::kLoadFlags, field<std::uint8_t>(params, Setup::kLoadFlags) | 1);
    put(params, Setup::kRamdiskImage, static_cast<std::uint32_t>(has_initrd ? image.initrd.base : 0));
    put(params, Setup::kRamdiskSize, static_cast<std::uint32_t>(image.initrd.length));
    put(params, Setup::kCommandLine, static_cast<std::uint32_t>(block + kCommandLineAt));
    put(params, Zero::kRsdp, image.rsdp);
    if (map.is_no_ram(framebuffer(image.screen))) copy_bytes(params, image.screen);
    put(params, Zero::kE820Entries, static_cast<std::uint8_t>(map.ranges().size()));
    std::size_t at = 0;
    for (const MemoryRange& range : map.ranges()) {
        put(params, Zero::kE820Table, range.base, at);
        put(params, Zero::kE820Table, range.length, at + 8);
        put(params, Zero::kE820Table, static_cast<std::uint32_t>(range.type), at + 16);
        at += 20;
    }
    copy_bytes(setup.subspan(kCommandLineAt), image.command_line);
    write_gdt(setup.subspan(kGdtAt, kPage));
    write_page_tables(setup.subspan(kPml4At, kPage), setup.subspan(kPdptAt, kPage), block + kPdptAt);

    const Bytes code = Bytes(file).subspan(header.setup_size);
    copy_bytes(memory.at(kernel, header.init_size), code);
    return EntryState{.rip = kernel + kEntry64,
                      .rsi = block + kParamsAt,
                      .rsp = block + kStackTop,
                      .cr3 = block + kPml4At,
                      .gdt_base = block + kGdtAt,
                      .gdt_limit = 0x1f};
}

}  // namespace gatehouse::guest
