#include "attestation/tool/endorsement_report.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <nlohmann/json.hpp>

#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/public_key.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;
using Bio = openssl::Pointer<BIO, BIO_free>;

constexpr std::size_t kMaxFile = 16u << 20;  // a bundle of all makers' CAs

// What is between the lines of PEM of this label (RFC 7468), or, where there are none, the whole file. Empty, of what
// has such lines and cannot be read.
std::vector<Buffer> blocks(const std::string& path, std::string_view label) {
    const Buffer file = host::read_file(path, kMaxFile);
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    if (text.find("-----BEGIN ") == std::string_view::npos) return {file};
    const Bio bio(BIO_new_mem_buf(file.data(), static_cast<int>(file.size())));
    std::vector<Buffer> found;
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    for (;;) {
        ERR_clear_error();
        if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) {
            if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) break;
            found.emplace_back();
            continue;
        }
        if (name == label) {
            const auto* const begin = reinterpret_cast<const std::byte*>(data);
            found.emplace_back(begin, begin + size);
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
    }
    ERR_clear_error();
    if (found.empty()) throw ToolError(path + ": no " + std::string(label) + " in it");
    return found;
}

void append(std::vector<Buffer>& to, const std::vector<std::string>& paths, std::string_view label) {
    for (const std::string& path : paths)
        for (Buffer& block : blocks(path, label)) to.push_back(std::move(block));
}

// TPMT_PUBLIC, of a file that has it as it is or as TPM2B_PUBLIC, with its size before it.
Buffer public_area(const std::string& path) {
    const Buffer file = host::read_file(path, kMaxFile);
    if (is_pem(file)) throw ToolError(path + ": " + kNoPublicArea);
    const Bytes inside = without_size(file);
    return {inside.begin(), inside.end()};
}

}  // namespace

bool is_pem(Bytes file) {
    return std::string_view(reinterpret_cast<const char*>(file.data()), file.size()).find("-----BEGIN ") !=
           std::string_view::npos;
}

host::Key read_any_public_key(const std::string& path) {
    const Buffer file = host::read_file(path, kMaxFile);
    if (is_pem(file)) return host::read_public_key(path);
    host::Key key = public_key(host::expect(parse_public_area(without_size(file)), path));
    if (!key) throw ToolError(path + ": not a key");
    return key;
}

EndorsementVerdict inspect_endorsement(const EndorsementRequest& request, std::time_t now) {
    Vendor vendor{.name = "what was given", .roots = {}, .intermediates = {}, .revocations = {}};
    append(vendor.roots, request.roots, "CERTIFICATE");
    append(vendor.intermediates, request.intermediates, "CERTIFICATE");
    append(vendor.revocations, request.revocations, "X509 CRL");
    TrustStore store;
    const std::vector<std::string> passed_over = store.add(vendor);
    EndorsementEvidence evidence{.certificate = blocks(request.certificate, "CERTIFICATE").front(),
                                 .chain = {},
                                 .public_area = public_area(request.public_area)};
    append(evidence.chain, request.chain, "CERTIFICATE");
    EndorsementVerdict verdict = verify_endorsement(evidence, store, now);
    // By option and number; whether the EK certificate needs what was passed over, the rules say.
    for (const std::string& one : passed_over) verdict.quirks.push_back("passed over of " + one);
    return verdict;
}

nlohmann::json endorsement_json(const EndorsementRequest& request, const EndorsementVerdict& verdict) {
    nlohmann::json rules = nlohmann::json::array();
    for (const Finding& finding : verdict.findings)
        rules.push_back({{"rule", finding.rule}, {"ok", finding.ok}, {"detail", finding.detail}});
    return {{"accepted", verdict.accepted()},
            {"rules", rules},
            {"quirks", verdict.quirks},
            {"manufacturer", verdict.manufacturer},
            {"model", verdict.model},
            {"version", verdict.version},
            {"ek_hash", host::hex(endorsement_hash(public_area(request.public_area)))}};
}

}  // namespace gatehouse::verifier
