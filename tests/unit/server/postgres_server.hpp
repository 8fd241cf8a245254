// A PostgreSQL server of the test's own: a child process on a socket in a directory of its own, as user
// postgres if the test runs as root; killed and removed when the object goes.
#pragma once

#include <sys/types.h>

#include <string>

namespace gatehouse::test {

class PostgresServer {
  public:
    // Null if PostgreSQL is not installed. One for the whole program.
    static PostgresServer* get();
    ~PostgresServer();
    PostgresServer(const PostgresServer&) = delete;
    PostgresServer& operator=(const PostgresServer&) = delete;
    // The URL of its database, emptied.
    [[nodiscard]] std::string empty_database();

  private:
    explicit PostgresServer(std::string programs);
    [[nodiscard]] std::string url(const std::string& database) const;

    std::string programs_, directory_;
    pid_t child_ = -1;
};

}  // namespace gatehouse::test
