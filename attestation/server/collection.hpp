// A public collection of TPM vendors' CA certificates, as it lies on a disk: a directory, in which each sub-directory is a
// vendor (Infineon/RootCA/..., Infineon/IntermediateCA/...) and what lies beside them is of one vendor more; or one file.
// Certificates and CRLs in DER or PEM, many in one file or one in each; what a file is is told by its content.
//
// Everything in it may be hostile. Links are not followed, only regular files are read, and what is too large is not; names
// are shown with what is not printable escaped. What is wrong with one item does not touch the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attestation/verifier/endorsement.hpp"

namespace gatehouse::server {

using host::Buffer;

inline constexpr std::size_t kMostCollectionFile = 16u << 20;   // bytes; a larger file is passed over
inline constexpr std::uint64_t kMostCollection = 512ull << 20;  // bytes read in all
inline constexpr std::size_t kMostCollectionEntries = 500'000;  // files and directories
inline constexpr unsigned kMostCollectionDepth = 16;            // directories in one another

enum class ItemKind : std::uint8_t { kRoot, kIntermediate, kCrl };

struct CollectionItem {
    std::string place;  // "Infineon/RootCA/optiga.crt", "bundle.pem: 17"
    std::string name;   // of its subject, or a CRL's issuer
    ItemKind kind = ItemKind::kRoot;
    Buffer der;
    bool expired = false;  // a certificate; to be taken only if it is trusted already
};

struct PassedOver {
    std::string place, why;
};

struct CollectionVendor {
    std::string name;
    std::vector<CollectionItem> items;  // each once, by its bytes
};

struct Collection {
    std::vector<CollectionVendor> vendors;  // those with items, by name
    std::vector<PassedOver> passed_over;    // in the order of their places
    std::uint64_t files = 0;                // that were read
};

// `rest`: the vendor that certificates outside of sub-directories are of. A root is a CA's certificate that is signed by its
// own key; another CA's is an intermediate. `now`: seconds since the epoch, that certificates may have expired by.
// ToolError if it cannot be read, or has more than is read: then nothing of it is to be taken.
[[nodiscard]] Collection read_collection(const std::string& path, const std::string& rest, std::time_t now);

}  // namespace gatehouse::server
