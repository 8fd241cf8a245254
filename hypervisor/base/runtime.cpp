// What GCC and BearSSL expect of a C library, for programs that have none: the launcher, the SLB, the hypervisor.
//
// BearSSL's static library is built with fortified string functions and stack protectors. The canary is read
// from fs:0x28: whoever enters C++ code has FS point at 48 readable bytes.
#include <cstddef>
#include <cstdint>

#include "hypervisor/base/panic.hpp"

// NOLINTBEGIN: the names are the C library's
extern "C" {

void* memcpy(void* __restrict to, const void* __restrict from, std::size_t size) {
    void* const result = to;
    std::size_t words = size / 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    std::size_t rest = size % 8;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return result;
}

void* memmove(void* to, const void* from, std::size_t size) {
    const auto target = reinterpret_cast<std::uintptr_t>(to);
    const auto source = reinterpret_cast<std::uintptr_t>(from);
    if (target - source >= size) return memcpy(to, from, size);
    void* last_to = static_cast<char*>(to) + size - 1;  // overlapping, target above source: downwards
    const void* last_from = static_cast<const char*>(from) + size - 1;
    if (size != 0) asm volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(size) : : "memory");
    return to;
}

void* memset(void* to, int value, std::size_t size) {
    void* const result = to;
    const std::uint64_t pattern = 0x0101010101010101u * static_cast<std::uint8_t>(value);
    std::size_t words = size / 8;
    asm volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    std::size_t rest = size % 8;
    asm volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
    return result;
}

int memcmp(const void* a, const void* b, std::size_t size) {
    const auto* left = static_cast<const unsigned char*>(a);
    const auto* right = static_cast<const unsigned char*>(b);
    for (std::size_t i = 0; i < size; ++i) {
        if (left[i] != right[i]) return left[i] - right[i];
    }
    return 0;
}

std::size_t strlen(const char* text) {
    std::size_t size = 0;
    while (text[size] != 0) {
        ++size;
        asm volatile("" : : : "memory");  // keeps this from becoming a call of strlen
    }
    return size;
}

void* __memcpy_chk(void* to, const void* from, std::size_t size, std::size_t room) {
    gatehouse::require(size <= room, "memcpy beyond its buffer");
    return memcpy(to, from, size);
}

void* __memset_chk(void* to, int value, std::size_t size, std::size_t room) {
    gatehouse::require(size <= room, "memset beyond its buffer");
    return memset(to, value, size);
}

[[noreturn]] void __stack_chk_fail() { gatehouse::panic("stack overwritten"); }

[[noreturn]] void __cxa_pure_virtual() { gatehouse::panic("pure virtual call"); }

}  // extern "C"
// NOLINTEND
