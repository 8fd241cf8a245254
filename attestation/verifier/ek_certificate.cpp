#include "attestation/verifier/ek_certificate.hpp"

#include <openssl/err.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "attestation/verifier/public_key.hpp"

namespace gatehouse::verifier {
namespace {

// TCG PC Client Specific Implementation Specification 1.2, section 7.3.2: tag (0x1001), kind (0: full
// certificate), size, then tag (0x1002), then the DER.
constexpr std::uint16_t kStoredCertificate = 0x1001;
constexpr std::uint16_t kFullCertificate = 0x1002;

constexpr int kMaxSerialSize = 20;  // bytes; RFC 5280, section 4.1.2.2

constexpr unsigned kMostFailures = 256;  // of what looks like a certificate in a chain: reading one costs

// The size of the DER element at the front; 0 if there is none, or not all of it.
std::size_t der_size(Bytes bytes) {
    if (bytes.size() < 2 || bytes[0] != std::byte{0x30}) return 0;
    const auto first = std::to_integer<std::size_t>(bytes[1]);
    if (first < 0x80) return 2 + first <= bytes.size() ? 2 + first : 0;
    const std::size_t count = first - 0x80;
    if (count == 0 || count > 3 || bytes.size() < 2 + count) return 0;
    std::size_t size = 0;
    for (std::size_t i = 0; i < count; ++i) size = size << 8 | std::to_integer<std::size_t>(bytes[2 + i]);
    return size <= bytes.size() - 2 - count ? 2 + count + size : 0;
}

std::string openssl_reason() {
    const unsigned long code = ERR_peek_last_error();
    const char* const reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    std::string text = reason == nullptr ? "no reason given" : reason;
    // Early ST certificates have serial numbers with a leading zero too many.
    if (text == "illegal padding") text += "; perhaps a serial number that is not in its shortest form";
    ERR_clear_error();
    return text;
}

// "43 bytes of 0xff".
std::string describe_padding(Bytes bytes) {
    const bool same = std::ranges::all_of(bytes, [&](std::byte byte) { return byte == bytes[0]; });
    const std::string size = std::to_string(bytes.size()) + (bytes.size() == 1 ? " byte" : " bytes");
    const Bytes first = bytes.first(1);
    return same ? size + " of 0x" + host::hex(first) : size;
}

bool is_padding(Bytes bytes) {
    return std::ranges::all_of(bytes, [](std::byte one) { return one == std::byte{0} || one == std::byte{0xff}; });
}

// Whether a certificate may begin here: a SEQUENCE of more than 127 bytes that begins with one.
bool may_begin_certificate(Bytes bytes) {
    if (bytes.size() < 2 || bytes[0] != std::byte{0x30}) return false;
    const auto length = std::to_integer<std::size_t>(bytes[1]);
    const std::size_t header = length - 0x80 + 2;
    return length > 0x80 && length <= 0x83 && bytes.size() > header && bytes[header] == std::byte{0x30};
}

// Where in the certificate at the front, of that size, another one begins that goes on after it: the first is cut short,
// and has taken the next one's beginning for its own end. 0: nowhere.
std::size_t start_of_next_in(Bytes bytes, std::size_t size) {
    for (std::size_t at = 1; at < size; ++at) {
        const Bytes rest = bytes.subspan(at);
        if (may_begin_certificate(rest) && at + der_size(rest) > size && parse_certificate(rest).certificate) return at;
    }
    return 0;
}

// What is in the indices of a chain, end to end; and where each of them begins in it.
struct ChainBytes {
    host::Buffer all;
    std::vector<std::size_t> starts;  // one more than there are: the end

