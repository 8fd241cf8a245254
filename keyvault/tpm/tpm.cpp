#include "keyvault/tpm/tpm.hpp"

#include <algorithm>

#include "keyvault/tpm/command.hpp"

namespace gatehouse::tpm {
namespace {

// Loads an object, which must have the Name of `public_area`.
Result<Flushed> take_object(Tpm& tpm, Command& command, Bytes public_area) {
    GATEHOUSE_ASSIGN(const Response response, command.execute(true));
    Reader reader = response.reader();
    const bool expected = equal_bytes(reader.sized(), name_of(public_area));
    const Status finished = reader.finished(command.name());
    Flushed object(tpm, response.handle);
    GATEHOUSE_TRY(finished);
    if (!expected) return malformed(command.name(), Error::kMismatch);
    return object;
}

// The Name of a public area, by the algorithm that it states at `at`; it must be the `reported` one.
Result<Digest> check_name(Bytes area, std::size_t at, Bytes reported, const char* command) {
    Reader fields(area, Endian::kBig);
    fields.skip(at);
    const auto algorithm = static_cast<HashAlgorithm>(fields.u16());
    if (!can_hash(algorithm))
        return {Error::kUnsupported, "TPM: Name algorithm", static_cast<std::uint64_t>(algorithm)};
    const Digest digest = hash(algorithm, area);
    Reader name(reported, Endian::kBig);
    if (name.u16() != static_cast<std::uint16_t>(algorithm) || !equal_bytes(name.rest(), digest.bytes())) {
        return malformed(command, Error::kMismatch);
    }
    return digest;
}

// TPM2_GetCapability (Part 3, 30.2): the elements of the list that the capability is; their number is
// `count`.
Result<Bytes> get_capability(Tpm& tpm, TPM2_CAP capability, std::uint32_t property, std::uint32_t& count) {
    Command command(tpm, TPM2_CC_GetCapability, "TPM2_GetCapability");
    command.parameters().u32(capability);
    command.parameters().u32(property);
    command.parameters().u32(1);
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const std::uint8_t more_data = reader.u8();
    const std::uint32_t found = reader.u32();
    count = reader.u32();
    GATEHOUSE_TRY(reader.status(command.name()));
    // A list of banks comes whole or not at all.
    if (found != capability || more_data > 1 || (capability == TPM2_CAP_PCRS && more_data != 0)) {
        return malformed(command.name());
    }
    return reader.rest();
}

}  // namespace

Flushed& Flushed::operator=(Flushed&& other) noexcept {
    if (this != &other) {
        release();
        tpm_ = std::exchange(other.tpm_, nullptr);
        handle_ = other.handle_;
    }
    return *this;
}

void Flushed::release() {
    if (tpm_ != nullptr) (void)tpm_->flush(handle_);
    tpm_ = nullptr;
}

Result<BankList> Tpm::active_banks() {
    std::uint32_t count = 0;
    GATEHOUSE_ASSIGN(const Bytes elements, get_capability(*this, TPM2_CAP_PCRS, 0, count));
    Reader reader(elements, Endian::kBig);
    BankList list;
    for (; count != 0 && !reader.failed(); --count) {
        const auto bank = static_cast<HashAlgorithm>(reader.u16());
        const Bytes bitmap = reader.bytes(reader.u8());
        std::uint32_t pcrs = 0;
        if (bitmap.size() > sizeof(pcrs)) return {Error::kBadLength, "TPM2_GetCapability", bitmap.size()};
        for (std::size_t i = 0; i < bitmap.size(); ++i) pcrs |= std::to_integer<std::uint32_t>(bitmap[i]) << (8 * i);
        if (pcrs == 0) continue;
        if (list.count == BankList::kCapacity) return {Error::kNoSpace, "TPM2_GetCapability", count};
        list.entries[list.count++] = {bank, pcrs};
    }
    GATEHOUSE_TRY(reader.finished("TPM2_GetCapability"));
    return list;
}

Result<std::uint32_t> Tpm::property(TPM2_PT property) {
    std::uint32_t count = 0;
    GATEHOUSE_ASSIGN(const Bytes elements, get_capability(*this, TPM2_CAP_TPM_PROPERTIES, property, count));
    Reader reader(elements, Endian::kBig);
    if (count == 0) return {Error::kNotFound, "TPM property", property};
    const TPM2_PT found = reader.u32();
    const std::uint32_t value = reader.u32();
    GATEHOUSE_TRY(reader.finished("TPM2_GetCapability"));
    if (found != property) return {Error::kNotFound, "TPM property", property};
    return value;
}

Result<bool> Tpm::handle_exists(TPM2_HANDLE handle) {
    std::uint32_t count = 0;
    GATEHOUSE_ASSIGN(const Bytes elements, get_capability(*this, TPM2_CAP_HANDLES, handle, count));
    Reader reader(elements, Endian::kBig);
    if (count == 0) return false;
    const TPM2_HANDLE found = reader.u32();
    GATEHOUSE_TRY(reader.finished("TPM2_GetCapability"));
    return found == handle;
}

Status Tpm::pcr_extend(unsigned pcr, std::span<const Digest> digests) {
    Command command(*this, TPM2_CC_PCR_Extend, "TPM2_PCR_Extend");
    command.handle(pcr).password();
    Writer& parameters = command.parameters();
    parameters.u32(static_cast<std::uint32_t>(digests.size()));
    for (const Digest& digest : digests) {
        parameters.u16(static_cast<std::uint16_t>(digest.algorithm));
        parameters.bytes(digest.bytes());
    }
    return command.finish();
}

Result<Digest> Tpm::pcr_read(HashAlgorithm bank, unsigned pcr) {
    Command command(*this, TPM2_CC_PCR_Read, "TPM2_PCR_Read");
    if (pcr >= 24) return {Error::kOutOfRange, command.name(), pcr};
    const PcrSelection selection{bank, 1u << pcr};
    write_selections(command.parameters(), std::span(&selection, 1));
    std::array<std::byte, 10> echo{};
    Writer expected(echo, Endian::kBig);
    write_selections(expected, std::span(&selection, 1));

    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    (void)reader.u32();  // the update counter
    const Bytes selected = reader.bytes(echo.size());
    const std::uint32_t count = reader.u32();
    const Bytes value = reader.sized();
    // Of a bank or PCR that does not exist, another selection comes back and no digest.
    if (!equal_bytes(selected, echo) || count != 1) return malformed(command.name(), Error::kMismatch);
    GATEHOUSE_TRY(reader.finished(command.name()));
    Digest digest{.algorithm = bank};
    if (value.size() != digest_size(bank)) return {Error::kBadLength, command.name(), value.size()};
    copy_bytes(digest.storage, value);
    return digest;
}

Status Tpm::shutdown() {
    Command command(*this, TPM2_CC_Shutdown, "TPM2_Shutdown");
    command.parameters().u16(TPM2_SU_CLEAR);
    return command.finish();
}

Status Tpm::get_random(MutableBytes out) {
    while (!out.empty()) {
        // The most that every TPM gives at a time: the size of its smallest digest that matters here.
        const std::size_t wanted = std::min(out.size(), kSha256Size);
        Command command(*this, TPM2_CC_GetRandom, "TPM2_GetRandom");
        command.parameters().u16(static_cast<std::uint16_t>(wanted));
        GATEHOUSE_ASSIGN(const Response response, command.execute());
        Reader reader = response.reader();
        const Bytes random = reader.sized();
        GATEHOUSE_TRY(reader.finished(command.name()));
        if (random.empty() || random.size() > wanted) return {Error::kBadLength, command.name(), random.size()};
        copy_bytes(out, random);
        out = out.subspan(random.size());
    }
    return {};
}

Result<PublicArea> Tpm::read_public(TPM2_HANDLE object) {
    Command command(*this, TPM2_CC_ReadPublic, "TPM2_ReadPublic");
    command.handle(object);
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const Bytes area = reader.sized();
    const Bytes name = reader.sized();
    (void)reader.sized();  // the qualified Name, which depends on the parents
    GATEHOUSE_TRY(reader.finished(command.name()));
    GATEHOUSE_TRY(check_name(area, 2, name, command.name()));
    PublicArea result;
    GATEHOUSE_TRY(result.assign(area, command.name()));
    return result;
}

Result<Flushed> Tpm::load_external(Bytes public_area) {
    Command command(*this, TPM2_CC_LoadExternal, "TPM2_LoadExternal");
    command.parameters().sized({});  // no private part
    command.parameters().sized(public_area);
    command.parameters().u32(TPM2_RH_OWNER);
    return take_object(*this, command, public_area);
}

Result<Flushed> Tpm::load(TPM2_HANDLE parent, Bytes private_blob, Bytes public_area) {
    Command command(*this, TPM2_CC_Load, "TPM2_Load");
    command.handle(parent).password();
    command.parameters().sized(private_blob);
    command.parameters().sized(public_area);
    return take_object(*this, command, public_area);
}

Status Tpm::flush(TPM2_HANDLE handle) {
    Command command(*this, TPM2_CC_FlushContext, "TPM2_FlushContext");
    command.parameters().u32(handle);  // a parameter, not in the handle area (Part 3, 28.4)
    return command.finish();
}

Result<Ticket> Tpm::verify_signature(TPM2_HANDLE key, const Sha256Digest& digest, Bytes signature) {
    Command command(*this, TPM2_CC_VerifySignature, "TPM2_VerifySignature");
    command.handle(key);
    command.parameters().sized(digest);
    command.parameters().bytes(signature);
    GATEHOUSE_ASSIGN(const Response response, command.execute());
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

Result<NvPublic> Tpm::nv_read_public(TPM2_HANDLE index) {
    Command command(*this, TPM2_CC_NV_ReadPublic, "TPM2_NV_ReadPublic");
    command.handle(index);
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const Bytes area = reader.sized();
    const Bytes name = reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    Reader fields(area, Endian::kBig);
    NvPublic result{.index = fields.u32()};
    (void)fields.u16();  // name algorithm
    result.attributes = fields.u32();
    (void)fields.sized();  // policy
    result.data_size = fields.u16();
    GATEHOUSE_TRY(fields.finished(command.name()));
    GATEHOUSE_ASSIGN(result.name, check_name(area, 4, name, command.name()));
    if (result.index != index) return malformed(command.name(), Error::kMismatch);
    return result;
}

Status Tpm::nv_read(TPM2_HANDLE authorization, TPM2_HANDLE index, std::size_t offset, MutableBytes out) {
    Command command(*this, TPM2_CC_NV_Read, "TPM2_NV_Read");
    command.handle(authorization).handle(index).password();
    command.parameters().u16(static_cast<std::uint16_t>(out.size()));
    command.parameters().u16(static_cast<std::uint16_t>(offset));
    GATEHOUSE_ASSIGN(const Response response, command.execute());
    Reader reader = response.reader();
    const Bytes data = reader.sized();
    GATEHOUSE_TRY(reader.finished(command.name()));
    if (data.size() != out.size()) return {Error::kBadLength, command.name(), data.size()};
    copy_bytes(out, data);
    return {};
}

Result<std::uint64_t> Tpm::nv_read_counter(TPM2_HANDLE index) {
    std::array<std::byte, sizeof(std::uint64_t)> value;
    GATEHOUSE_TRY(nv_read(index, index, 0, value));
    return gatehouse::load<std::uint64_t>(value.data(), Endian::kBig);
}

}  // namespace gatehouse::tpm
