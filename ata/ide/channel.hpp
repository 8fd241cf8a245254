// One of the two channels of a PCI IDE controller in compatibility mode (class 0101h: Intel PIIX, PIIX3, PIIX4, ICH in IDE
// mode, AMD SB600 to SB800), with its first device, if that is a disk: the guest's registers in front, the real ones behind.
//
//     open()               the channel is stopped and reset
//     identify() ...       as of any Disk; one that is not attached stays absent
//     from then on         only read(), write() and stop()
//
// What the guest writes into the command block is passed on and kept, too, while the drive is idle. Its write of COMMAND alone
// is not: what has been kept is classified, checked, and written anew as what it was found to be, so that the drive never
// acts on a register that nobody has looked at.
//
//     guest writes COMMAND --> classify, check --> no data --------------------------------> drive --> guest reads STATUS
//                                   |              page by PIO ----------------------------> drive --> page by page
//                                   |              media by DMA --> guest starts its master -> drive --> part by part
//                                   +--> refused: NOP, which every drive aborts (ACS-4 section 7.20), with its interrupt
//
// pages    IDENTIFY DEVICE, SMART data, logs: of 512 bytes, each is taken from the drive whole, edited, and handed out.
// media    the guest's descriptors never reach the device: its bus master has tables of ours, which lead into bounce memory,
//          one for what is read and one for what is written, which has cipher text only and, by the IOMMU, is not the device's
//          to write. A part lies in one region and in the bounce memory. The drive gets the first when the guest has given
//          both command and start. What the guest must not see is not read: the drive verifies those sectors instead. A read
//          is copied out of the bounce memory to the guest's pages, and decrypted there before its end is shown. Interrupts of
//          a part that is not the last show nothing.
// errors   are the drive's own, and end the command. Only to what it says of a write that the volume does not permit is WP
//          added (ATA-5 section 8.48): Linux would take many of a mere ABRT for a cable that is not up to DMA, and go on by
//          PIO. A command whose descriptors lead out of guest RAM, are odd or missing is refused as above: a write before the
//          drive has any of the part, a read after it.
// stop     SRST, and stopping the bus master, end what is under way, which the drive may first bring to an end: for 100 ms
//          at most, in the guest's access. So its transfer does not meet what comes next. One that lands later all the same
//          finds in memory what was read from the medium, but of the vault, or what was on its way to it, as cipher text. A
//          command whose bus master was stopped is then refused as above, whether or not the drive has ended it.
// modes    SET FEATURES 03h changes nothing: the drive keeps the transfer mode that firmware has set the controller to, whose
//          timing registers are read-only for the guest.
//
// Ignored is what hardware would lose track of: commands to a drive that is busy, has data, or is not there. A channel whose
// drive is not attached, and the second device, which the mediator never selects, read zero; SRST does not reach them either.
// Accesses of other sizes than a register's read zero and change nothing.
//
// Left out, and refused: queued commands, READ and WRITE MULTIPLE, TRIM, READ LOG DMA EXT, packet devices, of which the drive
// is not said to be capable; and media by PIO (READ and WRITE SECTORS), which drivers use on drives without DMA only.
//
// What the hypervisor owes:
//   - Traps every guest access to the channel's ports, and calls read() or write() with it, one that crosses taken apart. The
//     base addresses are virtual; BARs other than the bus master's are nobody's, and no memory is decoded.
//   - Gives no controller to the guest that is in native mode (programming interface, bits 0 and 2).
//   - Lets the controller's DMA reach the arena, nothing else: never guest RAM.
//   - Delivers the controller's interrupts (14 and 15 of ISA) straight to the guest. Nothing here injects one.
//
// Part of the arena that a channel has, below 4 GiB:
//
//     0x00000  bounce memory of reads, 48 KiB
//     0x0c000  descriptors for it; at 0x0c800, those of writes
//     0x0d000  bounce memory of writes, 48 KiB
//
// Known limit: of a table of descriptors, what lies beyond its first page of 4 KiB is not looked at.
//
// ATA/ATAPI-6 (T13/1410D), sections 7 and 9; Programming Interface for Bus Master IDE Controller (SFF-8038i 1.0), as in
// Intel's 82371SB (PIIX3), section 2.7; PCI IDE Controller Specification 1.0, section 2.1.
#pragma once

#include <optional>

#include "ata/ahci/scatter_list.hpp"
#include "ata/policy.hpp"

