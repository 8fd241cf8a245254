// The time line of verdicts as a picture: one column for each hour, stacked by state.
#pragma once

#include <vector>

#include "attestation/server/database/records.hpp"
#include "attestation/web/html.hpp"

namespace gatehouse::web {

// An <svg> with a title for each column, and the same figures as a table for those who do not see it.
[[nodiscard]] Html time_line_picture(const std::vector<server::TimePoint>& points);

}  // namespace gatehouse::web
