#include "keyvault/tool/confirmation.hpp"

#include <unistd.h>

#include <iostream>

#include "keyvault/tool/disk_serial.hpp"

namespace gatehouse::host {

bool ask_line(const std::string& question, std::string& answer) {
    if (::isatty(STDIN_FILENO) != 1) return false;
    std::cerr << question << std::flush;
    std::getline(std::cin, answer);
    return true;
}

bool ask_on_terminal(const std::string& what, const std::string& digits, std::string& answer) {
    return ask_line("To go on, type the first eight hex digits of the " + what + " (" + digits + "): ", answer);
}

void confirm(const Disk& disk, const Confirmation& confirmation, const std::string& what, const std::string& id,
             const Ask& ask) {
    if (!confirmation.serial.empty()) {
        const std::string serial = disk_serial(disk);
        if (serial == confirmation.serial) return;
        throw ToolError(disk.path() + ": " +
                            (serial.empty() ? "has no serial number; confirm with --yes"
                                            : "its serial number is " + serial + ": another disk than is meant") +
                            " (nothing has been changed)",
                        ExitCode::kUsage);
    }
    if (confirmation.yes) return;
    const std::string digits = id.substr(0, 8);
    std::string answer;
    if (!ask(what, digits, answer)) {
        throw ToolError("standard input is not a terminal: confirm with --yes or --serial (nothing has been changed)",
                        ExitCode::kUsage);
    }
    if (answer != digits) throw ToolError("not confirmed; nothing has been changed", ExitCode::kUsage);
}

}  // namespace gatehouse::host
