// One POST to a URL, for webhooks: HTTP/1.1, TLS with the system's certificate authorities, redirects not
// followed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attestation/server/url.hpp"

namespace gatehouse::server {

// ServiceError (400) naming what is wrong: not http or https, http to another host than this one, user
// information, a fragment, characters that a URL cannot have.
[[nodiscard]] Url parse_webhook_url(const std::string& url);

// Empty if the answer is 2xx, which it must be within 10 seconds; else what went wrong.
[[nodiscard]] std::string post_webhook(const Url& url, const std::vector<std::pair<std::string, std::string>>& headers,
                                       const std::string& body);

}  // namespace gatehouse::server
