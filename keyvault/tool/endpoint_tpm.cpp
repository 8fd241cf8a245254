#include "keyvault/tool/endpoint_tpm.hpp"

#include <tss2/tss2_mu.h>

#include <memory>

#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::host {
namespace {

TPM2B_PUBLIC public_of(Bytes area) {
    TPM2B_PUBLIC result{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Unmarshal(octets(area), area.size(), &offset, &result.publicArea), "public area");
    return result;
}

tpm::PublicArea area_of(const TPMT_PUBLIC& from) {
    std::array<std::uint8_t, tpm::PublicArea::kCapacity> bytes{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Marshal(&from, bytes.data(), bytes.size(), &offset), "public area");
    tpm::PublicArea area;
    expect(area.assign(std::as_bytes(std::span(bytes)).first(offset), "public area"), "TPM");
    return area;
}

tpm::Name name_from(const TPM2B_NAME& from, const char* what) {
    tpm::Name name{};
    if (from.size != name.size()) throw ToolError(std::string("TPM: ") + what + ": no SHA-256 name");
    copy_bytes(name, std::as_bytes(std::span(from.name, from.size)));
    return name;
}

const TPM2B_DATA kNoData{};
const TPML_PCR_SELECTION kNoPcrs{};
const TPM2B_SENSITIVE_CREATE kNoSensitive{};
const TPM2B_AUTH kNoAuth{};

}  // namespace

// HMAC session salted to the storage root key; first parameters of commands and responses are encrypted.
class EndpointTpm::Session {
  public:
    Session(ESYS_CONTEXT* context, ESYS_TR salt_key) : session_(context) {
        const TPMT_SYM_DEF symmetric{.algorithm = TPM2_ALG_AES, .keyBits = {.aes = 128}, .mode = {.aes = TPM2_ALG_CFB}};
        check(Esys_StartAuthSession(context, salt_key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr,
                                    TPM2_SE_HMAC, &symmetric, TPM2_ALG_SHA256, &session_.handle),
              "session");
        constexpr TPMA_SESSION kAttributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;
        check(Esys_TRSess_SetAttributes(context, session_.handle, kAttributes, 0xff), "session");
    }
    [[nodiscard]] ESYS_TR handle() const { return session_.handle; }
    void authorize_only() const {
        check(Esys_TRSess_SetAttributes(session_.context, session_.handle, TPMA_SESSION_CONTINUESESSION, 0xff),
              "session");
    }
    // Of the response alone: for commands without a sized first parameter.
    void encrypt_response_only() const {
        check(Esys_TRSess_SetAttributes(session_.context, session_.handle,
                                        TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT, 0xff),
              "session");
    }

  private:
    Transient session_;
};

std::string index_text(TPM2_HANDLE index) { return "0x" + hex(encoded(std::uint32_t{index}, Endian::kBig)); }

EndpointTpm::EndpointTpm(const std::string& tcti, const std::string& owner_password)
    : EsapiTpm(tcti, "--tcti " + tcti), has_owner_password_(!owner_password.empty()) {
    if (!has_owner_password_) return;
    Buffer text = read_line(owner_password, sizeof(TPMU_HA));
    TPM2B_AUTH password{.size = static_cast<std::uint16_t>(text.size()), .buffer = {}};
    std::memcpy(password.buffer, text.data(), text.size());
    const TSS2_RC set = Esys_TR_SetAuth(context(), ESYS_TR_RH_OWNER, &password);
    wipe(text);
    wipe(&password, sizeof(password));
    check(set, "owner password");
}

void EndpointTpm::as_owner(const char* what, const std::function<TSS2_RC(ESYS_TR session)>& command) {
    const Session session(context(), exists(tpm::kStorageRootKey) ? persistent(tpm::kStorageRootKey) : ESYS_TR_NONE);
    session.authorize_only();
    try {
        check(command(session.handle()), what);
    } catch (const TpmError& error) {
        if (error.error() != TPM2_RC_BAD_AUTH && error.error() != TPM2_RC_AUTH_FAIL) throw;
        throw ToolError(std::string("TPM: ") + what +
                        (has_owner_password_
                             ? ": its owner hierarchy has another password than the one in --owner-password"
                             : ": its owner hierarchy has a password; give it by --owner-password FILE"));
    }
}

