// How the CUDA kernels walk sequences, on the host: the cursor, ranges of several tiles, DPO from tokens in every layout, groups in
// shared memory, and how many launches that takes.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rlhf/backend/emulated.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"
#include "support/catch.hpp"

namespace {

using std::int64_t;
using std::size_t;
namespace team = rlhf::team_detail;

std::mt19937& engine() {
  static std::mt19937 e(20250302);
  return e;
}
double uniform(double low, double high) { return low + (high - low) * static_cast<double>(engine()()) / 4294967296.0; }

template <class T>
std::vector<T> numbers(int64_t n, double low, double high) {
  std::vector<T> x(static_cast<size_t>(n));
  for (auto& v : x) v = static_cast<T>(uniform(low, high));
  return x;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::vector<int64_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> out{0};
  for (const auto n : lengths) out.push_back(out.back() + n);
  return out;
}
/// Empty ones everywhere, short ones, long ones.
std::vector<int64_t> ragged(int count, unsigned longest) {
  std::vector<int64_t> lengths;
  for (int s = 0; s < count; ++s)
    lengths.push_back(s % 5 == 0 ? 0 : s % 17 == 3 ? 20 * longest : static_cast<int64_t>(engine()() % longest));
  lengths.push_back(0);
  return lengths;
}

/// The emulated backend, and how many kernels it launched.
struct counting_executor : rlhf::serial_executor<> {
  int launches = 0;
  template <int Width, class Body>
  [[nodiscard]] rlhf::status launch(const char* function, int64_t groups, const Body& body) {
    ++launches;
    return rlhf::serial_executor<>::launch<Width>(function, groups, body);
  }
};
using counting_backend = rlhf::team_backend<counting_executor>;

}  // namespace

TEST_CASE("a cursor finds the sequence of every element that rises, by any step, over empty ones") {
  const std::vector<int64_t> packed = offsets_of(ragged(300, 40));
  std::vector<rlhf::layout<>> all = {rlhf::packed(packed)};
  for (const int64_t width : {1, 2, 3, 7, 8, 113, 1024, 5000}) all.push_back(rlhf::padded(12000 / width, width));
  for (const auto& sequences : all) {
    std::vector<int64_t> of(static_cast<size_t>(sequences.tokens));
    for (int64_t s = 0; s < sequences.sequences; ++s)
      for (int64_t i = sequences[s].begin; i < sequences[s].end; ++i) of[static_cast<size_t>(i)] = s;
    for (const int64_t step : {1, 4, 256, 1024, 3000}) {
      const int64_t passed = team::sequence_cursor<rlhf::host_space>::passed_by(sequences, step);
      for (const int64_t start : {int64_t{0}, int64_t{3}, sequences.tokens / 2, sequences.tokens - 1}) {
        team::sequence_cursor<rlhf::host_space> at(sequences, start, passed);
        bool right = true;
        for (int64_t i = start;; at.step_to(i)) {
          right = right && at.sequence() == of[static_cast<size_t>(i)] && at.end() == sequences[at.sequence()].end;
          auto one = at;
          for (int64_t j = i + 1; j < sequences.tokens && j < i + 5; ++j) {
            one.rise_to(j);
            right = right && one.sequence() == of[static_cast<size_t>(j)];
          }
          if ((i += step) >= sequences.tokens) break;
        }
        CAPTURE(sequences.width, sequences.tokens, step, start);
        CHECK(right);
      }
    }
  }
}

