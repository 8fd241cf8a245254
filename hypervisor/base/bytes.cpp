#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

bool equal_secret(Bytes a, Bytes b) {
    if (a.size() != b.size()) return false;
    unsigned difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference |= std::to_integer<unsigned>(a[i]) ^ std::to_integer<unsigned>(b[i]);
        asm volatile("" : "+r"(difference));  // no early exit
    }
    return difference == 0;
}

void wipe(void* memory, std::size_t size) {
    if (size == 0) return;
    std::memset(memory, 0, size);
    asm volatile("" : : "r"(memory) : "memory");
}

Bytes Reader::bytes(std::size_t size) {
    failed_ = failed_ || size > bytes_.size() - offset_;
    if (failed_) return {};
    offset_ += size;
    return bytes_.subspan(offset_ - size, size);
}

void Reader::copy(MutableBytes out) {
    for (std::byte& byte : out) byte = std::byte{0};
    copy_bytes(out, bytes(out.size()));
}

Status Reader::status(const char* item) const { return failed_ ? Status{Error::kTruncated, item, offset_} : Status{}; }

Status Reader::finished(const char* item) const {
    GATEHOUSE_TRY(status(item));
    if (offset_ != bytes_.size()) return {Error::kTrailingBytes, item, offset_};
    return {};
}

MutableBytes Writer::room(std::size_t size) {
    failed_ = failed_ || size > bytes_.size() - offset_;
    if (failed_) return {};
    offset_ += size;
    return bytes_.subspan(offset_ - size, size);
}

void Writer::bytes(Bytes from) {
    const MutableBytes to = room(from.size());
    if (!to.empty()) copy_bytes(to, from);
}

void Writer::zeros(std::size_t size) {
    for (std::byte& byte : room(size)) byte = std::byte{0};
}

void Writer::sized(Bytes from) {
    failed_ = failed_ || from.size() > 0xffff;
    u16(static_cast<std::uint16_t>(from.size()));
    bytes(from);
}

Status Writer::status(const char* item) const { return failed_ ? Status{Error::kNoSpace, item, offset_} : Status{}; }

}  // namespace gatehouse
