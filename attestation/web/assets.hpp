// Style sheet, scripts and icon, as they were when this program was built. Their names hold their content's
// hash, so that a browser may keep them for ever.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "attestation/web/html.hpp"

namespace gatehouse::web {

struct Asset {
    std::string_view name;  // as asked for: "gatehouse-0123456789abcdef.css"
    std::string_view type;
    std::string_view content;
    std::string_view hash;  // hex; the ETag
};
[[nodiscard]] std::span<const Asset> assets();  // generated at build time: assets.cmake
[[nodiscard]] const Asset* find_asset(std::string_view name);
[[nodiscard]] Url style_sheet();
[[nodiscard]] Url htmx_script();
[[nodiscard]] Url problem_script();
[[nodiscard]] Url icon();

}  // namespace gatehouse::web
