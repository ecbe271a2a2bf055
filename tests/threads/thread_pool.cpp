#include <cstddef>
#include <rlhf/backend/thread_pool.hpp>
#include <vector>

#include "support/catch.hpp"

TEST_CASE("every chunk runs once, on any number of threads, call after call") {
  const int threads = GENERATE(0, 1, 2, 3, 7);
  rlhf::thread_pool pool(threads);
  CHECK(pool.size() == (threads < 1 ? 1 : threads));
  std::vector<int> runs(257, 0);
  for (int round = 1; round <= 50; ++round) {
    const std::int64_t chunks = round % 5 == 0 ? round % 3 : 257;
    pool.run(chunks, [&](std::int64_t chunk) { ++runs[static_cast<std::size_t>(chunk)]; });
    for (std::size_t i = 0; i < static_cast<std::size_t>(chunks); ++i) ++runs[i];
  }
  std::vector<int> expected(257, 0);
  for (int round = 1; round <= 50; ++round)
    for (int i = 0; i < (round % 5 == 0 ? round % 3 : 257); ++i) expected[static_cast<std::size_t>(i)] += 2;
  CHECK(runs == expected);
}

TEST_CASE("sums folded in the order of the chunks have the same bits on any number of threads") {
  const auto sum = [](int threads) {
    rlhf::thread_pool pool(threads);
    std::vector<float> partial(101);
    pool.run(101, [&](std::int64_t chunk) {
      float s = 0;
      for (int i = 0; i < 1000; ++i) s += 1 / static_cast<float>(1 + i + chunk);
      partial[static_cast<std::size_t>(chunk)] = s;
    });
    float total = 0;
    for (const float s : partial) total += s;
    return total;
  };
  const float one = sum(1);
  CHECK(sum(2) == one);
  CHECK(sum(5) == one);
}

TEST_CASE("pools come and go, idle ones too") {
  for (int i = 0; i < 50; ++i) {
    rlhf::thread_pool idle(3);
    rlhf::thread_pool busy(3);
    int last = 0;
    busy.run(1, [&](std::int64_t) { last = 1; });
    CHECK(last == 1);
  }
}
