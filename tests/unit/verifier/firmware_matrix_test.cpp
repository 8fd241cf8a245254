// The evidence matrix, evidence of a TPM alone: PCR values, firmware log, policy.
#include "tests/unit/verifier/evidence_matrix.hpp"

namespace gatehouse::verifier {
namespace {

using test::filler;

class FirmwareMatrix : public testing::TestWithParam<Row> {};
TEST_P(FirmwareMatrix, IsRefusedForTheRightReason) { expect_row(Sample::of_tpm(), GetParam()); }

constexpr std::size_t kDataAt = 12 + 2 + 20 + 2 + 32 + 4;  // in an event of the sample's log (SHA-1, SHA-256)
constexpr std::size_t kSha256At = 12 + 2 + 20 + 2;
// Numbers of events in the sample's log; 0 is the header.
constexpr std::size_t kLocality = 1;
constexpr std::size_t kVersion = 2;
constexpr std::size_t kVariable = 4;
constexpr std::size_t kBootLoader = 14;
constexpr std::size_t kGrub = 15;

// An event whose data are changed: named, passed over, and refused only by a policy that says so.
Row data_changed(const char* name, std::size_t event, const char* word, bool strict = false) {
    return {name, strict ? std::vector<std::string>{"events"} : std::vector<std::string>{}, word,
            [strict](Sample& s) { s.policy.refuse_contradictions = strict; },
            [event](Sample& s) { change_event(s, event, [](Buffer& bytes) { bytes.at(kDataAt) ^= std::byte{1}; }); }};
}

Digest sha256_pcr0(const std::vector<test::SampleEvent>& events, std::uint8_t start) {
    Digest value{.algorithm = HashAlgorithm::kSha256};
    value.storage[31] = static_cast<std::byte>(start);
    for (const test::SampleEvent& event : events) {
        if (event.pcr != 0 || event.type == 3) continue;
        const Digest digest = hash(HashAlgorithm::kSha256, event.measured);
        value = Hash(HashAlgorithm::kSha256).update(value.bytes()).update(digest.bytes()).finish();
    }
    return value;
}
// The log's first event of PCR 0 is an H-CRTM's, and nothing says a locality; the TPM started at `start`.
void start_with_hcrtm(Sample& s, std::uint8_t start) {
    s.startup = {{0, start}};
    const Buffer name{std::byte{'H'}, std::byte{'C'}, std::byte{'R'}, std::byte{'T'}, std::byte{'M'}};
    s.events[0] = {7, 3, {}, filler("a note")};
    s.events.insert(s.events.begin() + 1, {0, 0x80000010, filler("boot block", 90), name});
    s.policy.pcrs[HashAlgorithm::kSha256][0] = {sha256_pcr0(s.events, start)};
}

void bare_nonce_quoted(Sample& s) {
    const Sha256Digest digest = sha256(s.nonce);
    s.quoted_extra_data = Buffer(digest.begin(), digest.end());
}

const std::vector<Row> kRows{
    {"Untampered", {}, ""},
    {"UntamperedWithoutALog", {}, "", {}, [](Sample& s) { s.log.clear(); }},
    {"UntamperedWithoutValues", {}, "", {}, [](Sample& s) { s.pcr_values.clear(); }},
    {"AnotherLocalityWithoutValuesIsAQuirk",
     {},
     "",
     [](Sample& s) { s.events[0].data.back() = std::byte{0}; },
     [](Sample& s) { s.pcr_values.clear(); }},
    {"AnotherLocalityAndALieWithoutValues",
     {"log", "pcrs"},
     "does not replay",
     [](Sample& s) { s.events[0].data.back() = std::byte{0}; },
     [](Sample& s) {
         s.pcr_values.clear();
         change_event(s, kBootLoader, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; });
     }},
    {"HcrtmAtZeroInThePcr", {}, "", [](Sample& s) { start_with_hcrtm(s, 0); }, [](Sample& s) { s.pcr_values.clear(); }},
    {"Hcrtm", {}, "", [](Sample& s) { start_with_hcrtm(s, 4); }},
    {"HcrtmWithoutValues", {}, "", [](Sample& s) { start_with_hcrtm(s, 4); }, [](Sample& s) { s.pcr_values.clear(); }},
    {"HcrtmRetypedWithoutValues",
     {},
     "",
     [](Sample& s) { start_with_hcrtm(s, 4); },
     [](Sample& s) {
         s.pcr_values.clear();
         change_event(s, 2, [](Buffer& e) { e[4] = std::byte{8}; });
     }},
    {"HcrtmWithAnotherDigest",
     {"log"},
     "sha256 PCR 0",
     [](Sample& s) { start_with_hcrtm(s, 4); },
     [](Sample& s) { change_event(s, 2, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; }); }},
    {"HcrtmOfAPcr0ThatThePolicyDoesNotList",
     {"pcrs"},
     "sha256 PCR 0 is",
     [](Sample& s) {
         const auto listed = s.policy.pcrs;
         start_with_hcrtm(s, 4);
         s.policy.pcrs = listed;
     }},
    {"PaddedLogIsAQuirk", {}, "", {}, [](Sample& s) { s.log.resize(s.log.size() + 100); }},
    {"MissingLocalityIsAQuirk",
     {},
     "",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.erase(parts.begin() + kLocality);
         s.log = test::join_log(parts);
     }},
    {"OperatingSystemExtendedPcr8",
     {},
     "",
     [](Sample& s) {
         s.logged = s.events;
         s.events.push_back({8, 0x0d, filler("later"), filler("later")});
     }},
    {"WrongNonce", {"nonce"}, "not made for this nonce", {}, [](Sample& s) { s.nonce[0] ^= std::byte{1}; }},
    {"NonceHashedAlone", {"nonce"}, "not made for", bare_nonce_quoted},
    {"NonceHashedAloneWhereThatIsTaken", {}, "", bare_nonce_quoted, [](Sample& s) { s.bare_nonce = true; }},
    {"OtherNonceHashedAlone",
     {"nonce"},
     "not made for",
     bare_nonce_quoted,
     [](Sample& s) {
         s.bare_nonce = true;
         s.nonce[0] ^= std::byte{1};
     }},
    {"ValuesOfAnotherQuote",
     {"log", "pcrs"},
     "not those quoted",
     {},
     [](Sample& s) { s.pcr_values[5] ^= std::byte{1}; }},
    {"ValuesSwapped",
     {"log", "pcrs"},
     "not those quoted",
     {},
     [](Sample& s) { std::rotate(s.pcr_values.begin(), s.pcr_values.begin() + 32, s.pcr_values.begin() + 64); }},
    {"ValuesTooFew", {"log", "pcrs"}, "truncated", {}, [](Sample& s) { s.pcr_values.resize(32 * 8); }},
    {"ValuesTooMany", {"log", "pcrs"}, "trailing", {}, [](Sample& s) { s.pcr_values.resize(32 * 10); }},
    {"NeitherValuesNorLog",
     {"log", "pcrs"},
     "neither",
     {},
     [](Sample& s) {
         s.pcr_values.clear();
         s.log.clear();
     }},
    {"ValueThatThePolicyDoesNotList",
     {"pcrs"},
     "sha256 PCR 4 is",
     [](Sample& s) { s.events[13].measured = filler("another boot loader"); }},
    {"PcrOfThePolicyNotQuoted",
     {"selection", "pcrs"},
     "sha256 PCR 7 is not quoted",
     [](Sample& s) { s.attest.selections[0].pcrs = 0x7f; }},
    {"BankOfThePolicyNotQuoted",
     {"selection", "pcrs"},
     "not quoted",
     [](Sample& s) { s.attest.selections[0].bank = HashAlgorithm::kSha384; }},
    {"BankQuotedTwice",
     {"selection"},
     "twice",
     [](Sample& s) { s.attest.selections.push_back(s.attest.selections[0]); }},
    {"UnknownBankQuoted",
     {"log", "pcrs"},
     "unknown algorithm",
     [](Sample& s) {
         s.attest.selections.push_back({static_cast<HashAlgorithm>(0x27), 1});
     }},
    {"LogLacksAnEvent",
     {"log"},
     "sha256 PCR 4",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.erase(parts.begin() + kBootLoader);
         s.log = test::join_log(parts);
     }},
    {"LogDigestChanged",
     {"log"},
     "sha256 PCR 4",
     {},
     [](Sample& s) { change_event(s, kBootLoader, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; }); }},
    {"LogEventMovedToAnotherPcr",
     {"log"},
     "sha256 PCR 2",
     {},
     [](Sample& s) { change_event(s, kBootLoader, [](Buffer& e) { e[0] = std::byte{2}; }); }},
    {"LogCutInADigest", {"log", "events", "pcrs"}, "truncated", {}, [](Sample& s) { test::cut_off(s.log, 60); }},
    {"LogOfNoKnownForm", {"log", "events", "pcrs"}, "truncated", {}, [](Sample& s) { s.log = filler("x", 31); }},
    data_changed("VersionTextChanged", kVersion, ""),
    data_changed("VariableChanged", kVariable, ""),
    data_changed("ActionTextChanged", 5, ""),
    data_changed("SeparatorChanged", 6, ""),
    data_changed("SeparatorOfAPcrThatThePolicyDoesNotListChanged", 7, ""),
    data_changed("VersionTextChangedAndPolicyWantsNone", kVersion, "EV_S_CRTM_VERSION", true),
    data_changed("VariableChangedAndPolicyWantsNone", kVariable, "EV_EFI_VARIABLE_DRIVER_CONFIG", true),
    data_changed("ActionTextChangedAndPolicyWantsNone", 5, "EV_EFI_ACTION", true),
    data_changed("SeparatorChangedAndPolicyWantsNone", 6, "EV_SEPARATOR", true),
    data_changed("SeparatorOfAPcrThatThePolicyDoesNotListChangedAndPolicyWantsNone", 7, "EV_SEPARATOR", true),
    {"UntamperedAndPolicyWantsNone", {}, "", [](Sample& s) { s.policy.refuse_contradictions = true; }},
    {"AllDataChanged",
     {},
     "",
     {},
     [](Sample& s) {
         for (std::size_t event = kVersion; event < kGrub; ++event)
             change_event(s, event, [](Buffer& bytes) { bytes.at(kDataAt) ^= std::byte{1}; });
     }},
    {"DataChangedAndTheValueNotListed",
     {"pcrs"},
     "sha256 PCR 4 is",
     [](Sample& s) { s.events[13].measured = filler("another boot loader"); },
     [](Sample& s) { change_event(s, kVersion, [](Buffer& bytes) { bytes.at(kDataAt) ^= std::byte{1}; }); }},
    {"DigestChangedToThatOfItsData",
     {"log"},
     "sha256 PCR 0",
     [](Sample& s) {
         s.events[1].measured = filler("not the version");
         s.policy.pcrs[HashAlgorithm::kSha256][0] = {sha256_pcr0(s.events, 3)};
     },
     [](Sample& s) {
         change_event(s, kVersion, [](Buffer& e) {
             const Bytes data = Bytes(e).subspan(kDataAt);
             copy_bytes(MutableBytes(e).subspan(14), hash(HashAlgorithm::kSha1, data).bytes());
             copy_bytes(MutableBytes(e).subspan(kSha256At), hash(HashAlgorithm::kSha256, data).bytes());
         });
     }},
    {"ContradictionInALaunchPcr",
     {"events"},
     "(PCR 17)",
     [](Sample& s) {
         s.attest.selections[0].pcrs |= 1u << 17;
         s.events.push_back({17, 4, filler("not a cap"), Buffer(4)});
     }},
    {"DataCutOff", {"log", "events", "pcrs"}, "data of an event", {}, [](Sample& s) { test::cut_off(s.log, 1); }},
    {"GarbageAfterTheLog",
     {"log", "events", "pcrs"},
     "PCR of an event",
     {},
     [](Sample& s) { s.log.insert(s.log.end(), 40, std::byte{0x55}); }},
    {"ZerosForALog",
     {"log", "events", "pcrs"},
     "no event in it",
     {},
     [](Sample& s) { s.log.assign(400, std::byte{0}); }},
    {"LogWithoutItsLastEvent",
     {},
     "",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.pop_back();
         s.log = test::join_log(parts);
     }},
    {"LogWithoutItsSeparators",
     {"log"},
     "sha256 PCR 0",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.resize(6);
         s.log = test::join_log(parts);
     }},
    {"BootLoaderTextThatWasNotHashed",
     {},
     "",
     {},
     [](Sample& s) { change_event(s, kGrub, [](Buffer& e) { e.at(kDataAt + 15) ^= std::byte{1}; }); }},
    {"ClaimedToBeAHypervisors",
     {"ak", "source", "selection", "events", "claims", "policy", "iommu", "counter", "version", "vault id", "vault pin",
      "vault", "machine", "acpi"},
     "locality 2",
     {},
     [](Sample& s) { s.source = Source::kHypervisor; }},
    // The guest of a good launch asks the TPM with a key of its own, and writes the claims itself.
    {"HypervisorsClaimsUnderAnyKey",
     {"ak", "signer"},
     "locality 2",
     [](Sample& s) {
         const test::KeyFields key = s.key_fields;
         s = Sample::of_hypervisor();
         s.key_fields = key;
         s.srk_name = test::some_name("the guest's own SRK");
     }},
    {"ForAHypervisorPolicy",
     {"source", "pcrs"},
     "wants a hypervisor",
     {},
     [](Sample& s) { s.policy = Sample::of_hypervisor().policy; }},
    {"EmptyPolicy", {"reference", "pcrs"}, "expects nothing", {}, [](Sample& s) { s.policy.pcrs.clear(); }},
    {"NoPolicy",
     {"reference", "source", "selection", "pcrs"},
     "nothing is accepted",
     {},
     [](Sample& s) { s.with_policy = false; }},
};
INSTANTIATE_TEST_SUITE_P(Tpm, FirmwareMatrix, testing::ValuesIn(kRows), row_name);

