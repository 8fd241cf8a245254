#include "keyvault/tool/vault_maker.hpp"

#include <sys/random.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/authority.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::Header;

constexpr std::size_t kMaxSmallFile = 64 * 1024;

// The header as it goes to disk opens with the sealed secret, and the keys come back.
void check_header(const OpenVault& vault, const volume::SlotSecret& sealed) {
    const auto opened = std::make_unique<OpenVault>();
    expect(volume::open_header(whole_copy(vault), volume::SlotKind::kTpm, sealed, &vault.header.disk, opened->header,
                               opened->keys),
           "vault header");
    if (!opened->keys.dek.equals(vault.keys.dek.bytes()) || !opened->keys.root.equals(vault.keys.root.bytes())) {
        throw ToolError("vault header: its keys do not come back");
    }
}

json regions_json(const Header& header) {
    json regions = json::array();
    for (const Region& region : header.region_table()) {
        const char* const kind = region.kind == RegionClass::kHidden    ? "hidden"
                                 : region.kind == RegionClass::kOverlay ? "overlay"
                                                                        : "read-only";
        regions.push_back({{"first", region.first}, {"count", region.count}, {"kind", kind}});
    }
    return regions;
}

}  // namespace

Endpoint::Endpoint(EndpointTpm& tpm, const SealingRequest& request)
    : authority(authority_public_area(read_public_key(request.authority).get())) {
    if (request.policy_ref.size() > policies::kMaxPolicyRef) {
        throw ToolError("--policy-ref: at most 32 bytes", ExitCode::kUsage);
    }
    const Bytes reference = text_bytes(request.policy_ref);
    const tpm::Name name = tpm::name_of(authority.bytes());
    policy = tpm::authorize_policy_digest(name, reference);
    if (request.machine_acpi) {
        const tpm::PolicyRef machine = expect(tpm::machine_policy_ref(reference), "--policy-ref");
        policy = tpm::authorize_policy_digest(name, machine.bytes());
    }
    storage_root_key = tpm.require_storage_root_key();
    counter.index = request.counter_index;
}

EndpointRandom::EndpointRandom(EndpointTpm& tpm) {
    Secret<32> seed;
    SystemRandom().fill(seed.bytes());
    random_.seed(seed.bytes());
    tpm.random(seed.bytes());
    random_.seed(seed.bytes());
}

void SystemRandom::fill(MutableBytes out) {
    while (!out.empty()) {
        const ssize_t got = ::getrandom(out.data(), std::min<std::size_t>(out.size(), 256), 0);
        if (got <= 0) throw ToolError("the system's random numbers cannot be read");
        out = out.subspan(static_cast<std::size_t>(got));
    }
}

void renew_kek(RandomSource& random, const volume::SlotSecret* recovery, OpenVault& vault) {
    Header& header = vault.header;
    volume::Keys& keys = vault.keys;
    random.fill(keys.kek.bytes());
    header.root = volume::wrap_root(keys.root, keys.kek, header.disk, random);
    header.data_key =
        expect(volume::wrap_dek(keys.dek, header.data_key.epoch, keys.kek, header.disk, random), "disk key");
    header.slots = {};
    if (recovery == nullptr) return;
    header.slots.recovery = volume::wrap_kek(keys.kek, volume::SlotKind::kRecovery, *recovery, header, random);
}

void seal_vault(EndpointTpm& tpm, const Endpoint& endpoint, RandomSource& random, OpenVault& vault) {
    volume::SlotSecret sealed;
    random.fill(sealed.bytes());
    const TpmObject object = tpm.seal(sealed, endpoint.policy);
    volume::TpmSlot& slot = vault.header.slots.tpm.emplace();
    expect(slot.sealed_public.assign(object.public_area.bytes(), "sealed object"), "vault header");
    expect(slot.sealed_private.assign(object.private_blob.bytes(), "sealed object"), "vault header");
    slot.storage_root_key = endpoint.storage_root_key;
    slot.authority = tpm::name_of(endpoint.authority.bytes());
    slot.kek = volume::wrap_kek(vault.keys.kek, volume::SlotKind::kTpm, sealed, vault.header, random);
    check_header(vault, sealed);
}

void renew_attestation_key(EndpointTpm& tpm, Header& header) {
    const TpmObject key = tpm.create_attestation_key();
    expect(header.attestation_key_public.assign(key.public_area.bytes(), "attestation key"), "vault header");
    expect(header.attestation_key_private.assign(key.private_blob.bytes(), "attestation key"), "vault header");
}

void keep_or_make_attestation_key(EndpointTpm& tpm, Header& header) {
    const bool known = !header.attestation_key_public.empty() &&
                       tpm.can_load(header.attestation_key_public.bytes(), header.attestation_key_private.bytes());
    if (!known) renew_attestation_key(tpm, header);
}

void make_vault(EndpointTpm& tpm, const Endpoint& endpoint, RandomSource& random, const volume::SlotSecret* recovery,
                OpenVault& vault) {
    random.fill(vault.keys.root.bytes());
    vault.header.vault_id = volume::vault_id(vault.keys.root);
    renew_kek(random, recovery, vault);
    keep_or_make_attestation_key(tpm, vault.header);
    seal_vault(tpm, endpoint, random, vault);
}

std::optional<Buffer> small_boot_file(const Disk& disk, const volume::GptEntry& boot, const char* name) {
    if (!boot_file_exists(disk, boot, name)) return std::nullopt;
    return read_boot_file(disk, boot, name, kMaxSmallFile);
}

bool is_sealed_to(const volume::Slots& slots, const std::optional<tpm::Name>& storage_root_key) {
    return storage_root_key && slots.tpm && equal_bytes(*storage_root_key, slots.tpm->storage_root_key);
}

