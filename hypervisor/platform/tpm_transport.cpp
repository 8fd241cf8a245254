#include "hypervisor/platform/tpm_transport.hpp"

#include <algorithm>

#include "hypervisor/base/panic.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::size_t kHeaderSize = 10;  // of a command and of a response (Library Part 1, 18)
constexpr std::size_t kMaximumSize = 4096;

// Time-outs in microseconds: the longer one of PTP 1.05, 6.5.1.4 (table 18) and TIS 1.3, 5.2.2.
constexpr std::uint64_t kTimeoutA = 750'000;
constexpr std::uint64_t kTimeoutB = 2'000'000;
constexpr std::uint64_t kTimeoutC = 750'000;
// The longest duration in the specification is 2 s (PTP 1.05, 5.5.1.1); TPMs in the field overrun it.
constexpr std::uint64_t kTimeoutCommand = 10'000'000;

// Common to both interfaces (PTP 6.4.2)
constexpr std::uint32_t kInterfaceId = 0x30;
constexpr std::uint32_t kIdTypeMask = 0xf;
constexpr std::uint32_t kIdFifo = 0x0;
constexpr std::uint32_t kIdCrb = 0x1;
constexpr std::uint32_t kIdTis13 = 0xf;
constexpr std::uint32_t kIdAllLocalities = 1u << 8;

// FIFO (PTP 6.5.2)
constexpr std::uint32_t kAccess = 0x00;  // 8 bits
constexpr std::uint32_t kStatus = 0x18;
constexpr std::uint32_t kDataFifo = 0x24;

constexpr std::uint8_t kAccessValid = 1u << 7;
constexpr std::uint8_t kAccessActive = 1u << 5;  // written: relinquish
constexpr std::uint8_t kAccessRequestUse = 1u << 1;

constexpr std::uint32_t kStatusValid = 1u << 7;  // Expect and dataAvail mean something
constexpr std::uint32_t kStatusReady = 1u << 6;  // written: get ready, abort whatever is going on
constexpr std::uint32_t kStatusGo = 1u << 5;
constexpr std::uint32_t kStatusDataAvailable = 1u << 4;
constexpr std::uint32_t kStatusExpect = 1u << 3;
constexpr std::uint32_t kStatusRetry = 1u << 1;  // written: send the response again
constexpr std::uint32_t kStatusCancel = 1u << 24;

// CRB (PTP 6.5.3)
constexpr std::uint32_t kLocalityState = 0x00;
constexpr std::uint32_t kLocalityControl = 0x08;
constexpr std::uint32_t kLocalityStatus = 0x0c;
constexpr std::uint32_t kControlRequest = 0x40;
constexpr std::uint32_t kControlStatus = 0x44;
constexpr std::uint32_t kControlCancel = 0x48;
constexpr std::uint32_t kControlStart = 0x4c;
constexpr std::uint32_t kCommandSize = 0x58;
constexpr std::uint32_t kCommandAddress = 0x5c;  // 64 bits
constexpr std::uint32_t kResponseSize = 0x64;
constexpr std::uint32_t kResponseAddress = 0x68;  // 64 bits
constexpr std::uint32_t kDataBuffer = 0x80;       // to the end of the locality's page

constexpr std::uint32_t kStateValid = 1u << 7;
constexpr std::uint32_t kControlRequestAccess = 1u << 0;
constexpr std::uint32_t kControlRelinquish = 1u << 1;
constexpr std::uint32_t kStatusGranted = 1u << 0;
constexpr std::uint32_t kRequestReady = 1u << 0;
constexpr std::uint32_t kRequestIdle = 1u << 1;
constexpr std::uint32_t kStatusError = 1u << 0;
constexpr std::uint32_t kStatusIdle = 1u << 1;

constexpr std::uint32_t kAllOnes = 0xffffffff;  // what a bus answers where nothing is

// Size of a response by its header, which has been read into the front of `response`.
Result<std::size_t> response_size(Bytes header, std::size_t capacity) {
    Reader reader(header, Endian::kBig);
    reader.skip(2);
    const std::size_t size = reader.u32();
    if (size < kHeaderSize || size > kMaximumSize) return {Error::kBadLength, "TPM response size", size};
    if (size > capacity) return {Error::kNoSpace, "TPM response does not fit", size};
    return size;
}

}  // namespace

// Looks until it is done or the time is over, and once more after that.
template <typename Look, typename Done>
Result<std::uint32_t> TpmTransport::until(std::uint64_t microseconds, const char* item, Look look, Done done) {
    for (const std::uint64_t start = bus_.microseconds();;) {
        const bool last = bus_.microseconds() - start > microseconds;
        GATEHOUSE_ASSIGN(const std::uint32_t now, look());
        if (done(now)) return now;
        if (last) return {Error::kTimeout, item, now};
    }
}

