// Threads for calls that block, fed from one bounded queue.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace gatehouse::http {

class WorkerPool {
  public:
    // `length` is kept at the number of jobs that wait.
    WorkerPool(unsigned threads, std::size_t most_waiting, std::atomic<std::int64_t>& length);
    ~WorkerPool();  // after the jobs that wait
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    // False if the queue is full; `job` is left as it was then. A job does not throw.
    [[nodiscard]] bool submit(std::function<void()>& job);

  private:
    void run();

    std::size_t most_waiting_;
    std::atomic<std::int64_t>& length_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace gatehouse::http