// --- what is no log, or one of something else

const std::vector<std::string> kNoLog{"log", "events", "pcrs"};

Row no_log(const char* name, const char* word, std::function<void(Sample&)> change) {
    return {name, kNoLog, word, {}, std::move(change)};
}
// A byte of the log's header: the Spec ID event's data begin at 32.
Row header_byte(const char* name, const char* word, std::size_t at, unsigned value) {
    return no_log(name, word, [at, value](Sample& s) { s.log.at(at) = static_cast<std::byte>(value); });
}
// A byte of the first event after the start-up locality.
Row event_byte(const char* name, const char* word, std::size_t at, unsigned value) {
    return no_log(name, word, [at, value](Sample& s) {
        change_event(s, kVersion, [at, value](Buffer& e) { e.at(at) = static_cast<std::byte>(value); });
    });
}
constexpr std::size_t kSizeAt = kDataAt - 4;

const std::vector<Row> kNoLogs{
    header_byte("HeaderWithoutBanks", "lists no bank", 56, 0),
    header_byte("HeaderWithABankMore", "Spec ID event", 56, 3),
    header_byte("HeaderWithABankLess", "vendor information", 56, 1),
    header_byte("HeaderOfAnotherDigestSize", "digest size", 62, 21),
    header_byte("HeaderWithVendorInformationThatLacks", "vendor information", 68, 200),
    header_byte("HeaderPastTheEnd", "first event", 31, 0x10),
    header_byte("HeaderThatIsNoSpecIdEvent", "event log", 32, 'X'),
    event_byte("PcrThatNoPcHas", "PCR of an event", 0, 24),
    event_byte("PcrOfOtherMemory", "PCR of an event", 3, 0x80),
    event_byte("EventWithoutDigests", "number of an event's digests", 8, 0),
    event_byte("EventWithThreeDigests", "number of an event's digests", 8, 3),
    event_byte("DigestOfAnUnknownAlgorithm", "algorithm of a digest", 12, 0x77),
    event_byte("DigestOfABankNotInTheHeader", "does not list", 12, 0x0c),
    event_byte("DataOfAGigabyte", "data of an event", kSizeAt + 3, 0x40),
    event_byte("DataAByteTooLong", "event log", kSizeAt, 25),
    no_log("DigestsOfZeros", "no hash is like",
           [](Sample& s) {
               change_event(s, kVersion, [](Buffer& e) {
                   std::fill_n(e.begin() + 14, 20, std::byte{0});
                   std::fill_n(e.begin() + kSha256At, 32, std::byte{0});
               });
           }),
    no_log("ZerosWithAByteForALog", "event",
           [](Sample& s) {
               s.log.assign(4096, std::byte{0});
               s.log[4] = std::byte{4};
           }),
    no_log("ErasedFlashForALog", "event", [](Sample& s) { s.log.assign(4096, std::byte{0xff}); }),
    no_log("HeaderAlone", "no event in it", [](Sample& s) { s.log.resize(test::split_log(s.log)[0].size()); }),
    no_log("NothingThatExtends", "extends a PCR",
           [](Sample& s) {
               std::vector<Buffer> parts = test::split_log(s.log);
               parts.resize(2);
               s.log = test::join_log(parts);
           }),
    no_log("ASecondLogBehindTheFirst", "event log",
           [](Sample& s) {
               const Buffer again = s.log;
               s.log.insert(s.log.end(), again.begin(), again.end());
           }),
    no_log("ElevenZerosBehindTheLog", "too few bytes", [](Sample& s) { s.log.resize(s.log.size() + 11); }),
    no_log("PaddingOfTwoKinds", "event",
           [](Sample& s) {
               s.log.resize(s.log.size() + 64);
               s.log.resize(s.log.size() + 64, std::byte{0xff});
           }),
};
INSTANTIATE_TEST_SUITE_P(NoLog, FirmwareMatrix, testing::ValuesIn(kNoLogs), row_name);

