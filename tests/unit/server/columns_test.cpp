// What the rows of endpoints and their evidence are in the database, column by column: where older and newer programs
// read and write them as well.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "attestation/server/database/attestations.hpp"
#include "attestation/server/database/endpoints.hpp"
#include "attestation/server/database/migrations.hpp"
#include "attestation/server/database/record.hpp"
#include "tests/unit/server/postgres_server.hpp"

namespace gatehouse::server {
namespace {

using Columns = std::map<std::string, std::string>;

Buffer bytes_of(const char* text) {
    const Bytes bytes = host::text_bytes(text);
    return {bytes.begin(), bytes.end()};
}

struct Text {
    std::string operator()(std::monostate) const { return "NULL"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(const Buffer& bytes) const {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
};

// The only row of a table, in text; `names` are all of its columns.
Columns only_row(Session& session, const std::string& table, const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    const Rows rows = session.query("SELECT " + list + " FROM " + table);
    if (rows.size() != 1) return {{"rows", std::to_string(rows.size())}};
    EXPECT_EQ(session.query("SELECT * FROM " + table).at(0).size(), names.size()) << table << " has other columns";
    Columns columns;
    for (std::size_t i = 0; i < names.size(); ++i) columns[names[i]] = std::visit(Text{}, rows[0].at(i));
    return columns;
}

// On SQLite and on PostgreSQL.
class Kept : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "gatehouse-columns-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory_ = name;
        std::string url = "sqlite:" + directory_ + "/server.db";
        if (GetParam() != std::string("SQLite")) {
            test::PostgresServer* const server = test::PostgresServer::get();
            if (server == nullptr) GTEST_SKIP() << "PostgreSQL is not installed";
            url = server->empty_database();
        }
        database_ = Database::open(url);
        migrate(*database_);
    }
    void TearDown() override {
        database_.reset();
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }
    void write(const Database::Job& job) { database_->write(job); }

