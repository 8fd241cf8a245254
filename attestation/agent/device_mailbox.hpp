// The mailbox of the machine that this program runs on. For root.
#pragma once

#include "attestation/agent/mailbox_client.hpp"

namespace gatehouse::agent {

inline constexpr const char* kChannelTable = "/sys/firmware/acpi/tables/GTHS";

// The mailbox through /dev/mem, the doorbell through port I/O that the kernel allows root.
class DeviceMailbox final : public MailboxPort {
  public:
    // `table_path`: the ACPI table that says where the channel is. ChannelError.
    explicit DeviceMailbox(const std::string& table_path);
    ~DeviceMailbox() override;
    DeviceMailbox(const DeviceMailbox&) = delete;
    DeviceMailbox& operator=(const DeviceMailbox&) = delete;

    [[nodiscard]] MutableBytes memory() override { return {static_cast<std::byte*>(map_), size_}; }
    void ring() override;
    // Among the programs of this guest: a lock on the table.
    void lock() override;
    void unlock() override;

  private:
    std::size_t size_ = 0;
    std::uint16_t doorbell_ = 0;
    int lock_ = -1;
    void* map_ = nullptr;
};

}  // namespace gatehouse::agent
