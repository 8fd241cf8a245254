// sealed-key: makes, inspects and changes the vault of an appliance disk.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/commands.hpp"
#include "keyvault/tool/decryption.hpp"
#include "keyvault/tool/erase.hpp"
#include "keyvault/tool/export_luks2.hpp"
#include "keyvault/tool/finished_vault.hpp"
#include "keyvault/tool/members.hpp"
#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/rotation.hpp"
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
        } else if ((item.key() == "next" || item.key() == "notes") && content.is_array()) {
            for (const json& line : content) {
                std::printf("%-20s %s\n", item.key().c_str(), line.get<std::string>().c_str());
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
    open_finished_vault(disk, request.recovery_key, *vault);
    // Past stdio, whose buffers are not wiped.
    write_dmsetup_table(vault->header, vault->keys.dek, request.device.empty() ? request.disk : request.device,
                        [](Bytes line) {
                            while (!line.empty()) {
                                const ssize_t written = ::write(STDOUT_FILENO, line.data(), line.size());
                                if (written <= 0) throw ToolError("standard output cannot be written");
                                line = line.subspan(static_cast<std::size_t>(written));
                            }
                        });
    return ExitCode::kYes;
}

void add_owner_password(CLI::App& command, std::string& owner_password) {
    command.add_option("--owner-password", owner_password,
                       "file with the password of the TPM's owner hierarchy, if it has one");
}

void add_tpm_options(CLI::App& command, std::string& tcti, std::string& owner_password) {
    tcti = kDefaultTcti;
    command.add_option("--tcti", tcti, "how to reach the TPM")->capture_default_str();
    add_owner_password(command, owner_password);
}

// What a vault is sealed to: options of provision, upgrade and rotations. Those that must be given are what it returns.
std::vector<CLI::Option*> add_sealing_options(CLI::App& command, SealingRequest& request) {
    add_tpm_options(command, request.tcti, request.owner_password);
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

// The recovery key that opens a vault; and where a new one goes into escrow.
void add_recovery_key(CLI::App& command, RecoverySource& source, const char* description) {
    CLI::Option* const file = command.add_option("--recovery-key", source.file, description);
    CLI::Option* const escrow =
        command.add_option("--escrow", source.escrow, "instead of it: the escrow blob that it is in")->excludes(file);
    CLI::Option* const key = command.add_option("--escrow-private-key", source.private_key,
                                                "with --escrow: the private key that opens the blob, PEM");
    key->needs(escrow);
    escrow->needs(key);
}
void demand_recovery_key(const RecoverySource& source) {
    if (!source.given()) {
        throw ToolError("--recovery-key is required, or --escrow with --escrow-private-key", ExitCode::kUsage);
    }
}
void add_escrow_out(CLI::App& command, std::string& key, std::string& out) {
    CLI::Option* const to = command.add_option(
        "--escrow-key", key, "encrypt the new recovery key to this public key (P-256, PEM), for --escrow-out");
    CLI::Option* const file = command.add_option("--escrow-out", out, "write that as an escrow blob to this new file");
    to->needs(file);
    file->needs(to);
}

struct Provision {
    ProvisionRequest request;
    RecoverySource recovery_key;
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
        add_escrow_out(command, request.escrow_key, request.escrow_out);
        command.add_flag("--resume", resume, "go on after an interruption; needs the recovery key and nothing else");
        add_recovery_key(command, recovery_key, "with --resume: the recovery key file");
    }

    [[nodiscard]] json run() const {
        if (resume) {
            if (!recovery_key.given()) throw ToolError("--resume needs --recovery-key", ExitCode::kUsage);
            if (no_recovery_key || !request.recovery_key_out.empty() || !request.escrow_out.empty()) {
                throw ToolError(
                    "--resume makes no recovery key: without --recovery-key-out, --escrow-out and --no-recovery-key",
                    ExitCode::kUsage);
            }
            return host::resume(request.disk, recovery_key);
        }
        for (const CLI::Option* const option : needed) {
            if (option->count() == 0) throw ToolError(option->get_name() + " is required", ExitCode::kUsage);
        }
        if (recovery_key.given()) throw ToolError("--recovery-key is for --resume", ExitCode::kUsage);
        if ((request.recovery_key_out.empty() && request.escrow_out.empty()) != no_recovery_key) {
            throw ToolError(
                "give --recovery-key-out FILE, or --escrow-key and --escrow-out, or else --no-recovery-key: then an "
                "interruption loses the disk",
                ExitCode::kUsage);
        }
        return provision(request);
    }
};

// rotate KEY and recover: a subcommand each, with the options that it needs.
struct Rotation {
    RotateRequest request;
    std::function<json(const RotateRequest&)> work;
    CLI::App* command = nullptr;

    void add_to(CLI::App& parent, const char* name, const char* description, bool seals, bool needs_tpm) {
        command = parent.add_subcommand(name, description);
        command->add_option("DISK", request.disk, "image file or block device")->required();
        add_recovery_key(*command, request.recovery_key, "recovery key file, which opens the vault");
        if (seals) {
            for (CLI::Option* const option : add_sealing_options(*command, request.sealing)) option->required();
        } else if (needs_tpm) {
            add_tpm_options(*command, request.sealing.tcti, request.sealing.owner_password);
        }
        command->add_flag("--plan", request.plan,
                          "check, say what would change and what could lock out; change nothing");
    }
    void add_attestation_key_out() {
        command->add_option("--ak-out", request.attestation_key_out, "write the attestation key's public half, PEM");
    }
};

// One line for each entry of a plan, under its heading.
void print_plan(const json& plan) {
    constexpr std::pair<const char*, const char*> kParts[] = {
        {"changes", "what changes"}, {"can_lock_out", "what can lock out"}, {"way_back", "the way back"}};
    std::printf("%s: nothing has been changed\n", plan["rotates"].get<std::string>().c_str());
    for (const auto& [key, heading] : kParts) {
        std::printf("%s\n", heading);
        for (const json& line : plan[key]) std::printf("  %s\n", line.get<std::string>().c_str());
    }
}

struct Rotations {
    std::array<Rotation, 7> all;
    CLI::App* rotate_command = nullptr;

    void add_to(CLI::App& app) {
        rotate_command = app.add_subcommand(
            "rotate",
            "make a key of the vault anew, with the recovery key, while nobody uses the disk; a cut at any moment loses "
            "nothing, the same command goes on");
        rotate_command->require_subcommand(1);
        struct Row {
            RotatedKey key;
            const char* name;
            const char* description;
            bool seals;
            bool needs_tpm;
        };
        constexpr Row kRows[] = {
            {RotatedKey::kDek, "dek", "the disk key: every sector is encrypted anew, in place", false, false},
            {RotatedKey::kKek, "kek", "the key that wraps disk key and root secret, and the sealed secret", true, true},
            {RotatedKey::kSealed, "sealed", "the secret that the TPM unseals", true, true},
            {RotatedKey::kAuthority, "authority", "the same, under the policy of another authority", true, true},
            {RotatedKey::kRecovery, "recovery", "the recovery key", false, false},
            {RotatedKey::kAttestationKey, "attestation-key", "the key that signs quotes", false, true},
        };
        std::size_t at = 0;
        for (const Row& row : kRows) {
            Rotation& one = all[at++];
            one.add_to(*rotate_command, row.name, row.description, row.seals, row.needs_tpm);
            one.work = [key = row.key](const RotateRequest& request) { return rotate(key, request); };
            if (row.key == RotatedKey::kAttestationKey) one.add_attestation_key_out();
            if (row.key == RotatedKey::kDek) {
                one.command->add_flag(
                    "--online", one.request.online,
                    "only begin: the machine does the rest, in use (gatehouse-channel convert), if its policy bundle was made "
                    "with --change-in-use; else it does not boot until this is run without --online");
            }
            if (row.key != RotatedKey::kRecovery) continue;
            one.command->add_option("--recovery-key-out", one.request.recovery_key_out,
                                    "file to make (mode 0600) with the new one");
            add_escrow_out(*one.command, one.request.escrow_key, one.request.escrow_out);
        }
        Rotation& one = all[at];
        one.add_to(app, "recover", "seal the vault to this TPM, whatever it was sealed to: a new board, a cleared TPM",
                   true, true);
        one.work = recover;
        one.command->add_option(
            "--counter-at-least", one.request.counter_at_least,
            "raise the rollback counter to this, which the TPM before had: it voids the same releases again");
        one.add_attestation_key_out();
    }
    void add_flag(const std::function<void(CLI::App*)>& add) const {
        for (const Rotation& one : all) add(one.command);
    }
    [[nodiscard]] const Rotation* parsed() const {
        const auto found = std::ranges::find_if(all, [](const Rotation& one) { return one.command->parsed(); });
        return found == all.end() ? nullptr : &*found;
    }
};

void add_confirmation(CLI::App& command, bool& yes, std::string& serial) {
    CLI::Option* const flag = command.add_flag("--yes", yes, "do not ask");
    command.add_option("--serial", serial, "do not ask, if this is the disk's serial number")->excludes(flag);
}

CLI::App* add_export_luks2(CLI::App& app, ExportLuks2Request& request) {
    CLI::App* const command = app.add_subcommand(
        "export-luks2",
        "write a detached LUKS2 header: stock cryptsetup opens a partition with it and the recovery key");
    command->footer(
        "The passphrase is the 64 hex digits as they stand in the recovery key file, without the newline, which --key-file "
        "would take for a part of it:\n"
        "  tr -d '\\r\\n' < recovery.key | cryptsetup open --type luks2 --readonly --header FILE --key-file - DISK NAME\n"
        "DISK is the whole disk, not the partition, and so is what is opened, up to the partition's end: the partition "
        "lies in it at its offset, which the output tells with the command that mounts it; everything plain reads as noise. "
        "Who has the header and the recovery key opens the disk, also after its "
        "vault is lost or erased; the header without the key is of no use. It is good until the disk key is rotated.");
    command->add_option("DISK", request.disk, "image file or block device")->required();
    command->add_option("--recovery-key", request.recovery_key, "recovery key file")->required();
    command->add_option("--header-out", request.header_out, "write the header to this new file (mode 0600)")
        ->required();
    command->add_option("--partition", request.partition, "number of the partition, if more than one is encrypted")
        ->check(CLI::Range(1u, volume::kGptMaxEntries));
    return command;
}

CLI::App* add_erase(CLI::App& app, EraseRequest& request) {
    CLI::App* const command = app.add_subcommand(
        "erase", "crypto-erase: destroy the vault and what the TPM keeps for it; the data become unreadable for ever");
    command->footer(
        "The vault is overwritten with random bytes and zeros and read back. Boot files and partition tables, which are "
        "plain, stay. After a cut, or on a damaged vault, the same command again ends it. Exit status 1: done, but the TPM "
        "refused something, or the disk was encrypted in part.\n"
        "Old sectors may remain on media that level wear, and a header in a backup. By such a copy the recovery key still "
        "opens the disk: destroy that key too, and what export-luks2 and export-dmsetup wrote. This TPM opens a copy only "
        "with a new approval by the policy authority, because its rollback counter goes on above where it was; after "
        "TPM2_Clear (tpm2_clear, or the firmware's menu) it never does.\n"
        "The record's signature is checked with:\n"
        "  openssl dgst -sha256 -verify KEY.pub -signature FILE.sig FILE");
    command->add_option("DISK", request.disk, "image file or block device")->required();
    command->add_option("--tcti", request.tcti, "remove storage root key and rollback counter from this TPM");
    add_owner_password(*command, request.owner_password);
    command->add_option("--counter-index", request.counter_index, "NV index of the rollback counter")
        ->capture_default_str();
    command->add_flag("--keep-tpm", request.keep_tpm, "only say what the TPM keeps");
    add_confirmation(*command, request.yes, request.serial);
    command->add_option("--record-out", request.record_out, "write what was done to this new file, JSON");
    command->add_option("--sign-key", request.sign_key, "sign the record with this private key (P-256, PEM): FILE.sig");
    return command;
}

CLI::App* add_decrypt(CLI::App& app, DecryptRequest& request) {
    CLI::App* const command = app.add_subcommand(
        "decrypt",
        "bring the disk back to plaintext, in place, with the recovery key, while nobody uses it; then its vault is destroyed. "
        "A cut at any moment loses nothing, the same command goes on");
    command->footer(
        "For a machine that leaves the fleet. From its beginning on the disk does not boot; after its end it needs another way "
        "to boot. A member is decrypted like any; a boot disk only after its members are off its list (remove-disk). What the "
        "TPM keeps for the vault goes with: sealed-key erase DISK --tcti TCTI.");
    command->add_option("DISK", request.disk, "image file or block device")->required();
    add_recovery_key(*command, request.recovery_key, "recovery key file, which opens the vault");
    add_confirmation(*command, request.confirmation.yes, request.confirmation.serial);
    command->add_flag("--plan", request.plan, "check, and say what would change; change nothing");
    return command;
}

ExitCode run(int argc, char** argv) {
    ::setenv("TSS2_LOG", "all+NONE",
             0);  // tpm2-tss logs what is reported here anyway; the user's choice prevails
    CLI::App app(
        "Makes, inspects and changes the vault of an appliance disk. Exit status: 0 yes, 1 no (status, "
        "verify-recovery, erase), 2 usage, 3 failure.",
        "sealed-key");
    app.require_subcommand(1);
    bool as_json = false;
    const auto add_json = [&](CLI::App* command) { command->add_flag("--json", as_json, "print JSON"); };

    std::string tcti;
    std::string owner_password;
    CLI::App* const name_command =
        app.add_subcommand("srk-name", "print the TPM name of the storage root key, made if it is missing");
    add_tpm_options(*name_command, tcti, owner_password);
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

    Rotations rotations;
    rotations.add_to(app);
    rotations.add_flag(add_json);

    std::string verified_disk;
    RecoverySource verified_key;
    CLI::App* const verify_command =
        app.add_subcommand("verify-recovery", "prove that a recovery key opens the disk; changes nothing");
    verify_command->add_option("DISK", verified_disk, "image file or block device")->required();
    add_recovery_key(*verify_command, verified_key, "recovery key file");
    add_json(verify_command);

    BumpRequest bump_request;
    CLI::App* const bump_command = app.add_subcommand(
        "bump-counter", "increment the rollback counter, once: older approvals never open anything on this TPM again");
    bump_command->add_option("DISK", bump_request.disk, "the endpoint's, whose approval must go on to hold")
        ->required();
    add_tpm_options(*bump_command, bump_request.tcti, bump_request.owner_password);
    bump_command->add_flag("--i-have-tested", bump_request.tested,
                           "the endpoint has booted with the approval on the disk");
    bump_command->add_flag("--plan", bump_request.plan, "check, and say what would change; change nothing");
    add_json(bump_command);

    AddDiskRequest add_request;
    CLI::App* const add_command = app.add_subcommand(
        "add-disk",
        "encrypt a further disk in place and list it in the boot disk's vault, which opens it from the next boot on");
    add_command->add_option("DISK", add_request.disk, "image file or block device, with a vault partition")->required();
    add_command->add_option("--boot-disk", add_request.boot_disk, "the endpoint's boot disk")->required();
    add_command->add_option("--recovery-key", add_request.recovery_key, "the boot disk's; it opens the new one as well")
        ->required();
    add_command->add_flag("--format", add_request.format, "make a partition table first, on a disk that has none");
    add_json(add_command);

    std::string removed_from;
    std::string removed_key;
    std::string removed_id;
    CLI::App* const remove_command =
        app.add_subcommand("remove-disk", "take a disk off the boot disk's list; what is on it stays");
    remove_command->add_option("BOOT_DISK", removed_from, "image file or block device")->required();
    remove_command->add_option("--recovery-key", removed_key, "recovery key file")->required();
    remove_command->add_option("--vault-id", removed_id, "the vault id of the disk, which its status shows")
        ->required();
    add_json(remove_command);

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

    ExportLuks2Request luks2_request;
    CLI::App* const luks2_command = add_export_luks2(app, luks2_request);
    add_json(luks2_command);
    DecryptRequest decrypt_request;
    CLI::App* const decrypt_command = add_decrypt(app, decrypt_request);
    add_json(decrypt_command);
    EraseRequest erase_request;
    CLI::App* const erase_command = add_erase(app, erase_request);
    add_json(erase_command);

    try {
        app.parse(argc, argv);
    } catch (const CLI::RequiredError& error) {
        // A subcommand that there is not is told by its name.
        const std::vector<std::string> unknown = app.remaining(true);
        if (unknown.empty()) return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
        throw ToolError("unknown: " + unknown.front() + " (--help lists what there is)", ExitCode::kUsage);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
    }
    demand_values(app);
    if (export_command->parsed()) return export_dmsetup(export_request);
    bool ok = true;
    const auto show = [&](const json& result) {
        if (result.contains("plan") && !as_json) {
            print_plan(result["plan"]);
        } else {
            print(result, as_json);
        }
    };
    if (name_command->parsed()) {
        const std::string name = hex(EndpointTpm(tcti, owner_password).require_storage_root_key());
        if (as_json) {
            print({{"srk_name", name}}, true);
        } else {
            std::printf("%s\n", name.c_str());
        }
    } else if (provision_command->parsed()) {
        print(provisioning.run(), as_json);
    } else if (const Rotation* const rotation = rotations.parsed()) {
        demand_recovery_key(rotation->request.recovery_key);
        show(rotation->work(rotation->request));
    } else if (add_command->parsed()) {
        print(add_disk(add_request), as_json);
    } else if (remove_command->parsed()) {
        print(remove_disk(removed_from, removed_key, removed_id), as_json);
    } else if (bump_command->parsed()) {
        show(bump_counter(bump_request));
    } else if (verify_command->parsed()) {
        demand_recovery_key(verified_key);
        const json found = verify_recovery(verified_disk, verified_key);
        ok = found["opens"].get<bool>();
        print(found, as_json);
    } else if (upgrade_command->parsed()) {
        print(upgrade(upgrade_request), as_json);
    } else if (luks2_command->parsed()) {
        print(export_luks2(luks2_request), as_json);
    } else if (decrypt_command->parsed()) {
        demand_recovery_key(decrypt_request.recovery_key);
        show(decrypt(decrypt_request));
    } else if (erase_command->parsed()) {
        print(erase(erase_request, ok), as_json);
    } else {
        json found = status(status_request, ok);
        if (const std::string state = found["state"]; !as_json && (state == "provisioning" || state == "decrypting")) {
            found["state"] = state + ", " + found["percent"].dump() + " %";
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