Status TpmTransport::await(std::uint32_t offset, std::uint32_t mask, std::uint32_t value, std::uint64_t microseconds,
                           const char* item) {
    const auto look = [&]() -> Result<std::uint32_t> {
        const bool narrow = offset == kAccess && interface_ == TpmInterface::kFifo;  // 8 bits
        const std::uint32_t now = narrow ? bus_.read8(at(offset)) : bus_.read32(at(offset));
        if (now == (narrow ? 0xff : kAllOnes)) return {Error::kDeviceError, item, now};
        return now;
    };
    return until(microseconds, item, look, [&](std::uint32_t now) { return (now & mask) == value; }).failure();
}

// --- locality

Status TpmTransport::open(unsigned locality) {
    require(interface_ == TpmInterface::kNone && locality < kTpmLocalities, "TPM: open");
    locality_ = locality;
    const std::uint32_t id = bus_.read32(kInterfaceId);
    if (id == kAllOnes && bus_.read8(kAccess) == 0xff) return {Error::kNotFound, "no TPM answers at 0xfed40000", id};
    const std::uint32_t type = id & kIdTypeMask;
    const bool crb = type == kIdCrb;
    if (!crb && type != kIdFifo && type != kIdTis13) return {Error::kUnsupported, "TPM interface type", id};
    if (crb && locality != 0 && (id & kIdAllLocalities) == 0) {
        return {Error::kUnsupported, "TPM CRB interface has locality 0 only", id};
    }
    constexpr const char* kNoAnswer = "no TPM answers at 0xfed40000";
    constexpr const char* kNotGranted = "TPM does not grant the locality";
    constexpr std::uint32_t kOurs = kAccessValid | kAccessActive;
    interface_ = crb ? TpmInterface::kCrb : TpmInterface::kFifo;
    const auto request = [&]() -> Status {
        if (crb) {
            GATEHOUSE_TRY(await(kLocalityState, kStateValid, kStateValid, kTimeoutA, kNoAnswer));
            bus_.write32(at(kLocalityControl), kControlRequestAccess);
            return await(kLocalityStatus, kStatusGranted, kStatusGranted, kTimeoutA, kNotGranted);
        }
        GATEHOUSE_TRY(await(kAccess, kAccessValid, kAccessValid, kTimeoutA, kNoAnswer));
        bus_.write8(at(kAccess), kAccessRequestUse);
        const Status granted = await(kAccess, kOurs, kOurs, kTimeoutA, kNotGranted);
        if (!granted.ok()) bus_.write8(at(kAccess), kAccessActive);  // withdraws the request
        return granted;
    };
    const Status requested = request();
    if (!requested.ok()) interface_ = TpmInterface::kNone;
    return requested;
}

Status TpmTransport::close() {
    Status closed;
    if (interface_ == TpmInterface::kFifo) {
        bus_.write8(at(kAccess), kAccessActive);
        closed = await(kAccess, kAccessActive, 0, kTimeoutA, "TPM keeps the locality");
    } else if (interface_ == TpmInterface::kCrb) {
        bus_.write32(at(kLocalityControl), kControlRelinquish);
        closed = await(kLocalityStatus, kStatusGranted, 0, kTimeoutC, "TPM keeps the locality");
    }
    interface_ = TpmInterface::kNone;
    return closed;
}

Status TpmTransport::check_locality() {
    const bool fifo = interface_ == TpmInterface::kFifo;
    const std::uint32_t now = fifo ? bus_.read8(at(kAccess)) : bus_.read32(at(kLocalityStatus));
    const bool ours = now != (fifo ? 0xff : kAllOnes) && (now & (fifo ? kAccessActive : kStatusGranted)) != 0;
    if (!ours) return {Error::kState, "TPM locality is not ours", now};
    return {};
}

