#include "keyvault/tpm/session.hpp"

#include "keyvault/tpm/command.hpp"
#include "keyvault/tpm/crypto.hpp"

namespace gatehouse::tpm {
namespace {

std::array<std::byte, 4> big_endian(std::uint32_t value) {
    std::array<std::byte, 4> bytes{};
    store(bytes.data(), value, Endian::kBig);
    return bytes;
}

// The point of a P-256 decryption key's TPMT_PUBLIC (Part 2, 12.2.4).
Result<EccPoint> ecc_point(Bytes public_area) {
    Reader reader(public_area, Endian::kBig);
    const TPM2_ALG_ID type = reader.u16();
    (void)reader.u16();    // name algorithm
    (void)reader.u32();    // attributes
    (void)reader.sized();  // policy
    const TPM2_ALG_ID symmetric = reader.u16();
    if (symmetric != TPM2_ALG_NULL) reader.skip(4);  // key bits, mode
    const TPM2_ALG_ID scheme = reader.u16();
    const TPM2_ECC_CURVE curve = reader.u16();
    const TPM2_ALG_ID kdf = reader.u16();
    const Bytes x = reader.sized();
    const Bytes y = reader.sized();
    if (type != TPM2_ALG_ECC || scheme != TPM2_ALG_NULL || kdf != TPM2_ALG_NULL || curve != TPM2_ECC_NIST_P256 ||
        !reader.finished("").ok() || x.size() != kCoordinateSize || y.size() != kCoordinateSize) {
        return {Error::kUnsupported, "session: salting key is not an ECC P-256 storage key", type};
    }
    EccPoint point;
    copy_bytes(point.x, x);
    copy_bytes(point.y, y);
    return point;
}

}  // namespace

Result<PolicySession> PolicySession::start(Tpm& tpm, RandomSource& random, Type type) {
    PolicySession session;
    GATEHOUSE_TRY(session.open(tpm, random, type, TPM2_RH_NULL, {}, {}));
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
    GATEHOUSE_TRY(session.open(tpm, random, Type::kPolicy, salt_key, encrypted_salt, salt.bytes()));
    return session;
}

// TPM2_StartAuthSession (Part 3, 11.1)
Status PolicySession::open(Tpm& tpm, RandomSource& random, Type type, TPM2_HANDLE salt_key, Bytes encrypted_salt,
                           Bytes salt) {
    tpm_ = &tpm;
    random_ = &random;
    salted_ = !salt.empty();
    random.fill(nonce_caller_);
    Command command(tpm, TPM2_CC_StartAuthSession, "TPM2_StartAuthSession");
    command.handle(salt_key).handle(TPM2_RH_NULL);
    Writer& parameters = command.parameters();
    parameters.sized(nonce_caller_);
    parameters.sized(encrypted_salt);
    parameters.u8(type == Type::kTrial ? TPM2_SE_TRIAL : TPM2_SE_POLICY);
    if (salted_) {
        parameters.u16(TPM2_ALG_AES);
        parameters.u16(128);
        parameters.u16(TPM2_ALG_CFB);
    } else {
        parameters.u16(TPM2_ALG_NULL);
    }
    parameters.u16(TPM2_ALG_SHA256);
    GATEHOUSE_ASSIGN(const Response response, command.execute(true));
    Reader reader = response.reader();
    const Bytes nonce = reader.sized();
    if (nonce.size() == kNonceSize) copy_bytes(nonce_tpm_, nonce);
    const Status finished = reader.finished(command.name());
    session_ = Flushed(tpm, response.handle);
    GATEHOUSE_TRY(finished);
    if (nonce.size() != kNonceSize) return {Error::kBadLength, command.name(), nonce.size()};
    if (salted_) key_ = kdf_a(salt, literal_bytes("ATH"), nonce_tpm_, nonce_caller_);
    return {};
}

Status PolicySession::policy_pcr(const PcrSelection& selection) {
    Command command(*tpm_, TPM2_CC_PolicyPCR, "TPM2_PolicyPCR");
    command.handle(session_.handle());
    command.parameters().sized({});  // the TPM takes the PCRs as they are
    write_selections(command.parameters(), std::span(&selection, 1));
    return command.finish();
}

Status PolicySession::policy_locality(TPMA_LOCALITY localities) {
    Command command(*tpm_, TPM2_CC_PolicyLocality, "TPM2_PolicyLocality");
    command.handle(session_.handle());
    command.parameters().u8(localities);
    return command.finish();
}

Status PolicySession::policy_counter_at_most(TPM2_HANDLE index, std::uint64_t limit) {
    Command command(*tpm_, TPM2_CC_PolicyNV, "TPM2_PolicyNV");
    command.handle(index).handle(index).handle(session_.handle()).password();
    command.parameters().u16(sizeof(limit));
    command.parameters().u64(limit);
    command.parameters().u16(0);  // offset
    command.parameters().u16(TPM2_EO_UNSIGNED_LE);
    return command.finish();
}

Status PolicySession::policy_authorize(const Sha256Digest& approved, Bytes policy_ref, const Name& key,
                                       const Ticket& ticket) {
    Command command(*tpm_, TPM2_CC_PolicyAuthorize, "TPM2_PolicyAuthorize");
    command.handle(session_.handle());
    command.parameters().sized(approved);
    command.parameters().sized(policy_ref);
    command.parameters().sized(key);
    command.parameters().bytes(ticket.bytes());
    return command.finish();
}

// Part 3, 23.4: no nonce, no expiration, so the ticket is empty.
Status PolicySession::policy_secret(TPM2_HANDLE entity) {
    Command command(*tpm_, TPM2_CC_PolicySecret, "TPM2_PolicySecret");
    command.handle(entity).handle(session_.handle()).password();
    command.parameters().zeros(3 * sizeof(std::uint16_t) + sizeof(std::uint32_t));
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    (void)reader.sized();  // timeout
    reader.skip(sizeof(std::uint16_t) + sizeof(std::uint32_t));
    (void)reader.sized();
    return reader.finished(command.name());
}

Result<Sha256Digest> PolicySession::policy_digest() {
    Command command(*tpm_, TPM2_CC_PolicyGetDigest, "TPM2_PolicyGetDigest");
    command.handle(session_.handle());
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const Bytes found = reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    Sha256Digest digest{};
    if (found.size() != digest.size()) return {Error::kBadLength, command.name(), found.size()};
    copy_bytes(digest, found);
    return digest;
}

// Part 1, 19.6.5 and 19.6.8. A policy without PolicyAuthValue leaves the authorization value out of the key.
Sha256Digest PolicySession::authorization_hmac(const Sha256Digest& parameter_hash, Bytes newer, Bytes older,
                                               TPMA_SESSION attributes) const {
    const std::array<std::byte, 1> attribute{static_cast<std::byte>(attributes)};
    return hmac_sha256(key_.bytes(), {parameter_hash, newer, older, attribute});
}

void PolicySession::authorize(Command& command, TPMA_SESSION attributes) {
    random_->fill(nonce_caller_);
    command.session(session_.handle(), nonce_caller_, attributes, salted_ ? kSha256Size : 0);
}

Result<Bytes> PolicySession::execute(Command& command, const Name& object, TPMA_SESSION attributes) {
    const auto code = big_endian(command.code());
    if (salted_) {
        const Sha256Digest hash = sha256({code, object, command.written_parameters()});
        command.set_hmac(authorization_hmac(hash, nonce_caller_, nonce_tpm_, attributes));
    }
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader(response.authorization, Endian::kBig);
    const Bytes nonce = reader.sized();
    const TPMA_SESSION answered = reader.u8();
    const Bytes hmac = reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    if (nonce.size() != kNonceSize) return {Error::kBadLength, command.name(), nonce.size()};
    if (answered != attributes) return {Error::kBadValue, command.name(), answered};
    copy_bytes(nonce_tpm_, nonce);
    if (salted_) {
        const Sha256Digest hash = sha256({big_endian(TPM2_RC_SUCCESS), code, response.parameters});
        if (!equal_secret(hmac, authorization_hmac(hash, nonce_tpm_, nonce_caller_, answered))) {
            return {Error::kBadMac, command.name()};
        }
    } else if (!hmac.empty()) {
        return {Error::kBadLength, command.name(), hmac.size()};
    }
    return response.parameters;
}

Result<Secret<32>> PolicySession::unseal(TPM2_HANDLE object, const Name& name) {
    Command command(*tpm_, TPM2_CC_Unseal, "TPM2_Unseal");
    if (!salted_) return {Error::kState, "unseal: the session is not encrypted"};
    constexpr TPMA_SESSION kAttributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT;
    authorize(command.handle(object), kAttributes);
    GATEHOUSE_ASSIGN(const Bytes parameters, execute(command, name, kAttributes));
    Reader reader(parameters, Endian::kBig);
    const Bytes encrypted = reader.sized();  // the size is not encrypted (Part 1, 21.1)
    GATEHOUSE_TRY(reader.finished(command.name()));
    Secret<32> secret;
    if (encrypted.size() != Secret<32>::kSize) return {Error::kBadLength, "sealed secret", encrypted.size()};
    const Secret<32> key_and_iv = kdf_a(key_.bytes(), literal_bytes("CFB"), nonce_tpm_, nonce_caller_);
    cfb_decrypt(key_and_iv.bytes(), encrypted, secret.bytes());
    return secret;
}

Result<Quote> PolicySession::quote(TPM2_HANDLE key, const Name& name, Bytes qualifying_data,
                                   std::span<const PcrSelection> selections) {
    Command command(*tpm_, TPM2_CC_Quote, "TPM2_Quote");
    authorize(command.handle(key), TPMA_SESSION_CONTINUESESSION);
    command.parameters().sized(qualifying_data);
    command.parameters().u16(TPM2_ALG_NULL);  // the key's own scheme
    write_selections(command.parameters(), selections);
    GATEHOUSE_ASSIGN(const Bytes parameters, execute(command, name, TPMA_SESSION_CONTINUESESSION));
    Reader reader(parameters, Endian::kBig);
    const Bytes attest = reader.sized();
    const Bytes signature = reader.rest();
    GATEHOUSE_TRY(reader.status(command.name()));

    Reader fields(attest, Endian::kBig);  // TPMS_ATTEST (Part 2, 10.12.8)
    const std::uint32_t magic = fields.u32();
    const TPM2_ST type = fields.u16();
    (void)fields.sized();  // the signer's qualified Name
    const Bytes extra_data = fields.sized();
    GATEHOUSE_TRY(fields.status(command.name()));
    if (magic != TPM2_GENERATED_VALUE || type != TPM2_ST_ATTEST_QUOTE || !equal_bytes(extra_data, qualifying_data)) {
        return malformed(command.name(), Error::kMismatch);
    }
    Reader parts(signature, Endian::kBig);  // TPMT_SIGNATURE, of an ECC key
    (void)parts.u16();
    (void)parts.u16();
    (void)parts.sized();
    (void)parts.sized();
    GATEHOUSE_TRY(parts.finished(command.name()));
    Quote quote;
    GATEHOUSE_TRY(quote.attest.assign(attest, command.name()));
    GATEHOUSE_TRY(quote.signature.assign(signature, command.name()));
    return quote;
}

}  // namespace gatehouse::tpm
