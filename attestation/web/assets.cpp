#include "attestation/web/assets.hpp"

#include <algorithm>

namespace gatehouse::web {
namespace {

Url url_of(std::string_view suffix) {
    const auto found =
        std::ranges::find_if(assets(), [&](const Asset& one) { return one.name.ends_with(suffix); });
    return {"/assets/{}", found->name};
}

}  // namespace

const Asset* find_asset(std::string_view name) {
    const auto found = std::ranges::find(assets(), name, &Asset::name);
    return found == assets().end() ? nullptr : &*found;
}

Url style_sheet() { return url_of(".css"); }
Url script() { return url_of(".js"); }
Url icon() { return url_of(".svg"); }

}  // namespace gatehouse::web
