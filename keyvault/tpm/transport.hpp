// How a TPM command reaches the TPM and its response comes back.
//
// The hypervisor implements it over TIS and CRB at a locality of its choice, tests over a socket to swtpm.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::tpm {

class Transport {
  public:
    // Sends one whole command and returns the number of response bytes that were written to the front of
    // `response`. The transport bounds every wait; it need not check what the bytes say (Tpm does). A
    // response that does not fit is an error, never cut. Errors: kTimeout, kDeviceError, kNoSpace.
    virtual Result<std::size_t> transmit(Bytes command, MutableBytes response) = 0;

    // Waits about 20 ms. Called before a command is sent again that the TPM answered with "busy, retry".
    virtual void pause() = 0;

  protected:
    ~Transport() = default;
};

}  // namespace gatehouse::tpm
