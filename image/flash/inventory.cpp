#include "image/flash/inventory.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>

#include "keyvault/host_support/ground.hpp"
#include "keyvault/tool/disk_serial.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ToolError;

constexpr std::size_t kAttributeLimit = 4096;
constexpr std::size_t kTableLimit = std::size_t{16} << 20;
constexpr unsigned kOpticalDrive = 5;  // SCSI peripheral device type (SPC-4, table 139)

// --- Reading

// An attribute in sysfs, without blanks at its ends; empty if it is not there or cannot be read.
std::string attribute(const std::string& path) try {
    const Buffer content = host::read_file(path, kAttributeLimit);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    constexpr std::string_view kBlank(" \t\n\0", 4);
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) return {};
    return std::string(text.substr(first, text.find_last_not_of(kBlank) + 1 - first));
} catch (const ToolError&) {
    return {};
}

template <typename T>
std::optional<T> number(std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// "8:2"
std::optional<std::uint64_t> parse_device(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto major = number<std::uint32_t>(text.substr(0, colon));
    const auto minor = number<std::uint32_t>(text.substr(colon + 1));
    if (!major || !minor) return std::nullopt;
    return device_number(*major, *minor);
}

std::string within(std::string directory, std::string_view name) {
    directory += '/';
    directory += name;
    return directory;
}

// Names in a directory, in order; none if it is not there.
std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    std::ranges::sort(names);
    return names;
}

std::string read_table(const std::string& path) {
    const Buffer content = host::read_file(path, kTableLimit);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
}

// "\040" is a blank (proc(5)).
std::string unescape(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
        if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
            plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

// --- Block devices

// A disk, a partition, or what is made of them.
struct Node {
    std::string disk;  // whose partition it is, or its own name
    std::optional<std::uint64_t> device;
    std::vector<std::string> holders;  // by name
    std::vector<std::string> slaves;   // what it is made of
    std::string mapping;               // device mapper's name for it
};
using Nodes = std::map<std::string, Node>;

Node read_node(const std::string& directory, const std::string& disk) {
    return {.disk = disk,
            .device = parse_device(attribute(directory + "/dev")),
            .holders = names_in(directory + "/holders"),
            .slaves = names_in(directory + "/slaves"),
            .mapping = attribute(directory + "/dm/name")};
}

Nodes read_nodes(const std::string& block) {
    Nodes nodes;
    for (const std::string& name : names_in(block)) {
        nodes[name] = read_node(within(block, name), name);
        for (const std::string& part : names_in(within(block, name))) {
            const std::string directory = within(within(block, name), part);
            if (!attribute(directory + "/partition").empty()) nodes[part] = read_node(directory, name);
        }
    }
    return nodes;
}

// The disks that a node lies on. Slaves may go round in a circle in a tree that is not the kernel's.
void collect_disks(const Nodes& nodes, const std::string& name, std::set<std::string>& seen) {
    const auto node = nodes.find(name);
    if (node == nodes.end() || !seen.insert(name).second) return;
    collect_disks(nodes, node->second.disk, seen);
    for (const std::string& slave : node->second.slaves) collect_disks(nodes, slave, seen);
}

// The node that a table names by "/dev/sda2" or "/dev/mapper/vg-root".
const std::string* node_of_path(const Nodes& nodes, const std::string& path) {
    for (const auto& [name, node] : nodes) {
        if (path == "/dev/" + name || (!node.mapping.empty() && path == "/dev/mapper/" + node.mapping)) return &name;
    }
    return nullptr;
}

// What a loop device is over is none of its slaves to Linux. By its name, and on this machine by its number.
void add_what_loops_are_over(const std::string& root, Nodes& nodes) {
    const std::filesystem::path blocks = root + "/sys/block";
    for (auto& [name, node] : nodes) {
        const std::string file = attribute((blocks / name / "loop/backing_file").string());
        if (file.empty()) continue;
        const std::string* under = node_of_path(nodes, file);
        const dev_t number = root.empty() ? host::device_under_loop(name) : 0;
        for (const auto& [other, its] : nodes) {
            if (number != 0 && its.device == number) under = &other;
        }
        if (under == nullptr) continue;
        node.slaves.push_back(*under);
        nodes[*under].holders.push_back(name);
    }
}

// --- Uses

void add_holders(const Nodes& nodes, std::vector<Use>& uses) {
    for (const auto& [name, node] : nodes) {
        for (const std::string& holder : node.holders) {
            const auto found = nodes.find(holder);
            const std::string mapping = found == nodes.end() ? "" : found->second.mapping;
            std::string holding = holder;
            if (!mapping.empty()) holding.append(" (").append(mapping).append(")");
            uses.push_back({Use::Kind::kHeld, name, std::move(holding)});
        }
    }
}

// Of a line of mountinfo (proc(5)): "36 35 98:0 /root /mount/point options [tag...] - type source options".
void add_mount(const std::string& line, const std::string& place, const Nodes& nodes, std::vector<Use>& uses) {
    std::istringstream words(line);
    std::vector<std::string> fields;
    for (std::string word; words >> word;) fields.push_back(word);
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    const auto device = fields.size() > 4 ? parse_device(fields[2]) : std::nullopt;
    if (!device || dash - fields.begin() < 6 || fields.end() - dash < 3) {
        throw ToolError(place + ": is not understood, so that nobody knows what is mounted");
    }
    // File systems of several devices have a number of their own; their source is one of those devices.
    const std::string* name = node_of_path(nodes, unescape(*(dash + 2)));
    for (const auto& [other, node] : nodes) {
        if (node.device == device) name = &other;
    }
    if (name != nullptr) uses.push_back({Use::Kind::kMounted, *name, unescape(fields[4])});
}

void add_mounts(const std::string& root, const Nodes& nodes, std::vector<Use>& uses) {
    const std::string path = root + "/proc/self/mountinfo";
    std::istringstream lines(read_table(path));
    unsigned at = 0;
    for (std::string line; std::getline(lines, line);) {
        add_mount(line, path + ": line " + std::to_string(++at), nodes, uses);
    }
    if (at == 0) throw ToolError(path + ": is empty, so that nobody knows what is mounted");
}

// "Filename Type Size Used Priority", under a heading. Swap files are on what is mounted.
void add_swaps(const std::string& root, const Nodes& nodes, std::vector<Use>& uses) {
    const std::string path = root + "/proc/swaps";
    if (!std::filesystem::exists(path)) return;  // a kernel without swap
    std::istringstream lines(read_table(path));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) {
        const std::string* const name = node_of_path(nodes, unescape(line.substr(0, line.find_first_of(" \t"))));
        if (name != nullptr) uses.push_back({Use::Kind::kSwap, *name, ""});
    }
}

