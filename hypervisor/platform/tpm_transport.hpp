// The TPM's register interfaces, FIFO ("TIS") and CRB, as a tpm::Transport at one locality.
//
// TCG PC Client Platform TPM Profile (PTP) 1.05, section 6; the older TIS 1.3 is the FIFO without an
// interface ID. Every wait is bounded by a time-out of the specification, every status is checked, and no
// byte of a response is stored before its size field has been checked against the buffer. A TPM that is
// missing, hung or talks nonsense is answered with one Failure, at most about 20 s later.
//
// Errors of all calls, each with an item that names the wait or register; detail is the register's last value:
//   kNotFound      there is no TPM
//   kUnsupported   an interface, a locality or a buffer that this TPM or this code does not have
//   kTimeout       a wait ended
//   kDeviceError   a status that contradicts itself, or an error status
//   kBadLength     a response whose size field is below 10 or above 4,096, or is not what the TPM delivers
//   kNoSpace       a response that does not fit
//   kState         the locality is not ours (any more)
#pragma once

#include "hypervisor/platform/io.hpp"
#include "keyvault/tpm/transport.hpp"

namespace gatehouse::platform {

inline constexpr std::uint64_t kTpmBase = 0xfed40000;
// Of the dynamically launched environment: the SLB and the hypervisor (TCG D-RTM Architecture 1.0).
inline constexpr unsigned kDynamicLocality = 2;
inline constexpr unsigned kTpmLocalities = 5;  // 0x1000 bytes of registers each

// The TPM's registers and the time. Offsets are from kTpmBase, below kTpmLocalities * 0x1000.
class TpmBus {
  public:
    using Register8 = Register<TpmBus, std::uint8_t>;
    using Register32 = Register<TpmBus, std::uint32_t>;
    virtual std::uint8_t read(Register8 reg) = 0;
    virtual std::uint32_t read(Register32 reg) = 0;
    virtual void write(Register8 reg, std::uint8_t value) = 0;
    virtual void write(Register32 reg, std::uint32_t value) = 0;
    // Never goes back. May run slow, which prolongs the waits, but not fast.
    virtual std::uint64_t microseconds() = 0;

  protected:
    ~TpmBus() = default;
};

// In the page of a locality; what the launcher needs too.
inline constexpr TpmBus::Register8 kTpmAccess{0x00};            // FIFO (PTP 6.5.2)
inline constexpr TpmBus::Register32 kTpmLocalityControl{0x08};  // CRB (PTP 6.5.3)
inline constexpr TpmBus::Register32 kTpmInterfaceId{0x30};      // of both (PTP 6.4.2)
inline constexpr std::uint32_t kTpmIdTypeMask = 0xf;
inline constexpr std::uint32_t kTpmIdCrb = 0x1;
inline constexpr std::uint8_t kTpmAccessActive = 1u << 5;  // written: relinquish

class TpmTransport final : public tpm::Transport {
  public:
    explicit TpmTransport(TpmBus& bus) : bus_(bus) {}
    TpmTransport(const TpmTransport&) = delete;

    // Before everything else: finds out the interface and requests the locality (0..4), which is never seized from
    // another one.
    [[nodiscard]] Status open(unsigned locality);

    // A command that times out is cancelled; the locality stays ours.
    Result<std::size_t> transmit(Bytes command, MutableBytes response) override;
    void pause() override;

  private:
    // A register of the open locality.
    template <typename Reg>
    [[nodiscard]] Reg at(Reg reg) const {
        return {locality_ * 0x1000 + reg.offset};
    }
    // All ones, where nothing answers, what contradicts itself, and a status of a fatal error are kDeviceError.
    template <typename T>
    [[nodiscard]] Result<T> read(Register<TpmBus, T> reg);
    // Waits until (register & mask) == value.
    template <typename T>
    [[nodiscard]] Status await(Register<TpmBus, T> reg, std::uint32_t mask, std::uint32_t value,
                               std::uint64_t microseconds, const char* item);
    // Waits until the locality is ours.
    [[nodiscard]] Status await_locality(std::uint64_t microseconds, const char* item);
    [[nodiscard]] Result<std::size_t> exchange(Bytes command, MutableBytes response);

    template <typename Move>
    [[nodiscard]] Status fifo_move(std::size_t from, std::size_t to, std::uint32_t needed, const char* item, Move move);
    [[nodiscard]] Status fifo_execute(Bytes command);
    // Bytes from..to of the response.
    [[nodiscard]] Status fifo_receive(MutableBytes response, std::size_t from, std::size_t to);

    struct CrbBuffer {
        TpmBus::Register32 size, address, address_upper;
    };
    static constexpr CrbBuffer kCommandBuffer{{0x58}, {0x5c}, {0x60}}, kResponseBuffer{{0x64}, {0x68}, {0x6c}};
    // The first of `size` bytes of a buffer, whose address and size are in these registers.
    [[nodiscard]] Result<TpmBus::Register8> crb_bytes(const CrbBuffer& buffer, std::size_t size);
    [[nodiscard]] Status crb_execute(Bytes command);
    [[nodiscard]] Status crb_receive(MutableBytes response, std::size_t from, std::size_t to);

    TpmBus& bus_;
    std::uint32_t locality_ = 0;
    bool crb_ = false;
};

}  // namespace gatehouse::platform
