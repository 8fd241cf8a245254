#include "attestation/web/assets.hpp"

#include <algorithm>

namespace gatehouse::web {
namespace {

Url url_of(std::string_view stem, std::string_view extension) {
    const auto found = std::ranges::find_if(
        assets(), [&](const Asset& one) { return one.name.starts_with(stem) && one.name.ends_with(extension); });
    return {"/assets/{}", found->name};
}

}  // namespace

const Asset* find_asset(std::string_view name) {
    const auto found = std::ranges::find(assets(), name, &Asset::name);
    return found == assets().end() ? nullptr : &*found;
}

Url style_sheet() { return url_of("gatehouse-", ".css"); }
Url htmx_script() { return url_of("htmx-", ".js"); }
Url problem_script() { return url_of("problem-", ".js"); }
Url icon() { return url_of("icon-", ".svg"); }

}  // namespace gatehouse::web
