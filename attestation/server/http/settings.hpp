// The configuration of attestation-server: /etc/gatehouse/server.toml, and what the command line changes of
// it. attestation/server/server.toml is the manual of its keys.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/server/http/application.hpp"
#include "attestation/server/http/server.hpp"
#include "attestation/server/http/server_log.hpp"
#include "attestation/server/service.hpp"

namespace gatehouse::http {

inline constexpr const char* kConfigFile = "/etc/gatehouse/server.toml";

struct Settings {
    std::string listen = "127.0.0.1:8443";
    std::string data;
    std::string database;
    std::vector<std::string> names;
    std::string tls_certificate, tls_key;
    std::string issuer = "gatehouse";
    LogFormat log_format = LogFormat::kPeople;
    Level log_level = Level::kInfo;
    unsigned certificate_days = 90, waiting_days = 7, history_days = 90;
    server::CrlOptions crl;
    ApplicationOptions application;
    ServerOptions server;
};

// ToolError (usage) naming file, line and key; a key that is not known is an error.
[[nodiscard]] Settings parse_settings(const std::string& toml, const std::string& path);
// The file's; the defaults if `path` is empty and kConfigFile is not there.
[[nodiscard]] Settings read_settings(const std::string& path);

// /var/lib/gatehouse for root, else $XDG_STATE_HOME/gatehouse or ~/.local/state/gatehouse.
[[nodiscard]] std::string default_data_directory();
// "127.0.0.1:8443" or "[::1]:8443" into the server's options; ToolError (usage).
void apply_listen(const std::string& listen, ServerOptions& options);
[[nodiscard]] server::ServiceOptions service_options(const Settings& settings);

}  // namespace gatehouse::http
