#include "keyvault/volume/previous_key.hpp"

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {

Status read_previous_key(Bytes record, const Header& header, const Kek& kek, Dek& dek) {
    Reader reader(record);
    const Bytes magic = previous_key_magic();
    if (!equal_bytes(reader.bytes(magic.size()), magic)) return {Error::kBadMagic, "record of the key before"};
    DataKey key{.epoch = reader.u32(), .key = {}};
    read(reader, key.key);
    GATEHOUSE_TRY(reader.status("record of the key before"));
    if (key.epoch + 1 != header.data_key.epoch) return {Error::kMismatch, "record of the key before: epoch", key.epoch};
    const auto epoch = encoded(key.epoch, Endian::kLittle);
    if (!unwrap(key.key, derive_key(kek.bytes(), dek_label()), {dek_label(), epoch, header.disk}, dek)) {
        return {Error::kAuthFailed, "record of the key before"};
    }
    return {};
}

}  // namespace gatehouse::volume
