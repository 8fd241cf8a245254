// What attestation-bench measures. Each is bounded in time and prints nothing.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace gatehouse::bench {

// Full appraisals of a hypervisor's evidence, against nothing but the ECDSA P-256 verification that each of
// them has to contain, in turns of a tenth of a second, on one thread, by that thread's processor time.
struct LibraryFigures {
    double appraisals_per_s = 0;
    double ecdsa_per_s = 0;
    double sha256_per_s = 0;  // of 64 bytes, for scale
};
[[nodiscard]] LibraryFigures measure_library(double seconds);

struct LoadOptions {
    std::string url, ca_file;  // of the server
    std::string data,
        database;               // its directory and database: to approve endpoints and to enforce their policy
    unsigned connections = 64;  // each an endpoint of its own, with its own client certificate
    int server_pid = 0;         // 0: its processor time is not asked for
    bool reconnect = false;     // a TLS handshake for each attestation, with the client certificate,
    bool by_key = false;        // or with a connection key
    double warm_up_s = 2, seconds = 10;
};
struct LoadFigures {
    double per_s = 0;
    double p50_ms = 0, p99_ms = 0;
    unsigned long rounds = 0, refused = 0;
    std::string first_refusal;
    double generator_cpu_s = 0;  // what this process took of the machine while it measured
    double server_cpu_us = 0;    // what the server took, for each attestation
};
// Endpoints that enroll over HTTPS and then attest, each as soon as its last answer is there: nonce (that of
// the last answer, where it has one), quote, signed verdict.
[[nodiscard]] LoadFigures measure_server(const LoadOptions& options);

// A fleet's life: endpoints 1 to `endpoints`, each of which attests once in `interval_s`, over a connection of its own that
// a connection key opens, in an order that is not that of their ids.
struct FleetOptions {
    std::string url, ca_file, data, database;  // as LoadOptions
    unsigned long endpoints = 1'000'000;
    unsigned silent_each = 0;  // of so many one never attests; 0: all do
    double interval_s = 300, seconds = 3600;
    unsigned lease_s = 900;
    unsigned threads = 32;
};
struct RunningServer {
    std::string url;
    int pid = 0;
};
struct FleetFigures {
    unsigned long attested = 0, refused = 0;
    std::string first_refusal;
    double late_p50_s = 0, late_p99_s = 0, late_most_s = 0;  // after its time, an attestation began
    double p50_ms = 0, p99_ms = 0;
    double generator_cpu_s = 0, server_cpu_us = 0;
};
// Enrolls one endpoint, which attests, and calls `multiply`: that has to make endpoints of it which differ in nothing but
// their keys' and certificate's hashes, and to start the server again. The certificate's hash of endpoint i is the SHA-256
// of i in decimal digits.
[[nodiscard]] FleetFigures measure_fleet(const FleetOptions& options, const std::function<RunningServer()>& multiply);

}  // namespace gatehouse::bench
