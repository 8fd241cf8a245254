// Requests that no client can bring about at will: time that passes, peers from elsewhere.
#include "attestation/server/http/application.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/server/http/body.hpp"

namespace gatehouse::http {
namespace {

class ApplicationTest : public testing::Test {
  protected:
    ApplicationTest() {
        char name[] = "/tmp/gatehouse-application-XXXXXX";
        directory_ = ::mkdtemp(name);
        server::ServiceOptions options;
        options.directory = directory_;
        options.database = "sqlite:" + directory_ + "/gatehouse.db";
        service_ = std::make_unique<server::Service>(options);
        pages_ = std::make_unique<web::Pages>(*service_);
        ApplicationOptions limits;
        limits.anonymous = {.per_second = 0.001, .burst = 3};
        limits.clock = [this] { return now_; };
        application_ = std::make_unique<Application>(*service_, *pages_, log_, limits);
        peer_->address = peer_->network = "192.0.2.1";
    }
    ~ApplicationTest() override {
        application_.reset();
        pages_.reset();
        service_.reset();
        std::filesystem::remove_all(directory_);
    }

    Response ask(const std::string& method, const std::string& target,
                 std::vector<std::pair<std::string, std::string>> headers = {}) {
        Request request;
        request.method = method;
        request.target = target;
        request.headers = std::move(headers);
        request.peer = peer_;
        auto admission = application_->admit(request);
        Response answer = admission.refusal ? std::move(*admission.refusal) : application_->handle(request);
        application_->finished(request, answer, std::chrono::milliseconds(1));
        return answer;
    }
    static std::string code_of(const Response& answer) { return nlohmann::json::parse(answer.body)["error"]["code"]; }

    std::string directory_;
    Seconds now_ = 1'000'000;
    Log log_{::open("/dev/null", O_WRONLY | O_CLOEXEC), LogFormat::kPeople, Level::kDebug};
    std::unique_ptr<server::Service> service_;
    std::unique_ptr<web::Pages> pages_;
    std::unique_ptr<Application> application_;
    std::shared_ptr<Peer> peer_ = std::make_shared<Peer>();
};

TEST_F(ApplicationTest, ACertificateThatEndsOnAnOpenConnectionIsRefused) {
    peer_->certificate = Sha256Digest{};
    peer_->certificate_ends = now_ + 1;
    EXPECT_EQ(code_of(ask("POST", "/v1/attestations/nonce")), "certificate_refused");
    now_ += 1;
    EXPECT_EQ(code_of(ask("POST", "/v1/attestations/nonce")), "certificate_expired");
}

TEST_F(ApplicationTest, AConnectionThatAReplacedKeyHasOpenedIsRefused) {
    peer_->certificate = Sha256Digest{};
    peer_->certificate_ends = now_ + 1;
    peer_->connection_secret = service_->connection_keys()->secret_name();
    EXPECT_EQ(code_of(ask("POST", "/v1/attestations/nonce")), "certificate_refused") << "as by the certificate";
    service_->rotate_connection_keys({"root", server::Role::kAdmin});
    EXPECT_EQ(code_of(ask("POST", "/v1/attestations/nonce")), "connection_key_refused");
    peer_->connection_secret.reset();
    EXPECT_EQ(code_of(ask("POST", "/v1/attestations/nonce")), "certificate_refused");
}

TEST_F(ApplicationTest, MetricsAreOpenToLocalPeersOnly) {
    EXPECT_EQ(ask("GET", "/metrics").status, 401u);
    peer_->loopback = true;
    EXPECT_EQ(ask("GET", "/metrics").status, 200u);
}

TEST_F(ApplicationTest, AuditLogIsReadWholeByTwoAtOnce) {
    const std::string token =
        service_->create_token({"root", server::Role::kAdmin}, "reader", server::Role::kReadOnly, 0);
    const auto read = [&](const char* what) {
        return ask("GET", std::string("/v1/audit/") + what, {{"authorization", "Bearer " + token}});
    };
    Response slow = read("export");
    {
        const Response another = read("export");
        for (const char* what : {"export", "verify"}) {
            const Response refused = read(what);
            EXPECT_EQ(refused.status, 503u);
            EXPECT_EQ(code_of(refused), "busy");
        }
    }
    EXPECT_EQ(read("verify").status, 200u);
    std::string told;
    slow.stream([&](std::string_view piece) { told += piece; });
    EXPECT_THAT(told, testing::HasSubstr("token.create"));
}

TEST_F(ApplicationTest, AddressesHaveLimitsOfTheirOwn) {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(ask("GET", "/v1/ca").status, 200u);
    const Response refused = ask("GET", "/v1/ca");
    EXPECT_EQ(refused.status, 429u);
    EXPECT_THAT(refused.headers, testing::Contains(testing::Pair("Retry-After", "1000")));
    peer_ = std::make_shared<Peer>(*peer_);
    peer_->network = "192.0.2.2";
    EXPECT_EQ(ask("GET", "/v1/ca").status, 200u);
}

TEST_F(ApplicationTest, ATokenThatNobodyLooksAtDoesNotLiftALimit) {
    const std::vector<std::pair<std::string, std::string>> token{{"authorization", "Bearer gh_x"}};
    for (int i = 0; i < 3; ++i) EXPECT_EQ(ask("GET", "/v1/revocations", token).status, 200u);
    EXPECT_EQ(ask("GET", "/v1/revocations", token).status, 429u);
}

TEST_F(ApplicationTest, AnUnknownSchemeIsNoToken) {
    EXPECT_EQ(code_of(ask("GET", "/v1/counts", {{"authorization", "Basic gh_x"}})), "no_token");
    EXPECT_EQ(code_of(ask("GET", "/v1/counts", {{"authorization", "Bearer"}})), "no_token");
    EXPECT_EQ(code_of(ask("GET", "/v1/counts", {{"authorization", "bearer gh_x"}})), "bad_token");
}

TEST(JsonBody, DepthIsCountedOutsideOfTexts) {
    EXPECT_FALSE(is_too_deep(std::string(32, '[')));
    EXPECT_TRUE(is_too_deep(std::string(33, '[')));
    EXPECT_FALSE(is_too_deep("\"" + std::string(100, '[') + "\""));
    EXPECT_FALSE(is_too_deep("\"\\\"" + std::string(100, '[') + "\""));
    EXPECT_TRUE(is_too_deep("\"\\\\\"" + std::string(33, '{')));
}

}  // namespace
}  // namespace gatehouse::http
