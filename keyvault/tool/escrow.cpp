#include "keyvault/tool/escrow.hpp"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "keyvault/volume_writer/header_writer.hpp"

namespace gatehouse::host {
namespace {

constexpr std::size_t kPointSize = 65;
constexpr std::size_t kHeadSize = 145;  // what is associated

using Wrapped = volume::WrappedKey<volume::kSlotSecretSize>;

// The key that wraps the recovery key, of either side's private key and the other's public one.
volume::WrappingKey wrapping_key(EVP_PKEY* own, EVP_PKEY* other, Bytes ephemeral, Bytes escrow) {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(own, nullptr),
                                                                              EVP_PKEY_CTX_free);
    Secret<32> shared;
    std::size_t size = shared.bytes().size();
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), other) != 1 ||
        EVP_PKEY_derive(context.get(), raw(MutableBytes(shared.bytes())), &size) != 1 ||
        size != shared.bytes().size()) {
        ERR_clear_error();
        throw ToolError("escrow: OpenSSL derives no key");
    }
    Buffer info;
    for (const Bytes part : {literal_bytes("gatehouse escrow v1"), ephemeral, escrow}) {
        info.insert(info.end(), part.begin(), part.end());
    }
    return volume::derive_key(shared.bytes(), info);
}

void check_vault(const volume::VaultId& vault, const std::string& path, std::span<const volume::VaultId> vaults) {
    if (std::ranges::find(vaults, vault) != vaults.end()) return;
    throw ToolError(
        path + ": is of vault " + hex(vault) +
        (vaults.empty() ? ", and there is no vault on the disk" : ", and the disk's vault is " + hex(vaults.front())));
}

}  // namespace

Buffer seal_escrow(const volume::SlotSecret& recovery, const volume::VaultId& vault, const EVP_PKEY* key,
                   const std::string& item, RandomSource& random) {
    const Buffer escrow = p256_point(key, item);
    const Key to = ecc_key(Bytes(escrow).subspan(1, 32), Bytes(escrow).subspan(33));
    const Key own(EVP_EC_gen("P-256"), EVP_PKEY_free);
    if (!own) throw ToolError("escrow: OpenSSL makes no key");
    const Buffer ephemeral = p256_point(own.get(), "escrow");

    Buffer blob(kEscrowSize);
    Writer writer(blob);
    writer.bytes(literal_bytes("GHESCROW"));
    writer.u32(kEscrowVersion);
    writer.u32(kEscrowSize);
    writer.bytes(vault);
    writer.bytes(sha256(escrow));
    writer.bytes(ephemeral);
    const Wrapped wrapped =
        volume::wrap(recovery, wrapping_key(own.get(), to.get(), ephemeral, escrow), {writer.written()}, random);
    for (const Bytes part : {Bytes(wrapped.nonce), Bytes(wrapped.ciphertext), Bytes(wrapped.tag)}) writer.bytes(part);
    expect(writer.status("escrow"), item);
    return blob;
}

void open_escrow(const std::string& path, const std::string& private_key, std::span<const volume::VaultId> vaults,
                 volume::SlotSecret& recovery) {
    const Buffer blob = read_file(path, kMostEscrowFile);
    check_vault(escrow_vault(blob, path), path, vaults);
    Reader reader(blob);
    reader.skip(16 + sizeof(volume::VaultId));
    const Bytes key_id = reader.bytes(kSha256Size);
    const Bytes ephemeral = reader.bytes(kPointSize);
    Wrapped wrapped;
    reader.copy(wrapped.nonce);
    reader.copy(wrapped.ciphertext);
    reader.copy(wrapped.tag);
    expect(reader.finished("escrow blob"), path);

    const Key own = read_private_key(private_key);
    const Buffer escrow = p256_point(own.get(), private_key);
    if (!equal_bytes(sha256(escrow), key_id)) {
        throw ToolError(path + ": is for another escrow key than that in " + private_key);
    }
    const std::string changed = path + ": was changed since it was made";
    if (ephemeral[0] != std::byte{4}) throw ToolError(changed);
    Key other(nullptr, EVP_PKEY_free);
    try {
        other = ecc_key(ephemeral.subspan(1, 32), ephemeral.subspan(33));
    } catch (const ToolError&) {
        throw ToolError(changed);
    }
    const auto key = wrapping_key(own.get(), other.get(), ephemeral, escrow);
    if (!volume::unwrap(wrapped, key, {Bytes(blob).first(kHeadSize)}, recovery)) throw ToolError(changed);
}

EscrowFile::EscrowFile(const std::string& key, const std::string& path, const std::string& key_out)
    : key_path_(key), path_(path), key_(nullptr, EVP_PKEY_free) {
    if (key.empty() != path.empty()) {
        throw ToolError("--escrow-key and --escrow-out go together", ExitCode::kUsage);
    }
    if (path.empty()) return;
    if (!key_out.empty() && std::filesystem::weakly_canonical(path) == std::filesystem::weakly_canonical(key_out)) {
        throw ToolError(path + ": is both --recovery-key-out and --escrow-out; give each a file of its own",
                        ExitCode::kUsage);
    }
    key_ = read_public_key(key);
    (void)p256_point(key_.get(), key);
}

bool EscrowFile::exists() const { return wanted() && ::access(path_.c_str(), F_OK) == 0; }

void EscrowFile::demand_new() const {
    if (exists()) throw ToolError(path_ + ": exists already; choose another --escrow-out");
}

void EscrowFile::create(const volume::SlotSecret& recovery, const volume::VaultId& vault, RandomSource& random) const {
    if (wanted()) create_file(path_, seal_escrow(recovery, vault, key_.get(), key_path_, random), 0644);
}

void EscrowFile::create_again(const volume::SlotSecret& recovery, const volume::VaultId& vault,
                              RandomSource& random) const {
    if (!exists()) return create(recovery, vault, random);
    const Buffer blob = read_file(path_, kMostEscrowFile);
    check_vault(escrow_vault(blob, path_), path_, std::span(&vault, 1));
    replace_file(path_, seal_escrow(recovery, vault, key_.get(), key_path_, random));
}

}  // namespace gatehouse::host
