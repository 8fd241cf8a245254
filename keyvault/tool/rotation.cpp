#include "keyvault/tool/rotation.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/output.hpp"
#include "keyvault/tool/boot_approval.hpp"
#include "keyvault/tool/finished_vault.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::CursorState;
using volume::Header;

constexpr std::uint64_t kMostIncrements = 1000;  // a TPM's NV memory wears

// What a plan says of a verb.
struct Verb {
    const char* name;
    json changes;
    json can_lock_out;
    json way_back;
};

const char* const kRecoverAgain = "sealed-key recover, with the recovery key, seals the vault to this TPM once more";
const char* const kApproval =
    "the TPM opens the new sealed object by an approval of --authority alone: if the disk has none that holds, it does not boot";

Verb verb_of(RotatedKey key) {
    switch (key) {
        case RotatedKey::kSealed:
            return {
                "sealed", {"sealed secret and TPM slot, in both copies of the header"}, {kApproval}, {kRecoverAgain}};
        case RotatedKey::kAuthority:
            return {"authority",
                    {"sealed secret and TPM slot, in both copies of the header, under the new authority's policy"},
                    {kApproval, "releases that the authority before has approved open nothing"},
                    {"the same with the authority before, with its bundle on the disk", kRecoverAgain}};
        case RotatedKey::kKek:
            return {"kek",
                    {"KEK, sealed secret, the slots of TPM and recovery key, what wraps root secret and disk key"},
                    {kApproval},
                    {kRecoverAgain}};
        case RotatedKey::kRecovery:
            return {
                "recovery",
                {"the recovery slot, in both copies of the header", "a new file with the new recovery key"},
                {"the recovery key before opens this disk no more: keep the new one before the old one is thrown away"},
                {"none is needed: the TPM opens the vault as before"}};
        case RotatedKey::kAttestationKey:
            return {"attestation-key",
                    {"the key that signs quotes, in both copies of the header"},
                    {"the attestation server refuses the endpoint until it is enrolled again"},
                    {"enroll the endpoint again; the key before is gone"}};
        case RotatedKey::kDek: break;
    }
    return {
        "dek",
        {"the disk key, and every encrypted sector of the disk"},
        {"nothing: after a cut the same command goes on, with the recovery key alone, or a boot does, and what the guest asks "
         "for with gatehouse-channel convert; at an IDE controller the disk does not boot until it is done"},
        {"it goes forward only: once begun, it is to be ended"}};
}

Verb recover_verb() {
    return {"recover",
            {"KEK, sealed secret and TPM slot, in both copies of the header",
             "attestation key, if the TPM does not know it",
             "in the TPM: storage root key and rollback counter, if they are missing"},
            {kApproval, "what pins the vault must name this TPM: a record, or a bundle, is signed anew"},
            {"the recovery key goes on to open the disk; recover can be run again, on any TPM"}};
}

json plan_json(const Verb& verb) {
    return {{"plan",
             {{"rotates", verb.name},
              {"changes", verb.changes},
              {"can_lock_out", verb.can_lock_out},
              {"way_back", verb.way_back}}}};
}

// A disk whose vault the recovery key has opened.
class OpenDisk {
  public:
    explicit OpenDisk(const RotateRequest& request, bool may_be_stale = false)
        : source(request.recovery_key),
          disk(request.disk, request.plan ? Disk::Access::kRead : Disk::Access::kWrite),
          tables(read_partition_tables(disk)),
          store(disk, tables.vault_entry()) {
        recovery = open_with_recovery_key(disk, source, *vault);
        host::demand_same_size(disk, vault->header);
        if (!may_be_stale) refuse_stale_copy(disk, *vault);
    }

    // Every verb but that of the disk key needs it.
    void demand_idle() const { host::demand_idle(disk, vault->header, source); }
    // A member has no TPM slot, and the root secret that opens it is the boot vault's.
    void demand_boot_disk() const {
        if (!vault->header.slots.member) return;
        throw ToolError(
            disk.path() +
            ": it is a member, which the boot disk's vault opens: of its keys \"dek\" and \"recovery\" can be "
            "rotated");
    }
    // The change is on the medium, in both copies.
    void check(const volume::SlotSecret& key) const {
        for (std::size_t i = 0; i < volume::kCopies; ++i) {
            const auto found = std::make_unique<OpenVault>();
            expect(
                volume::open_header(store.read(volume::kCopyOffset[i], volume::kMaximumHeaderSize),
                                    volume::SlotKind::kRecovery, key, &vault->header.disk, found->header, found->keys),
                disk.path() + ": copy " + std::to_string(i) + " of the new header");
            if (!found->keys.dek.equals(vault->keys.dek.bytes()) ||
                !found->keys.root.equals(vault->keys.root.bytes())) {
                throw ToolError(disk.path() + ": copy " + std::to_string(i) + " of the new header has other keys");
            }
        }
    }

