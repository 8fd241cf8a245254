// Which page or action belongs to a path.
#pragma once

#include <string_view>
#include <vector>

#include "attestation/web/context.hpp"

namespace gatehouse::web {

struct Route {
    std::string_view method;   // "GET" (HEAD too) or "POST"
    std::string_view pattern;  // "/endpoints/*/retire": "*" is one segment
    server::Role role;         // the least; Service has the last word
    Handler handler;
};

struct Match {
    const Route* route = nullptr;
    std::vector<std::string> parts;  // what "*" stood for
    bool other_method = false;       // there is a route of the path, with another method
};
[[nodiscard]] Match match_route(std::string_view method, std::string_view path);
[[nodiscard]] std::span<const Route> routes();

}  // namespace gatehouse::web
