#include "attestation/formats/cose.hpp"

#include <openssl/err.h>

#include <algorithm>

#include "attestation/formats/jose.hpp"
#include "attestation/verifier/ecdsa_der.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using Kind = CborItem::Kind;

constexpr std::int64_t kCoseCritical = 2;

// Sig_structure (RFC 9052, section 4.4) without external data.
Buffer to_be_signed(Bytes protected_header, Bytes payload) {
    CborWriter writer;
    writer.array(4).text("Signature1").bytes(protected_header).bytes({}).bytes(payload);
    return writer.out();
}

}  // namespace

Buffer sign_cose(Bytes payload, std::vector<CoseParameter> parameters, EVP_PKEY* key) {
    const std::string id = key_id(key);
    CborWriter algorithm, kid;
    algorithm.integer(kCoseEs256);
    kid.bytes(host::text_bytes(id));
    parameters.push_back({kCoseAlgorithm, algorithm.out()});
    parameters.push_back({kCoseKeyId, kid.out()});
    std::ranges::sort(parameters, {}, &CoseParameter::label);  // none is negative: so are their encodings
    CborWriter header;
    header.map(parameters.size());
    for (const CoseParameter& one : parameters) header.integer(one.label).item(one.value);
    const Buffer signature = host::sign_p256(key, sha256(to_be_signed(header.out(), payload)));
    CborWriter message;
    message.tag(kCoseSign1Tag).array(4).bytes(header.out()).map(0).bytes(payload).bytes(signature);
    return message.out();
}

CoseSign1 verify_cose(Bytes message, const EVP_PKEY* key, const std::string& what) {
    const CborItem whole = read_cbor(message, what);
    const CborItem* const inside = whole.is(Kind::kTag) ? whole.tagged(kCoseSign1Tag) : &whole;
    if (inside == nullptr || !inside->is(Kind::kArray) || inside->items.size() != 4 ||
        !inside->items[0].is(Kind::kBytes) || !inside->items[1].is(Kind::kMap) || !inside->items[3].is(Kind::kBytes))
        throw ToolError(what + ": not a COSE_Sign1");
    const Bytes header = inside->items[0].bytes;
    if (!inside->items[2].is(Kind::kBytes)) throw ToolError(what + ": its payload is detached");
    const CborItem parameters = read_cbor(header, what + ", protected header");
    const CborItem* const algorithm = parameters.find(kCoseAlgorithm);
    if (algorithm == nullptr || algorithm->integer() != kCoseEs256)
        throw ToolError(what + ": signed by another algorithm than ES256");
    if (parameters.find(kCoseCritical) != nullptr) throw ToolError(what + ": demands a header that is not known here");
    const Bytes payload = inside->items[2].bytes;
    if (!verify_p256(to_be_signed(header, payload), inside->items[3].bytes, key))
        throw ToolError(what + ": not signed by the given key");
    return {.protected_header = {header.begin(), header.end()}, .payload = {payload.begin(), payload.end()}};
}

}  // namespace gatehouse::formats
