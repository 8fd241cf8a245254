#include "keyvault/volume/peek.hpp"

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::size_t kGenerationAt = 16;

void read_slot(Reader& reader, std::optional<KeySlot>& slot) {
    slot.reset();
    if (reader.u32() != 0) read(reader, slot.emplace().kek);
}

}  // namespace

Status peek(Bytes copy, Header& header) {
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy));
    Reader reader(covered);
    reader.skip(kGenerationAt);
    header.generation = reader.u64();
    reader.copy(header.disk);
    reader.copy(header.vault_id);
    header.slots.tpm.reset();
    if (reader.u32() != 0) GATEHOUSE_TRY(read_tpm_slot(reader, header.slots.tpm.emplace()));
    read_slot(reader, header.slots.recovery);
    read_slot(reader, header.slots.member);
    GATEHOUSE_TRY(reader.status("vault header: slots"));
    GATEHOUSE_TRY(read_layout(reader, header));
    read(reader, header.root);
    header.member_count = reader.u32();
    if (header.member_count > kMaximumMembers) {
        return {Error::kBadValue, "vault header: number of members", header.member_count};
    }
    for (VaultId& member : std::span(header.members).first(header.member_count)) reader.copy(member);
    header.data_key.epoch = reader.u32();
    read(reader, header.data_key.key);
    header.cursor.state = static_cast<CursorState>(reader.u32());
    header.cursor.journal = reader.u32();
    header.cursor.next = reader.u64();
    header.cursor.count = reader.u64();
    GATEHOUSE_TRY(reader.status("vault header: body"));
    return validate(header);
}

}  // namespace gatehouse::volume
