#include "hypervisor/launcher/multiboot.hpp"

#include <algorithm>

namespace gatehouse::launcher {
namespace {

enum class Tag : std::uint32_t {
    kEnd = 0,
    kCommandLine = 1,
    kModule = 3,
    kMemoryMap = 6,
    kFramebuffer = 8,
    kEfi32 = 11,
    kEfi64 = 12,
    kOldAcpi = 14,
    kNewAcpi = 15,
    kEfiMemoryMap = 17,
    kEfiBootServices = 18,
};

constexpr std::size_t kTagHeaderSize = 8;

// Text up to its terminating zero, which must be there.
Result<std::string_view> read_string(Bytes bytes) {
    const auto end = std::ranges::find(bytes, std::byte{0});
    if (end == bytes.end()) return {Error::kBadLength, "multiboot string", bytes.size()};
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(end - bytes.begin()));
}

std::string_view next_word(std::string_view& text) {
    const auto start = std::ranges::find_if(text, [](char character) { return character != ' '; });
    const auto end = std::find(start, text.end(), ' ');
    text = {end, text.end()};
    return {start, end};
}

Status add_memory(launch::LaunchBlock& block, const launch::MemoryRange& range) {
    if (range.length == 0) return {};
    if (range.length > ~range.base) return {Error::kBadLength, "multiboot memory map", range.base};
    if (block.memory_count == block.memory.size()) return {Error::kNoSpace, "multiboot memory map"};
    block.memory[block.memory_count++] = range;
    return {};
}

// Memory map types (Multiboot2 3.6.8) are E820's, but all that are not named there mean reserved.
launch::MemoryType known_type(std::uint32_t type) {
    return type == 1 || (type >= 3 && type <= 5) ? launch::MemoryType{type} : launch::MemoryType::kReserved;
}

Status read_memory_map(Reader tag, launch::LaunchBlock& block) {
    const std::size_t entry_size = tag.u32();
    tag.skip(4);  // version
    if (entry_size < 24) return {Error::kBadLength, "multiboot memory map entry", entry_size};
    block.memory_count = 0;
    while (tag.remaining() >= entry_size) {
        Reader entry(tag.bytes(entry_size));
        const launch::MemoryRange range{.base = entry.u64(), .length = entry.u64(), .type = known_type(entry.u32())};
        GATEHOUSE_TRY(add_memory(block, range));
    }
    return {};
}

// E820 type of a UEFI memory type after ExitBootServices (UEFI 2.10, table 7.6; ACPI 6.5, table 15.6).
launch::MemoryType e820_type(std::uint32_t efi_type) {
    switch (efi_type) {
        case 1:
        case 2:
        case 3:
        case 4:
        case 7: return launch::MemoryType::kUsable;  // loader, boot services, conventional
        case 8: return launch::MemoryType::kUnusable;
        case 9: return launch::MemoryType::kAcpi;  // reclaimable
        case 10: return launch::MemoryType::kNvs;
        default: return launch::MemoryType::kReserved;
    }
}

Status read_efi_memory_map(Reader tag, launch::LaunchBlock& block) {
    const std::size_t entry_size = tag.u32();
    tag.skip(4);  // version
    if (entry_size < 40) return {Error::kBadLength, "multiboot UEFI memory map entry", entry_size};
    while (tag.remaining() >= entry_size) {
        Reader entry(tag.bytes(entry_size));
        const std::uint32_t type = entry.u32();
        entry.skip(4);
        const std::uint64_t base = entry.u64();
        entry.skip(8);
        const std::uint64_t pages = entry.u64();
        if (pages > ~0ull >> 12) return {Error::kBadLength, "multiboot UEFI memory map", base};
        GATEHOUSE_TRY(add_memory(block, {.base = base, .length = pages << 12, .type = e820_type(type)}));
    }
    return {};
}

Status add_module(BootInformation& information, std::string_view role, const Extent& extent) {
    constexpr std::pair<std::string_view, launch::ModuleRole> kRoles[] = {
        {"policy", launch::ModuleRole::kPolicy},
        {"approval", launch::ModuleRole::kApproval},
        {"kernel", launch::ModuleRole::kKernel},
        {"initrd", launch::ModuleRole::kInitrd},
        {"command-line", launch::ModuleRole::kCommandLine},
        {"record", launch::ModuleRole::kRecord},
        {"machine-approval", launch::ModuleRole::kMachineApproval},
    };
    if (role == "slb" || role == "hypervisor") {
        Extent& place = role == "slb" ? information.slb : information.hypervisor;
        if (place.length != 0) return {Error::kBadValue, "module role given twice", extent.base};
        place = extent;
        return {};
    }
    launch::LaunchBlock& block = information.launch;
    for (const auto& [name, value] : kRoles) {
        if (name != role) continue;
        if (block.module(value) != nullptr) return {Error::kBadValue, "module role given twice", extent.base};
        block.modules[block.module_count++] = {.role = value, .address = extent.base, .size = extent.length};
        return {};
    }
    return {Error::kNotFound, "module with an unknown role", extent.base};
}

Status read_module(Reader tag, BootInformation& information) {
    const std::uint64_t start = tag.u32();
    const std::uint64_t end = tag.u32();
    GATEHOUSE_ASSIGN(std::string_view text, read_string(tag.rest()));
    if (end <= start) return {Error::kBadValue, "module that ends where it starts, or before", start};
    return add_module(information, next_word(text), {start, end - start});
}

struct Framebuffer {
    std::uint64_t address = 0;
    std::uint32_t pitch = 0;
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::uint8_t bits_per_pixel = 0;
    std::array<std::uint8_t, 6> colours{};  // position and size of red, green and blue
};

// Linux's struct screen_info (include/uapi/linux/screen_info.h): 80 by 25 characters, or the framebuffer.
void write_screen_info(const Framebuffer& screen, bool uefi, MutableBytes out) {
    const auto put = [&](std::size_t at, auto value) { store(out.data() + at, value, Endian::kLittle); };
    if (screen.address == 0) {
        put(0x06, std::uint8_t{3});    // orig_video_mode
        put(0x07, std::uint8_t{80});   // orig_video_cols
        put(0x0e, std::uint8_t{25});   // orig_video_lines
        put(0x0f, std::uint8_t{1});    // orig_video_isVGA
        put(0x10, std::uint16_t{16});  // orig_video_points
        return;
    }
    const std::uint64_t size = std::uint64_t{screen.pitch} * screen.height;
    put(0x0f, std::uint8_t{uefi ? std::uint8_t{0x70} : std::uint8_t{0x23}});
    put(0x12, static_cast<std::uint16_t>(screen.width));
    put(0x14, static_cast<std::uint16_t>(screen.height));
    put(0x16, std::uint16_t{screen.bits_per_pixel});
    put(0x18, static_cast<std::uint32_t>(screen.address));
    put(0x1c, static_cast<std::uint32_t>(uefi ? size : (size + 0xffff) >> 16));
    put(0x24, static_cast<std::uint16_t>(screen.pitch));
    for (std::size_t i = 0; i < 6; ++i) put(0x26 + i, screen.colours[i ^ 1]);  // size, then position
    put(0x36, screen.address >> 32 != 0 ? 2u : 0u);                            // 64-bit base
    put(0x3a, static_cast<std::uint32_t>(screen.address >> 32));
}

Status read_framebuffer(Reader tag, BootInformation& information, Framebuffer& framebuffer) {
    Framebuffer screen{
        .address = tag.u64(), .pitch = tag.u32(), .width = tag.u32(), .height = tag.u32(), .bits_per_pixel = tag.u8()};
    const std::uint8_t type = tag.u8();
    tag.skip(2);
    GATEHOUSE_TRY(tag.status("multiboot framebuffer"));
    constexpr std::uint8_t kRgb = 1;
    constexpr std::uint8_t kText = 2;
    if (type == kRgb) {
        for (std::uint8_t& field : screen.colours) field = tag.u8();
        framebuffer = screen;
    }
    information.text_screen = type == kText && screen.address == 0xb8000;
    return tag.status("multiboot framebuffer");
}

// The revision-0 RSDP has 20 bytes.
Status read_rsdp(Bytes rsdp, std::size_t size, BootInformation& information) {
    if (rsdp.size() < size) return {Error::kBadLength, "multiboot RSDP", rsdp.size()};
    information.launch.rsdp = {};
    copy_bytes(information.launch.rsdp, rsdp.first(size));
    information.has_rsdp = true;
    return {};
}

Status read_command_line(Bytes bytes, BootInformation& information) {
    GATEHOUSE_ASSIGN(const std::string_view text, read_string(bytes));
    const std::size_t size = std::min(text.size(), information.command_line.size() - 1);
    std::copy_n(text.begin(), size, information.command_line.begin());
    return {};
}

}  // namespace

