#include "tests/attacks/launcher/operations.hpp"

#include <algorithm>
#include <cstddef>

#include "hypervisor/base/log.hpp"
#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::launcher::attack {
namespace {

struct File {
    std::string_view name;
    Extent extent;
};
constinit std::array<File, 8> files{};
constinit std::size_t file_count = 0;
constinit std::string_view script;
constinit std::uint64_t kept_base = 0;
constinit std::uint64_t usable_end = 0;  // below 4 GiB

std::byte* at(std::uint64_t address) { return reinterpret_cast<std::byte*>(address); }
template <typename T>
T get(std::uint64_t address) {
    return load<T>(at(address), Endian::kLittle);
}

std::string_view next_word(std::string_view& text) {
    const auto start = std::ranges::find_if(text, [](char character) { return character != ' '; });
    const auto end = std::find(start, text.end(), ' ');
    text = {end, text.end()};
    return {start, end};
}

std::uint64_t number(std::string_view word) {
    std::uint64_t value = 0;
    constexpr std::string_view kKept = "kept+";
    if (word.starts_with(kKept)) return kept_base + number({word.begin() + kKept.size(), word.end()});
    constexpr std::string_view kTop = "top-";
    if (word.starts_with(kTop)) return usable_end - number({word.begin() + kTop.size(), word.end()});
    const bool hexadecimal = word.starts_with("0x");
    if (hexadecimal) word.remove_prefix(2);
    for (const char digit : word) {
        const int lower = digit | 0x20;
        value =
            value * (hexadecimal ? 16 : 10) + static_cast<std::uint64_t>(lower >= 'a' ? lower - 'a' + 10 : digit - '0');
    }
    return value;
}

struct Operation {
    std::string_view name;
    std::array<std::string_view, 5> word{};
    [[nodiscard]] std::uint64_t operator[](std::size_t i) const { return number(word[i]); }
};

template <typename Visit>
void for_each_operation(Visit&& visit) {
    for (std::string_view rest = script; !rest.empty();) {
        const auto end = std::ranges::find(rest, '\n');
        std::string_view line(rest.begin(), end);
        rest = {end == rest.end() ? end : end + 1, rest.end()};
        Operation operation{.name = next_word(line)};
        for (std::string_view& word : operation.word) word = next_word(line);
        if (!operation.name.empty() && operation.name[0] != '#') visit(operation);
    }
}

bool asked(std::string_view name) {
    bool found = false;
    for_each_operation([&](const Operation& operation) { found |= operation.name == name; });
    return found;
}

const File* file(std::string_view name) {
    for (const File& each : files) {
        if (each.extent.length != 0 && each.name == name) return &each;
    }
    log("attack: no file ", name);
    return nullptr;
}

void mend(std::byte* table, std::size_t size, std::size_t where) {
    table[where] = std::byte{0};
    unsigned sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += std::to_integer<unsigned>(table[i]);
    table[where] = static_cast<std::byte>(-sum);
}

// --- memory map and ACPI ---

void add_range(launch::LaunchBlock& block, std::uint64_t base, std::uint64_t length, std::uint64_t type) {
    block.memory[block.memory_count++] = {
        .base = base, .length = length, .type = static_cast<launch::MemoryType>(type)};
}

void carve(launch::LaunchBlock& block, std::uint64_t base, std::uint64_t length, std::uint64_t type) {
    for (launch::MemoryRange& range : block.memory) {
        const std::uint64_t end = range.base + range.length;
        if (range.type != launch::MemoryType::kUsable || range.base > base || end < base + length) continue;
        const std::uint64_t start = range.base;
        range = {.base = base, .length = length, .type = static_cast<launch::MemoryType>(type)};
        if (base > start) add_range(block, start, base - start, 1);
        if (end > base + length) add_range(block, base + length, end - base - length, 1);
        return;
    }
    log("attack: nothing to carve at ", Hex{base});
}

// A root table of 32-bit addresses, whatever the machine's own is.
constexpr std::size_t kMaxTables = 60;
alignas(16) constinit std::array<std::byte, 36 + 4 * kMaxTables> root_table{};

template <typename Visit>
void for_each_table(const launch::LaunchBlock& block, Visit&& visit) {
    const bool extended = block.rsdp[15] != std::byte{0};
    const std::uint64_t root = load<std::uint32_t>(block.rsdp.data() + (extended ? 24 : 16), Endian::kLittle);
    const std::uint64_t end = root + get<std::uint32_t>(root + 4);
    for (std::uint64_t entry = root + 36; entry < end; entry += extended ? 8 : 4) visit(get<std::uint32_t>(entry));
}

void add_table(launch::LaunchBlock& block, const Extent& table) {
    std::size_t size = 36;
    const auto append = [&](std::uint64_t address) {
        store<std::uint32_t>(root_table.data() + size, static_cast<std::uint32_t>(address), Endian::kLittle);
        size += 4;
    };
    for_each_table(block, append);
    append(table.base);
    std::memcpy(root_table.data(), "RSDT", 4);
    store<std::uint32_t>(root_table.data() + 4, static_cast<std::uint32_t>(size), Endian::kLittle);
    root_table[8] = std::byte{1};
    mend(root_table.data(), size, 9);
    const auto root = static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(root_table.data()));
    std::memset(block.rsdp.data() + 20, 0, 16);
    block.rsdp[15] = std::byte{0};
    store<std::uint32_t>(block.rsdp.data() + 16, root, Endian::kLittle);
    mend(block.rsdp.data(), 20, 8);
}

