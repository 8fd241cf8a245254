// Bus mastering off while the IOMMUs are being switched on.
//
// Until then a device may change the device table after it has been written, have its own entry cached, and
// put the entry right again before it is verified. Bridges and root ports without Bus Master Enable forward
// no requests of the devices below them, whatever those do (PCI 3.0, 6.2.2; PCI-to-PCI Bridge 1.2, 3.2.4.3),
// and functions that obey the specification send none.
#pragma once

#include <array>
#include <cstddef>

#include "hypervisor/platform/pci.hpp"

namespace gatehouse::slb {

class QuietBusMasters {
  public:
    // Clears Bus Master Enable of every function but the IOMMUs, which read their tables by it.
    QuietBusMasters();
    // Sets it again where it was set; beyond kMaximum functions it stays cleared, until a driver wants it.
    void restore() const;

  private:
    static constexpr std::size_t kMaximum = 256;
    std::array<platform::FunctionId, kMaximum> functions_;
    std::size_t count_ = 0;
};

}  // namespace gatehouse::slb
