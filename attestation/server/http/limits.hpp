// Token buckets: how often a peer may ask.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace gatehouse::http {

struct Rate {
    double per_second = 1;
    double burst = 1;  // at least 1
};

// One bucket for each key. Thread-safe. Memory is bounded: at kMaxKeys, buckets that are full again are
// forgotten, and if there are none, the newcomer shares one bucket with all other newcomers.
class RateLimiter {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t kMaxKeys = 1u << 16;

    explicit RateLimiter(Rate rate) : rate_(rate) {}

    // 0 if the request may pass, which takes one from the bucket; otherwise the seconds to wait, rounded up.
    [[nodiscard]] unsigned take(const std::string& key, Clock::time_point now = Clock::now());
    // The same without taking.
    [[nodiscard]] unsigned wait_of(const std::string& key, Clock::time_point now = Clock::now());
    [[nodiscard]] std::size_t keys() const;

  private:
    struct Bucket {
        double level;
        Clock::time_point at;
    };
    static constexpr std::size_t kShards = 16;
    struct Shard {
        mutable std::mutex mutex;
        std::unordered_map<std::string, Bucket> buckets;
        Clock::time_point swept{};
    };

    unsigned visit(const std::string& key, Clock::time_point now, double amount);
    Bucket& bucket_of(Shard& shard, const std::string& key, Clock::time_point now);

    Rate rate_;
    std::array<Shard, kShards> shards_;
};

}  // namespace gatehouse::http