    RecoverySource source;
    Disk disk;
    PartitionTables tables;
    VaultStore store;
    volume::SlotSecret recovery;
    std::unique_ptr<OpenVault> vault = std::make_unique<OpenVault>();
};

// The TPM that the vault is sealed to, or, for recover(), is going to be.
class Sealing {
  public:
    Sealing(const RotateRequest& request, const OpenDisk& open, TpmChange change)
        : tpm(request.sealing.tcti, request.sealing.owner_password) {
        const auto srk = tpm.storage_root_key();
        const bool same = is_sealed_to(open.vault->header.slots, srk);
        const auto counter = tpm.rollback_counter(request.sealing.counter_index);
        if (change == TpmChange::kRefused && !same) {
            throw ToolError(
                "this TPM's storage root key is not the one that the vault is sealed to (another board, or a TPM "
                "that was cleared); sealed-key recover seals it to this one");
        }
        if (change == TpmChange::kRefused && !counter) {
            throw ToolError("TPM: there is no rollback counter at NV index " +
                            index_text(request.sealing.counter_index) +
                            "; sealed-key recover makes one, or give the right --counter-index");
        }
        if (request.plan && !srk) return;  // it would be made
        endpoint.emplace(tpm, request.sealing);
        if (counter) endpoint->counter = *counter;
        if (!request.plan) endpoint->counter = tpm.require_rollback_counter(request.sealing.counter_index);
        fit = check_bundle(open.disk, request.sealing, *endpoint, &open.vault->header.vault_id, change);
    }

    void raise_counter(std::uint64_t least) {
        if (least > endpoint->counter.value + kMostIncrements) {
            throw ToolError("--counter-at-least: the counter is " + std::to_string(endpoint->counter.value) +
                            ", and at most " + std::to_string(kMostIncrements) + " are added");
        }
        while (endpoint->counter.value < least) endpoint->counter.value = tpm.increment(endpoint->counter);
    }

    EndpointTpm tpm;
    std::optional<Endpoint> endpoint;  // none in a plan for a TPM without a storage root key
    BundleFit fit = BundleFit::kNone;
};

void demand_authority(RotatedKey key, const OpenDisk& open, const Sealing& sealing) {
    const bool same =
        equal_bytes(open.vault->header.slots.tpm->authority, tpm::name_of(sealing.endpoint->authority.bytes()));
    if (same && key == RotatedKey::kAuthority)
        throw ToolError("--authority is the one that the vault is sealed to already");
    if (!same && key != RotatedKey::kAuthority) {
        throw ToolError(
            "--authority is another one than the vault is sealed to; sealed-key rotate authority changes it");
    }
}

void add_notes(json& to, RotatedKey key) {
    json notes = json::array();
    if (key == RotatedKey::kRecovery) {
        notes.push_back(
            "who has the recovery key before and a copy of the header before still gets KEK and disk key; if "
            "that is to be feared: sealed-key rotate kek, then sealed-key rotate dek");
        if (to.contains("members")) {
            notes.push_back("its members keep the recovery key before: keep it too, or rotate it on each of them");
        }
    }
    if (key == RotatedKey::kAttestationKey) {
        notes.push_back("the attestation server knows the endpoint by the key before: enroll it again");
    }
    if (key == RotatedKey::kDek) {
        notes.push_back(
            "the same KEK wraps it: against who has an old copy of the vault and a key to it, sealed-key rotate kek "
            "comes first, and then this");
        notes.push_back(
            "media that level their wear may keep sectors, and the record of the key before, where no command "
            "reaches them");
    }
    to["notes"] = notes;
}

json rotate_seal(RotatedKey key, const RotateRequest& request, OpenDisk& open) {
    open.demand_idle();
    open.demand_boot_disk();
    Sealing sealing(request, open, TpmChange::kRefused);
    demand_authority(key, open, sealing);
    if (request.plan) return plan_json(verb_of(key));
    EndpointRandom random(sealing.tpm);
    change_header(open.store, *open.vault, [&](OpenVault& vault) {
        if (key == RotatedKey::kKek) renew_kek(random, &open.recovery, vault);
        seal_vault(sealing.tpm, *sealing.endpoint, random, vault);
    });
    open.check(open.recovery);
    json result = vault_json(open.vault->header);
    add_sealing(result, request.sealing, *sealing.endpoint, sealing.fit, request.disk, BootFiles::kNotOurs);
    return result;
}

