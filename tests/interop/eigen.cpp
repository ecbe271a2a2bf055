// Eigen's arrays as views: what stands for memory is viewed where it lies, and the order of rows is looked at.

#include "rlhf/interop/eigen.hpp"

#include <Eigen/Core>
#include <string>

#include "support/catch.hpp"

using namespace rlhf;

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T, int Rank = 1, class Array>
std::string refusal(Array&& array) {
  view<T, Rank> out;
  const status s = as_view(array, out, "logits", "score");
  CHECK(out.data == nullptr);
  return s.message().c_str();
}

}  // namespace

TEST_CASE("matrices, maps and blocks of Eigen are viewed where they lie") {
  matrix m(3, 4);
  for (int i = 0; i < 12; ++i) m(i / 4, i % 4) = static_cast<float>(i);
  const view<float, 2> all = as_view<float, 2>(m);
  CHECK(all.data == m.data());
  CHECK((all.rows == 3 && all.columns == 4 && all.pitch == 4));
  const view<const float, 2> part = as_view<const float, 2>(m.block(1, 1, 2, 3));
  CHECK((part.rows == 2 && part.columns == 3 && part.pitch == 4));
  CHECK(part.row(1)[2] == 11);

  const view<float> slots = as_view<float>(m);  // a padded layout's slots
  CHECK((slots.extent == 12 && slots.stride == 1));
  const view<const float> column = as_view<const float>(m.col(2));
  CHECK((column.extent == 3 && column.stride == 4));
  CHECK(column[2] == 10);
  const view<float> row = as_view<float>(m.row(1));
  row[3] = -1;
  CHECK(m(1, 3) == -1);

  const Eigen::Map<const matrix, 0, Eigen::OuterStride<>> window(m.data(), 2, 2, Eigen::OuterStride<>(8));
  const auto w = as_view<const float, 2>(window);
  CHECK((w.rows == 2 && w.pitch == 8));
  CHECK(w.row(1)[1] == 9);
}

TEST_CASE("Eigen's own order is viewed by its transpose") {
  Eigen::MatrixXf logits(4, 3);  // a column for each token
  for (int i = 0; i < 12; ++i) logits(i % 4, i / 4) = static_cast<float>(i);
  const auto v = as_view<const float, 2>(logits.transpose());
  CHECK((v.rows == 3 && v.columns == 4 && v.pitch == 4));
  CHECK(v.row(2)[1] == 9);
  // By rows, elements of a matrix by columns have no one stride.
  CHECK(refusal<const float>(logits) ==
        "score: logits has gaps between dimensions, of which it has 2, wants one stride between all elements, for a "
        "view of rank 1");
}

TEST_CASE("vectors, masks and what has gaps") {
  Eigen::VectorXd x = Eigen::VectorXd::LinSpaced(6, 0, 5);
  const auto even = as_view<double>(Eigen::Map<Eigen::VectorXd, 0, Eigen::InnerStride<2>>(x.data(), 3));
  CHECK((even.extent == 3 && even.stride == 2));
  CHECK(even[2] == 4);
  Eigen::Array<bool, Eigen::Dynamic, 1> mask(3);
  mask << true, false, true;
  const mask_view<> in = as_view<const std::uint8_t>(mask);
  CHECK((in[0] == 1 && in[1] == 0 && in[2] == 1));
  CHECK(as_view<const double>(Eigen::VectorXd()).extent == 0);

  matrix m = matrix::Zero(3, 4);
  CHECK(refusal<const float>(m.leftCols(2)) ==
        "score: logits has gaps between dimensions, of which it has 2, wants one stride between all elements, for a "
        "view of rank 1");
  const Eigen::Map<matrix, 0, Eigen::Stride<Eigen::Dynamic, 2>> wide(m.data(), 2, 2,
                                                                     Eigen::Stride<Eigen::Dynamic, 2>(4, 2));
  CHECK(refusal<const float, 2>(wide) == "score: logits has columns at a distance of 2, wants 1");
}
