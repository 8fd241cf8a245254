#include "attestation/formats/others_evidence.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "attestation/verifier/token.hpp"
#include "attestation/verifier/tpm_structures.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using nlohmann::json;
using verifier::Attestation;
using verifier::Selection;

constexpr std::size_t kMaxJsonDepth = 16;
constexpr std::size_t kPcrs = 24;

const Buffer* find(const EvidenceFiles& files, std::initializer_list<const char*> names) {
    for (const char* const name : names)
        if (const auto found = files.find(name); found != files.end()) return &found->second;
    return nullptr;
}

const Buffer& need(const EvidenceFiles& files, std::initializer_list<const char*> names) {
    if (const Buffer* const found = find(files, names)) return *found;
    std::string all;
    for (const char* const name : names) all += std::string(all.empty() ? "" : ", ") + name;
    throw ToolError("evidence: none of these files is there: " + all);
}

// TPMT_PUBLIC, of itself or in a TPM2B_PUBLIC.
Buffer public_area_of(const Buffer& bytes, const char* item) {
    if (std::string_view(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 10)) ==
        "-----BEGIN")
        throw ToolError(
            std::string(item) +
            ": PEM says nothing of the key's attributes; give the TPM's public area (tpm2_readpublic -f tss)");
    if (const auto area = verifier::parse_sized(bytes, item); area.ok()) return {area->begin(), area->end()};
    return bytes;
}

Attestation attestation_of(const Buffer& quote, const std::string& item) {
    return host::expect(verifier::parse_attestation(quote), item);
}

std::vector<std::size_t> sizes_of(const Attestation& quote) {
    std::vector<std::size_t> sizes;
    for (const Selection& one : quote.selections)
        sizes.insert(sizes.end(), static_cast<std::size_t>(std::popcount(one.pcrs)), digest_size(one.bank));
    return sizes;
}

// --- tpm2-tools' PCR values

constexpr std::size_t kSelectionEntries = 16, kSelectionEntry = 8;
constexpr std::size_t kListEntries = 8, kListDigest = 64;

std::optional<Buffer> serialized_values(Bytes bytes) {
    Reader reader(bytes, Endian::kLittle);
    const std::uint32_t selections = reader.u32();
    reader.skip(kSelectionEntries * kSelectionEntry);
    const std::uint32_t lists = reader.u32();
    constexpr std::size_t list_size = 4 + kListEntries * (2 + kListDigest);
    if (reader.failed() || selections > kSelectionEntries || reader.remaining() != lists * list_size)
        return std::nullopt;
    Buffer values;
    for (std::uint32_t i = 0; i < lists; ++i) {
        const std::uint32_t count = reader.u32();
        if (count > kListEntries) return std::nullopt;
        for (std::uint32_t k = 0; k < kListEntries; ++k) {
            const std::uint16_t size = reader.u16();
            const Bytes digest = reader.bytes(kListDigest);
            if (reader.failed() || (k < count && size > kListDigest)) return std::nullopt;
            if (k < count) values.insert(values.end(), digest.begin(), digest.begin() + size);
        }
    }
    return values;
}

std::size_t size_of_values(const Attestation& quote) {
    const std::vector<std::size_t> sizes = sizes_of(quote);
    return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

// The values in the quote's order, in whichever format they are.
Buffer tools_values(const Buffer& file, const Attestation& quote, const std::string& item) {
    const std::size_t wanted = size_of_values(quote);
    if (file.size() == wanted) return file;
    const auto values = serialized_values(file);
    if (!values) throw ToolError(item + ": neither tpm2_quote's PCR format \"serialized\" nor \"values\"");
    if (values->size() != wanted) throw ToolError(item + ": has not the PCRs that the quote selects");
    return *values;
}

OthersEvidence read_tools(const EvidenceFiles& files) {
    OthersEvidence evidence{.maker = "tpm2-tools"};
    evidence.quote = need(files, {"quote.out", "quote.msg", "msg.out"});
    evidence.signature = need(files, {"sig.out", "quote.sig"});
    evidence.public_area = public_area_of(need(files, {"ak.pub"}), "ak.pub");
    const Attestation quote = attestation_of(evidence.quote, "quote");
    if (const Buffer* const pcrs = find(files, {"pcrs.out", "quote.pcrs", "pcrs.bin"}))
        evidence.pcr_values = tools_values(*pcrs, quote, "PCR values");
    else
        evidence.unjudged.emplace_back("no PCR values (tpm2_quote -o): only what an event log replays to is known");
    if (const Buffer* const log = find(files, {"eventlog.bin", "binary_bios_measurements"}))
        evidence.event_log = *log;
    else
        evidence.unjudged.emplace_back("no event log: the PCRs' values are judged, not what was measured into them");
    return evidence;
}

// --- JSON

json parse_json(const Buffer& bytes, const std::string& name) {
    std::size_t deepest = 0;
    const auto watch = [&deepest](int depth, json::parse_event_t, json&) {
        deepest = std::max(deepest, static_cast<std::size_t>(depth));
        if (deepest > kMaxJsonDepth) throw ToolError("too deep");
        return true;
    };
    const auto* const begin = reinterpret_cast<const char*>(bytes.data());
    try {
        return json::parse(begin, begin + bytes.size(), watch);
    } catch (const std::exception&) {
        throw ToolError(name + ": not JSON, or nested too deeply");
    }
}

// The member of that name, in base64; empty if it is not there or null.
Buffer blob(const json& object, const char* name, const std::string& item) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return {};
    auto bytes = found->is_string() ? verifier::from_base64(found->get<std::string>()) : std::nullopt;
    if (!bytes) throw ToolError(item + ": \"" + name + "\" is not base64");
    return std::move(*bytes);
}

