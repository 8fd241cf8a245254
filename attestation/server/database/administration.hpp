// What the server keeps of itself: counters, secrets, tokens, groups, vendors, escrow. Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {

// --- counters: counted up with each change of what they are named after, so that every process knows of it
enum class Counter : std::uint8_t { kAssignments, kVendors };
[[nodiscard]] const char* name_of(Counter which);  // of its row of the settings
[[nodiscard]] std::int64_t counter(Session& session, Counter which);
// The same; nobody counts it up, or locks it, until the job ends.
[[nodiscard]] std::int64_t lock_counter(Session& session, Counter which);
void count_up(Session& session, Counter which);
// True once in the life of a database: noted apart from the tokens.
[[nodiscard]] bool take_first_token(Session& session);

// --- secrets, sealed
[[nodiscard]] std::optional<Buffer> find_secret(Session& session, const std::string& name);
void add_secret(Session& session, const std::string& name, const Buffer& sealed);  // unless there is one
void replace_secret(Session& session, const std::string& name, const Buffer& sealed);

// --- tokens, found by the SHA-256 of the text or of the certificate
[[nodiscard]] std::optional<Token> find_token(Session& session, const Sha256Digest& hash);
[[nodiscard]] bool has_token_named(Session& session, const std::string& name);
[[nodiscard]] std::vector<Token> list_tokens(Session& session);
void add_token(Session& session, const Sha256Digest& hash, const Token& token);
void use_token(Session& session, const Sha256Digest& hash, Seconds now);
[[nodiscard]] bool remove_token(Session& session, const std::string& name);
void drop_tokens_expired_before(Session& session, Seconds time);

// --- groups
[[nodiscard]] bool has_group(Session& session, const std::string& name);
[[nodiscard]] std::vector<std::string> list_groups(Session& session);
[[nodiscard]] bool add_group(Session& session, const std::string& name);  // false if there is one of that name

// --- vendors
struct VendorRow {
    std::string name;
    std::string content;  // JSON: "roots", "intermediates", "revocations" (lists of base64), "require_crl"
};
[[nodiscard]] std::vector<VendorRow> list_vendors(Session& session);  // in no order
[[nodiscard]] std::vector<std::string> list_vendor_names(Session& session);
void put_vendor(Session& session, const VendorRow& vendor);
[[nodiscard]] bool remove_vendor(Session& session, const std::string& name);

// --- escrow
[[nodiscard]] std::int64_t count_escrow(Session& session, const std::string& endpoint);
[[nodiscard]] std::vector<std::string> list_escrow(Session& session, const std::string& endpoint);
[[nodiscard]] std::optional<Buffer> find_escrow(Session& session, const std::string& endpoint, const std::string& name);
// Of a name that the endpoint has no blob of.
void add_escrow(Session& session, const std::string& endpoint, const std::string& name, Seconds time,
                const Buffer& blob);
[[nodiscard]] bool remove_escrow(Session& session, const std::string& endpoint, const std::string& name);

}  // namespace gatehouse::server
