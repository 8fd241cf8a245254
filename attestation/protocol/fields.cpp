#include "attestation/protocol/fields.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "attestation/verifier/token.hpp"

namespace gatehouse::protocol {
namespace {

// Takes the parser's events; the first level's members are kept.
class Collector : public nlohmann::json_sax<nlohmann::json> {
  public:
    explicit Collector(std::vector<Fields::Member>& members) : members_(members) {}
    std::string problem;

    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(number_integer_t) override { return other(); }  // negative: no message has one
    bool number_float(number_float_t, const string_t&) override { return other(); }
    bool binary(binary_t&) override { return other(); }
    bool number_unsigned(number_unsigned_t value) override {
        if (depth_ == 1) members_.back().value = value;
        return depth_ == 1 || other();
    }
    bool string(string_t& value) override {
        if (depth_ == 1) {
            members_.back().value = std::move(value);
            return true;
        }
        auto* const list = depth_ == 2 ? current_list() : nullptr;
        if (list == nullptr) return other();
        if (list->size() == kMaxElements) {
            return fail("'" + members_.back().name + "' has more than " + std::to_string(kMaxElements) + " elements");
        }
        list->push_back(std::move(value));
        return true;
    }
    bool start_object(std::size_t) override {
        if (depth_ == 1) members_.back().value = Fields::Other{};
        if (depth_ >= 2) (void)other();
        return deeper();
    }
    bool end_object() override { return higher(); }
    bool start_array(std::size_t) override {
        if (depth_ == 1) members_.back().value = std::vector<std::string>{};
        if (depth_ >= 2) (void)other();
        return deeper();
    }
    bool end_array() override { return higher(); }
    bool key(string_t& name) override {
        if (depth_ != 1) return true;
        const auto same = [&](const Fields::Member& member) { return member.name == name; };
        if (std::ranges::any_of(members_, same)) return fail("member '" + name + "' is there twice");
        if (members_.size() == kMaxMembers) {
            return fail("more than " + std::to_string(kMaxMembers) + " members");
        }
        members_.push_back({std::move(name), Fields::Other{}});
        return true;
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
        return fail("not JSON in UTF-8 (byte " + std::to_string(position) + ")");
    }

