#include "hypervisor/cpu/io_ports.hpp"

namespace gatehouse::cpu {

Status IoPortMap::add(std::uint16_t first, std::uint16_t last, IoPortHandler& handler) {
    if (last < first) return {Error::kBadValue, "I/O ports", first};
    if (count_ == kMaxRegions) return {Error::kNoSpace, "I/O port regions", kMaxRegions};
    for (std::size_t i = 0; i < count_; ++i) {
        if (first <= regions_[i].last && regions_[i].first <= last) return {Error::kOverlap, "I/O ports", first};
    }
    std::size_t at = count_++;
    for (; at > 0 && regions_[at - 1].first > first; --at) regions_[at] = regions_[at - 1];
    regions_[at] = {first, last, &handler};
    return {};
}

IoPortHandler* IoPortMap::find(std::uint16_t port, unsigned size) const {
    for (std::size_t i = 0; i < count_; ++i) {
        if (port <= regions_[i].last && port + size > regions_[i].first) return regions_[i].handler;
    }
    return nullptr;
}

void IoPortMap::write_bitmap(std::span<std::uint8_t, kBitmapSize> bitmap) const {
    for (std::uint8_t& byte : bitmap) byte = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        for (unsigned port = regions_[i].first; port <= regions_[i].last; ++port) {
            bitmap[port / 8] = static_cast<std::uint8_t>(bitmap[port / 8] | 1u << port % 8);
        }
    }
}

}  // namespace gatehouse::cpu
