// The command policy that operators write, held against the mediator and the documents.
#include "policies/policyctl/ata_policy.hpp"

#include <gtest/gtest.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::policies {
namespace {

std::string read(const std::string& name) {
    const host::Buffer content = host::read_file(GATEHOUSE_SOURCE "/" + name, 1 << 20);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
}

// The shipped file with each text, which is in it once, replaced.
std::string changed(std::initializer_list<std::pair<std::string, std::string>> changes) {
    std::string text(shipped_ata_policy());
    for (const auto& [from, to] : changes) {
        const std::size_t at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        EXPECT_EQ(text.find(from, at + 1), std::string::npos) << from;
        if (at != std::string::npos) text.replace(at, from.size(), to);
    }
    return text;
}

std::string refusal(std::initializer_list<std::pair<std::string, std::string>> changes) {
    try {
        (void)parse_ata_policy(changed(changes), "FILE");
    } catch (const host::ToolError& error) {
        EXPECT_EQ(error.code(), host::ExitCode::kUsage);
        return error.what();
    }
    return "accepted";
}

const std::pair<std::string, std::string> kTrimOn{"name = \"TRIM\"\nallow = false", "name = \"TRIM\"\nallow = true"};

TEST(AtaPolicy, ShippedOneIsStrict) {
    EXPECT_EQ(shipped_ata_policy(), read("policies/ata.toml"));
    const AtaPolicy policy = parse_ata_policy(shipped_ata_policy(), "FILE");
    EXPECT_FALSE(policy.trim);
    EXPECT_FALSE(policy.show_disks);
}

TEST(AtaPolicy, TrimAndOtherDisksAreChoices) {
    const AtaPolicy trim = parse_ata_policy(changed({kTrimOn}), "FILE");
    EXPECT_TRUE(trim.trim);
    EXPECT_FALSE(trim.show_disks);
    const auto& shipped = parse_ata_policy(shipped_ata_policy(), "FILE").classes;
    for (std::size_t i = 0; i < shipped.size(); ++i) {
        EXPECT_EQ(trim.classes[i].effect != shipped[i].effect, shipped[i].name == "TRIM") << shipped[i].name;
    }
    EXPECT_TRUE(parse_ata_policy(changed({{"\"absent\"\n", "\"read-only\"\n"}}), "FILE").show_disks);
}

TEST(AtaPolicy, NothingElseIs) {
    for (const CommandClass& row : parse_ata_policy(shipped_ata_policy(), "FILE").classes) {
        if (row.name == "TRIM") continue;
        const std::string head = "name = \"" + row.name + "\"\nallow = ";
        const bool allowed = std::string(shipped_ata_policy()).find(head + "true") != std::string::npos;
        const std::string said = refusal({{head + (allowed ? "true" : "false"), head + (allowed ? "false" : "true")}});
        EXPECT_NE(said.find(allowed ? "only TRIM is left to the policy" : "no policy can allow it"), std::string::npos)
            << row.name << ": " << said;
    }
}

TEST(AtaPolicy, EachCommandIsNamed) {
    EXPECT_EQ(refusal({{"\"92 DOWNLOAD MICROCODE\", ", ""},
                       {"\"20 READ SECTORS\"", "\"20 READ SECTORS\", \"92 DOWNLOAD MICROCODE\""}}),
              "FILE: 92 (DOWNLOAD MICROCODE) is allowed there: no policy can allow it");
    EXPECT_EQ(refusal({{"b0.d4.02 extended", "b0.d4.02-03 extended"}}),
              "FILE: b0.d4.03 (extended self-test) is allowed there: no policy can allow it");
    EXPECT_EQ(refusal({{"2f.0c pending", "2f.0d pending"}}),
              "FILE: 2f.0c (READ LOG EXT, every other log) is refused there: only TRIM is left to the policy");
}

TEST(AtaPolicy, FilesThatAreNoneAreRefusedWithTheirLine) {
    const auto expect = [](const std::string& from, const std::string& to, const char* wanted) {
        const std::string said = refusal({{from, to}});
        EXPECT_NE(said.find(wanted), std::string::npos) << to << ": " << said;
        EXPECT_EQ(said.find("FILE:"), 0u) << said;
    };
    expect("\"absent\"\n", "\"hidden\"\n", "absent or read-only");
    expect("\"absent\"\n", "1\n", "a text is wanted");
    expect("other_disks = \"absent\"", "other_disk = \"absent\"", "no such key");
    expect("name = \"Reads\"\n", "", "a class has name");
    expect("name = \"Reads\"\n", "name = \"Reads\"\ncolour = \"red\"\n", "no such key");
    expect("name = \"Reads\"\nallow = true", "name = \"Reads\"\nallow = \"yes\"", "a class has name");
    expect("name = \"Reads\"\nallow", "name = \"Reads\"\nname", "");
    expect("\"20 READ SECTORS\"", "\"20\"", "CODE NAME");
    expect("\"20 READ SECTORS\"", "\"2 READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20x READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20. READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20- READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20-1f READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20.01 READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"ef.10.00.00 READ SECTORS\"", "no code");
    expect("\"20 READ SECTORS\"", "\"20 READ SECTORS\", \"24 READ SECTORS\"", "24 is there twice");
    expect("\"* NOP", "\"00 NOP", "no row \"*\"");
    expect("[[class]]\nname = \"Reads\"", "[class]\nname = \"Reads\"", "");
}

TEST(AtaPolicy, DocumentHasTheTable) {
    const std::string document = read("ata/README.md");
    const std::string begin = "<!-- policyctl ata -->\n";
    const std::size_t from = document.find(begin) + begin.size();
    ASSERT_NE(document.find(begin), std::string::npos);
    EXPECT_EQ(document.substr(from, document.find("<!-- end -->") - from),
              as_markdown(parse_ata_policy(shipped_ata_policy(), "FILE")))
        << "ata/README.md: put there what `policyctl ata` prints";
}

}  // namespace
}  // namespace gatehouse::policies
