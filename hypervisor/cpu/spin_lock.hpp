// Mutual exclusion among processors. Held briefly; the hypervisor is never interrupted, so there is nothing to mask.
#pragma once

#include <atomic>

namespace gatehouse::cpu {

class SpinLock {
  public:
    void lock() {
        while (held_.test_and_set(std::memory_order_acquire)) {
            while (held_.test(std::memory_order_relaxed)) asm volatile("pause");
        }
    }
    void unlock() { held_.clear(std::memory_order_release); }

  private:
    std::atomic_flag held_;
};

class SpinGuard {
  public:
    explicit SpinGuard(SpinLock& lock) : lock_(lock) { lock_.lock(); }
    ~SpinGuard() { lock_.unlock(); }
    SpinGuard(const SpinGuard&) = delete;
    SpinGuard& operator=(const SpinGuard&) = delete;

  private:
    SpinLock& lock_;
};

}  // namespace gatehouse::cpu
