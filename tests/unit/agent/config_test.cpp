#include "attestation/agent/config.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {
namespace {

TEST(Config, ReadsEveryKey) {
    const Config config = parse_config(
        "server = \"https://a:1\"\nca_file = \"c\"\nca_pin = \"p\"\nstate = \"s\"\nsource = "
        "\"device:/dev/tpmrm0\"\n"
        "hostname = \"h\"\ninterval_s = 60\ntoken_file = \"t\"\nfirmware_log = \"f\"\n",
        "agent.toml");
    EXPECT_EQ(config.server, "https://a:1");
    EXPECT_EQ(config.ca_file, "c");
    EXPECT_EQ(config.ca_pin, "p");
    EXPECT_EQ(config.state, "s");
    EXPECT_EQ(config.source, "device:/dev/tpmrm0");
    EXPECT_EQ(config.hostname, "h");
    EXPECT_EQ(config.interval_s, 60u);
    EXPECT_EQ(config.token_file, "t");
    EXPECT_EQ(config.firmware_log, "f");
}

TEST(Config, ExampleIsTheDefaults) {
    std::ifstream file(GATEHOUSE_AGENT_TOML);
    std::string example, line;
    while (std::getline(file, line))
        example += (line.starts_with("#") && !line.starts_with("# ") ? line.substr(1) : "") + "\n";
    const Config config = parse_config(example, "agent.toml");
    const Config defaults;
    EXPECT_EQ(config.server, "https://attest.example:8443");
    EXPECT_EQ(config.ca_file, "/etc/gatehouse/ca.pem");
    EXPECT_EQ(config.ca_pin, defaults.ca_pin);
    EXPECT_EQ(config.token_file, defaults.token_file);
    EXPECT_EQ(config.hostname, defaults.hostname);
    EXPECT_EQ(config.source, defaults.source);
    EXPECT_EQ(config.firmware_log, defaults.firmware_log);
    EXPECT_EQ(config.interval_s, defaults.interval_s);
    EXPECT_EQ(config.state, defaults.state);
}

TEST(Config, RefusesWhatItDoesNotKnowByLineAndKey) {
    for (const char* text :
         {"\nsevrer = \"x\"", "\ninterval_s = 0", "\ninterval_s = \"60\"", "\nserver = 1", "\n= 1"}) {
        try {
            (void)parse_config(text, "agent.toml");
            FAIL() << text;
        } catch (const host::ToolError& error) {
            EXPECT_TRUE(std::string(error.what()).starts_with("agent.toml:2: ")) << error.what();
        }
    }
}

}  // namespace
}  // namespace gatehouse::agent
