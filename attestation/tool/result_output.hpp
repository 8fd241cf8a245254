// attest verify's verdict as a signed result, for those who read EAR.
#pragma once

#include <ctime>
#include <string>

#include "attestation/verifier/appraisal.hpp"

namespace CLI {
class App;
}

namespace gatehouse::verifier {

class ResultOutput {
  public:
    void add_to(CLI::App& command);
    // ToolError (usage) unless the options fit together: an unknown profile, one without its key.
    void check() const;
    // Nothing without --result. The result stands for the policy's lease if the verdict accepts, for no time if not. `address`:
    // policy_address(), empty for what the command line says.
    void write(const Verdict& verdict, const Policy& policy, const std::string& address, Bytes nonce,
               std::time_t now) const;

  private:
    std::string path_;
    std::string profile_ = "ietf";
    std::string form_ = "jwt";
    std::string key_;
    std::string issuer_ = "attest";
};

}  // namespace gatehouse::verifier
