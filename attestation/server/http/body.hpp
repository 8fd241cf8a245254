// JSON bodies of operators' requests, read strictly, and JSON answers.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {

inline constexpr std::size_t kMaxDepth = 32;  // of arrays and objects within each other

// Whether brackets nest deeper than kMaxDepth; looks at brackets outside of strings only, so that a deep text
// is refused before any parser sees it.
[[nodiscard]] bool is_too_deep(std::string_view json);

// An object. Each of its members must be one of `names`, once. An empty text is an empty object. HttpError
// 400 that names what is wrong; so do all of these.
class JsonBody {
  public:
    JsonBody(std::string_view text, std::initializer_list<std::string_view> names);
    ~JsonBody();
    [[nodiscard]] std::string text(const char* name) const;  // at most 8 KiB
    [[nodiscard]] std::string text_or(const char* name, std::string default_value) const;
    [[nodiscard]] std::int64_t number_or(const char* name, std::int64_t default_value, std::int64_t most) const;
    [[nodiscard]] bool flag_or(const char* name, bool default_value) const;
    // An array of at most so many base64 texts; empty if absent.
    [[nodiscard]] std::vector<Buffer> blobs(const char* name, std::size_t most = 64) const;

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

// What is not UTF-8 in it (endpoints choose their names) becomes U+FFFD.
[[nodiscard]] Response json_response(const nlohmann::json& body, unsigned status = 200);
[[nodiscard]] Response no_content();
// One that seldom changes: with an ETag, and 304 if the client has it.
[[nodiscard]] Response cacheable(const Request& request, std::string content_type, std::string body);

}  // namespace gatehouse::http
