// An endpoint's disks as the hypervisor gets to see them (hypervisor/boot/vault.hpp).
#pragma once

#include <gtest/gtest.h>

#include "ata/policy.hpp"
#include "hypervisor/boot/vault.hpp"
#include "keyvault/host_support/disk.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"

namespace gatehouse::test {

// A disk image as the hypervisor gets to see it.
class ImageDisk final : public ata::Disk {
  public:
    ImageDisk(const std::string& path, std::uint32_t port) : disk_(path, host::Disk::Access::kRead) {
        number_ = port;
        EXPECT_TRUE(identify().ok());
    }

  private:
    Status execute(const ata::TaskFile& task, MutableBytes out) override {
        if (task.command == ata::kIdentifyDevice.command) {  // 48-bit LBA; logical sectors of a size given
            store(&out[2 * 100], disk_.total_sectors(), Endian::kLittle);
            store(&out[2 * 106], std::uint16_t{0x5000}, Endian::kLittle);
            store(&out[2 * 117], static_cast<std::uint32_t>(disk_.sector_size() / 2), Endian::kLittle);
            return {};
        }
        EXPECT_EQ(task.command, ata::read_dma_ext(0, 1).command);
        disk_.read(task.lba, out);
        return {};
    }
    host::Disk disk_;
};

class Unsealed final : public boot::Unsealer {
  public:
    explicit Unsealed(Endpoint& endpoint) : endpoint_(endpoint) {}
    [[nodiscard]] Result<volume::SlotSecret> unseal(const volume::Slots&) override { return endpoint_.unseal(); }

  private:
    Endpoint& endpoint_;
};

}  // namespace gatehouse::test
