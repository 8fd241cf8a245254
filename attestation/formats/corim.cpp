#include "attestation/formats/corim.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "attestation/evidence/measurements.hpp"
#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "attestation/formats/corim_map.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using policies::ExpectedEvent;
using policies::kPredictedBanks;
using policies::Prediction;
using Kind = CborItem::Kind;

constexpr const char* kContentType = "application/rim+cbor";
constexpr const char* kVendor = "Gatehouse";
constexpr const char* kModel = "launch";
constexpr const char* kIdPrefix = "tag:gatehouse,2026:rim/";

// Tags.
constexpr std::uint64_t kCorimMap = 501, kConciseMid = 506, kRawValue = 560;
// Labels: of the protected header (kCwtClaims: RFC 9597), corim-meta-map, claims (RFC 8392), corim-map, concise-mid-tag,
// triples-map, environment and class, measurement and values.
constexpr std::int64_t kMeta = 8, kCwtClaims = 15;
constexpr std::int64_t kSignatureValidity = 1;
constexpr std::int64_t kExpires = 4, kFrom = 5;
constexpr std::int64_t kId = 0, kTags = 1, kProfile = 3, kValidity = 4;
constexpr std::int64_t kTagIdentity = 1, kLinkedTags = 3, kTriples = 4, kReferenceTriples = 0;
constexpr std::int64_t kClass = 0, kInstance = 1, kGroup = 2, kClassVendor = 1, kClassModel = 2;
constexpr std::int64_t kMkey = 0, kMval = 1, kAuthorizedBy = 2, kDigests = 2, kRaw = 4, kRegisters = 14;
constexpr std::int64_t kNotBefore = 0, kNotAfter = 1;
constexpr std::uint64_t kEpochTime = 1;

constexpr std::size_t kMaxValues = 1024;  // of one PCR in one bank
constexpr std::uint32_t kPcrs = 24;

struct AlgorithmRow {
    HashAlgorithm bank;
    std::int64_t number;  // 0: by its name
};
constexpr std::array kAlgorithms{AlgorithmRow{HashAlgorithm::kSha1, 0}, AlgorithmRow{HashAlgorithm::kSha256, 1},
                                 AlgorithmRow{HashAlgorithm::kSha384, 7}, AlgorithmRow{HashAlgorithm::kSha512, 8}};

void write_digest(CborWriter& writer, HashAlgorithm bank, Bytes value) {
    writer.array(2);
    const auto row = std::ranges::find(kAlgorithms, bank, &AlgorithmRow::bank);
    if (row == kAlgorithms.end() || row->number == 0)
        writer.text(policies::bank_name(bank));
    else
        writer.integer(row->number);
    writer.bytes(value);
}

// A value of each bank of kPredictedBanks that `value_of` has one for.
template <typename ValueOf>
void write_digests(CborWriter& writer, const ValueOf& value_of) {
    CborWriter inside;
    std::size_t count = 0;
    for (const HashAlgorithm bank : kPredictedBanks) {
        const Buffer value = value_of(bank);
        if (value.empty()) continue;
        write_digest(inside, bank, value);
        ++count;
    }
    writer.array(count).item(inside.out());
}