// --- a log of the right form, of another boot

Row rearranged(const char* name, const char* word, std::function<void(std::vector<Buffer>&)> change) {
    return {name, {"log"}, word, {}, [change](Sample& s) {
                std::vector<Buffer> parts = test::split_log(s.log);
                change(parts);
                s.log = test::join_log(parts);
            }};
}
const std::vector<Row> kOtherLogs{
    rearranged("EventsOfAPcrExchanged", "sha256 PCR 4", [](auto& parts) { std::swap(parts[5], parts[kBootLoader]); }),
    rearranged("EventTwice", "sha256 PCR 7", [](auto& parts) { parts.insert(parts.begin() + 5, parts[kVariable]); }),
    rearranged("EventOfAnotherMachine", "sha256 PCR 0",
               [](auto& parts) {
                   Sample other = Sample::of_tpm();
                   other.events[1].measured = other.events[1].data = filler("firmware 9.9");
                   other.seal();
                   parts[kVersion] = test::split_log(other.log)[kVersion];
               }),
    rearranged("SeparatorMovedToTheFront", "sha256 PCR 0",
               [](auto& parts) { std::rotate(parts.begin() + 2, parts.begin() + 6, parts.begin() + 7); }),
    rearranged("EventRetypedToExtendNothing", "sha256 PCR 4",
               [](auto& parts) { parts[kBootLoader][4] = std::byte{3}, parts[kBootLoader][7] = std::byte{0}; }),
    rearranged("NothingRetypedToExtend", "sha256 PCR 7",
               [](auto& parts) {
                   parts.push_back(parts[kVariable]);
                   parts.back()[4] = std::byte{0x0d}, parts.back()[7] = std::byte{0};
               }),
    rearranged("DigestOfTheQuotedBankLeftOut", "sha256 PCR 4",
               [](auto& parts) {
                   Buffer& event = parts[kBootLoader];
                   event[8] = std::byte{1};
                   event.erase(event.begin() + 12 + 2 + 20, event.begin() + kSha256At + 32);
               }),
    rearranged("DigestsOfTwoEventsExchanged", "sha256 PCR 0",
               [](auto& parts) {
                   std::swap_ranges(parts[kVersion].begin() + kSha256At, parts[kVersion].begin() + kSha256At + 32,
                                    parts[3].begin() + kSha256At);
               }),
    {"LocalityThatDoesNotExist",
     {},
     "",
     {},
     [](Sample& s) { change_event(s, kLocality, [](Buffer& e) { e.back() = std::byte{2}; }); }},
    {"StartedAtALocalityThatThePolicyDoesNotList",
     {"pcrs"},
     "sha256 PCR 0 is",
     [](Sample& s) {
         s.startup = {{0, 4}};
         s.events[0].data.back() = std::byte{4};
     }},
    {"EventsOfPcr8LeftOut",
     {},
     "",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.pop_back();
         s.log = test::join_log(parts);
     }},
    {"EventsOfPcr8LeftOutThatThePolicyLists",
     {"pcrs"},
     "sha256 PCR 8 is",
     [](Sample& s) { s.policy.pcrs[HashAlgorithm::kSha256][8] = {sha256_pcr0({}, 1)}; },
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.pop_back();
         s.log = test::join_log(parts);
     }},
};
INSTANTIATE_TEST_SUITE_P(OtherLog, FirmwareMatrix, testing::ValuesIn(kOtherLogs), row_name);

