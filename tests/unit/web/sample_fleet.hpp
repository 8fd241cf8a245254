// A server on an SQLite database of its own, and endpoints in software that enroll and attest there.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "attestation/server/service.hpp"
#include "tests/unit/server/software_endpoint.hpp"

namespace gatehouse::test {

using server::Seconds;

class SampleFleet {
  public:
    static constexpr Seconds kStart = 1'800'000'000;

    // `directory`: made anew, removed with the object.
    SampleFleet();
    ~SampleFleet();
    SampleFleet(const SampleFleet&) = delete;
    SampleFleet& operator=(const SampleFleet&) = delete;

    [[nodiscard]] server::Service& service() { return *service_; }
    // What the server takes for the time; 0: the system's.
    void set_time(Seconds time) { *time_ = time; }
    [[nodiscard]] Seconds now() const;
    [[nodiscard]] std::string token(const std::string& name, server::Role role);

    struct Member {
        std::string id;
        std::unique_ptr<SoftwareEndpoint> endpoint;
    };
    // Enrolled and approved.
    Member enroll(const std::string& hostname, const std::string& group = "default",
                  const std::string& source = "hypervisor");
    // Proven, and waiting for an operator: the enrollment's id.
    std::string let_wait(const std::string& hostname, const std::string& source = "hypervisor");
    // Attests; its launch log calls the initrd `initrd_name` (six bytes), which measures the same.
    void attest(const Member& member, const std::string& initrd_name = "initrd");
    // Signed by an authority of this server's, and assigned.
    void assign(const std::string& policy_json, const std::string& group,
                server::Stage stage = server::Stage::kEnforce);
    [[nodiscard]] std::string signed_policy(const std::string& policy_json) const;
    // A statement straight to the database, past the service.
    void sql(const std::string& statement);

    // Endpoints without keys, copies of the first and of what policies made of it, straight into the database: for figures of large fleets.
    void add_copies(int many);

    // A few dozen endpoints in all states, two days of history, hostile names among them; leaves the system's
    // time set.
    void populate();

  private:
    void populate_groups();
    void populate_endpoints();
    void live(std::vector<Member>& members);
    void populate_enrollments();

    std::string directory_;
    std::shared_ptr<std::atomic<Seconds>> time_;
    std::unique_ptr<server::Service> service_;
    SoftwareKey authority_;
};

// Text that attacks a page: markup, an attribute's end, a bidirectional override, controls.
inline constexpr const char* kScriptName = "<script>alert(1)</script>";
inline constexpr const char* kAttributeName = "\"><img src=x onerror=alert(2)>'";
inline constexpr const char* kReversedName = "invoice-\u202Egnp.exe";
inline constexpr const char* kControlName = "bell\x07tab\ttwo\nlines";

}  // namespace gatehouse::test
