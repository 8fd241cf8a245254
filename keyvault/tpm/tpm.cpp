#include "keyvault/tpm/tpm.hpp"

#include <algorithm>

#include "keyvault/tpm/command.hpp"

namespace gatehouse::tpm {
namespace {

// Loads an object, which must have the Name of `public_area`.
Result<Flushed> take_object(Tpm& tpm, Command& command, Bytes public_area) {
    GATEHOUSE_ASSIGN(const Response response, command.execute(true));
    Flushed object(tpm, response.handle);
    GATEHOUSE_ASSIGN(const Bytes name, response.sized());
    if (!equal_bytes(name, name_of(public_area))) return {Error::kMismatch, command.name()};
    return object;
}

}  // namespace

Flushed::~Flushed() {
    if (tpm_ != nullptr) (void)tpm_->flush(handle_);
}

// TPM2_GetCapability (Part 3, 30.2)
Result<BankList> Tpm::active_banks() {
    Command command(*this, TPM2_CC_GetCapability, "TPM2_GetCapability");
    command.with(TPM2_CAP_PCRS, std::uint32_t{0}, std::uint32_t{1});
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const std::uint8_t more_data = reader.u8();
    const TPM2_CAP found = reader.u32();
    // The list comes whole or not at all.
    if (found != TPM2_CAP_PCRS || more_data != 0) return {Error::kBadValue, command.name(), found};
    BankList list;
    for (std::uint32_t count = reader.u32(); count != 0 && !reader.failed(); --count) {
        const auto bank = static_cast<HashAlgorithm>(reader.u16());
        const Bytes bitmap = reader.bytes(reader.u8());
        if (std::ranges::all_of(bitmap, [](std::byte byte) { return byte == std::byte{0}; })) continue;
        if (list.count == BankList::kCapacity) return {Error::kNoSpace, command.name(), count};
        list.entries[list.count++] = bank;
    }
    GATEHOUSE_TRY(reader.finished(command.name()));
    return list;
}

Status Tpm::pcr_extend(unsigned pcr, std::span<const Digest> digests) {
    Command command(*this, TPM2_CC_PCR_Extend, "TPM2_PCR_Extend");
    command.with(pcr).password().with(static_cast<std::uint32_t>(digests.size()));
    for (const Digest& digest : digests) {
        command.with(static_cast<std::uint16_t>(digest.algorithm)).with_marshalled(digest.bytes());
    }
    return command.finish();
}

Result<Digest> Tpm::pcr_read(HashAlgorithm bank, unsigned pcr) {
    Command command(*this, TPM2_CC_PCR_Read, "TPM2_PCR_Read");
    const auto selection = marshalled({bank, 1u << pcr});
    GATEHOUSE_ASSIGN(const Response response, command.with_marshalled(selection).execute());
    Reader reader = response.reader();
    (void)reader.u32();  // the update counter
    const Bytes selected = reader.bytes(selection.size());
    const std::uint32_t count = reader.u32();
    const Bytes value = reader.sized();
    // Of a bank or PCR that does not exist, another selection comes back and no digest.
    if (!equal_bytes(selected, selection) || count != 1) return {Error::kMismatch, command.name()};
    GATEHOUSE_TRY(reader.finished(command.name()));
    Digest digest{.algorithm = bank};
    if (value.size() != digest_size(bank)) return {Error::kBadLength, command.name(), value.size()};
    copy_bytes(digest.storage, value);
    return digest;
}

Status Tpm::shutdown() { return Command(*this, TPM2_CC_Shutdown, "TPM2_Shutdown").with(TPM2_SU_CLEAR).finish(); }

Status Tpm::get_random(MutableBytes out) {
    while (!out.empty()) {
        // The most that every TPM gives at a time: the size of its smallest digest that matters here.
        const std::size_t wanted = std::min(out.size(), kSha256Size);
        Command command(*this, TPM2_CC_GetRandom, "TPM2_GetRandom");
        GATEHOUSE_ASSIGN(const Response response, command.with(static_cast<std::uint16_t>(wanted)).execute());
        GATEHOUSE_ASSIGN(const Bytes random, response.sized());
        if (random.empty() || random.size() > wanted) return {Error::kBadLength, command.name(), random.size()};
        copy_bytes(out, random);
        out = out.subspan(random.size());
    }
    return {};
}

Result<PublicArea> Tpm::read_public(TPM2_HANDLE object) {
    Command command(*this, TPM2_CC_ReadPublic, "TPM2_ReadPublic");
    GATEHOUSE_ASSIGN(const Response response, command.with(object).execute());
    Reader reader = response.reader();
    PublicArea area;
    GATEHOUSE_TRY(area.assign(reader.sized(), command.name()));
    (void)reader.sized();  // the Name
    (void)reader.sized();  // the qualified Name, which depends on the parents
    GATEHOUSE_TRY(reader.finished(command.name()));
    return area;
}

Result<Flushed> Tpm::load_external(Bytes public_area) {
    Command command(*this, TPM2_CC_LoadExternal, "TPM2_LoadExternal");
    constexpr Bytes kNoPrivatePart;
    return take_object(*this, command.with(kNoPrivatePart, public_area, TPM2_RH_OWNER), public_area);
}

Result<Flushed> Tpm::load(TPM2_HANDLE parent, Bytes private_blob, Bytes public_area) {
    Command command(*this, TPM2_CC_Load, "TPM2_Load");
    return take_object(*this, command.with(parent).password().with(private_blob, public_area), public_area);
}

// The handle is a parameter, not in the handle area (Part 3, 28.4).
Status Tpm::flush(TPM2_HANDLE handle) {
    return Command(*this, TPM2_CC_FlushContext, "TPM2_FlushContext").with(handle).finish();
}

Result<Ticket> Tpm::verify_signature(TPM2_HANDLE key, const Sha256Digest& digest, Bytes signature) {
    Command command(*this, TPM2_CC_VerifySignature, "TPM2_VerifySignature");
    GATEHOUSE_ASSIGN(const Response response, command.with(key, digest).with_marshalled(signature).execute());
    Reader reader = response.reader();
    const TPM2_ST tag = reader.u16();
    (void)reader.u32();  // hierarchy
    (void)reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    if (tag != TPM2_ST_VERIFIED) return {Error::kBadValue, command.name(), tag};
    Ticket ticket;
    GATEHOUSE_TRY(ticket.assign(response.parameters, command.name()));
    return ticket;
}

}  // namespace gatehouse::tpm
