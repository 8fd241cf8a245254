#include "attestation/agent/state_directory.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

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

TEST(KeptConnectionKey, IsOfItsServerAlone) {
    const protocol::ConnectionKey key{buffer_of("identity"), host::Buffer(32, std::byte{7}), 1'763'870'000};
    const std::string kept = to_keep(key, "server and CA");
    const auto found = kept_connection_key(kept, "server and CA");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->identity, key.identity);
    EXPECT_EQ(found->key, key.key);
    EXPECT_EQ(found->ends, key.ends);
    EXPECT_FALSE(kept_connection_key(kept, "another CA"));
    EXPECT_FALSE(kept_connection_key(protocol::to_json(key), "server and CA")) << "as agents before kept it";
    for (std::size_t size = 0; size < kept.size(); ++size)
        EXPECT_FALSE(kept_connection_key(kept.substr(0, size), "server and CA")) << size;
    for (const char* const other : {"[]", "1", R"({"server": 1})", R"({"server": "server and CA", "key": []})"})
        EXPECT_FALSE(kept_connection_key(other, "server and CA")) << other;
}

TEST_F(StateDirectoryTest, NamesADamagedFile) {
    const StateDirectory directory(path);
    for (const char* text : {"", "{", "[]", "{\"endpoint_id\": 1, \"trouble\": \"\"}"}) {
        directory.write("state.json", text);
        EXPECT_THROW((void)directory.state(), host::ToolError) << text;
    }
}

}  // namespace
}  // namespace gatehouse::agent
