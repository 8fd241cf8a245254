// A key to sign with.
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "keyvault/host_support/authority.hpp"

namespace gatehouse::test {

inline host::Key signing_key() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }

}  // namespace gatehouse::test
