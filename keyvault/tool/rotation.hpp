// Changing the keys of a vault that its recovery key opens: on a bench or a rescue system, while nobody else uses the disk.
//
//     key               what is made anew                             what no longer opens the disk
//     sealed            sealed secret and TPM slot                    the object that the TPM has unsealed until now
//     authority         the same, under another authority's policy    approvals of the authority before
//     kek               the KEK and all that it wraps, and "sealed"   the KEK, should somebody have learned it
//     recovery          the recovery key                              the recovery key before
//     attestation-key   the key that signs quotes                     nothing: the server no longer believes the one before
//     dek               the disk key; every sector is encrypted anew  the disk key, should somebody have learned it
//
// Root secret and vault id stay, so what pins the vault goes on to pin it. Both copies of the header are written, one after the
// other, so that nothing of the keys before is left in one; a cut leaves the old header or the new one, and the same command
// goes on. A copy of the old header made elsewhere still opens with its old keys, and gives KEK, disk key and root secret of
// then: another KEK and then another disk key, in this order, void the first two. The root secret, which opens the members,
// stays.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/vault_maker.hpp"

namespace gatehouse::host {

enum class RotatedKey : std::uint8_t { kSealed, kAuthority, kKek, kRecovery, kAttestationKey, kDek };

struct RotateRequest {
    std::string disk;
    RecoverySource recovery_key;
    SealingRequest sealing;           // of kSealed, kAuthority, kKek and recover(); its TPM of kAttestationKey as well
    std::string recovery_key_out;     // kRecovery: file to make, or none, but then
    std::string escrow_key;           // kRecovery: public key, PEM, of ...
    std::string escrow_out;           // ... a blob to make (escrow.hpp)
    std::string attestation_key_out;  // kAttestationKey and recover(): PEM file to make; empty: none
    std::uint64_t counter_at_least = 0;  // recover(): the rollback counter is raised to it
    bool online = false;                 // kDek: the boot goes on with it (hypervisor/boot/online_conversion.hpp)
    bool plan = false;                   // look, and say what would be done; nothing is changed, on disk or TPM
};

// Answers with {"rotated": NAME} and what vault_json() and add_sealing() say, "notes": what is to be known or done, "seconds";
// a plan with {"plan": {"rotates", "changes", "can_lock_out", "way_back"}}. ToolError that says what to do: a vault that is
// being encrypted (kDek goes on with a change of the disk key that was cut), a disk of another size, a TPM that is not the
// vault's (recover() is for that), a member where it has no such key, a policy bundle that the change would not fit.
[[nodiscard]] nlohmann::json rotate(RotatedKey key, const RotateRequest& request);

// Seals the vault to this TPM, whatever it was sealed to before: another board, a cleared TPM. SRK and counter are made where
// they are missing, the attestation key if the TPM does not know it; KEK and sealed secret are new. Answers as rotate().
[[nodiscard]] nlohmann::json recover(const RotateRequest& request);

// Whether a recovery key opens the disk, proven on both copies of the header: {"opens": bool, "copies": [bool, bool], "reason"
// or, if it opens, "disk", "vault_id", "generation", "key_epoch", "percent"}. Changes nothing.
[[nodiscard]] nlohmann::json verify_recovery(const std::string& path, const RecoverySource& recovery_key);

struct BumpRequest {
    std::string disk;
    std::string tcti;
    std::string owner_password;  // file
    bool tested = false;
    bool plan = false;
};
// Increments the rollback counter that the disk's bundle names: approvals whose limit it then exceeds open nothing, on this TPM,
// ever again. ToolError if that is true of the approval on the disk's boot partition, by the limit that it says it has, and if
// the vault is not sealed to this TPM. Or if the approval does not open what lies beside it (boot_approval.hpp). {"counter":
// {"index", "before", "value"}, "counter_limit"}.
[[nodiscard]] nlohmann::json bump_counter(const BumpRequest& request);

// The parts that know no TPM.
//
// Puts into both copies what `change` makes of an open vault whose cursor is idle.
void change_header(VaultStore& store, OpenVault& vault, const std::function<void(OpenVault&)>& change);
// Makes another disk key, with a cursor before the first sector; every sector is still encrypted with the one before.
void begin_disk_key_change(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                           std::size_t window_size = volume::kWindowSize);
// Makes another disk key and encrypts every sector with it, or goes on with that.
void rotate_disk_key(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                     std::size_t window_size = volume::kWindowSize);
// Gives the vault another recovery key, `next`.
void rotate_recovery_key(VaultStore& store, OpenVault& vault, const volume::SlotSecret& next, RandomSource& random);

}  // namespace gatehouse::host