namespace {

/// Adds to each element the number of its sequence, and counts it.
template <class T>
struct mark_sequence {
  using scalar = T;
  static constexpr int sums = 2, maxima = 0;
  rlhf::view<T> y;
  [[nodiscard]] bool unit_stride() const { return true; }
  [[nodiscard]] bool aligned() const { return rlhf::begins_aligned(y); }
  template <class V>
  void operator()(int64_t s, int64_t i, rlhf::accumulator<V, 2, 0>& acc) const {
    const V value = rlhf::load<V>(y, i) + V(rlhf::number_traits<V>::constant(static_cast<double>(s + 1)));
    acc.sum[0] = acc.sum[0] + value;
    acc.sum[1] = acc.sum[1] + V(rlhf::number_traits<V>::constant(1));
    rlhf::store(y, i, value);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("segment_map by groups that have many tiles each, and by more groups than there are tiles", "",
                   float, double) {
  using T = TestType;
  const std::vector<int64_t> lengths = ragged(700, 60), packed = offsets_of(lengths);
  for (const auto& sequences :
       {rlhf::padded(3, 7001), rlhf::padded(21, 999), rlhf::padded(2500, 9), rlhf::packed(packed)})
    for (const int64_t groups : {1, 3, 7, 64})
      for (const size_t shift : {size_t{0}, size_t{1}}) {
        CAPTURE(sequences.width, sequences.tokens, groups, shift);
        std::vector<T> y(static_cast<size_t>(sequences.tokens) + shift);
        const mark_sequence<T> kernel{{y.data() + shift, sequences.tokens}};
        auto body = team::segment_map_body<mark_sequence<T>, rlhf::host_space>::of(kernel, sequences, groups);
        std::vector<rlhf::totals<2>> partial(static_cast<size_t>(groups));
        body.partial = partial.data();
        for (int64_t g = 0; g < groups; ++g) {
          rlhf::serial_group<rlhf::launch::block_threads> group;
          body(group, g, groups);
        }
        double counted = 0;
        for (const auto& p : partial) counted += p.sum[1];
        CHECK(counted == static_cast<double>(sequences.tokens));
        bool right = true;
        for (int64_t s = 0; s < sequences.sequences; ++s)
          for (int64_t i = sequences[s].begin; i < sequences[s].end; ++i)
            right = right && y[static_cast<size_t>(i) + shift] == static_cast<T>(s + 1);
        CHECK(right);
      }
}

// ----------------------------------------------------------------------------------------------------------------- pairs

namespace {

struct side {
  rlhf::layout<> sequences;
  std::vector<float> logp, ref;
  std::vector<std::uint8_t> mask;
  explicit side(const rlhf::layout<>& s)
      : sequences(s), logp(numbers<float>(s.tokens, -3, 0)), ref(numbers<float>(s.tokens, -3, 0)) {
    for (int64_t i = 0; i < s.tokens; ++i) mask.push_back(engine()() % 4 == 0 ? 0 : 1);
  }
};

template <class Loss, class B>
std::vector<double> pair_loss(B& be, const Loss& loss, const side& c, const side& r, int masked, bool want_rejected) {
  const auto given = [](const side& x, bool with_mask) {
    rlhf::response_tokens<float> t{x.sequences, x.logp, x.ref};
    if (with_mask) t.mask = x.mask;
    return t;
  };
  rlhf::token_pair_inputs<float> in;
  in.chosen = given(c, (masked & 1) != 0);
  in.rejected = given(r, (masked & 2) != 0);
  const auto pairs = static_cast<size_t>(c.sequences.sequences);
  std::vector<float> total(1, 77), each(pairs, 77), grad_c(c.logp.size(), 77), grad_r(r.logp.size(), 77);
  rlhf::pair_outputs<float> out;
  out.loss = total;
  out.per_pair = each;
  out.grad_chosen = grad_c;
  if (want_rejected) out.grad_rejected = grad_r;
  REQUIRE(loss(be, in, out));
  std::vector<double> all(total.begin(), total.end());
  for (const auto* x : {&each, &grad_c, &grad_r}) all.insert(all.end(), x->begin(), x->end());
  return all;
}

std::string difference(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  if (got.size() != want.size()) return "sizes differ";
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]))))
      return "element " + std::to_string(i) + ": " + std::to_string(got[i]) + ", wants " + std::to_string(want[i]);
  return "";
}

template <class Loss>
void check_pairs(const Loss& loss) {
  const auto a = offsets_of(ragged(150, 30)), b = offsets_of(ragged(150, 50));
  const std::vector<std::pair<rlhf::layout<>, rlhf::layout<>>> shapes = {
      {rlhf::padded(37, 64), rlhf::padded(37, 64)},    // one walk over both
      {rlhf::padded(33, 113), rlhf::padded(33, 113)},  // the second side lies differently against 16 bytes
      {rlhf::padded(5, 2100), rlhf::padded(5, 2100)},
      {rlhf::padded(40, 16), rlhf::padded(40, 80)},
      {rlhf::packed(a), rlhf::packed(b)},
      {rlhf::padded(static_cast<int64_t>(a.size()) - 1, 9), rlhf::packed(a)}};
  for (const auto& [first, second] : shapes) {
    const side c(first), r(second);
    for (int masked = 0; masked < 4; ++masked)
      for (const bool both : {true, false}) {
        CAPTURE(first.width, second.width, first.tokens, masked, both);
        rlhf::reference_backend plain;
        rlhf::emulated_backend kernels;
        CHECK(difference(pair_loss(kernels, loss, c, r, masked, both), pair_loss(plain, loss, c, r, masked, both),
                         2e-5) == "");
      }
  }
}

}  // namespace

TEST_CASE("pairs from tokens: every reduction, sides alike and not, masks on one side, lengths without a mask") {
  check_pairs(
      rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.05}, rlhf::batch_mean{}, rlhf::chosen_nll{.weight = 0.2}});
  check_pairs(rlhf::preference_loss{rlhf::dpo_sigmoid_norm{}});  // reads the lengths
  check_pairs(rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.05}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                    rlhf::length_desensitised{}});
  check_pairs(rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.05}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                    rlhf::clamped_log_ratio{}});
}

TEST_CASE("pairs from tokens: a mask of ones changes nothing, and both sides take one walk where they are alike") {
  side c(rlhf::padded(20, 300)), r(rlhf::padded(20, 300));
  c.mask.assign(c.mask.size(), 1), r.mask.assign(r.mask.size(), 7);
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid_norm{}};
  counting_backend kernels;
  const auto without = pair_loss(kernels, loss, c, r, 0, true);
  CHECK(kernels.launches == 4);  // sums of both, the pairs, their loss, gradients of both
  CHECK(same_bits(pair_loss(kernels, loss, c, r, 3, true), without));
  CHECK(kernels.launches == 8);
  r.sequences.width = 150, r.sequences.tokens = 3000;
  r.logp.resize(3000), r.ref.resize(3000), r.mask.resize(3000);
  static_cast<void>(pair_loss(kernels, loss, c, r, 3, true));
  CHECK(kernels.launches == 14);
}

