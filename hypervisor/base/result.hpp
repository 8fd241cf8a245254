// Result<T>: a value or an error with the place it was found.
//
// Untrusted input is answered with an Error that climbs to whoever can name the item and go on; a broken
// invariant of our own is answered with panic() (panic.hpp). There is nothing in between.
#pragma once

#include <cstdint>
#include <utility>

#include "hypervisor/base/panic.hpp"

namespace gatehouse {

enum class Error : std::uint16_t {
    kNone = 0,
    kTruncated,      // input ends before the item does
    kTrailingBytes,  // input goes on after the item ended
    kBadMagic,       // signature or tag does not match
    kBadVersion,     // a version that this code does not know
    kBadLength,      // a length that contradicts its surroundings
    kBadChecksum,    // stored and computed checksum differ
    kBadMac,         // stored and computed MAC differ: forged, or another key's
    kBadSignature,   // signature does not verify
    kBadValue,       // a field outside of its domain
    kOutOfRange,     // an address or index outside of its region
    kOverlap,        // two regions that must be disjoint are not
    kMisaligned,     // an address that breaks its alignment
    kNoSpace,        // a fixed-size table, buffer or pool is full
    kNotFound,       // what was looked for is not there
    kUnsupported,    // well-formed, but not implemented by this code or this device
    kTimeout,        // a device did not answer within its specified time
    kDeviceError,    // a device answered with an error status
    kTpmError,       // the TPM answered with a response code; see Failure::detail
    kAuthFailed,     // a policy, HMAC or authorization was refused
    kMismatch,       // two values that must be equal are not
    kRefused,        // forbidden by policy
    kState,          // the call does not fit the state of its object
};

// Short English name of an error, for logs: "truncated", "bad MAC".
const char* error_name(Error error);

// What went wrong and where. `item` is a string literal that names the offending item ("vault header length").
// `detail` is the number that matters: a TPM response code, an offset, a register value.
struct Failure {
    Error error = Error::kNone;
    const char* item = "";
    std::uint64_t detail = 0;
};

// Success, or why not.
class [[nodiscard]] Status {
  public:
    constexpr Status() = default;
    constexpr Status(Failure failure) : failure_(failure) {}
    constexpr Status(Error error, const char* item, std::uint64_t detail = 0) : failure_{error, item, detail} {}

    [[nodiscard]] constexpr bool ok() const { return failure_.error == Error::kNone; }
    constexpr explicit operator bool() const { return ok(); }
    [[nodiscard]] constexpr const Failure& failure() const { return failure_; }
    [[nodiscard]] constexpr Error error() const { return failure_.error; }

  private:
    Failure failure_{};
};

template <typename T>
class [[nodiscard]] Result : public Status {
  public:
    using Status::Status;
    constexpr Result(T value) : value_(std::move(value)) {}

    // The value; a failure has none, and asking for it is a broken invariant (panic).
    [[gnu::always_inline]] constexpr T& value() { return require(ok(), "value of a failed Result"), value_; }
    [[gnu::always_inline]] constexpr const T& value() const {
        return require(ok(), "value of a failed Result"), value_;
    }
    [[gnu::always_inline]] constexpr T& operator*() { return value(); }
    [[gnu::always_inline]] constexpr const T& operator*() const { return value(); }
    [[gnu::always_inline]] constexpr T* operator->() { return &value(); }
    [[gnu::always_inline]] constexpr const T* operator->() const { return &value(); }

  private:
    T value_{};
};

}  // namespace gatehouse

// Leaves the function with the failure of `expression`, if it failed. For use with Status and Result<T>.
#define GATEHOUSE_TRY(expression)                                       \
    do {                                                                \
        if (auto&& gatehouse_try = (expression); !gatehouse_try.ok()) { \
            return gatehouse_try.failure();                             \
        }                                                               \
    } while (false)

// NOLINTBEGIN(bugprone-macro-parentheses): they are names and declarations
#define GATEHOUSE_CONCAT_(a, b) a##b
#define GATEHOUSE_CONCAT(a, b) GATEHOUSE_CONCAT_(a, b)
#define GATEHOUSE_ASSIGN_(temporary, declaration, expression) \
    auto temporary = (expression);                            \
    if (!temporary.ok()) return temporary.failure();          \
    declaration = std::move(temporary.value())
// GATEHOUSE_ASSIGN(auto x, f()): x is f()'s value, or the function is left with f()'s failure.
#define GATEHOUSE_ASSIGN(declaration, expression) \
    GATEHOUSE_ASSIGN_(GATEHOUSE_CONCAT(gatehouse_result_, __LINE__), declaration, expression)
// NOLINTEND(bugprone-macro-parentheses)