// Before the header is written: a file that cannot be made changes nothing.
void put_attestation_key(const RotateRequest& request, const Header& header) try {
    if (request.attestation_key_out.empty()) return;
    replace_like(request.attestation_key_out, text_bytes(attestation_key_pem(header)), kPublicKeyMagic,
                 {request.sealing.authority});
} catch (const ToolError& error) {
    throw ToolError(std::string(error.what()) + " (the attestation key; the vault has not been changed)", error.code());
}

json rotate_attestation_key(const RotateRequest& request, OpenDisk& open) {
    open.demand_idle();
    open.demand_boot_disk();
    EndpointTpm tpm(request.sealing.tcti);
    if (!is_sealed_to(open.vault->header.slots, tpm.storage_root_key())) {
        throw ToolError(
            "this TPM's storage root key is not the one that the vault is sealed to; sealed-key recover seals "
            "it to this one, with an attestation key");
    }
    if (request.plan) return plan_json(verb_of(RotatedKey::kAttestationKey));
    change_header(open.store, *open.vault, [&](OpenVault& vault) {
        renew_attestation_key(tpm, vault.header);
        put_attestation_key(request, vault.header);
    });
    open.check(open.recovery);
    return vault_json(open.vault->header);
}

json recovery_json(const Header& header) {
    json result = vault_json(header);
    for (const volume::VaultId& member : header.member_table()) result["members"].push_back(hex(member));
    return result;
}

// Goes on with a change that was cut between the copies of the header: the newer one has the next recovery key already.
json finish_recovery(const RotateRequest& request, const EscrowFile& escrow, const volume::SlotSecret& next) {
    const json done = verify_recovery(request.disk, request.recovery_key_out);
    const auto copies = done["copies"].get<std::vector<bool>>();
    if (std::ranges::none_of(copies, std::identity{})) {
        throw ToolError(request.recovery_key_out + ": is there already, and does not open " + request.disk +
                        "; choose another --recovery-key-out, or remove it if it opens no other disk");
    }
    if (std::ranges::all_of(copies, std::identity{})) {
        throw ToolError(request.recovery_key_out + ": is the recovery key of " + request.disk +
                        " already; to change it, give another --recovery-key-out");
    }
    Disk disk(request.disk, request.plan ? Disk::Access::kRead : Disk::Access::kWrite);
    const auto vault = std::make_unique<OpenVault>();
    expect(open_with_recovery_key(disk, next, *vault), disk.path());
    refuse_stale_copy(disk, *vault);
    if (request.plan) return plan_json(verb_of(RotatedKey::kRecovery));
    SystemRandom random;
    escrow.create_again(next, vault->header.vault_id, random);
    VaultStore store(disk, read_partition_tables(disk).vault_entry());
    write_again(store, *vault);
    put_both_copies(store, *vault);
    return recovery_json(vault->header);
}

json rotate_recovery(const RotateRequest& request) {
    const EscrowFile escrow(request.escrow_key, request.escrow_out, request.recovery_key_out);
    const bool has_file = !request.recovery_key_out.empty();
    if (!has_file && !escrow.wanted()) {
        throw ToolError("give --recovery-key-out FILE, or --escrow-key with --escrow-out, or both", ExitCode::kUsage);
    }
    volume::SlotSecret next;
    if (has_file && ::access(request.recovery_key_out.c_str(), F_OK) == 0) {
        read_recovery_key(request.recovery_key_out, next);
        return finish_recovery(request, escrow, next);
    }
    std::optional<OpenDisk> opened;
    try {
        opened.emplace(request, true);  // the file that was made then may be lost: this one takes its place
        if (escrow.exists()) refuse_stale_copy(opened->disk, *opened->vault);
    } catch (const ToolError& error) {
        if (!escrow.exists()) throw;
        throw ToolError(std::string(error.what()) + "; " + escrow.path() +
                            " exists already, and may hold the newest recovery key of the disk: keep it "
                            "(verify-recovery --escrow tells); for yet another key, choose another --escrow-out",
                        error.code());
    }
    OpenDisk& open = *opened;
    escrow.demand_new();
    open.demand_idle();
    if (request.plan) return plan_json(verb_of(RotatedKey::kRecovery));
    SystemRandom random;
    random.fill(next.bytes());
    keep_recovery_key(request.recovery_key_out, escrow, next, open.vault->header.vault_id, random);
    rotate_recovery_key(open.store, *open.vault, next, random);
    open.check(next);
    return recovery_json(open.vault->header);
}

