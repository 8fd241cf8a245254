// What the fuzz targets share.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "hypervisor/base/bytes.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::fuzz {

inline Bytes input_bytes(const std::uint8_t* data, std::size_t size) { return std::as_bytes(std::span(data, size)); }
inline std::string_view input_text(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, which is what makes a fuzzer keep the input.
inline void require(bool holds) {
    if (!holds) std::abort();
}

// Of what the target was given: a view of its own bytes or an empty one.
inline bool is_view_of(Bytes whole, Bytes part) {
    return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

// A file of tests/fuzz/seeds; the targets' fixed surroundings are kept there, too.
inline host::Buffer seed_file(const std::string& name) {
    return host::read_file(std::string(GATEHOUSE_FUZZ_SEEDS) + "/" + name, 1 << 20);
}

// Several fields in one input: each with its size in two bytes, big-endian; the last takes what is left.
class Fields {
  public:
    explicit Fields(Bytes bytes) : reader_(bytes, Endian::kBig) {}
    [[nodiscard]] Bytes next() {
        const std::size_t size = reader_.u16();
        return reader_.bytes(size < reader_.remaining() ? size : reader_.remaining());
    }
    [[nodiscard]] std::uint8_t flags() { return reader_.u8(); }
    [[nodiscard]] Bytes rest() { return reader_.rest(); }

  private:
    Reader reader_;
};
inline void append_field(host::Buffer& out, Bytes field) {
    out.push_back(static_cast<std::byte>(field.size() >> 8));
    out.push_back(static_cast<std::byte>(field.size() & 0xff));
    out.insert(out.end(), field.begin(), field.end());
}

}  // namespace gatehouse::fuzz
