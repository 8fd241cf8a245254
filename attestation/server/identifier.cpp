#include "attestation/server/identifier.hpp"

#include "attestation/server/secrets.hpp"

namespace gatehouse::server {

std::string new_id(Seconds now) {
    constexpr std::string_view alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    Buffer bytes(6);
    const auto milliseconds = static_cast<std::uint64_t>(now) * 1000;
    for (std::size_t i = 0; i < 6; ++i) bytes[i] = static_cast<std::byte>(milliseconds >> (8 * (5 - i)));
    const Buffer random = random_bytes(10);
    bytes.insert(bytes.end(), random.begin(), random.end());
    // 128 bits in 26 characters: two bits of zeros in front.
    std::string id;
    unsigned held = 0, bits = 2;
    for (const std::byte byte : bytes) {
        held = (held << 8) | std::to_integer<unsigned>(byte);
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            id += alphabet[(held >> bits) & 31];
        }
        held &= (1u << bits) - 1;
    }
    return id;
}

}  // namespace gatehouse::server
