#include "hypervisor/platform/tpm_transport.hpp"

#include <algorithm>

#include "hypervisor/base/until.hpp"

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
constexpr std::uint32_t kIdFifo = 0x0;
constexpr std::uint32_t kIdTis13 = 0xf;
constexpr std::uint32_t kIdAllLocalities = 1u << 8;
constexpr std::uint8_t kAccessValid = 1u << 7;

// FIFO (PTP 6.5.2)
constexpr TpmBus::Register32 kStatus{0x18};
constexpr TpmBus::Register8 kDataFifo{0x24};

constexpr std::uint8_t kAccessRequestUse = 1u << 1;

constexpr std::uint32_t kStatusValid = 1u << 7;  // Expect and dataAvail mean something
constexpr std::uint32_t kStatusReady = 1u << 6;  // written: get ready, abort whatever is going on
constexpr std::uint32_t kStatusGo = 1u << 5;
constexpr std::uint32_t kStatusDataAvailable = 1u << 4;
constexpr std::uint32_t kStatusExpect = 1u << 3;
// Ready for a command and a response at once: garbage, or all ones, where nothing answers
constexpr std::uint32_t kStatusContradiction = kStatusReady | kStatusValid | kStatusDataAvailable;

// CRB (PTP 6.5.3)
constexpr TpmBus::Register32 kLocalityState{0x00};
constexpr TpmBus::Register32 kLocalityStatus{0x0c};
constexpr TpmBus::Register32 kControlRequest{0x40};
constexpr TpmBus::Register32 kControlStatus{0x44};
constexpr TpmBus::Register32 kControlCancel{0x48};
constexpr TpmBus::Register32 kControlStart{0x4c};
constexpr std::uint32_t kDataBuffer = 0x80;  // to the end of the locality's page

constexpr std::uint32_t kControlRequestAccess = 1u << 0;
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

template <typename T>
Result<T> TpmTransport::read(Register<TpmBus, T> reg) {
    const T now = bus_.read(at(reg));
    if (crb_ && reg.offset == kControlStatus.offset && (now & kStatusError) != 0) {
        return {Error::kDeviceError, "TPM reports a fatal error", now};
    }
    const bool is_status = !crb_ && reg.offset == kStatus.offset;
    const bool contradiction = is_status && (now & kStatusContradiction) == kStatusContradiction;
    if (contradiction || now == static_cast<T>(kAllOnes)) return {Error::kDeviceError, "TPM register", now};
    return now;
}

template <typename T>
Status TpmTransport::await(Register<TpmBus, T> reg, std::uint32_t mask, std::uint32_t value, std::uint64_t microseconds,
                           const char* item) {
    Result<T> now = T{0};
    const auto is_over = [&] { return !(now = read(reg)) || (*now & mask) == value; };
    if (until([this] { return bus_.microseconds(); }, microseconds, is_over)) return now.failure();
    return {Error::kTimeout, item, *now};
}

Status TpmTransport::await_locality(std::uint64_t microseconds, const char* item) {
    constexpr std::uint32_t kOurs = kAccessValid | kTpmAccessActive;
    return crb_ ? await(kLocalityStatus, kStatusGranted, kStatusGranted, microseconds, item)
                : await(kTpmAccess, kOurs, kOurs, microseconds, item);
}

Status TpmTransport::open(unsigned locality) {
    constexpr const char* kNoAnswer = "no TPM answers at 0xfed40000";
    const std::uint32_t id = bus_.read(kTpmInterfaceId);
    if (id == kAllOnes && bus_.read(kTpmAccess) == 0xff) return {Error::kNotFound, kNoAnswer, id};
    const std::uint32_t type = id & kTpmIdTypeMask;
    locality_ = locality;
    crb_ = type == kTpmIdCrb;
    if (!crb_ && type != kIdFifo && type != kIdTis13) return {Error::kUnsupported, "TPM interface type", id};
    if (crb_ && locality != 0 && (id & kIdAllLocalities) == 0) {
        return {Error::kUnsupported, "TPM CRB interface has locality 0 only", id};
    }
    GATEHOUSE_TRY(crb_ ? await(kLocalityState, kAccessValid, kAccessValid, kTimeoutA, kNoAnswer)
                       : await(kTpmAccess, kAccessValid, kAccessValid, kTimeoutA, kNoAnswer));
    if (crb_) bus_.write(at(kTpmLocalityControl), kControlRequestAccess);
    if (!crb_) bus_.write(at(kTpmAccess), kAccessRequestUse);
    const Status granted = await_locality(kTimeoutA, "TPM does not grant the locality");
    if (!granted && !crb_) bus_.write(at(kTpmAccess), kTpmAccessActive);  // withdraws the request
    return granted;
}

