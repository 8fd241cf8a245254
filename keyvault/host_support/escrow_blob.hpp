// A recovery key in escrow: encrypted to a key on P-256 that somebody else keeps, as a blob that anybody may keep.
//
// A blob, 205 bytes; integers little-endian, points and coordinates as SEC 1 has them, uncompressed and big-endian:
//
//     offset  size
//          0     8  magic "GHESCROW"
//          8     4  version, 1
//         12     4  length of the whole, 205
//         16    32  id of the vault that the recovery key opens
//         48    32  SHA-256 of the escrow key's point (65 bytes)
//         80    65  ephemeral point
//        145    12  nonce
//        157    32  the recovery key, encrypted
//        189    16  tag
//
// AES-256-GCM, associated data: bytes 0 .. 144. Its key: HKDF-SHA-256 without salt of the X coordinate (32 bytes) that ECDH of
// the two keys gives, with the info "gatehouse escrow v1" || ephemeral point || escrow key's point.
//
// Who has the private key gets the recovery key of the vault in the blob; who has none may make a blob of his own for any
// vault, of which all that comes is a key that does not open it.
#pragma once

#include "keyvault/host_support/support.hpp"
#include "keyvault/volume/header.hpp"

namespace gatehouse::host {

inline constexpr std::uint32_t kEscrowVersion = 1;
inline constexpr std::size_t kEscrowSize = 205;
inline constexpr std::size_t kMostEscrowFile = 64 * 1024;  // what is read of a file that may be a blob

// The vault whose recovery key a blob says that it holds; nothing in it is known to be true before it is opened. ToolError
// naming `item` if it is no blob, of another version or length.
[[nodiscard]] volume::VaultId escrow_vault(Bytes blob, const std::string& item);

}  // namespace gatehouse::host
