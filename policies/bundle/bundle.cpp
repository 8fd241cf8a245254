#include "policies/bundle/bundle.hpp"

namespace gatehouse::policies {
namespace {

Bytes bundle_magic() { return literal_bytes("GHPOLICY"); }
Bytes approval_magic() { return literal_bytes("GHAPPROV"); }
constexpr std::byte kNameAlgorithm[2] = {std::byte{0x00}, std::byte{0x0b}};  // SHA-256

// Magic, version and size, which both files begin with.
Status read_start(Reader& reader, Bytes file, Bytes magic, std::uint32_t version, std::size_t limit, const char* item) {
    const Bytes found = reader.bytes(magic.size());
    const std::uint32_t found_version = reader.u32();
    const std::uint32_t size = reader.u32();
    GATEHOUSE_TRY(reader.status(item));
    if (!equal_bytes(found, magic)) return {Error::kBadMagic, item};
    if (found_version != version) return {Error::kBadVersion, item, found_version};
    if (size > limit) return {Error::kBadLength, item, size};
    if (size > file.size()) return {Error::kTruncated, item, file.size()};
    if (size < file.size()) return {Error::kTrailingBytes, item, size};
    return {};
}

Status check(const Bundle& bundle) {
    if ((bundle.flags & ~kKnownBundleFlags) != 0) return {Error::kBadValue, "policy bundle: flags", bundle.flags};
    if (!is_storage_root(bundle.srk_name)) return {Error::kBadValue, "policy bundle: SRK name", bundle.srk_name.size()};
    if (bundle.authority.empty()) return {Error::kBadValue, "policy bundle: no authority key"};
    if (bundle.policy_ref.size() > kMaxPolicyRef) {
        return {Error::kBadValue, "policy bundle: policy reference", bundle.policy_ref.size()};
    }
    return {};
}

Status check(const Approval& approval) {
    if (approval.signature.empty()) return {Error::kBadValue, "policy approval: no signature"};
    return {};
}

// Fills in the size and checks it against the limit.
Result<std::size_t> finish(Writer& writer, std::size_t size_at, std::size_t limit, const char* item) {
    GATEHOUSE_TRY(writer.status(item));
    if (writer.offset() > limit) return {Error::kBadValue, item, writer.offset()};
    writer.patch(size_at, static_cast<std::uint32_t>(writer.offset()));
    return writer.offset();
}

}  // namespace

bool is_storage_root(Bytes srk_name) {
    return srk_name.size() == kNameSize && equal_bytes(srk_name.first(2), kNameAlgorithm);
}

Result<Bundle> parse_bundle(Bytes bytes) {
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, bundle_magic(), kBundleVersion, kMaxBundleSize, "policy bundle"));
    Bundle bundle;
    bundle.flags = reader.u32();
    bundle.counter_index = reader.u32();
    bundle.srk_name = reader.sized();
    bundle.authority = reader.sized();
    bundle.policy_ref = reader.sized();
    GATEHOUSE_TRY(reader.finished("policy bundle"));
    GATEHOUSE_TRY(check(bundle));
    return bundle;
}

Result<Approval> parse_approval(Bytes bytes) {
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, approval_magic(), kApprovalVersion, kMaxApprovalSize, "policy approval"));
    Approval approval;
    approval.counter_limit = reader.u64();
    reader.copy(approval.pcr17);
    reader.copy(approval.pcr18);
    reader.copy(approval.policy_digest);
    approval.signature = reader.sized();
    GATEHOUSE_TRY(reader.finished("policy approval"));
    GATEHOUSE_TRY(check(approval));
    return approval;
}

Result<std::size_t> write_bundle(const Bundle& bundle, MutableBytes out) {
    GATEHOUSE_TRY(check(bundle));
    Writer writer(out);
    writer.bytes(bundle_magic());
    writer.u32(kBundleVersion);
    const std::size_t size_at = writer.reserve<std::uint32_t>();
    writer.u32(bundle.flags);
    writer.u32(bundle.counter_index);
    writer.sized(bundle.srk_name);
    writer.sized(bundle.authority);
    writer.sized(bundle.policy_ref);
    return finish(writer, size_at, kMaxBundleSize, "policy bundle");
}

Result<std::size_t> write_approval(const Approval& approval, MutableBytes out) {
    GATEHOUSE_TRY(check(approval));
    Writer writer(out);
    writer.bytes(approval_magic());
    writer.u32(kApprovalVersion);
    const std::size_t size_at = writer.reserve<std::uint32_t>();
    writer.u64(approval.counter_limit);
    writer.bytes(approval.pcr17);
    writer.bytes(approval.pcr18);
    writer.bytes(approval.policy_digest);
    writer.sized(approval.signature);
    return finish(writer, size_at, kMaxApprovalSize, "policy approval");
}

}  // namespace gatehouse::policies
