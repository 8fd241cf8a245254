#include "hypervisor/launch/hand_off.hpp"

#include <algorithm>

namespace gatehouse::launch {

Result<HandOff> parse_hand_off(Bytes block) {
    HandOff hand_off;
    if (block.size() < sizeof(hand_off)) return {Error::kTruncated, "hand-off block", block.size()};
    std::memcpy(&hand_off, block.data(), sizeof(hand_off));
    if (hand_off.magic != kHandOffMagic) return {Error::kBadMagic, "hand-off block"};
    if (hand_off.version != kHandOffVersion) return {Error::kBadVersion, "hand-off block", hand_off.version};
    if (hand_off.event_log_size > block.size() - sizeof(hand_off)) {
        return {Error::kBadLength, "hand-off block: event log", hand_off.event_log_size};
    }
    if (hand_off.bank_count == 0 || hand_off.bank_count > kMaxBanks) {
        return {Error::kNoSpace, "hand-off block: PCR banks", hand_off.bank_count};
    }
    if (!std::ranges::all_of(hand_off.all_banks(), can_hash)) return {Error::kBadValue, "hand-off block: PCR bank"};
    return hand_off;
}

}  // namespace gatehouse::launch
