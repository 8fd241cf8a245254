#include "attestation/server/http/body.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "attestation/verifier/token.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {
namespace {

constexpr std::size_t kMaxText = 8192;

[[noreturn]] void refuse(const std::string& message) { throw HttpError{400, "bad_body", message}; }

}  // namespace

bool is_too_deep(std::string_view json) {
    std::size_t depth = 0;
    bool in_text = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (in_text) {
            if (c == '\\') {
                ++i;
            } else if (c == '"') {
                in_text = false;
            }
            continue;
        }
        if (c == '"') in_text = true;
        if ((c == '{' || c == '[') && ++depth > kMaxDepth) return true;
        if ((c == '}' || c == ']') && depth > 0) --depth;
    }
    return false;
}

struct JsonBody::Inside {
    nlohmann::json object;
};

JsonBody::JsonBody(std::string_view text, std::initializer_list<std::string_view> names)
    : inside_(std::make_unique<Inside>()) {
    inside_->object = nlohmann::json::object();
    if (text.empty()) return;
    std::set<std::string> seen;
    std::string twice;
    const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
        if (event == nlohmann::json::parse_event_t::key && depth == 1) {
            const auto& name = value.get_ref<const std::string&>();
            if (!seen.insert(name).second) twice = name;
        }
        return true;
    };
    auto& object = inside_->object;
    object = nlohmann::json::parse(text, watch, false);
    if (object.is_discarded()) refuse("the body is not JSON");
    if (!object.is_object()) refuse("the body is not a JSON object");
    if (!twice.empty()) refuse("the body has a member twice");
    for (const auto& [name, value] : object.items()) {
        if (std::ranges::find(names, name) != names.end()) continue;
        std::string known;
        for (const auto one : names) known.append(known.empty() ? "" : ", ").append(one);
        refuse("the body has an unknown member" + (known.empty() ? "" : "; it may have: " + known));
    }
}

JsonBody::~JsonBody() = default;

std::string JsonBody::text(const char* name) const {
    const auto found = inside_->object.find(name);
    if (found == inside_->object.end()) refuse(std::string("the body lacks \"") + name + "\"");
    if (!found->is_string()) refuse(std::string("\"") + name + "\" is not a string");
    auto value = found->get<std::string>();
    if (value.size() > kMaxText) refuse(std::string("\"") + name + "\" is longer than 8192 bytes");
    return value;
}

std::string JsonBody::text_or(const char* name, std::string default_value) const {
    return inside_->object.contains(name) ? text(name) : std::move(default_value);
}

std::int64_t JsonBody::number_or(const char* name, std::int64_t default_value, std::int64_t most) const {
    const auto found = inside_->object.find(name);
    if (found == inside_->object.end()) return default_value;
    const bool fits = found->is_number_unsigned() && found->get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
    if (!fits) refuse(std::string("\"") + name + "\" is not a whole number from 0 to " + std::to_string(most));
    return found->get<std::int64_t>();
}

bool JsonBody::flag_or(const char* name, bool default_value) const {
    const auto found = inside_->object.find(name);
    if (found == inside_->object.end()) return default_value;
    if (!found->is_boolean()) refuse(std::string("\"") + name + "\" is not true or false");
    return found->get<bool>();
}

std::vector<Buffer> JsonBody::blobs(const char* name, std::size_t most) const {
    const auto found = inside_->object.find(name);
    if (found == inside_->object.end()) return {};
    const std::string where = std::string("\"") + name + "\"";
    if (!found->is_array()) refuse(where + " is not an array");
    if (found->size() > most) refuse(where + " has more than " + std::to_string(most) + " items");
    std::vector<Buffer> blobs;
    for (const auto& item : *found) {
        auto bytes = item.is_string() ? verifier::from_base64(item.get_ref<const std::string&>()) : std::nullopt;
        if (!bytes) refuse(where + "[" + std::to_string(blobs.size()) + "] is not base64");
        blobs.push_back(std::move(*bytes));
    }
    return blobs;
}

Response json_response(const nlohmann::json& body, unsigned status) {
    Response answer;
    answer.status = status;
    answer.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return answer;
}

Response no_content() {
    Response answer;
    answer.status = 204;
    answer.content_type.clear();
    return answer;
}

Response cacheable(const Request& request, std::string content_type, std::string body) {
    std::array<std::byte, 32> digest{};
    EVP_Digest(body.data(), body.size(), raw(MutableBytes(digest)), nullptr, EVP_sha256(), nullptr);
    const std::string tag = "\"" + host::hex(Bytes(digest).first(16)) + "\"";
    Response answer;
    answer.headers.emplace_back("ETag", tag);
    answer.headers.emplace_back("Cache-Control", "no-cache");
    if (request.header("if-none-match") == tag) {
        answer.status = 304;
        answer.content_type.clear();
        return answer;
    }
    answer.content_type = std::move(content_type);
    answer.body = std::move(body);
    return answer;
}

}  // namespace gatehouse::http
