// What programs that use ESAPI share: errors in words, and owners of what it hands out.
#pragma once

#include <tss2/tss2_esys.h>
#include <tss2/tss2_rc.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

// ToolError "TPM: WHAT: REASON".
inline void check(TSS2_RC code, const char* what) {
    if (code != TSS2_RC_SUCCESS) throw ToolError(std::string("TPM: ") + what + ": " + Tss2_RC_Decode(code));
}

// What ESAPI allocated.
template <typename T>
struct Freed {
    T* pointer = nullptr;
    Freed() = default;
    ~Freed() { Esys_Free(pointer); }
    Freed(const Freed&) = delete;
    Freed& operator=(const Freed&) = delete;
    T* operator->() const { return pointer; }
};

// A transient object or session, flushed when it goes.
struct Transient {
    ESYS_CONTEXT* context;
    ESYS_TR handle = ESYS_TR_NONE;
    explicit Transient(ESYS_CONTEXT* of) : context(of) {}
    ~Transient() {
        if (handle != ESYS_TR_NONE) (void)Esys_FlushContext(context, handle);
    }
    Transient(const Transient&) = delete;
    Transient& operator=(const Transient&) = delete;
};

[[nodiscard]] inline const std::uint8_t* octets(Bytes bytes) {
    return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

}  // namespace gatehouse::host
