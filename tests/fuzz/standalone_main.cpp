// main() for a fuzz target where there is no libFuzzer: runs it on the files given, and on -runs=N inputs of
// noise
// (-seed=S).
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
    unsigned long runs = 0;
    unsigned long seed = 1;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument.starts_with("-runs=")) {
            runs = std::stoul(argument.substr(6));
        } else if (argument.starts_with("-seed=")) {
            seed = std::stoul(argument.substr(6));
        } else if (std::ifstream file(argument, std::ios::binary); file) {
            const std::vector<char> input{std::istreambuf_iterator<char>(file), {}};
            LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
        } else {
            std::cerr << "error: " << argument << ": cannot be read\n";
            return 3;
        }
    }
    std::mt19937 generator(static_cast<std::mt19937::result_type>(seed));
    std::vector<std::uint8_t> input;
    for (unsigned long run = 0; run < runs; ++run) {
        input.resize(generator() % 2048);
        // Mostly small numbers: what lengths and counts are made of.
        const bool small = run % 2 == 0;
        for (std::uint8_t& byte : input) {
            const auto value = generator();
            byte = static_cast<std::uint8_t>(small && value % 4 != 0 ? (value >> 8) % 4 : value >> 8);
        }
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    return 0;
}
