// What is particular to the Eigen backend: threads change no bit, sums keep their digits, scratch memory is kept.

#include "rlhf/backend/eigen.hpp"

#include <cstring>
#include <vector>

#include "rlhf/backend/reference.hpp"
#include "support/catch.hpp"

namespace {

constexpr std::chrono::nanoseconds at_once{0};

struct square {
  using scalar = float;
  static constexpr int sums = 2, maxima = 1;
  rlhf::view<const float> x;
  rlhf::view<float> out;
  [[nodiscard]] bool unit_stride() const { return true; }
  template <class V>
  RLHF_INLINE void operator()(std::int64_t i, rlhf::accumulator<V, 2, 1>& sum) const {
    const V y = rlhf::load<V>(x, i);
    sum.sum[0] = sum.sum[0] + y;
    sum.sum[1] = sum.sum[1] + rlhf::exp(y);
    sum.max[0] = rlhf::select(y > sum.max[0], y, sum.max[0]);
    rlhf::store(out, i, y * y);
  }
  template <class V>
  RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, rlhf::accumulator<V, 2, 1>& sum) const {
    (*this)(i, sum);
    sum.sum[1] = sum.sum[1] + V(rlhf::number_traits<V>::constant(static_cast<double>(s)));
  }
};

struct sequence_mean {
  using scalar = float;
  static constexpr int sums = 1, maxima = 1;
  rlhf::view<const float> x;
  rlhf::layout<> sequences;
  double* mean;
  double* largest;
  [[nodiscard]] bool unit_stride() const { return true; }
  template <class V>
  RLHF_INLINE void operator()(std::int64_t i, rlhf::accumulator<V, 1, 1>& sum) const {
    const V y = rlhf::load<V>(x, i);
    sum.sum[0] = sum.sum[0] + y;
    sum.max[0] = rlhf::select(y > sum.max[0], y, sum.max[0]);
  }
  void finish(std::int64_t s, const rlhf::totals<1, 1>& found) const {
    const rlhf::segment range = sequences[s];
    mean[s] = range.end > range.begin ? found.sum[0] / static_cast<double>(range.end - range.begin) : -1;
    largest[s] = found.max[0];
  }
};

struct discounted {
  using scalar = float;
  static constexpr int scans = 1;
  rlhf::view<const float> x;
  rlhf::view<float> out;
  [[nodiscard]] bool unit_stride() const { return true; }
  [[nodiscard]] float initial(std::int64_t s, int) const { return static_cast<float>(s % 3); }
  template <class V, class Scan>
  RLHF_INLINE void operator()(std::int64_t, std::int64_t i, Scan& scan) const {
    rlhf::store(out, i, scan.inclusive(0, V(rlhf::number_traits<V>::constant(0.9)), rlhf::load<V>(x, i)));
  }
};

template <class V>
using softmax = rlhf::online_softmax<V, true>;

struct row_softmax {
  using scalar = float;
  static constexpr int sums = 1, maxima = 0;
  rlhf::view<const float, 2> x;
  rlhf::view<float> lse;

  struct logit {
    const float* row;
    template <class V>
    RLHF_INLINE V operator()(std::int64_t j) const {
      return rlhf::memory_traits<V>::load(row + j);
    }
  };
  template <class Team>
  void operator()(std::int64_t r, Team& team, rlhf::accumulator<float, 1, 0>& sum) const {
    const auto state = team.template reduce<softmax>(x.columns, logit{x.row(r)});
    lse[r] = state.log_sum_exp();
    sum.sum[0] += state.entropy();
  }
};

std::vector<float> numbers(std::size_t n) {
  std::vector<float> x(n);
  std::uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / 8388608.0f - 1;
  }
  return x;
}

