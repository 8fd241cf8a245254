#include "attestation/agent/client_key.hpp"

#include <gtest/gtest.h>

#include <string>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {
namespace {

TEST(ClientKey, ARequestIsOfItsKey) {
    const std::string key = make_private_key();
    EXPECT_TRUE(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    EXPECT_TRUE(certification_request(key).starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    EXPECT_NE(key, make_private_key());
    EXPECT_THROW((void)certification_request("no key"), host::ToolError);
    EXPECT_THROW((void)validity_of(key), host::ToolError);
}

}  // namespace
}  // namespace gatehouse::agent
