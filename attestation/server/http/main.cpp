// attestation-server: the command line.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "attestation/server/http/openapi.hpp"
#include "attestation/server/http/records_json.hpp"
#include "attestation/server/http/restore.hpp"
#include "attestation/server/http/serve.hpp"

namespace gatehouse::http {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;
using server::Service;

struct Arguments {
    std::string config, listen, data, database, tls_certificate, tls_key, log_level;
    std::vector<std::string> names;
    bool as_json = false, force = false, remove_missing = false, dry = false;
    int ready_descriptor = -1;
    std::string file, name, request, role = "read-only", vendor;
    std::int64_t lifetime_s = 0;
};

server::Principal console() { return {.name = "console", .role = server::Role::kAdmin}; }

Settings settings_of(const Arguments& arguments) {
    Settings settings = read_settings(arguments.config);
    if (!arguments.listen.empty()) settings.listen = arguments.listen;
    if (!arguments.data.empty()) settings.data = arguments.data;
    if (!arguments.database.empty()) settings.database = arguments.database;
    if (!arguments.names.empty()) settings.names = arguments.names;
    if (!arguments.tls_certificate.empty()) settings.tls_certificate = arguments.tls_certificate;
    if (!arguments.tls_key.empty()) settings.tls_key = arguments.tls_key;
    apply_listen(settings.listen, settings.server);
    return settings;
}

// Of a server that has been started: nothing is made here, where somebody may have forgotten to say which.
void demand_server(const server::ServiceOptions& options) {
    const auto demand = [&options](const std::string& file) {
        if (::access(file.c_str(), F_OK) == 0) return;
        throw ToolError(
            file + ": missing, so no attestation-server has been started there. Give that of the server: --data " +
                "(now " + options.directory + "), --database or --config. `attestation-server serve` starts a new one",
            ExitCode::kUsage);
    };
    constexpr std::string_view kSqlite = "sqlite:";
    demand(options.directory + "/master.key");
    if (options.database.starts_with(kSqlite)) demand(options.database.substr(kSqlite.size()));
}

Service open_service(const Arguments& arguments) {
    const server::ServiceOptions options = service_options(settings_of(arguments));
    demand_server(options);
    return Service(options);
}

void print_json(const json& value) {
    // In ASCII: what endpoints name themselves must not steer a terminal, in JSON neither.
    std::printf("%s\n", value.dump(2, ' ', true, json::error_handler_t::replace).c_str());
}

ExitCode run_serve(const Arguments& arguments) {
    Settings settings = settings_of(arguments);
    if (arguments.as_json) settings.log_format = LogFormat::kJson;
    return serve(std::move(settings), arguments.ready_descriptor);
}

ExitCode run_audit_verify(const Arguments& arguments) {
    const auto check = open_service(arguments).verify_audit();
    if (arguments.as_json) {
        print_json(to_json(check));
    } else if (check.ok) {
        std::printf("audit log: good, %lld entries, head %s\n", static_cast<long long>(check.entries),
                    check.head.c_str());
    } else {
        std::printf("audit log: BROKEN: %s\n", host::one_line(check.fault).c_str());
    }
    return check.ok ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode run_audit_export(const Arguments& arguments) {
    open_service(arguments).export_audit([](const server::AuditEntry& entry) {
        std::printf("%s\n", to_json(entry).dump(-1, ' ', true, json::error_handler_t::replace).c_str());
    });
    if (std::fflush(stdout) != 0) throw ToolError("standard output: cannot be written");
    return ExitCode::kYes;
}

ExitCode run_backup(const Arguments& arguments) {
    const auto options = service_options(settings_of(arguments));
    demand_server(options);
    Service(options).backup(arguments.file);
    const std::string key = options.directory + "/master.key";
    if (arguments.as_json) {
        print_json({{"file", arguments.file}, {"needs", key}});
    } else {
        std::printf(
            "%s: written. It is of use only together with %s, which it does not hold: keep a copy of that "
            "apart\n",
            arguments.file.c_str(), key.c_str());
    }
    return ExitCode::kYes;
}

ExitCode run_restore(const Arguments& arguments) {
    const auto entries = restore_backup(arguments.file, service_options(settings_of(arguments)), arguments.force);
    if (arguments.as_json) {
        print_json({{"file", arguments.file}, {"audit_entries", entries}});
    } else {
        std::printf(
            "restored from %s; audit log good, %lld entries\n"
            "What was revoked or retired since that backup is good again: look through tokens and "
            "endpoints\n",
            arguments.file.c_str(), static_cast<long long>(entries));
    }
    return ExitCode::kYes;
}

std::string read_request(const std::string& path) {
    constexpr std::size_t kLimit = 65536;
    const host::Buffer bytes = host::read_file(path, kLimit);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ExitCode run_token_create(const Arguments& arguments) {
    const auto role = server::role_of(arguments.role);
    if (!role) throw ToolError("--role " + arguments.role + ": give read-only, operator or admin", ExitCode::kUsage);
    const bool is_certificate = !arguments.request.empty();
    Service service = open_service(arguments);
    const std::string made = is_certificate
                                 ? service.create_certificate(console(), arguments.name, *role, arguments.lifetime_s,
                                                              read_request(arguments.request))
                                 : service.create_token(console(), arguments.name, *role, arguments.lifetime_s) + "\n";
    if (arguments.as_json) {
        print_json(
            {{"name", arguments.name},
             {"role", arguments.role},
             {is_certificate ? "certificate" : "token", is_certificate ? made : made.substr(0, made.size() - 1)}});
    } else {
        std::printf("%s", made.c_str());
    }
    return ExitCode::kYes;
}

ExitCode run_token_list(const Arguments& arguments) {
    const auto tokens = open_service(arguments).tokens(console());
    json rows = json::array();
    for (const auto& token : tokens) rows.push_back(to_json(token));
    if (arguments.as_json) {
        print_json(rows);
        return ExitCode::kYes;
    }
    std::printf("%-24s %-10s %-20s %s\n", "NAME", "ROLE", "EXPIRES", "LAST USED");
    const auto time = [](server::Seconds seconds, const char* none) {
        char text[32];
        const auto value = static_cast<std::time_t>(seconds);
        std::tm parts{};
        gmtime_r(&value, &parts);
        if (seconds == 0 || std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
            return std::string(none);
        return std::string(text);
    };
    for (const auto& token : tokens) {
        std::printf("%-24s %-10s %-20s %s\n", host::one_line(token.name).c_str(), name_of(token.role),
                    time(token.expires, "never").c_str(), time(token.last_used, "never").c_str());
    }
    return ExitCode::kYes;
}

ExitCode run_token_revoke(const Arguments& arguments) {
    open_service(arguments).revoke_token(console(), arguments.name);
    return ExitCode::kYes;
}

ExitCode run_ca(const Arguments& arguments) {
    const auto pem = open_service(arguments).ca_certificate();
    if (arguments.as_json) {
        print_json({{"certificate", pem}});
    } else {
        std::printf("%s", pem.c_str());
    }
    return ExitCode::kYes;
}

json to_json(const server::Service::Import& import, const server::Collection& collection) {
    json vendors = json::array(), passed_over = json::array();
    for (const auto& one : import.vendors) {
        vendors.push_back({{"name", one.name},
                           {"roots", one.roots},
                           {"intermediates", one.intermediates},
                           {"crls", one.crls},
                           {"added", one.added},
                           {"missing", one.missing},
                           {"removed", one.removed}});
    }
    for (const auto& one : import.passed_over) passed_over.push_back({{"place", one.place}, {"why", one.why}});
    return {{"files", collection.files},
            {"vendors", std::move(vendors)},
            {"passed_over", std::move(passed_over)},
            {"absent", import.absent},
            {"changed", import.changed}};
}

void print_import(const server::Service::Import& import, const server::Collection& collection,
                  const Arguments& arguments) {
    constexpr std::size_t kMostLines = 1000;
    for (const auto& one : import.vendors) {
        std::printf("%s: %zu roots, %zu intermediates, %zu CRLs; %zu of them new\n", host::one_line(one.name).c_str(),
                    one.roots, one.intermediates, one.crls, one.added.size());
        for (const auto& text : one.added) std::printf("    new  %s\n", host::one_line(text).c_str());
        for (const auto& text : one.missing) {
            std::printf(
                "    %s  %s\n",
                arguments.remove_missing ? "not in the collection, removed" : "not in the collection, still trusted",
                host::one_line(text).c_str());
        }
    }
    for (const auto& name : import.absent)
        std::printf("%s: not in the collection, still trusted\n", host::one_line(name).c_str());
    std::size_t lines = 0;
    for (const auto& one : import.passed_over) {
        if (lines++ == kMostLines) break;
        std::printf("passed over  %s: %s\n", host::one_line(one.place).c_str(), host::one_line(one.why).c_str());
    }
    if (import.passed_over.size() > kMostLines)
        std::printf("passed over  %zu more (--json lists them)\n", import.passed_over.size() - kMostLines);
    std::printf("%llu files read, %zu items passed over; %s\n", static_cast<unsigned long long>(collection.files),
                import.passed_over.size(),
                !import.changed ? "nothing has changed"
                : arguments.dry ? "nothing was written (--dry-run)"
                                : "the vendors are trusted from now on");
}

ExitCode run_import_vendors(const Arguments& arguments) {
    std::string rest = arguments.vendor;
    if (rest.empty()) {
        std::string path = arguments.file;
        while (path.size() > 1 && path.ends_with('/')) path.pop_back();
        rest = path.substr(path.rfind('/') + 1);
    }
    const server::Collection collection = server::read_collection(arguments.file, rest, std::time(nullptr));
    Service service = open_service(arguments);
    const auto missing = arguments.remove_missing ? Service::Missing::kGoes : Service::Missing::kStays;
    const auto import = service.import_vendors(console(), collection, missing, arguments.dry);
    if (arguments.as_json) {
        print_json(to_json(import, collection));
    } else {
        print_import(import, collection, arguments);
    }
    // No vendor at all: that was no collection.
    return import.vendors.empty() ? ExitCode::kNo : ExitCode::kYes;
}

ExitCode run_openapi(const Arguments&) {
    std::printf("%.*s", static_cast<int>(openapi_document().size()), openapi_document().data());
    return ExitCode::kYes;
}

using Runner = ExitCode (*)(const Arguments&);

// A command with the options that all of them have.
CLI::App* add_command(CLI::App& parent, const char* name, const char* help, Arguments& arguments, Runner& chosen,
                      Runner runner) {
    CLI::App* const command = parent.add_subcommand(name, help);
    command->add_option("--config", arguments.config, std::string("TOML; default ") + kConfigFile + " if it is there");
    command->add_option("--data", arguments.data,
                        "directory of keys and database [/var/lib/gatehouse, or under $XDG_STATE_HOME]");
    command->add_option("--database", arguments.database, "sqlite:PATH or postgresql://...");
    command->add_flag("--json", arguments.as_json, "print, or log, JSON");
    command->callback([&chosen, runner] { chosen = runner; });
    return command;
}

void add_serve(CLI::App& app, Arguments& arguments, Runner& chosen) {
    CLI::App* const command = add_command(app, "serve", "run the server", arguments, chosen, run_serve);
    command->add_option("--listen", arguments.listen, "ADDRESS:PORT [127.0.0.1:8443]");
    command->add_option("--name", arguments.names, "DNS name or address of the server, for its certificate");
    command->add_option("--tls-certificate", arguments.tls_certificate, "PEM chain instead of the server's own CA's");
    command->add_option("--tls-key", arguments.tls_key, "PEM key of it");
    command->add_option("--ready-fd", arguments.ready_descriptor, "write ADDRESS:PORT there when ready");
}

ExitCode run(int argc, char** argv) {
    CLI::App app("Verifies endpoints and keeps their verdicts. Exit status: 0 yes, 1 no, 2 usage, 3 failure.",
                 "attestation-server");
    app.require_subcommand(1);
    Arguments arguments;
    Runner chosen = nullptr;
    add_serve(app, arguments, chosen);
    CLI::App* const audit = app.add_subcommand("audit", "the audit log")->require_subcommand(1);
    add_command(*audit, "verify", "whether the chain of hashes is whole", arguments, chosen, run_audit_verify);
    add_command(*audit, "export", "print it, one JSON object a line", arguments, chosen, run_audit_export);
    add_command(app, "backup", "copy the database, of a running server too", arguments, chosen, run_backup)
        ->add_option("FILE", arguments.file)
        ->required();
    CLI::App* const restore =
        add_command(app, "restore", "put a backup in place of the database", arguments, chosen, run_restore);
    restore->add_option("FILE", arguments.file)->required();
    restore->add_flag("--force", arguments.force, "replace a database that is there");
    CLI::App* const token = app.add_subcommand("token", "who may ask")->require_subcommand(1);
    CLI::App* const create =
        add_command(*token, "create", "make one; printed once", arguments, chosen, run_token_create);
    create->add_option("NAME", arguments.name)->required();
    create->add_option("--role", arguments.role, "read-only, operator, admin")->capture_default_str();
    create->add_option("--lifetime", arguments.lifetime_s, "seconds; 0: does not expire")->capture_default_str();
    create->add_option("--csr", arguments.request,
                       "certification request (PEM): make a client certificate for the web page instead");
    add_command(*token, "list", "list them", arguments, chosen, run_token_list);
    add_command(*token, "revoke", "end one", arguments, chosen, run_token_revoke)
        ->add_option("NAME", arguments.name)
        ->required();
    CLI::App* const collection =
        add_command(app, "import-vendors", "trust the CAs of a collection, beside those that are trusted", arguments,
                    chosen, run_import_vendors);
    collection
        ->add_option("PATH", arguments.file,
                     "a directory, each of its sub-directories a vendor; or a file: certificates and CRLs, DER or PEM")
        ->required();
    collection->add_option("--vendor", arguments.vendor,
                           "the vendor that what is in no sub-directory is of [PATH's name]");
    collection->add_flag(
        "--remove-missing", arguments.remove_missing,
        "of each vendor that the collection has: trust no more its certificates that are not there; its CRLs, "
        "and other vendors, stay");
    collection->add_flag("--dry-run", arguments.dry, "only say what would be done");
    add_command(app, "openapi", "print the description of the REST interface", arguments, chosen, run_openapi);
    add_command(app, "ca", "print the CA's certificate", arguments, chosen, run_ca);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
    }
    return chosen(arguments);
}

}  // namespace
}  // namespace gatehouse::http

int main(int argc, char** argv) {
    return gatehouse::host::run_tool("attestation-server", [&] { return gatehouse::http::run(argc, argv); });
}
