#include "hypervisor/base/log.hpp"

#include <algorithm>

namespace gatehouse {
namespace {

constinit LogSink log_sink = nullptr;
constexpr char kHexDigits[] = "0123456789abcdef";

}  // namespace

LogLine& LogLine::operator<<(std::string_view text) {
    const std::size_t size = std::min(text.size(), text_.size() - size_);
    if (size != 0) std::memcpy(text_.data() + size_, text.data(), size);
    size_ += size;
    return *this;
}

LogLine& LogLine::operator<<(std::uint64_t value) {
    std::array<char, 20> digits{};
    std::size_t at = digits.size();
    do {
        digits[--at] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return *this << std::string_view(digits.data() + at, digits.size() - at);
}

LogLine& LogLine::operator<<(Hex hex) {
    std::array<char, 18> digits{};
    std::size_t at = digits.size();
    do {
        digits[--at] = kHexDigits[hex.value & 0xf];
        hex.value >>= 4;
    } while (hex.value != 0);
    digits[--at] = 'x';
    digits[--at] = '0';
    return *this << std::string_view(digits.data() + at, digits.size() - at);
}

LogLine& LogLine::operator<<(HexBytes hex) {
    for (const std::byte byte : hex.bytes) {
        const char digits[] = {kHexDigits[std::to_integer<unsigned>(byte) >> 4],
                               kHexDigits[std::to_integer<unsigned>(byte) & 0xf]};
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
