#include "ata/ide/channel.hpp"

#include <algorithm>

namespace gatehouse::ata::ide {

namespace {

constexpr std::uint32_t kMasterOffset = 0x1000;
constexpr std::uint64_t kGrace = 100;  // milliseconds
// STATUS: BSY, DRQ; DF and ERR; DRDY, DSC and DRQ of a drive that has data; of a bus that nobody drives. ERROR: WP.
// CONTROL: HOB, SRST, nIEN.
constexpr std::uint32_t kBusy = 0x80, kDataRequest = 0x08, kFailed = 0x21, kHasData = 0x58, kBusyOrData = 0x88;
constexpr std::uint32_t kNobody = 0xff, kProtected = 0x40, kControlBits = 0x86;
// Bus master, command: start, and to memory; status: active, two that are cleared by writing one: error and interrupt; and
// two that say that the drives are set up for DMA. In its last descriptor: the end mark.
constexpr std::uint32_t kStart = 0x01, kToMemory = 0x08, kEndMark = 1u << 31;
constexpr std::uint32_t kActive = 0x01, kMasterError = 0x02, kInterrupt = 0x04, kDmaCapable = 0x60;

// Of what the policy allows a disk: without data, pages by PIO, and media by DMA, not queued (ACS-4 table A.2).
constexpr std::uint8_t kKnown[] = {0x25, 0x2f, 0x35, 0x3d, 0x40, 0x42, 0xb0, 0xc8, 0xca, 0xe0,
                                   0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef};
constexpr std::uint8_t kVerify = 0x40, kVerifyExt = 0x42, kSetFeatures = 0xef, kTransferMode = 0x03;
// FEATURES to COMMAND in a FIS: the last byte written, and of those that are two deep the one before.
constexpr std::uint8_t kPlaces[][2] = {{3, 11}, {12, 13}, {4, 8}, {5, 9}, {6, 10}, {7, 7}, {2, 2}};

}  // namespace

// --- The real registers ---

std::uint32_t Channel::register_at(std::uint16_t port, unsigned size) const {
    const std::uint32_t of_master = port - base_[1];
    return (of_master - kMasterOffset < kPorts ? of_master : port - base_[0]) | size << 16;
}

// Whether drive and bus master have done well what they were given; nothing, while they are at it.
std::optional<bool> Channel::outcome() const {
    const std::uint32_t master = in(kMasterStatus), status = in(kControl);
    const bool failed = (status & kFailed) != 0 || (master & kMasterError) != 0;
    if ((status & kBusyOrData) != 0 || (!failed && (master & kActive) != 0)) return std::nullopt;
    return !failed;
}

void Channel::issue(const TaskFile& task) const {
    std::array<std::byte, kTaskFileFisSize> fis{};
    store_task_file(task, fis);
    out(kMasterStatus, kMasterError | kInterrupt | kDmaCapable);
    for (unsigned i = 0; i < 5; ++i) out(kFeatures + i, std::to_integer<std::uint32_t>(fis[kPlaces[i][1]]));
    for (unsigned i = 0; i < 7; ++i) out(kFeatures + i, std::to_integer<std::uint32_t>(fis[kPlaces[i][0]]));
    for (int i = 0; i < 4; ++i) (void)in(kControl);  // 400 ns, until it shows (ATA/ATAPI-6 section 9.3)
}

// The drive has its command, for `size` bytes of the bounce memory.
void Channel::start_master(std::uint32_t size) const {
    const std::uint64_t table = kBounce + (writes() ? kPage / 2 : 0);
    const std::uint64_t data = (arena_.physical + static_cast<std::uint64_t>(bounce() - arena_.data)).value();
    Writer entries(MutableBytes(arena_.data + table, kPage / 2));
    for (std::uint32_t at = 0; at < size; at += kPage) {  // pieces that cross no boundary of 64 KiB
        entries.u32(static_cast<std::uint32_t>(data + at));
        entries.u32(size - at > kPage ? kPage : (size - at) | kEndMark);
    }
    const std::uint32_t direction = writes() ? 0 : kToMemory;
    out(kMasterTable, static_cast<std::uint32_t>(arena_.physical.value() + table));
    out(kMaster, direction);
    out(kMaster, direction | kStart);
}

// --- Before the guest ---

Status Channel::open(Environment& environment, std::uint32_t number, std::uint64_t masters, const DmaArena& arena) {
    environment_ = &environment;
    number_ = number;
    base_ = {kCommandBlocks[number], static_cast<std::uint32_t>(masters) + number * kPorts - kMasterOffset};
    arena_ = {arena.data + number * kArena, arena.physical + number * kArena, kArena};
    tables_ = {(arena_.physical + kBounce).value(), kPage + kBounce};
    stop();
    if ((in(kMasterStatus)&kActive) != 0) return {Error::kTimeout, "IDE: bus master does not stop", number};
    for (const std::uint32_t control : {std::uint32_t{bits(TaskBit::kReset)}, 0u}) {  // ATA/ATAPI-6 section 9.2
        out(kControl, control);
        (void)wait_for(environment, 2, [] { return false; });
    }
    return {};
}

// IDENTIFY DEVICE by PIO, others by DMA.
Status Channel::execute(const TaskFile& task, MutableBytes out) {
    const bool page = task.command == kIdentifyDevice.command;
    const auto ended = [&] { return shows(kNobody, kNobody) || (page ? shows(kBusy, 0) : outcome().has_value()); };
    (void)wait_for(*environment_, kLimit, ended);
    issue(task);
    if (!page) start_master(static_cast<std::uint32_t>(out.size()));
    const bool timely = wait_for(*environment_, kLimit, ended);
    const bool good = page ? shows(kBusyOrData | kFailed, kDataRequest) : outcome().value_or(false);
    const std::uint32_t status = in(kCommand);
    if (page) take_page();
    copy_bytes(out, page ? Bytes(sector_).first(kPageSize) : Bytes(arena_.data, out.size()));
    stop();
    if (good) return {};
    return {timely ? Error::kDeviceError : Error::kTimeout, "disk: command failed", status};
}

// Lets the drive first end what it has, if it does so in time.
void Channel::stop() {
    if (part_.count != 0) (void)wait_for(*environment_, kGrace, [this] { return outcome().has_value(); });
    out(kMaster, 0);
    command_ = {};
    part_ = {};
    at_ = 0;
}

// The drive is to abort what it is not to do.
void Channel::refuse() {
    stop();
    if (shows(kBusyOrData, 0)) issue({});
}

// --- The guest's registers ---

std::uint32_t Channel::read(std::uint16_t port, unsigned size) {
    const Access access(*this);
    if (!is_attached()) return 0;
    process();
    const std::uint32_t reg = register_at(port, size);
    if (reg == kMaster) return master_command_;
    // A part's interrupt is not the command's: it may have come since process() looked.
    if (reg == kMasterStatus) return by_dma() ? kDmaCapable | (master_command_ & kActive) : in(reg);
    if (!is_selected()) return 0;
    if (reg == kData || reg == kWideData) return read_data(size);
    if (reg >= kFeatures && reg <= kDevice) return in(reg) | (reg == kFeatures && protected_ ? kProtected : 0);
    if (reg != kCommand && reg != kControl) return 0;
    if (at_ != 0) return kHasData;
    // What has come since process() looked is not for the guest yet: its data are not there.
    return by_dma() ? kBusy : in(reg);
}

void Channel::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    const Access access(*this);
    if (!is_attached()) return;
    process();
    const std::uint32_t reg = register_at(port, size);
    if (reg >= kFeatures && reg <= kCommand) write_task_file(reg, static_cast<std::uint8_t>(value));
    if (reg == kControl && (value & bits(TaskBit::kReset)) != 0) {
        stop();
        fis_[7] = {};
        protected_ = false;
    }
    if (reg == kControl) out(reg, value & kControlBits);
    if (reg == kMasterTable) table_ = GuestPhysical(value & ~3u);
    if (reg == kMasterStatus && !by_dma()) out(reg, (value & (kMasterError | kInterrupt)) | kDmaCapable);
    if (reg != kMaster) return;
    const bool begins = (value & ~master_command_ & kStart) != 0;
    master_command_ = value & (kStart | kToMemory);
    if (part_.count != 0 && (value & kStart) == 0) refuse();
    if (begins && by_dma()) go();
}