// --- Disks

DiskFacts read_disk(const std::string& directory, const std::string& name, const Node& node) {
    DiskFacts disk;
    disk.name = name;
    disk.path = "/dev/" + name;
    std::ranges::replace(disk.path, '!', '/');  // sysfs has no '/' in names: cciss!c0d0
    disk.device = node.device.value_or(0);
    disk.model = attribute(directory + "/device/model");
    if (disk.model.empty()) disk.model = attribute(directory + "/device/name");  // MMC
    try {
        disk.serial = host::serial_from(directory);
    } catch (const ToolError&) {  // there, and not to be read: as if there were none
    }
    // In units of 512 bytes, whatever its sectors are.
    const std::uint64_t units = number<std::uint64_t>(attribute(directory + "/size")).value_or(0);
    disk.size = units > UINT64_MAX / 512 ? 0 : units * 512;
    disk.logical_sector = number<std::uint32_t>(attribute(directory + "/queue/logical_block_size")).value_or(0);
    disk.physical_sector = number<std::uint32_t>(attribute(directory + "/queue/physical_block_size")).value_or(0);
    disk.removable = attribute(directory + "/removable") == "1";
    disk.read_only = attribute(directory + "/ro") != "0";
    return disk;
}

// Of hardware, or a loop device that has a file.
bool is_disk(const std::string& directory) {
    return std::filesystem::exists(directory + "/device") || std::filesystem::exists(directory + "/loop/backing_file");
}

