#include "hypervisor/memory/ram.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::memory {

std::uint64_t MachineMsrs::read(std::uint32_t msr) { return platform::read_msr(msr); }
void MachineMsrs::write(std::uint32_t msr, std::uint64_t value) { platform::write_msr(msr, value); }

}  // namespace gatehouse::memory
