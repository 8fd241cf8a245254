#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include "attestation/server/http/settings.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <cstdlib>
#include <stdexcept>

#include "attestation/server/fetch.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {
namespace {

using host::ExitCode;
using host::ToolError;

// One table of the file: each key is taken once, what is left over is an error.
class Table {
  public:
    Table(const toml::table& table, std::string path, std::string name)
        : table_(table), path_(std::move(path)), name_(std::move(name)) {}

    void text(const char* key, std::string& out) {
        if (const auto* node = take(key)) out = expect<std::string>(*node, key, "a string");
    }
    void flag(const char* key, bool& out) {
        if (const auto* node = take(key)) out = expect<bool>(*node, key, "true or false");
    }
    template <typename Number>
    void number(const char* key, Number& out, std::int64_t least, std::int64_t most) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const auto value = expect<std::int64_t>(*node, key, "a whole number");
        if (value < least || value > most) {
            fail(*node, key, "a number from " + std::to_string(least) + " to " + std::to_string(most));
        }
        out = static_cast<Number>(value);
    }
    void seconds(const char* key, ServerOptions::Duration& out) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const double value = real(*node, key);
        if (!(value >= 0.1 && value <= 3600)) fail(*node, key, "0.1 to 3600 seconds");
        out = ServerOptions::Duration(static_cast<std::int64_t>(value * 1000));
    }
    void rate(const char* key, Rate& out) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const toml::array* const pair = node->as_array();
        if (pair == nullptr || pair->size() != 2) fail(*node, key, "[requests a second, burst]");
        const Rate rate{real(*pair->get(0), key), real(*pair->get(1), key)};
        const bool valid = rate.per_second > 0 && rate.per_second <= 1e9 && rate.burst >= 1 && rate.burst <= 1e9;
        if (!valid) fail(*node, key, "a rate above 0 and a burst of 1 or more");
        out = rate;
    }
    void texts(const char* key, std::vector<std::string>& out) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const toml::array* const items = node->as_array();
        if (items == nullptr) fail(*node, key, "an array of strings");
        out.clear();
        for (const auto& item : *items) out.push_back(expect<std::string>(item, key, "an array of strings"));
    }
    const toml::table* table(const char* key) {
        const auto* node = take(key);
        if (node != nullptr && !node->is_table()) fail(*node, key, "a table");
        return node == nullptr ? nullptr : node->as_table();
    }
    void done() const {
        for (const auto& [key, node] : table_) {
            const bool known = std::ranges::find(taken_, key.str()) != taken_.end();
            if (!known) fail(node, std::string(key.str()), "a known key; this one is not");
        }
    }

  private:
    const toml::node* take(const char* key) {
        taken_.emplace_back(key);
        return table_.get(key);
    }
    [[noreturn]] void fail(const toml::node& node, const std::string& key, const std::string& wanted) const {
        throw ToolError(
            path_ + ":" + std::to_string(node.source().begin.line) + ": " + name_ + key + ": give " + wanted,
            ExitCode::kUsage);
    }
    template <typename T>
    T expect(const toml::node& node, const char* key, const char* wanted) const {
        const auto* const value = node.as<T>();
        if (value == nullptr) fail(node, key, wanted);
        return value->get();
    }
    [[nodiscard]] double real(const toml::node& node, const char* key) const {
        const auto value = node.is_number() ? node.value<double>() : std::nullopt;
        if (!value) fail(node, key, "a number");
        return *value;
    }

    const toml::table& table_;
    std::string path_, name_;
    std::vector<std::string> taken_;
};

void read_limits(const toml::table& from, const std::string& path, Settings& out) {
    Table table(from, path, "limits.");
    table.rate("anonymous", out.application.anonymous);
    table.rate("enrollment", out.application.enrollment);
    table.rate("pages", out.application.pages);
    table.rate("failures", out.application.failures);
    table.rate("endpoint", out.application.endpoint);
    table.number("max_connections", out.server.max_connections, 1, 1'000'000);
    table.number("workers", out.server.workers, 1, 1024);
    table.number("queue", out.server.queue, 1, 1'000'000);
    table.number("loops", out.server.loops, 1, 64);
    table.done();
}

void demand_url(const std::string& url, const std::string& place) {
    try {
        server::demand_fetchable(url);
    } catch (const std::invalid_argument& error) {
        throw ToolError(place + ": " + url + ": " + error.what(), ExitCode::kUsage);
    }
}

void read_crl(const toml::table& from, const std::string& path, server::CrlOptions& out) {
    Table table(from, path, "crl.");
    table.flag("fetch", out.fetch);
    table.texts("urls", out.urls);
    table.text("proxy", out.proxy);
    table.flag("private_addresses", out.private_addresses);
    table.number("most_bytes", out.most_bytes, 1024, 64 << 20);
    table.number("patience_s", out.patience_s, 1, 600);
    table.number("hours", out.hours, 1, 24 * 30);
    table.done();
    for (const std::string& url : out.urls) demand_url(url, path + ": crl.urls");
    if (!out.proxy.empty()) demand_url(out.proxy, path + ": crl.proxy");
}

