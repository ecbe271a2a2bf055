// Statuses say who speaks, of what, what it got and what it wants; statistics merge.

#include "rlhf/core/status.hpp"

#include <string>
#include <vector>

#include "rlhf/core/statistics.hpp"
#include "rlhf/core/throw.hpp"
#include "support/catch.hpp"

using rlhf::errc;
using rlhf::status;
namespace remark = rlhf::remark;

namespace {
std::string text(const status& s) { return s.message().c_str(); }
}  // namespace

TEST_CASE("a status is true when all went well") {
  CHECK(status{});
  CHECK(text({}) == "ok");
  CHECK_FALSE(remark::null("f", "x"));
  CHECK_FALSE(remark::empty("f", "mask"));
}

TEST_CASE("messages name function, argument, got and want") {
  CHECK(text(remark::shape("policy_loss", "advantage", 480, 512)) ==
        "policy_loss: advantage has 480 elements, wants 512");
  CHECK(text(remark::null("policy_loss", "logp")) == "policy_loss: logp is null, wants a pointer to its elements");
  CHECK(text(remark::argument("ppo_clip", "low", -0.5, "0 <= low <= 1")) ==
        "ppo_clip: low is -0.5, wants 0 <= low <= 1");
  CHECK(text(remark::empty("policy_loss", "mask")) == "policy_loss: mask selects no element; all outputs are 0");
  CHECK(text(remark::memory("gae")) == "gae: scratch could not be allocated");
  CHECK(text(remark::type("as_view", "logp", "Double", "Float")) == "as_view: logp is Double, wants Float");
  CHECK(text({errc::index, "token_logp", "target", "outside the vocabulary in rows:", 3, 0,
              "0 <= target < vocabulary"}) ==
        "token_logp: target outside the vocabulary in rows: 3, wants 0 <= target < vocabulary");
  CHECK(text({errc::index, "f", "offsets", "starts at", 2, 0, nullptr}) == "f: offsets starts at 2, wants 0");
  CHECK(text({errc::backend, "map", "Thrust", "out of memory", 0, 0, nullptr}) == "map: Thrust out of memory");
  CHECK(text({errc::shape, "f", "vocabulary", "is", 9, 0, "at most 8"}) == "f: vocabulary is 9, wants at most 8");
  CHECK(text(remark::shape("f", "x", 123456789012, 5)) == "f: x has 1.23456789e+11 elements, wants 5");
  CHECK(text(remark::shape("f", "x", 4294967295, 4294967296)) == "f: x has 4294967295 elements, wants 4294967296");
}

TEST_CASE("a message that is too long is cut, not overrun") {
  const std::string longer(300, 'a');
  const status s = remark::null(longer.c_str(), "x");
  CHECK(text(s) == std::string(255, 'a'));
}

TEST_CASE("or_throw throws failures and lets remarks pass") {
  CHECK_NOTHROW(rlhf::or_throw({}));
  CHECK_NOTHROW(rlhf::or_throw(remark::empty("f", "mask")));
  try {
    rlhf::or_throw(remark::shape("gae", "reward", 3, 4));
    FAIL("nothing was thrown");
  } catch (const rlhf::error& e) {
    CHECK(std::string(e.what()) == "gae: reward has 3 elements, wants 4");
    CHECK(e.get().code == errc::shape);
  }
}

TEST_CASE("statistics are means, totals and maxima that merge") {
  rlhf::statistics a, b;
  a.add("loss", 6, 3);
  a.add_maximum("ratio_max", 2);
  b.add("loss", 4, 1);
  b.add_maximum("ratio_max", 1.5);
  b.add("entropy", 1, 2);
  a.merge(b);
  CHECK(a["loss"] == 2.5);
  CHECK(a["ratio_max"] == 2);
  CHECK(a["entropy"] == 0.5);
  CHECK(a["unknown"] == 0);
  CHECK(a.find("unknown") == nullptr);
  CHECK(a.size == 3);
  a.add_total("tokens", 5);
  b.add_total("tokens", 7);
  a.merge(b);
  CHECK(a["tokens"] == 12);  // not a mean of the parts
  CHECK(a["loss"] == 14.0 / 5);
  rlhf::statistics c;
  c.add_maximum("worst", -3);  // a maximum below 0 is not replaced by 0
  c.merge(c);
  CHECK(c["worst"] == -3);
  c.add("nothing", 5, 0);
  CHECK(c["nothing"] == 0);
  CHECK(rlhf::same_name("abc", "abc"));
  CHECK_FALSE(rlhf::same_name("abc", "ab"));
  CHECK_FALSE(rlhf::same_name("ab", "abc"));
}

TEST_CASE("statistics beyond the capacity are dropped, not written past the end") {
  constexpr int capacity = rlhf::statistics::capacity;
  std::vector<std::string> names;
  for (int i = 0; i < capacity + 2; ++i) names.push_back("s" + std::to_string(i));
  rlhf::statistics s;
  for (const auto& name : names) s.add(name.c_str(), 1, 1);
  CHECK(s.size == capacity);
  CHECK(s[names[static_cast<std::size_t>(capacity) - 1].c_str()] == 1);
  CHECK(s[names.back().c_str()] == 0);
}
