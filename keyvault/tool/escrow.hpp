// Recovery keys in escrow: blobs (host_support/escrow_blob.hpp) made, opened and written.
#pragma once

#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/escrow_blob.hpp"
#include "keyvault/random.hpp"
#include "keyvault/volume/header.hpp"

namespace gatehouse::host {

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
