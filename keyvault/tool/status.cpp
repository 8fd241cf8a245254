#include "keyvault/tool/status.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/vault_maker.hpp"
#include "keyvault/volume_writer/peek.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::Header;

constexpr std::size_t kMaxSmallFile = 64 * 1024;
constexpr const char* kBundleFile = "policy.bundle";
constexpr const char* kApprovalFile = "policy.approval";

std::string index_text(TPM2_HANDLE index) {
    std::array<std::byte, 4> bytes{};
    store(bytes.data(), index, Endian::kBig);
    return "0x" + hex(bytes);
}

json tpm_status(const StatusRequest& request, const volume::Slots& slots, TPM2_HANDLE counter_index, bool& ok) {
    EndpointTpm tpm(request.tcti);
    json result{{"srk_name", nullptr}, {"srk_match", false}, {"counter", nullptr}};
    if (const auto name = tpm.storage_root_key()) {
        result["srk_name"] = hex(*name);
        result["srk_match"] = slots.tpm && equal_bytes(slots.tpm->storage_root_key, *name);
    }
    if (const auto counter = tpm.rollback_counter(counter_index)) {
        result["counter"] = {{"index", index_text(counter->index)}, {"value", counter->value}};
    }
    ok = ok && result["srk_match"].get<bool>();
    return result;
}

// What the boot partition says of the counter; nothing of it is trusted by anybody but for the messages.
struct BootFacts {
    TPM2_HANDLE counter_index = tpm::kRollbackCounter;
    json counter_limit = nullptr;
};
BootFacts read_boot_facts(const Disk& disk, const volume::GptEntry& boot) {
    BootFacts facts;
    if (boot_file_exists(disk, boot, kBundleFile)) {
        const Buffer content = read_boot_file(disk, boot, kBundleFile, kMaxSmallFile);
        facts.counter_index = expect(policies::parse_bundle(content), "policy bundle").counter_index;
    }
    if (boot_file_exists(disk, boot, kApprovalFile)) {
        const Buffer content = read_boot_file(disk, boot, kApprovalFile, kMaxSmallFile);
        facts.counter_limit = expect(policies::parse_approval(content), "policy approval").counter_limit;
    }
    return facts;
}

// The state of a disk without a header of this release.
std::string other_state(const HeaderCopies& copies) {
    const auto any = [&](CopyKind kind) { return std::ranges::count(copies, kind, kind_of) != 0; };
    if (any(CopyKind::kVersion1)) return "version 1";
    return any(CopyKind::kMarker) ? "interrupted" : "none";
}

void add_next(json& to, const std::string& disk) {
    if (to["state"] == "provisioning") {
        to["next"] = "sealed-key provision " + disk + " --resume --recovery-key FILE";
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
    result["state"] = newest == nullptr ? other_state(copies) : ok ? "provisioned" : "provisioning";
    if (newest == nullptr) {
        add_next(result, request.disk);
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
    const BootFacts facts = read_boot_facts(disk, tables.primary.boot_partition());
    result["counter_limit"] = facts.counter_limit;
    if (!request.tcti.empty()) result["tpm"] = tpm_status(request, newest->slots, facts.counter_index, ok);
    if (!request.recovery_key.empty()) authenticate(result, disk, request, ok);
    add_next(result, request.disk);
    return result;
}

}  // namespace gatehouse::host
