// Views of multidimensional spans: a stand-in with std::mdspan's names, and cuda::std::mdspan where the CUDA toolkit has it.

#include "rlhf/interop/mdspan.hpp"

#include <array>
#include <string>

#include "support/catch.hpp"
#if RLHF_TESTS_MDSPAN
#include <cuda/std/mdspan>
#endif

namespace lookalike {

/// Any strides, known when it runs.
template <class T, std::size_t Rank>
struct span {
  using element_type = T;
  using accessor_type = void;
  using data_handle_type = T*;
  using rank_type = std::size_t;
  T* memory = nullptr;
  std::array<int, Rank> extents{}, strides{};
  bool strided = true;

  static constexpr std::size_t rank() { return Rank; }
  constexpr int extent(std::size_t k) const { return extents[k]; }
  constexpr int stride(std::size_t k) const { return strides[k]; }
  constexpr bool is_strided() const { return strided; }
  constexpr T* data_handle() const { return memory; }
};
static_assert(rlhf::mdspan_like<span<float, 2>>);
static_assert(!rlhf::mdspan_like<std::array<float, 2>>);

}  // namespace lookalike

using namespace rlhf;
using lookalike::span;

namespace {

float memory[120];

template <class T, int Rank = 1, class Span>
std::string refusal(const Span& x) {
  view<T, Rank> out;
  const status s = as_view(x, out, "logp", "score");
  CHECK(out.data == nullptr);
  return s.message().c_str();
}

}  // namespace

TEST_CASE("dimensions that follow one another count as one") {
  const span<float, 3> logits{memory, {2, 3, 5}, {15, 5, 1}};
  const view<const float, 2> rows = as_view<const float, 2>(logits);
  CHECK((rows.rows == 6 && rows.columns == 5 && rows.pitch == 5));
  CHECK(as_view<float>(logits).extent == 30);

  const span<float, 3> padded{memory, {2, 3, 5}, {24, 8, 1}};
  CHECK(as_view<float, 2>(padded).pitch == 8);
  const span<float, 3> one{memory, {1, 3, 5}, {999, 8, 1}};  // the only one has no neighbour
  CHECK(as_view<float, 2>(one).pitch == 8);
  const span<float, 2> row{memory, {1, 5}, {2, 1}};
  CHECK(as_view<float, 2>(row).pitch == 5);
  const span<float, 3> every{memory, {2, 3, 4}, {24, 8, 2}};
  const auto v = as_view<const float>(every);
  CHECK((v.extent == 24 && v.stride == 2));
  const span<float, 2> ones{memory, {1, 1}, {7, 9}};
  CHECK((as_view<float>(ones).extent == 1 && as_view<float>(ones).stride == 1));
  const span<float, 3> empty{nullptr, {2, 0, 5}, {0, 5, 1}};
  CHECK((as_view<float, 2>(empty).rows == 0 && as_view<float>(empty).extent == 0));
  const span<float, 2> broadcast{memory, {3, 5}, {0, 1}};
  CHECK(as_view<const float, 2>(broadcast).pitch == 0);
  const span<float, 2> all_alike{memory, {3, 5}, {0, 0}};
  CHECK((as_view<const float>(all_alike).extent == 15 && as_view<const float>(all_alike).stride == 0));
  const span<bool, 1> mask{reinterpret_cast<bool*>(memory), {5}, {1}};
  CHECK(mask_view<>(as_view<const std::uint8_t>(mask)).extent == 5);
  CHECK(as_view<const float, 1, cuda_space>(span<const float, 1>{memory, {5}, {1}}).data == memory);
}

TEST_CASE("what one stride does not reach is refused") {
  const span<float, 3> ragged{memory, {2, 3, 5}, {20, 5, 1}};
  CHECK(refusal<float>(ragged) ==
        "score: logp has gaps between dimensions, of which it has 3, wants one stride between all elements, for a view "
        "of rank 1");
  CHECK(refusal<float, 2>(ragged) ==
        "score: logp has gaps between dimensions, of which it has 3, wants one distance between all rows, for a view "
        "of rank 2");
  CHECK(refusal<const float, 2>(span<float, 2>{memory, {3, 5}, {1, 3}}) ==
        "score: logp has columns at a distance of 3, wants 1");
  CHECK(refusal<float, 2>(span<float, 2>{memory, {3, 5}, {0, 1}}) ==
        "score: logp has rows at a distance of 0, wants at least the columns, to be written to");
  CHECK(refusal<float>(span<float, 2>{memory, {3, 5}, {0, 0}}) ==
        "score: logp has stride 0, wants 1 or more, to be written to");
  CHECK(refusal<float>(span<float, 2>{memory, {3, 5}, {0, 1}}) ==
        "score: logp has gaps between dimensions, of which it has 2, wants one stride between all elements, for a view "
        "of rank 1");
  CHECK(refusal<float, 2>(span<float, 1>{memory, {5}, {1}}) == "score: logp has 1 dimensions, wants 2");
  CHECK(refusal<float>(span<float, 1>{nullptr, {5}, {1}}) == "score: logp is null, wants a pointer to its elements");
  CHECK(refusal<float>(span<float, 1>{memory, {5}, {1}, false}) ==
        "score: logp is not strided, wants a strided layout");
}

#if RLHF_TESTS_MDSPAN
TEST_CASE("cuda::std::mdspan") {
  namespace md = cuda::std;
  const md::mdspan<float, md::dextents<std::int64_t, 3>> logits(memory, 2, 3, 5);
  const auto rows = as_view<const float, 2>(logits);
  CHECK((rows.data == memory && rows.rows == 6 && rows.columns == 5 && rows.pitch == 5));
  const md::mdspan<float, md::dextents<int, 2>, md::layout_left> left(memory, 3, 5);
  CHECK(refusal<float, 2>(left) == "score: logp has columns at a distance of 3, wants 1");
  using strided = md::mdspan<const float, md::extents<int, 4>, md::layout_stride>;
  const strided every(memory, {md::extents<int, 4>{}, md::array<int, 1>{3}});
  CHECK((as_view<const float>(every).extent == 4 && as_view<const float>(every).stride == 3));
}
#endif
