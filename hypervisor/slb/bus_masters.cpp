#include "hypervisor/slb/bus_masters.hpp"

namespace gatehouse::slb {
namespace {

constexpr std::uint16_t kCommand = 0x04;
constexpr std::uint32_t kBusMasterEnable = 1u << 2;
constexpr std::uint32_t kIommuClass = 0x0806;

}  // namespace

QuietBusMasters::QuietBusMasters() {
    platform::for_each_function([this](platform::FunctionId function) {
        const std::uint32_t command = platform::read_config(function, kCommand, 2);
        if ((command & kBusMasterEnable) == 0 || platform::class_of(function) >> 8 == kIommuClass) return;
        platform::write_config(function, kCommand, 2, command & ~kBusMasterEnable);
        if (count_ < functions_.size()) functions_[count_++] = function;
    });
}

void QuietBusMasters::restore() const {
    for (std::size_t i = 0; i < count_; ++i) {
        const std::uint32_t command = platform::read_config(functions_[i], kCommand, 2);
        platform::write_config(functions_[i], kCommand, 2, command | kBusMasterEnable);
    }
}

}  // namespace gatehouse::slb
