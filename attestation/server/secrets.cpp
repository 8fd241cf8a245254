#include "attestation/server/secrets.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "attestation/server/database/administration.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kNonceSize = 12, kTagSize = 16;

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

void demand(bool ok) {
    if (!ok) throw std::runtime_error("OpenSSL's AES-256-GCM failed");
}

void make_directory(const std::string& directory) {
    std::filesystem::path path(directory);
    if (path.has_parent_path()) {
        std::error_code ignored;
        std::filesystem::create_directories(path.parent_path(), ignored);
    }
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        throw host::ToolError(directory + ": cannot be made: " + std::strerror(errno));
}

// Written whole beside its place and linked there, so that of two processes one wins and both read the same.
void make_key_file(const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0) return;
    const std::string own = path + "." + host::hex(random_bytes(8));
    Buffer key = random_bytes(32);
    host::create_file(own, key, 0600);
    wipe(key);
    const bool linked = ::link(own.c_str(), path.c_str()) == 0 || errno == EEXIST;
    const int error = errno;
    ::unlink(own.c_str());
    if (!linked) throw host::ToolError(path + ": cannot be made: " + std::strerror(error));
    const host::File directory(
        ::open(std::filesystem::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.get() < 0 || ::fsync(directory.get()) != 0)
        throw host::ToolError(path + ": its directory cannot be flushed");
}

}  // namespace

Buffer random_bytes(std::size_t size) {
    Buffer bytes(size);
    if (RAND_bytes(raw(MutableBytes(bytes)), static_cast<int>(size)) != 1)
        throw std::runtime_error("no random numbers from OpenSSL");
    return bytes;
}

Sealer::Sealer(const std::string& directory) : path_(directory + "/master.key") {
    make_directory(directory);
    make_key_file(path_);
    struct stat facts {};
    if (::stat(path_.c_str(), &facts) != 0 || (facts.st_mode & 077) != 0)
        throw host::ToolError(path_ + ": must not be open to others: chmod 600");
    Buffer file = host::read_file(path_, 64);
    if (file.size() != 32) throw host::ToolError(path_ + ": is not a key of 32 bytes; restore it from your backup");
    hkdf_sha256({}, file, literal_bytes("gatehouse server secrets"), key_.bytes());
    wipe(file);
}

Buffer Sealer::seal(std::string_view name, Bytes secret) const {
    Buffer sealed = random_bytes(kNonceSize);
    sealed.resize(kNonceSize + secret.size() + kTagSize);
    unsigned char* const out = raw(MutableBytes(sealed));
    const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    int size = 0;
    demand(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(Bytes(key_.bytes())), out) == 1);
    demand(EVP_EncryptUpdate(cipher.get(), nullptr, &size, raw(host::text_bytes(name)),
                             static_cast<int>(name.size())) == 1);
    demand(EVP_EncryptUpdate(cipher.get(), out + kNonceSize, &size, raw(secret), static_cast<int>(secret.size())) == 1);
    demand(EVP_EncryptFinal_ex(cipher.get(), out + kNonceSize + secret.size(), &size) == 1);
    demand(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagSize, out + kNonceSize + secret.size()) == 1);
    return sealed;
}

Buffer Sealer::unseal(std::string_view name, Bytes sealed) const {
    const auto wrong = [&] {
        return host::ToolError("the database's secret \"" + std::string(name) + "\" is not sealed under " + path_ +
                               ": put the master.key of the server that made this database there");
    };
    if (sealed.size() < kNonceSize + kTagSize) throw wrong();
    const Bytes body = sealed.subspan(kNonceSize, sealed.size() - kNonceSize - kTagSize);
    Buffer tag(sealed.end() - kTagSize, sealed.end());
    Buffer secret(body.size());
    const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    int size = 0;
    demand(EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(Bytes(key_.bytes())), raw(sealed)) == 1);
    demand(EVP_DecryptUpdate(cipher.get(), nullptr, &size, raw(host::text_bytes(name)),
                             static_cast<int>(name.size())) == 1);
    demand(EVP_DecryptUpdate(cipher.get(), raw(MutableBytes(secret)), &size, raw(body),
                             static_cast<int>(body.size())) == 1);
    demand(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagSize, tag.data()) == 1);
    std::array<unsigned char, 16> none{};
    if (EVP_DecryptFinal_ex(cipher.get(), none.data(), &size) != 1) {
        wipe(secret);
        throw wrong();
    }
    return secret;
}

Buffer shared_secret(Database& database, const Sealer& sealer, const std::string& name,
                     const std::function<Buffer()>& make) {
    std::optional<Buffer> found;
    database.read([&](Session& session) { found = find_secret(session, name); });
    if (!found) {
        Buffer fresh = make();
        const Buffer sealed = sealer.seal(name, fresh);
        wipe(fresh);
        database.write([&](Session& session) {
            add_secret(session, name, sealed);
            found = find_secret(session, name);  // another process may have been first
        });
    }
    return sealer.unseal(name, found.value());
}

}  // namespace gatehouse::server
