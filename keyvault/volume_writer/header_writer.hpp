// Writes vault headers (header.hpp). For the tools that make and change vaults; a boot only reads them.
#pragma once

#include "keyvault/random.hpp"
#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {

// The other half of unwrap(), with a nonce of `random`'s.
template <std::size_t N>
[[nodiscard]] WrappedKey<N> wrap(const Secret<N>& secret, const WrappingKey& key,
                                 std::initializer_list<Bytes> associated, RandomSource& random) {
    WrappedKey<N> wrapped;
    random.fill(wrapped.nonce);
    copy_bytes(wrapped.ciphertext, secret.bytes());
    wrapped.tag = gcm(Direction::kEncrypt, key, wrapped.nonce, associated, wrapped.ciphertext);
    return wrapped;
}

// Writes a whole copy and its MAC; returns its length. `out`: kMaximumHeaderSize bytes always suffice.
[[nodiscard]] Result<std::size_t> serialise(const Header& header, const Kek& kek, MutableBytes out);

// Wraps for `header.slots`, bound to the header's disk and vault id, which are to be set before. `secret` of the
// member slot is the root of the boot vault.
[[nodiscard]] WrappedKey<kKekSize> wrap_kek(const Kek& kek, SlotKind slot, const SlotSecret& secret,
                                            const Header& header, RandomSource& random);
// Wraps for `header.root`; header.vault_id is to be vault_id(root).
[[nodiscard]] WrappedKey<kRootSize> wrap_root(const Root& root, const Kek& kek, const Guid& disk, RandomSource& random);
// Wraps for `header.data_key`. kBadValue if both halves of the DEK are equal (FIPS 140-2 Implementation Guidance, A.9).
[[nodiscard]] Result<DataKey> wrap_dek(const Dek& dek, std::uint32_t epoch, const Kek& kek, const Guid& disk,
                                       RandomSource& random);

// The vault partition. Offsets are bytes from its start, multiples of 4,096.
class Store {
  public:
    virtual Status write(std::uint64_t offset, Bytes data) = 0;
    // Returns when everything written before is on stable media.
    virtual Status flush() = 0;

  protected:
    ~Store() = default;
};

// Puts `header` on disk as the next generation, in place of the older copy; `copy` is the number of the
// newest good copy, on success that of the new one, and header.generation the new generation. A power cut at
// any moment leaves the old header or the new one. `scratch`: kMaximumHeaderSize bytes.
[[nodiscard]] Status update(Store& store, Header& header, const Kek& kek, std::size_t& copy, MutableBytes scratch);

}  // namespace gatehouse::volume
