#include "keyvault/tool/signed_record.hpp"

#include <unistd.h>

namespace gatehouse::host {
namespace {

Buffer sign(EVP_PKEY* key, Bytes content) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    Buffer signature(static_cast<std::size_t>(EVP_PKEY_get_size(key)));
    std::size_t size = signature.size();
    if (!context || EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       reinterpret_cast<const unsigned char*>(content.data()), content.size()) != 1) {
        throw ToolError("the record cannot be signed");
    }
    signature.resize(size);
    return signature;
}

}  // namespace

RecordFile::RecordFile(const std::string& path, const std::string& sign_key)
    : path_(path), key_(nullptr, EVP_PKEY_free) {
    if (path.empty() && !sign_key.empty()) throw ToolError("--sign-key signs --record-out FILE", ExitCode::kUsage);
    for (const std::string& name : {path, path + ".sig"}) {
        if (!path.empty() && ::access(name.c_str(), F_OK) == 0) {
            throw ToolError(name + ": exists already; give the name of a new file", ExitCode::kUsage);
        }
    }
    if (sign_key.empty()) return;
    key_ = read_private_key(sign_key);
    (void)p256_point(key_.get(), sign_key);
}

void RecordFile::write(std::string_view text) const {
    create_file(path_, text_bytes(text), 0644);
    if (key_) create_file(path_ + ".sig", sign(key_.get(), text_bytes(text)), 0644);
}

}  // namespace gatehouse::host
