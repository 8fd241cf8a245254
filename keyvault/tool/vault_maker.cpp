#include "keyvault/tool/vault_maker.hpp"

#include <sys/random.h>

#include <nlohmann/json.hpp>

#include "keyvault/host_support/authority.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::Header;

constexpr std::size_t kMaxSmallFile = 64 * 1024;
constexpr const char* kBundleFile = "policy.bundle";

std::string index_text(TPM2_HANDLE index) {
    std::array<std::byte, 4> bytes{};
    store(bytes.data(), index, Endian::kBig);
    return "0x" + hex(bytes);
}

// The header as it goes to disk opens with the sealed secret, and the keys come back.
void check_header(const OpenVault& vault, const volume::SlotSecret& sealed) {
    Buffer copy(volume::kMaximumHeaderSize);
    copy.resize(expect(volume::serialise(vault.header, vault.keys.kek, copy), "vault header"));
    const auto opened = std::make_unique<OpenVault>();
    expect(volume::open_header(copy, volume::SlotKind::kTpm, sealed, &vault.header.disk, opened->header, opened->keys),
           "vault header");
    if (!opened->keys.dek.equals(vault.keys.dek.bytes()) || !opened->keys.root.equals(vault.keys.root.bytes())) {
        throw ToolError("vault header: its keys do not come back");
    }
}

void keep_or_make_attestation_key(EndpointTpm& tpm, Header& header) {
    if (!header.attestation_key_public.empty() &&
        tpm.can_load(header.attestation_key_public.bytes(), header.attestation_key_private.bytes()))
        return;
    const TpmObject key = tpm.create_attestation_key();
    expect(header.attestation_key_public.assign(key.public_area.bytes(), "attestation key"), "vault header");
    expect(header.attestation_key_private.assign(key.private_blob.bytes(), "attestation key"), "vault header");
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
    if (::getrandom(seed.bytes().data(), Secret<32>::kSize, 0) != ssize_t{Secret<32>::kSize}) {
        throw ToolError("the system's random numbers cannot be read");
    }
    random_.seed(seed.bytes());
    tpm.random(seed.bytes());
    random_.seed(seed.bytes());
}

void make_vault(EndpointTpm& tpm, const Endpoint& endpoint, RandomSource& random, const volume::SlotSecret* recovery,
                OpenVault& vault) {
    Header& header = vault.header;
    volume::Keys& keys = vault.keys;
    volume::SlotSecret sealed;
    random.fill(sealed.bytes());
    random.fill(keys.kek.bytes());
    random.fill(keys.root.bytes());
    header.vault_id = volume::vault_id(keys.root);
    header.root = volume::wrap_root(keys.root, keys.kek, header.disk, random);
    header.data_key =
        expect(volume::wrap_dek(keys.dek, header.data_key.epoch, keys.kek, header.disk, random), "disk key");

    const TpmObject object = tpm.seal(sealed, endpoint.policy);
    header.slots = {};
    volume::TpmSlot& slot = header.slots.tpm.emplace();
    expect(slot.sealed_public.assign(object.public_area.bytes(), "sealed object"), "vault header");
    expect(slot.sealed_private.assign(object.private_blob.bytes(), "sealed object"), "vault header");
    slot.storage_root_key = endpoint.storage_root_key;
    slot.authority = tpm::name_of(endpoint.authority.bytes());
    slot.kek = volume::wrap_kek(keys.kek, volume::SlotKind::kTpm, sealed, header, random);
    if (recovery != nullptr) {
        header.slots.recovery = volume::wrap_kek(keys.kek, volume::SlotKind::kRecovery, *recovery, header, random);
    }
    keep_or_make_attestation_key(tpm, header);
    check_header(vault, sealed);
}

BundleFit check_bundle(const Disk& disk, const SealingRequest& request, const Endpoint& endpoint,
                       const volume::VaultId* vault_id) {
    const volume::GptEntry boot = read_partition_tables(disk).primary.boot_partition();
    if (!boot_file_exists(disk, boot, kBundleFile)) return BundleFit::kNone;
    const Buffer content = read_boot_file(disk, boot, kBundleFile, kMaxSmallFile);
    const policies::Bundle bundle = expect(policies::parse_bundle(content), disk.path() + ": its policy bundle");
    const auto demand = [&](bool same, const std::string& what) {
        if (!same) {
            throw ToolError(disk.path() + ": its policy bundle has another " + what +
                            "; make a new one (policyctl bundle)");
        }
    };
    const bool pinned = bundle.enrollment.empty();
    demand(!pinned || equal_bytes(bundle.srk_name, endpoint.storage_root_key),
           "SRK than this TPM's, whose name is " + hex(endpoint.storage_root_key));
    demand(equal_bytes(bundle.authority, endpoint.authority.bytes()), "authority than --authority");
    demand(equal_bytes(bundle.policy_ref, text_bytes(request.policy_ref)), "policy reference than --policy-ref");
    demand(bundle.counter_index == request.counter_index, "rollback counter than --counter-index");
    demand(bundle.has(policies::BundleFlag::kMachineAcpi) == request.machine_acpi,
           "source of ACPI tables than --acpi " + std::string(request.machine_acpi ? "machine" : "minimal"));
    if (!pinned) return BundleFit::kFleet;
    const bool same = vault_id != nullptr && equal_bytes(bundle.vault_id, *vault_id);
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
                {"label", "endpoint-" + hex(Bytes(header.vault_id).first(4))},
                {"ak_name", hex(tpm::name_of(header.attestation_key_public.bytes()))},
                {"ak_public", attestation_key_pem(header)},
                {"generation", header.generation},
                {"key_epoch", header.data_key.epoch},
                {"sector_size", header.sector_size},
                {"total_sectors", header.total_sectors},
                {"encrypted_bytes", encrypted * header.sector_size},
                {"regions", regions_json(header)}};
    if (header.slots.tpm) {
        result["srk_name"] = hex(header.slots.tpm->storage_root_key);
        result["authority_name"] = hex(header.slots.tpm->authority);
    }
    return result;
}

void add_sealing(json& to, const SealingRequest& request, const Endpoint& endpoint, BundleFit fit,
                 const std::string& disk) {
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
    next.push_back("policyctl sign --key AUTHORITY.pem --counter-limit " + std::to_string(endpoint.counter.value) +
                   install);
    to["next"] = next;
}

}  // namespace gatehouse::host
