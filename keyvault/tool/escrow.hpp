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

#include "keyvault/host_support/authority.hpp"
#include "keyvault/random.hpp"
#include "keyvault/volume/header.hpp"

namespace gatehouse::host {

inline constexpr std::size_t kEscrowSize = 205;

// ToolError naming `item` if `key` is not on P-256.
[[nodiscard]] Buffer seal_escrow(const volume::SlotSecret& recovery, const volume::VaultId& vault, const EVP_PKEY* key,
                                 const std::string& item, RandomSource& random);

// The blob in a file, opened with the private key in another one (PEM; a pass phrase is asked for on the terminal). ToolError:
// no blob, of another version or length, of a vault that is not among `vaults`, for another key, changed; a key that is not
// on P-256.
void open_escrow(const std::string& path, const std::string& private_key, std::span<const volume::VaultId> vaults,
                 volume::SlotSecret& recovery);

// Where a blob goes, looked at before what it is to save is done.
class EscrowFile {
  public:
    // `key`: PEM with a public key or a certificate, `path`: file to make; both empty: none. `key_out`: where the recovery key
    // itself goes, if anywhere; ToolError if that is the same file.
    EscrowFile(const std::string& key, const std::string& path, const std::string& key_out = "");

    [[nodiscard]] bool wanted() const { return !path_.empty(); }
    // Whether the file is there already.
    [[nodiscard]] bool exists() const;
    // ToolError if it is; of nothing but the file.
    void demand_new() const;
    // Makes the file, which must not exist yet, and flushes it to the medium.
    void create(const volume::SlotSecret& recovery, const volume::VaultId& vault, RandomSource& random) const;
    // Makes it, or replaces what an earlier run of the same has made: ToolError of any file that is no blob of this vault.
    void create_again(const volume::SlotSecret& recovery, const volume::VaultId& vault, RandomSource& random) const;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string key_path_;
    std::string path_;
    Key key_;
};

}  // namespace gatehouse::host