void Channel::write_task_file(std::uint32_t reg, std::uint8_t value) {
    if (by_dma() || !shows(kBusyOrData, 0)) return;
    const auto& [last, before] = kPlaces[reg - kFeatures];
    fis_[before] = fis_[last];
    fis_[last] = std::byte{value};
    if (!is_selected()) return;
    if (reg != kCommand) return out(reg, value);
    command_ = classify(*parse_task_file(fis_), false);
    const bool known = std::ranges::find(kKnown, value) != std::end(kKnown);
    const bool permitted = !by_dma() || volume_.permits(command_.lba, command_.count, writes());
    protected_ = writes() && known && !permitted;
    done_ = at_ = 0;
    if (!known || !permitted || command_.kind == CommandKind::kRefused) return refuse();
    if (value == kSetFeatures && command_.task.features == kTransferMode) command_.task = kCheckPowerMode;
    if (!by_dma()) return issue(command_.task);
    if ((master_command_ & kStart) != 0) go();
}

// --- A command's way ---

// Gives the drive the next part of a command that moves media.
void Channel::go() {
    const std::uint32_t size = geometry().sector_size, left = command_.count - done_;
    if (done_ == 0) guest_ = fetch_table();
    part_ = volume_.run_at(command_.lba + done_, std::min(left, static_cast<std::uint32_t>(kBounce / size)));
    if (writes() && !move_part()) return refuse();
    TaskFile task = command_.part(done_, part_.count);
    const MutableBytes data(bounce(), std::size_t{part_.count} * size);
    const bool unseen = part_.kind == RegionClass::kHidden || part_.kind == RegionClass::kOverlay;
    if (part_.kind == RegionClass::kHidden) wipe(data);
    if (part_.kind == RegionClass::kOverlay) copy_bytes(data, Bytes(part_.overlay, data.size()));
    if (unseen) task.command = command_.extended ? kVerifyExt : kVerify;
    issue(task);
    if (!unseen) start_master(part_.count * size);
}

