// The configuration of attestation-server: /etc/gatehouse/server.toml, and what the command line changes of
// it.
//
//   listen = "127.0.0.1:8443"         ADDRESS:PORT, [ADDRESS]:PORT for IPv6; port 0: any free one
//   data = "/var/lib/gatehouse"       master.key and, with SQLite, the database
//   database = "sqlite:PATH"          or "postgresql://..."; default: gatehouse.db in `data`
//   names = ["attest.example"]        of the server, for its certificate; default: the machine's, and
//   localhost tls_certificate = "FILE"          PEM chain and key of another CA; default: one of the server's
//   own CA, tls_key = "FILE"                  made anew at each start issuer = "gatehouse"              who
//   results are by log = "people"                    "journal" (the default under systemd), "json" log_level
//   = "info"                "error", "warning", "notice", "debug" certificate_days = 90             of
//   endpoints' certificates history_days = 90 open_metrics_on_loopback = true   /metrics without a token for
//   local peers
//
//   [limits]                          rates: requests a second, and how many at once
//   anonymous = [50, 200]             by address: without credentials
//   enrollment = [5, 50]              by address: enrollments begun
//   pages = [100, 400]                by address: the web page
//   failures = [0.2, 10]              by address: tokens that fail
//   endpoint = [5, 50]                by endpoint
//   max_connections = 20000
//   workers = 64                      threads for requests
//   queue = 4096                      requests that wait for one
//   loops = 2                         threads for connections
//
//   [timeouts]                        seconds
//   handshake = 10.0
//   head = 10.0
//   body = 30.0
//   idle = 75.0
//   answer = 30.0
//   stop = 20.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/server/http/application.hpp"
#include "attestation/server/http/log.hpp"
#include "attestation/server/http/server.hpp"
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
    unsigned certificate_days = 90, history_days = 90;
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
