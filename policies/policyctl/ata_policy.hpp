// The disk mediator's command policy as operators write it (policies/ata.toml, which says what a file holds), held against
// what the mediator does.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gatehouse::policies {

// A row of the table: commands that are treated alike.
struct CommandClass {
    std::string name;
    std::vector<std::string> commands;  // CODE NAME
    std::string effect;                 // what the mediator does with them
    std::string why;
};

struct AtaPolicy {
    bool trim = false;
    bool show_disks = false;  // those without a vault, read-only
    std::vector<CommandClass> classes;
};

// policies/ata.toml of this release.
[[nodiscard]] std::string_view shipped_ata_policy();

// ToolError (usage) that names `path` and the place: no TOML, unknown or missing keys, a code that is none or is there
// twice, no row "*", or a row that says of a command what the mediator does not do, whatever a bundle says.
[[nodiscard]] AtaPolicy parse_ata_policy(std::string_view toml, const std::string& path);

// The classes as a table in Markdown, of an AtaPolicy.
[[nodiscard]] std::string as_markdown(const AtaPolicy& policy);

}  // namespace gatehouse::policies