void TpmTransport::pause() {
    (void)until(
        20'000, "", [&] { return Result<std::uint32_t>(0u); }, [](std::uint32_t) { return false; });
}

Result<std::size_t> TpmTransport::transmit(Bytes command, MutableBytes response) {
    if (interface_ == TpmInterface::kNone) return {Error::kState, "TPM: no locality requested"};
    if (command.size() < kHeaderSize || command.size() > kMaximumSize) {
        return {Error::kBadLength, "TPM command size", command.size()};
    }
    if (response.size() < kHeaderSize) return {Error::kNoSpace, "TPM response buffer", response.size()};
    GATEHOUSE_TRY(check_locality());
    return interface_ == TpmInterface::kFifo ? fifo_transmit(command, response) : crb_transmit(command, response);
}

// --- FIFO

Result<std::uint32_t> TpmTransport::fifo_status() {
    const std::uint32_t now = bus_.read32(at(kStatus));
    // Ready for a command and a response at once: garbage, or all ones, where nothing answers
    constexpr std::uint32_t kContradiction = kStatusReady | kStatusValid | kStatusDataAvailable;
    if ((now & kContradiction) == kContradiction) return {Error::kDeviceError, "TPM status", now};
    return now;
}

Status TpmTransport::fifo_await(std::uint32_t mask, std::uint32_t value, std::uint64_t microseconds, const char* item) {
    const auto done = [&](std::uint32_t now) { return (now & mask) == value; };
    return until(
               microseconds, item, [&] { return fifo_status(); }, done)
        .failure();
}

// Moves `size` bytes by their index, as many at a time as the burst count in the status that `look` gets says.
template <typename Look, typename Move>
Status TpmTransport::fifo_move(std::size_t size, const char* item, Look look, Move move) {
    const std::uint64_t start = bus_.microseconds();
    const auto burst = [](std::uint32_t status) { return status >> 8 & 0xffff; };
    for (std::size_t moved = 0; moved < size;) {
        if (bus_.microseconds() - start > kTimeoutB) return {Error::kTimeout, item, size - moved};
        GATEHOUSE_ASSIGN(const std::uint32_t now, until(kTimeoutB, "TPM burst count stays 0", look, burst));
        for (const std::size_t end = std::min<std::size_t>(moved + burst(now), size); moved < end; ++moved) move(moved);
    }
    return {};
}

Status TpmTransport::fifo_ready() {
    bus_.write32(at(kStatus), kStatusReady);
    return fifo_await(kStatusReady, kStatusReady, kTimeoutB, "TPM does not get ready");
}

Status TpmTransport::fifo_fill(Bytes part) {
    return fifo_move(
        part.size(), "TPM takes the command too slowly", [&] { return fifo_status(); },
        [&](std::size_t i) { bus_.write8(at(kDataFifo), std::to_integer<std::uint8_t>(part[i])); });
}

Status TpmTransport::fifo_drain(MutableBytes part) {
    const auto look = [&]() -> Result<std::uint32_t> {
        GATEHOUSE_TRY(fifo_await(kStatusValid, kStatusValid, kTimeoutC, "TPM status stays invalid"));
        GATEHOUSE_ASSIGN(const std::uint32_t now, fifo_status());
        if ((now & kStatusDataAvailable) == 0) return {Error::kDeviceError, "TPM response ends early", now};
        return now;
    };
    return fifo_move(part.size(), "TPM gives the response too slowly", look,
                     [&](std::size_t i) { part[i] = std::byte{bus_.read8(at(kDataFifo))}; });
}

// The TPM knows the command's size by its header: it expects more until the last byte, and no more after it.
Status TpmTransport::fifo_send(Bytes command) {
    GATEHOUSE_TRY(fifo_ready());
    GATEHOUSE_TRY(fifo_fill(command.first(command.size() - 1)));
    GATEHOUSE_TRY(fifo_await(kStatusValid | kStatusExpect, kStatusValid | kStatusExpect, kTimeoutC,
                             "TPM stops taking the command"));
    GATEHOUSE_TRY(fifo_fill(command.last(1)));
    return fifo_await(kStatusValid | kStatusExpect, kStatusValid, kTimeoutC, "TPM expects more than the command");
}

Status TpmTransport::fifo_execute() {
    bus_.write32(at(kStatus), kStatusGo);
    constexpr std::uint32_t kAnswered = kStatusValid | kStatusDataAvailable;
    const Status answered = fifo_await(kAnswered, kAnswered, kTimeoutCommand, "TPM does not answer the command");
    if (answered.error() == Error::kTimeout) {
        bus_.write32(at(kStatus), kStatusCancel);
        (void)fifo_await(kAnswered, kAnswered, kTimeoutB, "TPM does not cancel the command");
    }
    return answered;
}

Result<std::size_t> TpmTransport::fifo_receive(MutableBytes response) {
    GATEHOUSE_TRY(fifo_drain(response.first(kHeaderSize)));
    GATEHOUSE_ASSIGN(const std::size_t size, response_size(response.first(kHeaderSize), response.size()));
    GATEHOUSE_TRY(fifo_drain(response.subspan(kHeaderSize, size - kHeaderSize)));
    if (!fifo_await(kStatusValid | kStatusDataAvailable, kStatusValid, kTimeoutC, "").ok()) {
        return {Error::kBadLength, "TPM response goes on after its size", size};
    }
    return size;
}

Result<std::size_t> TpmTransport::fifo_transmit(Bytes command, MutableBytes response) {
    const auto exchange = [&]() -> Result<std::size_t> {
        GATEHOUSE_TRY(fifo_send(command));
        GATEHOUSE_TRY(fifo_execute());
        auto size = fifo_receive(response);
        if (size.ok() || size.error() == Error::kTimeout || size.error() == Error::kNoSpace) return size;
        bus_.write32(at(kStatus), kStatusRetry);  // bytes may have been lost on the way: once more
        GATEHOUSE_TRY(fifo_await(kStatusValid | kStatusDataAvailable, kStatusValid | kStatusDataAvailable, kTimeoutC,
                                 size.failure().item));
        return fifo_receive(response);
    };
    auto size = exchange();
    bus_.write32(at(kStatus), kStatusReady);  // drops whatever is left
    return size;
}

// --- CRB

Result<std::uint32_t> TpmTransport::crb_buffer(std::uint32_t address_register, std::uint32_t size_register,
                                               std::size_t size, const char* item) {
    const std::uint64_t address =
        bus_.read32(at(address_register)) | std::uint64_t{bus_.read32(at(address_register + 4))} << 32;
    const std::uint64_t capacity = bus_.read32(at(size_register));
    const std::uint64_t first = kTpmBase + at(kDataBuffer);
    const std::uint64_t end = kTpmBase + at(0x1000);
    if (address < first || address >= end) return {Error::kUnsupported, item, address};
    if (size > capacity || size > end - address) return {Error::kNoSpace, item, capacity};
    return static_cast<std::uint32_t>(address - kTpmBase);
}

Status TpmTransport::crb_check_error() {
    const std::uint32_t now = bus_.read32(at(kControlStatus));
    if ((now & kStatusError) != 0) return {Error::kDeviceError, "TPM reports a fatal error", now};
    return {};
}

Status TpmTransport::crb_execute(Bytes command) {
    GATEHOUSE_TRY(crb_check_error());
    bus_.write32(at(kControlRequest), kRequestReady);
    GATEHOUSE_TRY(await(kControlRequest, kRequestReady, 0, kTimeoutC, "TPM does not get ready"));
    GATEHOUSE_TRY(await(kControlStatus, kStatusIdle, 0, kTimeoutC, "TPM stays idle"));
    GATEHOUSE_ASSIGN(const std::uint32_t buffer,
                     crb_buffer(kCommandAddress, kCommandSize, command.size(), "TPM command buffer"));
    for (std::size_t i = 0; i < command.size(); ++i) {
        bus_.write8(buffer + static_cast<std::uint32_t>(i), std::to_integer<std::uint8_t>(command[i]));
    }
    bus_.write32(at(kControlStart), 1);
    const Status answered = await(kControlStart, 1, 0, kTimeoutCommand, "TPM does not answer the command");
    if (answered.error() == Error::kTimeout) {
        bus_.write32(at(kControlCancel), 1);
        (void)await(kControlStart, 1, 0, kTimeoutB, "TPM does not cancel the command");
        bus_.write32(at(kControlCancel), 0);
    }
    GATEHOUSE_TRY(answered);
    return crb_check_error();
}

Result<std::size_t> TpmTransport::crb_receive(MutableBytes response) {
    const auto read = [&](std::uint32_t buffer, MutableBytes out) {
        for (std::size_t i = 0; i < out.size(); ++i) {
            out[i] = std::byte{bus_.read8(buffer + static_cast<std::uint32_t>(i))};
        }
    };
    GATEHOUSE_ASSIGN(std::uint32_t buffer,
                     crb_buffer(kResponseAddress, kResponseSize, kHeaderSize, "TPM response buffer"));
    read(buffer, response.first(kHeaderSize));
    GATEHOUSE_ASSIGN(const std::size_t size, response_size(response.first(kHeaderSize), response.size()));
    GATEHOUSE_ASSIGN(buffer, crb_buffer(kResponseAddress, kResponseSize, size, "TPM response buffer"));
    read(buffer + kHeaderSize, response.subspan(kHeaderSize, size - kHeaderSize));
    return size;
}

Result<std::size_t> TpmTransport::crb_transmit(Bytes command, MutableBytes response) {
    const Status executed = crb_execute(command);
    const auto size = executed.ok() ? crb_receive(response) : Result<std::size_t>(executed.failure());
    bus_.write32(at(kControlRequest), kRequestIdle);
    const Status idle = await(kControlRequest, kRequestIdle, 0, kTimeoutC, "TPM does not go idle");
    GATEHOUSE_TRY(size);
    GATEHOUSE_TRY(idle);
    return size;
}

}  // namespace gatehouse::platform
