// A disk on which a provisioning has only begun.
#pragma once

#include "keyvault/tool/layout.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/volume/journal.hpp"

namespace gatehouse::test {

// Gives the vault of a provisioned disk a newest header whose cursor stands before the first sector to be encrypted.
inline void pretend_encrypted_in_part(const std::string& image, const std::string& recovery_key) {
    host::Disk disk(image, host::Disk::Access::kWrite);
    const auto vault = std::make_unique<host::OpenVault>();
    host::open_with_recovery_key(disk, recovery_key, *vault);
    vault->header.cursor = {volume::CursorState::kEncrypting, 0, host::encrypted_extents(vault->header)[0].first, 0};
    ++vault->header.generation;
    host::Buffer copy(volume::kMaximumHeaderSize);
    copy.resize(host::expect(volume::serialise(vault->header, vault->keys.kek, copy), "header"));
    host::VaultStore store(disk, host::read_partition_tables(disk).vault_entry());
    store.put_copy(0, copy);
    for (const std::uint64_t offset : volume::kJournalOffset) (void)store.write(offset, host::Buffer(4096));
}

}  // namespace gatehouse::test
