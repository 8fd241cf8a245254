#include "tests/fuzz/appraisal_key.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>

#include <stdexcept>

#include "attestation/verifier/openssl_pointers.hpp"
#include "attestation/verifier/tpm_structures.hpp"

namespace gatehouse::fuzz {
namespace {

constexpr std::size_t kCoordinate = 32;

}  // namespace

host::Key appraisal_key() {
    using namespace verifier::openssl;
    const Sha256Digest scalar = sha256(literal_bytes("key of the appraisal's fuzz target"));
    const BigNumber number(BN_bin2bn(raw(Bytes(scalar)), static_cast<int>(scalar.size()), nullptr));
    EC_GROUP* const group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    EC_POINT* const point = EC_POINT_new(group);
    EC_POINT_mul(group, point, number.get(), nullptr, nullptr, nullptr);
    std::array<unsigned char, 1 + 2 * kCoordinate> encoded{};
    EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, encoded.data(), encoded.size(), nullptr);
    EC_POINT_free(point);
    EC_GROUP_free(group);
    const ParameterBuilder builder(OSSL_PARAM_BLD_new());
    OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
    OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size());
    OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, number.get());
    const Parameters parameters(OSSL_PARAM_BLD_to_param(builder.get()));
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* key = nullptr;
    if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, parameters.get()) != 1) {
        throw std::runtime_error("no key");
    }
    return {key, EVP_PKEY_free};
}

host::Buffer with_appraisal_key(Bytes area) {
    const host::Key key = appraisal_key();
    std::array<unsigned char, 1 + 2 * kCoordinate> point{};
    std::size_t size = 0;
    EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size(), &size);
    // A public area of P-256 ends with both coordinates, each with its size.
    constexpr std::size_t kUnique = 2 * (2 + kCoordinate);
    host::Buffer out(area.begin(), area.end() - kUnique);
    const Bytes coordinates = std::as_bytes(std::span(point)).subspan(1);
    for (const std::size_t at : {std::size_t{0}, kCoordinate}) {
        out.push_back(std::byte{0});
        out.push_back(static_cast<std::byte>(kCoordinate));
        const Bytes one = coordinates.subspan(at, kCoordinate);
        out.insert(out.end(), one.begin(), one.end());
    }
    return out;
}

host::Buffer patched_quote(Bytes quote, Bytes signer, Bytes extra_data) {
    Reader reader(quote, Endian::kBig);
    const Bytes head = reader.bytes(6);
    const Bytes old_signer = reader.sized();
    const Bytes old_extra = reader.sized();
    const Bytes rest = reader.rest();
    if (reader.failed()) return {quote.begin(), quote.end()};
    host::Buffer out(head.begin(), head.end());
    for (const Bytes one : {signer.empty() ? old_signer : signer, extra_data.empty() ? old_extra : extra_data}) {
        out.push_back(static_cast<std::byte>(one.size() >> 8));
        out.push_back(static_cast<std::byte>(one.size() & 0xff));
        out.insert(out.end(), one.begin(), one.end());
    }
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
}

host::Buffer signed_quote(Bytes quote) {
    static const host::Key key = appraisal_key();
    const auto signature = host::sign_digest(key.get(), sha256(quote));
    return {signature.bytes().begin(), signature.bytes().end()};
}

}  // namespace gatehouse::fuzz