// --- values and policies

const std::vector<Row> kValues{
    {"ValuesOfAPcrThatIsNotQuoted",
     {"log", "pcrs"},
     "trailing",
     [](Sample& s) { s.attest.selections[0].pcrs = 0xff; },
     [](Sample& s) { s.pcr_values.resize(32 * 9); }},
    {"ValuesOfZeros", {"log", "pcrs"}, "not those quoted", {}, [](Sample& s) { s.pcr_values.assign(32 * 9, {}); }},
    {"ValueOfAByte", {"log", "pcrs"}, "truncated", {}, [](Sample& s) { s.pcr_values.resize(1); }},
    {"ValuesTurnedRound",
     {"log", "pcrs"},
     "not those quoted",
     {},
     [](Sample& s) { std::ranges::reverse(s.pcr_values); }},
    {"ValueListedForAnotherPcr",
     {"pcrs"},
     "sha256 PCR 0 is",
     [](Sample& s) {
         auto& listed = s.policy.pcrs[HashAlgorithm::kSha256];
         std::swap(listed[0], listed[4]);
     }},
    {"ValueListedForAnotherBank",
     {"selection", "pcrs"},
     "sha384 PCR 7 is not quoted",
     [](Sample& s) { s.policy.pcrs[HashAlgorithm::kSha384][7] = s.policy.pcrs[HashAlgorithm::kSha256][7]; }},
    {"PcrListedWithoutAValue",
     {"pcrs"},
     "sha256 PCR 7 is",
     [](Sample& s) { s.policy.pcrs[HashAlgorithm::kSha256][7].clear(); }},
    {"SecondOfSeveralValues",
     {},
     "",
     [](Sample& s) {
         auto& listed = s.policy.pcrs[HashAlgorithm::kSha256][7];
         listed.insert(listed.begin(), sha256_pcr0({}, 9));
     }},
    {"NoneOfSeveralValues",
     {"pcrs"},
     "sha256 PCR 7 is",
     [](Sample& s) {
         s.policy.pcrs[HashAlgorithm::kSha256][7] = {sha256_pcr0({}, 9), sha256_pcr0({}, 8)};
     }},
    {"Pcr8ThatThePolicyListsChanged",
     {"pcrs"},
     "sha256 PCR 8 is",
     [](Sample& s) { s.policy.pcrs[HashAlgorithm::kSha256][8] = {sha256_pcr0({}, 1)}; }},
    {"QuoteOfNoPcr",
     {"selection", "log", "pcrs"},
     "not quoted",
     [](Sample& s) { s.attest.selections[0].pcrs = 0; },
     [](Sample& s) { s.log.clear(); }},
    {"ContradictionInTheLastLaunchPcr",
     {"events"},
     "(PCR 22)",
     [](Sample& s) {
         s.attest.selections[0].pcrs |= 1u << 22;
         s.events.push_back({22, 4, filler("not a cap"), Buffer(4)});
     }},
    {"ContradictionInThePcrBehindTheLaunchs",
     {},
     "",
     [](Sample& s) {
         s.attest.selections[0].pcrs |= 1u << 23;
         s.events.push_back({23, 4, filler("not a cap"), Buffer(4)});
     }},
    {"ContradictionBetweenTwoBanksAndPolicyWantsNone",
     {"events"},
     "SHA-1 digest",
     [](Sample& s) { s.policy.refuse_contradictions = true; },
     [](Sample& s) { change_event(s, kGrub, [](Buffer& e) { e.at(14) ^= std::byte{1}; }); }},
    {"SeparatorOfNoDataAndPolicyWantsNone",
     {},
     "",
     [](Sample& s) {
         s.policy.refuse_contradictions = true;
         s.events[6].data.clear();
     }},
    {"ClaimsBesideATpmsEvidence",
     {"nonce"},
     "these claims",
     {},
     [](Sample& s) { s.encoded_claims = filler("claims", 40); }},
};
INSTANTIATE_TEST_SUITE_P(Values, FirmwareMatrix, testing::ValuesIn(kValues), row_name);

