// The guest's vector registers stay in the processor while the hypervisor runs; code that uses them (BearSSL,
// AES-XTS, anything not compiled with -mgeneral-regs-only) runs within a VectorSection.
#pragma once

namespace gatehouse::cpu {

// The two ends of a section, in pairs on one processor, for where a scope does not fit.
void begin_vectors();
void end_vectors();

// Saves x87, XMM0-15 and MXCSR of this processor and gives them back at its end; where the disk's key uses VAES, all of
// YMM and ZMM0-15 as well (extended_state.hpp). Elsewhere their upper parts are neither saved nor touched: only what asks
// CPUID and XCR0 within may use VEX encodings, nothing EVEX. Sections nest; only the outermost saves.
// About 100 ns by FXSAVE, several times that where XCR0 is changed and ZMM saved.
class VectorSection {
  public:
    VectorSection() { begin_vectors(); }
    ~VectorSection() { end_vectors(); }
    VectorSection& operator=(VectorSection&&) = delete;  // nor any other
};

// Clears what this processor may still hold of a secret: the registers above, its saved copy of the guest's,
// and its main stack below the caller's frame (all of it, on an exception's stack: there is no way back). Not
// within a section, but where the machine stops.
void forget_secrets();

}  // namespace gatehouse::cpu
