// What bytes hold.
#pragma once

#include <cstring>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::host {

[[nodiscard]] inline bool is_zero(Bytes bytes) {
    return bytes.empty() ||
           (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Of a hash by SHA-256.
[[nodiscard]] inline Sha256Digest as_sha256(const Digest& digest) {
    Sha256Digest value{};
    copy_bytes(value, digest.bytes());
    return value;
}

}  // namespace gatehouse::host
