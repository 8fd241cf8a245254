#include "keyvault/tool/provision.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/output.hpp"
#include "keyvault/volume_writer/peek.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;

class Stopwatch {
  public:
    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::string resume_command(const std::string& disk, const std::string& options) {
    return "sealed-key provision " + disk + " --resume " + options;
}

// A copy that is no header, beside one that is, is made again from it, byte for byte: that needs no key.
bool repair_copy(Disk& disk, const volume::GptEntry& vault, const HeaderCopies& copies) {
    for (std::size_t i = 0; i < copies.size(); ++i) {
        if (kind_of(copies[i]) == CopyKind::kHeader || kind_of(copies[1 - i]) != CopyKind::kHeader) continue;
        VaultStore(disk, vault).put_copy(i, copies[1 - i]);
        return true;
    }
    return false;
}

void refuse_existing_vault(Disk& disk, const volume::GptEntry& vault) {
    const HeaderCopies copies = read_header_copies(disk, vault);
    const auto any = [&](CopyKind kind) { return std::ranges::count(copies, kind, kind_of) != 0; };
    if (any(CopyKind::kHeader)) {
        const std::string repaired =
            repair_copy(disk, vault, copies) ? "; one copy of its header was damaged and has been made again" : "";
        const volume::Candidates candidates = volume::select_candidates(copies[0], copies[1]);
        const auto header = std::make_unique<volume::Header>();
        const bool whole = volume::peek(copies[candidates.copy[0]], *header).ok();
        if (whole) demand_not_decrypted(disk, *header);
        if (whole && header->cursor.state == volume::CursorState::kChangingKey) {
            throw ToolError(disk.path() + ": already provisioned, and a change of its disk key was interrupted" +
                            repaired + "; go on with: sealed-key rotate dek " + disk.path() + " --recovery-key FILE");
        }
        if (whole && header->cursor.state != volume::CursorState::kIdle) {
            throw ToolError(disk.path() + ": provisioning was interrupted at " + std::to_string(percent_done(*header)) +
                            " %" + repaired + "; go on with: " + resume_command(disk.path(), "--recovery-key FILE"));
        }
        throw ToolError(disk.path() + ": already provisioned (sealed-key status shows its vault)" + repaired);
    }
    if (any(CopyKind::kVersion1)) {
        throw ToolError(disk.path() + ": provisioned by the release before; sealed-key upgrade " + disk.path() +
                        " converts its vault");
    }
    if (any(CopyKind::kMarker)) {
        throw ToolError(disk.path() +
                        ": provisioning by the release before was interrupted, part of the disk is encrypted with a "
                        "key that is lost; write the image anew and provision that");
    }
}

// Runs a step; what it fails with ends with what to do.
void with_advice(const std::string& advice, const std::function<void()>& step) try {
    step();
} catch (const ToolError& error) {
    throw ToolError(std::string(error.what()) + "; " + advice, error.code());
}

}  // namespace

void put_vault(BlockDevice& disk, const PartitionTables& tables, OpenVault& vault, std::size_t window_size) {
    write_partition_tables(disk, tables);
    VaultStore store(disk, tables.vault_entry());
    begin_encryption(store, vault);
    encrypt(disk, store, vault, window_size);
}

json provision(const ProvisionRequest& request) {
    const Stopwatch watch;
    const EscrowFile escrow(request.escrow_key, request.escrow_out, request.recovery_key_out);
    escrow.demand_new();
    EndpointTpm tpm(request.sealing.tcti, request.sealing.owner_password);
    Disk disk(request.disk, Disk::Access::kWrite);
    PartitionTables tables = read_partition_tables(disk);
    const auto vault = std::make_unique<OpenVault>();
    lay_out(disk, tables, vault->header);
    refuse_existing_vault(disk, tables.vault_entry());
    Endpoint endpoint(tpm, request.sealing);
    const BundleFit fit = check_bundle(disk, request.sealing, endpoint, nullptr);
    endpoint.counter = tpm.require_rollback_counter(request.sealing.counter_index);

    EndpointRandom random(tpm);
    renew_identity(tables, random);
    lay_out(disk, tables, vault->header);
    random.fill(vault->keys.dek.bytes());
    volume::SlotSecret recovery;
    random.fill(recovery.bytes());
    const bool has_file = !request.recovery_key_out.empty();
    const bool recoverable = has_file || escrow.wanted();
    make_vault(tpm, endpoint, random, recoverable ? &recovery : nullptr, *vault);

    if (!request.attestation_key_out.empty()) {
        replace_like(request.attestation_key_out, text_bytes(attestation_key_pem(vault->header)), kPublicKeyMagic,
                     {request.sealing.authority, request.escrow_key});
    }
    keep_recovery_key(request.recovery_key_out, escrow, recovery, vault->header.vault_id, random);
    const std::string key = has_file ? "--recovery-key " + request.recovery_key_out
                                     : "--escrow " + request.escrow_out + " --escrow-private-key FILE";
    with_advice(recoverable ? "go on with: " + resume_command(request.disk, key)
                            : "there is no recovery key: write the image anew and provision that",
                [&] { put_vault(disk, tables, *vault); });

    json result = vault_json(vault->header);
    add_sealing(result, request.sealing, endpoint, fit, request.disk);
    result["seconds"] = watch.seconds();
    return result;
}

json resume(const std::string& path, const RecoverySource& recovery_key) {
    const Stopwatch watch;
    Disk disk(path, Disk::Access::kWrite);
    const PartitionTables tables = read_partition_tables(disk);
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    if (std::ranges::all_of(copies, [](const Buffer& copy) { return kind_of(copy) == CopyKind::kNone; })) {
        throw ToolError(
            path +
            ": holds no vault, so there is nothing to go on with. Is it the right disk? If it is, provision "
            "it from the start with a new --recovery-key-out; keep the key, it may open another disk");
    }
    const auto vault = std::make_unique<OpenVault>();
    open_with_recovery_key(disk, recovery_key, *vault);
    refuse_stale_copy(disk, *vault);
    demand_not_decrypted(disk, vault->header);
    VaultStore store(disk, tables.vault_entry());
    with_advice("go on with: " + resume_command(path, recovery_key.options()), [&] { encrypt(disk, store, *vault); });
    json result = vault_json(vault->header);
    result["next"] = {"sealed-key status " + path + " --tcti TCTI   # says what the next boot still lacks"};
    result["seconds"] = watch.seconds();
    return result;
}

}  // namespace gatehouse::host
