#include "attestation/verifier/ecdsa_der.hpp"

#include <algorithm>

namespace gatehouse::verifier {
namespace {

// One number as an INTEGER in its shortest form (X.690, 8.3); returns the place after it.
unsigned char* put_integer(unsigned char* out, Bytes number) {
    while (!number.empty() && number.front() == std::byte{0}) number = number.subspan(1);
    const bool sign = number.empty() || (number.front() & std::byte{0x80}) != std::byte{0};
    *out++ = 0x02;
    *out++ = static_cast<unsigned char>(number.size() + (sign ? 1 : 0));
    if (sign) *out++ = 0;
    return std::ranges::transform(number, out, std::to_integer<unsigned char>).out;
}

}  // namespace

EcdsaDer ecdsa_der(Bytes r, Bytes s) {
    EcdsaDer der;
    const unsigned char* const end = put_integer(put_integer(der.storage.data() + 2, r), s);
    der.storage[0] = 0x30;
    der.storage[1] = static_cast<unsigned char>(end - der.storage.data() - 2);
    der.size = static_cast<std::size_t>(end - der.storage.data());
    return der;
}

}  // namespace gatehouse::verifier
