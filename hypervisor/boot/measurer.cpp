#include "hypervisor/boot/measurer.hpp"

#include <algorithm>

namespace gatehouse::boot {

Measurer::Digests Measurer::hash_in_all_banks(Bytes object) const {
    Digests digests{.all = {}, .count = 0};
    for (const HashAlgorithm bank : log_.banks().all()) digests.all[digests.count++] = hash(bank, object);
    return digests;
}

Status Measurer::extend(evidence::MeasurementTag tag, Bytes object) {
    const auto measurement = std::ranges::find(evidence::kMeasurements, tag, &evidence::Measurement::tag);
    if (measurement == evidence::kMeasurements.end()) return {Error::kNotFound, "measurement tag"};
    return extend(*measurement, object);
}

Status Measurer::extend(const evidence::Measurement& measurement, Bytes object) {
    const Digests digests = hash_in_all_banks(object);
    GATEHOUSE_TRY(tpm_.pcr_extend(measurement.pcr, digests.span()));
    return log_.append(measurement, digests.span());
}

Status Measurer::cap() {
    const Digests digests = hash_in_all_banks(evidence::kCapData);
    for (const std::uint32_t pcr : evidence::kCappedPcrs) {
        GATEHOUSE_TRY(tpm_.pcr_extend(pcr, digests.span()));
        GATEHOUSE_TRY(log_.append_cap(pcr, digests.span()));
    }
    return {};
}

}  // namespace gatehouse::boot
