// What the audit log notes: every action, by its name in the log, and its subject. A name that is not here does not
// compile; openapi.json lists them as well (tests/unit/server/http/openapi_test.cpp).
#pragma once

#include <array>
#include <stdexcept>
#include <string_view>

namespace gatehouse::server {

struct AuditActionRow {
    std::string_view name;
    std::string_view subject;
};

// clang-format off
inline constexpr std::array kAuditActions{
    AuditActionRow{"access.denied",           "path that the role may not have"},
    AuditActionRow{"action.add",              "name of the webhook or command"},
    AuditActionRow{"action.give_up",          "its name: an event was not delivered"},
    AuditActionRow{"action.remove",           "its name"},
    AuditActionRow{"authority.add",           "name of the policy authority"},
    AuditActionRow{"authority.remove",        "its name"},
    AuditActionRow{"certificate.renew",       "endpoint"},
    AuditActionRow{"connection_keys.rotate",  "name of the new secret that connection keys are made of"},
    AuditActionRow{"crl.drop",                "issuer of a CRL that was fetched: nobody trusted has signed it any more"},
    AuditActionRow{"crl.hurry",               "all sources of CRLs, which are to be asked at once"},
    AuditActionRow{"crl.take",                "issuer of a CRL that was fetched"},
    AuditActionRow{"database.backup",         "file"},
    AuditActionRow{"database.restore",        "file"},
    AuditActionRow{"endorsement.register",    "hash of an endorsement key, approved when it comes"},
    AuditActionRow{"endpoint.approve",        "enrollment"},
    AuditActionRow{"endpoint.endorsement",    "endpoint whose TPM's vendor is believed no more, or again"},
    AuditActionRow{"endpoint.move",           "endpoint, to another group"},
    AuditActionRow{"endpoint.request",        "endpoint that is to attest at once"},
    AuditActionRow{"endpoint.state",          "endpoint"},
    AuditActionRow{"enrollment.expire",       "enrollment"},
    AuditActionRow{"enrollment.reject",       "enrollment"},
    AuditActionRow{"enrollment.waiting",      "enrollment"},
    AuditActionRow{"enrollment_token.create", "group"},
    AuditActionRow{"escrow.delete",           "endpoint"},
    AuditActionRow{"escrow.get",              "endpoint"},
    AuditActionRow{"escrow.put",              "endpoint"},
    AuditActionRow{"form.refused",            "web page"},
    AuditActionRow{"group.create",            "group"},
    AuditActionRow{"policy.add",              "policy"},
    AuditActionRow{"policy.assign",           "group"},
    AuditActionRow{"policy.unassign",         "group"},
    AuditActionRow{"result_key.rotate",       "id of the new key that results are signed by"},
    AuditActionRow{"session.begin",           "web page"},
    AuditActionRow{"session.end",             "web page"},
    AuditActionRow{"session.refused",         "web page"},
    AuditActionRow{"token.create",            "token"},
    AuditActionRow{"token.refused",           "path"},
    AuditActionRow{"token.revoke",            "token"},
    AuditActionRow{"vendor.add",              "vendor"},
    AuditActionRow{"vendor.remove",           "vendor"},
};
// clang-format on

// One of them.
class AuditAction {
  public:
    consteval AuditAction(const char* name) : name_(name) {  // NOLINT(google-explicit-constructor): written as its name
        for (const AuditActionRow& row : kAuditActions) {
            if (row.name == name_) return;
        }
        throw std::logic_error("no action of the audit log");  // does not compile
    }
    [[nodiscard]] std::string_view name() const { return name_; }

  private:
    std::string_view name_;
};

}  // namespace gatehouse::server
