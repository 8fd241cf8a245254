// sealed-key: makes and inspects the vault of an appliance disk.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/status.hpp"
#include "keyvault/tool/upgrade.hpp"

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
        } else if (item.key() == "next" && content.is_array()) {
            for (const json& command : content) {
                std::printf("%-20s %s\n", "next", command.get<std::string>().c_str());
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
    const auto vault = std::make_unique<OpenVault>();
    open_with_recovery_key(disk, request.recovery_key, *vault);
    const volume::Header& header = vault->header;
    if (header.sector_size != disk.sector_size() || header.total_sectors != disk.total_sectors()) {
        throw ToolError(request.disk + ": the vault is of a disk of another size");
    }
    if (header.cursor.state != volume::CursorState::kIdle) {
        throw ToolError(request.disk + ": only " + std::to_string(percent_done(header)) +
                        " % of it is encrypted; go on with: sealed-key provision " + request.disk +
                        " --resume --recovery-key " + request.recovery_key);
    }
    // Past stdio, whose buffers are not wiped.
    write_dmsetup_table(header, vault->keys.dek, request.device.empty() ? request.disk : request.device,
                        [](Bytes line) {
                            while (!line.empty()) {
                                const ssize_t written = ::write(STDOUT_FILENO, line.data(), line.size());
                                if (written <= 0) throw ToolError("standard output cannot be written");
                                line = line.subspan(static_cast<std::size_t>(written));
                            }
                        });
    return ExitCode::kYes;
}

// What a vault is sealed to: options of provision and upgrade. Those that must be given are `needed`.
std::vector<CLI::Option*> add_sealing_options(CLI::App& command, SealingRequest& request) {
    request.tcti = kDefaultTcti;
    command.add_option("--tcti", request.tcti, "how to reach the TPM")->capture_default_str();
    std::vector<CLI::Option*> needed{
        command.add_option("--authority", request.authority, "the policy authority's public key, PEM"),
        command.add_option("--policy-ref", request.policy_ref, "policy reference, up to 32 bytes")};
    command.add_option("--counter-index", request.counter_index, "NV index of the rollback counter")
        ->capture_default_str();
    command
        .add_option_function<std::string>(
            "--acpi", [&request](const std::string& value) { request.machine_acpi = value == "machine"; },
            "whose ACPI tables the guest gets, as in the policy bundle; with \"machine\" the machine is approved as well")
        ->check(CLI::IsMember({"minimal", "machine"}))
        ->default_str("minimal");
    return needed;
}

struct Provision {
    ProvisionRequest request;
    std::string recovery_key;
    bool no_recovery_key = false;
    bool resume = false;
    std::vector<CLI::Option*> needed;

    void add_to(CLI::App& command) {
        command.add_option("DISK", request.disk, "image file or block device")->required();
        needed = add_sealing_options(command, request.sealing);
        command.add_option("--recovery-key-out", request.recovery_key_out,
                           "make a recovery key and write it to this new file (mode 0600)");
        command.add_flag(
            "--no-recovery-key", no_recovery_key,
            "make none: whatever interrupts the encryption loses the disk, and so does the loss of the TPM");
        command.add_option("--ak-out", request.attestation_key_out, "write the attestation key's public half, PEM");
        command.add_flag("--resume", resume, "go on after an interruption; needs --recovery-key and nothing else");
        command.add_option("--recovery-key", recovery_key, "with --resume: the recovery key file");
    }

    [[nodiscard]] json run() const {
        if (resume) {
            if (recovery_key.empty()) throw ToolError("--resume needs --recovery-key", ExitCode::kUsage);
            return host::resume(request.disk, recovery_key);
        }
        for (const CLI::Option* const option : needed) {
            if (option->count() == 0) throw ToolError(option->get_name() + " is required", ExitCode::kUsage);
        }
        if (!recovery_key.empty()) throw ToolError("--recovery-key is for --resume", ExitCode::kUsage);
        if (request.recovery_key_out.empty() != no_recovery_key) {
            throw ToolError(
                "give --recovery-key-out FILE, or else --no-recovery-key: then an interruption loses the disk",
                ExitCode::kUsage);
        }
        return provision(request);
    }
};

ExitCode run(int argc, char** argv) {
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

    Provision provisioning;
    CLI::App* const provision_command = app.add_subcommand(
        "provision",
        "give the disk GUIDs of its own, make the vault and encrypt the disk in place. With a recovery key a power cut or "
        "an error of the disk at any moment loses nothing: --resume goes on");
    provisioning.add_to(*provision_command);
    add_json(provision_command);

    UpgradeRequest upgrade_request;
    CLI::App* const upgrade_command = app.add_subcommand(
        "upgrade", "convert the vault of a disk that the release before provisioned; the disk key stays");
    upgrade_command->add_option("DISK", upgrade_request.disk, "image file or block device")->required();
    for (CLI::Option* const option : add_sealing_options(*upgrade_command, upgrade_request.sealing)) option->required();
    upgrade_command->add_option("--recovery-key", upgrade_request.recovery_key, "recovery key file; it stays")
        ->required();
    add_json(upgrade_command);

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
        return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
    }
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
        print(provisioning.run(), as_json);
    } else if (upgrade_command->parsed()) {
        print(upgrade(upgrade_request), as_json);
    } else {
        json found = status(status_request, ok);
        if (!as_json && found["state"] == "provisioning") {
            found["state"] = "provisioning, " + found["percent"].dump() + " %";
        }
        print(found, as_json);
    }
    return ok ? ExitCode::kYes : ExitCode::kNo;
}

}  // namespace
}  // namespace gatehouse::host

int main(int argc, char** argv) {
    return gatehouse::host::run_tool("sealed-key", [&] { return gatehouse::host::run(argc, argv); });
}
