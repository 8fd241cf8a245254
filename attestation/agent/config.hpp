// The agent's configuration: /etc/gatehouse/agent.toml, and what the command line changes of it. agent.toml
// beside this file is the manual of its keys.
#pragma once

#include <string>

namespace gatehouse::agent {

inline constexpr const char* kConfigFile = "/etc/gatehouse/agent.toml";

struct Config {
    std::string server;
    std::string ca_file;
    std::string ca_pin;
    std::string state = "/var/lib/gatehouse-agent";
    std::string source = "channel";
    std::string hostname;
    unsigned interval_s = 300;
    std::string token_file;
    std::string firmware_log = "/sys/kernel/security/tpm0/binary_bios_measurements";
};

// ToolError (usage) naming file, line and key: a key that is not known is an error.
[[nodiscard]] Config parse_config(const std::string& toml, const std::string& path);
// The file's; the defaults if `path` is kConfigFile and not there.
[[nodiscard]] Config read_config(const std::string& path);
// ToolError (usage) if something that every command needs is missing; fills in the hostname.
void complete_config(Config& config);

}  // namespace gatehouse::agent
