// What programs that were killed left in a TPM that no resource manager looks after: objects and sessions that stay loaded
// until the TPM is reset.
#pragma once

#include "attestation/agent/tcti_tpm.hpp"

namespace gatehouse::agent {

// Whether the TPM had no room for one more object or session (Part 2, 6.6.3, TPM_RC_OBJECT_MEMORY and those after it).
[[nodiscard]] bool is_want_of_room(const host::TpmError& error);

// Whether a TCTI leads to the TPM itself, and to nobody else's objects: "swtpm:...", "mssim:...", "device:/dev/tpm0".
// What a resource manager shows, or swaps out, is never touched.
[[nodiscard]] bool is_without_resource_manager(const std::string& tcti);

// What `error` says is in want of room: flushes loaded objects of the agent's own templates (`own`: as TPM2B_PUBLIC; their
// unique fields do not count), or loaded policy sessions, or both if it does not say which. How many it flushed. What is
// saved outside of the TPM stays as it is, and so do HMAC sessions.
// A session does not say whose it is. Nobody else is connected meanwhile: /dev/tpm0 is opened once at a time, and what
// comes through /dev/tpmrm0 is not left loaded between two commands. Who connects anew for each command and has his
// sessions stay loaded in between loses them.
std::size_t flush_leftovers(const std::string& tcti, const host::TpmError& error, const std::vector<TPM2B_PUBLIC>& own);

// What stays loaded, and what to do: for people.
[[nodiscard]] std::string want_of_room_text(const std::string& tcti, const host::TpmError& error);

}  // namespace gatehouse::agent