json rotate_dek(const RotateRequest& request, OpenDisk& open) {
    const Header& header = open.vault->header;
    const bool under_way = header.cursor.state == CursorState::kChangingKey && !volume::is_being_decrypted(header);
    if (!under_way) open.demand_idle();
    if (request.plan) {
        Verb verb = verb_of(RotatedKey::kDek);
        if (under_way) {
            verb.changes = {"every encrypted sector of the disk that has not the new key yet: " +
                            std::to_string(percent_done(header)) + " % have it, by a change that was interrupted"};
        }
        return plan_json(verb);
    }
    SystemRandom random;
    if (!request.online) rotate_disk_key(open.disk, open.store, *open.vault, random);
    if (request.online && !under_way) begin_disk_key_change(open.disk, open.store, *open.vault, random);
    open.check(open.recovery);
    json result = vault_json(header);
    result["resumed"] = under_way;
    if (request.online) {
        result["percent"] = percent_done(header);
        result["next"] = json::array(
            {"boot the endpoint, and in it: gatehouse-channel convert --until-done; its policy bundle must have "
             "been made with --change-in-use, else do the rest here: rotate dek without --online"});
    }
    return result;
}

json with_time(json result, const char* name, std::chrono::steady_clock::time_point start) {
    if (result.contains("plan")) return result;
    result["rotated"] = name;
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace

void change_header(VaultStore& store, OpenVault& vault, const std::function<void(OpenVault&)>& change) {
    write_again(store, vault);
    change(vault);
    Buffer scratch(volume::kMaximumHeaderSize);
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        expect(volume::update(store, vault.header, vault.keys.kek, vault.copy, scratch), "vault header");
    }
    forget_previous_key(store);
}

void rotate_recovery_key(VaultStore& store, OpenVault& vault, const volume::SlotSecret& next, RandomSource& random) {
    change_header(store, vault, [&](OpenVault& of) {
        of.header.slots.recovery = volume::wrap_kek(of.keys.kek, volume::SlotKind::kRecovery, next, of.header, random);
    });
}

void begin_disk_key_change(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                           std::size_t window_size) {
    demand_not_begun(disk, store, vault, vault.header.data_key.epoch + 1);
    demand_readable(disk, vault.header, window_size);
    write_again(store, vault);
    keep_previous_key(store, vault.header.data_key);
    random.fill(vault.keys.dek.bytes());
    vault.header.data_key = expect(
        volume::wrap_dek(vault.keys.dek, vault.header.data_key.epoch + 1, vault.keys.kek, vault.header.disk, random),
        "disk key");
    ++vault.header.generation;
    begin_change(disk, store, vault);
}

void rotate_disk_key(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                     std::size_t window_size) {
    if (vault.header.cursor.state == CursorState::kIdle) begin_disk_key_change(disk, store, vault, random, window_size);
    encrypt(disk, store, vault, window_size);
}

json rotate(RotatedKey key, const RotateRequest& request) {
    const auto start = std::chrono::steady_clock::now();
    json result;
    if (key == RotatedKey::kRecovery) {
        result = rotate_recovery(request);
    } else {
        OpenDisk open(request);
        result = key == RotatedKey::kDek              ? rotate_dek(request, open)
                 : key == RotatedKey::kAttestationKey ? rotate_attestation_key(request, open)
                                                      : rotate_seal(key, request, open);
    }
    if (!request.plan) add_notes(result, key);
    return with_time(std::move(result), verb_of(key).name, start);
}

json recover(const RotateRequest& request) {
    const auto start = std::chrono::steady_clock::now();
    OpenDisk open(request);
    open.demand_idle();
    open.demand_boot_disk();
    Sealing sealing(request, open, TpmChange::kAllowed);
    if (request.plan) return plan_json(recover_verb());
    sealing.raise_counter(request.counter_at_least);
    EndpointRandom random(sealing.tpm);
    change_header(open.store, *open.vault, [&](OpenVault& vault) {
        renew_kek(random, &open.recovery, vault);
        keep_or_make_attestation_key(sealing.tpm, vault.header);
        seal_vault(sealing.tpm, *sealing.endpoint, random, vault);
        put_attestation_key(request, vault.header);
    });
    open.check(open.recovery);
    json result = vault_json(open.vault->header);
    add_sealing(result, request.sealing, *sealing.endpoint, sealing.fit, request.disk, BootFiles::kNotOurs);
    const std::string value = std::to_string(sealing.endpoint->counter.value);
    result["notes"] = {"this TPM's rollback counter is " + value +
                           ": approvals whose limit is that or more hold on it, also those that the "
                           "TPM before had voided" +
                           (request.counter_at_least == 0 ? "; give --counter-at-least" : ""),
                       "the attestation server knows an endpoint by its TPM and attestation key: enroll it again",
                       "if somebody else may have the TPM before and a copy of this disk: sealed-key rotate dek " +
                           request.disk + " " + request.recovery_key.options()};
    return with_time(std::move(result), "recover", start);
}