std::optional<tpm::Name> EndpointTpm::storage_root_key() {
    if (!exists(tpm::kStorageRootKey)) return std::nullopt;
    Freed<TPM2B_PUBLIC> area;
    Freed<TPM2B_NAME> name;
    check(Esys_ReadPublic(context(), persistent(tpm::kStorageRootKey), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                          &area.pointer, &name.pointer, nullptr),
          "storage root key");
    const tpm::Name reported = name_from(*name.pointer, "storage root key");
    const bool named = tpm::name_of(area_of(area->publicArea).bytes()) == reported;
    if (area->publicArea.type == TPM2_ALG_ECC) area->publicArea.unique.ecc = {};
    if (!named || !equal_bytes(area_of(area->publicArea).bytes(), tpm::storage_root_key_template().bytes())) {
        throw ToolError(
            "TPM: 0x81000001 holds another key than the TCG's ECC P-256 storage root key; if nothing uses "
            "it, remove it (tpm2_evictcontrol -c 0x81000001) and try again");
    }
    return reported;
}

tpm::Name EndpointTpm::require_storage_root_key() {
    if (const auto name = storage_root_key()) return *name;
    const TPM2B_PUBLIC area = public_of(tpm::storage_root_key_template().bytes());
    Transient key(context());
    as_owner("making the storage root key", [&](ESYS_TR session) {
        return Esys_CreatePrimary(context(), ESYS_TR_RH_OWNER, session, ESYS_TR_NONE, ESYS_TR_NONE, &kNoSensitive,
                                  &area, &kNoData, &kNoPcrs, &key.handle, nullptr, nullptr, nullptr, nullptr);
    });
    as_owner("keeping the storage root key", [&](ESYS_TR session) {
        ESYS_TR kept = ESYS_TR_NONE;
        return Esys_EvictControl(context(), ESYS_TR_RH_OWNER, key.handle, session, ESYS_TR_NONE, ESYS_TR_NONE,
                                 tpm::kStorageRootKey, &kept);
    });
    const auto name = storage_root_key();
    if (!name) throw ToolError("TPM: the storage root key was not kept");
    return *name;
}

std::uint64_t EndpointTpm::read_counter(ESYS_TR index) const {
    Freed<TPM2B_MAX_NV_BUFFER> data;
    check(Esys_NV_Read(context(), index, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, 8, 0, &data.pointer),
          "reading the rollback counter");
    if (data->size != 8) throw ToolError("TPM: the rollback counter has no 8 bytes");
    return load<std::uint64_t>(std::as_bytes(std::span(data->buffer)).data(), Endian::kBig);
}

std::optional<RollbackCounter> EndpointTpm::rollback_counter(TPM2_HANDLE index) {
    if (!exists(index)) return std::nullopt;
    const ESYS_TR resource = persistent(index);
    Freed<TPM2B_NAME> name;
    check(Esys_TR_GetName(context(), resource, &name.pointer), "rollback counter");
    const tpm::Name found = name_from(*name.pointer, "rollback counter");
    // Defined and never incremented: an earlier run was interrupted.
    if (found == tpm::name_of(tpm::rollback_counter_public(index, false).bytes())) return std::nullopt;
    if (found != tpm::rollback_counter_name(index)) {
        throw ToolError("TPM: NV index " + index_text(index) +
                        ", of the rollback counter, is in other use; choose another --counter-index");
    }
    return RollbackCounter{index, read_counter(resource)};
}

RollbackCounter EndpointTpm::require_rollback_counter(TPM2_HANDLE index) {
    if (const auto counter = rollback_counter(index)) return *counter;
    if (!exists(index)) {
        const auto area = tpm::rollback_counter_public(index, false);
        TPM2B_NV_PUBLIC definition{};
        std::size_t offset = 0;
        check(Tss2_MU_TPMS_NV_PUBLIC_Unmarshal(octets(area.bytes()), area.size(), &offset, &definition.nvPublic),
              "rollback counter");
        as_owner("making the rollback counter", [&](ESYS_TR session) {
            ESYS_TR defined = ESYS_TR_NONE;
            return Esys_NV_DefineSpace(context(), ESYS_TR_RH_OWNER, session, ESYS_TR_NONE, ESYS_TR_NONE, &kNoAuth,
                                       &definition, &defined);
        });
    }
    // The first increment gives it its lasting Name.
    as_owner("starting the rollback counter", [&](ESYS_TR session) {
        return Esys_NV_Increment(context(), ESYS_TR_RH_OWNER, persistent(index), session, ESYS_TR_NONE, ESYS_TR_NONE);
    });
    const auto counter = rollback_counter(index);
    if (!counter) throw ToolError("TPM: the rollback counter was not made");
    return *counter;
}

