// The machine's legacy IDE controller, of which there can be but one: the ports of its command blocks are fixed.
#pragma once

#include "hypervisor/boot/disks.hpp"
#include "hypervisor/cpu/io_ports.hpp"

namespace gatehouse::boot {

// Of the memory for controllers' DMA.
inline constexpr std::uint64_t kIdeArena = std::size(ata::ide::kCommandBlocks) * ata::ide::Channel::kArena;

[[nodiscard]] inline bool is_ide(platform::FunctionId function) { return platform::class_of(function) >> 8 == 0x0101; }

// Its start() takes the bus masters' ports for the registers. The first device of either channel is a disk of it, which fails
// to identify where there is none.
class IdeController final : public DiskController, public cpu::IoPortHandler {
  public:
    // Whoever has them, the guest reaches the ports of the command blocks by it alone; without start(), as if there were no
    // disk.
    [[nodiscard]] Status trap_command_blocks();
    // The bus masters' ports, in BAR 4. kUnsupported: it is in native mode (programming interface, bits 0 and 2), is the
    // second one, has ports in BAR 5, of which nothing is known, or its bus masters have none of PCI's.
    [[nodiscard]] Result<Extent> ports(platform::FunctionId function) const;

    Status trap() override {
        const auto first = static_cast<std::uint16_t>(registers().base);
        return cpu::port_map().add(first, static_cast<std::uint16_t>(first + registers().length - 1), *this);
    }
    ata::Disk* disk(std::size_t i) override { return i < channels_.size() ? &channels_[i] : nullptr; }
    Status hand_over() override { return {}; }
    // Its DMA is to bounce memory only.
    Status release(const Extent&) override { return {}; }
    void stop() override {
        for (ata::ide::Channel& channel : channels_) channel.stop();
    }
    using DiskController::read, DiskController::write;
    std::uint32_t read(std::uint16_t port, unsigned size) override { return at(port).read(port, size); }
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override { at(port).write(port, size, value); }

  private:
    // Ports 1f0h, 3f6h and the first bus master's; 170h, 376h and the second's.
    ata::ide::Channel& at(std::uint16_t port) {
        const bool of_master = registers().contains({port, 1});
        return channels_[of_master ? port / ata::ide::kPorts & 1 : ~port >> 7 & 1];
    }
    Status take_over(const ata::DmaArena& arena) override {
        for (std::uint32_t i = 0; i < channels_.size(); ++i)
            GATEHOUSE_TRY(channels_[i].open(*this, i, registers().base, arena));
        return {};
    }
    Result<bool> provoke_dma(const ata::DmaArena& arena) override;
    std::uint32_t read(std::uint32_t place) override {
        return platform::in(static_cast<std::uint16_t>(place), place >> 16);
    }
    void write(std::uint32_t place, std::uint32_t value) override {
        platform::out(static_cast<std::uint16_t>(place), place >> 16, value);
    }

    std::array<ata::ide::Channel, std::size(ata::ide::kCommandBlocks)> channels_;
};

}  // namespace gatehouse::boot
