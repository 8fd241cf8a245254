#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::policies {
namespace {

std::size_t start(Writer& writer, Bytes magic, std::uint32_t version) {
    writer.bytes(magic);
    writer.u32(version);
    return writer.reserve<std::uint32_t>();
}

// Fills in the size, which is what has been written and `more` bytes, and checks it against the limit.
Result<std::size_t> finish(Writer& writer, std::size_t size_at, std::size_t limit, const char* item,
                           std::size_t more = 0) {
    GATEHOUSE_TRY(writer.status(item));
    if (writer.offset() + more > limit) return {Error::kBadValue, item, writer.offset() + more};
    writer.patch(size_at, static_cast<std::uint32_t>(writer.offset() + more));
    return writer.offset();
}

// An approval: `write_approved` writes what it is of; policy digest and signature follow.
template <typename Signed, typename Write>
Result<std::size_t> write_signed(MutableBytes out, const char (&magic)[9], const char* item, const Signed& approval,
                                 Write write_approved) {
    if (approval.signature.empty()) return {Error::kBadValue, "approval: no signature"};
    Writer writer(out);
    const std::size_t size_at = start(writer, literal_bytes(magic), kApprovalVersion);
    write_approved(writer);
    writer.bytes(approval.policy_digest);
    writer.sized(approval.signature);
    return finish(writer, size_at, kMaxApprovalSize, item);
}

}  // namespace

Result<std::size_t> write_bundle(const Bundle& bundle, MutableBytes out) {
    GATEHOUSE_TRY(check(bundle));
    Writer writer(out);
    const std::size_t size_at = start(writer, literal_bytes("GHPOLICY"), kBundleVersion);
    writer.u32(bundle.flags);
    writer.u32(bundle.counter_index);
    for (const Bytes field :
         {bundle.srk_name, bundle.vault_id, bundle.enrollment, bundle.authority, bundle.policy_ref}) {
        writer.sized(field);
    }
    return finish(writer, size_at, kMaxBundleSize, "policy bundle");
}

Result<std::size_t> write_approval(const Approval& approval, MutableBytes out) {
    return write_signed(out, "GHAPPROV", "policy approval", approval, [&](Writer& writer) {
        writer.u64(approval.counter_limit);
        writer.bytes(approval.pcr17);
        writer.bytes(approval.pcr18);
    });
}

Result<std::size_t> write_machine_approval(const MachineApproval& approval, MutableBytes out) {
    return write_signed(out, "GHMACHIN", "machine approval", approval,
                        [&](Writer& writer) { writer.bytes(approval.pcr19); });
}

Result<std::size_t> write_unsigned_record(const Record& record, MutableBytes out) {
    if (!is_storage_root(record.srk_name)) return {Error::kBadValue, "endpoint record: SRK name"};
    if (record.vault_id.size() != kSha256Size) return {Error::kBadValue, "endpoint record: vault id"};
    if (record.label.size() > kMaxLabel) return {Error::kBadValue, "endpoint record: label", record.label.size()};
    Writer writer(out);
    const std::size_t size_at = start(writer, literal_bytes("GHRECORD"), kRecordVersion);
    writer.bytes(record.srk_name);
    writer.bytes(record.vault_id);
    writer.sized(record.label);
    return finish(writer, size_at, kMaxRecordSize, "endpoint record", kRecordSignatureSize);
}

}  // namespace gatehouse::policies
