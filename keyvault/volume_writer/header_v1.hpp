// Reads vault headers of version 1, which this release does not boot from, so that a tool can convert them. Version 1
// had no vault id, root secret, members and member slot; otherwise it was as header.hpp says, with its own labels.
#pragma once

#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

// The copies of version 1, as select_candidates().
[[nodiscard]] Candidates select_candidates_v1(Bytes copy0, Bytes copy1);

// Opens a copy of version 1 by its recovery slot. `header` gets what a new one can go on with: generation,
// disk, geometry, regions, overlay, attestation key and the data key's epoch; it has no slots, root and
// wrapped data key: those are to be made anew, also a new KEK. `keys`: KEK and DEK. On failure `keys` is
// wiped and `header` not to be used. Errors as open_header(); kNotFound if there is no recovery slot.
[[nodiscard]] Status open_header_v1(Bytes copy, const SlotSecret& recovery_key, const Guid* disk, Header& header,
                                    Keys& keys);

}  // namespace gatehouse::volume