TEST(FirmwareCoverage, CountsWhatWasComparedOrRecomputed) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    const Coverage coverage = sample.judge().coverage;
    EXPECT_EQ(coverage.events, 14u);  // all but the start-up locality
    EXPECT_EQ(coverage.events_judged,
              14u);  // 12 by their data; the firmware volume and the boot loader by PCRs 0 and 4
    EXPECT_EQ(coverage.pcrs, 9u);
    EXPECT_EQ(coverage.pcrs_judged, 3u);
}

bool has_quirk(const Verdict& verdict, std::string_view word) {
    return std::ranges::any_of(verdict.quirks,
                               [word](const std::string& one) { return one.find(word) != std::string::npos; });
}
const std::string& detail_of(const Verdict& verdict, std::string_view rule) {
    return std::ranges::find(verdict.findings, rule, &Finding::rule)->detail;
}

// An event that contradicts itself is named everywhere, and what it says is nowhere.
TEST(FirmwareContradiction, IsNamedAndNeitherBelievedNorCounted) {
    for (const std::size_t event : {kVersion, kVariable, std::size_t{5}, std::size_t{6}}) {
        Sample sample = Sample::of_tpm();
        sample.seal();
        change_event(sample, event, [](Buffer& bytes) { bytes.at(bytes.size() - 1) ^= std::byte{1}; });
        const Verdict verdict = sample.judge(true);
        EXPECT_TRUE(verdict.accepted());
        EXPECT_EQ(verdict.coverage.events, 14u);
        EXPECT_EQ(verdict.coverage.events_judged, 13u) << "its PCR may be the policy's";
        const std::string place = "event " + std::to_string(event);
        EXPECT_TRUE(has_quirk(verdict, place) && has_quirk(verdict, "nothing that it says is believed"));
        EXPECT_NE(detail_of(verdict, "events").find("1 passed over: " + place), std::string::npos);
        const auto& view = verdict.events.at(event - 1);
        EXPECT_FALSE(view.ok);
        EXPECT_EQ(view.hashed, "differs");
        EXPECT_NE(view.name.find("data not those of its digest"), std::string::npos);
        EXPECT_EQ(view.name.find("SecureBoot"), std::string::npos);
    }
}

