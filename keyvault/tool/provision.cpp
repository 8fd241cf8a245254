#include "keyvault/tool/provision.hpp"

#include <sys/random.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "keyvault/tool/authority.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::Header;

constexpr std::size_t kMaxSmallFile = 64 * 1024;
constexpr const char* kBundleFile = "policy.bundle";
constexpr const char* kApprovalFile = "policy.approval";

// In place of a header while encryption goes on: a run that was interrupted must not be followed by another
// one, which would encrypt twice what the first has done.
Bytes interrupted_marker() { return literal_bytes("GHPROVIS"); }

bool starts_with(Bytes bytes, Bytes magic) { return equal_bytes(bytes.first(magic.size()), magic); }

std::string index_text(TPM2_HANDLE index) {
    std::array<std::byte, 4> bytes{};
    store(bytes.data(), index, Endian::kBig);
    return "0x" + hex(bytes);
}

// The operating system's and the TPM's random numbers, mixed.
class EndpointRandom final : public RandomSource {
  public:
    explicit EndpointRandom(EndpointTpm& tpm) {
        Secret<32> seed;
        if (::getrandom(seed.bytes().data(), seed.kSize, 0) != static_cast<ssize_t>(seed.kSize)) {
            throw ToolError("the system's random numbers cannot be read");
        }
        random_.seed(seed.bytes());
        tpm.random(seed.bytes());
        random_.seed(seed.bytes());
    }
    void fill(MutableBytes out) override { random_.fill(out); }

  private:
    Random random_;
};

// --- Provisioning

struct Endpoint {
    tpm::Name storage_root_key{};
    tpm::PublicArea authority;
    RollbackCounter counter;
};

void refuse_existing_vault(const Disk& disk) {
    const volume::GptEntry vault = read_primary_table(disk).vault_partition();
    for (const Buffer& copy : read_header_copies(disk, vault)) {
        if (starts_with(copy, literal_bytes("GHVAULT1"))) {
            throw ToolError(disk.path() + ": already provisioned (sealed-key status shows its vault)");
        }
        if (starts_with(copy, interrupted_marker())) {
            throw ToolError(disk.path() +
                            ": an earlier provisioning was interrupted, part of the disk is encrypted with a key that "
                            "is lost; write the image anew and provision that");
        }
    }
}

// The bundle is measured: if it pins other values than those of this vault, the vault could never be opened.
void check_bundle(const Disk& disk, const ProvisionRequest& request, const Endpoint& endpoint) {
    const volume::GptEntry boot = read_primary_table(disk).boot_partition();
    if (!boot_file_exists(disk, boot, kBundleFile)) return;
    const Buffer content = read_boot_file(disk, boot, kBundleFile, kMaxSmallFile);
    const policies::Bundle bundle = expect(policies::parse_bundle(content), disk.path() + ": its policy bundle");
    const auto demand = [&](bool same, const std::string& what) {
        if (!same) throw ToolError(disk.path() + ": its policy bundle pins another " + what + "; make a new bundle");
    };
    demand(equal_bytes(bundle.srk_name, endpoint.storage_root_key),
           "SRK than this TPM's, whose name is " + hex(endpoint.storage_root_key));
    demand(equal_bytes(bundle.authority, endpoint.authority.bytes()), "authority than --authority");
    demand(equal_bytes(bundle.policy_ref, text_bytes(request.policy_ref)), "policy reference than --policy-ref");
    demand(bundle.counter_index == request.counter_index, "rollback counter than --counter-index");
}

struct Secrets {
    volume::SlotSecret sealed;
    volume::SlotSecret recovery;
    volume::Keys keys;
};

void make_slots_and_keys(const ProvisionRequest& request, EndpointTpm& tpm, const Endpoint& endpoint,
                         RandomSource& random, Header& header, Secrets& secrets) {
    random.fill(secrets.sealed.bytes());
    random.fill(secrets.recovery.bytes());
    random.fill(secrets.keys.kek.bytes());
    random.fill(secrets.keys.dek.bytes());

    const tpm::Name authority = tpm::name_of(endpoint.authority.bytes());
    const TpmObject sealed =
        tpm.seal(secrets.sealed, tpm::authorize_policy_digest(authority, text_bytes(request.policy_ref)));
    volume::TpmSlot& slot = header.slots.tpm.emplace();
    expect(slot.sealed_public.assign(sealed.public_area.bytes(), "sealed object"), "vault header");
    expect(slot.sealed_private.assign(sealed.private_blob.bytes(), "sealed object"), "vault header");
    slot.storage_root_key = endpoint.storage_root_key;
    slot.authority = authority;
    slot.kek = volume::wrap_kek(secrets.keys.kek, volume::SlotKind::kTpm, secrets.sealed, header.disk, random);
    if (!request.recovery_key_out.empty()) {
        header.slots.recovery.emplace().kek =
            volume::wrap_kek(secrets.keys.kek, volume::SlotKind::kRecovery, secrets.recovery, header.disk, random);
    }

    const TpmObject key = tpm.create_attestation_key();
    expect(header.attestation_key_public.assign(key.public_area.bytes(), "attestation key"), "vault header");
    expect(header.attestation_key_private.assign(key.private_blob.bytes(), "attestation key"), "vault header");
    header.data_key = expect(volume::wrap_dek(secrets.keys.dek, 1, secrets.keys.kek, header.disk, random), "disk key");
}

