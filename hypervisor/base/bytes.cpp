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
    if (failed_ || size > bytes_.size() - offset_) {
        failed_ = true;
        return {};
    }
    const Bytes part = bytes_.subspan(offset_, size);
    offset_ += size;
    return part;
}

void Reader::copy(MutableBytes out) {
    const Bytes part = bytes(out.size());
    if (part.size() == out.size()) {
        copy_bytes(out, part);
    } else if (!out.empty()) {
        std::memset(out.data(), 0, out.size());
    }
}

Status Reader::status(const char* item) const {
    if (failed_) return {Error::kTruncated, item, offset_};
    return {};
}

Status Reader::finished(const char* item) const {
    GATEHOUSE_TRY(status(item));
    if (offset_ != bytes_.size()) return {Error::kTrailingBytes, item, offset_};
    return {};
}

void Writer::bytes(Bytes from) {
    if (failed_ || from.size() > bytes_.size() - offset_) {
        failed_ = true;
        return;
    }
    copy_bytes(bytes_.subspan(offset_), from);
    offset_ += from.size();
}

void Writer::zeros(std::size_t size) {
    if (failed_ || size > bytes_.size() - offset_) {
        failed_ = true;
        return;
    }
    if (size != 0) std::memset(bytes_.data() + offset_, 0, size);
    offset_ += size;
}

void Writer::sized(Bytes from) {
    if (from.size() > 0xffff) {
        failed_ = true;
        return;
    }
    u16(static_cast<std::uint16_t>(from.size()));
    bytes(from);
}

Status Writer::status(const char* item) const {
    if (failed_) return {Error::kNoSpace, item, offset_};
    return {};
}

}  // namespace gatehouse