Buffer owned(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

void write_event(CborWriter& writer, const ExpectedEvent& event, const policies::BundleFacts& bundle) {
    const bool whole = event.tag == static_cast<std::uint32_t>(evidence::MeasurementTag::kPolicy);
    writer.map(2).integer(kMkey).text(event.name).integer(kMval).map(whole ? 2 : 1);
    writer.integer(kDigests);
    write_digests(writer, [&](HashAlgorithm bank) { return owned(event.digest(bank)); });
    if (whole) writer.integer(kRaw).tag(kRawValue).bytes(policies::bundle_file(bundle));
}

using Registers = std::map<std::uint32_t, std::function<Buffer(HashAlgorithm bank)>>;

void write_registers(CborWriter& writer, std::string_view name, const Registers& registers) {
    writer.map(2).integer(kMkey).text(name).integer(kMval).map(1).integer(kRegisters).map(registers.size());
    for (const auto& [pcr, value_of] : registers) {
        writer.number(pcr);
        write_digests(writer, value_of);
    }
}

Registers unseal_registers(const Prediction& prediction) {
    Registers registers;
    for (const std::uint32_t pcr : {evidence::kLaunchPcr, evidence::kPayloadPcr})
        registers[pcr] = [&prediction, pcr](HashAlgorithm bank) {
            return owned(prediction.sealing_value(bank, pcr).bytes());
        };
    return registers;
}

Registers capped_registers(const CorimFacts& facts, const Buffer& vault) {
    const Prediction& prediction = *facts.prediction;
    Registers registers;
    registers[evidence::kLaunchPcr] = [&](HashAlgorithm bank) {
        return owned(prediction.capped_value(bank, evidence::kLaunchPcr, vault).bytes());
    };
    if (!vault.empty())
        registers[evidence::kPayloadPcr] = [&](HashAlgorithm bank) {
            return owned(prediction.capped_value(bank, evidence::kPayloadPcr, vault).bytes());
        };
    if (facts.machine != nullptr)
        registers[evidence::kMachinePcr] = [&](HashAlgorithm bank) {
            const bool known = std::ranges::none_of(
                facts.machine->events, [&](const policies::ModelEvent& event) { return event.digest(bank).empty(); });
            if (!known) return Buffer();
            const Digest before = facts.machine->pcr19(bank);
            return owned(evidence::extended(bank, before.bytes(), hash(bank, evidence::kCapData).bytes()).bytes());
        };
    return registers;
}

// --- reading

// The same for the same items alone, in the same order.
std::string fingerprint(const CborItem& item) {
    std::string text = std::to_string(static_cast<unsigned>(item.kind)) + "." + std::to_string(item.number) + "." +
                       host::hex(item.bytes) + "(";
    for (const CborItem& inside : item.items) text += fingerprint(inside);
    return text + ")";
}

class CorimReader {
  public:
    CorimReader(std::string what, std::int64_t now) : what_(std::move(what)), now_(now) {}

    // Until when the signature is good, if the signer says so: not the same as until when the values are.
    void check_header(const CborItem& header) const {
        if (const CborItem* const meta = header.find(kMeta)) {
            if (!meta->is(Kind::kBytes)) fail("has a corim-meta that is not in a byte string");
            const CborItem map = read_cbor(meta->bytes, what_ + ", corim-meta");
            if (!map.is(Kind::kMap)) fail("has a corim-meta that is no map");
            if (const CborItem* const validity = map.find(kSignatureValidity)) check_validity(*validity);
        }
        const CborItem* const claims = header.find(kCwtClaims);
        if (claims == nullptr) return;
        if (!claims->is(Kind::kMap)) fail("has CWT claims that are no map");
        const auto time_at = [&](std::int64_t label) -> std::optional<std::int64_t> {
            const CborItem* const found = claims->find(label);
            if (found == nullptr) return std::nullopt;
            const auto time = found->integer();
            if (!time) fail("has a CWT claim of time that has no whole seconds");
            return time;
        };
        if (const auto from = time_at(kFrom); from && now_ < *from) fail("is not valid yet");
        if (const auto end = time_at(kExpires); end && now_ >= *end) fail("is not valid any more");  // "on or after"
    }

    Corim read(Bytes payload) {
        const CborItem item = read_cbor(payload, what_);
        const CborItem* const map = item.tagged(kCorimMap);
        if (map == nullptr || !map->is(Kind::kMap)) fail("is not a corim-map (tag 501)");
        const CborItem* const id = map->find(kId);
        if (id == nullptr || !(id->is(Kind::kText) || id->is(Kind::kBytes))) fail("has no id");
        corim_.id = id->text().value_or(host::hex(id->bytes));
        if (map->find(kProfile) != nullptr) fail("follows a profile, and none is known here");
        if (const CborItem* const validity = map->find(kValidity)) check_validity(*validity);
        const CborItem* const tags = map->find(kTags);
        if (tags == nullptr || !tags->is(Kind::kArray) || tags->items.empty()) fail("has no tags");
        for (const CborItem& tag : tags->items) {
            const CborItem* const mid = tag.tagged(kConciseMid);
            if (mid == nullptr) {
                corim_.passed_over.push_back("a tag that is not a CoMID (" + std::to_string(tag.number) + ")");
            } else if (mid->is(Kind::kBytes)) {
                read_mid(mid->bytes);
            } else {
                fail("has a CoMID that is not in a byte string");
            }
        }
        return std::move(corim_);
    }

  private:
    [[noreturn]] void fail(const std::string& why) const { throw ToolError(what_ + ": " + why); }

    std::int64_t time_of(const CborItem& item) const {
        const CborItem* const time = item.tagged(kEpochTime);
        const auto value = time != nullptr ? time->integer() : std::nullopt;
        if (!value) fail("its validity has no whole seconds");
        return *value;
    }

    void check_validity(const CborItem& validity) const {
        if (!validity.is(Kind::kMap)) fail("has a validity that is no map");
        if (const CborItem* const from = validity.find(kNotBefore); from != nullptr && now_ < time_of(*from))
            fail("is not valid yet");
        if (const CborItem* const to = validity.find(kNotAfter); to != nullptr && now_ > time_of(*to))
            fail("is not valid any more");
    }

    void read_mid(Bytes bytes) {
        const CborItem mid = read_cbor(bytes, what_ + ", CoMID");
        if (mid.find(kLinkedTags) != nullptr)
            corim_.passed_over.emplace_back("which tag a CoMID replaces or supplements: what both say is taken");
        const CborItem* const triples = mid.find(kTriples);
        if (triples == nullptr || !triples->is(Kind::kMap)) fail("has a CoMID without triples");
        for (std::size_t i = 0; i < triples->items.size(); i += 2) {
            if (triples->items[i].integer() != kReferenceTriples)
                corim_.passed_over.emplace_back("triples that are not reference values");
        }
        const CborItem* const references = triples->find(kReferenceTriples);
        if (references == nullptr) return;
        if (!references->is(Kind::kArray)) fail("has reference triples that are no array");
        for (const CborItem& triple : references->items) read_triple(triple);
    }

    void read_triple(const CborItem& triple) {
        if (!triple.is(Kind::kArray) || triple.items.size() != 2 || !triple.items[1].is(Kind::kArray))
            fail("has a reference triple that is not [environment, [measurement...]]");
        const CborItem& whose = triple.items[0];
        if (whose.find(kInstance) != nullptr || whose.find(kGroup) != nullptr) {
            corim_.passed_over.emplace_back("values of an instance or a group, not of a class");
            return;
        }
        const CborItem* const environment = whose.find(kClass);
        if (environment == nullptr || !environment->is(Kind::kMap)) fail("has an environment without a class");
        const bool ours =
            text_at(*environment, kClassVendor) == kVendor && text_at(*environment, kClassModel) == kModel;
        if (ours) {
            read_launch(triple.items[1].items);
            return;
        }
        for (const CborItem& measurement : triple.items[1].items) {
            const CborItem& values = values_of(measurement);
            const CborItem* const registers = values.find(kRegisters);
            if (registers == nullptr) {
                corim_.passed_over.emplace_back("a measurement without integrity registers");
                continue;
            }
            // Else one model would be accepted with another's firmware, or a mixture of both.
            const std::string present = fingerprint(whose);
            if (!corim_.environment.empty() && corim_.environment != present)
                fail("has integrity registers of several environments");
            corim_.environment = present;
            if (values.items.size() > 2)
                corim_.passed_over.emplace_back("what a measurement has besides its integrity registers");
            const CborItem* const element = measurement.find(kMkey);
            read_registers(*registers, element == nullptr ? "" : fingerprint(*element));
        }
    }

    const CborItem& values_of(const CborItem& measurement) const {
        // A condition on whose evidence it is (draft, "Reference Values": the condition's authority), which no policy can say.
        if (measurement.find(kAuthorizedBy) != nullptr)
            fail("has a measurement for evidence of certain signers alone (authorized-by)");
        const CborItem* const values = measurement.find(kMval);
        if (values == nullptr || !values->is(Kind::kMap)) fail("has a measurement without values");
        return *values;
    }

    static std::string text_at(const CborItem& map, std::int64_t label) {
        const CborItem* const found = map.find(label);
        return found != nullptr ? found->text().value_or("") : "";
    }

    // The events of a launch, whole or not at all: its PCRs follow from them.
    void read_launch(const std::vector<CborItem>& measurements) {
        Prediction prediction;
        bool has_bundle = false;
        for (const evidence::Measurement& row : evidence::kMeasurements) {
            const auto found = std::ranges::find_if(
                measurements, [&](const CborItem& one) { return text_at(one, kMkey) == row.name; });
            if (found == measurements.end()) fail("a launch lacks \"" + std::string(row.name) + "\"");
            const CborItem& values = values_of(*found);
            ExpectedEvent event{
                .pcr = row.pcr, .tag = static_cast<std::uint32_t>(row.tag), .name = std::string(row.name)};
            for (std::size_t i = 0; i < kPredictedBanks.size(); ++i) {
                const auto digests = digests_of(values.find(kDigests));
                const auto value = std::ranges::find(digests, kPredictedBanks[i], &Digest::algorithm);
                if (value == digests.end())
                    fail("\"" + event.name + "\" lacks a digest of " + policies::bank_name(kPredictedBanks[i]));
                event.digests[i] = *value;
            }
            if (const CborItem* const raw = values.find(kRaw); row.tag == evidence::MeasurementTag::kPolicy && raw) {
                const CborItem* const bytes = raw->tagged(kRawValue);
                if (bytes == nullptr || !bytes->is(Kind::kBytes)) fail("the policy bundle is not in bytes (tag 560)");
                prediction.bundle = policies::read_bundle(bytes->bytes);
                has_bundle = true;
            }
            prediction.events.push_back(std::move(event));
        }
        if (!has_bundle) fail("a launch lacks the policy bundle itself");
        corim_.launches.push_back(policies::from_json(policies::to_json(prediction)));  // checks that all fits
    }

    std::vector<Digest> digests_of(const CborItem* list) {
        if (list == nullptr || !list->is(Kind::kArray)) fail("has digests that are no array");
        std::vector<Digest> digests;
        for (const CborItem& item : list->items) {
            if (!item.is(Kind::kArray) || item.items.size() != 2 || !item.items[1].is(Kind::kBytes))
                fail("has a digest that is not [algorithm, value]");
            const auto row = std::ranges::find_if(kAlgorithms, [&](const AlgorithmRow& one) {
                return (one.number != 0 && item.items[0].integer() == one.number) ||
                       item.items[0].text() == policies::bank_name(one.bank);
            });
            if (row == kAlgorithms.end()) {
                corim_.passed_over.emplace_back("a digest of another algorithm");
                continue;
            }
            const Bytes value = item.items[1].bytes;
            if (value.size() != digest_size(row->bank)) fail("has a digest of a wrong size");
            Digest digest{.algorithm = row->bank};
            copy_bytes(digest.storage, value);
            digests.push_back(digest);
        }
        return digests;
    }

    // Values that two measured elements (mkey) have of one PCR are no alternatives of each other.
    void read_registers(const CborItem& registers, const std::string& element) {
        if (!registers.is(Kind::kMap)) fail("has integrity registers that are no map");
        for (std::size_t i = 0; i < registers.items.size(); i += 2) {
            const auto pcr = registers.items[i].integer();
            if (!pcr || *pcr < 0 || *pcr >= kPcrs) {
                corim_.passed_over.emplace_back("an integrity register that is no PCR");
                continue;
            }
            const auto [known, is_new] = elements_.emplace(static_cast<std::uint32_t>(*pcr), element);
            if (!is_new && known->second != element)
                fail("has PCR " + std::to_string(*pcr) + " of several measured elements (mkey)");
            for (const Digest& digest : digests_of(&registers.items[i + 1])) {
                auto& values = corim_.registers[digest.algorithm][static_cast<std::uint32_t>(*pcr)];
                if (values.size() == kMaxValues) fail("has too many values of one PCR");
                values.push_back(digest);
            }
        }
    }

    std::string what_;
    std::int64_t now_;
    Corim corim_;
    std::map<std::uint32_t, std::string> elements_;  // by PCR
};

}  // namespace

