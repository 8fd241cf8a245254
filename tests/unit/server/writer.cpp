// Writes without end, and tells of each write that the server has acknowledged; to be killed by
// sudden_death_test.cpp.
//
//   writer DATABASE DIRECTORY ROUND [ID...]
//
// On standard output, a line for each, written in one call: "group NAME", "attested ID MICROSECONDS" (time in
// the nonce that was used), "note ROUND.THREAD.NUMBER".
#include <unistd.h>

#include <cstring>
#include <thread>
#include <vector>

#include "attestation/server/service.hpp"
#include "tests/unit/server/software_endpoint.hpp"

namespace {

using namespace gatehouse;
using host::Buffer;

void tell(const std::string& line) {
    const std::string whole = line + "\n";
    if (::write(STDOUT_FILENO, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) ::_exit(1);
}

void write_for_ever(server::Service& service, const std::string& round, int thread, const std::string& id) {
    const server::Principal by{"writer", server::Role::kOperator};
    const test::SoftwareEndpoint nobody;
    for (std::size_t number = 0;; ++number) {
        const std::string name = round + "." + std::to_string(thread) + "." + std::to_string(number);
        service.create_group(by, name);
        tell("group " + name);
        const Buffer nonce = service.nonce(id).nonce;
        (void)service.attest(id, nobody.attest(nonce));  // refused, which is as good a verdict as any
        tell("attested " + id + " " + std::to_string(load<std::uint64_t>(nonce.data(), Endian::kBig)));
        service.note("writer", "session.begin", name, "{}");
        tell("note " + name);
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 5) return 2;
    server::ServiceOptions options;
    options.database = arguments[1];
    options.directory = arguments[2];
    server::Service service(options);
    std::vector<std::thread> threads;
    for (int i = 4; i < count; ++i)
        threads.emplace_back(write_for_ever, std::ref(service), std::string(arguments[3]), i,
                             std::string(arguments[i]));
    for (std::thread& thread : threads) thread.join();
}
