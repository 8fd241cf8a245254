// A spin lock for short sections; not recursive, not fair. Constant-initialised, so that it may be a global.
#pragma once

#include <atomic>

namespace gatehouse {

class SpinLock {
  public:
    void lock() {
        while (taken_.exchange(true, std::memory_order_acquire)) {
            while (taken_.load(std::memory_order_relaxed)) __builtin_ia32_pause();
        }
    }
    void unlock() { taken_.store(false, std::memory_order_release); }

  private:
    std::atomic<bool> taken_ = false;
};

class SpinGuard {
  public:
    explicit SpinGuard(SpinLock& lock) : lock_(lock) { lock_.lock(); }
    ~SpinGuard() { lock_.unlock(); }
    SpinGuard(const SpinGuard&) = delete;

  private:
    SpinLock& lock_;
};

}  // namespace gatehouse
