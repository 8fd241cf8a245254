#include "hypervisor/base/log.hpp"

#include <algorithm>

namespace gatehouse {
namespace {

constinit LogSink log_sink = nullptr;
constexpr char kDigits[] = "0123456789abcdef";

}  // namespace

LogLine& LogLine::operator<<(std::string_view text) {
    const std::size_t size = std::min(text.size(), text_.size() - size_);
    if (size != 0) std::memcpy(text_.data() + size_, text.data(), size);
    size_ += size;
    return *this;
}

LogLine& LogLine::number(std::uint64_t value, unsigned base) {
    std::array<char, 20> digits{};
    std::size_t at = digits.size();
    for (; value != 0 || at == digits.size(); value /= base) digits[--at] = kDigits[value % base];
    return *this << std::string_view(digits.data() + at, digits.size() - at);
}

LogLine& LogLine::operator<<(HexBytes hex) {
    for (const std::byte byte : hex.bytes) {
        const char digits[] = {kDigits[std::to_integer<unsigned>(byte) >> 4],
                               kDigits[std::to_integer<unsigned>(byte) & 0xf]};
        *this << std::string_view(digits, 2);
    }
    return *this;
}

LogLine& LogLine::operator<<(const Failure& failure) {
    return *this << error_name(failure.error) << ": " << failure.item << " (" << Hex{failure.detail} << ")";
}

void set_log_sink(LogSink sink) { log_sink = sink; }

void emit_log(const LogLine& line) {
    if (log_sink != nullptr) log_sink(line.text());
}

}  // namespace gatehouse