// --- Keylime

// "r" message ":" signature ":" PCR values.
void split_keylime(const std::string& text, const std::string& item, OthersEvidence& evidence) {
    if (!text.starts_with('r')) throw ToolError(item + ": \"quote\" does not begin with r");
    std::vector<Buffer> parts;
    std::string_view left = std::string_view(text).substr(1);
    while (true) {
        const std::string_view part = left.substr(0, left.find(':'));
        auto bytes = verifier::from_base64(part);
        if (!bytes) throw ToolError(item + ": \"quote\" is not base64 between its colons");
        parts.push_back(std::move(*bytes));
        if (part.size() == left.size()) break;
        left.remove_prefix(part.size() + 1);
        if (parts.size() == 3) throw ToolError(item + ": \"quote\" has more than three parts");
    }
    if (parts.size() != 3) throw ToolError(item + ": \"quote\" has fewer than three parts");
    if (parts[0].size() > 1 && parts[0][0] == std::byte{0x78})
        throw ToolError(item + ": \"quote\" is compressed, as agents before 6.5 did; such quotes are not read");
    evidence.quote = std::move(parts[0]);
    evidence.signature = std::move(parts[1]);
    const Attestation quote = attestation_of(evidence.quote, item + ", quote");
    evidence.pcr_values = tools_values(parts[2], quote, item + ", PCR values");
}

const json& results_of(const json& whole) {
    const auto found = whole.find("results");
    return found != whole.end() && found->is_object() ? *found : whole;
}

bool is_keylime(const json& whole) {
    if (!whole.is_object()) return false;
    const json& results = results_of(whole);
    return results.contains("quote") && results["quote"].is_string() && results.contains("hash_alg");
}

OthersEvidence read_keylime(const EvidenceFiles& files, const json& whole, const std::string& name,
                            const std::vector<json>& others) {
    OthersEvidence evidence{.maker = "Keylime"};
    const json& results = results_of(whole);
    split_keylime(results["quote"].get<std::string>(), name, evidence);
    Buffer key = blob(results, "aik_tpm", name);
    for (const json& other : others)
        if (key.empty() && other.is_object()) key = blob(results_of(other), "aik_tpm", "registrar's answer");
    if (key.empty()) key = need(files, {"ak.pub"});
    evidence.public_area = public_area_of(key, "aik_tpm or ak.pub");
    evidence.event_log = blob(results, "mb_measurement_list", name);
    if (evidence.event_log.empty())
        evidence.unjudged.emplace_back("no measured boot log (mb_measurement_list): only the PCRs' values are judged");
    if (results.contains("ima_measurement_list") && !results["ima_measurement_list"].is_null())
        evidence.unjudged.emplace_back("ima_measurement_list: what ran after the boot (IMA) is not appraised");
    if (results.contains("pubkey") && !results["pubkey"].is_null())
        evidence.unjudged.emplace_back("pubkey: the agent's own key, which PCR 16 binds to the quote, is not compared");
    return evidence;
}

// --- go-attestation

// crypto.Hash of Go, and TPM_ALG_ID.
struct GoHash {
    unsigned number;
    HashAlgorithm bank;
};
constexpr std::array kGoHashes{GoHash{3, HashAlgorithm::kSha1}, GoHash{5, HashAlgorithm::kSha256},
                               GoHash{6, HashAlgorithm::kSha384}, GoHash{7, HashAlgorithm::kSha512}};

using GoPcrs = std::map<std::pair<HashAlgorithm, std::uint32_t>, Buffer>;

GoPcrs go_pcrs(const json& object, const std::string& name) {
    GoPcrs pcrs;
    const auto list = object.find("PCRs");
    if (list == object.end() || !list->is_array()) return pcrs;
    for (const json& one : *list) {
        if (!one.is_object() || !one.contains("Index") || !one["Index"].is_number_unsigned() ||
            !one.contains("DigestAlg") || !one["DigestAlg"].is_number_unsigned())
            throw ToolError(name + ": a PCR has no Index or DigestAlg");
        const auto index = one["Index"].get<std::uint64_t>();
        const auto number = one["DigestAlg"].get<std::uint64_t>();
        const auto row = std::ranges::find_if(kGoHashes, [&](const GoHash& hash) { return hash.number == number; });
        if (index >= kPcrs || row == kGoHashes.end()) continue;
        Buffer digest = blob(one, "Digest", name);
        if (digest.size() != digest_size(row->bank)) throw ToolError(name + ": a PCR's Digest has a wrong size");
        pcrs[{row->bank, static_cast<std::uint32_t>(index)}] = std::move(digest);
    }
    return pcrs;
}

