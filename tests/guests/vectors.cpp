// Watches the vector registers from inside the guest: fills all of ymm0-ymm15, waits, and looks whether they are the same.
//
// usage: vectors STOP
//
// Until the file STOP is there. Prints the rounds; exit status 1 and the register's number if one has changed.
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

struct Registers {
    std::array<std::array<std::uint64_t, 4>, 16> ymm;
};

// Long enough that interrupts come in between, on an emulated machine too.
constexpr long kTurns = 2'000'000;

#define EACH_REGISTER(instruction) \
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t" instruction "\n\t.endr\n\t"

void hold(const Registers& in, Registers& out) {
    long turns = kTurns;
    asm volatile(EACH_REGISTER("vmovdqu \\n*32(%[in]), %%ymm\\n") "1: dec %[turns]\n\tjnz 1b\n\t"  //
                 EACH_REGISTER("vmovdqu %%ymm\\n, \\n*32(%[out])") "vzeroupper\n\t"
                 : [turns] "+r"(turns)
                 : [in] "r"(&in), [out] "r"(&out)
                 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    std::uint64_t state = 1;
    long rounds = 0;
    for (; access(argv[1], F_OK) != 0; ++rounds) {
        Registers in{}, out{};
        for (auto& vector : in.ymm) {
            for (std::uint64_t& word : vector) word = state = state * 6364136223846793005u + 1442695040888963407u;
        }
        hold(in, out);
        for (std::size_t i = 0; i < in.ymm.size(); ++i) {
            if (in.ymm[i] == out.ymm[i]) continue;
            std::printf("round %ld: ymm%zu has changed:\n", rounds, i);
            for (std::size_t word = 0; word < in.ymm[i].size(); ++word) {
                std::printf("  %016lx %016lx\n", in.ymm[i][word], out.ymm[i][word]);
            }
            return 1;
        }
    }
    std::printf("%ld rounds\n", rounds);
    return 0;
}