std::uint64_t EndpointTpm::increment(const RollbackCounter& counter) {
    const ESYS_TR index = persistent(counter.index);
    as_owner("incrementing the rollback counter", [&](ESYS_TR session) {
        return Esys_NV_Increment(context(), ESYS_TR_RH_OWNER, index, session, ESYS_TR_NONE, ESYS_TR_NONE);
    });
    return read_counter(index);
}

void EndpointTpm::remove_storage_root_key() {
    const ESYS_TR key = persistent(tpm::kStorageRootKey);
    as_owner("removing the storage root key", [&](ESYS_TR session) {
        ESYS_TR evicted = ESYS_TR_NONE;
        return Esys_EvictControl(context(), ESYS_TR_RH_OWNER, key, session, ESYS_TR_NONE, ESYS_TR_NONE,
                                 tpm::kStorageRootKey, &evicted);
    });
    if (exists(tpm::kStorageRootKey)) throw ToolError("TPM: the storage root key is still there");
}

void EndpointTpm::remove_rollback_counter(TPM2_HANDLE index) {
    const ESYS_TR resource = persistent(index);
    as_owner("removing the rollback counter", [&](ESYS_TR session) {
        return Esys_NV_UndefineSpace(context(), ESYS_TR_RH_OWNER, resource, session, ESYS_TR_NONE, ESYS_TR_NONE);
    });
    if (exists(index)) throw ToolError("TPM: the rollback counter is still there");
}

TpmObject EndpointTpm::create(Bytes public_template, const TPM2B_SENSITIVE_CREATE& sensitive) {
    const ESYS_TR parent = persistent(tpm::kStorageRootKey);
    const Session session(context(), parent);
    const TPM2B_PUBLIC area = public_of(public_template);
    Freed<TPM2B_PRIVATE> private_part;
    Freed<TPM2B_PUBLIC> public_part;
    check(Esys_Create(context(), parent, session.handle(), ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &area, &kNoData,
                      &kNoPcrs, &private_part.pointer, &public_part.pointer, nullptr, nullptr, nullptr),
          "creating an object");
    TpmObject object{.public_area = area_of(public_part->publicArea), .private_blob = {}};
    expect(
        object.private_blob.assign(std::as_bytes(std::span(private_part->buffer, private_part->size)), "private part"),
        "TPM");
    return object;
}

TpmObject EndpointTpm::seal(const Secret<32>& secret, const Sha256Digest& policy) {
    TPM2B_SENSITIVE_CREATE sensitive{};
    sensitive.sensitive.data.size = Secret<32>::kSize;
    std::memcpy(sensitive.sensitive.data.buffer, secret.bytes().data(), Secret<32>::kSize);
    const auto wiped = [&](void*) { wipe(&sensitive, sizeof(sensitive)); };
    const std::unique_ptr<void, decltype(wiped)> guard(&sensitive, wiped);
    return create(tpm::sealed_object_template(policy).bytes(), sensitive);
}

TpmObject EndpointTpm::create_attestation_key() {
    return create(tpm::attestation_key_template().bytes(), kNoSensitive);
}

bool EndpointTpm::can_load(Bytes public_area, Bytes private_blob) {
    const TPM2B_PUBLIC area = public_of(public_area);
    TPM2B_PRIVATE secret{};
    if (private_blob.size() > sizeof(secret.buffer)) return false;
    secret.size = static_cast<std::uint16_t>(private_blob.size());
    std::memcpy(secret.buffer, private_blob.data(), private_blob.size());
    Transient object(context());
    return Esys_Load(context(), persistent(tpm::kStorageRootKey), ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &secret,
                     &area, &object.handle) == TSS2_RC_SUCCESS;
}

void EndpointTpm::random(MutableBytes out) {
    const Session session(context(), persistent(tpm::kStorageRootKey));
    session.encrypt_response_only();
    Freed<TPM2B_DIGEST> bytes;
    check(Esys_GetRandom(context(), session.handle(), ESYS_TR_NONE, ESYS_TR_NONE,
                         static_cast<std::uint16_t>(out.size()), &bytes.pointer),
          "random numbers");
    if (bytes->size != out.size()) throw ToolError("TPM: fewer random numbers than asked for");
    copy_bytes(out, std::as_bytes(std::span(bytes->buffer, bytes->size)));
    wipe(bytes.pointer, sizeof(*bytes.pointer));
}

}  // namespace gatehouse::host