    [[nodiscard]] bool is_start(std::size_t at) const { return std::ranges::binary_search(starts, at); }
    // What is passed over, from `from` to `to`. The rest of an index may well be empty.
    void note_gap(std::size_t from, std::size_t to, const std::string& why, std::vector<std::string>& quirks) const {
        const Bytes gap = Bytes(all).subspan(from, to - from);
        if (gap.empty() || (is_padding(gap) && is_start(to))) return;
        const auto next = std::ranges::upper_bound(starts, from);
        quirks.push_back("chain: part " + std::to_string(next - starts.begin()) + " has no certificate at byte " +
                         std::to_string(from - *(next - 1)) + ": " + describe_padding(gap) + " passed over" +
                         (why.empty() ? "" : "; " + why));
    }
};

std::string text_of(const ASN1_STRING* string) {
    unsigned char* utf8 = nullptr;
    const int size = ASN1_STRING_to_UTF8(&utf8, string);
    if (size < 0) {
        ERR_clear_error();
        return "";
    }
    std::string text(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
    OPENSSL_free(utf8);
    return text;
}

std::string dotted(const ASN1_OBJECT* object) {
    char text[80] = "";
    OBJ_obj2txt(text, sizeof(text), object, 1);
    return text;
}

bool is_manufacturer(std::string_view text) {
    if (text.size() != 11 || !text.starts_with("id:")) return false;
    std::uint32_t id = 0;
    const auto [end, error] = std::from_chars(text.data() + 3, text.data() + text.size(), id, 16);
    return error == std::errc() && end == text.data() + text.size();
}

// OpenSSL does not decode an RSA key whose algorithm is given as RSAES-OAEP (as Infineon and ST did), and
// refuses to verify a path without the key. So the key is read again under RSA's ordinary name, in place: the
// certificate keeps the bytes that its signature is over.
bool read_oaep_key(X509* certificate) {
    X509_PUBKEY* stored = X509_get_X509_PUBKEY(certificate);
    ASN1_OBJECT* algorithm = nullptr;
    const unsigned char* encoded = nullptr;
    int size = 0;
    if (X509_PUBKEY_get0_param(&algorithm, &encoded, &size, nullptr, stored) != 1 ||
        OBJ_obj2nid(algorithm) != NID_rsaesOaep) {
        return false;
    }
    X509_PUBKEY* const plain = X509_PUBKEY_new();
    auto* const copy = static_cast<unsigned char*>(OPENSSL_memdup(encoded, static_cast<std::size_t>(size)));
    X509_PUBKEY_set0_param(plain, OBJ_nid2obj(NID_rsaEncryption), V_ASN1_NULL, nullptr, copy, size);
    unsigned char* der = nullptr;
    const int der_length = i2d_X509_PUBKEY(plain, &der);
    const unsigned char* at = der;
    const bool ok = der_length > 0 && d2i_X509_PUBKEY(&stored, &at, der_length) != nullptr;
    OPENSSL_free(der);
    X509_PUBKEY_free(plain);
    ERR_clear_error();
    return ok && X509_get0_pubkey(certificate) != nullptr;
}

}  // namespace

std::string printable(std::string_view text, std::size_t most) {
    std::string out(text.substr(0, most));
    std::ranges::replace_if(
        out, [](char c) { return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e; }, '?');
    if (text.size() > most) out += "...";
    return out;
}

ParsedCertificate parse_certificate(Bytes bytes) {
    const std::size_t size = der_size(bytes);
    if (size == 0) return {nullptr, 0, "not a whole DER sequence"};
    if (size > kMaxCertificate) {
        return {nullptr, 0, "longer than " + std::to_string(kMaxCertificate) + " bytes"};
    }
    const unsigned char* at = raw(bytes);
    openssl::Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(size)));
    if (!certificate) return {nullptr, 0, openssl_reason()};
    ERR_clear_error();  // an unknown key algorithm leaves one behind
    if (at != raw(bytes) + size) return {nullptr, 0, "its DER has another size than it says"};
    return {std::move(certificate), size, {}};
}

ParsedCertificate parse_stored_certificate(Bytes bytes, std::vector<std::string>& quirks) {
    Bytes der = bytes;
    Reader reader(bytes, Endian::kBig);
    if (reader.u16() == kStoredCertificate) {
        reader.skip(1);
        const std::size_t size = reader.u16();
        const bool full = reader.u16() == kFullCertificate;
        if (!full || reader.failed()) return {nullptr, 0, "a TCG header without a full certificate after it"};
        quirks.push_back("certificate: in a TCG header (0x1001), " + std::to_string(size) + " bytes");
        der = bytes.subspan(reader.offset());
    }
    auto parsed = parse_certificate(der);
    if (!parsed.certificate) return parsed;
    if (parsed.size < der.size()) {
        quirks.push_back("certificate: " + describe_padding(der.subspan(parsed.size)) + " after its end");
    }
    if (read_oaep_key(parsed.certificate.get())) {
        quirks.emplace_back("certificate: key algorithm is given as RSAES-OAEP");
    }
    const ASN1_INTEGER* const serial = X509_get0_serialNumber(parsed.certificate.get());
    if ((ASN1_STRING_type(serial) & V_ASN1_NEG) != 0) quirks.emplace_back("certificate: negative serial number");
    if (ASN1_STRING_length(serial) > kMaxSerialSize) {
        quirks.push_back("certificate: serial number of " + std::to_string(ASN1_STRING_length(serial)) + " bytes");
    }
    return parsed;
}

