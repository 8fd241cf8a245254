// swtpm as a child process of the test, on sockets in a directory of its own; killed and removed when the
// object goes.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "keyvault/tpm/transport.hpp"

namespace gatehouse::test {

using Buffer = std::vector<std::byte>;

class SoftwareTpm final : public tpm::Transport {
  public:
    // `state`: a directory whose files it starts with, as swtpm_setup leaves them; empty: a new TPM.
    explicit SoftwareTpm(const std::string& state = {});
    ~SoftwareTpm();
    SoftwareTpm(const SoftwareTpm&) = delete;
    SoftwareTpm& operator=(const SoftwareTpm&) = delete;

    Result<std::size_t> transmit(Bytes command, MutableBytes response) override;
    void pause() override { ++pauses; }

    // What TIS would do at another locality's registers.
    void set_locality(unsigned locality);
    // What SKINIT does through locality 4: resets PCR 17-22 and extends PCR 17 with the hash of `image`.
    void dynamic_launch(Bytes image);

    // For programs that reach the TPM through tpm2-tss; it serves one client at a time, so disconnect() first. The TPM
    // keeps its state, PCRs included.
    [[nodiscard]] std::string tcti() const { return "swtpm:path=" + data_path(); }
    void disconnect();
    void connect();

    // Every command and response as it crossed the bus, in order.
    std::vector<Buffer> traffic;
    unsigned pauses = 0;
    // If set: may change a response on its way back, as an interposer would. `command_code` is of the
    // command.
    std::function<void(std::uint32_t command_code, Buffer& response)> interposer;
    // If set: may change a command on its way.
    std::function<void(std::uint32_t command_code, Buffer& command)> command_interposer;

  private:
    void control(std::uint32_t command, Bytes payload);
    [[nodiscard]] std::string data_path() const { return directory_ + "/tpm"; }
    [[nodiscard]] std::string control_path() const { return data_path() + ".ctrl"; }

    std::string directory_;
    pid_t child_ = -1;
    int data_ = -1;
    int control_ = -1;
};

}  // namespace gatehouse::test