// Looks whether the drive is through with its part, and goes on with the next.
void Channel::process() {
    const std::optional<bool> good = part_.count == 0 ? std::nullopt : outcome();
    if (!good) return;
    out(kMaster, 0);
    if (*good && !writes() && !move_part()) return refuse();
    done_ += std::exchange(part_, {}).count;
    if (*good && done_ != command_.count) return go();
    command_ = {};
}

// --- Data ---

// The guest's descriptors, copied once: address in bits 31:0, size in 47:32, of which 0 is 64 KiB, end mark in 63.
ahci::ScatterList Channel::fetch_table() {
    const MutableBytes copy = MutableBytes(sector_).first(kPage - table_.within(kPage));
    const std::byte* from = environment_->map(table_, copy.size()).data;
    if (from == nullptr) return {};
    copy_bytes(copy, Bytes(from, copy.size()));
    Reader entries(copy);
    Writer copies(descriptors_);
    for (std::uint64_t entry = 0; entries.remaining() >= 8 && entry >> 63 == 0;) {
        entry = entries.u64();
        copies.u64(entry & 0xffff'ffff);
        copies.u64((entry - (std::uint64_t{1} << 32)) & 0xffff'0000'0000);  // the last byte's number
    }
    return {*environment_, descriptors_.data(), static_cast<std::uint32_t>(copies.offset() / ahci::kDescriptorSize)};
}

// The part's sectors, between the guest's pages and the bounce memory. False: its descriptors do not lead there.
bool Channel::move_part() {
    const Bytes data(bounce(), std::size_t{part_.count} * geometry().sector_size);
    if (writes()) return transform(guest_, bounce(), command_.lba + done_, part_.count);
    ahci::ScatterList pages = guest_;
    return guest_.copy_in(data) && transform(pages, nullptr, command_.lba + done_, part_.count);
}

// A page from a drive that shows DRQ.
void Channel::take_page() {
    const Page page(sector_.data(), kPageSize);
    for (std::size_t i = 0; i < kPageSize; i += 2)
        store(&page[i], static_cast<std::uint16_t>(in(kData)), Endian::kLittle);
    if (command_.filter == Filter::kIdentify) page[2 * 119] &= std::byte{0xf7}, page[2 * 120] &= std::byte{0xf7};
    filter_page(page, command_.filter, false);
}

// The guest's next bytes of a page; all ones: there are none.
std::uint32_t Channel::read_data(unsigned size) {
    const bool more = command_.kind == CommandKind::kDataIn && done_ < command_.count;
    if (!more || (at_ == 0 && !shows(kBusyOrData, kDataRequest))) return ~0u;
    if (at_ == 0) take_page();
    const auto value = load<std::uint32_t>(&sector_[at_], Endian::kLittle);
    at_ += size;
    if (at_ >= kPageSize) at_ = 0, ++done_;
    return value;
}

}  // namespace gatehouse::ata::ide