  private:
    std::string directory_;
    std::unique_ptr<Database> database_;
};

NewEndpoint new_endpoint(const std::string& mark, Seconds enrolled) {
    NewEndpoint endpoint{.id = "id",
                         .hostname = "HOSTNAME" + mark,
                         .group = "group" + mark,
                         .source = "source" + mark,
                         .ek_hash = "ek_hash",
                         .ek_key = "ek_key" + mark,
                         .vendor = "vendor" + mark,
                         .manufacturer = "manufacturer" + mark,
                         .model = "model" + mark,
                         .ak_public = bytes_of(("ak_public" + mark).c_str()),
                         .enrolled = enrolled};
    endpoint.certificate.fill(std::byte{'c'});
    return endpoint;
}

EvidenceRow evidence_of(const std::string& endpoint, const std::string& mark, std::int64_t number, State state) {
    const auto blob = [&](const char* name) { return bytes_of((name + mark).c_str()); };
    return {.endpoint = endpoint,
            .run = number,
            .time = number + 1,
            .state = state,
            .policy = "policy" + mark,
            .reason = "reason" + mark,
            .source = "source" + mark,
            .nonce = blob("nonce"),
            .quote = blob("quote"),
            .signature = blob("signature"),
            .claims = blob("claims"),
            .pcr_values = blob("pcr_values"),
            .tpm_before = blob("tpm_before"),
            .result = "result" + mark};
}

TEST_P(Kept, EvidenceIsInItsColumnsAndComesBack) {
    const std::string id = "id";
    write([&](Session& session) {
        add_endpoint(session, new_endpoint(" enrolled", 1'000));
        put_evidence(session, evidence_of(id, " before", 2, State::kTrusted));
        put_evidence(session, evidence_of(id, " now", 5, State::kUntrusted));
        put_event_log(session, id, bytes_of("log"));
        EXPECT_EQ(only_row(session, "evidence",
                           {"endpoint", "number", "time", "state", "policy", "reason", "source", "nonce", "quote",
                            "signature", "claims", "pcr_values", "tpm_before", "result"}),
                  (Columns{{"endpoint", id},
                           {"number", "5"},
                           {"time", "6"},
                           {"state", "3"},
                           {"policy", "policy now"},
                           {"reason", "reason now"},
                           {"source", "source now"},
                           {"nonce", "nonce now"},
                           {"quote", "quote now"},
                           {"signature", "signature now"},
                           {"claims", "claims now"},
                           {"pcr_values", "pcr_values now"},
                           {"tpm_before", "tpm_before now"},
                           {"result", "result now"}}));
        const auto found = find_evidence(session, id);
        ASSERT_TRUE(found.has_value());
        const EvidenceRow& row = found->evidence;
        const EvidenceRow put = evidence_of(id, " now", 5, State::kUntrusted);
        EXPECT_EQ(std::tie(row.endpoint, row.run, row.time, row.state, row.policy, row.reason, row.source, row.nonce,
                           row.quote, row.signature, row.claims, row.pcr_values, row.tpm_before, row.result),
                  std::tie(put.endpoint, put.run, put.time, put.state, put.policy, put.reason, put.source, put.nonce,
                           put.quote, put.signature, put.claims, put.pcr_values, put.tpm_before, put.result));
        EXPECT_EQ(found->event_log, bytes_of("log"));
        EXPECT_EQ(found->source, "source enrolled");
        EXPECT_EQ(found->ak_public, bytes_of("ak_public enrolled"));
    });
}

TEST_P(Kept, OutcomeIsInItsColumns) {
    write([&](Session& session) {
        add_outcome(session, {.group = "group",
                              .policy = "policy",
                              .version = 7,
                              .endpoint = "endpoint",
                              .ok = true,
                              .reason = "reason"});
        EXPECT_EQ(only_row(session, "outcomes", {"group_name", "policy", "version", "endpoint", "ok", "reason"}),
                  (Columns{{"group_name", "group"},
                           {"policy", "policy"},
                           {"version", "7"},
                           {"endpoint", "endpoint"},
                           {"ok", "1"},
                           {"reason", "reason"}}));
    });
}

const std::vector<std::string> kTexts{"hostname",     "search", "group_name", "source", "ek_key",   "vendor",
                                      "manufacturer", "model",  "reason",     "policy", "outcomes", "endorsement_fault",
                                      "crl_gap"};
const std::vector<std::string> kNumbers{"state",  "enrolled", "since",      "last_seen",  "lease_until", "last_nonce",
                                        "wanted", "run",      "run_length", "crl_oldest", "crl_end"};
const std::vector<std::string> kBlobs{"ak_public", "tpm", "log_hash", "certificate", "next_certificate"};

Columns endpoint_row(Session& session) {
    std::vector<std::string> names{"id", "ek_hash"};
    for (const auto* const part : {&kTexts, &kNumbers, &kBlobs}) names.insert(names.end(), part->begin(), part->end());
    return only_row(session, "endpoints", names);
}

// As of a new endpoint, whose TPM was never checked.
Columns columns_of(const std::string& mark, const std::string& enrolled) {
    return {{"id", "id"},
            {"hostname", "HOSTNAME" + mark},
            {"search", "hostname" + mark + " id ek_hash"},
            {"group_name", "group" + mark},
            {"source", "source" + mark},
            {"state", "0"},
            {"ek_hash", "ek_hash"},
            {"ek_key", "ek_key" + mark},
            {"vendor", "vendor" + mark},
            {"manufacturer", "manufacturer" + mark},
            {"model", "model" + mark},
            {"ak_public", "ak_public" + mark},
            {"enrolled", enrolled},
            {"since", enrolled},
            {"last_seen", "0"},
            {"lease_until", "0"},
            {"reason", ""},
            {"policy", ""},
            {"tpm", ""},
            {"last_nonce", "0"},
            {"wanted", "0"},
            {"log_hash", ""},
            {"outcomes", ""},
            {"run", "0"},
            {"run_length", "0"},
            {"certificate", std::string(32, 'c')},
            {"next_certificate", ""},
            {"endorsement_fault", ""},
            {"crl_oldest", "0"},
            {"crl_end", "0"},
            {"crl_gap", ""}};
}

TEST_P(Kept, EndpointIsInItsColumns) {
    write([&](Session& session) {
        add_endpoint(session, new_endpoint(" new", 1'000));
        EXPECT_EQ(endpoint_row(session), columns_of(" new", "1000"));
    });
}

// Who enrolls again is a new endpoint, but for what keeps old evidence from being shown again and what `tpm` says.
TEST_P(Kept, EndpointThatEnrollsAgainKeepsNothingElse) {
    write([&](Session& session) {
        add_endpoint(session, new_endpoint(" old", 1'000));
        for (const std::string& name : kTexts) session.execute("UPDATE endpoints SET " + name + " = $1", {"left"});
        for (const std::string& name : kNumbers) session.execute("UPDATE endpoints SET " + name + " = $1", {77});
        const Buffer left = bytes_of("left");
        for (const std::string& name : kBlobs) session.execute("UPDATE endpoints SET " + name + " = $1", {left});
        replace_endpoint(session, new_endpoint(" again", 2'000), bytes_of("vaults"));
        Columns expected = columns_of(" again", "2000");
        expected["last_seen"] = expected["last_nonce"] = "77";
        expected["tpm"] = "vaults";
        EXPECT_EQ(endpoint_row(session), expected);
    });
}

INSTANTIATE_TEST_SUITE_P(SQLite, Kept, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Kept, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::server
