#include "hypervisor/base/result.hpp"

#include <iterator>

namespace gatehouse {
namespace {

// In the order of Error.
constexpr const char* kNames[] = {"no error",        "truncated",         "trailing bytes", "bad magic",
                                  "unknown version", "bad length",        "bad checksum",   "bad MAC",
                                  "bad signature",   "bad value",         "out of range",   "overlap",
                                  "misaligned",      "no space",          "not found",      "unsupported",
                                  "time-out",        "device error",      "TPM error",      "authorization failed",
                                  "mismatch",        "refused by policy", "wrong state"};
static_assert(std::size(kNames) == static_cast<std::size_t>(Error::kState) + 1);

}  // namespace

const char* error_name(Error error) {
    const auto number = static_cast<std::size_t>(error);
    return number < std::size(kNames) ? kNames[number] : "unknown error";
}

}  // namespace gatehouse
