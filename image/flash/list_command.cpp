#include "image/flash/list_command.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace gatehouse::flash {
namespace {

using nlohmann::json;

json text_or_null(const std::string& text) { return text.empty() ? json() : json(text); }

std::string sector_text(const DiskFacts& disk) {
    return std::to_string(disk.logical_sector) + "/" + std::to_string(disk.physical_sector);
}

// Columns of a row, each as wide as its widest cell.
std::string table_text(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            line.append(widths[i] - row[i].size() + 2, ' ');
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

}  // namespace

std::string size_text(std::uint64_t bytes) {
    constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
    std::array<char, 32> text{};
    (void)std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
    return text.data();
}

json to_json(const Inventory& inventory) {
    json disks = json::array();
    for (const DiskFacts& disk : inventory.disks) {
        json uses = json::array();
        for (const Use& use : disk.uses) {
            uses.push_back({{"device", use.device}, {"use", name_of(use.kind)}, {"where", text_or_null(use.where)}});
        }
        disks.push_back({{"path", disk.path},
                         {"model", text_or_null(disk.model)},
                         {"serial", text_or_null(disk.serial)},
                         {"size", disk.size},
                         {"logical_sector_size", disk.logical_sector},
                         {"physical_sector_size", disk.physical_sector},
                         {"removable", disk.removable},
                         {"read_only", disk.read_only},
                         {"uses", uses},
                         {"target", disk.refusals.empty()},
                         {"refusals", disk.refusals}});
    }
    return {{"disks", disks}};
}

std::string as_text(const Inventory& inventory) {
    std::vector<std::vector<std::string>> rows{{"DISK", "SIZE", "SECTOR", "MODEL", "SERIAL", "TARGET"}};
    for (const DiskFacts& disk : inventory.disks) {
        const auto cell = [](const std::string& text) { return text.empty() ? "-" : host::one_line(text); };
        const std::string kind = disk.removable ? " (removable)" : "";
        rows.push_back({host::one_line(disk.path), size_text(disk.size) + kind, sector_text(disk), cell(disk.model),
                        cell(disk.serial), disk.refusals.empty() ? "yes" : "no: " + cell(disk.refusals.front())});
        for (std::size_t i = 1; i < disk.refusals.size(); ++i) {
            rows.push_back({"", "", "", "", "", "    " + cell(disk.refusals[i])});
        }
    }
    return table_text(rows);
}

}  // namespace gatehouse::flash
