// What programs that use ESAPI share: the way to a TPM, errors in words, and owners of what it hands out.
#pragma once

#include <tss2/tss2_esys.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

// What a TPM answered, or the way to it.
class TpmError : public ToolError {
  public:
    TpmError(TSS2_RC code, const char* what)
        : ToolError(std::string("TPM: ") + what + ": " + Tss2_RC_Decode(code)), code_(code) {}
    // The TPM's own, as Part 2, 6.6 has it, or a resource manager's in the TPM's words: without the layer it came from.
    [[nodiscard]] TSS2_RC code() const { return code_ & ~static_cast<TSS2_RC>(TSS2_RC_LAYER_MASK); }
    // Of format one, without the number of the parameter, handle or session that is meant; 0 of another format.
    [[nodiscard]] TSS2_RC error() const { return (code_ & TPM2_RC_FMT1) == 0 ? 0 : code() & (TPM2_RC_FMT1 | 0x3f); }

  private:
    TSS2_RC code_;
};

// TpmError "TPM: WHAT: REASON".
inline void check(TSS2_RC code, const char* what) {
    if (code != TSS2_RC_SUCCESS) throw TpmError(code, what);
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

// A TPM; the base of those that know what it is for. Errors: ToolError.
class EsapiTpm {
  public:
    EsapiTpm(const EsapiTpm&) = delete;
    EsapiTpm& operator=(const EsapiTpm&) = delete;

    [[nodiscard]] ESYS_CONTEXT* context() const { return context_; }
    // Whether there is a persistent object, or an NV index, of this handle.
    [[nodiscard]] bool exists(TPM2_HANDLE handle) const {
        Freed<TPMS_CAPABILITY_DATA> data;
        TPMI_YES_NO more = 0;
        check(Esys_GetCapability(context_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES, handle, 1, &more,
                                 &data.pointer),
              "handles");
        const TPML_HANDLE& handles = data->data.handles;
        return handles.count != 0 && handles.handle[0] == handle;
    }
    [[nodiscard]] ESYS_TR persistent(TPM2_HANDLE handle) const {
        ESYS_TR resource = ESYS_TR_NONE;
        check(Esys_TR_FromTPMPublic(context_, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &resource),
              "persistent handle");
        return resource;
    }

  protected:
    // `tcti` as in tctildr(3): "device:/dev/tpmrm0", "swtpm:path=/run/swtpm.sock"; `source` is how the operator named it.
    EsapiTpm(const std::string& tcti, const std::string& source) {
        if (Tss2_TctiLdr_Initialize(tcti.c_str(), &tcti_) != TSS2_RC_SUCCESS) {
            throw ToolError("TPM: cannot be reached by " + source);
        }
        if (const TSS2_RC code = Esys_Initialize(&context_, tcti_, nullptr); code != TSS2_RC_SUCCESS) {
            Tss2_TctiLdr_Finalize(&tcti_);
            check(code, "initialization");
        }
    }
    ~EsapiTpm() {
        Esys_Finalize(&context_);
        Tss2_TctiLdr_Finalize(&tcti_);
    }

  private:
    TSS2_TCTI_CONTEXT* tcti_ = nullptr;
    ESYS_CONTEXT* context_ = nullptr;
};

[[nodiscard]] inline const std::uint8_t* octets(Bytes bytes) {
    return reinterpret_cast<const std::uint8_t*>(bytes.data());
}
[[nodiscard]] inline Buffer to_buffer(const std::uint8_t* bytes, std::size_t size) {
    const Bytes view = std::as_bytes(std::span(bytes, size));
    return {view.begin(), view.end()};
}

}  // namespace gatehouse::host
