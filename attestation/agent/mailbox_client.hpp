// The guest's side of the quote channel (hypervisor/channel/mailbox.hpp): requests out, answers in, every
// length of an answer checked. Knows no /dev/mem: the mailbox and its doorbell come through an interface.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "attestation/evidence/claims.hpp"
#include "hypervisor/channel/mailbox.hpp"

namespace gatehouse::agent {

using Buffer = std::vector<std::byte>;

// The channel did not do what was asked; the text says why and what to do.
class ChannelError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Where the channel is, as the ACPI table "GTHS" tells it.
struct ChannelPlace {
    std::uint64_t mailbox = 0;  // physical address
    std::uint32_t size = 0;     // bytes
    std::uint16_t doorbell = 0;
};
// `table`: the whole ACPI table with its header. Throws ChannelError.
[[nodiscard]] ChannelPlace parse_channel_table(Bytes table);

// Shared memory and a bell.
class MailboxPort {
  public:
    virtual ~MailboxPort() = default;
    [[nodiscard]] virtual MutableBytes memory() = 0;
    // Returns when the answer is in memory().
    virtual void ring() = 0;
    // From a request to the end of its answer nobody else uses the mailbox.
    virtual void lock() {}
    virtual void unlock() {}
};

struct Evidence {
    Buffer claims;
    Buffer attest;     // TPMS_ATTEST
    Buffer signature;  // TPMT_SIGNATURE
    Buffer key;        // TPMT_PUBLIC
};

// How far the change of a disk's key is that goes on in use.
struct Conversion {
    std::uint64_t done = 0;   // LBA up to which the disk has its new key
    std::uint64_t total = 0;  // sectors of the disk
    bool is_active = false;   // there is more to do
};

class MailboxClient {
  public:
    explicit MailboxClient(MailboxPort& port) : port_(port) {}

    [[nodiscard]] evidence::Claims status();
    [[nodiscard]] Buffer log() { return read_all(channel::Command::kLog); }
    [[nodiscard]] Buffer event_log() { return read_all(channel::Command::kEventLog); }
    // `nonce`: channel::kMinNonce to channel::kMaxNonce bytes.
    [[nodiscard]] Evidence quote(Bytes nonce);
    // Contents of an NV index, or TPMT_PUBLIC of a persistent key, of the ranges that mailbox.hpp lists;
    // nullopt if the TPM has nothing there.
    [[nodiscard]] std::optional<Buffer> endorsement(std::uint32_t handle);
    // The secret of a credential that was made for the endorsement key at `key` and this boot's attestation
    // key. Both parts without their size fields (the contents of TPM2B_ID_OBJECT and of
    // TPM2B_ENCRYPTED_SECRET).
    [[nodiscard]] Buffer activate(std::uint32_t key, Bytes credential_blob, Bytes encrypted_secret);
    // Asks for one window more, or only how far it is; nullopt if nothing was under way at the boot. A window that is not done
    // because the guest's own commands do not come to an end is asked for once more by the next call.
    [[nodiscard]] std::optional<Conversion> convert(bool one_more);

  private:
    struct Answer {
        channel::MailboxStatus status = channel::MailboxStatus::kOk;
        Buffer payload;
        std::uint32_t total = 0;
    };
    // Whatever the hypervisor answered; the one above throws if it is not kOk.
    [[nodiscard]] Answer ask(channel::Command command, Bytes payload);
    [[nodiscard]] Answer call(channel::Command command, Bytes payload);
    [[nodiscard]] Buffer read_all(channel::Command command);

    MailboxPort& port_;
};

}  // namespace gatehouse::agent
