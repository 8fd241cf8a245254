#include "hypervisor/cpu/io_ports.hpp"

namespace gatehouse::cpu {

Status IoPortMap::add(std::uint16_t first, std::uint16_t last, IoPortHandler& handler) {
    if (last < first) return {Error::kBadValue, "I/O ports", first};
    if (count_ == kMaxRegions) return {Error::kNoSpace, "I/O port regions", kMaxRegions};
    const Extent ports{first, last + 1u - first};
    for (const Region& other : std::span(regions_).first(count_)) {
        const bool nested = ports.contains(other.ports) != other.ports.contains(ports);
        if (ports.overlaps(other.ports) && !nested) return {Error::kOverlap, "I/O ports", first};
    }
    regions_[count_++] = {ports, &handler};
    return {};
}

IoPortHandler* IoPortMap::find(std::uint16_t port, unsigned size) const {
    const Region* smallest = nullptr;
    for (const Region& region : std::span(regions_).first(count_)) {
        if (!region.ports.contains({port, size})) continue;
        if (smallest == nullptr || region.ports.length < smallest->ports.length) smallest = &region;
    }
    return smallest == nullptr ? nullptr : smallest->handler;
}

std::uint32_t IoPortMap::read(std::uint16_t port, unsigned size, std::uint8_t (*real)(std::uint16_t)) const {
    if (IoPortHandler* const handler = find(port, size)) return handler->read(port, size);
    if (size == 1) return real(port);
    std::uint32_t value = 0;
    for (unsigned i = size; i-- > 0;) value = value << 8 | (read(static_cast<std::uint16_t>(port + i), 1, real) & 0xff);
    return value;
}

void IoPortMap::write(std::uint16_t port, unsigned size, std::uint32_t value,
                      void (*real)(std::uint16_t, std::uint8_t)) const {
    if (IoPortHandler* const handler = find(port, size)) return handler->write(port, size, value);
    if (size == 1) return real(port, static_cast<std::uint8_t>(value));
    for (unsigned i = 0; i < size; ++i) write(static_cast<std::uint16_t>(port + i), 1, value >> (8 * i) & 0xff, real);
}

void IoPortMap::write_bitmap(std::span<std::uint8_t, kBitmapSize> bitmap) const {
    for (std::uint8_t& byte : bitmap) byte = 0;
    for (const Region& region : std::span(regions_).first(count_)) {
        for (std::uint64_t port = region.ports.base; port < region.ports.end(); ++port) {
            bitmap[port / 8] = static_cast<std::uint8_t>(bitmap[port / 8] | 1u << port % 8);
        }
    }
}

}  // namespace gatehouse::cpu