json verify_recovery(const std::string& path, const RecoverySource& recovery_key) {
    const Disk disk(path, Disk::Access::kRead);
    volume::SlotSecret secret;
    read_recovery_key(recovery_key, disk, secret);
    const PartitionTables tables = read_partition_tables(disk);
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    json result{{"opens", false}, {"copies", json::array()}};
    for (const Buffer& copy : copies) {
        const auto vault = std::make_unique<OpenVault>();
        const bool opened = volume::open_header(copy, volume::SlotKind::kRecovery, secret, &tables.primary.header.disk,
                                                vault->header, vault->keys)
                                .ok();
        result["copies"].push_back(opened);
    }
    const auto vault = std::make_unique<OpenVault>();
    try {
        demand_opens(disk, secret, *vault);
        refuse_stale_copy(disk, *vault);
    } catch (const ToolError& error) {
        result["reason"] = error.what();
        return result;
    }
    const Header& header = vault->header;
    result["opens"] = true;
    result["disk"] = guid_text(header.disk);
    result["vault_id"] = hex(header.vault_id);
    result["generation"] = header.generation;
    result["key_epoch"] = volume::epoch_of(header);
    result["percent"] = percent_done(header);
    return result;
}

json bump_counter(const BumpRequest& request) {
    const Disk disk(request.disk, Disk::Access::kRead);
    const PartitionTables tables = read_partition_tables(disk);
    const volume::GptEntry boot = tables.primary.boot_partition();
    const auto wanted = [&](const char* name) {
        auto content = small_boot_file(disk, boot, name);
        if (content) return *std::move(content);
        throw ToolError(request.disk + ": there is no " + name + " on its boot partition; make it first (policyctl)");
    };
    const Buffer bundle_file = wanted(policies::kBundleFile);
    const Buffer approval_file = wanted(policies::kApprovalFile);
    const TPM2_HANDLE index = expect(policies::parse_bundle(bundle_file), request.disk + ": its bundle").counter_index;
    const policies::Approval approval =
        expect(policies::parse_approval(approval_file), request.disk + ": its approval");
    const std::uint64_t limit = approval.counter_limit;
    if (const std::string fault = approval_fault(disk, boot, approval); !fault.empty()) {
        throw ToolError(request.disk + ": " + fault + ": with no older release left, this would lock the endpoint out");
    }
    EndpointTpm tpm(request.tcti, request.owner_password);
    const auto srk = tpm.storage_root_key();
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    const bool same = std::ranges::any_of(copies, [&](const Buffer& copy) {
        const auto header = std::make_unique<Header>();
        return volume::preview(copy, *header).ok() && is_sealed_to(header->slots, srk);
    });
    if (!same) throw ToolError(request.disk + ": its vault is not sealed to this TPM");
    const auto counter = tpm.rollback_counter(index);
    if (!counter) throw ToolError("TPM: there is no rollback counter at NV index " + index_text(index));
    if (limit < counter->value + 1) {
        throw ToolError(request.disk + ": its approval holds up to " + std::to_string(limit) +
                        " of the counter, which is " + std::to_string(counter->value) +
                        ": this would lock the endpoint out. Install an approval with "
                        "--counter-limit " +
                        std::to_string(counter->value + 1) + " or more first, and boot with it");
    }
    if (request.plan) {
        return plan_json({"counter",
                          {"the rollback counter, from " + std::to_string(counter->value) + " to " +
                           std::to_string(counter->value + 1)},
                          {"approvals whose limit is below that open nothing on this TPM"},
                          {"none: a TPM's counter never goes back"}});
    }
    if (!request.tested) {
        throw ToolError(
            "say --i-have-tested if the endpoint has booted with the approval that is on it: what this voids "
            "never comes back",
            ExitCode::kUsage);
    }
    const std::uint64_t value = tpm.increment(*counter);
    return {{"counter", {{"index", index_text(counter->index)}, {"before", counter->value}, {"value", value}}},
            {"counter_limit", limit}};
}

}  // namespace gatehouse::host
