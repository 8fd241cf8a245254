#include "attestation/server/http/serve.hpp"

#include <malloc.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <optional>
#include <thread>

#include "attestation/server/http/notify.hpp"
#include "attestation/server/http/restore.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::http {
namespace {

using host::ExitCode;
using host::ToolError;

constexpr std::size_t kSpareDescriptors = 256;  // database, log, and so on
constexpr std::chrono::seconds kCrlInterval{10};
constexpr auto kCertificateAge = std::chrono::hours(24 * 30);

// As many descriptors as the system lets us have; fewer connections where that is too few.
void fit_descriptors(Settings& settings, Log& log) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    const rlim_t wanted = settings.server.max_connections + kSpareDescriptors;
    rlimit raised{std::max(limit.rlim_cur, wanted), std::max(limit.rlim_max, wanted)};
    if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) {
        raised = {limit.rlim_max, limit.rlim_max};
        (void)::setrlimit(RLIMIT_NOFILE, &raised);
    }
    (void)::getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted) return;
    settings.server.max_connections = std::max<std::size_t>(16, limit.rlim_cur - kSpareDescriptors);
    log.write(Level::kWarning, "few file descriptors",
              {{"limit", std::to_string(limit.rlim_cur)},
               {"max_connections", std::to_string(settings.server.max_connections)}});
}

