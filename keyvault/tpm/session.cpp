#include "keyvault/tpm/session.hpp"

#include <algorithm>

#include "keyvault/tpm/command.hpp"
#include "keyvault/tpm/crypto.hpp"

namespace gatehouse::tpm {
namespace {

// The point of a P-256 storage key: the end of its TPMT_PUBLIC (Part 2, 12.2.4). That it
// is such a key its Name says, which was pinned; of any other the TPM makes nothing.
Result<EccPoint> ecc_point(Bytes public_area) {
    constexpr std::size_t kSize = 2 * (2 + kCoordinateSize);
    Reader reader(public_area.last(std::min(kSize, public_area.size())), Endian::kBig);
    const Bytes x = reader.sized();
    const Bytes y = reader.sized();
    if (!reader.finished("").ok() || x.size() != kCoordinateSize || y.size() != kCoordinateSize) {
        return {Error::kUnsupported, "session: salting key is not an ECC P-256 storage key", public_area.size()};
    }
    EccPoint point;
    copy_bytes(point.x, x);
    copy_bytes(point.y, y);
    return point;
}

}  // namespace

Result<PolicySession> PolicySession::start(Tpm& tpm, RandomSource& random) {
    PolicySession session;
    GATEHOUSE_TRY(session.open(tpm, random, TPM2_RH_NULL, {}, {}));
    return session;
}

Result<PolicySession> PolicySession::start_salted(Tpm& tpm, RandomSource& random, TPM2_HANDLE salt_key,
                                                  Bytes salt_public) {
    GATEHOUSE_ASSIGN(const EccPoint peer, ecc_point(salt_public));
    EccPoint ephemeral;
    GATEHOUSE_ASSIGN(const Secret<kSha256Size> salt, agree_secret(peer, random, ephemeral));
    std::array<std::byte, 2 * (2 + kCoordinateSize)> encrypted_salt{};  // TPMS_ECC_POINT
    Writer writer(encrypted_salt, Endian::kBig);
    writer.sized(ephemeral.x);
    writer.sized(ephemeral.y);
    PolicySession session;
    GATEHOUSE_TRY(session.open(tpm, random, salt_key, encrypted_salt, salt.bytes()));
    return session;
}

// TPM2_StartAuthSession (Part 3, 11.1); a plain session makes no use of the cipher.
Status PolicySession::open(Tpm& tpm, RandomSource& random, TPM2_HANDLE salt_key, Bytes encrypted_salt, Bytes salt) {
    tpm_ = &tpm;
    random_ = &random;
    salted_ = !salt.empty();
    random.fill(nonce_caller_);
    Command command(tpm, TPM2_CC_StartAuthSession, "TPM2_StartAuthSession");
    command.with(salt_key, TPM2_RH_NULL, nonce_caller_, encrypted_salt, TPM2_SE_POLICY);
    command.with(TPM2_ALG_AES, std::uint16_t{128}, TPM2_ALG_CFB, TPM2_ALG_SHA256);
    GATEHOUSE_ASSIGN(const Response response, command.execute(true));
    session_ = Flushed(tpm, response.handle);
    GATEHOUSE_TRY(response.copy_sized(nonce_tpm_));
    if (salted_) key_ = kdf_a(salt, literal_bytes("ATH"), nonce_tpm_, nonce_caller_);
    return {};
}

// Without a digest: the TPM takes the PCRs as they are.
Status PolicySession::policy_pcr(const PcrSelection& selection) {
    Command command(*tpm_, TPM2_CC_PolicyPCR, "TPM2_PolicyPCR");
    return command.with(session_.handle(), Bytes()).with_marshalled(marshalled(selection)).finish();
}

Status PolicySession::policy_locality(TPMA_LOCALITY localities) {
    return Command(*tpm_, TPM2_CC_PolicyLocality, "TPM2_PolicyLocality").with(session_.handle(), localities).finish();
}

Status PolicySession::policy_counter_at_most(TPM2_HANDLE index, std::uint64_t limit) {
    constexpr std::uint16_t kOffset = 0;
    Command command(*tpm_, TPM2_CC_PolicyNV, "TPM2_PolicyNV");
    command.with(index, index, session_.handle()).password();
    return command.with(std::uint16_t{sizeof(limit)}, limit, kOffset, TPM2_EO_UNSIGNED_LE).finish();
}

Status PolicySession::policy_authorize(const Sha256Digest& approved, Bytes policy_ref, Bytes suffix, const Name& key,
                                       const Ticket& ticket) {
    Command command(*tpm_, TPM2_CC_PolicyAuthorize, "TPM2_PolicyAuthorize");
    command.with(session_.handle(), approved, static_cast<std::uint16_t>(policy_ref.size() + suffix.size()));
    command.with_marshalled(policy_ref).with_marshalled(suffix);
    return command.with(key).with_marshalled(ticket.bytes()).finish();
}

// Part 3, 23.4: no nonce, no digest, no policy reference, no expiration, so the ticket is empty.
Status PolicySession::policy_secret(TPM2_HANDLE entity) {
    Command command(*tpm_, TPM2_CC_PolicySecret, "TPM2_PolicySecret");
    command.with(entity, session_.handle()).password().with(Bytes(), Bytes(), Bytes(), std::uint32_t{0});
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    (void)reader.sized();  // timeout
    reader.skip(sizeof(std::uint16_t) + sizeof(std::uint32_t));
    (void)reader.sized();
    return reader.finished(command.name());
}

Result<Sha256Digest> PolicySession::policy_digest() {
    Command command(*tpm_, TPM2_CC_PolicyGetDigest, "TPM2_PolicyGetDigest");
    GATEHOUSE_ASSIGN(const Response response, command.with(session_.handle()).execute());
    Sha256Digest digest{};
    GATEHOUSE_TRY(response.copy_sized(digest));
    return digest;
}

TPMA_SESSION PolicySession::attributes() const {
    return TPMA_SESSION_CONTINUESESSION | (salted_ ? TPMA_SESSION_ENCRYPT : TPMA_SESSION{0});
}

// Part 1, 19.6.5 and 19.6.8. A policy without PolicyAuthValue leaves the authorization value out of the key.
Sha256Digest PolicySession::authorization_hmac(const Sha256Digest& parameter_hash, Bytes newer, Bytes older) const {
    const std::array<std::byte, 1> attribute{static_cast<std::byte>(attributes())};
    return hmac_sha256(key_.bytes(), {parameter_hash, newer, older, attribute});
}

void PolicySession::authorize(Command& command, Bytes name) {
    random_->fill(nonce_caller_);
    Sha256Digest hmac{};
    if (salted_) {
        hmac = authorization_hmac(sha256({encoded(command.code(), Endian::kBig), name}), nonce_caller_, nonce_tpm_);
    }
    command.session(session_.handle(), nonce_caller_, attributes(), Bytes(hmac).first(salted_ ? hmac.size() : 0));
}

Result<Response> PolicySession::execute(Command& command) {
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader(response.authorization, Endian::kBig);
    const Bytes nonce = reader.sized();
    const TPMA_SESSION answered = reader.u8();
    const Bytes hmac = reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    if (nonce.size() != kNonceSize) return {Error::kBadLength, command.name(), nonce.size()};
    if (answered != attributes()) return {Error::kBadValue, command.name(), answered};
    copy_bytes(nonce_tpm_, nonce);
    if (salted_) {
        const Sha256Digest hash = sha256(
            {encoded(TPM2_RC_SUCCESS, Endian::kBig), encoded(command.code(), Endian::kBig), response.parameters});
        if (!equal_secret(hmac, authorization_hmac(hash, nonce_tpm_, nonce_caller_))) {
            return {Error::kBadMac, command.name()};
        }
    } else if (!hmac.empty()) {
        return {Error::kBadLength, command.name(), hmac.size()};
    }
    return response;
}

Result<Secret<32>> PolicySession::unseal(TPM2_HANDLE object, const Name& name) {
    Command command(*tpm_, TPM2_CC_Unseal, "TPM2_Unseal");
    if (!salted_) return {Error::kState, "unseal: the session is not encrypted"};
    authorize(command.with(object), name);
    GATEHOUSE_ASSIGN(const Response response, execute(command));
    Secret<32> secret;
    GATEHOUSE_TRY(response.copy_sized(secret.bytes()));  // encrypted, but for its size (Part 1, 21.1)
    const Secret<32> key_and_iv = kdf_a(key_.bytes(), literal_bytes("CFB"), nonce_tpm_, nonce_caller_);
    cfb_decrypt(key_and_iv.bytes(), secret.bytes(), secret.bytes());
    return secret;
}

Result<Quote> PolicySession::quote(TPM2_HANDLE key, Bytes qualifying_data, const PcrSelection& selection) {
    Command command(*tpm_, TPM2_CC_Quote, "TPM2_Quote");
    authorize(command.with(key));
    command.with(qualifying_data, TPM2_ALG_NULL).with_marshalled(marshalled(selection));  // by the key's own scheme
    GATEHOUSE_ASSIGN(const Response response, execute(command));
    Reader reader = response.reader();
    Quote quote;
    GATEHOUSE_TRY(quote.attest.assign(reader.sized(), command.name()));
    GATEHOUSE_TRY(quote.signature.assign(reader.rest(), command.name()));
    GATEHOUSE_TRY(reader.status(command.name()));
    return quote;
}

}  // namespace gatehouse::tpm
