#include "keyvault/tpm/endorsement.hpp"

#include <algorithm>

#include "keyvault/tpm/command.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::tpm {
namespace {

struct Range {
    TPM2_HANDLE first;
    TPM2_HANDLE last;
};
constexpr Range kRanges[] = {
    {0x01c00002, 0x01c0000c},  // certificates, nonces and templates of the low range
    {0x01c00012, 0x01c00022},  // of the high range
    {0x01c00100, 0x01c001ff},  // the vendor's CA certificates
    {0x81010000, 0x8101ffff},  // endorsement keys
};

Status check_handle(Tpm& tpm, TPM2_HANDLE handle) {
    if (!is_endorsement_handle(handle)) return {Error::kOutOfRange, "endorsement: handle", handle};
    GATEHOUSE_ASSIGN(const bool exists, tpm.handle_exists(handle));
    if (!exists) return {Error::kNotFound, "endorsement: handle", handle};
    return {};
}

Result<std::size_t> read_index(Tpm& tpm, TPM2_HANDLE index, MutableBytes out) {
    GATEHOUSE_ASSIGN(const NvPublic area, tpm.nv_read_public(index));
    if ((area.attributes & TPMA_NV_WRITTEN) == 0) return {Error::kNotFound, "endorsement: NV contents", index};
    if (area.data_size > out.size()) return {Error::kNoSpace, "endorsement: NV contents", area.data_size};
    TPM2_HANDLE authorization = index;
    if ((area.attributes & TPMA_NV_AUTHREAD) == 0) {
        if ((area.attributes & (TPMA_NV_OWNERREAD | TPMA_NV_PPREAD)) == 0) {
            return {Error::kRefused, "endorsement: NV attributes", area.attributes};
        }
        authorization = (area.attributes & TPMA_NV_OWNERREAD) != 0 ? TPM2_RH_OWNER : TPM2_RH_PLATFORM;
    }
    GATEHOUSE_ASSIGN(const std::uint32_t largest, tpm.property(TPM2_PT_NV_BUFFER_MAX));
    const std::size_t part = std::clamp<std::size_t>(largest, 32, Tpm::kBufferSize / 2);
    for (std::size_t at = 0; at < area.data_size; at += part) {
        const std::size_t size = std::min(part, area.data_size - at);
        GATEHOUSE_TRY(tpm.nv_read(authorization, index, at, out.subspan(at, size)));
    }
    return area.data_size;
}

}  // namespace

bool is_endorsement_handle(TPM2_HANDLE handle) {
    return std::ranges::any_of(kRanges, [=](const Range& r) { return handle >= r.first && handle <= r.last; });
}

Result<std::size_t> read_endorsement(Tpm& tpm, TPM2_HANDLE handle, MutableBytes out) {
    GATEHOUSE_TRY(check_handle(tpm, handle));
    if (handle < TPM2_PERSISTENT_FIRST) return read_index(tpm, handle, out);
    GATEHOUSE_ASSIGN(const PublicArea area, tpm.read_public(handle));
    if (area.size() > out.size()) return {Error::kNoSpace, "endorsement: public area", area.size()};
    copy_bytes(out, area.bytes());
    return area.size();
}

Result<std::size_t> activate_credential(Tpm& tpm, RandomSource& random, TPM2_HANDLE endorsement_key, Bytes key_public,
                                        Bytes key_private, Bytes credential, Bytes secret, MutableBytes out) {
    GATEHOUSE_TRY(check_handle(tpm, endorsement_key));
    GATEHOUSE_ASSIGN(const PublicArea endorsement, tpm.read_public(endorsement_key));
    Reader fields(endorsement.bytes(), Endian::kBig);
    fields.skip(4);  // type, name algorithm
    const bool by_password = (fields.u32() & TPMA_OBJECT_USERWITHAUTH) != 0;
    GATEHOUSE_ASSIGN(const Flushed key, tpm.load(kStorageRootKey, key_private, key_public));
    PolicySession session;
    if (!by_password) {
        GATEHOUSE_ASSIGN(session, PolicySession::start(tpm, random));
        GATEHOUSE_TRY(session.policy_secret(TPM2_RH_ENDORSEMENT));
    }
    Command command(tpm, TPM2_CC_ActivateCredential, "TPM2_ActivateCredential");
    command.handle(key.handle()).handle(endorsement_key).password();
    if (by_password) {
        command.password();
    } else {
        session.authorize(command, TPMA_SESSION_CONTINUESESSION);
    }
    command.parameters().sized(credential);
    command.parameters().sized(secret);
    const auto size = [&]() -> Result<std::size_t> {
        Bytes parameters;
        if (by_password) {
            GATEHOUSE_ASSIGN(const Response response, command.execute());
            parameters = response.parameters;
        } else {
            GATEHOUSE_ASSIGN(parameters, session.execute(command, {}, TPMA_SESSION_CONTINUESESSION));
        }
        Reader reader(parameters, Endian::kBig);
        const Bytes released = reader.sized();
        GATEHOUSE_TRY(reader.finished(command.name()));
        if (released.empty() || released.size() > out.size()) {
            return {Error::kBadLength, command.name(), released.size()};
        }
        copy_bytes(out, released);
        return released.size();
    }();
    tpm.wipe_response();
    return size;
}

}  // namespace gatehouse::tpm
