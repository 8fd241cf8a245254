#include "attestation/agent/config.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <limits>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {
namespace {

using host::ToolError;

ToolError wrong(const std::string& path, const toml::node& node, std::string_view key, const char* what) {
    return ToolError(path + ":" + std::to_string(node.source().begin.line) + ": " + std::string(key) + ": " + what,
                     host::ExitCode::kUsage);
}

std::string* text_of(Config& config, std::string_view key) {
    struct Row {
        std::string_view key;
        std::string Config::*member;
    };
    static constexpr std::array<Row, 8> kRows{{{"server", &Config::server},
                                               {"ca_file", &Config::ca_file},
                                               {"ca_pin", &Config::ca_pin},
                                               {"state", &Config::state},
                                               {"source", &Config::source},
                                               {"hostname", &Config::hostname},
                                               {"token_file", &Config::token_file},
                                               {"firmware_log", &Config::firmware_log}}};
    for (const Row& row : kRows) {
        if (row.key == key) return &(config.*row.member);
    }
    return nullptr;
}

}  // namespace

Config parse_config(const std::string& toml, const std::string& path) {
    Config config;
    toml::table table;
    try {
        table = toml::parse(toml, path);
    } catch (const toml::parse_error& error) {
        throw ToolError(
            path + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()),
            host::ExitCode::kUsage);
    }
    for (const auto& [key, node] : table) {
        if (std::string* const text = text_of(config, key.str())) {
            const auto value = node.value_exact<std::string>();
            if (!value) throw wrong(path, node, key.str(), "not a string");
            *text = *value;
        } else if (key.str() == "interval_s") {
            const auto value = node.value_exact<std::int64_t>();
            if (!value || *value < 1 || *value > 86400) throw wrong(path, node, key.str(), "not 1 to 86400");
            config.interval_s = static_cast<unsigned>(*value);
        } else {
            throw wrong(path, node, key.str(), "no such key");
        }
    }
    return config;
}

Config read_config(const std::string& path) {
    constexpr std::size_t kLimit = 65536;
    if (path == kConfigFile && !std::filesystem::exists(path)) return {};
    const host::Buffer bytes = host::read_file(path, kLimit);
    return parse_config(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
}

void complete_config(Config& config) {
    if (config.server.empty()) {
        throw ToolError(std::string("server: not given; set it in ") + kConfigFile + " or with --server",
                        host::ExitCode::kUsage);
    }
    if (config.hostname.empty()) {
        std::array<char, 256> name{};
        config.hostname = gethostname(name.data(), name.size() - 1) == 0 && name[0] != 0 ? name.data() : "unnamed";
    }
}

}  // namespace gatehouse::agent
