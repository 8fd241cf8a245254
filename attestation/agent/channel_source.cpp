#include "attestation/agent/channel_source.hpp"

#include "attestation/agent/endorsement_key.hpp"
#include "attestation/evidence_reader/claims_reader.hpp"
#include "keyvault/host_support/content.hpp"

namespace gatehouse::agent {
namespace {

constexpr unsigned kMostMissing = 16;  // NV indices of a chain

}  // namespace

std::vector<ChannelSource::EndorsementKey> ChannelSource::persistent_keys() {
    std::vector<EndorsementKey> keys;
    for (const std::uint32_t handle : kEkHandles) {
        if (auto area = client_.endorsement(handle)) keys.push_back({handle, std::move(*area), {}});
    }
    return keys;
}

const ChannelSource::EndorsementKey& ChannelSource::endorsement_key() {
    if (key_) return *key_;
    std::vector<EndorsementKey> keys = persistent_keys();
    if (keys.empty()) {
        throw ChannelError(
            "endorsement key: the TPM keeps none at 0x81010001 or the other reserved handles; make it "
            "persistent "
            "(tpm2_createek -c 0x81010001 -G ecc) before the launch");
    }
    for (const EkPlace& place : kEkPlaces) {
        auto certificate = client_.endorsement(place.certificate);
        if (!certificate) continue;
        for (EndorsementKey& key : keys) {
            if (!certifies(*certificate, key.public_area)) continue;
            key.certificate = std::move(*certificate);
            return key_.emplace(std::move(key));
        }
    }
    return key_.emplace(std::move(keys.front()));  // without a certificate: an operator decides
}

Identity ChannelSource::identity(LostKey /*the hypervisor keeps its key*/) {
    const EndorsementKey& key = endorsement_key();
    Identity identity{
        .ek_certificate = key.certificate, .ek_chain = {}, .ek_public = key.public_area, .ak_public = {}, .proof = {}};
    unsigned missing = 0;  // in a row: there may be gaps, and each question takes a while
    for (std::uint32_t index = kFirstChainIndex; index <= kLastChainIndex && missing < kMostMissing; ++index) {
        auto part = client_.endorsement(index);
        missing = part ? 0 : missing + 1;
        if (part) identity.ek_chain.push_back(std::move(*part));
    }
    // The key comes with each quote; of what this one says it is of interest which SRK is the key's parent.
    Evidence quoted = client_.quote(Buffer(channel::kMinNonce));
    identity.ak_public = std::move(quoted.key);
    if (const auto claims = evidence::decode_claims(quoted.claims); claims.ok()) {
        identity.proof.keys.emplace_back(claims->storage_root.begin(), claims->storage_root.end());
        identity.proof.attest = std::move(quoted.attest);
        identity.proof.signature = std::move(quoted.signature);
    }
    return identity;
}

Buffer ChannelSource::activate(Bytes credential_blob, Bytes encrypted_secret) {
    return client_.activate(endorsement_key().handle, contents_of(credential_blob, "credential blob"),
                            contents_of(encrypted_secret, "encrypted secret"));
}

protocol::AttestRequest ChannelSource::evidence(Bytes nonce) {
    Evidence quoted = client_.quote(nonce);
    return {.source = name(),
            .nonce = {nonce.begin(), nonce.end()},
            .quote = std::move(quoted.attest),
            .signature = std::move(quoted.signature),
            .claims = std::move(quoted.claims),
            .event_log = client_.event_log(),
            .pcr_values = {}};
}

std::optional<Sha256Digest> ChannelSource::vault() {
    const Evidence quoted = client_.quote(Buffer(channel::kMinNonce));
    const Sha256Digest id = host::expect(evidence::decode_claims(quoted.claims), "claims").vault_id;
    if (host::is_zero(id)) return std::nullopt;
    return id;
}

}  // namespace gatehouse::agent