/// Sequences of 0 to 900 tokens, and one of many thousands.
std::vector<std::int64_t> cuts(std::int64_t n) {
  std::vector<std::int64_t> offsets{0, 0};
  for (std::int64_t k = 0; offsets.back() < n; ++k)
    offsets.push_back(std::min(n, offsets.back() + (k == 40 ? 50000 : k % 4 == 0 ? k % 5 : k * 37 % 901)));
  offsets.push_back(n);
  return offsets;
}

/// Everything that a backend computes of one batch, as bytes.
template <class B>
std::vector<double> results(B& be) {
  constexpr std::int64_t n = 300007, rows = 150, columns = 1777;
  const std::vector<float> x = numbers(n);
  const std::vector<std::int64_t> offsets = cuts(n);
  const rlhf::layout<> sequences = rlhf::packed(offsets);
  std::vector<float> out(n), more(n), scanned(n), lse(rows);
  std::vector<double> mean(offsets.size()), largest(offsets.size()), all;
  rlhf::totals<2, 1> total, by_sequence;
  rlhf::totals<1> entropy;
  REQUIRE(be.map(n, square{x, out}, &total));
  REQUIRE(be.segment_map(sequences, square{x, more}, &by_sequence));
  REQUIRE(be.segment_reduce(sequences, sequence_mean{x, sequences, mean.data(), largest.data()}));
  REQUIRE(be.segment_scan(sequences, discounted{x, scanned}));
  REQUIRE(be.rows(rows, row_softmax{{x.data(), rows, columns}, lse}, &entropy));
  for (const auto& t : {total, by_sequence}) all.insert(all.end(), {t.sum[0], t.sum[1], t.max[0]});
  all.push_back(entropy.sum[0]);
  for (const auto* v : {&out, &more, &scanned, &lse}) all.insert(all.end(), v->begin(), v->end());
  for (const auto* v : {&mean, &largest}) all.insert(all.end(), v->begin(), v->end());
  return all;
}

}  // namespace

TEST_CASE("the number of threads, and when they are woken, changes no bit") {
  rlhf::eigen_backend one;
  const std::vector<double> expected = results(one);
  for (const int threads : {2, 3, 8}) {
    rlhf::eigen_backend at_first(threads, at_once), later(threads, std::chrono::microseconds(50));
    CHECK(at_first.threads() == threads);
    for (rlhf::eigen_backend* be : {&at_first, &later}) {
      const std::vector<double> got = results(*be);
      REQUIRE(got.size() == expected.size());
      CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(double)) == 0);
    }
  }
  rlhf::reference_backend plain;
  const std::vector<double> close = results(plain);
  REQUIRE(close.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < close.size(); ++i)
    worst = std::max(worst, std::abs(close[i] - expected[i]) / (1 + std::abs(close[i])));
  CHECK(worst < 2e-6);
}

TEST_CASE("the mean of 16 million floats keeps seven digits") {
  constexpr std::int64_t n = std::int64_t{1} << 24;
  rlhf::eigen_backend be;
  for (const float step : {0.0f, 1e-7f}) {
    std::vector<float> x(static_cast<std::size_t>(n));
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      x[static_cast<std::size_t>(i)] = 0.1f + step * static_cast<float>(i % 1001);
      sum += static_cast<double>(x[static_cast<std::size_t>(i)]);
    }
    rlhf::totals<2, 1> total;
    REQUIRE(be.map(n, square{x, {}}, &total));
    CHECK(std::abs(total.sum[0] / sum - 1) < 1.2e-7);
  }
}

TEST_CASE("a million sequences of no or few tokens") {
  std::vector<std::int64_t> offsets{0};
  for (int i = 0; i < 1000000; ++i) offsets.push_back(offsets.back() + i % 4);
  const rlhf::layout<> sequences = rlhf::packed(offsets);
  const std::vector<float> x = numbers(static_cast<std::size_t>(sequences.tokens));
  std::vector<double> mean(offsets.size()), largest(offsets.size()), want(offsets.size()), most(offsets.size());
  rlhf::eigen_backend be(2, at_once);
  rlhf::reference_backend plain;
  REQUIRE(be.segment_reduce(sequences, sequence_mean{x, sequences, mean.data(), largest.data()}));
  REQUIRE(plain.segment_reduce(sequences, sequence_mean{x, sequences, want.data(), most.data()}));
  double worst = 0;
  for (std::size_t i = 0; i < mean.size(); ++i) worst = std::max(worst, std::abs(mean[i] - want[i]));
  CHECK(worst < 1e-6);
  CHECK(largest == most);
}

