#include "attestation/server/http/message.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace gatehouse::http {

std::string_view Request::header(std::string_view name) const {
    const auto found = std::ranges::find(headers, name, [](const auto& one) { return std::string_view(one.first); });
    return found == headers.end() ? std::string_view{} : std::string_view(found->second);
}

bool Request::has_header(std::string_view name) const {
    return std::ranges::any_of(headers, [&](const auto& one) { return one.first == name; });
}

std::string_view reason_of(unsigned status) {
    switch (status) {
        case 100: return "Continue";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 204: return "No Content";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 411: return "Length Required";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 415: return "Unsupported Media Type";
        case 417: return "Expectation Failed";
        case 421: return "Misdirected Request";
        case 422: return "Unprocessable Content";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 503: return "Service Unavailable";
        case 505: return "HTTP Version Not Supported";
        case 507: return "Insufficient Storage";
        default: return "Status";
    }
}

Response error_response(unsigned status, std::string_view code, std::string_view message, unsigned retry_after) {
    Response answer;
    answer.status = status;
    const nlohmann::json body = {{"error", {{"code", code}, {"message", message}}}};
    answer.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (retry_after != 0) answer.headers.emplace_back("Retry-After", std::to_string(retry_after));
    return answer;
}

}  // namespace gatehouse::http
