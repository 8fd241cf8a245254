// What the server counts, and how Prometheus reads it (text exposition format 0.0.4).
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/server/service.hpp"

namespace gatehouse::http {

// Requests by route and status, and how long they took. Counting takes no lock.
class Metrics {
  public:
    // `routes`: the names, in the order of the index that count() takes.
    explicit Metrics(std::vector<std::string> routes);

    void count(std::size_t route, unsigned status, std::chrono::nanoseconds took);

    // Of the connections, kept by the layer below.
    std::atomic<std::int64_t> connections{0};
    std::atomic<std::uint64_t> connections_total{0};
    std::atomic<std::uint64_t> connections_refused{0};  // too many
    std::atomic<std::uint64_t> connections_timed_out{0};
    std::atomic<std::uint64_t> handshakes_failed{0};
    std::atomic<std::uint64_t> opened_by_key{0};
    std::atomic<std::int64_t> queue{0};  // requests waiting for a worker
    std::atomic<std::uint64_t> queue_refused{0};
    std::atomic<std::uint64_t> rate_limited{0};
    std::atomic<std::uint64_t> tokens_refused{0};

    [[nodiscard]] std::string text(const server::Service::Totals& totals, const server::Counts& counts,
                                   const server::Service::CrlHealth& crls, bool database_healthy) const;

  private:
    static constexpr std::array<double, 11> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                       0.1,   0.25,   0.5,   1,    5};  // seconds
    static constexpr std::array<unsigned, 24> kStatuses = {200, 201, 202, 204, 302, 303, 304, 400, 401, 403, 404, 405,
                                                           408, 409, 410, 413, 415, 422, 429, 431, 500, 501, 503, 0};
    struct PerRoute {
        std::array<std::atomic<std::uint64_t>, kStatuses.size()> by_status{};  // the last: any other
        std::array<std::atomic<std::uint64_t>, kBounds.size() + 1> by_time{};  // not cumulative; the last: longer
        std::atomic<std::uint64_t> nanoseconds{0};
    };
    void append_requests(std::string& out) const;
    void append_durations(std::string& out) const;
    void append_connections(std::string& out) const;

    std::vector<std::string> routes_;
    std::unique_ptr<PerRoute[]> counters_;
};

}  // namespace gatehouse::http