TEST(FirmwareContradiction, OfEveryEventLeavesNothingJudged) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    for (std::size_t event = kVersion; event <= kGrub; ++event)
        change_event(sample, event, [](Buffer& bytes) { bytes.at(bytes.size() - 1) ^= std::byte{1}; });
    const Verdict verdict = sample.judge(true);
    EXPECT_TRUE(verdict.accepted()) << "by the values of its PCRs";
    EXPECT_EQ(verdict.coverage.events_judged, 2u) << "firmware volume and boot loader, by the values";
}

// However much else there is to be said, each contradiction is.
TEST(FirmwareContradiction, IsNamedWhateverElseIs) {
    Sample sample = Sample::of_tpm();
    for (int i = 0; i < 200; ++i) sample.events.push_back({9, 0x80000010, filler("x"), filler("y")});
    sample.seal();
    change_event(sample, kVersion, [](Buffer& bytes) { bytes.back() ^= std::byte{1}; });
    const Verdict verdict = sample.judge();
    EXPECT_TRUE(has_quirk(verdict, "and more")) << "there are too many quirks";
    EXPECT_TRUE(has_quirk(verdict, "nothing that it says is believed")) << "but the contradiction is there";
}

TEST(FirmwareContradiction, OfVeryManyIsCounted) {
    Sample sample = Sample::of_tpm();
    for (int i = 0; i < 200; ++i) sample.events.push_back({9, 4, filler("x"), Buffer(4)});
    sample.seal();
    const Verdict verdict = sample.judge();
    EXPECT_EQ(verdict.quirks.size(), kMaxQuirks + 2) << "among them that GRUB's prefix was not hashed";
    EXPECT_TRUE(has_quirk(verdict, "136 more events"));
}

TEST(FirmwareContradiction, OfAnErrorIsNoError) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    change_event(sample, 6, [](Buffer& bytes) { bytes.at(kDataAt) = std::byte{1}; });
    EXPECT_FALSE(has_quirk(sample.judge(), "met an error"));
}

