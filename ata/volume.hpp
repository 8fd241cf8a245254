// A disk, whatever its controller: what the guest may see and do of it, sector by sector; what the hypervisor asks of it.
#pragma once

#include "ata/ahci/scatter_list.hpp"
#include "ata/own_commands.hpp"
#include "ata/xts/xts.hpp"
#include "hypervisor/base/region.hpp"
#include "hypervisor/base/spin_lock.hpp"

namespace gatehouse::ata {

// What a disk said of itself (IDENTIFY DEVICE, ACS-4 section 7.13).
struct Geometry {
    std::uint32_t sector_size = 0;  // bytes in a logical sector
    std::uint64_t sectors = 0;      // user-addressable logical sectors

    // Whether [lba, lba + count) lies on the disk.
    [[nodiscard]] bool contains(std::uint64_t lba, std::uint64_t count) const {
        return lba < sectors && count <= sectors - lba;
    }
};

// A disk as the guest sees it: sectors in no region are encrypted.
struct Volume {
    Geometry geometry;
    std::span<const Region> regions;
    const XtsKey* key = nullptr;
    Boundary boundary;

    struct Run {
        RegionClass kind = RegionClass::kEncrypted;
        std::uint32_t count = 0;             // sectors of that class from here on, at most those asked for
        const std::byte* overlay = nullptr;  // bytes of the first of them
        const XtsKey* key = nullptr;         // of kEncrypted ones; none: they are plaintext still
    };
    // The same of sectors that are in no region: as many as are under one key.
    [[nodiscard]] Run encrypted_at(std::uint64_t lba, std::uint32_t count) const;
    // The run that starts at `lba`, `count` sectors at most.
    [[nodiscard]] Run run_at(std::uint64_t lba, std::uint32_t count) const;
    // Whether the disk has every sector of a range, and the guest may read, or write, all of them.
    [[nodiscard]] bool permits(std::uint64_t lba, std::uint32_t count, bool write) const;
};

struct TaskFile;

// Whose command it is.
enum Device : std::uint8_t { kDisk = 1, kPacketDevice = 2 };

// A disk at its controller. All of this before the guest runs, on one CPU.
class Disk {
  public:
    // Of its port, or IDE channel.
    [[nodiscard]] std::uint32_t number() const { return number_; }
    // What the device takes its descriptors from. It only reads them.
    [[nodiscard]] const Extent& command_tables() const { return tables_; }
    // Asks the disk for its geometry, which geometry() is from then on; zeros before. kUnsupported: a disk without LBA48 or
    // DMA, or with sectors of neither 512 nor 4,096 bytes. kTimeout, kDeviceError (detail: PxTFD, or STATUS): the disk's fault.
    [[nodiscard]] Status identify();
    [[nodiscard]] const Geometry& geometry() const { return volume_.geometry; }
    // Reads raw sectors, as they are on the disk, after identify(). `out` is a whole number of sectors. Errors: kState,
    // kOutOfRange; the disk's.
    [[nodiscard]] Status read_sectors(std::uint64_t lba, MutableBytes out);
    // The guest will see this disk. Regions are as volume::validate() demands, for this geometry, each kOverlay with its
    // bytes; they and the key, which is set if anything is encrypted, must outlive the mediator.
    void attach(std::span<const Region> regions, const XtsKey& key);
    // Whether the guest may tell the disk which sectors it no longer uses; at first it may not.
    void allow_trim(bool allowed) { trim_ = allowed; }
    // A packet device always is.
    [[nodiscard]] bool is_attached() const { return device_ == kPacketDevice || volume_.key != nullptr; }
    // Commands of the mediator's own between the guest's; nullptr: there are none at this controller.
    [[nodiscard]] virtual OwnCommands* own_commands() { return nullptr; }
    // Before the guest, or at rest.
    void set_boundary(const Boundary& boundary) { volume_.boundary = boundary; }

  protected:
    // Holds the lock; and at its end leaves the vector unit, if it was entered.
    struct Access {
        explicit Access(Disk& of) : disk(of) { disk.lock_.lock(); }
        ~Access();
        Access(const Access&) = delete;
        Disk& disk;
    };
    static constexpr std::uint32_t kUnitSize = 64 * 1024;  // bytes, of bounce memory
    static constexpr std::uint64_t kLimit = 10'000;        // milliseconds: a disk may still be spinning up
    ~Disk() = default;
    // Runs one of the mediator's own commands, which reads out.size() bytes, at most kUnitSize / 2.
    [[nodiscard]] virtual Status execute(const TaskFile& task, MutableBytes out) = 0;
    // `count` sectors of the guest's from `lba` on, within an Access: encrypts them to `to`, or, if that is null, decrypts those
    // that are encrypted where they are. False: the descriptors do not lead to so many, or out of guest RAM.
    [[nodiscard]] bool transform(ahci::ScatterList& guest, std::byte* to, std::uint64_t lba, std::uint32_t count);

    SpinLock lock_;
    Environment* environment_ = nullptr;
    std::uint32_t number_ = 0;
    DmaArena arena_{};
    Extent tables_;
    Volume volume_{};
    bool trim_ = false;
    bool in_vectors_ = false;
    Device device_ = kDisk;
    std::array<std::byte, 4096> sector_{};  // a sector, or some, put together
};

}  // namespace gatehouse::ata
