#include "keyvault/volume_writer/gpt_check.hpp"

namespace gatehouse::volume {

Status check_gpt_entries(const GptHeader& header, Bytes table) {
    if (table.size() != header.table_size()) return {Error::kBadLength, "GPT entries", table.size()};
    if (crc32(table) != header.entries_crc) return {Error::kBadChecksum, "GPT entries", header.entries_lba};
    for (std::uint32_t i = 0; i < header.entry_count; ++i) {
        const GptEntry entry = gpt_entry(table, i);
        if (!entry.used()) continue;
        if (entry.first > entry.last || entry.first < header.first_usable || entry.last > header.last_usable) {
            return {Error::kOutOfRange, "GPT entry", i};
        }
        for (std::uint32_t j = 0; j < i; ++j) {
            const GptEntry other = gpt_entry(table, j);
            if (other.used() && entry.first <= other.last && other.first <= entry.last) {
                return {Error::kOverlap, "GPT entry", i};
            }
        }
    }
    return {};
}

}  // namespace gatehouse::volume
