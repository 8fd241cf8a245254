#include "keyvault/tool/status.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/content.hpp"
#include "keyvault/tool/boot_approval.hpp"
#include "keyvault/tool/finished_vault.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/vault_maker.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "keyvault/volume_writer/peek.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::Header;

// Why the next boot would not open the vault, and what to do about it: the first reason is what is told.
class NextBoot {
  public:
    void demand(bool holds, const std::string& why, const std::string& what_to_do) {
        if (!holds && refusal_.empty()) refusal_ = why + "; " + what_to_do;
    }
    [[nodiscard]] bool refuses() const { return !refusal_.empty(); }
    [[nodiscard]] std::string text() const {
        return refuses() ? "refuses: " + refusal_ : "opens the vault, as far as can be seen from here";
    }

  private:
    std::string refusal_;
};

// What the boot partition says, which nobody but the TPM and the hypervisor judges.
struct BootFacts {
    TPM2_HANDLE counter_index = tpm::kRollbackCounter;
    json counter_limit = nullptr;
};

std::string record_command(const Header& header) {
    const std::string srk = header.slots.tpm ? hex(header.slots.tpm->storage_root_key) : "NAME";
    return "policyctl record --srk-name " + srk + " --vault-id " + hex(header.vault_id);
}

void check_pin(NextBoot& next, const policies::Bundle& bundle, const std::optional<Buffer>& record_file,
               const Header& header) {
    Bytes srk_name = bundle.srk_name;
    Bytes vault_id = bundle.vault_id;
    if (!bundle.enrollment.empty()) {
        next.demand(record_file.has_value(), "there is no endpoint record on the boot partition",
                    "sign one: " + record_command(header));
        if (!record_file) return;
        const Result<policies::Record> record = policies::parse_record(*record_file, bundle.enrollment);
        next.demand(record.ok(), "the endpoint record is not good: " + (record.ok() ? "" : describe(record.failure())),
                    "sign one with the fleet's enrollment key: " + record_command(header));
        if (!record.ok()) return;
        srk_name = record->srk_name;
        vault_id = record->vault_id;
    }
    next.demand(equal_bytes(vault_id, header.vault_id), "the boot partition pins another vault than this disk's",
                "pin this one, if it is the right disk: policyctl bundle or policyctl record, with --vault-id");
    const bool sealed = header.slots.tpm && equal_bytes(srk_name, header.slots.tpm->storage_root_key);
    next.demand(sealed, "the boot partition pins another TPM than the vault is sealed to",
                "pin that one: policyctl bundle or policyctl record, with --srk-name");
}

BootFacts check_boot_files(NextBoot& next, const Disk& disk, const volume::GptEntry& boot, const Header& header) {
    BootFacts facts;
    const std::optional<Buffer> bundle_file = small_boot_file(disk, boot, policies::kBundleFile);
    const std::optional<Buffer> approval_file = small_boot_file(disk, boot, policies::kApprovalFile);
    next.demand(bundle_file.has_value(), "there is no policy bundle on the boot partition",
                "make one: policyctl bundle");
    if (bundle_file) {
        const Result<policies::Bundle> parsed = policies::parse_bundle(*bundle_file);
        next.demand(parsed.ok(), "the policy bundle is not good: " + (parsed.ok() ? "" : describe(parsed.failure())),
                    "make one: policyctl bundle");
        if (!parsed) return facts;
        const policies::Bundle& bundle = *parsed;
        facts.counter_index = bundle.counter_index;
        check_pin(next, bundle, small_boot_file(disk, boot, policies::kRecordFile), header);
        const tpm::Name authority = tpm::name_of(bundle.authority);
        next.demand(header.slots.tpm && equal_bytes(authority, header.slots.tpm->authority),
                    "the policy bundle names another authority than the vault is sealed to",
                    "make one with that authority (policyctl bundle), or change it: sealed-key rotate authority");
        const std::optional<Buffer> machine = small_boot_file(disk, boot, policies::kMachineApprovalFile);
        next.demand(!bundle.has(policies::BundleFlag::kMachineAcpi) ||
                        (machine && policies::parse_machine_approval(*machine).ok()),
                    "there is no good approval of this machine on the boot partition",
                    "sign one: policyctl machine approve");
    }
    next.demand(approval_file.has_value(), "there is no approval of this release on the boot partition",
                "sign one: policyctl sign");
    if (!approval_file) return facts;
    const Result<policies::Approval> approval = policies::parse_approval(*approval_file);
    next.demand(approval.ok(), "the approval is not good: " + (approval.ok() ? "" : describe(approval.failure())),
                "sign one: policyctl sign");
    if (!approval) return facts;
    facts.counter_limit = approval->counter_limit;
    const std::string fault = approval_fault(disk, boot, *approval);
    next.demand(fault.empty(), fault,
                "if these are the release's own files, sign them: policyctl sign; if not, put those there again");
    return facts;
}

