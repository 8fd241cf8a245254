#include "keyvault/volume_writer/peek.hpp"

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {

Status peek(Bytes copy, Header& header) {
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy));
    Reader reader(covered);
    GATEHOUSE_TRY(read_front(reader, header));
    GATEHOUSE_TRY(read_body(reader, header));
    return validate(header);
}

}  // namespace gatehouse::volume
