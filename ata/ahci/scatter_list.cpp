#include "ata/ahci/scatter_list.hpp"

#include <algorithm>

namespace gatehouse::ata::ahci {

std::uint32_t ScatterList::contiguous() {
    if (left_ != 0 || count_ == 0) return left_;
    const auto [address, size] = fetch<kDescriptorSize / 8>(next_);
    address_ = GuestPhysical(address);
    const std::uint32_t last = static_cast<std::uint32_t>(size >> 32) & (kDescriptorMaxBytes - 1);
    const bool valid = address_.within(2) == 0 && (last & 1) != 0;
    left_ = valid ? last + 1 : 0;
    count_ = valid ? count_ - 1 : 0;
    next_ += kDescriptorSize;
    return left_;
}

GuestBytes ScatterList::take(std::uint32_t size) {
    const GuestBytes taken = memory_->map(address_, size);
    address_ = address_ + size;
    left_ -= size;
    return taken;
}

void ScatterList::skip(std::uint64_t size) {
    for (std::uint32_t part = 0; size != 0 && contiguous() != 0; size -= part) {
        part = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, left_));
        (void)take(part);
    }
}

bool ScatterList::copy_out(MutableBytes to) {
    return for_each(to.size(), [&](const std::byte* data, std::size_t size) {
        copy_bytes(to.first(size), Bytes(data, size));
        to = to.subspan(size);
    });
}

bool ScatterList::copy_in(Bytes from) {
    return for_each(from.size(), [&](std::byte* data, std::size_t size) {
        copy_bytes(MutableBytes(data, size), from.first(size));
        from = from.subspan(size);
    });
}

}  // namespace gatehouse::ata::ahci