// The header as it goes to disk, after it has been opened again with the sealed secret.
Buffer serialised(const Header& header, const Secrets& secrets) {
    Buffer copy(volume::kMaximumHeaderSize);
    copy.resize(expect(volume::serialise(header, secrets.keys.kek, copy), "vault header"));
    const auto opened = std::make_unique<Header>();
    volume::Keys keys;
    expect(volume::open_header(copy, volume::SlotKind::kTpm, secrets.sealed, &header.disk, *opened, keys),
           "vault header");
    if (!keys.dek.equals(secrets.keys.dek.bytes())) throw ToolError("vault header: the disk key does not come back");
    return copy;
}

void write_recovery_key(const std::string& path, const volume::SlotSecret& secret) {
    Secret<2 * volume::kSlotSecretSize + 1> text;
    write_hex(secret.bytes(), text.bytes());
    text.bytes().back() = std::byte{'\n'};
    create_file(path, text.bytes(), 0600);
}

Key attestation_key(Bytes public_area) {
    // TPMT_PUBLIC of the template: the point is the last 68 bytes, each coordinate after its size.
    Reader reader(public_area.last(68), Endian::kBig);
    const Bytes x = reader.sized();
    const Bytes y = reader.sized();
    expect(reader.finished("attestation key: its point"), "TPM");
    return ecc_key(x, y);
}

void encrypt_and_write(Disk& disk, const Header& header, const Secrets& secrets, Bytes copy) {
    const std::uint64_t vault = read_primary_table(disk).vault_partition().first;
    const auto place = [&](std::size_t i) { return vault + volume::kCopyOffset[i] / disk.sector_size(); };
    const auto put = [&](std::size_t i, Bytes content) {
        Buffer whole(volume::kMaximumHeaderSize);
        copy_bytes(whole, content);
        disk.write(place(i), whole);
        disk.flush();
    };
    put(0, interrupted_marker());
    put(1, interrupted_marker());
    encrypt_in_place(disk, encrypted_extents(header), secrets.keys.dek);
    put(1, copy);
    put(0, copy);
}

json regions_json(const Header& header) {
    json regions = json::array();
    for (const volume::Region& region : header.region_table()) {
        const char* const kind = region.kind == volume::RegionClass::kHidden    ? "hidden"
                                 : region.kind == volume::RegionClass::kOverlay ? "overlay"
                                                                                : "read-only";
        regions.push_back({{"first", region.first}, {"count", region.count}, {"kind", kind}});
    }
    return regions;
}

void add_body(json& to, const Header& header) {
    std::uint64_t encrypted = 0;
    for (const Extent& extent : encrypted_extents(header)) encrypted += extent.count;
    to["key_epoch"] = header.data_key.epoch;
    to["sector_size"] = header.sector_size;
    to["total_sectors"] = header.total_sectors;
    to["encrypted_bytes"] = encrypted * header.sector_size;
    to["regions"] = regions_json(header);
}

}  // namespace

