// HTML that cannot be written unescaped.
//
//   Html out;
//   out.put("<td title=\"{}\"><a href=\"{}\">{}</a></td>", reason, Url("/endpoints/{}", id), hostname);
//
// Markup is a literal in this program's source and is checked when that is compiled: each "{}" has an
// argument, text and values of attributes (in double quotes) take any text and escape it, a URL's attribute
// takes a Url alone, markup of another Html goes between tags only, and there are no inline scripts, event
// handlers and styles, which the Content-Security-Policy would refuse.
//
// Text is shown as it is, but for what hides or reorders text: control characters, bidirectional controls and
// invisible characters are written as their number, "⟨U+202E⟩", and a byte that is not UTF-8 as "⟨0xFF⟩". Text that has
// such a thing itself is shown with the number of its first bracket, "⟨U+27E8⟩U+202E⟩".
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace gatehouse::web {

class Html;

// An attribute without a value that is there or not: Flag("checked", condition).
class Flag {
  public:
    consteval Flag(const char* name) : name_(name) {}
    [[nodiscard]] constexpr Flag when(bool present) const {
        Flag flag = *this;
        flag.present_ = present;
        return flag;
    }
    [[nodiscard]] std::string_view name() const { return name_; }
    [[nodiscard]] bool present() const { return present_; }

  private:
    std::string_view name_;
    bool present_ = true;
};

// A path on this server, with its query: Url("/endpoints/{}", id).with("cursor", cursor). Arguments are
// percent-encoded (RFC 3986, all but the unreserved characters).
class Url {
  public:
    struct Pattern {
        std::string_view text;
        consteval Pattern(const char* pattern) : text(pattern) {
            if (text.empty() || text.front() != '/' || text.starts_with("//")) throw "a path begins with one slash";
        }
    };
    Url(Pattern pattern) : text_(pattern.text) {}
    // What a browser brought back as an address of this server: one slash in front, and nothing but what Url
    // itself writes. Anything else leads to "/".
    [[nodiscard]] static Url from_browser(std::string_view text);
    // A request's path, decoded.
    [[nodiscard]] static Url of_path(std::string_view path);
    Url(Pattern pattern, std::initializer_list<std::string_view> parts);
    template <typename... Parts>
    requires(sizeof...(Parts) > 0) Url(Pattern pattern, const Parts&... parts)
        : Url(pattern, {std::string_view(parts)...}) {}
    // Adds to the query; an empty value adds nothing.
    [[nodiscard]] Url with(std::string_view name, std::string_view value) const;
    // Adds a fragment; the last thing to be added.
    [[nodiscard]] Url at(std::string_view fragment) const;
    [[nodiscard]] const std::string& text() const { return text_; }

  private:
    std::string text_;
};

// Text of several lines: line breaks and tabs stay what they are.
struct Lines {
    std::string_view text;
};

namespace html_detail {

enum class Kind : std::uint8_t { kText, kMarkup, kFlag, kUrl };

template <typename T>
constexpr Kind kind_of() {
    if constexpr (std::is_same_v<T, Html>) return Kind::kMarkup;
    if constexpr (std::is_same_v<T, Flag>) return Kind::kFlag;
    if constexpr (std::is_same_v<T, Url>) return Kind::kUrl;
    return Kind::kText;
}

// Reads a pattern as a browser would, and throws (which ends the compilation) at what it must not have.
class Checker {
  public:
    constexpr Checker(std::string_view pattern, std::span<const Kind> arguments)
        : text_(pattern), arguments_(arguments) {}
    constexpr void run() {
        while (at_ < text_.size()) {
            if (text_.substr(at_).starts_with("{}")) {
                placeholder();
                at_ += 2;
            } else {
                character(text_[at_++]);
            }
        }
        if (state_ != State::kText) throw "a pattern ends outside of tags";
        if (used_ != arguments_.size()) throw "more arguments than {}";
    }

  private:
    enum class State : std::uint8_t { kText, kTag, kValue };

    constexpr void character(char c) {
        switch (state_) {
            case State::kText:
                if (c == '<') begin_tag();
                break;
            case State::kTag:
                if (c == '>') {
                    if (is_script_ && !has_source_) throw "no inline scripts";
                    state_ = State::kText;
                } else if (c == '"') {
                    state_ = State::kValue;
                    value_begins_ = true;
                    return;
                } else if (c == '\'') {
                    throw "attributes are quoted with \"";
                } else if (c == ' ' || c == '\n') {
                    name_begin_ = at_;
                } else if (c == '=') {
                    name_ = text_.substr(name_begin_, at_ - 1 - name_begin_);
                    check_name();
                }
                break;
            case State::kValue:
                if (c == '"') state_ = State::kTag;
                break;
        }
        value_begins_ = false;
    }
    constexpr void begin_tag() {
        state_ = State::kTag;
        const std::string_view rest = text_.substr(at_);
        if (rest.starts_with("style")) throw "no inline styles";
        is_script_ = rest.starts_with("script");
        has_source_ = false;
    }
    constexpr void check_name() {
        if (name_ == "style" || name_.starts_with("on") || name_.starts_with("hx-on") || name_ == "srcdoc")
            throw "no inline styles, no event handlers";
        if (name_ == "src") has_source_ = true;
    }
    [[nodiscard]] constexpr bool takes_url() const {
        return name_ == "href" || name_ == "src" || name_ == "action" || name_ == "formaction" || name_ == "hx-get" ||
               name_ == "hx-post" || name_ == "hx-push-url";
    }
    constexpr void placeholder() {
        if (used_ == arguments_.size()) throw "more {} than arguments";
        const Kind kind = arguments_[used_++];
        if (state_ == State::kTag && kind != Kind::kFlag) throw "in a tag, a {} stands in a quoted value, or is a Flag";
        if (state_ != State::kTag && kind == Kind::kFlag) throw "a Flag stands in a tag";
        if (state_ == State::kValue && kind == Kind::kMarkup) throw "no markup in an attribute";
        if (state_ == State::kValue && takes_url() && (kind != Kind::kUrl || !value_begins_))
            throw "an address is a Url, whole";
        if (state_ == State::kValue && name_.starts_with("hx-") && !takes_url())
            throw "an htmx attribute is a literal: some are evaluated as a script";
        if (state_ == State::kText && is_script_) throw "nothing goes into a script";
        value_begins_ = false;
    }

    std::string_view text_;
    std::span<const Kind> arguments_;
    std::size_t at_ = 0, used_ = 0, name_begin_ = 0;
    std::string_view name_;
    State state_ = State::kText;
    bool is_script_ = false, has_source_ = false, value_begins_ = false;
};

template <typename... Arguments>
struct Pattern {
    std::string_view text;
    consteval Pattern(const char* pattern) : text(pattern) {
        constexpr Kind kinds[] = {kind_of<std::remove_cvref_t<Arguments>>()..., Kind::kText};
        Checker(text, std::span(kinds).first(sizeof...(Arguments))).run();
    }
};

struct Argument {
    Kind kind;
    bool lines = false;
    std::string_view text;
    std::string number;

    Argument(const Html& markup);
    Argument(const Flag& flag) : kind(Kind::kFlag), text(flag.present() ? flag.name() : std::string_view()) {}
    Argument(const Url& url) : kind(Kind::kUrl), text(url.text()) {}
    Argument(const Lines& lines_of) : kind(Kind::kText), lines(true), text(lines_of.text) {}
    Argument(std::string_view value) : kind(Kind::kText), text(value) {}
    Argument(const std::string& value) : kind(Kind::kText), text(value) {}
    Argument(const char* value) : kind(Kind::kText), text(value) {}
    template <std::integral Number>
    requires(!std::same_as<Number, bool> && !std::same_as<Number, char>) Argument(Number value)
        : kind(Kind::kText), number(std::to_string(value)) {}
};

}  // namespace html_detail

class Html {
  public:
    template <typename... Arguments>
    Html& put(html_detail::Pattern<std::type_identity_t<Arguments>...> pattern, const Arguments&... arguments) {
        if constexpr (sizeof...(Arguments) == 0) {
            text_ += pattern.text;
        } else {
            const html_detail::Argument all[] = {html_detail::Argument(arguments)...};
            write(pattern.text, all);
        }
        return *this;
    }
    Html& add(const Html& markup) {
        text_ += markup.text_;
        return *this;
    }
    [[nodiscard]] const std::string& text() const { return text_; }
    [[nodiscard]] bool empty() const { return text_.empty(); }

  private:
    void write(std::string_view pattern, std::span<const html_detail::Argument> arguments);
    std::string text_;
};

// A piece on its own: piece("<b>{}</b>", text).
template <typename... Arguments>
[[nodiscard]] Html piece(html_detail::Pattern<std::type_identity_t<Arguments>...> pattern,
                         const Arguments&... arguments) {
    Html out;
    out.put<Arguments...>(pattern, arguments...);
    return out;
}

// `text` as it stands in the page, for text and for quoted values.
[[nodiscard]] std::string escaped(std::string_view text, bool keep_lines = false);
// Text that somebody has read on a page: with the characters that numbers stand for.
[[nodiscard]] std::string as_meant(std::string_view shown);

}  // namespace gatehouse::web