  private:
    std::vector<std::string>* current_list() {
        return members_.empty() ? nullptr : std::get_if<std::vector<std::string>>(&members_.back().value);
    }
    // A value that no message has, at any level: an array with one in it is not an array of texts.
    bool other() {
        if (depth_ == 1 || current_list() != nullptr) members_.back().value = Fields::Other{};
        return true;
    }
    bool deeper() {
        return ++depth_ <= kMaxDepth || fail("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    }
    bool higher() {
        --depth_;
        return true;
    }
    bool fail(std::string why) {
        if (problem.empty()) problem = std::move(why);
        return false;
    }

    std::vector<Fields::Member>& members_;
    std::size_t depth_ = 0;
};

// nlohmann's message for a name that is hostile must not carry control characters into a log.
std::string printable(std::string text) {
    if (text.size() > 200) text.resize(200);
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e; }, '?');
    return text;
}

std::string json_text(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Fields::Fields(std::string_view body, std::string what) : what_(std::move(what)) {
    if (body.size() > kMaxBody) {
        throw MessageError(what_ + ": " + std::to_string(body.size()) + " bytes; at most " + std::to_string(kMaxBody) +
                           " are allowed");
    }
    // An object, and nothing else: the parser's events do not tell the outermost array from it.
    const std::size_t start = body.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos || body[start] != '{') throw MessageError(what_ + ": not a JSON object");
    Collector collector(members_);
    const bool ok = nlohmann::json::sax_parse(body, &collector);
    if (!ok || !collector.problem.empty()) throw MessageError(what_ + ": " + printable(collector.problem));
}

const Fields::Value* Fields::find(std::string_view name) const {
    const auto found = std::ranges::find(members_, name, &Member::name);
    return found == members_.end() ? nullptr : &found->value;
}

void Fields::refuse(std::string_view name, const std::string& why) const {
    throw MessageError(what_ + ": '" + std::string(name) + "' " + why);
}

template <typename Kind>
const Kind& Fields::get(std::string_view name, std::string_view kind) const {
    const Value* const value = find(name);
    if (value == nullptr) refuse(name, "is missing");
    const Kind* const typed = std::get_if<Kind>(value);
    if (typed == nullptr) refuse(name, "is not " + std::string(kind));
    return *typed;
}

void Fields::check(std::string_view name, std::size_t size, Limits limits, const char* unit) const {
    if (size >= limits.least && size <= limits.most) return;
    refuse(name, "has " + std::to_string(size) + " " + unit + "; " + std::to_string(limits.least) + " to " +
                     std::to_string(limits.most) + " are allowed");
}

std::string Fields::text(std::string_view name, Limits limits) const {
    const auto& value = get<std::string>(name, "a text");
    check(name, value.size(), limits, "bytes");
    return value;
}

std::string Fields::one_of(std::string_view name, std::initializer_list<std::string_view> values) const {
    const auto& value = get<std::string>(name, "a text");
    if (std::ranges::find(values, std::string_view(value)) != values.end()) return value;
    std::string allowed;
    for (const auto& one : values) allowed += (allowed.empty() ? "" : ", ") + std::string(one);
    refuse(name, "is none of: " + allowed);
}

Buffer Fields::decoded(std::string_view name, const std::string& text, Limits limits) const {
    auto bytes = verifier::from_base64(text);
    if (!bytes) refuse(name, "is not base64 (RFC 4648, section 4)");
    check(name, bytes->size(), limits, "bytes");
    return std::move(*bytes);
}

Buffer Fields::binary(std::string_view name, Limits limits) const {
    return decoded(name, get<std::string>(name, "a text"), limits);
}

std::vector<std::string> Fields::texts(std::string_view name, std::size_t most, Limits each) const {
    const auto& list = get<std::vector<std::string>>(name, "a list of texts");
    check(name, list.size(), {0, most}, "elements");
    for (const auto& one : list) check(name, one.size(), each, "bytes in an element");
    return list;
}

std::vector<Buffer> Fields::binaries(std::string_view name, std::size_t most, Limits each) const {
    std::vector<Buffer> buffers;
    for (const auto& one : texts(name, most, {0, kMaxBody})) buffers.push_back(decoded(name, one, each));
    return buffers;
}

std::uint64_t Fields::number(std::string_view name, std::uint64_t most) const {
    const auto value = get<std::uint64_t>(name, "a whole number of zero or more");
    if (value > most) refuse(name, "is " + std::to_string(value) + "; at most " + std::to_string(most));
    return value;
}

void FieldWriter::name(std::string_view name) {
    if (out_.size() > 1) out_ += ',';
    out_ += '"';
    out_ += name;
    out_ += "\":";
}

FieldWriter& FieldWriter::text(std::string_view name_of, std::string_view value) {
    name(name_of);
    out_ += json_text(value);
    return *this;
}

FieldWriter& FieldWriter::binary(std::string_view name_of, Bytes value) {
    name(name_of);
    out_ += '"';
    out_ += verifier::base64(value);
    out_ += '"';
    return *this;
}

FieldWriter& FieldWriter::number(std::string_view name_of, std::int64_t value) {
    name(name_of);
    out_ += std::to_string(value);
    return *this;
}

FieldWriter& FieldWriter::texts(std::string_view name_of, const std::vector<std::string>& values) {
    name(name_of);
    out_ += '[';
    for (const auto& value : values) out_ += (&value == values.data() ? "" : ",") + json_text(value);
    out_ += ']';
    return *this;
}

FieldWriter& FieldWriter::binaries(std::string_view name_of, const std::vector<Buffer>& values) {
    std::vector<std::string> encoded;
    encoded.reserve(values.size());
    for (const auto& value : values) encoded.push_back(verifier::base64(value));
    return texts(name_of, encoded);
}

std::string FieldWriter::finish() { return std::move(out_) + "}"; }

}  // namespace gatehouse::protocol
