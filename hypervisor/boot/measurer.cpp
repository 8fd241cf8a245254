#include "hypervisor/boot/measurer.hpp"

namespace gatehouse::boot {

std::span<const Digest> Measurer::hash_in_all_banks(Bytes object) {
    std::size_t count = 0;
    for (const HashAlgorithm bank : log_.banks()) digests_[count++] = hash(bank, object);
    return std::span(digests_).first(count);
}

Status Measurer::extend(const evidence::Measurement& measurement, Bytes object) {
    const auto digests = hash_in_all_banks(object);
    GATEHOUSE_TRY(tpm_.pcr_extend(measurement.pcr, digests));
    return log_.append(measurement, digests);
}

Status Measurer::cap() {
    const auto digests = hash_in_all_banks(evidence::kCapData);
    Status result;
    for (const std::uint32_t pcr : evidence::kCappedPcrs) {  // each, whatever comes of the one before
        Status capped = tpm_.pcr_extend(pcr, digests);
        if (capped) capped = log_.append_cap(pcr, digests);
        if (result) result = capped;
    }
    return result;
}

}  // namespace gatehouse::boot
