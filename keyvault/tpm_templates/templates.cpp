#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::tpm {
namespace {

constexpr std::size_t kCoordinate = 32;

// TPMT_PUBLIC as far as its policy.
Writer begin(MutableBytes out, TPM2_ALG_ID type, TPMA_OBJECT attributes, Bytes policy) {
    Writer writer(out, Endian::kBig);
    writer.u16(type);
    writer.u16(TPM2_ALG_SHA256);
    writer.u32(attributes);
    writer.sized(policy);
    return writer;
}

// An ECC point without coordinates: the TPM fills it in.
void no_point(Writer& writer) {
    writer.sized({});
    writer.sized({});
}

template <typename Area>
Area area_of(const Writer& writer) {
    Area area;
    (void)area.assign(writer.written(), "template");
    return area;
}

void padded(Writer& writer, Bytes number, std::size_t size) {
    writer.u16(static_cast<std::uint16_t>(size));
    writer.zeros(size - number.size());
    writer.bytes(number);
}

}  // namespace

PublicArea storage_root_key_template() {
    std::array<std::byte, 128> out{};
    Writer writer =
        begin(out, TPM2_ALG_ECC,
              TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                  TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
              {});
    writer.u16(TPM2_ALG_AES);
    writer.u16(128);
    writer.u16(TPM2_ALG_CFB);
    writer.u16(TPM2_ALG_NULL);  // scheme
    writer.u16(TPM2_ECC_NIST_P256);
    writer.u16(TPM2_ALG_NULL);  // KDF
    no_point(writer);
    return area_of<PublicArea>(writer);
}

PublicArea sealed_object_template(const Sha256Digest& policy) {
    std::array<std::byte, 128> out{};
    Writer writer =
        begin(out, TPM2_ALG_KEYEDHASH,
              TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_NODA | TPMA_OBJECT_ADMINWITHPOLICY, policy);
    writer.u16(TPM2_ALG_NULL);  // scheme
    writer.sized({});           // unique
    return area_of<PublicArea>(writer);
}

// Without userWithAuth, signing (USER role) needs the policy: locality 2. Without adminWithPolicy, the ADMIN role of
// TPM2_ActivateCredential takes the empty password: its policy would have to name the command besides the locality
// (Part 1, 19.2.3: PolicyCommandCode), and it releases nothing but a proof that the key is in this TPM.
PublicArea attestation_key_template() {
    std::array<std::byte, 128> out{};
    Writer writer = begin(out, TPM2_ALG_ECC,
                          TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                              TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT,
                          attestation_key_policy_digest());
    writer.u16(TPM2_ALG_NULL);  // symmetric
    writer.u16(TPM2_ALG_ECDSA);
    writer.u16(TPM2_ALG_SHA256);
    writer.u16(TPM2_ECC_NIST_P256);
    writer.u16(TPM2_ALG_NULL);  // KDF
    no_point(writer);
    return area_of<PublicArea>(writer);
}

Result<PublicArea> authority_public_ecc(Bytes x, Bytes y) {
    if (x.size() != kCoordinate || y.size() != kCoordinate) {
        return {Error::kBadLength, "authority key: coordinate", x.size()};
    }
    std::array<std::byte, 128> out{};
    Writer writer = begin(out, TPM2_ALG_ECC, TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT, {});
    writer.u16(TPM2_ALG_NULL);  // symmetric
    writer.u16(TPM2_ALG_ECDSA);
    writer.u16(TPM2_ALG_SHA256);
    writer.u16(TPM2_ECC_NIST_P256);
    writer.u16(TPM2_ALG_NULL);  // KDF
    writer.sized(x);
    writer.sized(y);
    return area_of<PublicArea>(writer);
}

Result<PublicArea> authority_public_rsa(Bytes modulus) {
    if (modulus.size() != 256 && modulus.size() != 384) {
        return {Error::kUnsupported, "authority key: RSA modulus", modulus.size()};
    }
    std::array<std::byte, PublicArea::kCapacity> out{};
    Writer writer = begin(out, TPM2_ALG_RSA, TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT, {});
    writer.u16(TPM2_ALG_NULL);  // symmetric
    writer.u16(TPM2_ALG_RSASSA);
    writer.u16(TPM2_ALG_SHA256);
    writer.u16(static_cast<std::uint16_t>(modulus.size() * 8));
    writer.u32(0);  // exponent: 65537
    writer.sized(modulus);
    return area_of<PublicArea>(writer);
}

Result<SignatureBlob> signature_ecdsa(Bytes r, Bytes s) {
    if (r.size() > kCoordinate || s.size() > kCoordinate) return {Error::kBadLength, "ECDSA signature", r.size()};
    std::array<std::byte, 128> out{};
    Writer writer(out, Endian::kBig);
    writer.u16(TPM2_ALG_ECDSA);
    writer.u16(TPM2_ALG_SHA256);
    padded(writer, r, kCoordinate);
    padded(writer, s, kCoordinate);
    return area_of<SignatureBlob>(writer);
}

Result<SignatureBlob> signature_rsassa(Bytes signature) {
    std::array<std::byte, SignatureBlob::kCapacity> out{};
    Writer writer(out, Endian::kBig);
    writer.u16(TPM2_ALG_RSASSA);
    writer.u16(TPM2_ALG_SHA256);
    writer.sized(signature);
    GATEHOUSE_TRY(writer.status("RSASSA signature"));
    return area_of<SignatureBlob>(writer);
}

Blob<64> rollback_counter_public(TPM2_HANDLE index, bool written) {
    std::array<std::byte, 64> out{};
    Writer writer(out, Endian::kBig);
    writer.u32(index);
    writer.u16(TPM2_ALG_SHA256);
    writer.u32(TPMA_NV_OWNERWRITE | (TPM2_NT_COUNTER << TPMA_NV_TPM2_NT_SHIFT) | TPMA_NV_OWNERREAD | TPMA_NV_AUTHREAD |
               TPMA_NV_NO_DA | (written ? TPMA_NV_WRITTEN : 0));
    writer.sized({});  // no policy
    writer.u16(8);     // data size
    return area_of<Blob<64>>(writer);
}

Name rollback_counter_name(TPM2_HANDLE index) { return name_of(rollback_counter_public(index, true).bytes()); }

}  // namespace gatehouse::tpm
