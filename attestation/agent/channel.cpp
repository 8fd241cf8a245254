// gatehouse-channel: asks the hypervisor, from inside the guest, what it states about itself. For root.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/agent/device_mailbox.hpp"
#include "attestation/protocol/claims_json.hpp"

namespace gatehouse::agent {
namespace {

constexpr int kFailed = 3;
constexpr int kUsage = 2;

void write_file(const std::filesystem::path& path, Bytes bytes) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) throw ChannelError(path.string() + ": cannot be written");
}

Buffer from_hex(const std::string& text) {
    Buffer bytes;
    if (text.size() % 2 != 0) throw CLI::ValidationError("--nonce", "an odd number of hexadecimal digits");
    for (std::size_t i = 0; i < text.size(); i += 2) {
        std::size_t used = 0;
        const std::string pair = text.substr(i, 2);
        if (!std::isxdigit(static_cast<unsigned char>(pair[0])) ||
            !std::isxdigit(static_cast<unsigned char>(pair[1]))) {
            throw CLI::ValidationError("--nonce", "not hexadecimal");
        }
        bytes.push_back(static_cast<std::byte>(std::stoul(pair, &used, 16)));
    }
    return bytes;
}

unsigned percent(const Conversion& conversion) {
    return static_cast<unsigned>(100 * (static_cast<double>(conversion.done) / static_cast<double>(conversion.total)));
}

void print_status(const evidence::Claims& claims, const std::optional<Conversion>& conversion, bool as_json) {
    nlohmann::ordered_json json = protocol::claims_json(claims);
    if (conversion && conversion->is_active) json["encrypted_percent"] = percent(*conversion);
    if (as_json) {
        std::cout << json.dump(2) << '\n';
        return;
    }
    for (const auto& [key, value] : json.items()) {
        std::cout << key << std::string(key.size() < 20 ? 20 - key.size() : 1, ' ')
                  << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
    }
}

void save_quote(MailboxClient& client, const Buffer& nonce, const std::filesystem::path& directory) {
    const Evidence evidence = client.quote(nonce);
    std::filesystem::create_directories(directory);
    write_file(directory / "quote.msg", evidence.attest);
    write_file(directory / "quote.sig", evidence.signature);
    write_file(directory / "claims.bin", evidence.claims);
    write_file(directory / "eventlog.bin", client.event_log());
    Buffer key(2);  // TPM2B_PUBLIC: its size, big-endian, and the TPMT_PUBLIC
    store(key.data(), static_cast<std::uint16_t>(evidence.key.size()), Endian::kBig);
    key.insert(key.end(), evidence.key.begin(), evidence.key.end());
    write_file(directory / "ak.pub", key);
}

// The next window of a change of the disk's key, or all of them. Without any progress in a minute: ChannelError.
void convert(MailboxClient& client, bool until_done, bool as_json) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::seconds kPatience{60};
    auto moved = Clock::now();
    std::optional<Conversion> now = client.convert(true);
    for (unsigned told = 0; until_done && now && now->is_active;) {
        if (const unsigned part = percent(*now); part != told && isatty(STDERR_FILENO) != 0) {
            std::fprintf(stderr, "\r%u %% have the new key", told = part);
        }
        const std::optional<Conversion> next = client.convert(true);
        if (next && next->done != now->done) moved = Clock::now();
        if (Clock::now() - moved > kPatience) {
            throw ChannelError(
                "convert: no window in a minute: the disk's own commands do not come to an end, or it fails; "
                "`gatehouse-channel log` may say more; go on with the same command");
        }
        if (next && next->done == now->done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        now = next;
    }
    if (until_done && isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\n");
    const bool active = now && now->is_active;
    if (as_json) {
        nlohmann::ordered_json json{{"active", active}, {"was_under_way", now.has_value()}};
        if (now) json.update({{"sectors_done", now->done}, {"sectors", now->total}, {"percent", percent(*now)}});
        std::cout << json.dump(2) << '\n';
    } else if (!now) {
        std::cout << "no change of the disk's key is under way\n";
    } else {
        std::cout << (active ? std::to_string(percent(*now)) + " % of the disk have the new key\n"
                             : "all of the disk has the new key\n");
    }
}

int run(int argc, char** argv) {
    CLI::App app{"Asks the Gatehouse hypervisor under this guest. For root. Exit status: 0 done, 2 usage, 3 failure."};
    app.require_subcommand(1);
    std::string table = kChannelTable;
    app.add_option("--table", table, "the ACPI table that says where the channel is")->capture_default_str();
    bool as_json = false;
    auto* status = app.add_subcommand("status", "what the hypervisor claims");
    status->add_flag("--json", as_json, "print JSON");
    auto* go_on = app.add_subcommand(
        "convert", "go on with a change of the disk's key, or its first encryption, by a window of 256 KiB");
    bool until_done = false;
    go_on->add_flag("--until-done", until_done, "window after window, until all of the disk has its new key");
    go_on->add_flag("--json", as_json, "print JSON");
    auto* log = app.add_subcommand("log", "the hypervisor's log");
    std::string output;
    auto* event_log = app.add_subcommand("event-log", "the launch's event log, TCG crypto-agile format");
    event_log->add_option("-o,--output", output, "where to write it")->required();
    std::string nonce_text;
    auto* quote = app.add_subcommand("quote", "a quote with claims and event log, for `attest verify`");
    quote->add_option("--nonce", nonce_text, "the verifier's nonce, hexadecimal, 16 to 64 bytes")->required();
    quote->add_option("-o,--output", output, "directory for the evidence")->required();
    try {
        app.parse(argc, argv);
        const Buffer nonce = from_hex(nonce_text);
        DeviceMailbox mailbox(table);
        MailboxClient client(mailbox);
        if (*status) print_status(client.status(), client.convert(false), as_json);
        if (*go_on) convert(client, until_done, as_json);
        if (*log) {
            const Buffer text = client.log();
            std::cout.write(reinterpret_cast<const char*>(text.data()), static_cast<std::streamsize>(text.size()));
        }
        if (*event_log) write_file(output, client.event_log());
        if (*quote) save_quote(client, nonce, output);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : kUsage;
    }
    std::cout.flush();
    return std::cout ? 0 : kFailed;
}

}  // namespace
}  // namespace gatehouse::agent

int main(int argc, char** argv) {
    try {
        return gatehouse::agent::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "gatehouse-channel: %s\n", error.what());
        return gatehouse::agent::kFailed;
    }
}
