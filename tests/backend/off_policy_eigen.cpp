// Corrections, losses of sequences, chosen tokens and divergences on the Eigen backend against plain loops: a batch long
// enough for lanes, tails and several threads, with garbage under the mask.

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/driver/future_weights.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/surviving_mass.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/objective/weighted.hpp"
#include "support/catch.hpp"

namespace {

struct batch {
  rlhf::layout<> sequences;
  std::vector<std::int64_t> offsets;
  std::vector<float> logp, old_logp, advantage, entropy, per_sequence, student, teacher;
  std::vector<std::uint8_t> mask;
  static constexpr std::int64_t rows = 23, columns = 530, vocabulary = 517;

  explicit batch(bool packed) {
    std::mt19937 random(29);
    const auto values = [&](std::size_t n, double low, double high) {
      std::vector<float> x(n);
      for (auto& v : x) v = static_cast<float>(low + (high - low) * static_cast<double>(random()) / 4294967296.0);
      return x;
    };
    if (packed) {
      offsets = {0};
      for (int s = 0; s < 200; ++s)
        offsets.push_back(offsets.back() + static_cast<std::int64_t>(s % 7 == 0 ? 0 : random() % 90));
      sequences = rlhf::packed(offsets);
    } else {
      sequences = rlhf::padded(151, 67);
    }
    const auto n = static_cast<std::size_t>(sequences.tokens);
    old_logp = values(n, -3, -0.1);
    logp = values(n, -0.1, 0.09);
    for (std::size_t i = 0; i < n; ++i) logp[i] += old_logp[i];
    advantage = values(n, -2, 2);
    entropy = values(n, 0, 3);
    per_sequence = values(static_cast<std::size_t>(sequences.sequences), -1, 1);
    student = values(static_cast<std::size_t>(rows * columns), -6, 6);
    teacher = values(static_cast<std::size_t>(rows * columns), -6, 6);
    for (std::size_t i = 0; i < student.size(); i += 13) student[i] = -std::numeric_limits<float>::infinity();
    mask.resize(n);
    const float infinity = std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < n; ++i) {
      mask[i] = random() % 3 != 0;
      if (mask[i] != 0) continue;
      for (auto* x : {&logp, &old_logp, &advantage, &entropy})
        (*x)[i] = i % 3 == 0 ? std::numeric_limits<float>::quiet_NaN() : i % 3 == 1 ? infinity : -infinity;
    }
  }
};

struct outcome {
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;
  template <class T>
  void add(const char* name, const std::vector<T>& x) {
    names.emplace_back(name);
    values.emplace_back(x.begin(), x.end());
  }
};

