#include "hypervisor/base/result.hpp"

namespace gatehouse {

const char* error_name(Error error) {
    switch (error) {
        case Error::kNone: return "no error";
        case Error::kTruncated: return "truncated";
        case Error::kTrailingBytes: return "trailing bytes";
        case Error::kBadMagic: return "bad magic";
        case Error::kBadVersion: return "unknown version";
        case Error::kBadLength: return "bad length";
        case Error::kBadChecksum: return "bad checksum";
        case Error::kBadMac: return "bad MAC";
        case Error::kBadSignature: return "bad signature";
        case Error::kBadValue: return "bad value";
        case Error::kOutOfRange: return "out of range";
        case Error::kOverlap: return "overlap";
        case Error::kMisaligned: return "misaligned";
        case Error::kNoSpace: return "no space";
        case Error::kNotFound: return "not found";
        case Error::kUnsupported: return "unsupported";
        case Error::kTimeout: return "time-out";
        case Error::kDeviceError: return "device error";
        case Error::kTpmError: return "TPM error";
        case Error::kAuthFailed: return "authorization failed";
        case Error::kMismatch: return "mismatch";
        case Error::kRefused: return "refused by policy";
        case Error::kState: return "wrong state";
    }
    return "unknown error";
}

}  // namespace gatehouse