void TpmTransport::pause() {
    (void)until([this] { return bus_.microseconds(); }, 20'000, [] { return false; });
}

Result<std::size_t> TpmTransport::transmit(Bytes command, MutableBytes response) {
    if (command.size() < kHeaderSize || command.size() > kMaximumSize) {
        return {Error::kBadLength, "TPM command size", command.size()};
    }
    if (response.size() < kHeaderSize) return {Error::kNoSpace, "TPM response buffer", response.size()};
    if (!await_locality(0, "")) return {Error::kState, "TPM locality is not ours"};
    const auto size = exchange(command, response);
    // Drops whatever is left, and a command that still runs.
    if (!crb_) {
        bus_.write(at(kStatus), kStatusReady);
        return size;
    }
    bus_.write(at(kControlRequest), kRequestIdle);
    const Status idle = await(kControlRequest, kRequestIdle, 0, kTimeoutC, "TPM does not go idle");
    GATEHOUSE_TRY(size);
    GATEHOUSE_TRY(idle);
    return size;
}

Result<std::size_t> TpmTransport::exchange(Bytes command, MutableBytes response) {
    GATEHOUSE_TRY(crb_ ? crb_execute(command) : fifo_execute(command));
    const auto receive = [&](std::size_t from, std::size_t to) {
        return crb_ ? crb_receive(response, from, to) : fifo_receive(response, from, to);
    };
    GATEHOUSE_TRY(receive(0, kHeaderSize));
    GATEHOUSE_ASSIGN(const std::size_t size, response_size(response.first(kHeaderSize), response.size()));
    GATEHOUSE_TRY(receive(kHeaderSize, size));
    if (!crb_ && !await(kStatus, kStatusValid | kStatusDataAvailable, kStatusValid, kTimeoutC, "")) {
        return {Error::kBadLength, "TPM response goes on after its size", size};
    }
    return size;
}

// --- FIFO

// Moves bytes from..to by their index while the status has all of `needed`, as many at a time as its burst count says.
template <typename Move>
Status TpmTransport::fifo_move(std::size_t from, std::size_t to, std::uint32_t needed, const char* item, Move move) {
    Result<std::uint32_t> now = 0u;
    const auto is_over = [&] {
        if (from == to || !(now = read(kStatus))) return true;
        const std::size_t burst = (*now & needed) == needed ? *now >> 8 & 0xffff : 0;
        for (const std::size_t end = std::min(from + burst, to); from < end; ++from) move(from);
        return from == to;
    };
    if (until([this] { return bus_.microseconds(); }, kTimeoutB, is_over)) return now.failure();
    return {Error::kTimeout, item, to - from};
}

Status TpmTransport::fifo_execute(Bytes command) {
    constexpr std::uint32_t kExpecting = kStatusValid | kStatusExpect, kAnswered = kStatusValid | kStatusDataAvailable;
    const auto put = [&](std::size_t i) { bus_.write(at(kDataFifo), std::to_integer<std::uint8_t>(command[i])); };
    bus_.write(at(kStatus), kStatusReady);
    GATEHOUSE_TRY(await(kStatus, kStatusReady, kStatusReady, kTimeoutB, "TPM does not get ready"));
    // It knows the command's size by its header: it expects more until the last byte, and no more after it.
    const std::size_t last = command.size() - 1;
    GATEHOUSE_TRY(fifo_move(0, last, 0, "TPM takes the command too slowly", put));
    GATEHOUSE_TRY(await(kStatus, kExpecting, kExpecting, kTimeoutC, "TPM stops taking the command"));
    GATEHOUSE_TRY(fifo_move(last, last + 1, 0, "TPM takes the command too slowly", put));
    GATEHOUSE_TRY(await(kStatus, kExpecting, kStatusValid, kTimeoutC, "TPM expects more than the command"));
    bus_.write(at(kStatus), kStatusGo);
    return await(kStatus, kAnswered, kAnswered, kTimeoutCommand, "TPM does not answer the command");
}

Status TpmTransport::fifo_receive(MutableBytes response, std::size_t from, std::size_t to) {
    return fifo_move(from, to, kStatusValid | kStatusDataAvailable, "TPM response ends early",
                     [&](std::size_t i) { response[i] = std::byte{bus_.read(at(kDataFifo))}; });
}

// --- CRB

Result<TpmBus::Register8> TpmTransport::crb_bytes(const CrbBuffer& buffer, std::size_t size) {
    const std::uint64_t address = bus_.read(at(buffer.address)) | std::uint64_t{bus_.read(at(buffer.address_upper))}
                                                                      << 32;
    const std::uint64_t capacity = bus_.read(at(buffer.size));
    const std::uint64_t page = kTpmBase + locality_ * 0x1000, first = page + kDataBuffer, end = page + 0x1000;
    if (address < first || address >= end) return {Error::kUnsupported, "TPM buffer", address};
    if (size > capacity || size > end - address) return {Error::kNoSpace, "TPM buffer", capacity};
    return TpmBus::Register8{static_cast<std::uint32_t>(address - kTpmBase)};
}

Status TpmTransport::crb_execute(Bytes command) {
    bus_.write(at(kControlRequest), kRequestReady);
    GATEHOUSE_TRY(await(kControlRequest, kRequestReady, 0, kTimeoutC, "TPM does not get ready"));
    GATEHOUSE_TRY(await(kControlStatus, kStatusIdle, 0, kTimeoutC, "TPM stays idle"));
    GATEHOUSE_ASSIGN(TpmBus::Register8 to, crb_bytes(kCommandBuffer, command.size()));
    for (const std::byte byte : command) bus_.write(to, std::to_integer<std::uint8_t>(byte)), ++to.offset;
    bus_.write(at(kControlStart), 1);
    const Status answered = await(kControlStart, 1, 0, kTimeoutCommand, "TPM does not answer the command");
    if (answered.error() == Error::kTimeout) {
        bus_.write(at(kControlCancel), 1);
        (void)await(kControlStart, 1, 0, kTimeoutB, "TPM does not cancel the command");
        bus_.write(at(kControlCancel), 0);
    }
    GATEHOUSE_TRY(answered);
    return read(kControlStatus).failure();
}

Status TpmTransport::crb_receive(MutableBytes response, std::size_t from, std::size_t to) {
    GATEHOUSE_ASSIGN(TpmBus::Register8 next, crb_bytes(kResponseBuffer, to));
    next.offset += static_cast<std::uint32_t>(from);
    for (; from < to; ++from, ++next.offset) response[from] = std::byte{bus_.read(next)};
    return {};
}

}  // namespace gatehouse::platform
