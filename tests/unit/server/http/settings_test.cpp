#include "attestation/server/http/settings.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {
namespace {

// What every key of the example says, in one text, so that one comparison covers them all.
std::string shown(const Settings& one) {
    std::string out;
    const auto add = [&out](const auto&... values) { ((out += std::string(values) + "\n"), ...); };
    const auto number = [&out](auto... values) { ((out += std::to_string(values) + "\n"), ...); };
    const ApplicationOptions& limits = one.application;
    add(one.listen, one.tls_certificate, one.tls_key, one.issuer);
    for (const std::string& name : one.names) add(name);
    number(static_cast<int>(one.log_format), static_cast<int>(one.log_level), one.certificate_days, one.waiting_days,
           one.history_days);
    for (const Rate& rate : {limits.anonymous, limits.enrollment, limits.pages, limits.failures, limits.endpoint}) {
        number(rate.per_second, rate.burst);
    }
    number(static_cast<int>(limits.open_metrics_on_loopback), one.server.max_connections, one.server.workers,
           one.server.queue, one.server.loops);
    for (const std::string& url : one.crl.urls) add(url);
    add(one.crl.proxy);
    number(static_cast<int>(one.crl.fetch), static_cast<int>(one.crl.private_addresses), one.crl.most_bytes,
           one.crl.patience_s, one.crl.hours);
    for (const auto time : {one.server.handshake, one.server.head, one.server.body, one.server.idle, one.server.answer,
                            one.server.stop}) {
        number(time.count());
    }
    return out;
}

TEST(Settings, ExampleIsTheDefaults) {
    unsetenv("JOURNAL_STREAM");
    std::ifstream file(GATEHOUSE_SOURCE "/attestation/server/server.toml");
    std::string example, line;
    unsigned keys = 0;
    while (std::getline(file, line)) {
        const bool is_key = line.starts_with("#") && !line.starts_with("# ");
        keys += is_key;
        example += (is_key ? line.substr(1) : "") + "\n";
    }
    EXPECT_EQ(keys, 38u);
    const Settings settings = parse_settings(example, "server.toml");
    EXPECT_EQ(shown(settings), shown(parse_settings("", "nothing")));
    EXPECT_EQ(settings.data, "/var/lib/gatehouse");
    EXPECT_EQ(settings.database, "");
}

TEST(Settings, CrlsAreNotFetchedUnlessTheySaySo) {
    EXPECT_FALSE(parse_settings("", "nothing").crl.fetch);
    const Settings one = parse_settings(
        "[crl]\nfetch = true\nurls = [\"http://crl.example/a\"]\nproxy = \"http://proxy.example:3128\"\nhours = 6",
        "x");
    EXPECT_TRUE(one.crl.fetch);
    EXPECT_FALSE(one.crl.private_addresses);
    EXPECT_EQ(service_options(one).crl.hours, 6u);
    for (const char* text : {"urls = [\"https://crl.example/a\"]", "urls = [\"/a\"]", "proxy = \"proxy.example:3128\""})
        EXPECT_THROW((void)parse_settings(std::string("[crl]\n") + text, "x"), host::ToolError) << text;
}

TEST(Settings, RefusesWhatItDoesNotKnowByLineAndKey) {
    for (const char* text :
         {"\nlisden = 1", "\nlisten = 1", "\n[limits]\npages = 3", "\n[timeouts]\nhead = 0", "\nworkers = 3",
          "\n[limits]\nworkers = 0", "\n= 1", "\n[limit]", "\n[crl]\nhours = 0", "\n[crl]\nproxies = 1"}) {
        try {
            (void)parse_settings(text, "server.toml");
            FAIL() << text;
        } catch (const host::ToolError& error) {
            const std::string what = error.what();
            EXPECT_TRUE(what.starts_with("server.toml:2: ") || what.starts_with("server.toml:3: ")) << what;
        }
    }
}

}  // namespace
}  // namespace gatehouse::http
