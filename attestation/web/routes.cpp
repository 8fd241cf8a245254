#include "attestation/web/routes.hpp"

#include <array>

namespace gatehouse::web {
namespace {

using server::Role;

constexpr std::array kRoutes{
    Route{"GET", "/", Role::kReadOnly, overview_page},
    Route{"GET", "/endpoints", Role::kReadOnly, endpoints_page},
    Route{"GET", "/endpoints/*", Role::kReadOnly, endpoint_page},
    Route{"POST", "/endpoints/*/attest", Role::kOperator, attest_endpoint},
    Route{"POST", "/endpoints/*/group", Role::kOperator, move_endpoint},
    Route{"GET", "/endpoints/*/retire", Role::kOperator, retire_page},
    Route{"POST", "/endpoints/*/retire", Role::kOperator, retire_endpoint},
    Route{"GET", "/enrollments", Role::kReadOnly, enrollments_page},
    Route{"POST", "/enrollments/token", Role::kOperator, create_enrollment_token},
    Route{"POST", "/enrollments/register", Role::kOperator, register_endorsement},
    Route{"GET", "/enrollments/*", Role::kReadOnly, enrollment_page},
    Route{"POST", "/enrollments/*/approve", Role::kOperator, approve_enrollment},
    Route{"POST", "/enrollments/*/reject", Role::kOperator, reject_enrollment},
    Route{"GET", "/policies", Role::kReadOnly, policies_page},
    Route{"POST", "/policies", Role::kOperator, upload_policy},
    Route{"GET", "/policies/*/*", Role::kReadOnly, policy_page},
    Route{"GET", "/assignments/change", Role::kOperator, assignment_page},
    Route{"POST", "/assignments/assign", Role::kOperator, assign_policy},
    Route{"POST", "/assignments/unassign", Role::kOperator, unassign_policy},
    Route{"GET", "/audit", Role::kReadOnly, audit_page},
    Route{"POST", "/audit/verify", Role::kReadOnly, verify_audit},
    Route{"GET", "/tokens", Role::kAdmin, tokens_page},
    Route{"POST", "/tokens", Role::kAdmin, create_token},
    Route{"GET", "/tokens/*/revoke", Role::kAdmin, revoke_token_page},
    Route{"POST", "/tokens/*/revoke", Role::kAdmin, revoke_token},
    Route{"GET", "/settings", Role::kReadOnly, settings_page},
    Route{"POST", "/settings/groups", Role::kOperator, create_group},
    Route{"POST", "/settings/authorities", Role::kAdmin, add_authority},
    Route{"POST", "/settings/vendors", Role::kAdmin, add_vendor},
    Route{"GET", "/settings/authorities/*/remove", Role::kAdmin, remove_authority_page},
    Route{"POST", "/settings/authorities/*/remove", Role::kAdmin, remove_authority},
    Route{"GET", "/settings/vendors/*/remove", Role::kAdmin, remove_vendor_page},
    Route{"POST", "/settings/vendors/*/remove", Role::kAdmin, remove_vendor},
    Route{"POST", "/settings/actions", Role::kAdmin, add_action},
    Route{"POST", "/settings/actions/*/remove", Role::kAdmin, remove_action},
};

std::string_view take_segment(std::string_view& path) {
    path.remove_prefix(1);
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    return segment;
}

bool matches(std::string_view pattern, std::string_view path, std::vector<std::string>& parts) {
    parts.clear();
    while (!pattern.empty() && !path.empty()) {
        const std::string_view wanted = take_segment(pattern);
        const std::string_view found = take_segment(path);
        if (wanted == "*" && !found.empty()) {
            parts.emplace_back(found);
        } else if (wanted != found) {
            return false;
        }
    }
    return pattern.empty() && path.empty();
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

Match match_route(std::string_view method, std::string_view path) {
    Match match;
    if (!path.starts_with('/')) return match;
    if (method == "HEAD") method = "GET";
    for (const Route& route : kRoutes) {
        std::vector<std::string> parts;
        if (!matches(route.pattern, path, parts)) continue;
        if (route.method == method) return {&route, std::move(parts), false};
        match.other_method = true;
    }
    return match;
}

}  // namespace gatehouse::web
