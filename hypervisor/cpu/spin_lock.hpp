// Mutual exclusion among processors. The hypervisor is never interrupted, so there is nothing to mask.
#pragma once

#include "hypervisor/base/spin_lock.hpp"

namespace gatehouse::cpu {

using gatehouse::SpinGuard;
using gatehouse::SpinLock;

}  // namespace gatehouse::cpu
