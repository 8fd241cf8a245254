#include "attestation/verifier/token.hpp"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <array>
#include <nlohmann/json.hpp>

#include "attestation/verifier/ecdsa_der.hpp"

namespace gatehouse::verifier {
namespace {

using host::Buffer;
using host::ToolError;

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrlSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::uint8_t kNoDigit = 0xff;

using Digits = std::array<std::uint8_t, 256>;
constexpr Digits digits_of(std::string_view alphabet) {
    Digits digits{};
    digits.fill(kNoDigit);
    for (std::size_t i = 0; i < alphabet.size(); ++i) {
        digits[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
    }
    return digits;
}
constexpr Digits kStandardDigits = digits_of(kStandard);
constexpr Digits kUrlSafeDigits = digits_of(kUrlSafe);

std::string encode(Bytes bytes, std::string_view alphabet, bool pad) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    std::size_t i = 0;
    const auto at = [&](std::size_t index) { return std::to_integer<std::uint32_t>(bytes[index]); };
    for (; i + 3 <= bytes.size(); i += 3) {
        const std::uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
        for (const unsigned shift : {18u, 12u, 6u, 0u}) text += alphabet[(group >> shift) & 63];
    }
    const std::size_t left = bytes.size() - i;
    if (left == 0) return text;
    const std::uint32_t group = at(i) << 16 | (left == 2 ? at(i + 1) << 8 : 0);
    text += alphabet[group >> 18];
    text += alphabet[(group >> 12) & 63];
    if (left == 2) text += alphabet[(group >> 6) & 63];
    if (pad) text.append(3 - left, '=');
    return text;
}

// `text` without padding.
std::optional<Buffer> decode(std::string_view text, const Digits& digits) {
    if (text.size() % 4 == 1) return std::nullopt;
    Buffer bytes;
    bytes.reserve(text.size() / 4 * 3 + 2);
    std::uint32_t group = 0;
    unsigned bits = 0;
    for (const char character : text) {
        const std::uint8_t digit = digits[static_cast<unsigned char>(character)];
        if (digit == kNoDigit) return std::nullopt;
        group = group << 6 | digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes.push_back(static_cast<std::byte>(group >> bits & 0xff));
        }
    }
    // The bits past the last byte must be zero, else there would be several texts for the same bytes.
    if ((group & ((1u << bits) - 1)) != 0) return std::nullopt;
    return bytes;
}

// ES256: SHA-256, and a signature of 64 bytes, r and s big-endian (RFC 7518, section 3.4).
constexpr std::size_t kScalarSize = 32;
constexpr std::size_t kSignatureSize = 2 * kScalarSize;
// SEQUENCE of two INTEGERs of at most 33 bytes each.
constexpr std::size_t kMaxDerSize = 2 + 2 * (2 + kScalarSize + 1);
constexpr std::size_t kMaxHeader = 256;

const EVP_MD* sha256_method() {
    static const EVP_MD* const method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return method;
}

std::array<unsigned char, 32> digest_of(std::string_view text) {
    std::array<unsigned char, 32> digest{};
    unsigned size = 0;
    if (EVP_Digest(text.data(), text.size(), digest.data(), &size, sha256_method(), nullptr) != 1) {
        throw ToolError("SHA-256 failed in OpenSSL");
    }
    return digest;
}

bool is_p256(const EVP_PKEY* key) {
    if (key == nullptr || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return false;
    std::array<char, 32> group{};
    std::size_t size = 0;
    return EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
           std::string_view(group.data(), size) == "prime256v1";
}

struct ContextDeleter {
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_PKEY_CTX, ContextDeleter>;

struct SignatureDeleter {
    void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};
using Signature = std::unique_ptr<ECDSA_SIG, SignatureDeleter>;

bool verify_digest(const std::array<unsigned char, 32>& digest, Bytes signature, EVP_PKEY* key) {
    const EcdsaDer der = ecdsa_der(signature.first(kScalarSize), signature.subspan(kScalarSize));
    const Context context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    return context && EVP_PKEY_verify_init(context.get()) == 1 &&
           EVP_PKEY_verify(context.get(), der.storage.data(), der.size, digest.data(), digest.size()) == 1;
}

std::string header_text(std::string_view type) {
    return R"({"alg":"ES256","typ":)" +
           nlohmann::json(type).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "}";
}

bool is_header(std::string_view text, std::string_view type) {
    if (text == header_text(type)) return true;
    std::size_t members = 0;
    const auto count = [&](int, nlohmann::json::parse_event_t event, nlohmann::json&) {
        if (event == nlohmann::json::parse_event_t::key) ++members;
        return true;
    };
    const auto header = nlohmann::json::parse(text, count, false);
    const bool names_key = header.is_object() && header.contains("kid") && header["kid"].is_string();
    const std::size_t wanted = names_key ? 3 : 2;
    return header.is_object() && members == wanted && header.size() == wanted && header.contains("alg") &&
           header.contains("typ") && header["alg"] == "ES256" && header["typ"] == type;
}

}  // namespace

std::string base64(Bytes bytes) { return encode(bytes, kStandard, true); }
std::string base64url(Bytes bytes) { return encode(bytes, kUrlSafe, false); }

std::optional<Buffer> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
    return decode(text, kStandardDigits);
}

std::optional<Buffer> from_base64url(std::string_view text) { return decode(text, kUrlSafeDigits); }

std::string sign_jws(std::string_view payload, std::string_view type, EVP_PKEY* key) {
    if (!is_p256(key)) throw ToolError("signing key: not a P-256 key; ES256 needs one");
    std::string jws = base64url(host::text_bytes(header_text(type))) + "." + base64url(host::text_bytes(payload));
    const auto digest = digest_of(jws);
    std::array<unsigned char, kMaxDerSize> der{};
    std::size_t size = der.size();
    const Context context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    if (!context || EVP_PKEY_sign_init(context.get()) != 1 ||
        EVP_PKEY_sign(context.get(), der.data(), &size, digest.data(), digest.size()) != 1) {
        throw ToolError("signing key: OpenSSL cannot sign with it; a private key is needed");
    }
    const unsigned char* at = der.data();
    const Signature signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
    std::array<std::byte, kSignatureSize> flat{};
    unsigned char* out = raw(MutableBytes(flat));
    if (!signature || BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), out, kScalarSize) < 0 ||
        BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), out + kScalarSize, kScalarSize) < 0) {
        throw ToolError("signing key: OpenSSL made a signature that is not one of P-256");
    }
    jws += '.';
    jws += base64url(flat);
    return jws;
}

std::optional<std::string> verify_jws(std::string_view jws, std::string_view type, EVP_PKEY* key) {
    const std::size_t first = jws.find('.');
    const std::size_t last = jws.rfind('.');
    if (first == std::string_view::npos || first == last || jws.find('.', first + 1) != last) {
        return std::nullopt;
    }
    if (first > kMaxHeader || !is_p256(key)) return std::nullopt;
    const auto header = from_base64url(jws.substr(0, first));
    const auto payload = from_base64url(jws.substr(first + 1, last - first - 1));
    const auto signature = from_base64url(jws.substr(last + 1));
    if (!header || !payload || !signature || signature->size() != kSignatureSize) return std::nullopt;
    if (!is_header({reinterpret_cast<const char*>(header->data()), header->size()}, type)) {
        return std::nullopt;
    }
    if (!verify_digest(digest_of(jws.substr(0, last)), *signature, key)) {
        ERR_clear_error();  // what is wrong with a hostile signature must not be met in the next TLS call
        return std::nullopt;
    }
    return std::string(reinterpret_cast<const char*>(payload->data()), payload->size());
}

}  // namespace gatehouse::verifier