void read_timeouts(const toml::table& from, const std::string& path, ServerOptions& out) {
    Table table(from, path, "timeouts.");
    table.seconds("handshake", out.handshake);
    table.seconds("head", out.head);
    table.seconds("body", out.body);
    table.seconds("idle", out.idle);
    table.seconds("answer", out.answer);
    table.seconds("stop", out.stop);
    table.done();
}

template <typename Value>
Value choice(const std::string& text, const char* key, std::initializer_list<std::pair<const char*, Value>> choices) {
    std::string known;
    for (const auto& [name, value] : choices) {
        if (text == name) return value;
        known.append(known.empty() ? "" : ", ").append(name);
    }
    throw ToolError(std::string(key) + ": give one of " + known, ExitCode::kUsage);
}

}  // namespace

Settings parse_settings(const std::string& toml_text, const std::string& path) {
    const toml::parse_result parsed = toml::parse(toml_text);
    if (!parsed) {
        throw ToolError(path + ":" + std::to_string(parsed.error().source().begin.line) + ": " +
                            std::string(parsed.error().description()),
                        ExitCode::kUsage);
    }
    Settings out;
    if (std::getenv("JOURNAL_STREAM") != nullptr) out.log_format = LogFormat::kJournal;
    std::string log, level;
    Table table(parsed.table(), path, "");
    table.text("listen", out.listen);
    table.text("data", out.data);
    table.text("database", out.database);
    table.texts("names", out.names);
    table.text("tls_certificate", out.tls_certificate);
    table.text("tls_key", out.tls_key);
    table.text("issuer", out.issuer);
    table.text("log", log);
    table.text("log_level", level);
    table.number("certificate_days", out.certificate_days, 1, 3650);
    table.number("waiting_days", out.waiting_days, 1, 3650);
    table.number("history_days", out.history_days, 1, 36500);
    table.flag("open_metrics_on_loopback", out.application.open_metrics_on_loopback);
    if (const auto* limits = table.table("limits")) read_limits(*limits, path, out);
    if (const auto* crl = table.table("crl")) read_crl(*crl, path, out.crl);
    if (const auto* timeouts = table.table("timeouts")) read_timeouts(*timeouts, path, out.server);
    table.done();
    if (!log.empty()) {
        out.log_format = choice<LogFormat>(
            log, "log", {{"people", LogFormat::kPeople}, {"journal", LogFormat::kJournal}, {"json", LogFormat::kJson}});
    }
    if (!level.empty()) {
        out.log_level = choice<Level>(level, "log_level",
                                      {{"error", Level::kError},
                                       {"warning", Level::kWarning},
                                       {"notice", Level::kNotice},
                                       {"info", Level::kInfo},
                                       {"debug", Level::kDebug}});
    }
    return out;
}

Settings read_settings(const std::string& path) {
    const bool is_default = path.empty();
    const std::string file = is_default ? kConfigFile : path;
    if (is_default && ::access(kConfigFile, F_OK) != 0) return parse_settings("", file);
    const auto bytes = host::read_file(file, 1 << 20);
    return parse_settings(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), file);
}

std::string default_data_directory() {
    if (::geteuid() == 0) return "/var/lib/gatehouse";
    if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/') {
        return std::string(state) + "/gatehouse";
    }
    const char* home = std::getenv("HOME");
    if (home == nullptr) throw ToolError("no directory for the data: give --data", ExitCode::kUsage);
    return std::string(home) + "/.local/state/gatehouse";
}

void apply_listen(const std::string& listen, ServerOptions& options) {
    const auto colon = listen.rfind(':');
    std::string address = listen.substr(0, colon);
    const std::string port = colon == std::string::npos ? "" : listen.substr(colon + 1);
    if (address.size() > 2 && address.front() == '[' && address.back() == ']') {
        address = address.substr(1, address.size() - 2);
    } else if (address.find(':') != std::string::npos) {
        address.clear();
    }
    boost::system::error_code error;
    const auto parsed = boost::asio::ip::make_address(address, error);
    std::uint16_t number = 0;
    const auto [end, fault] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error || port.empty() || fault != std::errc() || end != port.data() + port.size()) {
        throw ToolError("--listen " + listen + ": give ADDRESS:PORT, or [ADDRESS]:PORT for IPv6", ExitCode::kUsage);
    }
    options.address = parsed.to_string();
    options.port = number;
}

server::ServiceOptions service_options(const Settings& settings) {
    server::ServiceOptions options;
    options.directory = settings.data.empty() ? default_data_directory() : settings.data;
    options.database = settings.database.empty() ? "sqlite:" + options.directory + "/gatehouse.db" : settings.database;
    options.issuer = settings.issuer;
    options.certificate_days = settings.certificate_days;
    options.waiting_days = settings.waiting_days;
    options.history_days = settings.history_days;
    options.crl = settings.crl;
    return options;
}

}  // namespace gatehouse::http
