// `attestation-server serve`: from the settings to the end of the process.
#pragma once

#include "attestation/server/http/settings.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {

// `ready_descriptor`: "ADDRESS:PORT\n" is written there once connections are accepted; negative: none.
// ToolError.
[[nodiscard]] host::ExitCode serve(Settings settings, int ready_descriptor);

}  // namespace gatehouse::http
