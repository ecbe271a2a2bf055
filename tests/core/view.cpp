// Views of foreign memory and the layouts of sequences.

#include "rlhf/core/view.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "rlhf/core/layout.hpp"
#include "support/catch.hpp"

using rlhf::view;

namespace {

double sum(view<const double> x) {
  double s = 0;
  for (std::int64_t i = 0; i < x.extent; ++i) s += x[i];
  return s;
}
int count(rlhf::mask_view<> mask) {
  int n = 0;
  for (std::int64_t i = 0; i < mask.extent; ++i) n += mask[i] != 0;
  return n;
}
std::string text(const rlhf::status& s) { return s.message().c_str(); }

}  // namespace

TEST_CASE("a view is made from a pointer, a vector, an array, a span or a view of variables") {
  std::vector<double> v = {1, 2, 3, 4};
  const std::vector<double> c = v;
  std::array<double, 2> a = {5, 6};
  CHECK(sum({v.data(), 3}) == 6);
  CHECK(sum({v.data(), 2u, 3}) == 5);  // every third
  CHECK(sum(v) == 10);
  CHECK(sum(c) == 10);
  CHECK(sum(a) == 11);
  CHECK(sum(std::span(v).subspan(2)) == 7);
  CHECK(sum(view<double>(v)) == 10);
  view<double> w = v;
  w[1] = 20;
  CHECK(v[1] == 20);
  CHECK_FALSE(view<double>());
  CHECK(view<double>().extent == 0);
  CHECK(w);
}

TEST_CASE("views convert towards const, not back, and never across spaces") {
  using host = view<double>;
  using device = view<double, 1, rlhf::cuda_space>;
  CHECK(std::is_convertible_v<host, view<const double>>);
  CHECK_FALSE(std::is_convertible_v<view<const double>, host>);
  CHECK_FALSE(std::is_convertible_v<host, device>);
  CHECK_FALSE(std::is_convertible_v<device, host>);
  CHECK_FALSE(std::is_convertible_v<host, view<const float>>);
  CHECK_FALSE(std::is_convertible_v<const std::vector<double>&, host>);
  CHECK_FALSE(std::is_convertible_v<std::vector<double>&, device>);
  CHECK(std::is_convertible_v<view<float, 2>, view<const float, 2>>);
  CHECK(std::is_trivially_copyable_v<host>);
  CHECK(std::is_standard_layout_v<host>);
}

TEST_CASE("rows of a matrix may lie apart") {
  std::vector<float> m = {1, 2, 3, 4, 5, 6};
  const view<float, 2> whole(m.data(), 2, 3), left(m.data(), 2, 2, 3);
  CHECK(whole.row(1)[2] == 6);
  CHECK(left.row(1)[0] == 4);
  CHECK(left.columns == 2);
  CHECK(left.pitch == 3);
  const view<const float, 2> constant = left;
  CHECK(constant.row(1) == left.row(1));
  CHECK_FALSE(view<float, 2>());
}

TEST_CASE("a mask is made from bytes or from bools") {
  const std::vector<std::uint8_t> bytes = {0, 1, 255, 0};
  const bool bools[] = {true, false, true, true, false, true};
  CHECK(count(bytes) == 2);
  CHECK(count({bytes.data(), 4}) == 2);
  CHECK(count({bools, 6}) == 4);
  CHECK(count({bools, 3, 2}) == 2);  // every second: true, true, false
  CHECK(count({}) == 0);
  CHECK(count(view<const std::uint8_t>(bytes.data(), 3)) == 2);
  std::vector<std::uint8_t> variable = {1, 1};
  CHECK(count(view<std::uint8_t>(variable)) == 2);
}

TEST_CASE("padded and packed layouts give the range of each sequence") {
  const auto p = rlhf::padded(3, 4);
  CHECK(p.tokens == 12);
  CHECK(p[2].begin == 8);
  CHECK(p[2].end == 12);
  const std::vector<std::int64_t> offsets = {0, 2, 2, 7};
  const auto q = rlhf::packed(offsets);
  CHECK(q.sequences == 3);
  CHECK(q.tokens == 7);
  CHECK(q[0].end == 2);
  CHECK(q[1].begin == q[1].end);
  CHECK(q[2].begin == 2);
  const std::vector<std::int64_t> none = {0};
  CHECK(rlhf::packed(none).sequences == 0);
  CHECK(rlhf::packed(none).tokens == 0);
  CHECK(rlhf::packed({}).sequences == 0);
  CHECK(rlhf::check(p, "f"));
  CHECK(rlhf::check(q, "f"));
  CHECK(rlhf::check(rlhf::packed({}), "f"));
}

TEST_CASE("layouts that cannot be walked are refused by name") {
  const std::vector<std::int64_t> late = {1, 3}, decreasing = {0, 5, 4, 9};
  CHECK(text(rlhf::check(rlhf::packed(late), "gae")) == "gae: layout.offsets starts at 1, wants 0");
  CHECK(text(rlhf::check(rlhf::packed(decreasing), "gae")) ==
        "gae: layout.offsets decreases at element 2, wants offsets that never decrease");
  CHECK(text(rlhf::check(rlhf::padded(2, -1), "gae")) ==
        "gae: layout has an extent of -1, wants 0 or more, and offsets that are contiguous");
  CHECK(text(rlhf::check(rlhf::padded(-2, 3), "gae")) ==
        "gae: layout has an extent of -2, wants 0 or more, and offsets that are contiguous");
  const std::vector<std::int64_t> interleaved = {0, 9, 2, 9, 5, 9};
  CHECK_FALSE(rlhf::check(rlhf::packed({interleaved.data(), 3, 2}), "gae"));
  CHECK_FALSE(rlhf::check(rlhf::packed({static_cast<const std::int64_t*>(nullptr), 3}), "gae"));
}

TEST_CASE("a layout whose tokens are not those of its sequences is refused: it would be walked beyond its arrays") {
  std::vector<std::int64_t> offsets = {0, 2, 5};
  const auto batch = rlhf::packed(offsets);
  CHECK(rlhf::check(batch, "gae"));
  offsets = {0, 2, 9};  // the next batch, in the memory of the last
  CHECK(text(rlhf::check(batch, "gae")) == "gae: layout.offsets ends at 9, wants 5");
  offsets = {0, 2, 4};
  CHECK(text(rlhf::check(batch, "gae", "chosen.sequences", "chosen.sequences.offsets")) ==
        "gae: chosen.sequences.offsets ends at 4, wants 5");
  CHECK(text(rlhf::check(rlhf::layout<>{nullptr, 2, 2, 6}, "gae")) == "gae: layout has 6 tokens, wants 4");
  CHECK(rlhf::check(rlhf::layout<>{nullptr, 2, 3, 6}, "gae"));
}