void add_refusals(const std::string& directory, DiskFacts& disk) {
    const auto refuse = [&](const std::string& why) { disk.refusals.push_back(why); };
    const auto runs_system = [](const Use& use) { return use.kind == Use::Kind::kMounted && use.where == "/"; };
    if (std::ranges::any_of(disk.uses, runs_system)) refuse("the running system is on it");
    for (const Use& use : disk.uses) refuse(use.text());
    if (!is_disk(directory)) refuse("is no disk, but made of others or of memory");
    if (number<unsigned>(attribute(directory + "/device/type")) == kOpticalDrive) refuse("is a CD or DVD drive");
    if (disk.device == 0) refuse("has no device number");
    if (disk.size == 0) refuse("has no medium");
    if (disk.read_only) refuse("is read-only");
    if (disk.logical_sector != 512 && disk.logical_sector != 4096) {
        refuse("sectors of " + std::to_string(disk.logical_sector) + " bytes are not supported");
    }
}

}  // namespace

const char* name_of(Use::Kind kind) {
    constexpr const char* kNames[] = {"mounted", "swap", "held"};
    return kNames[static_cast<std::size_t>(kind)];
}

std::string Use::text() const {
    switch (kind) {
        case Kind::kMounted: return device + " is mounted at " + where;
        case Kind::kSwap: return device + " is swap";
        case Kind::kHeld: break;
    }
    return device + " is held by " + where;
}

std::uint64_t device_number(std::uint32_t major, std::uint32_t minor) { return ::makedev(major, minor); }

const DiskFacts* Inventory::find(std::uint64_t device) const {
    const auto found = std::ranges::find(disks, device, &DiskFacts::device);
    return found == disks.end() ? nullptr : &*found;
}

Inventory read_inventory(const std::string& root) {
    const std::string block = root + "/sys/block";
    if (!std::filesystem::is_directory(block)) throw ToolError(block + ": is not there; is /sys mounted?");
    Nodes nodes = read_nodes(block);
    add_what_loops_are_over(root, nodes);
    std::vector<Use> uses;
    add_mounts(root, nodes, uses);
    add_swaps(root, nodes, uses);
    add_holders(nodes, uses);

    Inventory inventory;
    std::map<std::string, std::vector<Use>> uses_of;
    for (const Use& use : uses) {
        std::set<std::string> under;
        collect_disks(nodes, use.device, under);
        for (const std::string& name : under) uses_of[name].push_back(use);
    }
    for (const auto& [name, node] : nodes) {
        if (name != node.disk) {
            if (node.device) inventory.disk_of[*node.device] = node.disk;
            continue;
        }
        const std::string directory = within(block, name);
        DiskFacts disk = read_disk(directory, name, node);
        const bool holds_nothing = disk.size == 0 && !is_disk(directory);
        if (attribute(directory + "/hidden") == "1" || holds_nothing) continue;
        disk.uses = uses_of[name];
        add_refusals(directory, disk);
        inventory.disks.push_back(std::move(disk));
    }
    return inventory;
}

const DiskFacts& require_target(const Inventory& inventory, const std::string& path) {
    struct stat about {};
    if (::stat(path.c_str(), &about) != 0) {
        throw ToolError(path + ": " + std::strerror(errno), host::ExitCode::kUsage);
    }
    if (S_ISREG(about.st_mode)) {
        throw ToolError(path + ": a file, not a disk (losetup --find --show FILE makes a disk of it)",
                        host::ExitCode::kUsage);
    }
    if (!S_ISBLK(about.st_mode)) throw ToolError(path + ": not a block device", host::ExitCode::kUsage);
    if (const auto part = inventory.disk_of.find(about.st_rdev); part != inventory.disk_of.end()) {
        throw ToolError(path + ": a partition of /dev/" + part->second + "; name the whole disk",
                        host::ExitCode::kUsage);
    }
    const DiskFacts* const disk = inventory.find(about.st_rdev);
    if (disk == nullptr) throw ToolError(path + ": no disk that holds anything", host::ExitCode::kNo);
    if (disk->refusals.empty()) return *disk;
    std::string reasons;
    for (const std::string& why : disk->refusals) reasons += (reasons.empty() ? "" : "; ") + why;
    throw ToolError(path + ": refused: " + reasons, host::ExitCode::kNo);
}

}  // namespace gatehouse::flash