BundleFit check_bundle(const Disk& disk, const SealingRequest& request, const Endpoint& endpoint,
                       const volume::VaultId* vault_id, TpmChange change) {
    const volume::GptEntry boot = read_partition_tables(disk).primary.boot_partition();
    const std::optional<Buffer> content = small_boot_file(disk, boot, policies::kBundleFile);
    if (!content) return BundleFit::kNone;
    const policies::Bundle bundle = expect(policies::parse_bundle(*content), disk.path() + ": its policy bundle");
    const auto demand = [&](bool same, const std::string& what) {
        if (!same) {
            throw ToolError(disk.path() + ": its policy bundle has another " + what +
                            "; make a new one (policyctl bundle)");
        }
    };
    const bool pinned = bundle.enrollment.empty();
    const bool same_tpm = equal_bytes(bundle.srk_name, endpoint.storage_root_key);
    demand(!pinned || same_tpm || change == TpmChange::kAllowed,
           "SRK than this TPM's, whose name is " + hex(endpoint.storage_root_key));
    demand(equal_bytes(bundle.authority, endpoint.authority.bytes()), "authority than --authority");
    demand(equal_bytes(bundle.policy_ref, text_bytes(request.policy_ref)), "policy reference than --policy-ref");
    demand(bundle.counter_index == request.counter_index, "rollback counter than --counter-index");
    demand(bundle.has(policies::BundleFlag::kMachineAcpi) == request.machine_acpi,
           "source of ACPI tables than --acpi " + std::string(request.machine_acpi ? "machine" : "minimal"));
    if (!pinned) {
        const std::optional<Buffer> file =
            vault_id == nullptr ? std::nullopt : small_boot_file(disk, boot, policies::kRecordFile);
        if (!file) return BundleFit::kFleet;
        const Result<policies::Record> record = policies::parse_record(*file, bundle.enrollment);
        const bool good = record.ok() && equal_bytes(record->srk_name, endpoint.storage_root_key) &&
                          equal_bytes(record->vault_id, *vault_id);
        return good ? BundleFit::kThisVault : BundleFit::kFleet;
    }
    const bool same = same_tpm && vault_id != nullptr && equal_bytes(bundle.vault_id, *vault_id);
    return same ? BundleFit::kThisVault : BundleFit::kOtherVault;
}

std::string attestation_key_pem(const Header& header) {
    // TPMT_PUBLIC of the template: the point is the last 68 bytes, each coordinate after its size.
    const Bytes area = header.attestation_key_public.bytes();
    if (area.size() < 68) throw ToolError("vault header: no attestation key");
    Reader reader(area.last(68), Endian::kBig);
    const Bytes x = reader.sized();
    const Bytes y = reader.sized();
    expect(reader.finished("attestation key: its point"), "vault header");
    return public_key_pem(ecc_key(x, y).get());
}

json vault_json(const Header& header) {
    std::uint64_t encrypted = 0;
    for (const Extent& extent : encrypted_extents(header)) encrypted += extent.count;
    json result{{"disk", guid_text(header.disk)},
                {"vault_id", hex(header.vault_id)},
                {"generation", header.generation},
                {"key_epoch", volume::epoch_of(header)},
                {"sector_size", header.sector_size},
                {"total_sectors", header.total_sectors},
                {"encrypted_bytes", encrypted * header.sector_size},
                {"regions", regions_json(header)}};
    if (!header.attestation_key_public.empty()) {  // a member has none
        result["label"] = "endpoint-" + hex(Bytes(header.vault_id).first(4));
        result["ak_name"] = hex(tpm::name_of(header.attestation_key_public.bytes()));
        result["ak_public"] = attestation_key_pem(header);
    }
    if (header.slots.tpm) {
        result["srk_name"] = hex(header.slots.tpm->storage_root_key);
        result["authority_name"] = hex(header.slots.tpm->authority);
    }
    return result;
}

void add_sealing(json& to, const SealingRequest& request, const Endpoint& endpoint, BundleFit fit,
                 const std::string& disk, BootFiles files) {
    to["policy_ref"] = request.policy_ref;
    to["acpi"] = request.machine_acpi ? "machine" : "minimal";
    to["counter"] = {{"index", index_text(endpoint.counter.index)}, {"value", endpoint.counter.value}};
    const std::string ids =
        " --srk-name " + to["srk_name"].get<std::string>() + " --vault-id " + to["vault_id"].get<std::string>();
    const std::string install = " --install --image " + disk;
    json next = json::array();
    if (fit == BundleFit::kFleet) {
        next.push_back("policyctl record --key ENROLLMENT.pem" + ids + " --label " + to["label"].get<std::string>() +
                       install);
    } else if (fit != BundleFit::kThisVault) {
        next.push_back("policyctl bundle" + ids + " --authority " + request.authority + " --policy-ref \"" +
                       request.policy_ref + "\"" + (request.machine_acpi ? " --acpi machine" : "") + install);
    }
    if (request.machine_acpi) {
        next.push_back("policyctl machine approve --key AUTHORITY.pem --policy-ref \"" + request.policy_ref +
                       "\" --model MODEL.json" + install);
    }
    const std::string sign =
        "policyctl sign --key AUTHORITY.pem --counter-limit " + std::to_string(endpoint.counter.value);
    if (files == BootFiles::kOurs) next.push_back(sign + install);
    if (files == BootFiles::kNotOurs) {
        next.push_back(sign +
                       " --files RELEASE -o policy.approval   # of the release's own files, not of those on the disk; "
                       "put it beside them, unless the approval there holds");
    }
    to["next"] = next;
}

}  // namespace gatehouse::host
