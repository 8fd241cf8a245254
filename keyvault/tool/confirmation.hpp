// What an operator says before something that cannot be taken back.
#pragma once

#include <functional>

#include "keyvault/host_support/disk.hpp"

namespace gatehouse::host {

struct Confirmation {
    bool yes = false;    // confirmed
    std::string serial;  // confirmed for the device with this serial number
};

// Asks, unless it is confirmed: the first eight hex digits of `what` are wanted as an answer; false if there is nobody to ask.
using Ask = std::function<bool(const std::string& what, const std::string& digits, std::string& answer)>;
// On the terminal, if standard input is one; and any question.
[[nodiscard]] bool ask_line(const std::string& question, std::string& answer);
[[nodiscard]] bool ask_on_terminal(const std::string& what, const std::string& digits, std::string& answer);

// ToolError (usage) unless it is confirmed, or by the answer; `id` is `what`, in hex.
void confirm(const Disk& disk, const Confirmation& confirmation, const std::string& what, const std::string& id,
             const Ask& ask);

}  // namespace gatehouse::host
