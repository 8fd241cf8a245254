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

// A TPM's refusal that says that there is no such index or key.
Failure explain(const Failure& failure) {
    const bool absent = failure.error == Error::kTpmError && (failure.detail & 0xff) == TPM2_RC_HANDLE;
    return absent ? Failure{Error::kNotFound, "endorsement: handle", failure.detail} : failure;
}

Result<std::size_t> read_index(Tpm& tpm, TPM2_HANDLE index, MutableBytes out) {
    constexpr std::size_t kPart = 256;  // at a time: below the TPM2_PT_NV_BUFFER_MAX of every TPM of a PC
    Command command(tpm, TPM2_CC_NV_ReadPublic, "TPM2_NV_ReadPublic");
    GATEHOUSE_ASSIGN(const Response response, command.with(index).execute());
    Reader reader = response.reader();
    Reader area(reader.sized(), Endian::kBig);  // TPMS_NV_PUBLIC (Part 2, 13.5)
    (void)reader.sized();                       // Name
    GATEHOUSE_TRY(reader.finished(command.name()));
    area.skip(sizeof(TPM2_HANDLE) + sizeof(TPM2_ALG_ID));
    const TPMA_NV attributes = area.u32();
    (void)area.sized();  // policy
    const std::size_t size = area.u16();
    GATEHOUSE_TRY(area.finished(command.name()));
    if ((attributes & TPMA_NV_WRITTEN) == 0) return {Error::kNotFound, "endorsement: NV contents", index};
    if (size > out.size()) return {Error::kNoSpace, "endorsement: NV contents", size};
    if ((attributes & (TPMA_NV_AUTHREAD | TPMA_NV_OWNERREAD)) == 0) {
        return {Error::kRefused, "endorsement: NV attributes", attributes};
    }
    const TPM2_HANDLE authorization = (attributes & TPMA_NV_AUTHREAD) != 0 ? index : TPM2_RH_OWNER;
    for (std::size_t at = 0; at < size; at += kPart) {
        const MutableBytes part = out.subspan(at, std::min(kPart, size - at));
        Command read(tpm, TPM2_CC_NV_Read, "TPM2_NV_Read");
        read.with(authorization, index).password();
        read.with(static_cast<std::uint16_t>(part.size()), static_cast<std::uint16_t>(at));
        GATEHOUSE_ASSIGN(const Response contents, read.execute());
        GATEHOUSE_TRY(contents.copy_sized(part));
    }
    return size;
}

Result<std::size_t> read_key(Tpm& tpm, TPM2_HANDLE key, MutableBytes out) {
    GATEHOUSE_ASSIGN(const PublicArea area, tpm.read_public(key));
    if (area.size() > out.size()) return {Error::kNoSpace, "endorsement: public area", area.size()};
    copy_bytes(out, area.bytes());
    return area.size();
}

}  // namespace

bool is_endorsement_handle(TPM2_HANDLE handle) {
    return std::ranges::any_of(kRanges, [=](const Range& r) { return handle >= r.first && handle <= r.last; });
}

Result<std::size_t> read_endorsement(Tpm& tpm, TPM2_HANDLE handle, MutableBytes out) {
    if (!is_endorsement_handle(handle)) return {Error::kOutOfRange, "endorsement: handle", handle};
    auto size = handle < TPM2_PERSISTENT_FIRST ? read_index(tpm, handle, out) : read_key(tpm, handle, out);
    if (!size) return explain(size.failure());
    return size;
}

Result<std::size_t> activate_credential(Tpm& tpm, RandomSource& random, TPM2_HANDLE endorsement_key, Bytes key_public,
                                        Bytes key_private, Bytes credential, Bytes secret, MutableBytes out) {
    if (!is_endorsement_handle(endorsement_key)) return {Error::kOutOfRange, "endorsement: handle", endorsement_key};
    const auto endorsement = tpm.read_public(endorsement_key);
    if (!endorsement) return explain(endorsement.failure());
    Reader fields(endorsement->bytes(), Endian::kBig);
    fields.skip(4);  // type, name algorithm
    const bool by_password = (fields.u32() & TPMA_OBJECT_USERWITHAUTH) != 0;
    GATEHOUSE_ASSIGN(const Flushed key, tpm.load(kStorageRootKey, key_private, key_public));
    PolicySession session;
    if (!by_password) {
        GATEHOUSE_ASSIGN(session, PolicySession::start(tpm, random));
        GATEHOUSE_TRY(session.policy_secret(TPM2_RH_ENDORSEMENT));
    }
    Command command(tpm, TPM2_CC_ActivateCredential, "TPM2_ActivateCredential");
    command.with(key.handle(), endorsement_key).password();
    if (by_password) {
        command.password();
    } else {
        session.authorize(command);
    }
    command.with(credential, secret);
    const auto size = [&]() -> Result<std::size_t> {
        GATEHOUSE_ASSIGN(const Response response, by_password ? command.execute() : session.execute(command));
        GATEHOUSE_ASSIGN(const Bytes released, response.sized());
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