Buffer values_of(const GoPcrs& pcrs, const Attestation& quote) {
    Buffer values;
    for (const Selection& selection : quote.selections) {
        for (std::uint32_t pcr = 0; pcr < 32; ++pcr) {
            if ((selection.pcrs >> pcr & 1) == 0) continue;
            const auto found = pcrs.find({selection.bank, pcr});
            if (found == pcrs.end()) return {};
            values.insert(values.end(), found->second.begin(), found->second.end());
        }
    }
    return values;
}

// The largest digest that a quote has PCRs of.
std::size_t strength(const Buffer& quote) {
    std::size_t most = 0;
    if (const auto parsed = verifier::parse_attestation(quote); parsed.ok())
        for (const std::size_t size : sizes_of(*parsed)) most = std::max(most, size);
    return most;
}

bool is_go_attestation(const json& whole) {
    return whole.is_object() && ((whole.contains("Quotes") && whole.contains("Public")) ||
                                 (whole.contains("Quote") && whole.contains("AK")));
}

OthersEvidence read_go_attestation(const json& whole, const std::string& name) {
    OthersEvidence evidence{.maker = "go-attestation"};
    const bool dump = whole.contains("AK") && whole.contains("Quote");
    const json& key = dump ? whole["AK"] : whole;
    const json quotes = dump ? json::array({whole["Quote"]}) : whole["Quotes"];
    const json& log = dump ? whole.value("Log", json::object()) : whole;
    if (!key.is_object() || !quotes.is_array() || quotes.empty()) throw ToolError(name + ": has no quotes, or no key");
    const Buffer area = blob(key, "Public", name);
    evidence.public_area = public_area_of(area, "Public");
    for (const json& one : quotes) {
        if (!one.is_object()) throw ToolError(name + ": a quote is no object");
        Buffer quote = blob(one, "Quote", name);
        if (!evidence.quote.empty() && strength(quote) <= strength(evidence.quote)) continue;
        evidence.quote = std::move(quote);
        evidence.signature = blob(one, "Signature", name);
    }
    if (quotes.size() > 1)
        evidence.unjudged.push_back(std::to_string(quotes.size() - 1) +
                                    " quotes of other banks: the one with the longest digests is judged");
    const json& where = log.is_object() ? log : json::object();
    evidence.pcr_values = values_of(go_pcrs(where, name), attestation_of(evidence.quote, name + ", quote"));
    if (evidence.pcr_values.empty())
        evidence.unjudged.emplace_back("not all quoted PCRs have a value in PCRs: only the event log is replayed");
    evidence.event_log = blob(where, dump ? "Raw" : "EventLog", name);
    if (evidence.event_log.empty()) evidence.unjudged.emplace_back("no event log: only the PCRs' values are judged");
    if (dump) evidence.unjudged.emplace_back("CreateData and its signature: how the key came into the TPM");
    return evidence;
}

}  // namespace

Buffer bare_pcr_values(Buffer file, Bytes quote) {
    const Result<Attestation> parsed = verifier::parse_attestation(quote);
    if (!parsed.ok()) return file;
    const std::size_t wanted = size_of_values(*parsed);
    auto values = file.size() == wanted ? std::nullopt : serialized_values(file);
    return values && values->size() == wanted ? std::move(*values) : std::move(file);
}

bool is_others_evidence(const EvidenceFiles& files) {
    const bool ours = files.contains("quote.msg") && files.contains("quote.sig") && !files.contains("quote.pcrs") &&
                      !files.contains("pcrs.out");
    return !ours;
}

OthersEvidence read_others_evidence(const EvidenceFiles& files) {
    std::vector<std::pair<std::string, json>> parsed;
    for (const auto& [name, content] : files)
        if (name.ends_with(".json")) parsed.emplace_back(name, parse_json(content, name));
    OthersEvidence evidence;
    const auto keylime = std::ranges::find_if(parsed, [](const auto& one) { return is_keylime(one.second); });
    const auto go = std::ranges::find_if(parsed, [](const auto& one) { return is_go_attestation(one.second); });
    if (keylime != parsed.end()) {
        std::vector<json> others;
        others.reserve(parsed.size());
        for (const auto& [name, content] : parsed) others.push_back(content);
        evidence = read_keylime(files, keylime->second, keylime->first, others);
    } else if (go != parsed.end()) {
        evidence = read_go_attestation(go->second, go->first);
    } else {
        evidence = read_tools(files);
    }
    evidence.unjudged.emplace_back("whose TPM it is: no endorsement key is judged here (attest endorsement)");
    return evidence;
}

}  // namespace gatehouse::formats
