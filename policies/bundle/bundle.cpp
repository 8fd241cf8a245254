#include "policies/bundle/bundle.hpp"

#include <bearssl/bearssl_ec.h>

#include <algorithm>

namespace gatehouse::policies {
namespace {

constexpr std::byte kNameAlgorithm[2] = {std::byte{0x00}, std::byte{0x0b}};  // SHA-256

// Magic, version and size, which every file begins with.
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

}  // namespace

bool is_storage_root(Bytes srk_name) {
    return srk_name.size() == kNameSize && equal_bytes(srk_name.first(2), kNameAlgorithm);
}

Status check(const Bundle& bundle) {
    const bool pinned = !bundle.srk_name.empty() || !bundle.vault_id.empty();
    if ((bundle.flags & ~kKnownBundleFlags) != 0) return {Error::kBadValue, "policy bundle: flags", bundle.flags};
    if (pinned == !bundle.enrollment.empty()) {
        return {Error::kBadValue, "policy bundle: either an enrollment key or a pinned vault"};
    }
    if (pinned && !is_storage_root(bundle.srk_name)) return {Error::kBadValue, "policy bundle: SRK name"};
    if (pinned && bundle.vault_id.size() != kSha256Size) return {Error::kBadValue, "policy bundle: vault id"};
    if (!pinned && (bundle.enrollment.size() != kPointSize || bundle.enrollment[0] != std::byte{4})) {
        return {Error::kBadValue, "policy bundle: enrollment key"};
    }
    if (bundle.authority.empty()) return {Error::kBadValue, "policy bundle: no authority key"};
    if (bundle.policy_ref.size() > kMaxPolicyRef) return {Error::kBadValue, "policy bundle: policy reference"};
    return {};
}

Result<Bundle> parse_bundle(Bytes bytes) {
    constexpr const char* kItem = "policy bundle";
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, literal_bytes("GHPOLICY"), kBundleVersion, kMaxBundleSize, kItem));
    Bundle bundle;
    bundle.flags = reader.u32();
    bundle.counter_index = reader.u32();
    for (Bytes* field :
         {&bundle.srk_name, &bundle.vault_id, &bundle.enrollment, &bundle.authority, &bundle.policy_ref}) {
        *field = reader.sized();
    }
    GATEHOUSE_TRY(reader.finished(kItem));
    GATEHOUSE_TRY(check(bundle));
    return bundle;
}

Result<Approval> parse_approval(Bytes bytes) {
    constexpr const char* kItem = "policy approval";
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, literal_bytes("GHAPPROV"), kApprovalVersion, kMaxApprovalSize, kItem));
    Approval approval;
    approval.counter_limit = reader.u64();
    reader.copy(approval.pcr17);
    reader.copy(approval.pcr18);
    reader.copy(approval.policy_digest);
    approval.signature = reader.sized();
    GATEHOUSE_TRY(reader.finished(kItem));
    if (approval.signature.empty()) return {Error::kBadValue, "policy approval: no signature"};
    return approval;
}

Result<MachineApproval> parse_machine_approval(Bytes bytes) {
    constexpr const char* kItem = "machine approval";
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, literal_bytes("GHMACHIN"), kApprovalVersion, kMaxApprovalSize, kItem));
    MachineApproval approval;
    reader.copy(approval.pcr19);
    reader.copy(approval.policy_digest);
    approval.signature = reader.sized();
    GATEHOUSE_TRY(reader.finished(kItem));
    if (approval.signature.empty()) return {Error::kBadValue, "machine approval: no signature"};
    return approval;
}

Result<Record> parse_record(Bytes bytes, Bytes enrollment) {
    constexpr const char* kItem = "endpoint record";
    Reader reader(bytes);
    GATEHOUSE_TRY(read_start(reader, bytes, literal_bytes("GHRECORD"), kRecordVersion, kMaxRecordSize, kItem));
    Record record;
    record.srk_name = reader.bytes(kNameSize);
    record.vault_id = reader.bytes(kSha256Size);
    record.label = reader.sized();
    const std::size_t covered = reader.offset();
    const Bytes signature = reader.bytes(kRecordSignatureSize);
    GATEHOUSE_TRY(reader.finished(kItem));
    if (!is_storage_root(record.srk_name)) return {Error::kBadValue, "endpoint record: SRK name"};
    if (record.label.size() > kMaxLabel) return {Error::kBadValue, "endpoint record: label", record.label.size()};
    const Sha256Digest digest = sha256(bytes.first(covered));
    std::array<unsigned char, kPointSize> point{};
    copy_bytes(std::as_writable_bytes(std::span(point)), enrollment.first(std::min(point.size(), enrollment.size())));
    const br_ec_public_key key{BR_EC_secp256r1, point.data(), point.size()};
    if (br_ecdsa_i31_vrfy_raw(&br_ec_p256_m31, digest.data(), digest.size(), &key, signature.data(),
                              signature.size()) != 1) {
        return {Error::kBadSignature, "endpoint record: not signed by the enrollment key"};
    }
    return record;
}

}  // namespace gatehouse::policies