json tpm_status(NextBoot& next, const StatusRequest& request, const volume::Slots& slots, const BootFacts& facts,
                bool& ok) {
    EndpointTpm tpm(request.tcti);
    json result{{"srk_name", nullptr}, {"srk_match", false}, {"counter", nullptr}};
    const auto name = tpm.storage_root_key();
    const bool match = is_sealed_to(slots, name);
    if (name) result["srk_name"] = hex(*name);
    result["srk_match"] = match;
    ok = ok && match;
    next.demand(match,
                name ? "this TPM is not the one that the vault is sealed to (another board, or it was cleared)"
                     : "this TPM has no storage root key (it was cleared, or is new)",
                "seal the vault to it: sealed-key recover, with the recovery key");
    const auto counter = tpm.rollback_counter(facts.counter_index);
    next.demand(counter.has_value(), "the TPM has no rollback counter at NV index " + index_text(facts.counter_index),
                "sealed-key recover, with the recovery key, makes one");
    if (!counter) return result;
    result["counter"] = {{"index", index_text(counter->index)}, {"value", counter->value}};
    next.demand(
        facts.counter_limit.is_null() || facts.counter_limit.get<std::uint64_t>() >= counter->value,
        "the approval holds up to " + facts.counter_limit.dump() + " of the rollback counter, which is " +
            std::to_string(counter->value),
        "if that release is to boot again, sign it: policyctl sign --counter-limit " + std::to_string(counter->value));
    return result;
}

const char* state_of(const Header& header) {
    if (header.cursor.state == volume::CursorState::kIdle) return "provisioned";
    if (volume::is_being_decrypted(header)) return "decrypting";
    return header.cursor.state == volume::CursorState::kChangingKey ? "changing the disk key" : "provisioning";
}

// What only a part of the sectors has, of a cursor that is not idle.
const char* half_done(const Header& header) {
    if (volume::is_being_decrypted(header)) return " % of the disk is plaintext, on its way back to that";
    return header.cursor.state == volume::CursorState::kChangingKey ? " % of the disk is encrypted with its new key"
                                                                    : " % of the disk is encrypted";
}

// The state of a disk without a header of this release.
std::string other_state(const HeaderCopies& copies) {
    const auto any = [&](CopyKind kind) { return std::ranges::count(copies, kind, kind_of) != 0; };
    if (any(CopyKind::kVersion1)) return "version 1";
    return any(CopyKind::kMarker) ? "interrupted" : "none";
}

constexpr const char* kInUse = "gatehouse-channel convert --until-done";

void add_next(json& to, const std::string& disk) {
    if (to["state"] == "decrypting") {
        to["next"] = "sealed-key decrypt " + disk + " --recovery-key FILE";
    } else if (to["state"] == "changing the disk key") {
        to["next"] = "sealed-key rotate dek " + disk + " --recovery-key FILE, or, once it has booted: " + kInUse;
    } else if (to["state"] == "provisioning") {
        to["next"] =
            "sealed-key provision " + disk + " --resume --recovery-key FILE, or, once it has booted: " + kInUse;
    } else if (to["state"] == "version 1") {
        to["next"] = "sealed-key upgrade " + disk + " --recovery-key FILE --authority FILE --policy-ref TEXT";
    } else if (to["state"] == "interrupted") {
        to["next"] = "write the image anew and provision that";
    } else if (to["state"] == "provisioned" && std::ranges::count(to["copies"], json(nullptr)) != 0) {
        to["next"] =
            "sealed-key provision " + disk + " --resume --recovery-key FILE, which makes the damaged copy again";
    }
}

