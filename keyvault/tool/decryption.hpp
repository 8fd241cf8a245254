// A disk brought back to plaintext, with its recovery key, while nobody else uses it: for a machine that leaves the fleet whole.
//
// What is on the disk, and what a cut in each step leaves:
//
//     both copies of the header say so          the vault as it was, or one that decrypt() goes on with
//     windows of 16 MiB, each with a journal    decrypt()
//     a cursor behind everything, both copies   decrypt(), which finds nothing to do but the rest
//     the vault overwritten                     decrypt(), or, of a vault without a header: erase()
//
// From the first of them on no boot opens the vault (volume_writer/decryption.hpp), and no other verb goes on with it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/confirmation.hpp"
#include "keyvault/tool/recovery_key.hpp"

namespace gatehouse::host {

struct DecryptRequest {
    std::string disk;
    RecoverySource recovery_key;
    Confirmation confirmation;
    bool plan = false;  // look, and say what would be done; nothing is changed
};

// Says on standard error what is going to happen, asks, decrypts every sector in place and overwrites the vault when all of them
// are on the medium. A boot disk that lists members is refused: its vault is what opens them. {"disk" (GUID), "vault_id",
// "decrypted_bytes", "resumed", "seconds", "notes" (what is to be known or done), and what wipe_vault() says}; a plan as
// rotate() has it. What a failure says ends with what to do next.
[[nodiscard]] nlohmann::json decrypt(const DecryptRequest& request, const Ask& ask = ask_on_terminal);

// The part that knows no medium but the disk: every sector is plaintext at its end, and the vault is there still, with a
// header that says so. Goes on with what was begun.
void bring_to_plaintext(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                        std::size_t window_size = volume::kWindowSize);

}  // namespace gatehouse::host
