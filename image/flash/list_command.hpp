// flash-appliance list: the disks of this machine, for people and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "image/flash/inventory.hpp"

namespace gatehouse::flash {

// {"disks": [{"path", "model", "serial", "size", "logical_sector_size", "physical_sector_size", "removable", "read_only",
// "uses": [{"device", "use": "mounted"|"swap"|"held", "where"}], "target", "refusals"}]}; sizes in bytes, model and serial null
// if the disk has none.
[[nodiscard]] nlohmann::json to_json(const Inventory& inventory);
// A line for each disk under a heading, with what it may not be a target for in lines below.
[[nodiscard]] std::string as_text(const Inventory& inventory);
// "238.5 GiB"
[[nodiscard]] std::string size_text(std::uint64_t bytes);

}  // namespace gatehouse::flash
