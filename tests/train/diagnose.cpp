// A batch before its first update, as it should be and with each of the usual mistakes.

#include <string>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/algorithm/preset/trl_1_9.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/train/diagnose.hpp"

namespace {

using rlhf::identity;
using numbers = std::vector<double>;

constexpr std::int64_t rows = 6, width = 12;
constexpr int vocabulary = 17, end_of_text = 2, padding = 0;

/// Rows of prompt, response, end of text and padding, and the logits that score them.
struct batch {
  numbers logits, score;
  std::vector<std::int32_t> target;
  std::vector<std::uint8_t> mask, prompt;

  explicit batch(unsigned seed) {
    std::mt19937 random(seed);
    score = test::uniform(random, rows, -2, 2);
    for (std::int64_t s = 0; s < rows; ++s) {
      const std::int64_t prompts = 2 + s % 2, length = 6 + s % 4;
      for (std::int64_t t = 0; t < width; ++t) {
        const bool text = t < prompts + length - 1, end = t == prompts + length - 1;
        target.push_back(text ? 3 + static_cast<std::int32_t>(random() % 14) : end ? end_of_text : padding);
        prompt.push_back(t < prompts ? 1 : 0);
        mask.push_back(t >= prompts && (text || end) ? 1 : 0);
        // The model has learnt something: the token that comes is likely, more or less.
        numbers z = test::uniform(random, vocabulary, -2, 2);
        z[static_cast<std::size_t>(target.back())] += 1 + 3 * static_cast<double>(random() % 1000) / 1000;
        logits.insert(logits.end(), z.begin(), z.end());
      }
    }
  }
  [[nodiscard]] std::size_t tokens() const { return target.size(); }

  /// One pass over the logits.
  [[nodiscard]] numbers logp(double temperature = 1, double noise = 0, int shift = 0) const {
    std::mt19937 random(99);
    numbers out;
    for (std::size_t i = 0; i < tokens(); ++i) {
      const std::size_t at =
          i % width + static_cast<std::size_t>(shift) < width ? i + static_cast<std::size_t>(shift) : i;
      const numbers drop = test::uniform(random, vocabulary, -noise, noise);
      double sum = 0, of_target = 0;
      for (std::size_t k = 0; k < vocabulary; ++k) {
        const double z = (logits[i * vocabulary + k] + drop[k]) / temperature;
        sum += std::exp(z);
        if (static_cast<int>(k) == target[at]) of_target = z;
      }
      out.push_back(of_target - std::log(sum));
    }
    return out;
  }
  [[nodiscard]] numbers entropy() const {
    numbers out;
    for (std::size_t i = 0; i < tokens(); ++i) {
      double sum = 0, mean = 0;
      for (std::size_t k = 0; k < vocabulary; ++k) {
        const double e = std::exp(logits[i * vocabulary + k]);
        sum += e;
        mean += e * logits[i * vocabulary + k];
      }
      out.push_back(std::log(sum) - mean / sum);
    }
    return out;
  }
};

/// Everything that a step has, with views of it.
struct step {
  batch b;
  numbers logp = b.logp(), old_logp = logp, ref_logp = logp, entropy = b.entropy(), reward = numbers(b.tokens());

