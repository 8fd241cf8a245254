#include "hypervisor/launch/hand_off.hpp"

#include "hypervisor/base/panic.hpp"

namespace gatehouse::launch {

void write_hand_off(const HandOff& hand_off, MutableBytes block) {
    Writer writer(block);
    writer.u64(kHandOffMagic);
    writer.u32(kHandOffVersion);
    writer.u32(static_cast<std::uint32_t>(hand_off.event_log.size()));
    writer.u32(hand_off.iommu_count);
    writer.u32(hand_off.dynamic_launch ? 1 : 0);
    writer.u32(static_cast<std::uint32_t>(hand_off.bank_count));
    for (const HashAlgorithm bank : hand_off.banks) writer.u16(static_cast<std::uint16_t>(bank));
    require(writer.offset() == kHandOffHeaderSize, "hand-off block: header size");
}

Result<HandOff> parse_hand_off(Bytes block) {
    Reader reader(block);
    HandOff hand_off;
    if (reader.u64() != kHandOffMagic) return {Error::kBadMagic, "hand-off block"};
    if (const std::uint32_t version = reader.u32(); version != kHandOffVersion) {
        return {Error::kBadVersion, "hand-off block", version};
    }
    const std::uint32_t event_log_size = reader.u32();
    hand_off.iommu_count = reader.u32();
    const std::uint32_t launch = reader.u32();
    if (launch > 1) return {Error::kBadValue, "hand-off block: launch", launch};
    hand_off.dynamic_launch = launch == 1;
    hand_off.bank_count = reader.u32();
    if (hand_off.bank_count == 0 || hand_off.bank_count > kMaxBanks) {
        return {Error::kNoSpace, "hand-off block: PCR banks", hand_off.bank_count};
    }
    for (HashAlgorithm& bank : hand_off.banks) bank = HashAlgorithm{reader.u16()};
    for (const HashAlgorithm bank : hand_off.all_banks()) {
        if (!can_hash(bank)) {
            return {Error::kBadValue, "hand-off block: PCR bank", static_cast<std::uint16_t>(bank)};
        }
    }
    hand_off.event_log = reader.bytes(event_log_size);
    GATEHOUSE_TRY(reader.status("hand-off block"));
    return hand_off;
}

}  // namespace gatehouse::launch
