// sealed-key: makes and inspects the vault of an appliance disk.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/tool/provision.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;

constexpr const char* kDefaultTcti = "device:/dev/tpmrm0";

// "key  value" lines; nested objects as "outer.inner", lists one line each.
void print_lines(const json& value, const std::string& prefix) {
    for (const auto& item : value.items()) {
        const std::string key = prefix + item.key();
        const json& content = item.value();
        if (content.is_object()) {
            print_lines(content, key + ".");
        } else if (item.key() == "regions") {
            for (const json& region : content) {
                std::printf("%-20s %12llu + %-12llu %s\n", "region",
                            static_cast<unsigned long long>(region["first"].get<std::uint64_t>()),
                            static_cast<unsigned long long>(region["count"].get<std::uint64_t>()),
                            region["kind"].get<std::string>().c_str());
            }
        } else {
            const std::string text = content.is_string() ? content.get<std::string>() : content.dump();
            const char* const separator = text.find('\n') == std::string::npos ? " " : "\n";
            std::printf("%-20s%s%s\n", key.c_str(), separator, text.c_str());
        }
    }
}

void print(const json& value, bool as_json) {
    if (as_json) {
        std::printf("%s\n", value.dump(2).c_str());
    } else {
        print_lines(value, "");
    }
}

struct ExportRequest {
    std::string disk;
    std::string recovery_key;
    std::string device;
    bool show = false;
};

ExitCode export_dmsetup(const ExportRequest& request) {
    if (::isatty(STDOUT_FILENO) == 1 && !request.show) {
        throw ToolError("the table holds the disk key: pipe it into dmsetup create, or give --show", ExitCode::kUsage);
    }
    const Disk disk(request.disk, Disk::Access::kRead);
    const auto header = std::make_unique<volume::Header>();
    volume::Keys keys;
    open_with_recovery_key(disk, request.recovery_key, *header, keys);
    if (header->sector_size != disk.sector_size() || header->total_sectors != disk.total_sectors()) {
        throw ToolError(request.disk + ": the vault is of a disk of another size");
    }
    // Past stdio, whose buffers are not wiped.
    write_dmsetup_table(*header, keys.dek, request.device.empty() ? request.disk : request.device, [](Bytes line) {
        while (!line.empty()) {
            const ssize_t written = ::write(STDOUT_FILENO, line.data(), line.size());
            if (written <= 0) throw ToolError("standard output cannot be written");
            line = line.subspan(static_cast<std::size_t>(written));
        }
    });
    return ExitCode::kYes;
}

int run(int argc, char** argv) {
    ::setenv("TSS2_LOG", "all+NONE",
             0);  // tpm2-tss logs what is reported here anyway; the user's choice prevails
    CLI::App app(
        "Makes and inspects the vault of an appliance disk. Exit status: 0 yes, 1 no (status), 2 usage, 3 "
        "failure.",
        "sealed-key");
    app.require_subcommand(1);
    bool as_json = false;
    const auto add_json = [&](CLI::App* command) { command->add_flag("--json", as_json, "print JSON"); };

    std::string tcti = kDefaultTcti;
    CLI::App* const name_command =
        app.add_subcommand("srk-name", "print the TPM name of the storage root key, made if it is missing");
    name_command->add_option("--tcti", tcti, "how to reach the TPM")->capture_default_str();
    add_json(name_command);

    ProvisionRequest provision_request;
    provision_request.tcti = kDefaultTcti;
    CLI::App* const provision_command = app.add_subcommand("provision", "make the vault and encrypt the disk in place");
    provision_command->add_option("DISK", provision_request.disk, "image file or block device")->required();
    provision_command->add_option("--tcti", provision_request.tcti, "how to reach the TPM")->capture_default_str();
    provision_command->add_option("--authority", provision_request.authority, "the policy authority's public key, PEM")
        ->required();
    provision_command->add_option("--policy-ref", provision_request.policy_ref, "policy reference, up to 32 bytes")
        ->required();
    provision_command->add_option("--counter-index", provision_request.counter_index, "NV index of the counter")
        ->capture_default_str();
    provision_command->add_option("--recovery-key-out", provision_request.recovery_key_out,
                                  "make a recovery key and write it to this new file (mode 0600)");
    provision_command->add_option("--ak-out", provision_request.attestation_key_out,
                                  "write the attestation key's public half, PEM");
    add_json(provision_command);

    StatusRequest status_request;
    CLI::App* const status_command = app.add_subcommand("status", "say what the vault holds; never a secret");
    status_command->add_option("DISK", status_request.disk, "image file or block device")->required();
    status_command->add_option("--tcti", status_request.tcti, "also ask this TPM whether the vault is its own");
    status_command->add_option("--recovery-key", status_request.recovery_key,
                               "authenticate the header with this recovery key file, and show the rest of it");
    add_json(status_command);

    ExportRequest export_request;
    CLI::App* const export_command =
        app.add_subcommand("export-dmsetup", "print a dmsetup table that opens the disk on a rescue system");
    export_command->add_option("DISK", export_request.disk, "image file or block device")->required();
    export_command->add_option("--recovery-key", export_request.recovery_key, "recovery key file")->required();
    export_command->add_option("--device", export_request.device, "block device to name in the table, if not DISK");
    export_command->add_flag("--show", export_request.show, "even if standard output is a terminal");

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
    }
    return run_tool("sealed-key", [&] {
        if (export_command->parsed()) return export_dmsetup(export_request);
        bool ok = true;
        if (name_command->parsed()) {
            const std::string name = hex(EndpointTpm(tcti).require_storage_root_key());
            if (as_json) {
                print({{"srk_name", name}}, true);
            } else {
                std::printf("%s\n", name.c_str());
            }
        } else if (provision_command->parsed()) {
            print(provision(provision_request), as_json);
        } else {
            print(status(status_request, ok), as_json);
        }
        return ok ? ExitCode::kYes : ExitCode::kNo;
    });
}

}  // namespace
}  // namespace gatehouse::host

int main(int argc, char** argv) { return gatehouse::host::run(argc, argv); }