// ---------------------------------------------------------------------------------------------------------------- groups

namespace {

template <class T, class Estimator>
void check_groups(const Estimator& estimator, int launches, int64_t longest = 6500) {
  std::vector<int64_t> one_long(300, 6), alike(300, 16);
  one_long[150] = longest;  // its tile does not fit, unless the estimator takes its square of time
  const auto a = offsets_of(ragged(400, 12)), b = offsets_of(one_long), c = offsets_of(alike);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 8 * 100; ++i) order.push_back((i * 7 + 3) % 800);
  std::vector<rlhf::grouping<>> all = {
      {rlhf::padded(1100, 8)}, {rlhf::padded(130, 64)}, {rlhf::padded(90, 5)},
      {rlhf::padded(700, 1)},  {rlhf::padded(20, 500)}, {rlhf::packed(a)},
      {rlhf::packed(b)},       {rlhf::packed(c)},       {rlhf::padded(100, 8), order.data()}};
  for (const auto& groups : all)
    for (const int64_t stride : {1, 2})
      for (const int64_t shift : {0, 1}) {
        CAPTURE(groups.groups.width, groups.groups.tokens, stride, shift);
        const int64_t n = groups.groups.tokens;
        auto reward = numbers<T>(n * stride + shift, -1, 1), weight = numbers<T>(n * stride + shift, 1, 9);
        for (size_t i = 0; i < reward.size(); i += 13) reward[i] = std::numeric_limits<T>::quiet_NaN();
        for (size_t i = 0; i < reward.size(); i += 3) reward[i] = T(0.5);  // equals, whole groups of them too
        const auto run = [&](auto& be) {
          std::vector<T> out(reward.size(), T(77));
          rlhf::group_inputs<T> in;
          in.groups = groups;
          in.reward = {reward.data() + shift, n, stride};
          in.weight = {weight.data() + shift, n, stride};
          if constexpr (!rlhf::grouped_detail::is_weighed<Estimator>()) in.weight = {};
          REQUIRE(rlhf::grouped{estimator}(be, in, {out.data() + shift, n, stride}));
          return out;
        };
        rlhf::reference_backend plain;
        counting_backend kernels;
        const auto got = run(kernels), want = run(plain);
        if (launches == 1) {
          CHECK(kernels.launches == 1);
          CHECK(same_bits(got, want));  // the same thread's work, wherever it reads
        } else {
          CHECK(kernels.launches > 1);  // the batch is summed in another order
          bool near = true;
          for (size_t i = 0; i < got.size(); ++i)
            near = near && (std::isnan(want[i]) ? std::isnan(got[i])
                                                : std::abs(got[i] - want[i]) <= T(1e-5) * (1 + std::abs(want[i])));
          CHECK(near);
        }
      }
}

}  // namespace

TEMPLATE_TEST_CASE("groups in shared memory give the bits of plain loops, by one launch unless the batch is asked for",
                   "", float, double) {
  using T = TestType;
  check_groups<T>(rlhf::group_advantage{}, 1);
  check_groups<T>(rlhf::group_advantage{.scale = rlhf::group_scale::none}, 1);
  check_groups<T>(rlhf::group_advantage{.scale = rlhf::group_scale::batch}, 2);
  check_groups<T>(rlhf::leave_one_out{.normalize = true}, 1, 700);  // reads rewards after it has set advantages
  check_groups<T>(rlhf::optimal_baseline{}, 1);
  check_groups<T>(rlhf::pass_at_k{}, 1);
  check_groups<T>(rlhf::best_of_group{.keep = 3}, 1, 700);
  check_groups<T>(rlhf::group_filter{}, 1);
  check_groups<T>(rlhf::mean_normalized{}, 1);
  check_groups<T>(rlhf::length_shaped{rlhf::relative_length{}}, 1);
  check_groups<T>(rlhf::group_policy_gradient{}, 2);
}

namespace {

/// An estimator of somebody who does not say whether it looks at the batch.
struct above_the_batch {
  [[nodiscard]] constexpr rlhf::status check() const { return {}; }
  template <class Reward, class Set>
  void operator()(int64_t n, const Reward& reward, const Set& set, const rlhf::reward_moments& batch) const {
    for (int64_t j = 0; j < n; ++j) set(j, reward(j) - batch.mean);
  }
};

}  // namespace

TEST_CASE("an estimator that does not say is given the batch") {
  rlhf::reference_backend plain;
  const std::vector<float> reward{1, 2, 3, 6};
  std::vector<float> out(4);
  rlhf::group_inputs<float> in;
  in.groups = {rlhf::padded(2, 2)};
  in.reward = reward;
  REQUIRE(rlhf::grouped{above_the_batch{}}(plain, in, out));
  CHECK(out == std::vector<float>{-2, -1, 0, 3});
}