namespace gatehouse::ata::ide {

// First ports of the command blocks; CONTROL's after that; ports of a command block, and of a bus master.
inline constexpr std::uint16_t kCommandBlocks[] = {0x1f0, 0x170}, kControlOffset = 0x206, kPorts = 8;

class Channel final : public Disk {
  public:
    static constexpr std::uint64_t kPage = 4096, kBounce = 12 * kPage, kArena = kBounce + kPage + kBounce;

    // Before the guest, on one CPU. Channel `number` of a controller whose bus masters' first port is `masters`; its part of
    // the arena is the one of that number. kTimeout: a bus master that does not stop.
    [[nodiscard]] Status open(Environment& environment, std::uint32_t number, std::uint64_t masters,
                              const DmaArena& arena);
    // Ends what is under way, its DMA first.
    void stop();

    // The guest's accesses, any number of CPUs. `port` is one of the channel's; `size` is 1, 2 or 4.
    [[nodiscard]] std::uint32_t read(std::uint16_t port, unsigned size);
    void write(std::uint16_t port, unsigned size, std::uint32_t value);

  private:
    // Bits 15:0: port, from the command block's first one or, of the bus master, from 1000h on; 31:16: bytes. An access of
    // another size meets no register.
    enum Register : std::uint32_t {
        kFeatures = 0x1'0001,  // read: ERROR; then COUNT and LBA, two deep, and DEVICE
        kDevice = 0x1'0006,
        kCommand = 0x1'0007,                   // read: STATUS, and the interrupt is taken back
        kControl = 0x1'0000 + kControlOffset,  // read: ALTERNATE STATUS
        kMaster = 0x1'1000,                    // bus master: command
        kMasterStatus = 0x1'1002,
        kData = 0x2'0000,
        kWideData = 0x4'0000,
        kMasterTable = 0x4'1004,
    };
    [[nodiscard]] std::uint32_t register_at(std::uint16_t port, unsigned size) const;
    [[nodiscard]] std::uint32_t in(std::uint32_t reg) const { return environment_->read(reg + base_[reg >> 12 & 1]); }
    void out(std::uint32_t reg, std::uint32_t value) const { environment_->write(reg + base_[reg >> 12 & 1], value); }
    [[nodiscard]] bool shows(std::uint32_t mask, std::uint32_t value) const { return (in(kControl)&mask) == value; }
    [[nodiscard]] std::optional<bool> outcome() const;
    void issue(const TaskFile& task) const;
    void start_master(std::uint32_t size) const;
    [[nodiscard]] Status execute(const TaskFile& task, MutableBytes out) override;

    void write_task_file(std::uint32_t reg, std::uint8_t value);
    void refuse();
    void go();
    void process();
    [[nodiscard]] ahci::ScatterList fetch_table();
    [[nodiscard]] bool move_part();
    void take_page();
    [[nodiscard]] std::uint32_t read_data(unsigned size);

    // The guest has selected the drive: DEVICE bit 4 is not set.
    [[nodiscard]] bool is_selected() const { return (fis_[7] & std::byte{0x10}) == std::byte{0}; }
    [[nodiscard]] bool writes() const { return command_.kind == CommandKind::kMediaWrite; }
    [[nodiscard]] bool by_dma() const { return writes() || command_.kind == CommandKind::kMediaRead; }

    // Where what the device is to read, or to write, is.
    [[nodiscard]] std::byte* bounce() const { return arena_.data + (writes() ? kBounce + kPage : 0); }

    std::array<std::uint32_t, 2> base_{};  // first port of the command block; of the bus master, less 1000h

    // The guest's registers.
    std::array<std::byte, kTaskFileFisSize> fis_{std::byte{0x27}, std::byte{0x80}};  // command block (policy.hpp)
    bool protected_ = false;                                                         // ERROR bit WP
    std::uint32_t master_command_ = 0;
    GuestPhysical table_;

    Command command_{};          // with data that the guest has not seen the end of; else kind is another
    std::uint32_t done_ = 0;     // sectors, or pages, that are finished
    Volume::Run part_{};         // after these: sectors in the drive's hands
    std::uint32_t at_ = 0;       // bytes of a page that the guest has read
    ahci::ScatterList guest_{};  // where the guest's data go on
    std::array<std::byte, kPage / 8 * ahci::kDescriptorSize> descriptors_{};  // the guest's, as AHCI's
};

}  // namespace gatehouse::ata::ide
