// Sealing and quoting, live against swtpm.
#include "keyvault/tpm/sealing.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "keyvault/tpm_templates/policy.hpp"
#include "tests/unit/keyvault/provisioned_tpm.hpp"

namespace gatehouse::tpm {
namespace {

using test::Authority;
using test::Buffer;
using test::ProvisionedTpm;

const Bytes kImage = literal_bytes("secure loader block");
const Bytes kPayload = literal_bytes("policy bundle");

class Sealing : public ::testing::Test {
  protected:
    Result<Secret<32>> unseal_with(ProvisionedTpm& machine, const UnsealRequest& request) {
        auto secret = unseal(machine.tpm, machine.random, request);
        machine.device.interposer = nullptr;
        machine.device.command_interposer = nullptr;
        EXPECT_EQ(machine.loaded_handles(), 0u) << "something stays loaded in the TPM";
        return secret;
    }
    Result<Secret<32>> unseal_with(const UnsealRequest& request) { return unseal_with(tpm_, request); }
    void expect_refused(const Result<Secret<32>>& secret, Error error, std::string_view item) {
        EXPECT_FALSE(secret.ok()) << "it was unsealed";
        EXPECT_EQ(secret.error(), error) << error_name(secret.error()) << " " << std::hex << secret.failure().detail;
        EXPECT_EQ(secret.failure().item, item);
    }
    Approval approval() { return tpm_.approve(kImage, kPayload, tpm_.counter); }

