#include "attestation/server/http/worker_pool.hpp"

#include <gtest/gtest.h>

#include <future>

namespace gatehouse::http {
namespace {

TEST(WorkerPool, RefusesWhatItsQueueCannotHold) {
    std::atomic<std::int64_t> waiting{0};
    std::promise<void> started, go_on;
    std::atomic<int> done{0};
    {
        WorkerPool pool(1, 2, waiting);
        std::function<void()> blocks = [&] {
            started.set_value();
            go_on.get_future().wait();
            ++done;
        };
        ASSERT_TRUE(pool.submit(blocks));
        started.get_future().wait();
        for (int i = 0; i < 2; ++i) {
            std::function<void()> quick = [&] { ++done; };
            EXPECT_TRUE(pool.submit(quick));
        }
        EXPECT_EQ(waiting, 2);
        std::function<void()> refused = [&] { ++done; };
        EXPECT_FALSE(pool.submit(refused));
        EXPECT_TRUE(refused) << "it stays the caller's";
        go_on.set_value();
    }
    EXPECT_EQ(done, 3) << "what was taken is done before the pool ends";
    EXPECT_EQ(waiting, 0);
}

}  // namespace
}  // namespace gatehouse::http
