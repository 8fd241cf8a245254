// What the reader and the writers of a vault header share. Internal to keyvault/volume.
#pragma once

#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {

inline constexpr std::size_t kGenerationAt = 16;
inline constexpr std::size_t kMacSize = kSha256Size;

// HKDF info strings and associated data. A key of one purpose is never one of another.
inline Bytes slot_label(SlotKind slot) {
    return slot == SlotKind::kTpm        ? literal_bytes("gatehouse vault v2: KEK in TPM slot")
           : slot == SlotKind::kRecovery ? literal_bytes("gatehouse vault v2: KEK in recovery slot")
                                         : literal_bytes("gatehouse vault v2: KEK in member slot");
}
inline Bytes dek_label() { return literal_bytes("gatehouse vault v2: DEK"); }
inline Bytes root_label() { return literal_bytes("gatehouse vault v2: root secret"); }
inline Bytes mac_label() { return literal_bytes("gatehouse vault v2: header MAC"); }

[[nodiscard]] inline Sha256Digest header_mac(Bytes covered, const Kek& kek, Bytes label = mac_label()) {
    return hmac_sha256(derive_key(kek.bytes(), label).bytes(), {covered});
}

// Where the MAC's place in a copy begins: checks magic, version and length, which is all that is read before.
[[nodiscard]] Result<Bytes> covered_bytes(Bytes copy, std::uint32_t version = kHeaderVersion);
// What preview() reads, from the beginning to the slots; then the rest, as far as the cursor, which ends it.
[[nodiscard]] Status read_front(Reader& reader, Header& header);
[[nodiscard]] Status read_body(Reader& reader, Header& header);
// The TPM slot, after its "present".
[[nodiscard]] Status read_tpm_slot(Reader& reader, TpmSlot& slot);
// The body as far as the attestation key.
[[nodiscard]] Status read_layout(Reader& reader, Header& header);
// A wrapped key, as it stands anywhere.
template <std::size_t N>
void read(Reader& reader, WrappedKey<N>& key) {
    reader.copy(key.nonce);
    reader.copy(key.ciphertext);
    reader.copy(key.tag);
}
// The DEK out of header.data_key: kAuthFailed, kBadValue.
[[nodiscard]] Status unwrap_dek(const Header& header, const Kek& kek, Bytes label, Dek& dek);

}  // namespace gatehouse::volume
