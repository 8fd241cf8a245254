// What a browser does with a server's pages, as far as the tests need it: keeps cookies, brings back what a
// form holds. And the server that it visits.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/web/pages.hpp"
#include "tests/unit/web/sample_fleet.hpp"

namespace gatehouse::test {

using Fields = std::map<std::string, std::string>;

class Browser {
  public:
    explicit Browser(web::Pages& pages, std::string peer = "192.0.2.1")
        : network(peer), pages_(pages), peer_(std::move(peer)) {}

    // "/endpoints?state=stale": values are not percent-decoded.
    web::Response get(const std::string& target);
    // With the token that the last page's forms hold, unless the fields have one.
    web::Response post(const std::string& path, Fields fields);
    // Through the log-in form.
    web::Response log_in(const std::string& token);

    [[nodiscard]] const std::string& csrf() const { return csrf_; }

    Fields cookies;
    Fields headers{{"host", "gatehouse.example:8443"}};  // of each request
    std::optional<server::Principal> certificate;
    std::string network;  // the peer's

  private:
    web::Response send(web::Request request);

    web::Pages& pages_;
    std::string peer_, csrf_;
};

// All values of a header, one after the other.
[[nodiscard]] std::string header(const web::Response& response, const std::string& name);

class WebTest : public testing::Test {
  protected:
    // A browser that is logged in.
    [[nodiscard]] Browser logged_in(server::Role role);

    SampleFleet fleet_;
    web::Pages pages_{fleet_.service(), [this] { return fleet_.now(); }};
    const server::Principal admin_{"root", server::Role::kAdmin};
};

}  // namespace gatehouse::test
