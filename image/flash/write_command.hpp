// flash-appliance write: an image onto several disks at once.
#pragma once

#include "image/flash/inventory.hpp"
#include "image/flash/reporter.hpp"
#include "keyvault/tool/confirmation.hpp"

namespace gatehouse::flash {

struct WriteRequest {
    std::string image;
    std::vector<std::string> targets;
    std::string manifest;
    std::string authority;  // PEM, public
    bool dry_run = false;
    bool yes = false;
    bool resume = false;
    bool as_json = false;
};

// Asks who runs the tool; false if there is nobody.
using Ask = std::function<bool(const std::string& question, std::string& answer)>;

// Checks manifest and targets, has each target's serial number typed, checks the image, writes. Nothing is written before all
// of the former is right for all targets. One line or, as JSON, one event on standard output tells how each target ended, what
// went wrong is told on standard error as well; a target that fails stops no other.
// kYes if all went well; else the gravest: kFailure before kNo. ToolError before anything is written.
[[nodiscard]] host::ExitCode write_targets(const WriteRequest& request, const Ask& ask = host::ask_line);

}  // namespace gatehouse::flash
