#include "tests/unit/web/browser.hpp"

namespace gatehouse::test {

std::string header(const web::Response& response, const std::string& name) {
    std::string all;
    for (const auto& [one, value] : response.headers) {
        if (one == name) all += (all.empty() ? "" : "\n") + value;
    }
    return all;
}

web::Response Browser::send(web::Request request) {
    request.headers = headers;
    request.cookies = cookies;
    request.peer = peer_;
    request.network = network;
    request.certificate_principal = certificate;
    web::Response response = pages_.handle(request);
    for (const auto& [name, value] : response.headers) {
        if (name != "Set-Cookie") continue;
        const std::size_t equals = value.find('=');
        const std::string text = value.substr(equals + 1, value.find(';') - equals - 1);
        if (text.empty()) {
            cookies.erase(value.substr(0, equals));
        } else {
            cookies[value.substr(0, equals)] = text;
        }
    }
    constexpr std::string_view before = "name=\"csrf\" value=\"";
    if (const std::size_t at = response.body.find(before); at != std::string::npos) {
        const std::size_t begin = at + before.size();
        csrf_ = response.body.substr(begin, response.body.find('"', begin) - begin);
    }
    return response;
}

web::Response Browser::get(const std::string& target) {
    web::Request request;
    request.method = "GET";
    request.path = target.substr(0, target.find('?'));
    if (const std::size_t question = target.find('?'); question != std::string::npos) {
        std::string_view rest = std::string_view(target).substr(question + 1);
        while (!rest.empty()) {
            const std::string_view one = rest.substr(0, rest.find('&'));
            rest.remove_prefix(std::min(rest.size(), one.size() + 1));
            const std::size_t equals = one.find('=');
            request.query.emplace(one.substr(0, equals), equals == one.npos ? "" : one.substr(equals + 1));
        }
    }
    return send(std::move(request));
}

web::Response Browser::post(const std::string& path, Fields fields) {
    web::Request request;
    request.method = "POST";
    request.path = path;
    request.form = std::move(fields);
    request.form.emplace("csrf", csrf_);
    return send(std::move(request));
}

web::Response Browser::log_in(const std::string& token) {
    (void)get("/log-in");
    return post("/log-in", {{"token", token}, {"next", "/"}});
}

Browser WebTest::logged_in(server::Role role) {
    Browser browser(pages_);
    const std::string name = std::string("test-") + server::name_of(role);
    const web::Response response = browser.log_in(fleet_.token(name, role));
    EXPECT_EQ(response.status, 303u);
    (void)browser.get("/");
    return browser;
}

}  // namespace gatehouse::test
