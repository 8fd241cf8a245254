#include "attestation/server/connection_keys.hpp"

#include <algorithm>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::server {
namespace {

constexpr Seconds kClockDifference = 300;
constexpr std::string_view kMagic = "GHC1";
constexpr std::size_t kIdentitySize =
    kMagic.size() + sizeof(ConnectionSecretName) + sizeof(std::uint64_t) + sizeof(Sha256Digest);

}  // namespace

ConnectionKeys::ConnectionKeys(Buffer secret) : secret_(std::move(secret)) {
    copy_bytes(secret_name_, Bytes(sha256(secret_)).first(sizeof secret_name_));
}

Sha256Digest ConnectionKeys::key_of(Bytes identity) const {
    return hmac_sha256(secret_, {literal_bytes("connection key"), identity});
}

protocol::ConnectionKey ConnectionKeys::issue(const Sha256Digest& certificate, Seconds ends, Seconds now) const {
    const Seconds until = std::min(ends, now + kLifetime);
    Buffer identity(kIdentitySize);
    Writer writer(identity, Endian::kBig);
    writer.bytes(host::text_bytes(kMagic));
    writer.bytes(secret_name_);
    writer.u64(static_cast<std::uint64_t>(until));
    writer.bytes(certificate);
    const Sha256Digest key = key_of(identity);
    return {std::move(identity), Buffer(key.begin(), key.end()), until};
}

std::optional<KnownConnectionKey> ConnectionKeys::find(Bytes identity, Seconds now) const {
    if (identity.size() != kIdentitySize) return std::nullopt;
    Reader reader(identity, Endian::kBig);
    if (!equal_bytes(reader.bytes(kMagic.size()), host::text_bytes(kMagic)) ||
        !equal_bytes(reader.bytes(sizeof secret_name_), secret_name_)) {
        return std::nullopt;
    }
    KnownConnectionKey known;
    known.secret = secret_name_;
    known.ends = static_cast<Seconds>(reader.u64());
    copy_bytes(known.certificate, reader.bytes(sizeof known.certificate));
    // Not further off than one of ours can be, by servers whose clocks differ a little: a far end that wraps to a negative
    // number is refused as well.
    if (known.ends <= now || known.ends > now + kLifetime + kClockDifference) return std::nullopt;
    known.key = key_of(identity);
    return known;
}

}  // namespace gatehouse::server
