// openapi.json and the router say the same.
#include "attestation/server/http/openapi.hpp"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "attestation/server/audit_actions.hpp"
#include "attestation/server/http/router.hpp"

namespace gatehouse::http {
namespace {

using nlohmann::json;

const json& document() {
    static const json parsed = json::parse(openapi_document());
    return parsed;
}

std::string lower(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

const json* operation_of(const Route& route) {
    const json& paths = document()["paths"];
    const auto path = paths.find(route.pattern);
    if (path == paths.end() || !path->contains(lower(route.method))) return nullptr;
    return &(*path)[lower(route.method)];
}

TEST(OpenApi, IsTheFileAsItIs) {
    std::ifstream file(GATEHOUSE_SOURCE "/attestation/server/openapi.json");
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_EQ(openapi_document(), text.str());
    EXPECT_EQ(document()["openapi"], "3.1.0");
}

TEST(OpenApi, HasEveryRouteAndNoOther) {
    std::size_t operations = 0;
    for (const auto& [path, methods] : document()["paths"].items()) operations += methods.size();
    for (const Route& route : routes()) {
        EXPECT_NE(operation_of(route), nullptr) << route.method << " " << route.pattern << " is not in openapi.json";
    }
    EXPECT_EQ(operations, routes().size()) << "openapi.json has a path that the server does not";
}

TEST(OpenApi, HasEveryActionOfTheAuditLogAndNoOther) {
    json actions = json::array();
    for (const server::AuditActionRow& row : server::kAuditActions) actions.push_back(row.name);
    EXPECT_EQ(document()["components"]["schemas"]["AuditEntry"]["properties"]["action"]["enum"], actions);
}

TEST(OpenApi, SaysWhoMayCallWithWhat) {
    for (const Route& route : routes()) {
        const json* const operation = operation_of(route);
        ASSERT_NE(operation, nullptr) << route.pattern;
        EXPECT_EQ((*operation)["operationId"], route.operation);
        EXPECT_EQ((*operation)["x-access"], name_of(route.access)) << route.operation;
        std::set<std::string> described, taken(route.query.begin(), route.query.end());
        for (const auto& parameter : operation->value("parameters", json::array())) {
            if (parameter["in"] == "query") described.insert(parameter["name"]);
        }
        EXPECT_EQ(described, taken) << route.operation;
        const char* type = route.body == BodyKind::kJws ? "application/jose" : "application/json";
        const bool takes_body = operation->contains("requestBody");
        EXPECT_EQ(takes_body, route.body != BodyKind::kNone) << route.operation;
        if (takes_body) {
            EXPECT_TRUE((*operation)["requestBody"]["content"].contains(type)) << route.operation;
            EXPECT_EQ((*operation)["requestBody"]["required"], route.body != BodyKind::kOptionalJson)
                << route.operation;
        }
    }
}

// Each "$ref" of the document leads somewhere.
void check_references(const json& value) {
    if (value.is_object() && value.contains("$ref")) {
        const auto target = value["$ref"].get<std::string>();
        ASSERT_TRUE(target.starts_with("#/"));
        EXPECT_TRUE(document().contains(json::json_pointer(target.substr(1)))) << target;
    }
    if (!value.is_structured()) return;
    for (const auto& item : value) check_references(item);
}

TEST(OpenApi, ReferencesLeadSomewhere) { check_references(document()); }

TEST(Router, FindsParametersAndHead) {
    const std::vector<std::string> segments = {"v1", "endpoints", "X"};
    const Match match = match_route("HEAD", segments);
    ASSERT_NE(match.route, nullptr);
    EXPECT_STREQ(match.route->operation, "getEndpoint");
    EXPECT_THAT(match.parameters, testing::ElementsAre("X"));
}

TEST(Router, NamesTheMethodsOfAPath) {
    const std::vector<std::string> segments = {"v1", "endpoints", "X"};
    const Match match = match_route("DELETE", segments);
    EXPECT_EQ(match.route, nullptr);
    EXPECT_EQ(match.allow, "GET, HEAD, PATCH, OPTIONS");
    EXPECT_EQ(match_route("GET", std::vector<std::string>{"v1", "nothing"}).allow, "");
}

TEST(Router, OnlyOneRouteForARequest) {
    std::set<std::string> seen;
    for (const Route& route : routes()) {
        EXPECT_TRUE(seen.insert(std::string(route.method) + " " + route.pattern).second) << route.pattern;
    }
}

}  // namespace
}  // namespace gatehouse::http
