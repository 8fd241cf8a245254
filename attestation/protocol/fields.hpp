// The members of one flat JSON object, read as hostile, and the text of one: what messages.cpp is made of.
//
// Reading makes no tree: a nested value of a member is passed over unless it is an array of texts, so that
// depth and size cost what the body's own length costs. Refused: anything that is not one JSON object (RFC
// 8259) in UTF-8, more than kMaxDepth levels, more than kMaxMembers members, a member that is there twice.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "attestation/protocol/messages.hpp"

namespace gatehouse::protocol {

inline constexpr std::size_t kMaxDepth = 8;
inline constexpr std::size_t kMaxMembers = 64;
inline constexpr std::size_t kMaxElements = 256;  // of an array

struct Limits {
    std::size_t least = 0;
    std::size_t most = kMaxText;
};

class Fields {
  public:
    // `what` names the message in errors: "enrollment request".
    Fields(std::string_view body, std::string what);

    [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
    // Bytes of UTF-8.
    [[nodiscard]] std::string text(std::string_view name, Limits limits = {}) const;
    [[nodiscard]] std::string one_of(std::string_view name, std::initializer_list<std::string_view> values) const;
    // Of base64.
    [[nodiscard]] Buffer binary(std::string_view name, Limits limits) const;
    [[nodiscard]] std::vector<std::string> texts(std::string_view name, std::size_t most, Limits each) const;
    [[nodiscard]] std::vector<Buffer> binaries(std::string_view name, std::size_t most, Limits each) const;
    [[nodiscard]] std::uint64_t number(std::string_view name, std::uint64_t most) const;

    struct Other {};  // a value of a kind that no message has
    using Value = std::variant<Other, std::string, std::uint64_t, std::vector<std::string>>;
    struct Member {
        std::string name;
        Value value;
    };

  private:
    [[nodiscard]] const Value* find(std::string_view name) const;
    template <typename Kind>
    [[nodiscard]] const Kind& get(std::string_view name, std::string_view kind) const;
    [[noreturn]] void refuse(std::string_view name, const std::string& why) const;
    void check(std::string_view name, std::size_t size, Limits limits, const char* unit) const;
    [[nodiscard]] Buffer decoded(std::string_view name, const std::string& text, Limits limits) const;

    std::string what_;
    std::vector<Member> members_;
};

// Writes one object, members in the order of the calls.
class FieldWriter {
  public:
    FieldWriter& text(std::string_view name, std::string_view value);
    FieldWriter& binary(std::string_view name, Bytes value);
    FieldWriter& number(std::string_view name, std::int64_t value);
    FieldWriter& texts(std::string_view name, const std::vector<std::string>& values);
    FieldWriter& binaries(std::string_view name, const std::vector<Buffer>& values);
    [[nodiscard]] std::string finish();

  private:
    void name(std::string_view name);
    std::string out_ = "{";
};

}  // namespace gatehouse::protocol
