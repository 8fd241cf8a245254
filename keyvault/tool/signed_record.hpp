// What a tool did, as a file for somebody's records, and a signature beside it.
#pragma once

#include <string>
#include <string_view>

#include "keyvault/host_support/authority.hpp"

namespace gatehouse::host {

// Where a record goes, looked at before what it is to tell of is done: its construction throws a ToolError for names that
// are taken and keys that cannot sign, so that what follows can be recorded.
class RecordFile {
  public:
    // `path`: file to make, and PATH.sig with a key; empty: none. `sign_key`: PEM, P-256; empty: it is not signed.
    RecordFile(const std::string& path, const std::string& sign_key);

    [[nodiscard]] bool wanted() const { return !path_.empty(); }
    // These bytes, and their ECDSA signature with SHA-256 in DER:
    //   openssl dgst -sha256 -verify KEY.pub -signature PATH.sig PATH
    void write(std::string_view text) const;

  private:
    std::string path_;
    Key key_;
};

}  // namespace gatehouse::host