    ProvisionedTpm tpm_;
};

TEST_F(Sealing, ReleasesTheSecretToTheApprovedMachine) {
    tpm_.launch(kImage, kPayload);
    const auto secret = unseal_with(tpm_.request(approval()));
    ASSERT_TRUE(secret.ok()) << secret.failure().item << " " << std::hex << secret.failure().detail;
    EXPECT_TRUE(secret.value().equals(tpm_.secret.bytes()));
}

TEST(SealingWithRsaAuthority, ReleasesTheSecret) {
    for (const auto kind : {Authority::Kind::kRsa2048, Authority::Kind::kRsa3072}) {
        ProvisionedTpm machine(kind);
        machine.launch(kImage, kPayload);
        const Approval approval = machine.approve(kImage, kPayload, machine.counter);
        const auto secret = unseal(machine.tpm, machine.random, machine.request(approval));
        ASSERT_TRUE(secret.ok()) << secret.failure().item << " " << std::hex << secret.failure().detail;
        EXPECT_TRUE(secret.value().equals(machine.secret.bytes()));
    }
}

TEST_F(Sealing, NeedsNoResealingForANewImage) {
    tpm_.launch(literal_bytes("new image"), kPayload);
    const auto secret = unseal_with(tpm_.request(tpm_.approve(literal_bytes("new image"), kPayload, tpm_.counter)));
    EXPECT_TRUE(secret.ok()) << secret.failure().item;
}

TEST_F(Sealing, SecretNeverCrossesTheBusInClear) {
    tpm_.launch(kImage, kPayload);
    ASSERT_TRUE(unseal_with(tpm_.request(approval())).ok());
    ASSERT_FALSE(tpm_.device.traffic.empty());
    for (const Buffer& message : tpm_.device.traffic) {
        // Any eight bytes of it would be too much.
        for (std::size_t at = 0; at + 8 <= 32; ++at) {
            const auto part = tpm_.secret.bytes().subspan(at, 8);
            EXPECT_EQ(std::search(message.begin(), message.end(), part.begin(), part.end()), message.end());
        }
    }
}

TEST_F(Sealing, RefusesAnotherImage) {
    tpm_.launch(literal_bytes("another image"), kPayload);
    expect_refused(unseal_with(tpm_.request(approval())), Error::kMismatch, "PCR 17 and 18 not as approved");
}

TEST_F(Sealing, RefusesAnotherPayload) {
    tpm_.launch(kImage, literal_bytes("another bundle"));
    expect_refused(unseal_with(tpm_.request(approval())), Error::kMismatch, "PCR 17 and 18 not as approved");
}

// The check of the digest is for the message: without it, the TPM refuses all the same.
TEST_F(Sealing, TpmItselfRefusesAnotherImage) {
    tpm_.launch(literal_bytes("another image"), kPayload);
    const Approval forged = approval();
    tpm_.device.interposer = [&](std::uint32_t code, Buffer& response) {
        if (code != TPM2_CC_PolicyGetDigest) return;
        std::copy(forged.policy.begin(), forged.policy.end(), response.end() - 32);
    };
    const auto secret = unseal_with(tpm_.request(forged));
    expect_refused(secret, Error::kTpmError, "TPM2_PolicyAuthorize");
}

TEST_F(Sealing, RefusesAfterTheCap) {
    tpm_.launch(kImage, kPayload);
    const Digest cap = hash(HashAlgorithm::kSha256, std::array<std::byte, 4>{});
    ASSERT_TRUE(tpm_.tpm.pcr_extend(17, std::span(&cap, 1)).ok());
    expect_refused(unseal_with(tpm_.request(approval())), Error::kMismatch, "PCR 17 and 18 not as approved");
}

TEST_F(Sealing, RefusesIfAPcrChangesBetweenPolicyAndUse) {
    tpm_.launch(kImage, kPayload);
    bool extended = false;
    tpm_.device.command_interposer = [&](std::uint32_t code, Buffer&) {
        if (code != TPM2_CC_Unseal || extended) return;
        extended = true;
        Tpm another(tpm_.device);
        const Digest digest = hash(HashAlgorithm::kSha256, kImage);
        ASSERT_TRUE(another.pcr_extend(17, std::span(&digest, 1)).ok());
    };
    expect_refused(unseal_with(tpm_.request(approval())), Error::kAuthFailed, "TPM refuses to unseal");
    EXPECT_TRUE(extended);
}

TEST_F(Sealing, RefusesEveryOtherLocality) {
    for (const unsigned locality : {0u, 1u, 3u, 4u}) {
        tpm_.launch(kImage, kPayload);
        tpm_.device.set_locality(locality);
        const auto secret = unseal_with(tpm_.request(approval()));
        expect_refused(secret, Error::kAuthFailed, "TPM refuses to unseal");
    }
}

TEST_F(Sealing, RefusesOnceTheCounterIsAboveTheLimit) {
    tpm_.launch(kImage, kPayload);
    const Approval old = approval();
    tpm_.increment_counter();
    expect_refused(unseal_with(tpm_.request(old)), Error::kRefused, "rollback counter above the approval's limit");
}

TEST_F(Sealing, AcceptsALimitAboveTheCounter) {
    tpm_.launch(kImage, kPayload);
    EXPECT_TRUE(unseal_with(tpm_.request(tpm_.approve(kImage, kPayload, tpm_.counter + 5))).ok());
}

TEST_F(Sealing, RefusesALimitThatWasNotSigned) {
    tpm_.launch(kImage, kPayload);
    Approval old = approval();
    tpm_.increment_counter();
    old.counter_limit = tpm_.counter;
    expect_refused(unseal_with(tpm_.request(old)), Error::kMismatch, "PCR 17 and 18 not as approved");
    // The policy digest adjusted as well, but not the signature:
    old.policy = sealing_policy_digest(test::extended_once(kImage), test::extended_once(kPayload),
                                       rollback_counter_name(kRollbackCounter), tpm_.counter);
    expect_refused(unseal_with(tpm_.request(old)), Error::kBadSignature, "approval: not signed by the authority");
}

TEST_F(Sealing, RefusesASignatureByAnotherKey) {
    tpm_.launch(kImage, kPayload);
    Approval forged = approval();
    const SignatureBlob signature = Authority().approve(forged.policy, tpm_.policy_ref);
    forged.signature = signature.bytes();
    expect_refused(unseal_with(tpm_.request(forged)), Error::kBadSignature, "approval: not signed by the authority");
}

TEST_F(Sealing, RefusesAnotherAuthority) {
    tpm_.launch(kImage, kPayload);
    Approval forged = approval();
    const Authority other;
    const SignatureBlob signature = other.approve(forged.policy, tpm_.policy_ref);
    forged.signature = signature.bytes();
    UnsealRequest request = tpm_.request(forged);
    request.authority = other.public_area().bytes();
    expect_refused(unseal_with(request), Error::kAuthFailed, "TPM refuses to unseal");
}

TEST_F(Sealing, RefusesAnotherPolicyReference) {
    tpm_.launch(kImage, kPayload);
    Approval other = approval();
    const Bytes reference = literal_bytes("another product");
    UnsealRequest request = tpm_.request(other);
    request.policy_ref = reference;
    expect_refused(unseal_with(request), Error::kBadSignature, "approval: not signed by the authority");
    // Signed by the authority, for that other reference:
    const SignatureBlob signature = tpm_.authority.approve(other.policy, reference);
    request.approval.signature = signature.bytes();
    expect_refused(unseal_with(request), Error::kAuthFailed, "TPM refuses to unseal");
}

TEST_F(Sealing, RefusesGarbageInPlaceOfTheApproval) {
    tpm_.launch(kImage, kPayload);
    Approval garbage = approval();
    for (const std::size_t size : {0u, 1u, 3u, 4u, 40u, 200u, 1900u, 4000u}) {
        const Buffer signature(size, std::byte{0x41});
        garbage.signature = signature;
        EXPECT_FALSE(unseal_with(tpm_.request(garbage)).ok()) << size;
    }
}

TEST_F(Sealing, RefusesAStorageRootKeyThatIsNotThePinnedOne) {
    tpm_.launch(kImage, kPayload);
    const Approval approved = approval();
    UnsealRequest request = tpm_.request(approved);
    request.storage_root_key[20] ^= std::byte{1};
    expect_refused(unseal_with(request), Error::kMismatch, "storage root key: Name is not the pinned one");
}

TEST_F(Sealing, RefusesAVaultOfAnotherTpm) {
    ProvisionedTpm other;
    other.launch(kImage, kPayload);
    const Approval approved = approval();
    UnsealRequest request = tpm_.request(approved);
    expect_refused(unseal_with(other, request), Error::kMismatch, "storage root key: Name is not the pinned one");
    // Even if the pinned name were adjusted:
    request.storage_root_key = other.storage_root_key;
    expect_refused(unseal_with(other, request), Error::kTpmError, "TPM2_Load");
}

TEST_F(Sealing, RefusesWithoutADynamicLaunch) {
    tpm_.device.set_locality(2);
    expect_refused(unseal_with(tpm_.request(approval())), Error::kMismatch, "PCR 17 and 18 not as approved");
    tpm_.device.dynamic_launch(kImage);
    tpm_.device.set_locality(2);
    expect_refused(unseal_with(tpm_.request(approval())), Error::kMismatch, "PCR 17 and 18 not as approved");
}

TEST_F(Sealing, RefusesASecretOfAnotherSize) {
    tpm_.launch(kImage, kPayload);
    const Approval approved = approval();
    for (const std::size_t size : {1u, 16u, 31u, 33u, 64u}) {
        const auto sealed = tpm_.seal(Buffer(size, std::byte{1}));
        UnsealRequest request = tpm_.request(approved);
        request.sealed_public = sealed.public_area.bytes();
        request.sealed_private = sealed.private_blob.bytes();
        expect_refused(unseal_with(request), Error::kBadLength, "TPM2_Unseal");
    }
}

// An interposer has the TPM load an object of his own (same policy, a secret that he knows) and reports the
// right name.
TEST_F(Sealing, InterposerCannotSwapTheSealedObject) {
    ProvisionedTpm::SealedObject swapped = tpm_.seal(Buffer(32));
    tpm_.launch(kImage, kPayload);
    bool swap_done = false;
    tpm_.device.command_interposer = [&](std::uint32_t code, Buffer& command) {
        if (code != TPM2_CC_Load) return;
        swap_done = true;
        const std::size_t head = 10 + 4 + 4 + 9;  // header, parent, password session
        Buffer body(2048);
        Writer writer(body, Endian::kBig);
        writer.sized(swapped.private_blob.bytes());
        writer.sized(swapped.public_area.bytes());
        command.resize(head);
        command.insert(command.end(), body.begin(), body.begin() + static_cast<std::ptrdiff_t>(writer.offset()));
        store(command.data() + 2, static_cast<std::uint32_t>(command.size()), Endian::kBig);
    };
    const Name right = name_of(tpm_.sealed_public.bytes());
    tpm_.device.interposer = [&](std::uint32_t code, Buffer& response) {
        if (code == TPM2_CC_Load && response.size() > 20) {
            std::copy(right.begin(), right.end(), response.begin() + 10 + 4 + 4 + 2);
        }
    };
    const auto secret = unseal_with(tpm_.request(approval()));
    EXPECT_TRUE(swap_done);
    expect_refused(secret, Error::kAuthFailed, "TPM refuses to unseal");
    EXPECT_EQ(secret.failure().detail & 0x0bfu, static_cast<unsigned>(TPM2_RC_BAD_AUTH & 0x0bf))
        << "the TPM should have found the HMAC wrong";
}

TEST_F(Sealing, RefusesEveryChangeToTheUnsealResponse) {
    tpm_.launch(kImage, kPayload);
    const Approval approved = approval();
    ASSERT_TRUE(unseal_with(tpm_.request(approved)).ok());
    const Buffer original =
        *std::find_if(tpm_.device.traffic.rbegin(), tpm_.device.traffic.rend(), [](const Buffer& m) {
            return m.size() > 100 && m[0] == std::byte{0x80} && m[1] == std::byte{0x02} &&
                   load<std::uint32_t>(m.data() + 10, Endian::kBig) == 34;  // parameters: TPM2B of 32 bytes
        });
    for (std::size_t at = 0; at < original.size(); ++at) {
        tpm_.device.interposer = [&](std::uint32_t code, Buffer& response) {
            if (code == TPM2_CC_Unseal) response[at] ^= std::byte{0x01};
        };
        const auto secret = unseal_with(tpm_.request(approved));
        EXPECT_FALSE(secret.ok()) << "byte " << at;
        // From the ciphertext on, it is the MAC that finds it (but for lengths).
        if (at >= 16 && at < 48) {
            EXPECT_EQ(secret.error(), Error::kBadMac) << at;
        }
    }
}

// --- Sealed to approved releases on approved machines

const Bytes kMachine = literal_bytes("machine facts and ACPI tables");

class SealingToMachines : public Sealing {
  protected:
    SealingToMachines() : sealed_(tpm_.seal(tpm_.secret.bytes(), true)) {}
    UnsealRequest request(const Approval& release, const MachineApproval& machine) {
        UnsealRequest made = tpm_.request(release);
        made.sealed_public = sealed_.public_area.bytes();
        made.sealed_private = sealed_.private_blob.bytes();
        made.machine = machine;
        return made;
    }
    ProvisionedTpm::SealedObject sealed_;
};

TEST_F(SealingToMachines, ReleasesTheSecretToTheApprovedReleaseOnTheApprovedMachine) {
    tpm_.launch(kImage, kPayload, kMachine);
    const auto secret = unseal_with(request(approval(), tpm_.approve_machine(kMachine)));
    ASSERT_TRUE(secret.ok()) << secret.failure().item << " " << std::hex << secret.failure().detail;
    EXPECT_TRUE(secret.value().equals(tpm_.secret.bytes()));
}

// R releases on N machines: the two approvals know nothing of each other.
TEST_F(SealingToMachines, EachApprovedReleaseRunsOnEachApprovedMachine) {
    for (const Bytes image : {kImage, literal_bytes("next release")}) {
        for (const Bytes machine : {kMachine, literal_bytes("another model")}) {
            tpm_.launch(image, kPayload, machine);
            const Approval release = tpm_.approve(image, kPayload, tpm_.counter);
            EXPECT_TRUE(unseal_with(request(release, tpm_.approve_machine(machine))).ok());
        }
    }
}

TEST_F(SealingToMachines, RefusesAnotherMachine) {
    tpm_.launch(kImage, kPayload, literal_bytes("a forged DSDT"));
    expect_refused(unseal_with(request(approval(), tpm_.approve_machine(kMachine))), Error::kMismatch,
                   "PCR 19 not as approved: another machine, or another firmware");
    tpm_.launch(kImage, kPayload);
    expect_refused(unseal_with(request(approval(), tpm_.approve_machine(kMachine))), Error::kMismatch,
                   "PCR 19 not as approved: another machine, or another firmware");
}

TEST_F(SealingToMachines, RefusesAnotherReleaseOnAnApprovedMachine) {
    tpm_.launch(literal_bytes("another image"), kPayload, kMachine);
    expect_refused(unseal_with(request(approval(), tpm_.approve_machine(kMachine))), Error::kMismatch,
                   "PCR 17 and 18 not as approved");
}

TEST_F(SealingToMachines, RefusesAMachineThatTheAuthorityDidNotSign) {
    tpm_.launch(kImage, kPayload, kMachine);
    MachineApproval machine = tpm_.approve_machine(kMachine);
    const Approval release = approval();
    const auto machine_ref = machine_policy_ref(tpm_.policy_ref);
    const SignatureBlob other = Authority().approve(machine.policy, machine_ref->bytes());
    const SignatureBlob as_release = tpm_.authority.approve(machine.policy, tpm_.policy_ref);
    for (const Bytes signature : {other.bytes(), as_release.bytes(), release.signature}) {
        machine.signature = signature;
        expect_refused(unseal_with(request(release, machine)), Error::kBadSignature,
                       "machine approval: not signed by the authority");
    }
}

// A machine's approval is for a reference of its own: it cannot be handed in as a release's, nor the other way round.
TEST_F(SealingToMachines, ApprovalsOfTheTwoKindsAreNotInterchangeable) {
    tpm_.launch(kImage, kPayload, kMachine);
    const Approval release = approval();
    const MachineApproval machine = tpm_.approve_machine(kMachine);
    Approval swapped = release;
    swapped.signature = machine.signature;
    expect_refused(unseal_with(request(swapped, machine)), Error::kBadSignature,
                   "approval: not signed by the authority");
}

TEST_F(SealingToMachines, NeedsBothSteps) {
    tpm_.launch(kImage, kPayload, kMachine);
    const Approval release = approval();
    UnsealRequest one_step = request(release, {});
    one_step.machine.reset();
    expect_refused(unseal_with(one_step), Error::kAuthFailed, "TPM refuses to unseal");
    // And a secret sealed to the release alone is not released by two.
    UnsealRequest two_steps = tpm_.request(release);
    two_steps.machine = tpm_.approve_machine(kMachine);
    expect_refused(unseal_with(two_steps), Error::kAuthFailed, "TPM refuses to unseal");
}

TEST_F(SealingToMachines, RefusesEveryOtherLocality) {
    for (const unsigned locality : {0u, 1u, 3u, 4u}) {
        tpm_.launch(kImage, kPayload, kMachine);
        tpm_.device.set_locality(locality);
        expect_refused(unseal_with(request(approval(), tpm_.approve_machine(kMachine))), Error::kAuthFailed,
                       "TPM refuses to unseal");
    }
}

TEST_F(SealingToMachines, RefusesIfTheMachinesPcrChangesBetweenPolicyAndUse) {
    tpm_.launch(kImage, kPayload, kMachine);
    bool extended = false;
    tpm_.device.command_interposer = [&](std::uint32_t code, Buffer&) {
        if (code != TPM2_CC_Unseal || extended) return;
        extended = true;
        Tpm another(tpm_.device);
        const Digest digest = hash(HashAlgorithm::kSha256, kImage);
        ASSERT_TRUE(another.pcr_extend(19, std::span(&digest, 1)).ok());
    };
    expect_refused(unseal_with(request(approval(), tpm_.approve_machine(kMachine))), Error::kAuthFailed,
                   "TPM refuses to unseal");
    EXPECT_TRUE(extended);
}

TEST(MachinePolicyRef, IsThePolicyReferenceWithASuffix) {
    const auto ref = machine_policy_ref(literal_bytes("fleet"));
    ASSERT_TRUE(ref.ok());
    EXPECT_TRUE(equal_bytes(ref->bytes(), literal_bytes("fleet/machine")));
    EXPECT_TRUE(machine_policy_ref(Buffer(56)).ok());
    EXPECT_FALSE(machine_policy_ref(Buffer(57)).ok());
}

class Quoting : public ::testing::Test {
  protected:
    Result<Quote> quote_with(Bytes qualifying) {
        auto found = quote(tpm_.tpm, tpm_.random, tpm_.attestation_public.bytes(), tpm_.attestation_private.bytes(),
                           qualifying, kSelection);
        tpm_.device.interposer = nullptr;
        tpm_.device.command_interposer = nullptr;
        EXPECT_EQ(tpm_.loaded_handles(), 0u) << "something stays loaded in the TPM";
        return found;
    }
    static constexpr PcrSelection kSelection{HashAlgorithm::kSha384, 0x0600ff};
    ProvisionedTpm tpm_;
    Sha256Digest qualifying_ = sha256(literal_bytes("nonce and claims"));
};

TEST_F(Quoting, IsSignedByTheAttestationKeyAndCarriesThePcrs) {
    tpm_.launch(kImage, kPayload);
    const auto found = quote_with(qualifying_);
    ASSERT_TRUE(found.ok()) << found.failure().item << " " << std::hex << found.failure().detail;
    EXPECT_TRUE(test::verify_ecdsa(tpm_.attestation_public.bytes(), found->attest.bytes(), found->signature.bytes()));

    Buffer values;
    for (unsigned pcr = 0; pcr < 24; ++pcr) {
        if ((kSelection.pcrs & (1u << pcr)) == 0) continue;
        const auto value = tpm_.tpm.pcr_read(kSelection.bank, pcr);
        ASSERT_TRUE(value.ok());
        values.insert(values.end(), value->bytes().begin(), value->bytes().end());
    }
    const Sha256Digest digest = sha256(values);
    EXPECT_TRUE(equal_bytes(found->attest.bytes().last(32), digest)) << "the PCR digest ends a TPMS_QUOTE_INFO";
}

TEST_F(Quoting, NeedsLocalityTwo) {
    tpm_.launch(kImage, kPayload);
    for (const unsigned locality : {0u, 1u, 3u, 4u}) {
        tpm_.device.set_locality(locality);
        EXPECT_EQ(quote_with(qualifying_).error(), Error::kTpmError) << locality;
    }
}

TEST_F(Quoting, RefusesTooMuchQualifyingData) {
    tpm_.launch(kImage, kPayload);
    EXPECT_TRUE(quote_with({}).ok());
    EXPECT_TRUE(quote_with(Buffer(64)).ok());
    EXPECT_FALSE(quote_with(Buffer(1000)).ok());
    EXPECT_FALSE(quote_with(Buffer(5000)).ok());
}

}  // namespace
}  // namespace gatehouse::tpm
