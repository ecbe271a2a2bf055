// How the CUDA backend cuts work, by arithmetic: sizes that no memory here could hold, and every element in exactly one part.

#include "rlhf/backend/team/launch.hpp"

#include <cstdint>
#include <vector>

#include "support/catch.hpp"

namespace {

using std::int64_t;
namespace launch = rlhf::launch;

constexpr int64_t beyond_int = int64_t{1} << 31, huge = int64_t{1} << 40;

// A grid has one dimension, and no more blocks in it than CUDA takes.
static_assert(launch::map_groups(0, 4) == 0);
static_assert(launch::map_groups(1, 4) == 1);
static_assert(launch::map_groups(1024, 4) == 1 && launch::map_groups(1025, 4) == 2);
static_assert(launch::map_groups(huge, 4) == launch::most_map_blocks);
static_assert(launch::map_groups(beyond_int + 5, 1) == launch::most_map_blocks);
static_assert(launch::blocks(launch::row_groups(huge, 32), 32) <= launch::most_blocks);
static_assert(launch::groups(huge, 256, launch::most_blocks) == launch::most_blocks);
static_assert(launch::blocks(launch::groups(huge, 1, launch::most_blocks), 1) <= launch::most_blocks);
// 2^31 rows, a block each, still walk in steps.
static_assert(launch::row_groups(beyond_int, 256) == launch::most_partials);

// A wide row has a block, a narrow one a warp; not known: a block.
static_assert(launch::row_width(0) == 256 && launch::row_width(1) == 32 && launch::row_width(2048) == 32);
static_assert(launch::row_width(2049) == 256 && launch::row_width(262144) == 256 && launch::row_width(huge) == 256);

// The shapes that matter: groups of 8 and 64, answers of 2048 tokens, one long sequence.
static_assert(launch::reduce_width(8 << 20, 64 << 20) == 8 && launch::reduce_width(1 << 20, 64 << 20) == 8);
static_assert(launch::reduce_width(8192, 8192 * 2048) == 32);
static_assert(launch::reduce_width(16, 16 * 2048) == 256 && launch::reduce_width(1, beyond_int) == 256);
static_assert(launch::reduce_width(0, 0) == 8);

// Scans: 65536 ragged sequences of about 2000, 512 of 4096, 8 of 131072, one of 2^31 and more.
static_assert(launch::plan_scan(65536, int64_t{65536} * 2056, 4).width == 32);
static_assert(launch::plan_scan(512, 512 * 4096, 4).width == 256 && launch::plan_scan(512, 512 * 4096, 4).chunks == 1);
static_assert(launch::plan_scan(8, 8 * 131072, 4).width == 256 && launch::plan_scan(8, 8 * 131072, 4).chunks == 32);
static_assert(launch::plan_scan(1, beyond_int + 3, 4).chunks == 64);
static_assert(launch::plan_scan(0, 0, 4).chunks == 1);

// Ranges of groups are whole tiles that cover everything, beyond 2^31 elements too.
static_assert(launch::range_of_group(0, 1024, 0) == 0 && launch::range_of_group(1, 1024, 1) == 1024);
static_assert(launch::range_of_group(4096, 1024, 4) == 1024 && launch::range_of_group(4097, 1024, 4) == 2048);
static_assert(launch::range_of_group(beyond_int, 1024, 2048) * 2048 >= beyond_int);
static_assert(launch::range_of_group(huge, 512, 2048) % 512 == 0 &&
              launch::range_of_group(huge, 512, 2048) * 2048 >= huge);

// Groups of 8 and 64 floats in rows of 9 and 65: two a thread, and what fits; long ones not.
static_assert(launch::shared_bytes <= 48 * 1024);
static_assert(launch::staged_tile(6144, 9) == 512 && launch::staged_tile(6144, 65) == 94);
static_assert(launch::staged_tile(6144, 384) == 16 && launch::staged_tile(6144, 385) == 0);
static_assert(launch::staged_tile(6144, 0) == 0 && launch::staged_tile(6144, huge) == 0);

// Scratch memory: nothing where one group writes its total itself.
static_assert(launch::partial_bytes(0, 32) == 0 && launch::partial_bytes(1, 32) == 0);
static_assert(launch::partial_bytes(launch::row_groups(8192, 256), 32) == 8192 * 32);
static_assert(launch::partial_bytes(launch::row_groups(huge, 256), 32) == 16384 * 32);

}  // namespace

TEST_CASE("groups fill whole blocks, and no more than are wanted by less than one block") {
  for (const int width : {1, 8, 32, 256})
    for (const int64_t wanted : {int64_t{1}, int64_t{7}, int64_t{8}, int64_t{255}, int64_t{256}, int64_t{257}, huge}) {
      CAPTURE(width, wanted);
      const int64_t groups = launch::groups(wanted, width, 16384), least = wanted < 16384 ? wanted : 16384;
      CHECK(groups % launch::groups_in_block(width) == 0);
      CHECK(groups >= least);
      CHECK(groups - least < launch::groups_in_block(width));
    }
}

TEST_CASE("chunks cover a sequence from its end, each element once, cut between packs") {
  for (const int64_t begin : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{4}, beyond_int - 2, huge + 5})
    for (const int64_t length :
         {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{5}, int64_t{63}, int64_t{4096}, int64_t{70001}})
      for (const int64_t chunks : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{48}, int64_t{64}})
        for (const int lanes : {2, 4}) {
          CAPTURE(begin, length, chunks, lanes);
          int64_t end = begin + length, longest = 0;
          for (int64_t c = 0; c < chunks; ++c) {
            const launch::range part = launch::chunk(begin, begin + length, c, chunks, lanes);
            if (part.begin == part.end) continue;
            REQUIRE(part.end == end);
            REQUIRE(part.begin < part.end);
            if (part.begin != begin) REQUIRE(part.begin % lanes == 0);
            end = part.begin;
            longest = part.end - part.begin > longest ? part.end - part.begin : longest;
          }
          CHECK(end == begin);
          CHECK(longest <= (length / lanes + 2) / chunks * lanes + 2 * lanes);
        }
}

TEST_CASE("a walk in steps of its groups visits each row once") {
  for (const int width : {32, 256}) {
    const int64_t rows = 40000, groups = launch::row_groups(rows, width);
    std::vector<int> visits(static_cast<std::size_t>(rows));
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t r = g; r < rows; r += groups) ++visits[static_cast<std::size_t>(r)];
    CHECK(visits == std::vector<int>(visits.size(), 1));
    CHECK(groups <= launch::most_partials);
  }
}
