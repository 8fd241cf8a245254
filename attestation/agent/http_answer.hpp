// An HTTP/1.1 answer, as it comes in. Hostile: size limits, and errors instead of guesses.
#pragma once

#include <memory>
#include <string>

namespace gatehouse::agent {

class HttpAnswer {
  public:
    // `limit`: of the body, in bytes.
    explicit HttpAnswer(std::size_t limit);
    ~HttpAnswer();

    // The next bytes; ToolError for what is no answer, is longer than the limit, or goes on after its end.
    // What is held is the body and a few kilobytes, whatever comes.
    void take(std::string_view bytes);
    // The connection has ended; ToolError if the answer has not.
    void end();

    [[nodiscard]] bool done() const;
    // Of an answer that is done().
    [[nodiscard]] unsigned status() const;
    [[nodiscard]] unsigned retry_after() const;  // seconds; 0 if there is none
    [[nodiscard]] bool keep_alive() const;
    [[nodiscard]] std::string take_body();

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::agent
