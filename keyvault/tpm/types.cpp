#include "keyvault/tpm/types.hpp"

#include <algorithm>

namespace gatehouse::tpm {

Name name_of(Bytes public_area) {
    Name name{};
    store(name.data(), static_cast<std::uint16_t>(HashAlgorithm::kSha256), Endian::kBig);
    copy_bytes(MutableBytes(name).subspan(2), sha256(public_area));
    return name;
}

bool pcr_is_reset_value(Bytes value) {
    const auto all = [value](std::byte byte) { return std::ranges::count(value, byte) == std::ssize(value); };
    return all(std::byte{0x00}) || all(std::byte{0xff});
}

}  // namespace gatehouse::tpm
