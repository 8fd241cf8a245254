// What the agent keeps and when it does what.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "attestation/agent/client_key.hpp"
#include "attestation/agent/config.hpp"
#include "attestation/agent/schedule.hpp"
#include "attestation/agent/state_directory.hpp"

namespace gatehouse::agent {
namespace {

host::Buffer buffer_of(std::string_view text) {
    const Bytes bytes = host::text_bytes(text);
    return {bytes.begin(), bytes.end()};
}

class StateDirectoryTest : public testing::Test {
  protected:
    StateDirectoryTest() {
        std::string name = testing::TempDir() + "gatehouse-agent-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
        path = name + "/state";
    }
    ~StateDirectoryTest() override { std::filesystem::remove_all(std::filesystem::path(path).parent_path()); }
    [[nodiscard]] mode_t mode(const std::string& name) const {
        struct stat status {};
        EXPECT_EQ(stat((path + name).c_str(), &status), 0);
        return status.st_mode & 0777;
    }
    std::string path;
};

TEST_F(StateDirectoryTest, IsForItsOwnerAlone) {
    const StateDirectory directory(path);
    directory.write("identity.pem", "secret");
    EXPECT_EQ(mode(""), 0700u);
    EXPECT_EQ(mode("/identity.pem"), 0600u);
    chmod(path.c_str(), 0750);
    EXPECT_THROW(StateDirectory{path}, host::ToolError);
}

TEST_F(StateDirectoryTest, RemembersAnEnrollmentThatIsUnderWay) {
    const StateDirectory directory(path);
    EXPECT_TRUE(directory.state().endpoint_id.empty());
    State state;
    state.pending = PendingEnrollment{"01ID", buffer_of("blob"), buffer_of("secret"), true};
    state.last = LastAttestation{12, "untrusted", 34, {"events: \xff not UTF-8"}};
    directory.save(state);
    const State found = directory.state();
    ASSERT_TRUE(found.pending && found.last);
    EXPECT_EQ(found.pending->id, "01ID");
    EXPECT_EQ(found.pending->credential_blob, buffer_of("blob"));
    EXPECT_TRUE(found.pending->activated);
    EXPECT_EQ(found.last->lease_until, 34);
}

TEST_F(StateDirectoryTest, NamesADamagedFile) {
    const StateDirectory directory(path);
    for (const char* text : {"", "{", "[]", "{\"endpoint_id\": 1, \"trouble\": \"\"}"}) {
        directory.write("state.json", text);
        EXPECT_THROW((void)directory.state(), host::ToolError) << text;
    }
}

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

TEST(Schedule, NeverLaterThanTheServerAsks) {
    for (const double unit : {0.0, 0.5, 1.0}) {
        EXPECT_LE(until_next(300, 100, unit), 100);
        EXPECT_GE(until_next(300, 100, unit), 80);
        EXPECT_LE(until_next(300, 0, unit), 300);
        EXPECT_GE(until_next(1, 1, unit), 1);
    }
    EXPECT_NE(until_next(300, 0, 0.2), until_next(300, 0, 0.8));
}

TEST(Schedule, BacksOffAndHeedsRetryAfter) {
    Backoff backoff;
    double last = 0;
    for (int i = 0; i < 7; ++i) {
        const double next = backoff.next(0, 1);
        EXPECT_GT(next, last);
        last = next;
    }
    for (int i = 0; i < 100; ++i) EXPECT_LE(backoff.next(0, 1), Backoff::kMost);
    EXPECT_GE(backoff.next(3000, 0), 3000);
    EXPECT_LE(backoff.next(4'000'000'000, 1), 2 * 3600);
    backoff.reset();
    EXPECT_LE(backoff.next(0, 1), Backoff::kFirst);
}

TEST(Schedule, RenewsInTheLastThirdOfACertificatesLife) {
    EXPECT_FALSE(renewal_due(0, 900, 599));
    EXPECT_TRUE(renewal_due(0, 900, 601));
    EXPECT_TRUE(renewal_due(0, 900, 1000));
}

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
