// Files that a tool writes where somebody's may be.
#pragma once

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

// What any public key in PEM form begins with, in bytes: "-----BEGIN PUBLIC KEY-----".
inline constexpr std::size_t kPublicKeyMagic = 26;

// As replace_file(), but what is there stays unless it is one more of the same: a regular file that begins as `content` does,
// with `magic` bytes, and is none of the inputs. ToolError (usage) of any other.
void replace_like(const std::string& path, Bytes content, std::size_t magic, const std::vector<std::string>& inputs);

}  // namespace gatehouse::host