std::string text_of(const std::string& path) {
    const auto bytes = host::read_file(path, 1 << 20);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::string> certificate_names(const Settings& settings) {
    std::vector<std::string> names = settings.names;
    const auto add = [&](const std::string& name) {
        if (!name.empty() && std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    char hostname[256] = {};
    if (settings.names.empty() && ::gethostname(hostname, sizeof hostname - 1) == 0) add(hostname);
    const std::string& address = settings.server.address;
    if (address != "0.0.0.0" && address != "::") add(address);
    add("localhost");
    add("127.0.0.1");
    add("::1");
    return names;
}

TlsFiles tls_files(const Settings& settings, server::Service& service) {
    TlsFiles files;
    files.client_ca = service.ca_certificate();
    files.find_key = [&service](Bytes identity) { return service.connection_keys()->find(identity, service.now()); };
    if (settings.tls_certificate.empty() != settings.tls_key.empty()) {
        throw ToolError("give both --tls-certificate and --tls-key, or neither", ExitCode::kUsage);
    }
    if (!settings.tls_certificate.empty()) {
        files.certificate = text_of(settings.tls_certificate);
        files.key = text_of(settings.tls_key);
        return files;
    }
    auto made = service.server_certificate(certificate_names(settings));
    files.certificate = std::move(made.certificate);
    files.key = std::move(made.key);
    return files;
}

// SHA-256 of the CA's certificate in DER: what agents pin.
std::string ca_pin(const std::string& pem) {
    const auto begin = pem.find("-----\n") + 6, end = pem.find("-----END");
    std::string text = pem.substr(begin, end - begin);
    std::erase(text, '\n');
    const auto der = verifier::from_base64(text);
    if (!der) return "";
    std::array<std::byte, 32> digest{};
    EVP_Digest(raw(Bytes(*der)), der->size(), raw(MutableBytes(digest)), nullptr, EVP_sha256(), nullptr);
    return host::hex(digest);
}

// The first token is not for a journal: many may read one, and it keeps what it has.
std::optional<std::string> first_token(server::Service& service) {
    if (!is_journal(STDOUT_FILENO)) return service.first_admin_token();
    if (service.tokens({.name = "system", .role = server::Role::kAdmin}).empty()) {
        std::printf(
            "Nobody may log in yet. Next, with the server's --config or --data:\n\n"
            "    attestation-server token create NAME --role admin\n\n");
    }
    return std::nullopt;
}

void print_start(const std::string& url, const std::string& pin, const std::optional<std::string>& token) {
    if (token) {
        std::printf(
            "First start. The administrator's token, shown this once:\n\n    %s\n\n"
            "Next: open %s/ in a browser and log in with it; or\n\n"
            "    attestation-server ca > ca.pem      (with the server's --config, --data or --database)\n"
            "    curl --cacert ca.pem -H 'Authorization: Bearer TOKEN' %s/v1/counts\n\n",
            token->c_str(), url.c_str(), url.c_str());
    }
    std::printf("CA certificate, SHA-256 (ca_pin of agents): %s\n", pin.c_str());
    std::printf("listening on %s\n", url.substr(url.rfind('/') + 1).c_str());
    std::fflush(stdout);
}

// What only time drives.
class Ticker {
  public:
    Ticker(server::Service& service, Log& log) : thread_([this, &service, &log] { run(service, log); }) {}
    ~Ticker() {
        {
            const std::scoped_lock lock(mutex_);
            stop_ = true;
        }
        wake_.notify_one();
        thread_.join();
    }

  private:
    void run(server::Service& service, Log& log) {
        std::unique_lock lock(mutex_);
        std::string last_fault;
        while (!wake_.wait_for(lock, std::chrono::seconds(1), [&] { return stop_; })) {
            lock.unlock();
            std::string fault;
            try {
                service.tick();
            } catch (const std::exception& error) {
                fault = error.what();
            }
            if (fault != last_fault && !fault.empty())
                log.write(Level::kError, "house-keeping failed", {{"error", fault}});
            if (fault.empty() && !last_fault.empty()) log.write(Level::kNotice, "house-keeping works again");
            last_fault = fault;
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    bool stop_ = false;
    std::thread thread_;
};

// Fetches CRLs, beside what must not wait for them.
class CrlFetcher {
  public:
    CrlFetcher(server::Service& service, Log& log)
        : thread_([&service, &log](const std::stop_token& stop) { run(service, log, stop); }) {}

  private:
    static void run(server::Service& service, Log& log, const std::stop_token& stop) {
        std::mutex mutex;
        std::condition_variable_any wake;
        std::unique_lock lock(mutex);
        std::string last_fault;
        std::vector<std::string> crowds;
        while (!stop.stop_requested()) {
            std::string fault;
            try {
                for (const auto& one : service.fetch_crls(stop)) tell(log, one);
                const std::vector<std::string> before = std::exchange(crowds, service.crl_crowds());
                for (const std::string& vendor : crowds) {
                    if (std::ranges::find(before, vendor) == before.end())
                        log.write(Level::kWarning, "vendor names more CRLs than its share", {{"vendor", vendor}});
                }
            } catch (const std::exception& error) {
                fault = error.what();
            }
            if (fault != last_fault && !fault.empty())
                log.write(Level::kError, "CRLs cannot be fetched", {{"error", fault}});
            last_fault = fault;
            wake.wait_for(lock, stop, kCrlInterval, [] { return false; });
        }
    }
    static void tell(Log& log, const server::Service::CrlFetch& one) {
        if (!one.issuer.empty()) log.write(Level::kNotice, "CRL taken", {{"url", one.url}, {"issuer", one.issuer}});
        if (!one.fault.empty() && one.was_good)
            log.write(Level::kWarning, "CRL not fetched", {{"url", one.url}, {"error", one.fault}});
        if (one.fault.empty() && !one.was_good) log.write(Level::kNotice, "CRL fetched again", {{"url", one.url}});
    }

    std::jthread thread_;
};

class Signals {
  public:
    Signals() {
        sigemptyset(&set_);
        for (const int one : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, one);
        pthread_sigmask(SIG_BLOCK, &set_, nullptr);  // threads inherit it
        std::signal(SIGPIPE, SIG_IGN);
        std::signal(SIGXFSZ, SIG_IGN);  // a limit of the file's size is an error of the write
    }
    // A signal, or 0 after about a second.
    [[nodiscard]] int wait() const {
        const timespec second{1, 0};
        return std::max(0, sigtimedwait(&set_, nullptr, &second));
    }

  private:
    sigset_t set_{};
};

void reload(const Settings& settings, server::Service& service, Server& server, Log& log) {
    notify_manager("RELOADING=1");
    try {
        server.replace_tls(tls_files(settings, service));
        log.write(Level::kNotice, "TLS certificate reloaded");
    } catch (const std::exception& error) {
        log.write(Level::kError, "TLS certificate not reloaded, the old one stays", {{"error", error.what()}});
    }
    notify_manager("READY=1");
}

// Until the process is told to end.
void run_until_stopped(const Signals& signals, const Settings& settings, server::Service& service, Server& server,
                       Log& log) {
    using SteadyClock = std::chrono::steady_clock;
    const auto watchdog = watchdog_interval();
    auto certified = SteadyClock::now(), barked = certified;
    while (true) {
        const int signal = signals.wait();
        const auto now = SteadyClock::now();
        if (signal == SIGTERM || signal == SIGINT) return;
        if (signal == SIGHUP || now - certified > kCertificateAge) {
            reload(settings, service, server, log);
            certified = now;
        }
        server.tick();
        if (watchdog && now - barked >= *watchdog) {
            notify_manager("WATCHDOG=1");
            barked = now;
        }
    }
}

}  // namespace

ExitCode serve(Settings settings, int ready_descriptor) {
    const Signals signals;
    // Many threads, each with few and small objects: a heap for each of them would be mostly air.
    (void)mallopt(M_ARENA_MAX, 4);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 20);
    Log log(STDERR_FILENO, settings.log_format, settings.log_level);
    fit_descriptors(settings, log);
    const auto options = service_options(settings);
    server::Service service(options);
    const DirectoryLock lock(options.directory);
    web::Pages pages(service);
    Application application(service, pages, log, settings.application);
    Server server(application, settings.server, tls_files(settings, service));
    const auto token = first_token(service);
    server.start();
    const bool is_v6 = settings.server.address.find(':') != std::string::npos;
    const std::string place =
        (is_v6 ? "[" + settings.server.address + "]" : settings.server.address) + ":" + std::to_string(server.port());
    print_start("https://" + place, ca_pin(service.ca_certificate()), token);
    if (ready_descriptor >= 0) {
        const std::string line = place + "\n";
        if (::write(ready_descriptor, line.data(), line.size()) < 0)
            log.write(Level::kWarning, "--ready-fd: not writable");
    }
    notify_manager("READY=1");
    log.write(Level::kNotice, "started",
              {{"listen", place}, {"database", options.database.substr(0, options.database.find(':'))}});
    {
        const Ticker ticker(service, log);
        std::optional<CrlFetcher> fetcher;
        if (options.crl.fetch) fetcher.emplace(service, log);
        run_until_stopped(signals, settings, service, server, log);
    }
    notify_manager("STOPPING=1");
    log.write(Level::kNotice, "stopping");
    const bool clean = server.stop();
    log.write(clean ? Level::kNotice : Level::kWarning, clean ? "stopped" : "stopped; some requests were cut off");
    return ExitCode::kYes;
}

}  // namespace gatehouse::http
