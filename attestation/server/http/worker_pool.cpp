#include "attestation/server/http/worker_pool.hpp"

#include <utility>

namespace gatehouse::http {

WorkerPool::WorkerPool(unsigned threads, std::size_t most_waiting, std::atomic<std::int64_t>& length)
    : most_waiting_(most_waiting), length_(length) {
    threads_.reserve(threads);
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

WorkerPool::~WorkerPool() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::submit(std::function<void()>& job) {
    {
        const std::scoped_lock lock(mutex_);
        if (jobs_.size() >= most_waiting_) return false;
        jobs_.push_back(std::move(job));
        length_.store(static_cast<std::int64_t>(jobs_.size()), std::memory_order_relaxed);
    }
    wake_.notify_one();
    return true;
}

void WorkerPool::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        auto job = std::move(jobs_.front());
        jobs_.pop_front();
        length_.store(static_cast<std::int64_t>(jobs_.size()), std::memory_order_relaxed);
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
    }
}

}  // namespace gatehouse::http