void authenticate(json& to, const Disk& disk, const StatusRequest& request, bool& ok) {
    const auto vault = std::make_unique<OpenVault>();
    try {
        open_with_recovery_key(disk, request.recovery_key, *vault);
        to["authenticated"] = true;
        to.update(vault_json(vault->header));
        to["percent"] = percent_done(vault->header);
    } catch (const ToolError& error) {
        to["authenticated"] = false;
        to["reason"] = error.what();
        ok = false;
    }
}

}  // namespace

json status(const StatusRequest& request, bool& ok) {
    const Disk disk(request.disk, Disk::Access::kRead);
    const PartitionTables tables = read_partition_tables(disk);
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    json result{{"copies", json::array()}};
    std::vector<Header> headers(volume::kCopies);
    const Header* newest = nullptr;
    for (std::size_t i = 0; i < copies.size(); ++i) {
        const bool good = volume::peek(copies[i], headers[i]).ok();
        result["copies"].push_back(good ? json(headers[i].generation) : json(nullptr));
        if (good && (newest == nullptr || headers[i].generation > newest->generation)) newest = &headers[i];
    }
    ok = newest != nullptr && newest->cursor.state == volume::CursorState::kIdle;
    result["state"] = newest == nullptr ? other_state(copies) : state_of(*newest);
    if (newest == nullptr) {
        NextBoot next;
        next.demand(false, "there is no vault of this release on the disk",
                    result["state"] == "none" ? "make one: sealed-key provision" : "go on, as \"next\" says");
        result["next_boot"] = next.text();
        add_next(result, request.disk);
        if (result["state"] == "none" && !std::ranges::all_of(copies, is_zero)) {
            result["next"] = "if an erase or a decrypt was cut: sealed-key erase " + request.disk +
                             ", which overwrites what is left of the vault";
        }
        return result;
    }
    result["percent"] = percent_done(*newest);
    result["generation"] = newest->generation;
    result["disk"] = guid_text(newest->disk);
    result["vault_id"] = hex(newest->vault_id);
    result["slots"] = {{"tpm", nullptr},
                       {"recovery", newest->slots.recovery.has_value()},
                       {"member", newest->slots.member.has_value()}};
    if (newest->slots.tpm) {
        result["slots"]["tpm"] = {{"srk_name", hex(newest->slots.tpm->storage_root_key)},
                                  {"authority_name", hex(newest->slots.tpm->authority)}};
    }
    NextBoot next;
    next.demand(newest->disk == tables.primary.header.disk,
                "the disk has another GUID than the one that its vault was made for",
                "give it back: sgdisk -U " + guid_text(newest->disk));
    const bool in_use = !ok && !volume::is_being_decrypted(*newest);
    next.demand(ok || in_use, "only " + std::to_string(percent_done(*newest)) + half_done(*newest),
                "go on, as \"next\" says");
    const std::string other = other_size(disk, *newest);
    next.demand(other.empty(), other, "bring it back to that size");
    if (newest->slots.member && !newest->slots.tpm) {
        result["next_boot"] = next.refuses() ? next.text() : "opens it if the boot disk's vault lists it as a member";
        if (!request.recovery_key.empty()) authenticate(result, disk, request, ok);
        ok = ok && !next.refuses();
        add_next(result, request.disk);
        return result;
    }
    const BootFacts facts = check_boot_files(next, disk, tables.primary.boot_partition(), *newest);
    result["counter_limit"] = facts.counter_limit;
    if (!request.tcti.empty()) result["tpm"] = tpm_status(next, request, newest->slots, facts, ok);
    if (!request.recovery_key.empty()) authenticate(result, disk, request, ok);
    result["next_boot"] = next.text();
    if (in_use && !next.refuses()) {
        result["next_boot"] = next.text() + "; " + std::to_string(percent_done(*newest)) + half_done(*newest) +
                              ", and that goes on in use (not at an IDE controller, which refuses it)";
    }
    ok = ok && !next.refuses();
    add_next(result, request.disk);
    return result;
}

}  // namespace gatehouse::host
