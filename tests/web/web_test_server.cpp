// The attestation server with a fleet in it, for tests in a browser: HTTPS on a free port of the loopback
// address. Prints one line of JSON when it is ready, ends when its standard input does.
//
//   web_test_server [ENDPOINTS]     that many endpoints more, straight into the database
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/server/http/application.hpp"
#include "attestation/server/http/server.hpp"
#include "tests/unit/web/sample_fleet.hpp"

namespace gatehouse::test {
namespace {

using server::Role;

int serve(int more) {
    SampleFleet fleet;
    fleet.populate();
    if (more > 0) fleet.add_copies(more);
    http::Log log(STDERR_FILENO, http::LogFormat::kPeople, http::Level::kWarning);
    web::Pages pages(fleet.service());
    http::ApplicationOptions options;
    options.pages = {10'000, 10'000};
    http::Application application(fleet.service(), pages, log, options);
    http::ServerOptions place;
    place.port = 0;
    place.workers = 4;
    // A browser on a busy machine is slow, and not to be cut off for it.
    using std::chrono::minutes;
    place.handshake = place.head = place.body = place.idle = place.answer = minutes(5);
    const auto keys = fleet.service().server_certificate({"127.0.0.1"});
    http::Server server(application, place, {keys.certificate, keys.key, fleet.service().ca_certificate()});
    server.start();
    const nlohmann::json ready{{"url", "https://127.0.0.1:" + std::to_string(server.port())},
                               {"admin", fleet.token("alice", Role::kAdmin)},
                               {"operator", fleet.token("olga", Role::kOperator)},
                               {"reader", fleet.token("rita", Role::kReadOnly)}};
    std::printf("%s\n", ready.dump().c_str());
    std::fflush(stdout);
    char byte = 0;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {}
    (void)server.stop();
    return 0;
}

}  // namespace
}  // namespace gatehouse::test

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // as in attestation-server: a browser may hang up in an answer
    try {
        return gatehouse::test::serve(argc > 1 ? std::atoi(argv[1]) : 0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "web_test_server: %s\n", error.what());
        return 3;
    }
}