void hide_aps(const launch::LaunchBlock& block) {
    for_each_table(block, [](std::uint64_t table) {
        if (std::memcmp(at(table), "APIC", 4) != 0) return;
        const std::uint64_t end = table + get<std::uint32_t>(table + 4);
        for (std::uint64_t entry = table + 44; entry < end; entry += get<std::uint8_t>(entry + 1)) {
            if (get<std::uint8_t>(entry) == 0 && get<std::uint8_t>(entry + 3) != 0) std::memset(at(entry + 4), 0, 4);
        }
        mend(at(table), end - table, 9);
    });
}

void change_table(const launch::LaunchBlock& block, const Operation& operation) {
    for_each_table(block, [&](std::uint64_t table) {
        if (std::memcmp(at(table), operation.word[0].data(), 4) != 0) return;
        *at(table + operation[1]) = static_cast<std::byte>(operation[2]);
        mend(at(table), get<std::uint32_t>(table + 4), 9);
    });
}

// --- the last thing ---

void poke(std::uint64_t address, std::uint64_t size, std::uint64_t value) {
    switch (size) {
        case 1: *reinterpret_cast<volatile std::uint8_t*>(address) = static_cast<std::uint8_t>(value); break;
        case 2: *reinterpret_cast<volatile std::uint16_t*>(address) = static_cast<std::uint16_t>(value); break;
        case 4: *reinterpret_cast<volatile std::uint32_t*>(address) = static_cast<std::uint32_t>(value); break;
        default: *reinterpret_cast<volatile std::uint64_t*>(address) = value;
    }
}

// BLOCK in harness.py.
static_assert(offsetof(launch::LaunchHeader, hypervisor_size) == 12 &&
              offsetof(launch::LaunchHeader, kept_base) == 16 && offsetof(launch::LaunchBlock, module_count) == 60 &&
              offsetof(launch::LaunchBlock, memory_count) == 128);

// A module's entry in the written block, 0 without one.
std::uint64_t entry_of(std::uint64_t block, std::uint64_t role) {
    constexpr std::uint64_t kModules = offsetof(launch::LaunchBlock, modules);
    for (std::uint64_t i = 0; i < get<std::uint32_t>(block + offsetof(launch::LaunchBlock, module_count)); ++i) {
        if (get<std::uint32_t>(block + kModules + 24 * i) == role) return block + kModules + 24 * i;
    }
    log("attack: no module of role ", role);
    return 0;
}

}  // namespace

Status parse_multiboot(Bytes bytes, BootInformation& information) {
    constexpr std::uint32_t kModule = 3;
    constexpr std::uint32_t kNothing = 0x7fff;
    auto* base = const_cast<std::byte*>(bytes.data());
    for (std::size_t tag = 8; tag + 16 < bytes.size() && load<std::uint32_t>(base + tag, Endian::kLittle) != 0;
         tag += (load<std::uint32_t>(base + tag + 4, Endian::kLittle) + 7) & ~7u) {
        if (load<std::uint32_t>(base + tag, Endian::kLittle) != kModule) continue;
        std::string_view text(reinterpret_cast<const char*>(base + tag + 16));
        const std::string_view kind = next_word(text);
        if (kind != "attack" && kind != "file") continue;
        const std::uint64_t start = load<std::uint32_t>(base + tag + 8, Endian::kLittle);
        const std::uint64_t end = load<std::uint32_t>(base + tag + 12, Endian::kLittle);
        if (kind == "attack") script = {reinterpret_cast<const char*>(start), end - start};
        files[file_count++] = {.name = kind == "attack" ? kind : next_word(text), .extent = {start, end - start}};
        store<std::uint32_t>(base + tag, kNothing, Endian::kLittle);
    }
    return launcher::parse_multiboot(bytes, information);
}

