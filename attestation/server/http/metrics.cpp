#include "attestation/server/http/metrics.hpp"

#include <algorithm>
#include <cstdio>

namespace gatehouse::http {
namespace {

void append_head(std::string& out, std::string_view name, std::string_view kind, std::string_view help) {
    out.append("# HELP ").append(name).append(" ").append(help).append("\n");
    out.append("# TYPE ").append(name).append(" ").append(kind).append("\n");
}

template <typename Number>
void append_sample(std::string& out, std::string_view name, std::string_view labels, Number value) {
    out.append(name);
    if (!labels.empty()) out.append("{").append(labels).append("}");
    out.append(" ").append(std::to_string(value)).append("\n");
}

template <typename Number>
void append_one(std::string& out, std::string_view name, std::string_view kind, std::string_view help, Number value) {
    append_head(out, name, kind, help);
    append_sample(out, name, "", value);
}

std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

}  // namespace

Metrics::Metrics(std::vector<std::string> routes)
    : routes_(std::move(routes)), counters_(std::make_unique<PerRoute[]>(routes_.size())) {}

void Metrics::count(std::size_t route, unsigned status, std::chrono::nanoseconds took) {
    if (route >= routes_.size()) return;
    PerRoute& counters = counters_[route];
    const auto known = std::find(kStatuses.begin(), kStatuses.end() - 1, status);
    counters.by_status[static_cast<std::size_t>(known - kStatuses.begin())].fetch_add(1, std::memory_order_relaxed);
    const double seconds = std::chrono::duration<double>(took).count();
    const auto bound = std::ranges::lower_bound(kBounds, seconds);
    counters.by_time[static_cast<std::size_t>(bound - kBounds.begin())].fetch_add(1, std::memory_order_relaxed);
    counters.nanoseconds.fetch_add(static_cast<std::uint64_t>(took.count()), std::memory_order_relaxed);
}

void Metrics::append_requests(std::string& out) const {
    append_head(out, "gatehouse_http_requests_total", "counter", "Requests answered, by route and status.");
    for (std::size_t route = 0; route < routes_.size(); ++route) {
        for (std::size_t i = 0; i < kStatuses.size(); ++i) {
            const auto count = counters_[route].by_status[i].load(std::memory_order_relaxed);
            if (count == 0) continue;
            const auto status = kStatuses[i] == 0 ? std::string("other") : std::to_string(kStatuses[i]);
            append_sample(out, "gatehouse_http_requests_total",
                          "route=\"" + routes_[route] + "\",status=\"" + status + "\"", count);
        }
    }
}

void Metrics::append_durations(std::string& out) const {
    const std::string_view name = "gatehouse_http_request_duration_seconds";
    append_head(out, name, "histogram", "From the whole header to the answer, by route.");
    for (std::size_t route = 0; route < routes_.size(); ++route) {
        std::array<std::uint64_t, kBounds.size() + 1> cumulative{};
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < cumulative.size(); ++i) {
            sum += counters_[route].by_time[i].load(std::memory_order_relaxed);
            cumulative[i] = sum;
        }
        if (sum == 0) continue;
        const std::string label = "route=\"" + routes_[route] + "\"";
        for (std::size_t i = 0; i < cumulative.size(); ++i) {
            const auto bound = i < kBounds.size() ? number_text(kBounds[i]) : std::string("+Inf");
            std::string bucket = label;
            bucket.append(",le=\"").append(bound).append("\"");
            append_sample(out, std::string(name) + "_bucket", bucket, cumulative[i]);
        }
        const auto seconds = static_cast<double>(counters_[route].nanoseconds.load(std::memory_order_relaxed)) / 1e9;
        append_sample(out, std::string(name) + "_sum", label, seconds);
        append_sample(out, std::string(name) + "_count", label, sum);
    }
}

void Metrics::append_connections(std::string& out) const {
    append_one(out, "gatehouse_connections", "gauge", "Open connections.", connections.load());
    append_one(out, "gatehouse_connections_total", "counter", "Connections accepted.", connections_total.load());
    append_one(out, "gatehouse_connections_refused_total", "counter", "Connections closed for being too many.",
               connections_refused.load());
    append_one(out, "gatehouse_connections_timed_out_total", "counter", "Connections closed for being too slow.",
               connections_timed_out.load());
    append_one(out, "gatehouse_tls_handshakes_failed_total", "counter", "TLS handshakes that failed.",
               handshakes_failed.load());
    append_one(out, "gatehouse_tls_opened_by_key_total", "counter", "Connections that a connection key has opened.",
               opened_by_key.load());
    append_one(out, "gatehouse_queue_length", "gauge", "Requests that wait for a worker.", queue.load());
    append_one(out, "gatehouse_queue_refused_total", "counter", "Requests answered 503, the queue being full.",
               queue_refused.load());
    append_one(out, "gatehouse_rate_limited_total", "counter", "Requests answered 429.", rate_limited.load());
    append_one(out, "gatehouse_tokens_refused_total", "counter", "Requests with a token that is not valid.",
               tokens_refused.load());
}

std::string Metrics::text(const server::Service::Totals& totals, const server::Counts& counts,
                          const server::Service::CrlHealth& crls, bool database_healthy) const {
    std::string out;
    append_head(out, "gatehouse_attestations_total", "counter", "Evidence judged, by verdict.");
    append_sample(out, "gatehouse_attestations_total", "verdict=\"accepted\"", totals.accepted);
    append_sample(out, "gatehouse_attestations_total", "verdict=\"rejected\"", totals.rejected);
    append_one(out, "gatehouse_enrollments_total", "counter", "Enrollments begun.", totals.enrollments);
    append_head(out, "gatehouse_actions_total", "counter", "Actions on a change of state, by outcome.");
    append_sample(out, "gatehouse_actions_total", "outcome=\"delivered\"", totals.actions_delivered);
    append_sample(out, "gatehouse_actions_total", "outcome=\"failed\"", totals.actions_failed);
    append_head(out, "gatehouse_crl_fetches_total", "counter", "Attempts to fetch CRLs, by outcome.");
    append_sample(out, "gatehouse_crl_fetches_total", "outcome=\"taken\"", totals.crls_taken);
    append_sample(out, "gatehouse_crl_fetches_total", "outcome=\"unchanged\"", totals.crls_unchanged);
    append_sample(out, "gatehouse_crl_fetches_total", "outcome=\"failed\"", totals.crls_failed);
    append_one(out, "gatehouse_crl_sources_failing", "gauge", "Sources of CRLs whose last attempt failed.",
               crls.failing);
    append_one(out, "gatehouse_crls", "gauge", "CRLs of trusted vendors.", crls.lists);
    append_one(out, "gatehouse_crls_ended", "gauge", "Of them past their nextUpdate.", crls.ended);
    append_head(out, "gatehouse_endpoints", "gauge", "Endpoints, by state.");
    const std::pair<const char*, std::int64_t> states[] = {
        {"new", counts.fresh},           {"trusted", counts.trusted}, {"unmeasured", counts.unmeasured},
        {"untrusted", counts.untrusted}, {"stale", counts.stale},     {"retired", counts.retired}};
    for (const auto& [state, count] : states) {
        append_sample(out, "gatehouse_endpoints", std::string("state=\"") + state + "\"", count);
    }
    append_one(out, "gatehouse_enrollments_waiting", "gauge", "Enrollments that wait for an operator.",
               counts.enrollments_waiting);
    append_one(out, "gatehouse_database_up", "gauge", "1 if the database answers.", database_healthy ? 1 : 0);
    append_connections(out);
    append_requests(out);
    append_durations(out);
    return out;
}

}  // namespace gatehouse::http