bool BootInformation::has_option(std::string_view option) const {
    std::string_view rest(command_line.data());
    while (!rest.empty()) {
        if (next_word(rest) == option) return true;
    }
    return false;
}

Status parse_multiboot(Bytes bytes, BootInformation& information) {
    Reader whole(bytes);
    const std::size_t total = whole.u32();
    whole.skip(4);
    if (whole.failed() || total < 16 || total > bytes.size()) {
        return {Error::kBadLength, "multiboot information size", total};
    }
    Bytes efi_memory_map;
    Framebuffer framebuffer;
    bool has_new_rsdp = false;
    Reader reader(bytes.subspan(8, total - 8));
    for (;;) {
        Reader header = reader;
        const auto type = Tag{header.u32()};
        const std::size_t size = header.u32();
        GATEHOUSE_TRY(header.status("multiboot tag"));
        if (size < kTagHeaderSize || size > reader.remaining()) return {Error::kBadLength, "multiboot tag", size};
        const Bytes body = reader.bytes(size).subspan(kTagHeaderSize);
        switch (type) {
            case Tag::kEnd:
                write_screen_info(framebuffer, information.uefi, information.launch.screen);
                if (information.launch.memory_count == 0 && !efi_memory_map.empty()) {
                    return read_efi_memory_map(Reader(efi_memory_map), information.launch);
                }
                return {};
            case Tag::kCommandLine: GATEHOUSE_TRY(read_command_line(body, information)); break;
            case Tag::kModule: GATEHOUSE_TRY(read_module(Reader(body), information)); break;
            case Tag::kMemoryMap: GATEHOUSE_TRY(read_memory_map(Reader(body), information.launch)); break;
            case Tag::kFramebuffer: GATEHOUSE_TRY(read_framebuffer(Reader(body), information, framebuffer)); break;
            case Tag::kEfi32:
            case Tag::kEfi64: information.uefi = true; break;
            case Tag::kOldAcpi:
                if (!has_new_rsdp) GATEHOUSE_TRY(read_rsdp(body, 20, information));
                break;
            case Tag::kNewAcpi:
                GATEHOUSE_TRY(read_rsdp(body, launch::kRsdpSize, information));
                has_new_rsdp = true;
                break;
            case Tag::kEfiMemoryMap:
                information.uefi = true;
                efi_memory_map = body;
                break;
            case Tag::kEfiBootServices: return {Error::kState, "boot services still run"};
        }
        reader.skip(std::min((8 - size % 8) % 8, reader.remaining()));
    }
}

}  // namespace gatehouse::launcher