  explicit step(unsigned seed = 3) : b(seed) { shape_rewards(); }
  void shape_rewards(rlhf::score_placement placement = rlhf::score_placement::last) {
    rlhf::reference_backend backend;
    rlhf::shaping_inputs<double> in;
    in.old_logp = old_logp;
    in.ref_logp = ref_logp;
    in.score = b.score;
    in.mask = b.mask;
    rlhf::shaping_outputs<double> out;
    out.reward = reward;
    REQUIRE(rlhf::reward_shaping{rlhf::kl_in_reward<rlhf::k1>{{}, 0.05, placement}}(backend, rlhf::padded(rows, width),
                                                                                    in, out));
  }
  [[nodiscard]] rlhf::step_zero<double> inputs() const {
    rlhf::step_zero<double> in;
    in.sequences = rlhf::padded(rows, width);
    in.mask = b.mask;
    in.logp = logp;
    in.old_logp = old_logp;
    in.ref_logp = ref_logp;
    in.entropy = entropy;
    in.vocabulary = vocabulary;
    in.target = b.target;
    in.prompt = b.prompt;
    in.end_of_text = end_of_text;
    in.padding = padding;
    in.score = b.score;
    in.reward = reward;
    return in;
  }
};

/// Is there a finding of this identity whose sentence has these words?
bool says(const rlhf::diagnosis& d, identity what, const std::string& words) {
  const rlhf::finding* const f = d.find(what);
  if (f == nullptr) return false;
  INFO(f->message().c_str());
  CHECK(f->count > 0);
  CHECK(std::string(f->message().c_str()).find(rlhf::name_of(what)) == 0);
  return std::string(f->message().c_str()).find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("A healthy step has no findings") {
  step s;
  // NaN under the mask is nobody's business.
  for (std::size_t i = 0; i < s.b.tokens(); ++i)
    if (s.b.mask[i] == 0) s.logp[i] = s.old_logp[i] = s.ref_logp[i] = s.entropy[i] = test::not_a_number;
  const auto d = rlhf::diagnose(s.inputs());
  for (int i = 0; i < d.size; ++i) UNSCOPED_INFO(d.findings[i].message().c_str());
  CHECK(d.healthy());
  CHECK(rlhf::diagnose(rlhf::step_zero<float>{}).healthy());
}

TEST_CASE("Losses at the reference: closed forms, and what the drivers say") {
  using rlhf::loss_at_reference;
  CHECK(loss_at_reference(rlhf::dpo_sigmoid{0.3}) == Approx(std::log(2.0)).epsilon(1e-14));
  CHECK(loss_at_reference(rlhf::dpo_sigmoid{0.3, 0.2}) == Approx(std::log(2.0)).epsilon(1e-14));
  CHECK(loss_at_reference(rlhf::ipo{0.1}) == Approx(25));
  CHECK(loss_at_reference(rlhf::ipo_sum{0.5}) == Approx(1));
  CHECK(loss_at_reference(rlhf::dpo_hinge{}) == 1);
  CHECK(loss_at_reference(rlhf::sppo_hard{0.5}) == Approx(2));
  CHECK(loss_at_reference(rlhf::bco_pair{}) == Approx(2 * std::log(2.0)));
  CHECK(loss_at_reference(rlhf::nca_pair{}) == Approx(2 * std::log(2.0)));
  CHECK(loss_at_reference(rlhf::apo_zero{}) == Approx(1));
  CHECK(loss_at_reference(rlhf::apo_down{}) == Approx(1));
  CHECK(loss_at_reference(rlhf::rebel{}) == 0);
  CHECK(loss_at_reference(rlhf::kto{}) == Approx(0.5));
  CHECK(loss_at_reference(rlhf::kto{0.1, 1, 3}, 0) == Approx(1.5));
  CHECK(loss_at_reference(rlhf::bco{}) == Approx(std::log(2.0)));

  // The rows as responses: the first half is chosen, the second rejected.
  rlhf::reference_backend backend;
  const step s;
  const auto side = [&](std::size_t half) {
    const std::size_t n = rows / 2 * width, from = half * n;
    const auto part = [&](const numbers& v) {
      return rlhf::view<const double>(v.data() + from, static_cast<std::int64_t>(n));
    };
    return rlhf::response_tokens<double>{rlhf::padded(rows / 2, width),
                                         part(s.logp),
                                         part(s.ref_logp),
                                         {s.b.mask.data() + from, static_cast<std::int64_t>(n)}};
  };
  double loss = 0;
  numbers implicit(rows / 2, 1);
  rlhf::pair_outputs<double> out;
  out.loss = {&loss, 1};
  out.reward_chosen = implicit;
  const auto dpo = rlhf::preset::trl_1_9::dpo();
  REQUIRE(dpo(backend, rlhf::token_pair_inputs<double>{side(0), side(1), {}, {}, {}, {}, {}, {}, {}}, out));

  auto in = s.inputs();
  in.implicit_reward = implicit;
  CHECK(rlhf::diagnose(in, {{"dpo", loss, loss_at_reference(dpo.objective)}}).healthy());
  CHECK(says(rlhf::diagnose(in, {{"dpo", loss + 0.01, loss_at_reference(dpo.objective)}}), identity::closed_form,
             "beta"));
  CHECK(says(rlhf::diagnose(in, {{"dpo", test::not_a_number, 1}}), identity::closed_form, "dpo"));
  implicit[1] = 0.2;
  CHECK(says(rlhf::diagnose(in), identity::vanishes, "not over the same tokens"));
}

TEST_CASE("k1, k2, k3 and the gradients of k2 and k3 vanish") {
  rlhf::reference_backend backend;
  const step s;
  const auto look = [&](const auto& estimator, bool with_gradient) {
    numbers kl(s.b.tokens()), gradient(s.b.tokens());
    rlhf::token_inputs<double> in;
    in.logp = s.logp;
    in.old_logp = s.old_logp;
    in.ref_logp = s.ref_logp;
    in.mask = s.b.mask;
    rlhf::token_outputs<double> out;
    out.per_token = kl;
    out.grad_logp = gradient;
    REQUIRE(
        rlhf::policy_loss{rlhf::none{}, rlhf::kl_penalty{estimator, 1}}(backend, rlhf::padded(rows, width), in, out));
    auto step_in = s.inputs();
    step_in.kl = kl;
    if (with_gradient) step_in.kl_gradient = gradient;
    return rlhf::diagnose(step_in);
  };
  CHECK(look(rlhf::k1{}, false).healthy());
  CHECK(look(rlhf::k2{}, true).healthy());
  CHECK(look(rlhf::k3{}, true).healthy());
  CHECK(look(rlhf::value_and_gradient{rlhf::k3{}}, true).healthy());
  CHECK(says(look(rlhf::k1{}, true), identity::vanishes, "kl_gradient"));  // k1 as a loss: slope 1
}

TEST_CASE("Each usual mistake of the two passes is named") {
  for (const bool old : {false, true}) {
    const identity what = old ? identity::ratio_is_one : identity::policy_is_reference;
    for (const unsigned seed : {3u, 4u, 5u, 6u, 7u}) {
      const auto with = [&](const numbers& other) {
        step s(seed);
        (old ? s.old_logp : s.ref_logp) = other;
        return rlhf::diagnose(s.inputs());
      };
      const batch b(seed);
      CAPTURE(old, seed);
      CHECK(says(with(b.logp(1, 0.5)), what, "dropout"));
      CHECK(says(with(b.logp(1, 0.01)), what, "dropout"));
      for (const double temperature : {0.6, 0.7, 0.9, 1.1, 1.3, 2.0}) {
        CAPTURE(temperature);
        CHECK(says(with(b.logp(temperature)), what, "temperature"));
      }
      // Moved by one, either way, and what comes in at the end is something else.
      const numbers plain = b.logp();
      for (const int by : {1, -1}) {
        numbers moved(plain.size());
        for (std::int64_t i = 0; i < rows * width; ++i) {
          const std::int64_t t = i % width + by;
          moved[static_cast<std::size_t>(i)] = t < 0 || t >= width ? -0.123 : plain[static_cast<std::size_t>(i + by)];
        }
        CHECK(says(with(moved), what, "shifted by one"));
      }
      // The other pass pads on the left: each row stands at its end.
      numbers left(plain.size(), -0.5);
      for (std::int64_t s = 0; s < rows; ++s) {
        std::int64_t length = width;
        while (b.target[static_cast<std::size_t>(s * width + length - 1)] == padding) --length;
        for (std::int64_t t = 0; t < length; ++t)
          left[static_cast<std::size_t>(s * width + t + width - length)] =
              plain[static_cast<std::size_t>(s * width + t)];
      }
      CHECK(says(with(left), what, "pads on the left"));
    }
  }
  step s;
  s.ref_logp[4] = test::not_a_number;
  REQUIRE(s.b.mask[4] != 0);
  CHECK(says(rlhf::diagnose(s.inputs()), identity::finite, "ref_logp"));
  CHECK(rlhf::diagnose(s.inputs()).size == 1);
}

TEST_CASE("Two passes that agree in a mistake are seen by what they say") {
  step s;
  s.logp = s.old_logp = s.ref_logp = s.b.logp(1, 0, 1);
  CHECK(says(rlhf::diagnose(s.inputs()), identity::better_than_uniform, "shifted by one"));
  step positive;
  for (double& x : positive.logp) x = -x;
  positive.old_logp = positive.ref_logp = positive.logp;
  CHECK(says(rlhf::diagnose(positive.inputs()), identity::logp_not_positive, "sign"));
  step other;
  other.entropy[5] = -0.5;
  CHECK(says(rlhf::diagnose(other.inputs()), identity::entropy_in_range, "Below 0"));
  other.entropy[5] = std::log(17.5);
  CHECK(says(rlhf::diagnose(other.inputs()), identity::entropy_in_range, "columns of padding"));
}

TEST_CASE("Mistakes of the mask and of the score are named") {
  step s;
  auto masks = s.b.mask;
  const auto diagnosed = [&] {
    auto in = s.inputs();
    in.mask = masks;
    in.reward = {};
    return rlhf::diagnose(in);
  };
  for (std::size_t i = 0; i < masks.size(); ++i)
    if (s.b.target[i] == end_of_text) masks[i] = 0;
  CHECK(says(diagnosed(), identity::end_of_text_masked, "never learns to stop"));
  CHECK(diagnosed().find(identity::end_of_text_masked)->count == rows);
  masks = s.b.mask;
  for (std::size_t i = 0; i < masks.size(); ++i)
    if (s.b.prompt[i] != 0) masks[i] = 1;
  CHECK(says(diagnosed(), identity::prompt_not_masked, "attention mask"));
  // The mask of the same rows padded on the left.
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t t = 0; t < width; ++t)
      masks[static_cast<std::size_t>(r * width + t)] = s.b.mask[static_cast<std::size_t>(r * width + width - 1 - t)];
  CHECK(says(diagnosed(), identity::padding_not_masked, "padded on the other side"));

  s.shape_rewards(rlhf::score_placement::after_eos);
  CHECK(says(rlhf::diagnose(s.inputs()), identity::score_placement, "after the last token"));
  auto expected = s.inputs();
  expected.placement = rlhf::score_placement::after_eos;
  CHECK(rlhf::diagnose(expected).healthy());
  s.shape_rewards(rlhf::score_placement::last_column);
  CHECK(says(rlhf::diagnose(s.inputs()), identity::score_placement, "after the last token"));
  s.shape_rewards();
  numbers early(s.reward.size());
  for (std::size_t i = 0; i + 1 < early.size(); ++i) early[i] = s.reward[i + 1];
  s.reward = early;
  CHECK(says(rlhf::diagnose(s.inputs()), identity::score_placement, "before the last token"));
  s.shape_rewards();
  for (double& r : s.reward) r *= 0.5;
  CHECK(says(rlhf::diagnose(s.inputs()), identity::score_placement, "scaled"));
}

TEST_CASE("Views that do not fit are a problem, many findings a number, differences within the tolerance nothing") {
  step s;
  auto in = s.inputs();
  in.entropy = in.entropy.extent > 1 ? rlhf::view<const double>(s.entropy.data(), 3) : in.entropy;
  const auto d = rlhf::diagnose(in);
  CHECK_FALSE(d.healthy());
  CHECK(test::text(d.problem).find("entropy") != std::string::npos);
  CHECK(d.size == 0);

  rlhf::diagnosis full;
  for (int i = 0; i < rlhf::diagnosis::capacity + 3; ++i) full.add({});
  CHECK(full.size == rlhf::diagnosis::capacity);
  CHECK(full.more == 3);

  for (double& x : s.ref_logp) x += 1e-7;
  CHECK_FALSE(rlhf::diagnose(s.inputs()).healthy());
  in = s.inputs();
  in.tolerance = 1e-6;
  CHECK(rlhf::diagnose(in).healthy());
  s.ref_logp = s.logp;
  rlhf::step_zero<double> few = s.inputs();
  numbers one{-1, -2}, two{-1.5, -2};
  few = {};
  few.sequences = rlhf::padded(1, 2);
  few.logp = one;
  few.ref_logp = two;
  CHECK(says(rlhf::diagnose(few), identity::policy_is_reference, "Too few"));
}