template <class B>
outcome run(B& be, const batch& x) {
  outcome all;
  const auto n = static_cast<std::size_t>(x.sequences.tokens), s = static_cast<std::size_t>(x.sequences.sequences);
  std::vector<float> tokens(n, 77), sequences(s, 77), other(s, 77), loss(1, 77);
  std::vector<std::uint8_t> bytes(n, 77);

  rlhf::importance_inputs<float> in;
  in.logp = x.logp;
  in.rollout_logp = x.old_logp;
  in.mask = x.mask;
  for (const bool by_sequence : {false, true}) {
    const rlhf::importance_weights how{
        by_sequence ? rlhf::masked_sequence_weights(1.2, 0.8) : rlhf::sequence_masked_token_weights(0.99, 1.005), true};
    rlhf::importance_outputs<float> out;
    out.weight = tokens;
    out.sequence_measure = sequences;
    if (by_sequence) out.sequence_weight = other;
    REQUIRE(how(be, x.sequences, in, out));
    all.add("weight", tokens);
    all.add("measure", sequences);
    all.add("sequence weight", other);
    out.keep = bytes;
    REQUIRE(how(be, x.sequences, in, out));
    all.add("keep", bytes);
  }
  in.advantage = x.per_sequence;
  rlhf::importance_outputs<float> phi;
  phi.weight = tokens;
  REQUIRE(rlhf::importance_weights{rlhf::vespo_weight{}}(be, x.sequences, in, phi));
  all.add("vespo", tokens);

  REQUIRE(rlhf::future_weights(be, x.sequences, {.low = 0.5, .high = 2, .ratio_bound = 1.08, .safety = 1.05},
                               rlhf::view<const float>(x.logp), rlhf::view<const float>(x.old_logp),
                               rlhf::view<const float>(x.advantage), rlhf::mask_view<>(x.mask),
                               rlhf::view<float>(tokens)));
  all.add("fipo", tokens);

  rlhf::sequence_inputs<float> whole;
  whole.logp = x.logp;
  whole.old_logp = x.old_logp;
  whole.advantage = x.advantage;
  whole.mask = x.mask;
  rlhf::sequence_outputs<float> to;
  to.loss = loss;
  to.grad_logp = tokens;
  to.per_sequence = sequences;
  to.log_ratio = other;
  REQUIRE(rlhf::sequence_policy_loss{rlhf::importance_sampling{}, rlhf::one_sided_log_ratio{0.05, 0.05}}(
      be, x.sequences, whole, to));
  all.add("gmpo loss", loss);
  all.add("gmpo gradient", tokens);
  all.add("gmpo sequences", sequences);
  all.add("gmpo ratios", other);
  std::vector<std::int64_t> prompts;
  for (std::int64_t i = 0; i <= x.sequences.sequences; i += 1) prompts.push_back(i * i / x.sequences.sequences);
  std::vector<float> groups(s, 77);
  whole.score = x.per_sequence;
  whole.groups = {rlhf::packed(prompts)};
  to.per_sequence = groups;
  REQUIRE(rlhf::group_sequence_loss<rlhf::real_classification>{}(be, x.sequences, whole, to));
  all.add("real loss", loss);
  all.add("real gradient", tokens);

  rlhf::selection_inputs<float> from{x.logp, x.old_logp, x.advantage, x.mask, x.entropy};
  const rlhf::view<std::uint8_t> marks(bytes);
  REQUIRE(rlhf::select_tokens(be, x.sequences, rlhf::high_entropy{}, from, marks));
  all.add("high entropy", bytes);
  REQUIRE(rlhf::select_tokens(be, x.sequences, rlhf::clip_covariance{.fraction = 0.01, .low = 0.1}, from, marks));
  all.add("clip-cov", bytes);

  std::vector<float> value(batch::rows, 77), gradient(x.student.size(), 77);
  rlhf::full_kl_inputs<float> logits;
  logits.logits = {x.student.data(), batch::rows, batch::columns};
  logits.ref_logits = {x.teacher.data(), batch::rows, batch::columns};
  logits.vocabulary = batch::vocabulary;
  logits.temperature = 0.7;
  rlhf::full_kl_outputs<float> divergence;
  divergence.kl = value;
  divergence.grad_logits = {gradient.data(), batch::rows, batch::columns};
  REQUIRE(rlhf::full_jensen_shannon(be, logits, divergence, 0.3));
  all.add("divergence", value);
  all.add("divergence gradient", gradient);
  REQUIRE(rlhf::surviving_mass(be, rlhf::view<const float, 2>(x.student.data(), batch::rows, batch::columns),
                               {.min_p = 1e-5, .top_k = 100, .top_p = 0.9}, rlhf::view<float>(value), 0.7,
                               batch::vocabulary));
  all.add("mass", value);
  return all;
}

}  // namespace

TEST_CASE("off-policy drivers on Eigen give what they give on plain loops") {
  for (const bool packed : {false, true}) {
    const batch x(packed);
    rlhf::reference_backend reference;
    const outcome want = run(reference, x);
    outcome first;
    for (const int threads : {1, 5}) {
      rlhf::eigen_backend backend(threads);
      const outcome got = run(backend, x);
      REQUIRE(got.names == want.names);
      for (std::size_t k = 0; k < want.values.size(); ++k) {
        CAPTURE(packed, threads, want.names[k]);
        REQUIRE(got.values[k].size() == want.values[k].size());
        double largest = 0, worst = 0;
        bool same = true;
        for (std::size_t i = 0; i < want.values[k].size(); ++i) {
          const double g = got.values[k][i], w = want.values[k][i];
          same = same && std::isfinite(g) && std::isfinite(w);
          largest = std::max(largest, std::abs(w));
          worst = std::max(worst, std::abs(g - w));
        }
        CHECK(same);
        CHECK(worst <= 4e-5 * (largest + 1e-30));
        if (threads > 1)
          CHECK(std::memcmp(got.values[k].data(), first.values[k].data(), got.values[k].size() * sizeof(double)) == 0);
      }
      first = got;
    }
  }
}
