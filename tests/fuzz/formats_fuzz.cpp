// Others' formats: the first byte says which.
#include <openssl/ec.h>
#include <openssl/evp.h>

#include "attestation/formats/corim_map.hpp"
#include "attestation/formats/others_evidence.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::formats;

namespace {

// Views into the input, in bounds, as many as the reader allows.
std::size_t check(const CborItem& item, Bytes input, std::size_t depth) {
    fuzz::require(depth <= kMaxCborDepth && fuzz::is_view_of(input, item.bytes));
    std::size_t items = 1;
    for (const CborItem& one : item.items) items += check(one, input, depth + 1);
    return items;
}

void read_files(Bytes input) {
    const EvidenceFiles files = read_tar(input, "input");
    fuzz::require(files.size() <= kMaxEvidenceFiles);
    (void)is_others_evidence(files);
    (void)read_others_evidence(files);
}

// Four files of tpm2-tools, each with its size.
void read_tools(Bytes input) {
    fuzz::Fields fields(input);
    EvidenceFiles files;
    for (const char* const name : {"quote.out", "sig.out", "ak.pub", "pcrs.out"}) {
        const Bytes content = fields.next();
        files[name].assign(content.begin(), content.end());
    }
    (void)read_others_evidence(files);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const Bytes input = fuzz::input_bytes(data + 1, size - 1);
    static EVP_PKEY* const key = EVP_EC_gen("P-256");
    try {
        switch (data[0] % 6) {
            case 0: fuzz::require(check(read_cbor(input, "input"), input, 0) <= kMaxCborItems); break;
            case 1:
                (void)verify_cose(input, key, "input");
                fuzz::require(false);
                break;  // nobody has signed it
            case 2: (void)read_corim_map(input, 1'763'870'000, "input"); break;
            case 3: read_files(input); break;
            case 4: (void)read_others_evidence({{"a.json", host::Buffer(input.begin(), input.end())}}); break;
            default: read_tools(input); break;
        }
    } catch (const host::ToolError& error) {
        fuzz::require(std::string_view(error.what()).find('\n') == std::string_view::npos);
    }
    return 0;
}
