// Who goes on with a change of the disk's key when the guest asks for it (mailbox.hpp, kConvert).
#pragma once

#include "hypervisor/base/bytes.hpp"
#include "hypervisor/channel/mailbox.hpp"

namespace gatehouse::channel {

class Converter {
  public:
    // Does `windows` windows, 0 or 1, and writes the answer, whose size it returns. kState: no change was under way when the
    // guest was started. Others: the disk's, or the vault's; the log has them.
    [[nodiscard]] virtual Result<std::size_t> convert(std::uint32_t windows, MutableBytes out) = 0;

  protected:
    ~Converter() = default;
};

// The whole request, whose payload it reads.
[[nodiscard]] inline Result<std::size_t> convert(Converter* by, Reader request, MutableBytes out) {
    const std::uint32_t windows = request.u32();
    if (!request.finished("").ok() || windows > 1) return {Error::kOutOfRange, "channel: request to convert"};
    if (by == nullptr) return {Error::kState, "channel: nothing to convert"};
    return by->convert(windows, out);
}

}  // namespace gatehouse::channel
