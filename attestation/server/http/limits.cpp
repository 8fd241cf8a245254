#include "attestation/server/http/limits.hpp"

#include <algorithm>
#include <cmath>

namespace gatehouse::http {
namespace {

double seconds_between(RateLimiter::Clock::time_point from, RateLimiter::Clock::time_point to) {
    return std::max(0.0, std::chrono::duration<double>(to - from).count());
}

}  // namespace

RateLimiter::Bucket& RateLimiter::bucket_of(Shard& shard, const std::string& key, Clock::time_point now) {
    auto& buckets = shard.buckets;
    if (const auto found = buckets.find(key); found != buckets.end()) return found->second;
    const bool is_full = buckets.size() >= kMaxKeys / kShards;
    if (is_full && now - shard.swept >= std::chrono::seconds(1)) {  // no more often: a sweep costs
        shard.swept = now;
        std::erase_if(buckets, [&](const auto& one) {
            const Bucket& bucket = one.second;
            return bucket.level + seconds_between(bucket.at, now) * rate_.per_second >= rate_.burst;
        });
    }
    if (buckets.size() >= kMaxKeys / kShards) return buckets.try_emplace({}, Bucket{rate_.burst, now}).first->second;
    return buckets.try_emplace(key, Bucket{rate_.burst, now}).first->second;
}

unsigned RateLimiter::visit(const std::string& key, Clock::time_point now, double amount) {
    Shard& shard = shards_[std::hash<std::string>{}(key) % kShards];
    const std::scoped_lock lock(shard.mutex);
    Bucket& bucket = bucket_of(shard, key, now);
    bucket.level = std::min(rate_.burst, bucket.level + seconds_between(bucket.at, now) * rate_.per_second);
    bucket.at = std::max(bucket.at, now);
    if (bucket.level >= 1) {
        bucket.level -= amount;
        return 0;
    }
    return std::max(1u, static_cast<unsigned>(std::ceil((1 - bucket.level) / rate_.per_second)));
}

unsigned RateLimiter::take(const std::string& key, Clock::time_point now) { return visit(key, now, 1); }

unsigned RateLimiter::wait_of(const std::string& key, Clock::time_point now) { return visit(key, now, 0); }

std::size_t RateLimiter::keys() const {
    std::size_t count = 0;
    for (const Shard& shard : shards_) {
        const std::scoped_lock lock(shard.mutex);
        count += shard.buckets.size();
    }
    return count;
}

}  // namespace gatehouse::http