json provision(const ProvisionRequest& request) {
    const auto start = std::chrono::steady_clock::now();
    EndpointTpm tpm(request.tcti);
    Endpoint endpoint;
    endpoint.authority = authority_public_area(read_public_key(request.authority).get());
    const auto header = std::make_unique<Header>();
    {
        const Disk disk(request.disk, Disk::Access::kRead);
        lay_out(disk, *header);
        refuse_existing_vault(disk);
        endpoint.storage_root_key = tpm.require_storage_root_key();
        check_bundle(disk, request, endpoint);
    }
    if (request.policy_ref.size() > policies::kMaxPolicyRef) {
        throw ToolError("--policy-ref: at most 32 bytes", ExitCode::kUsage);
    }
    endpoint.counter = tpm.require_rollback_counter(request.counter_index);

    Secrets secrets;
    EndpointRandom random(tpm);
    make_slots_and_keys(request, tpm, endpoint, random, *header, secrets);
    const Buffer copy = serialised(*header, secrets);
    const std::string pem = public_key_pem(attestation_key(header->attestation_key_public.bytes()).get());

    Disk disk(request.disk, Disk::Access::kWrite);
    refuse_existing_vault(disk);  // nobody else can be at it from here on
    if (!request.recovery_key_out.empty()) write_recovery_key(request.recovery_key_out, secrets.recovery);
    if (!request.attestation_key_out.empty()) replace_file(request.attestation_key_out, text_bytes(pem));
    encrypt_and_write(disk, *header, secrets, copy);

    json result{{"disk", guid_text(header->disk)},
                {"generation", header->generation},
                {"srk_name", hex(endpoint.storage_root_key)},
                {"authority_name", hex(header->slots.tpm->authority)},
                {"policy_ref", request.policy_ref},
                {"counter", {{"index", index_text(endpoint.counter.index)}, {"value", endpoint.counter.value}}},
                {"ak_name", hex(tpm::name_of(header->attestation_key_public.bytes()))},
                {"ak_public", pem}};
    add_body(result, *header);
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

void open_with_recovery_key(const Disk& disk, const std::string& key_file, Header& header, volume::Keys& keys) {
    Buffer text = read_file(key_file, 256);
    volume::SlotSecret secret;
    {
        std::string_view digits(reinterpret_cast<const char*>(text.data()), text.size());
        while (!digits.empty() && (digits.back() == '\n' || digits.back() == '\r')) digits.remove_suffix(1);
        Buffer bytes = from_hex(digits, key_file);
        const bool fits = bytes.size() == secret.kSize;
        if (fits) copy_bytes(secret.bytes(), bytes);
        wipe(bytes);
        wipe(text);
        if (!fits) throw ToolError(key_file + ": a recovery key is 64 hex digits");
    }
    const PartitionTable table = read_primary_table(disk);
    const auto copies = read_header_copies(disk, table.vault_partition());
    const volume::Candidates candidates = volume::select_candidates(copies[0], copies[1]);
    Status newest{Error::kNotFound, "vault header"};
    for (std::size_t i = 0; i < candidates.count; ++i) {
        const Status opened = volume::open_header(copies[candidates.copy[i]], volume::SlotKind::kRecovery, secret,
                                                  &table.header.disk, header, keys);
        if (opened.ok()) return;
        if (i == 0) newest = opened;
    }
    throw ToolError(disk.path() + ": the recovery key does not open the vault: " + describe(newest.failure()));
}

namespace {

json tpm_status(const StatusRequest& request, const volume::Preview& preview, TPM2_HANDLE counter_index, bool& ok) {
    EndpointTpm tpm(request.tcti);
    json result{{"srk_name", nullptr}, {"srk_match", false}, {"counter", nullptr}};
    if (const auto name = tpm.storage_root_key()) {
        result["srk_name"] = hex(*name);
        result["srk_match"] = preview.slots.tpm && equal_bytes(preview.slots.tpm->storage_root_key, *name);
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

}  // namespace

json status(const StatusRequest& request, bool& ok) {
    const Disk disk(request.disk, Disk::Access::kRead);
    const PartitionTable table = read_primary_table(disk);
    const auto copies = read_header_copies(disk, table.vault_partition());
    const volume::Candidates candidates = volume::select_candidates(copies[0], copies[1]);
    json result{{"state", "none"}, {"copies", json::array()}};
    std::array<volume::Preview, volume::kCopies> previews;
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        const bool good = volume::preview(copies[i], previews[i]).ok();
        result["copies"].push_back(good ? json(previews[i].generation) : json(nullptr));
        if (starts_with(copies[i], interrupted_marker())) result["state"] = "interrupted";
    }
    ok = candidates.count != 0;
    if (!ok) return result;

    const volume::Preview& newest = previews[candidates.copy[0]];
    result["state"] = "provisioned";
    result["generation"] = newest.generation;
    result["disk"] = guid_text(newest.disk);
    result["slots"] = {{"tpm", nullptr}, {"recovery", newest.slots.recovery.has_value()}};
    if (newest.slots.tpm) {
        result["slots"]["tpm"] = {{"srk_name", hex(newest.slots.tpm->storage_root_key)},
                                  {"authority_name", hex(newest.slots.tpm->authority)}};
    }
    const BootFacts facts = read_boot_facts(disk, table.boot_partition());
    result["counter_limit"] = facts.counter_limit;
    if (!request.tcti.empty()) result["tpm"] = tpm_status(request, newest, facts.counter_index, ok);
    if (!request.recovery_key.empty()) {
        const auto header = std::make_unique<Header>();
        volume::Keys keys;
        try {
            open_with_recovery_key(disk, request.recovery_key, *header, keys);
            result["authenticated"] = true;
            add_body(result, *header);
        } catch (const ToolError& error) {
            result["authenticated"] = false;
            result["reason"] = error.what();
            ok = false;
        }
    }
    return result;
}

}  // namespace gatehouse::host