TEST_CASE("nothing to do") {
  rlhf::eigen_backend be(2, at_once);
  rlhf::totals<2, 1> total;
  total.sum[0] = 5;
  REQUIRE(be.map(0, square{}, &total));
  CHECK(total.sum[0] == 0);
  const std::vector<std::int64_t> none{0}, empty{0, 0, 0};
  REQUIRE(be.segment_map(rlhf::packed(none), square{}, &total));
  REQUIRE(be.segment_map(rlhf::packed(empty), square{}, &total));
  double mean[2] = {7, 7}, largest[2];
  REQUIRE(be.segment_reduce(rlhf::packed(empty), sequence_mean{{}, rlhf::packed(empty), mean, largest}));
  CHECK(mean[0] == -1);
  CHECK(mean[1] == -1);
  REQUIRE(be.segment_reduce(rlhf::padded(2, 0), sequence_mean{{}, rlhf::padded(2, 0), mean, largest}));
  REQUIRE(be.segment_scan(rlhf::packed(empty), discounted{}));
  REQUIRE(be.segment_scan(rlhf::padded(0, 5), discounted{}));
  REQUIRE(be.rows(0, row_softmax{}, nullptr));
}

TEST_CASE("scratch memory is used again") {
  rlhf::eigen_backend be;
  void* first = nullptr;
  {
    const auto a = be.scratch<float>(100000);
    const auto b = be.scratch<float>(100000);
    REQUIRE(a.data() != nullptr);
    REQUIRE(a.data() != b.data());
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
    first = b.data();
  }
  {
    const auto small = be.scratch<double>(1);  // does not take a large block
    const auto again = be.scratch<float>(99000), other = be.scratch<float>(100000);
    const bool kept = static_cast<void*>(again.data()) == first || static_cast<void*>(other.data()) == first;
    CHECK(kept);
    CHECK(static_cast<void*>(small.data()) != first);
  }
  CHECK(be.scratch<float>(0).data() != nullptr);
  CHECK(be.scratch<char>(std::int64_t{1} << 60).data() == nullptr);
  auto moved = be.scratch<int>(3);
  int* const data = moved.data();
  const auto to = std::move(moved);
  CHECK(to.data() == data);
}

TEST_CASE("every chunk of a task runs once, whoever runs it") {
  for (const int threads : {1, 2, 4}) {
    for (const std::chrono::nanoseconds patience :
         {at_once, std::chrono::nanoseconds(2000), std::chrono::nanoseconds(10000000)}) {
      rlhf::tasks tasks(threads, patience);
      for (const std::size_t chunks : {0u, 1u, 2u, 3u, 17u, 1000u})
        for (const std::int64_t known : {-1, 0, 700, 1000000}) {  // nanoseconds of each, right or wrong
          CAPTURE(threads, patience.count(), chunks, known);
          std::vector<int> runs(chunks, 0);
          std::vector<double> work(chunks);
          const auto one = [&](std::int64_t chunk) {
            const auto c = static_cast<std::size_t>(chunk);
            for (int i = 0; i < 300; ++i) work[c] += std::sqrt(static_cast<double>(i));
            ++runs[c];
          };
          if (known < 0)
            tasks.run(static_cast<std::int64_t>(chunks), one);
          else
            tasks.run(static_cast<std::int64_t>(chunks), known, one);
          CHECK(runs == std::vector<int>(chunks, 1));
        }
    }
  }
}