Buffer corim_file(const CorimFacts& facts, EVP_PKEY* key) {
    const Prediction& prediction = *facts.prediction;
    const Buffer vault = facts.vault_id.empty() ? prediction.bundle.vault_id : facts.vault_id;
    const std::string id = kIdPrefix + host::hex(prediction.bundle.digest);

    CborWriter mid;
    mid.map(2).integer(kTagIdentity).map(1).integer(kId).text(id);
    mid.integer(kTriples).map(1).integer(kReferenceTriples).array(1).array(2);
    mid.map(1).integer(kClass).map(2).integer(kClassVendor).text(kVendor).integer(kClassModel).text(kModel);
    mid.array(prediction.events.size() + 2);
    for (const ExpectedEvent& event : prediction.events) write_event(mid, event, prediction.bundle);
    write_registers(mid, "unseal", unseal_registers(prediction));
    write_registers(mid, "capped", capped_registers(facts, vault));

    CborWriter corim;
    corim.tag(kCorimMap).map(2).integer(kId).text(id);
    corim.integer(kTags).array(1).tag(kConciseMid).bytes(mid.out());

    const Buffer meta = CborWriter().map(1).integer(0).map(1).integer(0).text(facts.signer).out();
    return sign_cose(
        corim.out(),
        {{kCoseContentType, CborWriter().text(kContentType).out()}, {kMeta, CborWriter().bytes(meta).out()}}, key);
}

Corim read_corim_map(Bytes payload, std::int64_t now, const std::string& what) {
    return CorimReader(what, now).read(payload);
}

Corim read_corim(Bytes file, const EVP_PKEY* key, std::int64_t now, const std::string& what) {
    const CoseSign1 message = verify_cose(file, key, what);
    const CborItem header = read_cbor(message.protected_header, what + ", protected header");
    const CborItem* const type = header.find(kCoseContentType);
    if (type == nullptr || type->text() != kContentType)
        throw ToolError(what + ": its content is not said to be " + kContentType);
    CorimReader(what, now).check_header(header);
    return read_corim_map(message.payload, now, what);
}

}  // namespace gatehouse::formats
