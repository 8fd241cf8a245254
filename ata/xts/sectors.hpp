// Whole sectors under XTS, written once for any width of vectors; the room's own.
//
// An Isa is a source's own type, in its anonymous namespace: what is made of these templates is local to that source
// then, and the linker cannot take code for the instructions of one CPU into a program that asked for another's.
#pragma once

#include <immintrin.h>

#include <cstring>
#include <utility>

#include "ata/xts/xts.hpp"

namespace gatehouse::ata {

constexpr int kRounds = 14;
constexpr std::size_t kLanes = 8;  // AESENC takes about four cycles, two start in each: eight hide all of it
constexpr std::size_t kAhead = 8;  // sectors whose first tweaks are encrypted side by side

// An Isa has
//   Vector                 one or more blocks; operators are those of the compiler's vector types
//   load(block)            the 16-byte-aligned block in each place of a Vector
//   encrypt(), decrypt(), encrypt_last(), decrypt_last()    a round: (blocks, round key)
//   Tweaks(first)          the tweaks of a unit, from its first on: next() for kLanes times, then next_batch()

// Blocks that are xored with the first round key already. `meanwhile(r)` follows round r.
template <class Isa, bool kEncrypt, std::size_t kCount, class Meanwhile>
[[gnu::always_inline]] inline void cipher(const __m128i* schedule, typename Isa::Vector last,
                                          typename Isa::Vector (&blocks)[kCount], Meanwhile meanwhile) {
#pragma GCC unroll 16
    for (int r = 1; r < kRounds; ++r) {
        const auto key = Isa::load(schedule + r);
        for (auto& b : blocks) b = kEncrypt ? Isa::encrypt(b, key) : Isa::decrypt(b, key);
        meanwhile(r);
    }
    for (auto& b : blocks) b = kEncrypt ? Isa::encrypt_last(b, last) : Isa::decrypt_last(b, last);
}

// The tweaks of a batch of blocks are made between the rounds of the batch before, over the end of a sector as well:
// made in front of their own, they would wait behind those rounds in the CPU's scheduler, and the next rounds for them.
//
// With the tweaks T, `now` and `next` hold T ^ first round key. A block is xored with that before and after the rounds,
// the last of which has last ^ first round key: what is left of it is T, and a block costs one operation less.
template <class Isa, bool kEncrypt>
void transform_sectors(const __m128i* schedule, const __m128i* tweak_schedule, Sectors sectors) {
    using Vector = typename Isa::Vector;
    constexpr std::size_t kBatch = kLanes * sizeof(Vector);
    const Vector white = Isa::load(schedule);
    const Vector last = white ^ Isa::load(schedule + kRounds);
    for (std::uint64_t count = 0; sectors.count != 0; sectors.count -= count) {
        count = sectors.count < kAhead ? sectors.count : kAhead;
        __m128i firsts[kAhead + 1];  // what follows the last is read, and comes to nothing
        for (__m128i& first : firsts) {
            std::memcpy(&first, sectors.tweak, sizeof(first));
            sectors.tweak[0] += sectors.step;
        }
        sectors.tweak[0] -= sectors.step;
        Vector side_by_side[kAhead * sizeof(__m128i) / sizeof(Vector)];
        std::memcpy(side_by_side, firsts, sizeof(side_by_side));
        for (Vector& tweak : side_by_side) tweak ^= Isa::load(tweak_schedule);
        cipher<Isa, true>(tweak_schedule, Isa::load(tweak_schedule + kRounds), side_by_side, [](int) {});
        std::memcpy(firsts, side_by_side, sizeof(side_by_side));

        Vector room[2][kLanes];
        Vector *now = room[0], *next = room[1];
        const __m128i* first = firsts;
        typename Isa::Tweaks tweaks(first);
        for (std::size_t i = 0; i < kLanes; ++i) now[i] = tweaks.next() ^ white;
        std::uint64_t left = sectors.size;
        for (std::uint64_t batch = count * (sectors.size / kBatch); batch != 0; --batch) {
            left = left == kBatch ? sectors.size : left - kBatch;
            if (left == sectors.size) tweaks = typename Isa::Tweaks(++first);
            if (left != sectors.size) tweaks.next_batch();
            Vector blocks[kLanes];
            for (std::size_t i = 0; i < kLanes; ++i) {
                std::memcpy(&blocks[i], sectors.from + i * sizeof(Vector), sizeof(Vector));
                blocks[i] ^= now[i];
            }
            cipher<Isa, kEncrypt>(schedule, last, blocks, [&](int r) {
                if (r <= static_cast<int>(kLanes)) next[r - 1] = tweaks.next() ^ white;
            });
            for (std::size_t i = 0; i < kLanes; ++i) {
                const Vector out = blocks[i] ^ now[i];
                std::memcpy(sectors.to + i * sizeof(Vector), &out, sizeof(Vector));
            }
            sectors.from += kBatch;
            sectors.to += kBatch;
            std::swap(now, next);
        }
    }
}

}  // namespace gatehouse::ata