// Who changes an event's data changes its type as well. That gets him nothing that silence would not: what the event says
// is shown as what no digest covers, and the value of its PCR is what the policy compares.
TEST(FirmwareLiar, GainsNothingByAnotherType) {
    for (const std::uint32_t type : {0x0du, 0x01u, 0x06u, 0x80000003u, 0x80000008u, 0x80000010u, 0x7fffffffu}) {
        Sample sample = Sample::of_tpm();
        sample.seal();
        change_event(sample, kVariable, [type](Buffer& bytes) {
            Writer(MutableBytes(bytes).subspan(4)).u32(type);
            bytes.back() ^= std::byte{1};
        });
        const Verdict verdict = sample.judge(true);
        EXPECT_TRUE(verdict.accepted());
        EXPECT_EQ(verdict.events[kVariable - 1].hashed, "elsewhere");
        EXPECT_NE(detail_of(verdict, "events").find("11 of 14"), std::string::npos) << "not counted as recomputed";
        EXPECT_LE(verdict.coverage.events_judged, 14u);
        // Without the PCR in the policy it counts for nothing at all.
        sample.policy.pcrs[HashAlgorithm::kSha256].erase(7);
        EXPECT_EQ(sample.judge().coverage.events_judged, 13u);
    }
}

TEST(FirmwareLiar, GainsNothingByATypeThatExtendsNothing) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    change_event(sample, kVariable, [](Buffer& bytes) { Writer(MutableBytes(bytes).subspan(4)).u32(3); });
    const Verdict verdict = sample.judge(true);
    EXPECT_FALSE(verdict.accepted()) << "the log does not replay";
    EXPECT_EQ(verdict.events[kVariable - 1].hashed, "nothing");
}

// Text that nobody measured: another event's digest under words of one's own.
TEST(FirmwareLiar, CannotHaveHisWordsCalledHashed) {
    for (const char* const words :
         {"grub_cmd: set root=hd1", "grub_cmd set root=hd1", "set root=hd1", "kernel_cmdline: ro"}) {
        Sample sample = Sample::of_tpm();
        sample.seal();
        change_event(sample, kGrub, [words](Buffer& bytes) {
            bytes.resize(kDataAt);
            const Bytes text = host::text_bytes(words);
            Writer(MutableBytes(bytes).subspan(kDataAt - 4)).u32(static_cast<std::uint32_t>(text.size()));
            bytes.insert(bytes.end(), text.begin(), text.end());
        });
        const Verdict verdict = sample.judge(true);
        EXPECT_EQ(verdict.events[kGrub - 1].hashed, "elsewhere") << words;
        EXPECT_EQ(verdict.coverage.events_judged, 13u);
    }
}

void set_text(Sample& sample, std::size_t event, std::string_view words) {
    change_event(sample, event, [words](Buffer& bytes) {
        bytes.resize(kDataAt);
        const Bytes text = host::text_bytes(words);
        Writer(MutableBytes(bytes).subspan(kDataAt - 4)).u32(static_cast<std::uint32_t>(text.size()));
        bytes.insert(bytes.end(), text.begin(), text.end());
    });
}

// Words of his own before the text that was measured.
TEST(FirmwareLiar, CannotPutWordsBeforeWhatWasHashed) {
    for (const char* const words : {"verified: set root=hd0", "harmless set root=hd0", "grub-cmd: set root=hd0"}) {
        Sample sample = Sample::of_tpm();
        sample.seal();
        set_text(sample, kGrub, words);
        EXPECT_EQ(sample.judge(true).events[kGrub - 1].hashed, "elsewhere") << words;
    }
    // Among GRUB's own he may choose: none is shown.
    for (const char* const words :
         {"grub_cmd: set root=hd0", "kernel_cmdline: set root=hd0", "grub_cmd set root=hd0"}) {
        Sample sample = Sample::of_tpm();
        sample.seal();
        set_text(sample, kGrub, words);
        const Verdict verdict = sample.judge(true);
        EXPECT_EQ(verdict.events[kGrub - 1].hashed, "as logged") << words;
        EXPECT_EQ(verdict.events[kGrub - 1].name, "set root=hd0");
    }
}

// Of a variable hashed by its value alone any name fits.
TEST(FirmwareLiar, CannotHaveAVariablesNameVouchedForByItsValue) {
    for (const std::uint32_t type : {0x80000001u, 0x80000002u, 0x8000000cu, 0x800000e0u}) {
        Sample sample = Sample::of_tpm();
        sample.events[kVariable - 1].type = type;
        sample.events[kVariable - 1].measured = filler("\x01", 1);
        sample.events[kVariable - 1].data.back() = filler("\x01", 1).front();
        sample.policy.pcrs[HashAlgorithm::kSha256].erase(7);
        sample.seal();
        change_event(sample, kVariable, [](Buffer& bytes) { bytes.at(kDataAt + 32) = std::byte{'T'}; });
        const Verdict verdict = sample.judge(true);
        EXPECT_TRUE(verdict.accepted());
        EXPECT_EQ(verdict.events[kVariable - 1].name, "TecureBoot");
        EXPECT_EQ(verdict.events[kVariable - 1].hashed, "value alone") << type;
        EXPECT_EQ(verdict.coverage.events_judged, 13u);
        EXPECT_NE(detail_of(verdict, "events").find("11 of 14"), std::string::npos);
    }
}