std::vector<openssl::Certificate> parse_stored_chain(const std::vector<host::Buffer>& buffers,
                                                     std::vector<std::string>& quirks) {
    ChainBytes bytes;
    for (const auto& buffer : buffers) {
        bytes.starts.push_back(bytes.all.size());
        bytes.all.insert(bytes.all.end(), buffer.begin(), buffer.end());
    }
    const std::size_t end = bytes.all.size();
    bytes.starts.push_back(end);

    std::vector<openssl::Certificate> chain;
    std::size_t gap = 0;  // begins where the last certificate ends
    std::string why;      // of the first thing in the gap that looked like a certificate
    unsigned failures = 0;
    for (std::size_t at = 0; at < end && failures < kMostFailures;) {
        const Bytes rest = Bytes(bytes.all).subspan(at);
        auto parsed = may_begin_certificate(rest) ? parse_certificate(rest) : ParsedCertificate{};
        if (!parsed.certificate) {
            failures += parsed.why.empty() ? 0 : 1;
            if (why.empty()) why = parsed.why;
            ++at;
            continue;
        }
        if (const std::size_t next = start_of_next_in(rest, parsed.size); next != 0) {
            why = "a certificate that is cut short";
            at += next;
            continue;
        }
        bytes.note_gap(gap, at, why, quirks);
        chain.push_back(std::move(parsed.certificate));
        at = gap = at + parsed.size;
        why.clear();
    }
    bytes.note_gap(gap, end, why, quirks);
    return chain;
}

std::string name_text(const X509_NAME* name) {
    BIO* const bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text = size > 0 ? printable({data, static_cast<std::size_t>(size)}) : "(empty)";
    BIO_free(bio);
    ERR_clear_error();
    return text;
}

std::string certificate_weakness(X509* certificate, bool signature_matters) {
    if (std::string weakness = key_weakness(X509_get0_pubkey(certificate)); !weakness.empty()) {
        ERR_clear_error();
        return weakness;
    }
    if (!signature_matters) return "";
    int digest = NID_undef;
    if (X509_get_signature_info(certificate, &digest, nullptr, nullptr, nullptr) != 1) {
        ERR_clear_error();
        return "signed with an algorithm that is not known";
    }
    if (digest == NID_sha256 || digest == NID_sha384 || digest == NID_sha512) return "";
    const char* const name = OBJ_nid2sn(digest);
    return std::string("signed with ") + (name == nullptr ? "an unknown hash" : name) + "; SHA-256 at least";
}

std::optional<NamedTpm> named_tpm(X509* certificate, std::string& why, std::vector<std::string>& quirks) {
    int critical = -1;
    const openssl::Names names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr)));
    ERR_clear_error();
    if (!names) {
        why = critical == -1   ? "there is no subjectAltName: it does not say that it is a TPM's"
              : critical == -2 ? "there is more than one subjectAltName"
                               : "its subjectAltName cannot be read";
        return std::nullopt;
    }
    NamedTpm tpm;
    const struct {
        const char* object;
        const char* name;
        std::string* value;
    } wanted[] = {{"2.23.133.2.1", "manufacturer", &tpm.manufacturer},
                  {"2.23.133.2.2", "model", &tpm.model},
                  {"2.23.133.2.3", "version", &tpm.version}};
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type != GEN_DIRNAME) continue;
        for (int k = 0; k < X509_NAME_entry_count(name->d.directoryName); ++k) {
            const X509_NAME_ENTRY* const entry = X509_NAME_get_entry(name->d.directoryName, k);
            const std::string object = dotted(X509_NAME_ENTRY_get_object(entry));
            for (const auto& one : wanted) {
                if (object != one.object) continue;
                if (!one.value->empty()) {
                    why = std::string("its subjectAltName names the TPM's ") + one.name + " twice";
                    return std::nullopt;
                }
                *one.value = printable(text_of(X509_NAME_ENTRY_get_data(entry)), 64);
            }
        }
    }
    for (const auto& one : wanted) {
        if (!one.value->empty()) continue;
        why = std::string("its subjectAltName does not name the TPM's ") + one.name + " (" + one.object + ")";
        return std::nullopt;
    }
    if (!is_manufacturer(tpm.manufacturer)) {
        quirks.push_back("certificate: manufacturer '" + tpm.manufacturer + "' is not \"id:\" and 8 digits");
    }
    if (critical == 0) {
        const bool empty = X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0;
        quirks.push_back(std::string("certificate: subjectAltName is not critical") +
                         (empty ? ", though the subject is empty" : ""));
    }
    return tpm;
}

}  // namespace gatehouse::verifier
