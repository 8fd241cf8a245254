// The guest's vector registers stay in the processor while the hypervisor runs; code that uses them (BearSSL,
// AES-XTS, anything not compiled with -mgeneral-regs-only) runs within a VectorSection.
#pragma once

namespace gatehouse::cpu {

// The two ends of a section, in pairs on one processor, for where a scope does not fit.
void begin_vectors();
void end_vectors();

// Saves x87, XMM0-15 and MXCSR of this processor (FXSAVE64, APM vol. 2, 11.4.4) and gives them back at its
// end. The upper halves of YMM and ZMM are neither saved nor touched: only legacy-SSE encodings may be used
// within, no VEX or EVEX. Sections nest; only the outermost saves. About 100 ns.
class VectorSection {
  public:
    VectorSection() { begin_vectors(); }
    ~VectorSection() { end_vectors(); }
    VectorSection(const VectorSection&) = delete;
    VectorSection& operator=(const VectorSection&) = delete;
};

// Clears what this processor may still hold of a secret: x87 and XMM registers, its saved copy of the guest's,
// and its main stack below the caller's frame (all of it, on an exception's stack: there is no way back). Not
// within a section. The upper halves of YMM and ZMM never hold anything of the hypervisor's (above).
void forget_secrets();

}  // namespace gatehouse::cpu
