// Policy bundles, approvals and endpoint records: measured code reads them.
#include "policies/bundle_writer/bundle_writer.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::policies;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input = fuzz::input_bytes(data, size);
    host::Buffer written(size + 64);
    // What is accepted has one encoding only.
    if (const auto bundle = parse_bundle(input); bundle.ok()) {
        const auto length = write_bundle(*bundle, written);
        fuzz::require(length.ok() && equal_bytes(Bytes(written).first(*length), input));
    }
    if (const auto approval = parse_approval(input); approval.ok()) {
        const auto length = write_approval(*approval, written);
        fuzz::require(length.ok() && equal_bytes(Bytes(written).first(*length), input));
    }
    if (const auto approval = parse_machine_approval(input); approval.ok()) {
        const auto length = write_machine_approval(*approval, written);
        fuzz::require(length.ok() && equal_bytes(Bytes(written).first(*length), input));
    }
    // Not a point of the curve: no record is good.
    std::array<std::byte, kPointSize> point{std::byte{4}};
    fuzz::require(!parse_record(input, point).ok());
    return 0;
}
