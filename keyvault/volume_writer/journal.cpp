#include "keyvault/volume_writer/journal.hpp"

#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::size_t kCountAt = 16;
constexpr std::size_t kMacAt = 24;

}  // namespace

Journal::Journal(const Kek& kek) {
    const WrappingKey key = derive_key(kek.bytes(), literal_bytes("gatehouse vault v2: journal"));
    br_hmac_key_init(&key_, &br_sha256_vtable, key.bytes().data(), key.bytes().size());
}

Sha256Digest Journal::hmac(Bytes first, Bytes second) const {
    br_hmac_context context;
    br_hmac_init(&context, &key_, 0);
    br_hmac_update(&context, first.data(), first.size());
    br_hmac_update(&context, second.data(), second.size());
    Sha256Digest digest;
    br_hmac_out(&context, digest.data());
    return digest;
}

Journal::SectorMac Journal::mac(std::uint64_t lba, Bytes ciphertext) const {
    std::array<std::byte, sizeof(lba)> number{};
    store(number.data(), lba, Endian::kLittle);
    SectorMac mac{};
    copy_bytes(mac, Bytes(hmac(number, ciphertext)).first(mac.size()));
    return mac;
}

Result<std::size_t> Journal::write(std::uint64_t first, Bytes ciphertext, std::size_t sector_size,
                                   MutableBytes out) const {
    if (ciphertext.size() % sector_size != 0 || ciphertext.size() > kWindowSize) {
        return {Error::kBadLength, "journal: window", ciphertext.size()};
    }
    const std::size_t count = ciphertext.size() / sector_size;
    Writer writer(out);
    writer.bytes(literal_bytes("GHJOURN1"));
    writer.u64(first);
    writer.u64(count);
    writer.zeros(kJournalHeadSize - kMacAt);
    for (std::size_t i = 0; i < count; ++i) {
        writer.bytes(mac(first + i, ciphertext.subspan(i * sector_size, sector_size)));
    }
    const std::size_t used = writer.offset();
    writer.zeros((kHeaderAlignment - used % kHeaderAlignment) % kHeaderAlignment);
    GATEHOUSE_TRY(writer.status("journal"));
    copy_bytes(out.subspan(kMacAt), hmac(out.first(kMacAt), out.subspan(kJournalHeadSize, count * kSectorMacSize)));
    return writer.offset();
}

Result<Bytes> Journal::read(std::uint64_t first, std::uint64_t count, Bytes area) const {
    Reader reader(area);
    const Bytes magic = reader.bytes(8);
    const std::uint64_t found_first = reader.u64();
    const std::uint64_t found_count = reader.u64();
    const Bytes authentic = reader.bytes(kSha256Size);
    reader.skip(kJournalHeadSize - kMacAt - kSha256Size);
    if (found_count > reader.remaining() / kSectorMacSize) return {Error::kBadLength, "journal", found_count};
    const Bytes macs = reader.bytes(found_count * kSectorMacSize);
    if (!equal_bytes(magic, literal_bytes("GHJOURN1")) || found_first != first || found_count != count ||
        !equal_secret(authentic, hmac(area.first(kMacAt), macs))) {
        return {Error::kBadMac, "journal: not that of the window"};
    }
    return macs;
}

Result<std::uint64_t> Journal::window(std::uint64_t first, Bytes area) const {
    if (area.size() < kJournalHeadSize) return {Error::kBadLength, "journal", area.size()};
    const auto count = load<std::uint64_t>(area.data() + kCountAt, Endian::kLittle);
    GATEHOUSE_TRY(read(first, count, area));
    return count;
}

}  // namespace gatehouse::volume