Result<Placement> place(BootInformation& information, std::span<const Extent> busy) {
    launch::LaunchBlock& block = information.launch;
    std::array<Extent, 16> all{};
    std::size_t count = 0;
    for (const Extent& extent : busy) all[count++] = extent;
    for (const File& each : std::span(files).first(file_count)) all[count++] = {each.extent.base, each.extent.length};
    for (const launch::MemoryRange& range : block.all_memory()) {
        const std::uint64_t end = (range.base + range.length) & ~0xfffull;
        if (range.type == launch::MemoryType::kUsable && end <= 0x100000000) usable_end = std::max(usable_end, end);
    }
    for_each_operation([&](const Operation& operation) {
        log("attack: ", operation.name, " ", operation.word[0], " ", operation.word[1], " ", operation.word[2]);
        if (operation.name == "carve") carve(block, operation[0], operation[1], operation[2]);
        for (launch::MemoryRange& range : std::span(block.memory).first(block.memory_count)) {
            if (operation.name != "retype" || operation[0] - range.base >= range.length) continue;
            range.type = static_cast<launch::MemoryType>(operation[1]);
        }
        if (operation.name == "acpi") change_table(block, operation);
        if (operation.name == "hide-aps") hide_aps(block);
        const File* table = operation.name == "table" ? file(operation.word[0]) : nullptr;
        if (table != nullptr) add_table(block, table->extent);
        if (operation.name == "rsdp")
            block.rsdp[operation[0] % block.rsdp.size()] = static_cast<std::byte>(operation[1]);
    });
    GATEHOUSE_ASSIGN(Placement placement, launcher::place(information, std::span(all).first(count)));
    for_each_operation([&](const Operation& operation) {
        if (operation.name == "range") add_range(block, operation[0], operation[1], operation[2]);
        if (operation.name == "kept") placement.kept_base = operation[0];
    });
    kept_base = placement.kept_base;
    for_each_operation([&](const Operation& operation) {
        if (operation.name != "place") return;
        for (std::size_t i = 0; i < block.module_count; ++i) {
            if (static_cast<std::uint64_t>(block.modules[i].role) == operation[0]) placement.modules[i] = operation[1];
        }
    });
    return placement;
}

// The launch block has just been written.
void relinquish_tpm() {
    const std::uint64_t block = kept_base + launch::kLaunchBlockOffset;
    for_each_operation([&](const Operation& operation) {
        if (operation.name == "block") poke(block + operation[0], operation[1], operation[2]);
        const std::size_t field = operation.name == "role" ? 0 : operation.name == "address" ? 8 : 16;
        if (field == 16 && operation.name != "size") return;
        const std::uint64_t entry = entry_of(block, operation[0]);
        if (entry != 0) poke(entry + field, field == 0 ? 4 : 8, operation[1]);
    });
    if (!asked("no-relinquish")) launcher::relinquish_tpm();
}

// The other processors execute WRMSR of each "ap-msr", in real mode, and halt; then they are parked as ever.
void write_msrs_of_others() {
    constexpr std::uint64_t kPage = 0x8000;
    constexpr std::uint64_t kInterruptCommand = 0xfee00300;  // INIT, then SIPI, to all others (APM vol. 2, 16.5)
    std::uint64_t code = kPage;
    const auto byte = [&](std::uint64_t value) { poke(code++, 1, value); };
    const auto load_register = [&](std::uint64_t opcode, std::uint64_t value) {
        byte(0x66);
        byte(opcode);
        poke(code, 4, value);
        code += 4;
    };
    for_each_operation([&](const Operation& operation) {
        if (operation.name != "ap-msr") return;
        load_register(0xb9, operation[0]);        // mov ecx
        load_register(0xb8, operation[1]);        // mov eax
        load_register(0xba, operation[1] >> 32);  // mov edx
        byte(0x0f);
        byte(0x30);  // wrmsr
    });
    poke(code, 4, 0xfdebf4);  // hlt; jmp to it
    for (const std::uint64_t command : {std::uint64_t{0x000c4500}, 0x000c4600 | kPage >> 12}) {
        poke(kInterruptCommand, 4, command);
        const std::uint64_t start = platform::microseconds();
        while (platform::microseconds() - start < 20'000) asm volatile("pause");
    }
}

void park_other_cpus() {
    if (asked("ap-msr")) write_msrs_of_others();
    if (!asked("no-park")) launcher::park_other_cpus();
}

void enable_svm() {
    launcher::enable_svm();
    for_each_operation([](const Operation& operation) {
        if (operation.name == "poke") poke(operation[0], operation[1], operation[2]);
        if (operation.name == "msr") platform::write_msr(Msr{static_cast<std::uint32_t>(operation[0])}, operation[1]);
        if (operation.name == "out8") {
            platform::out(platform::Port<std::uint8_t>{static_cast<std::uint16_t>(operation[0])},
                          static_cast<std::uint8_t>(operation[1]));
        }
        if (operation.name == "config") {
            platform::write_config(static_cast<platform::FunctionId>(operation[0]),
                                   static_cast<std::uint16_t>(operation[1]), static_cast<unsigned>(operation[2]),
                                   static_cast<std::uint32_t>(operation[3]));
        }
        constexpr std::uint64_t kRequestUse = 2;  // TPM_ACCESS (PTP 1.05, 6.5.2.4)
        if (operation.name == "locality") poke(0xfed40000 + 0x1000 * operation[0], 1, kRequestUse);
        const File* source = operation.name == "load" ? file(operation.word[0]) : nullptr;
        if (source != nullptr) std::memcpy(at(operation[1]), at(source->extent.base), source->extent.length);
    });
}

}  // namespace gatehouse::launcher::attack
