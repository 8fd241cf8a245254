// A TPM that answers whatever it likes, to every command of measured code.
//
// Input: one byte that chooses the operation, then responses: a kind (0 raw, 1 framed without sessions, 2
// framed with sessions, 3 framed with sessions and a password session's empty authorization), a two-byte
// length, the bytes.
#include <cstdlib>

#include "keyvault/tpm/endorsement.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::tpm {
namespace {

class FuzzedTransport final : public Transport {
  public:
    explicit FuzzedTransport(Bytes script) : script_(script, Endian::kBig) {}

    Result<std::size_t> transmit(Bytes command, MutableBytes response) override {
        if (command.size() < 10 || load<std::uint32_t>(command.data() + 2, Endian::kBig) != command.size())
            std::abort();
        if (script_.remaining() == 0) return {Error::kTimeout, "script"};
        const std::uint8_t kind = script_.u8();
        const std::size_t size = script_.u16();
        const Bytes body = script_.bytes(size < script_.remaining() ? size : script_.remaining());
        Writer writer(response, Endian::kBig);
        if (kind % 4 == 0) {
            writer.bytes(body);
        } else {
            writer.u16(kind % 4 == 1 ? TPM2_ST_NO_SESSIONS : TPM2_ST_SESSIONS);
            const std::size_t size_at = writer.reserve<std::uint32_t>();
            writer.u32(TPM2_RC_SUCCESS);
            if (kind % 4 == 3) writer.u32(static_cast<std::uint32_t>(body.size()));
            writer.bytes(body);
            if (kind % 4 == 3) {
                writer.u32(0x00000100);  // nonce, attributes, HMAC: empty
                writer.u8(0);
            }
            writer.patch(size_at, static_cast<std::uint32_t>(writer.offset()));
        }
        if (writer.failed()) return {Error::kNoSpace, "script"};
        return writer.offset();
    }
    void pause() override {}

  private:
    Reader script_;
};

class Counter final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(++next_);
    }

  private:
    unsigned next_ = 0;
};

void run(unsigned operation, Tpm& tpm, RandomSource& random) {
    const std::array<std::byte, 100> blob{};
    switch (operation % 12) {
        case 0: (void)tpm.active_banks(); break;
        case 1: (void)tpm.pcr_extend(17, {}); break;
        case 2: (void)tpm.pcr_read(HashAlgorithm::kSha256, 17); break;
        case 3: {
            std::array<std::byte, 70> out{};
            (void)tpm.get_random(out);
            break;
        }
        case 4: (void)tpm.read_public(kStorageRootKey); break;
        case 5: (void)tpm.load_external(blob); break;
        case 6: (void)tpm.load(kStorageRootKey, blob, blob); break;
        case 7: (void)tpm.verify_signature(1, {}, blob); break;
        case 8: (void)quote(tpm, random, blob, blob, blob, kLaunchPcrs); break;
        case 9: {
            // The pinned Name is the answer's, so that the fuzzed key is used for the salt.
            const auto root = tpm.read_public(kStorageRootKey);
            if (!root.ok()) break;
            auto session = PolicySession::start_salted(tpm, random, kStorageRootKey, root->bytes());
            if (!session.ok()) break;
            if (session->unseal(1, Name{}).ok()) std::abort();  // nobody can know the session key
            UnsealRequest request{.authority = blob, .sealed_public = blob, .sealed_private = blob};
            if (unseal(tpm, random, request).ok()) std::abort();
            break;
        }
        case 10: {
            std::array<std::byte, kMaxEndorsementSize> out{};
            const auto size = read_endorsement(tpm, 0x01c00002, out);
            if (size.ok() && *size > out.size()) std::abort();
            break;
        }
        case 11: {
            std::array<std::byte, 64> out{};
            const auto size = activate_credential(tpm, random, 0x81010001, blob, blob, blob, blob, out);
            if (size.ok() && (*size == 0 || *size > out.size())) std::abort();
            break;
        }
        default: break;
    }
}

}  // namespace
}  // namespace gatehouse::tpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    using namespace gatehouse;
    tpm::FuzzedTransport transport(std::as_bytes(std::span(data, size)).subspan(1));
    tpm::Tpm device(transport);
    tpm::Counter random;
    tpm::run(data[0], device, random);
    return 0;
}