// What is not in the log of PCRs that others extend after the firmware may have been left out of it.
TEST(FirmwareLiar, CannotHaveAnOmissionCalledAnExtensionOfLater) {
    Sample sample = Sample::of_tpm();
    sample.events.push_back({8, 0x0d, filler("later"), filler("later")});
    sample.seal();
    std::vector<Buffer> parts = test::split_log(sample.log);
    parts.pop_back();
    sample.log = test::join_log(parts);
    EXPECT_TRUE(has_quirk(sample.judge(), "sha256 PCR 8: extended after its end, or events are left out of it"));
    parts.pop_back();
    sample.log = test::join_log(parts);
    EXPECT_TRUE(has_quirk(sample.judge(), "the log has no event of it: PCR 8"));
    Sample untouched = Sample::of_tpm();
    untouched.seal();
    EXPECT_FALSE(has_quirk(untouched.judge(), "PCR 8"));
}

// A bank that nobody quoted says whatever one likes.
TEST(FirmwareLiar, GainsNothingByADigestOfABankThatIsNotQuoted) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    change_event(sample, kGrub, [](Buffer& bytes) {
        bytes.back() ^= std::byte{1};
        copy_bytes(MutableBytes(bytes).subspan(14), hash(HashAlgorithm::kSha1, Bytes(bytes).subspan(kDataAt)).bytes());
    });
    const Verdict verdict = sample.judge(true);
    EXPECT_EQ(verdict.events[kGrub - 1].hashed, "differs");
    EXPECT_EQ(verdict.coverage.events_judged, 13u);
}

TEST(FirmwareLiar, IsNotShownAsQuotedWhereNothingIsQuoted) {
    Sample sample = Sample::of_tpm();
    sample.attest.selections = {{HashAlgorithm::kSha256, 1u << 4}};
    std::erase_if(sample.policy.pcrs[HashAlgorithm::kSha256], [](const auto& pcr) { return pcr.first != 4; });
    sample.seal();
    const Verdict verdict = sample.judge(true);
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.events[kVariable - 1].hashed, "not quoted");
    EXPECT_EQ(verdict.events[4].hashed, "as logged");
    EXPECT_EQ(verdict.events[0].hashed, "nothing");
}

TEST(FirmwareHcrtm, IsNamedWhereThePcrSaysOtherwise) {
    Sample sample = Sample::of_tpm();
    start_with_hcrtm(sample, 3);
    sample.seal();
    const Verdict verdict = sample.judge();
    EXPECT_TRUE(verdict.accepted());
    EXPECT_TRUE(has_quirk(verdict, "PCR 0 was started at locality 3"));
    Sample right = Sample::of_tpm();
    start_with_hcrtm(right, 4);
    right.seal();
    EXPECT_FALSE(has_quirk(right.judge(), "locality"));
}

// What nobody measured can be logged by anybody.
TEST(FirmwareCoverage, LeavesOutEventsThatTheQuoteDoesNotVouchFor) {
    Sample sample = Sample::of_tpm();
    sample.attest.selections = {{HashAlgorithm::kSha256, 1u << 4}};
    std::erase_if(sample.policy.pcrs[HashAlgorithm::kSha256], [](const auto& pcr) { return pcr.first != 4; });
    sample.seal();
    const Verdict verdict = sample.judge();
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.coverage.events, 14u);
    EXPECT_EQ(verdict.coverage.events_judged, 3u);
}

TEST(FirmwareCoverage, LeavesOutAnEventWithoutADigestOfTheQuotedBank) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    std::vector<Buffer> parts = test::split_log(sample.log);
    parts.push_back(parts.at(kBootLoader));
    Buffer& phantom = parts.back();
    phantom[8] = std::byte{1};  // SHA-1's digest alone
    phantom.erase(phantom.begin() + 12 + 2 + 20, phantom.begin() + kSha256At + 32);
    sample.log = test::join_log(parts);
    const Verdict verdict = sample.judge(true);
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.coverage.events, 15u);
    EXPECT_EQ(verdict.coverage.events_judged, 14u);
    EXPECT_TRUE(verdict.events[13].ok);
    EXPECT_FALSE(verdict.events.back().ok);
}

TEST(FirmwareViews, ShowExpectedAndFoundSideBySide) {
    Sample sample = Sample::of_tpm();
    sample.events[13].measured = filler("another boot loader");
    sample.seal();
    const Verdict verdict = sample.judge();
    ASSERT_EQ(verdict.pcrs.size(), 9u);
    EXPECT_EQ(verdict.pcrs[0].expected, verdict.pcrs[0].found);
    EXPECT_NE(verdict.pcrs[4].expected, verdict.pcrs[4].found);
    EXPECT_TRUE(verdict.pcrs[1].expected.empty());
    EXPECT_EQ(verdict.events[3].name, "SecureBoot");
}

}  // namespace
}  // namespace gatehouse::verifier
