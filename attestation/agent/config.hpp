// The agent's configuration: /etc/gatehouse/agent.toml, and what the command line changes of it.
//
//   server = "https://attest.example:8443"
//   ca_file = "/etc/gatehouse/ca.pem"    who may have certified the server; or, for the first contact:
//   ca_pin = "64 hexadecimal digits"     SHA-256 of the CA's certificate (DER), as the server prints it at
//   its start state = "/var/lib/gatehouse-agent" source = "channel"                   the quote channel; or a
//   TCTI string, "device:/dev/tpmrm0" hostname = "kiosk-17"                default: the machine's interval_s
//   = 300                     at least this often; the server may ask for more often token_file =
//   "/etc/gatehouse/token"  a one-time enrollment token firmware_log =
//   "/sys/kernel/security/tpm0/binary_bios_measurements"
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
