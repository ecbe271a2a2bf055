// The fused linear layer against the same layer, logits and loss one after the other; and against finite differences.

#include "rlhf/driver/fused_linear.hpp"

#include <functional>

#include "formula/support.hpp"
#include "rlhf/backend/emulated.hpp"
#include "rlhf/driver/full_total_variation.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/sequence.hpp"

using test::not_a_number;
using test::text;

namespace {

using rlhf::view;
using std::int64_t;
using std::size_t;
using doubles = std::vector<double>;

/// A layer, its targets, a teacher's, and what the losses read; masked tokens hold garbage.
struct problem {
  int64_t rows = 4, width = 3, depth = 5, vocabulary = 7, columns = 9, teacher_depth = 2;
  bool transposed = false;
  double temperature = 0.8;
  doubles hidden, weight, bias, teacher_hidden, teacher_weight, old_logp, ref_logp, advantage;
  std::vector<std::int32_t> target;
  std::vector<std::uint8_t> mask;

  explicit problem(unsigned seed, bool transposed_ = false) : transposed(transposed_) {
    std::mt19937 random(seed);
    const auto n = static_cast<size_t>(tokens());
    const auto size = [](int64_t a, int64_t b) { return static_cast<size_t>(a * b); };
    hidden = test::uniform(random, size(tokens(), depth), -1, 1);
    weight = test::uniform(random, size(depth, columns), -1, 1);
    bias = test::uniform(random, static_cast<size_t>(columns), -1, 1);
    teacher_hidden = test::uniform(random, size(tokens(), teacher_depth), -1, 1);
    teacher_weight = test::uniform(random, size(teacher_depth, columns), -1, 1);
    old_logp = test::uniform(random, n, -3, -0.5);
    ref_logp = test::uniform(random, n, -3, -0.5);
    advantage = test::uniform(random, n, -2, 2);
    for (size_t i = 0; i < n; ++i) {
      target.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocabulary)));
      mask.push_back(i % 4 == 3 ? 0 : 1);
    }
    for (size_t i = 0; i < n; ++i) {
      if (mask[i] != 0) continue;
      for (int64_t k = 0; k < depth; ++k)
        hidden[i * static_cast<size_t>(depth) + static_cast<size_t>(k)] = not_a_number;
      for (auto* v : {&old_logp, &ref_logp, &advantage}) (*v)[i] = not_a_number;
      target[i] = 1 << 30;
    }
  }
  [[nodiscard]] int64_t tokens() const { return rows * width; }
  [[nodiscard]] view<const double, 2> head() const {
    return transposed ? view<const double, 2>(weight.data(), columns, depth)
                      : view<const double, 2>(weight.data(), depth, columns);
  }
  [[nodiscard]] double at(int64_t k, int64_t v) const {
    return weight[static_cast<size_t>(transposed ? v * depth + k : k * columns + v)];
  }
  [[nodiscard]] rlhf::linear_inputs<double> inputs() const {
    rlhf::linear_inputs<double> in;
    in.head = {{hidden.data(), tokens(), depth}, head(), transposed, bias};
    in.target = target;
    in.mask = mask;
    in.vocabulary = vocabulary;
    in.temperature = temperature;
    return in;
  }
  [[nodiscard]] rlhf::linear_head<double> teacher() const {
    return {{teacher_hidden.data(), tokens(), teacher_depth}, {teacher_weight.data(), teacher_depth, columns}};
  }
  [[nodiscard]] rlhf::layout<> sequences() const { return rlhf::padded(rows, width); }
  [[nodiscard]] rlhf::token_inputs<double> streams() const {
    rlhf::token_inputs<double> in;
    in.old_logp = old_logp;
    in.ref_logp = ref_logp;
    in.advantage = advantage;
    return in;
  }
  [[nodiscard]] rlhf::token_pair_inputs<double> pairs() const {
    const int64_t half = tokens() / 2;
    rlhf::token_pair_inputs<double> in;
    in.chosen.sequences = in.rejected.sequences = rlhf::padded(rows / 2, width);
    in.chosen.ref_logp = {ref_logp.data(), half};
    in.rejected.ref_logp = {ref_logp.data() + half, half};
    return in;
  }
};

struct result {
  rlhf::status status;
  double loss = not_a_number;
  doubles hidden, weight, bias, logp, per_item;
};

/// A loss in both forms: through fused_linear, and after token_logp with gradients to be written.
struct family {
  const char* name;
  std::function<rlhf::status(const problem&, const rlhf::fused_linear<>&, const rlhf::linear_inputs<double>&,
                             const rlhf::linear_outputs<double>&, double* loss)>
      fused;
  /// logp, entropy -> grad_logp, grad_entropy; null for distillation.
  std::function<rlhf::status(const problem&, const rlhf::linear_streams<double>&, double* loss)> plain;
};

template <class Loss>
family of_tokens(const char* name, const Loss& loss) {
  return {name,
          [loss](const problem& p, const auto& fused, const auto& in, const auto& out, double* value) {
            rlhf::reference_backend be;
            return fused(be, in,
                         rlhf::over_tokens{loss, p.sequences(), p.streams(), rlhf::token_outputs<double>{{value, 1}}},
                         out);
          },
          [loss](const problem& p, const rlhf::linear_streams<double>& s, double* value) {
            rlhf::reference_backend be;
            auto in = p.streams();
            in.logp = s.logp, in.entropy = s.entropy, in.mask = s.mask;
            return loss(be, p.sequences(), in, rlhf::token_outputs<double>{{value, 1}, s.grad_logp, s.grad_entropy});
          }};
}
template <class Loss>
family of_pairs(const char* name, const Loss& loss) {
  return {name,
          [loss](const problem& p, const auto& fused, const auto& in, const auto& out, double* value) {
            rlhf::reference_backend be;
            return fused(be, in, rlhf::over_pairs{loss, p.pairs(), rlhf::pair_outputs<double>{{value, 1}}}, out);
          },
          [loss](const problem& p, const rlhf::linear_streams<double>& s, double* value) {
            rlhf::reference_backend be;
            const int64_t half = p.tokens() / 2;
            auto in = p.pairs();
            in.chosen.logp = {s.logp.data, half};
            in.rejected.logp = {s.logp.data + half, half};
            in.chosen.mask = view<const std::uint8_t>(s.mask.data, half);
            in.rejected.mask = view<const std::uint8_t>(s.mask.data + half, half);
            return loss(
                be, in,
                rlhf::pair_outputs<double>{{value, 1}, {s.grad_logp.data, half}, {s.grad_logp.data + half, half}});
          }};
}

/// Not linear in the log-probabilities, couples all of them, and reads the entropy.
struct square_of_mean {
  template <class B>
  rlhf::status operator()(B&, const rlhf::linear_streams<double>& s) const {
    double sum = 0;
    for (int64_t i = 0; i < s.logp.extent; ++i)
      if (s.mask[i] != 0) sum += s.logp[i] + 0.5 * s.entropy[i];
    *value = sum * sum;
    for (int64_t i = 0; i < s.logp.extent; ++i) s.grad_logp[i] = 2 * sum, s.grad_entropy[i] = sum;
    return {};
  }
  double* value;
};

std::vector<family> families() {
  std::vector<family> all;
  const rlhf::kl_penalty kl{rlhf::k3{}, 0.3};
  all.push_back(of_tokens("supervised", rlhf::policy_loss{rlhf::negative_log_likelihood{}}));
  all.push_back(of_tokens("ppo", rlhf::policy_loss{rlhf::ppo_clip{}, kl, rlhf::token_mean{}}));
  all.push_back(of_tokens("ppo, row_mean", rlhf::policy_loss{rlhf::ppo_clip{}, kl, rlhf::row_mean{}}));
  all.push_back(of_tokens("ppo and entropy", rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::entropy_bonus{0.1}}));
  all.push_back(of_tokens("gspo", rlhf::policy_loss{rlhf::sequence_ratio{rlhf::ppo_clip{}}, kl, rlhf::row_mean{}}));
  all.push_back(of_pairs("dpo", rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.5}}));
  all.push_back(of_pairs("ipo and nll", rlhf::preference_loss{rlhf::ipo{}, rlhf::batch_mean{}, {.weight = 0.2}}));
  all.push_back(of_pairs("simpo", rlhf::preference_loss{rlhf::simpo{}}));
  all.push_back({"coupled",
                 [](const problem&, const auto& fused, const auto& in, const auto& out, double* value) {
                   rlhf::reference_backend be;
                   return fused(be, in, rlhf::over_all{square_of_mean{value}, true}, out);
                 },
                 [](const problem&, const rlhf::linear_streams<double>& s, double* value) {
                   rlhf::reference_backend be;
                   return square_of_mean{value}(be, s);
                 }});
  for (const double beta : {0.0, 0.3, 1.0})
    all.push_back({"distillation",
                   [beta](const problem& p, const auto& fused, const auto& in, const auto& out, double* value) {
                     rlhf::reference_backend be;
                     return fused(be, in,
                                  rlhf::over_rows{rlhf::jensen_shannon_rows{beta}, p.teacher(), p.sequences(),
                                                  rlhf::row_mean{}, view<double>(value, 1)},
                                  out);
                   },
                   nullptr});
  return all;
}

result fuse(const family& f, const problem& p, const rlhf::fused_linear<>& fused, bool gradients = true) {
  result r;
  r.hidden.assign(p.hidden.size(), not_a_number);
  r.weight.assign(p.weight.size(), not_a_number);
  r.bias.assign(p.bias.size(), not_a_number);
  r.logp.assign(static_cast<size_t>(p.tokens()), not_a_number);
  rlhf::linear_outputs<double> out;
  if (gradients) {
    out.grad_hidden = {r.hidden.data(), p.tokens(), p.depth};
    out.grad_weight = {r.weight.data(), p.head().rows, p.head().columns};
    out.grad_bias = r.bias;
  }
  out.logp = r.logp;
  r.status = f.fused(p, fused, p.inputs(), out, &r.loss);
  return r;
}

/// The logits as a whole.
doubles logits_of(const problem& p) {
  doubles z(static_cast<size_t>(p.tokens() * p.columns), 0);
  for (int64_t t = 0; t < p.tokens(); ++t)
    for (int64_t v = 0; v < p.columns; ++v) {
      double& x = z[static_cast<size_t>(t * p.columns + v)];
      x = p.bias[static_cast<size_t>(v)];
      for (int64_t k = 0; k < p.depth; ++k)
        x += p.mask[static_cast<size_t>(t)] != 0 ? p.hidden[static_cast<size_t>(t * p.depth + k)] * p.at(k, v) : 0;
    }
  return z;
}

result unfused(const family& f, const problem& p) {
  rlhf::reference_backend be;
  const auto n = static_cast<size_t>(p.tokens());
  doubles z = logits_of(p), entropy(n), lse(n), grad_logp(n, 0), grad_entropy(n, 0);
  std::vector<std::int32_t> target = p.target;
  for (size_t i = 0; i < n; ++i)
    if (p.mask[i] == 0) target[i] = -100;
  result r;
  r.logp.resize(n);
  const view<double, 2> logits(z.data(), p.tokens(), p.columns);
  const rlhf::logits_inputs<double> in{logits, target, p.vocabulary, p.temperature};
  REQUIRE(rlhf::token_logp(be, in, rlhf::logp_outputs<double>{r.logp, entropy, lse}));
  rlhf::linear_streams<double> s;
  s.logp = r.logp, s.entropy = entropy, s.grad_logp = grad_logp, s.grad_entropy = grad_entropy;
  s.mask = view<const std::uint8_t>(p.mask);
  r.status = f.plain(p, s, &r.loss);
  REQUIRE(
      rlhf::token_logp_backward(be, in, rlhf::logp_gradients<double>{lse, grad_logp, entropy, grad_entropy}, logits));
  r.hidden.assign(p.hidden.size(), 0);
  r.weight.assign(p.weight.size(), 0);
  r.bias.assign(p.bias.size(), 0);
  for (int64_t t = 0; t < p.tokens(); ++t) {
    if (p.mask[static_cast<size_t>(t)] == 0) continue;
    for (int64_t v = 0; v < p.columns; ++v) {
      const double g = logits.row(t)[v];
      r.bias[static_cast<size_t>(v)] += g;
      for (int64_t k = 0; k < p.depth; ++k) {
        const auto at = static_cast<size_t>(t * p.depth + k);
        r.hidden[at] += g * p.at(k, v);
        r.weight[static_cast<size_t>(p.transposed ? v * p.depth + k : k * p.columns + v)] += g * p.hidden[at];
      }
    }
  }
  return r;
}

void check_equal(const doubles& got, const doubles& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(1e-11).margin(1e-13));
}

}  // namespace

TEST_CASE("a chunk of any size gives what the layer, the logits and the loss give one after the other") {
  for (const bool transposed : {false, true}) {
    const problem p(11, transposed);
    for (const family& f : families()) {
      if (!f.plain) continue;
      CAPTURE(f.name, transposed);
      const result want = unfused(f, p);
      for (const int64_t chunk : {1, 2, 5, 11, 12, 100})
        for (const int64_t kept : {1, 3, 100}) {
          CAPTURE(chunk, kept);
          const result got = fuse(f, p, {.chunk = chunk, .kept = kept});
          REQUIRE(got.status);
          CHECK(got.loss == Approx(want.loss).epsilon(1e-12));
          check_equal(got.logp, want.logp);
          check_equal(got.hidden, want.hidden);
          check_equal(got.weight, want.weight);
          check_equal(got.bias, want.bias);
          for (size_t i = 0; i < p.mask.size(); ++i)
            for (size_t k = 0; p.mask[i] == 0 && k < static_cast<size_t>(p.depth); ++k)
              CHECK(test::is_plain_zero(got.hidden[i * static_cast<size_t>(p.depth) + k]));
        }
    }
  }
}

TEST_CASE("padding of the weight and the bias may hold anything, and its gradients are 0") {
  for (const bool transposed : {false, true}) {
    const problem p(11, transposed);
    problem padded = p;
    const auto is_padding = [&](size_t i) {
      const auto at = static_cast<int64_t>(i);
      return (transposed ? at / p.depth : at % p.columns) >= p.vocabulary;
    };
    for (size_t i = 0; i < p.weight.size(); ++i)
      if (is_padding(i)) padded.weight[i] = not_a_number;
    for (int64_t v = p.vocabulary; v < p.columns; ++v)
      padded.bias[static_cast<size_t>(v)] = v % 2 == 0 ? test::infinity : not_a_number;
    for (const family& f : families())
      for (const rlhf::fused_linear<> fused : {rlhf::fused_linear<>{.chunk = 5}, {.chunk = 100}}) {
        CAPTURE(f.name, transposed, fused.chunk);
        const result want = fuse(f, p, fused), got = fuse(f, padded, fused);
        REQUIRE(got.status);
        CHECK(got.loss == want.loss);
        if (f.plain) CHECK(got.logp == want.logp);
        CHECK(got.hidden == want.hidden);
        CHECK(got.weight == want.weight);
        CHECK(got.bias == want.bias);
        for (size_t i = 0; i < got.weight.size(); ++i)
          if (is_padding(i)) CHECK(test::is_plain_zero(got.weight[i]));
        for (size_t v = static_cast<size_t>(p.vocabulary); v < got.bias.size(); ++v)
          CHECK(test::is_plain_zero(got.bias[v]));
      }
  }
}

namespace {

/// Plain loops that say how many numbers they multiplied.
struct counting_product {
  int64_t* multiplied;
  template <class B, class L, class C, class Space>
  rlhf::status operator()(B& be, const rlhf::factor<L, Space>& a, const rlhf::factor<L, Space>& b,
                          const view<C, 2, Space>& c, bool add) const {
    *multiplied += a.rows() * a.columns() * b.columns();
    return rlhf::plain_product{}(be, a, b, c, add);
  }
};

}  // namespace

TEST_CASE("no product goes over the padding, the teacher's neither") {
  for (const bool transposed : {false, true}) {
    const problem p(11, transposed);
    // The teacher has padding of its own, which may hold anything.
    const int64_t columns = p.columns + 4;
    doubles weight(static_cast<size_t>(p.teacher_depth * columns), not_a_number),
        bias(static_cast<size_t>(columns), not_a_number);
    for (int64_t v = 0; v < p.vocabulary; ++v) {
      bias[static_cast<size_t>(v)] = 0;
      for (int64_t k = 0; k < p.teacher_depth; ++k)
        weight[static_cast<size_t>(transposed ? v * p.teacher_depth + k : k * columns + v)] =
            p.teacher_weight[static_cast<size_t>(k * p.columns + v)];
    }
    auto teacher = p.teacher();
    teacher.transposed = transposed;
    teacher.weight = transposed ? view<const double, 2>(weight.data(), columns, p.teacher_depth)
                                : view<const double, 2>(weight.data(), p.teacher_depth, columns);
    teacher.bias = bias;
    const auto distil = [&](const rlhf::linear_head<double>& from, int64_t& multiplied) {
      rlhf::reference_backend be;
      result r;
      r.hidden.assign(p.hidden.size(), not_a_number);
      r.weight.assign(p.weight.size(), not_a_number);
      rlhf::linear_outputs<double> out;
      out.grad_hidden = {r.hidden.data(), p.tokens(), p.depth};
      out.grad_weight = {r.weight.data(), p.head().rows, p.head().columns};
      rlhf::over_rows rows{rlhf::jensen_shannon_rows{}, from};
      rows.loss = {&r.loss, 1};
      r.status = rlhf::fused_linear<counting_product>{.product = {&multiplied}, .chunk = 5}(be, p.inputs(), rows, out);
      return r;
    };
    int64_t multiplied = 0, with_padding = 0;
    const result want = distil(p.teacher(), multiplied), got = distil(teacher, with_padding);
    REQUIRE(got.status);
    CHECK(multiplied == p.tokens() * p.vocabulary * (3 * p.depth + p.teacher_depth));
    CHECK(with_padding == multiplied);
    CHECK(got.loss == want.loss);
    CHECK(got.hidden == want.hidden);
    CHECK(got.weight == want.weight);
  }
}

TEST_CASE("the gradients are those of the loss, by finite differences") {
  for (const bool transposed : {false, true})
    for (const family& f : families()) {
      CAPTURE(f.name, transposed);
      problem p(12, transposed);
      const rlhf::fused_linear<> fused{.chunk = 5};
      const result got = fuse(f, p, fused);
      REQUIRE(got.status);
      const auto agree = [&](doubles problem::*input, const doubles& gradient) {
        const doubles at = p.*input;
        for (size_t i = 0; i < at.size(); ++i) {
          if (std::isnan(at[i])) continue;
          const double difference = test::central_difference(
              [&](const doubles& x) {
                p.*input = x;
                return fuse(f, p, fused, false).loss;
              },
              at, i);
          CHECK(gradient[i] == Approx(difference).epsilon(1e-5).margin(1e-8));
        }
        p.*input = at;
      };
      agree(&problem::hidden, got.hidden);
      agree(&problem::weight, got.weight);
      agree(&problem::bias, got.bias);
    }
}

TEST_CASE("distillation is the same for any chunk, and takes other divergences") {
  const problem p(13);
  for (const family& f : families()) {
    if (f.plain) continue;
    const result whole = fuse(f, p, {.chunk = 100});
    for (const int64_t chunk : {1, 5}) {
      const result got = fuse(f, p, {.chunk = chunk});
      REQUIRE(got.status);
      CHECK(got.loss == Approx(whole.loss).epsilon(1e-12));
      check_equal(got.hidden, whole.hidden);
      check_equal(got.weight, whole.weight);
      check_equal(got.bias, whole.bias);
    }
  }
  // The divergence of the rows themselves, from the logits as a whole.
  rlhf::reference_backend be;
  doubles z = logits_of(p), q(z.size(), 0), kl(static_cast<size_t>(p.tokens())), per_token(kl.size(), not_a_number);
  for (int64_t t = 0; t < p.tokens(); ++t)
    for (int64_t v = 0; v < p.columns; ++v)
      for (int64_t k = 0; k < p.teacher_depth; ++k)
        q[static_cast<size_t>(t * p.columns + v)] += p.teacher_hidden[static_cast<size_t>(t * p.teacher_depth + k)] *
                                                     p.teacher_weight[static_cast<size_t>(k * p.columns + v)];
  rlhf::full_kl_inputs<double> in{{z.data(), p.tokens(), p.columns}, {q.data(), p.tokens(), p.columns}};
  in.mask = p.mask, in.vocabulary = p.vocabulary, in.temperature = p.temperature;
  REQUIRE(rlhf::full_total_variation(be, in, rlhf::full_kl_outputs<double>{.kl = kl}));
  double want = 0, tokens = 0, loss = 0;
  for (size_t i = 0; i < kl.size(); ++i) want += kl[i], tokens += p.mask[i];
  const auto variation = [](auto& b, const auto& from, const auto& to) {
    return rlhf::full_total_variation(b, from, to);
  };
  rlhf::over_rows<decltype(variation), rlhf::token_mean, double> rows{variation, p.teacher()};
  rows.loss = {&loss, 1};
  rows.per_token = per_token;
  auto no_target = p.inputs();
  no_target.target = {};
  REQUIRE(rlhf::fused_linear<>{.chunk = 5}(be, no_target, rows, rlhf::linear_outputs<double>{}));
  CHECK(loss == Approx(want / tokens).epsilon(1e-12));
  check_equal(per_token, kl);
}

TEST_CASE("micro-batches with named denominators add up to the batch") {
  const problem p(14);
  const family named =
      of_tokens("ppo", rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::none{}, rlhf::token_mean{.tokens = 9}});
  const result whole = fuse(named, p, {.chunk = 5});
  doubles weight(p.weight.size(), 0), bias(p.bias.size(), 0), hidden(p.hidden.size());
  double loss = 0;
  rlhf::reference_backend be;
  for (const int64_t part : {0, 1}) {
    const int64_t rows = p.rows / 2, n = rows * p.width, at = part * n;
    auto in = p.inputs();
    in.head.hidden = {p.hidden.data() + at * p.depth, n, p.depth};
    in.target = {p.target.data() + at, n};
    in.mask = {p.mask.data() + at, n};
    rlhf::token_inputs<double> streams;
    streams.old_logp = {p.old_logp.data() + at, n};
    streams.advantage = {p.advantage.data() + at, n};
    double value = 0;
    rlhf::linear_outputs<double> out;
    out.grad_hidden = {hidden.data() + at * p.depth, n, p.depth};
    out.grad_weight = {weight.data(), p.depth, p.columns};
    out.grad_bias = bias;
    out.add = true;
    const rlhf::policy_loss ppo{rlhf::ppo_clip{}, rlhf::none{}, rlhf::token_mean{.tokens = 9}};
    REQUIRE(rlhf::fused_linear<>{.chunk = 4}(
        be, in, rlhf::over_tokens{ppo, rlhf::padded(rows, p.width), streams, rlhf::token_outputs<double>{{&value, 1}}},
        out));
    loss += value;
  }
  CHECK(loss == Approx(whole.loss).epsilon(1e-12));
  check_equal(hidden, whole.hidden);
  check_equal(weight, whole.weight);
  check_equal(bias, whole.bias);
}

TEST_CASE("the bodies of the CUDA kernels give what plain loops give") {
  for (const bool transposed : {false, true}) {
    const problem p(21, transposed);
    const rlhf::fused_linear<> fused{.chunk = 5};
    const rlhf::policy_loss ppo{rlhf::ppo_clip{}, rlhf::entropy_bonus{0.1}};
    const result want = fuse(of_tokens("ppo", ppo), p, fused);
    rlhf::emulated_backend be;
    doubles hidden(p.hidden.size()), weight(p.weight.size()), bias(p.bias.size());
    double loss = 0;
    rlhf::linear_outputs<double> out;
    out.grad_hidden = {hidden.data(), p.tokens(), p.depth};
    out.grad_weight = {weight.data(), p.head().rows, p.head().columns};
    out.grad_bias = bias;
    REQUIRE(fused(be, p.inputs(),
                  rlhf::over_tokens{ppo, p.sequences(), p.streams(), rlhf::token_outputs<double>{{&loss, 1}}}, out));
    CHECK(loss == Approx(want.loss).epsilon(1e-12));
    check_equal(hidden, want.hidden);
    check_equal(weight, want.weight);
    check_equal(bias, want.bias);
    // The teacher is the student: another loss, whose gradient is 0.
    rlhf::over_rows rows{rlhf::jensen_shannon_rows{}, p.inputs().head};
    rows.loss = {&loss, 1};
    REQUIRE(fused(be, p.inputs(), rows, out));
    CHECK(std::abs(loss) < 1e-12);
    for (const double g : weight) CHECK(std::abs(g) < 1e-12);
  }
}

TEST_CASE("statistics and the values per token are those of the loss") {
  const problem p(15);
  rlhf::reference_backend be;
  const rlhf::policy_loss ppo{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}};
  const auto n = static_cast<size_t>(p.tokens());
  doubles logp(n), entropy(n), fused_values(n), values(n);
  double loss = 0;
  rlhf::statistics fused_stats, stats, row_stats;
  rlhf::linear_outputs<double> out;
  out.logp = logp, out.entropy = entropy, out.stats = &row_stats;
  rlhf::token_outputs<double> to{{&loss, 1}};
  to.per_token = fused_values, to.stats = &fused_stats;
  REQUIRE(
      rlhf::fused_linear<>{.chunk = 5}(be, p.inputs(), rlhf::over_tokens{ppo, p.sequences(), p.streams(), to}, out));
  auto in = p.streams();
  in.logp = logp, in.mask = p.mask;
  to.per_token = values, to.stats = &stats;
  REQUIRE(ppo(be, p.sequences(), in, to));
  check_equal(fused_values, values);
  for (const char* name : {"items", "clip_fraction", "ratio"}) CHECK(fused_stats[name] == Approx(stats[name]));
  CHECK(row_stats["rows"] == 9);
  CHECK(row_stats["entropy"] > 0);
}

TEST_CASE("advantages of sequences are spread over their tokens") {
  const problem p(16);
  rlhf::reference_backend be;
  const rlhf::policy_loss ppo{rlhf::ppo_clip{}};
  const doubles each{0.5, -1, 2, 0.25};
  doubles spread;
  for (const double a : each) spread.insert(spread.end(), static_cast<size_t>(p.width), a);
  double got = 0, want = 0;
  auto in = p.streams();
  in.advantage = each;
  REQUIRE(rlhf::fused_linear<>{.chunk = 5}(
      be, p.inputs(), rlhf::over_tokens{ppo, p.sequences(), in, rlhf::token_outputs<double>{{&got, 1}}},
      rlhf::linear_outputs<double>{}));
  in.advantage = spread;
  REQUIRE(rlhf::fused_linear<>{.chunk = 5}(
      be, p.inputs(), rlhf::over_tokens{ppo, p.sequences(), in, rlhf::token_outputs<double>{{&want, 1}}},
      rlhf::linear_outputs<double>{}));
  CHECK(got == Approx(want).epsilon(1e-14));
}

TEST_CASE("nothing to do") {
  problem p(17);
  for (const bool no_tokens : {true, false}) {
    if (no_tokens) {
      p.rows = 0;
      p.hidden.clear(), p.target.clear(), p.mask.clear(), p.teacher_hidden.clear();
      p.old_logp.clear(), p.ref_logp.clear(), p.advantage.clear();
    } else {
      p = problem(17);
      p.mask.assign(p.mask.size(), 0);
      p.hidden.assign(p.hidden.size(), not_a_number);
    }
    for (const family& f : families()) {
      CAPTURE(f.name, no_tokens);
      const result r = fuse(f, p, {.chunk = 5});
      if (std::string(f.name) == "coupled") {
        CHECK(r.status);
      } else if (f.name != std::string("dpo") && f.name != std::string("simpo") &&
                 f.name != std::string("ipo and nll")) {
        CHECK(r.status.code == rlhf::errc::empty_mask);
        CHECK(r.loss == 0);
      }
      // A pair without tokens still is a pair: its loss is that of two log-probabilities of 0.
      for (const auto* g : {&r.hidden, &r.weight, &r.bias})
        for (const double x : *g) CHECK(std::abs(x) <= 0);
    }
  }
}

namespace {

/// Counts what is taken at one time.
class counting_backend : public rlhf::reference_backend {
 public:
  template <class T>
  class counted : public rlhf::host_scratch<T> {
   public:
    counted(counting_backend& home, std::int64_t n)
        : rlhf::host_scratch<T>(n), home_(&home), bytes_(n * int64_t(sizeof(T))) {
      home.now += bytes_;
      home.most = std::max(home.most, home.now);
    }
    counted(counted&& other) noexcept
        : rlhf::host_scratch<T>(std::move(other)), home_(other.home_), bytes_(std::exchange(other.bytes_, 0)) {}
    counted& operator=(counted&&) = delete;
    ~counted() { home_->now -= bytes_; }

   private:
    counting_backend* home_;
    std::int64_t bytes_;
  };
  template <class T>
  [[nodiscard]] counted<T> scratch(std::int64_t n) {
    return {*this, n};
  }
  std::int64_t now = 0, most = 0;
};
static_assert(rlhf::backend<counting_backend>);

}  // namespace

TEST_CASE("the memory it takes is what workspace says") {
  const problem p(18);
  doubles hidden(p.hidden.size()), weight(p.weight.size()), bias(p.bias.size());
  double value = 0;
  for (const int64_t chunk : {1, 5, 12, 100})
    for (const int64_t kept : {1, 2, 50})
      for (const bool gradients : {false, true})
        for (const bool entropy : {false, true}) {
          CAPTURE(chunk, kept, gradients, entropy);
          counting_backend be;
          rlhf::linear_outputs<double> out;
          if (gradients) {
            out.grad_hidden = {hidden.data(), p.tokens(), p.depth};
            out.grad_weight = {weight.data(), p.depth, p.columns};
            out.grad_bias = bias;
          }
          const rlhf::fused_linear<> fused{.chunk = chunk, .kept = kept};
          const auto zero = [](auto&, const rlhf::linear_streams<double>& s) {
            for (int64_t i = 0; i < s.logp.extent; ++i) s.grad_logp[i] = 1;
            if (s.grad_entropy)
              for (int64_t i = 0; i < s.logp.extent; ++i) s.grad_entropy[i] = 1;
            return rlhf::status{};
          };
          REQUIRE(fused(be, p.inputs(), rlhf::over_all{zero, entropy}, out));
          const auto need = fused.workspace(p.tokens(), p.depth, p.columns, true, entropy, gradients, gradients);
          // Beside its own: the cell of the targets, and the one that token_logp takes.
          const auto cells = static_cast<int64_t>(sizeof(rlhf::totals<1>) + sizeof(rlhf::totals<4>));
          CHECK(be.most == need.bytes<double>() + cells);
          CHECK(be.now == 0);
        }
  // By parts one chunk is enough, however many are kept for losses that couple tokens. 2^31 elements are no border.
  const rlhf::fused_linear<> large{.chunk = 65536, .kept = 4};
  CHECK(large.workspace(1 << 20, 4096, 151936, false, false, false, false).logits == int64_t{65536} * 151936);
  CHECK(large.workspace(1 << 20, 4096, 151936, true, false, false, false).logits == int64_t{4} * 65536 * 151936);
  CHECK(large.workspace(1 << 20, 4096, 151936, true, false, false, false).bytes<rlhf::bfloat16>() ==
        int64_t{8} * 65536 * 151936 + (int64_t{3} * 4 + 5) * (1 << 20));
  static_cast<void>(value);
}

TEST_CASE("chunks are even") {
  const auto rows = [](int64_t chunk, int64_t tokens) { return rlhf::fused_linear<>{.chunk = chunk}.rows(tokens); };
  CHECK(rows(1024, 0) == 0);
  CHECK(rows(1024, 7) == 7);
  CHECK(rows(1024, 1024) == 1024);
  CHECK(rows(1024, 1025) == 576);  // 576 and 449, not 1024 and 1
  CHECK(rows(1024, 8192) == 1024);
  CHECK(rows(1000, 2001) == 704);
  CHECK(rows(5, 12) == 5);
  CHECK(rows(int64_t{1} << 62, 1100) == 1100);
  const rlhf::fused_linear<> fused{.chunk = 140, .kept = 2};
  CHECK(fused.workspace(150, 3, 7, false, false, true, true).logits == 128 * 7);
  CHECK(fused.workspace(150, 3, 7, true, false, true, true).logits == 2 * 128 * 7);
  problem p(21);
  p.rows = 30, p.width = 5;
  problem q(22);
  const auto repeat = [&](doubles& to, const doubles& from, int64_t n) {
    to.clear();
    for (int64_t i = 0; i < n; ++i)
      to.push_back(from[static_cast<size_t>(i) % from.size()] * (1 + 0.001 * static_cast<double>(i)));
  };
  repeat(p.hidden, q.weight, p.tokens() * p.depth);
  repeat(p.teacher_hidden, q.weight, p.tokens() * p.teacher_depth);
  for (auto* v : {&p.old_logp, &p.ref_logp, &p.advantage}) repeat(*v, q.bias, p.tokens());
  p.target.assign(static_cast<size_t>(p.tokens()), 3);
  p.mask.assign(static_cast<size_t>(p.tokens()), 1);
  for (const family& f : families()) {
    CAPTURE(f.name);
    const result want = fuse(f, p, {.chunk = 1000});
    REQUIRE(want.status);
    for (const int64_t kept : {1, 2}) {
      const result got = fuse(f, p, {.chunk = 140, .kept = kept});
      REQUIRE(got.status);
      CHECK(got.loss == Approx(want.loss).epsilon(1e-12));
      check_equal(got.hidden, want.hidden);
      check_equal(got.weight, want.weight);
      check_equal(got.bias, want.bias);
    }
  }
}

TEST_CASE("16-bit layers: sums in float, one rounding for each element") {
  const problem p(19);
  rlhf::reference_backend be;
  const auto narrow = [](const doubles& x) {
    std::vector<rlhf::bfloat16> y;
    for (const double v : x) y.emplace_back(static_cast<float>(v));
    return y;
  };
  const auto wide = [](const auto& x) {
    doubles y;
    for (const auto v : x) y.push_back(static_cast<double>(static_cast<float>(v)));
    return y;
  };
  const auto h = narrow(p.hidden), w = narrow(p.weight), b = narrow(p.bias);
  problem exact = p;
  exact.hidden = wide(h), exact.weight = wide(w), exact.bias = wide(b);
  const family f = of_tokens("supervised", rlhf::policy_loss{rlhf::negative_log_likelihood{}});
  const result want = fuse(f, exact, {});
  rlhf::linear_inputs<rlhf::bfloat16> in;
  in.head = {{h.data(), p.tokens(), p.depth}, {w.data(), p.depth, p.columns}, false, b};
  in.target = p.target, in.mask = p.mask, in.vocabulary = p.vocabulary, in.temperature = p.temperature;
  for (const int64_t chunk : {3, 100}) {
    std::vector<rlhf::bfloat16> hidden(h.size());
    std::vector<float> weight(w.size()), bias(b.size());
    float loss = 0;
    rlhf::linear_outputs<rlhf::bfloat16> out;
    out.grad_hidden = {hidden.data(), p.tokens(), p.depth};
    out.grad_weight = {weight.data(), p.depth, p.columns};
    out.grad_bias = bias;
    REQUIRE(rlhf::fused_linear<>{.chunk = chunk}(
        be, in,
        rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, p.sequences(),
                          rlhf::token_inputs<float>{}, rlhf::token_outputs<float>{{&loss, 1}}},
        out));
    // The logits and their gradient have 8 bits each.
    CHECK(static_cast<double>(loss) == Approx(want.loss).epsilon(2e-2));
    const auto near = [](const auto& got, const doubles& wanted) {
      for (size_t i = 0; i < wanted.size(); ++i)
        CHECK(static_cast<double>(static_cast<float>(got[i])) == Approx(wanted[i]).epsilon(2e-2).margin(2e-3));
    };
    near(hidden, want.hidden);
    near(weight, want.weight);
    near(bias, want.bias);
  }
}

TEST_CASE("fused_linear's errors") {
  const problem p(20);
  const family f = families().front();
  double loss = 7;
  doubles hidden(p.hidden.size(), 7), weight(p.weight.size(), 7);
  const auto message = [&](auto change, const rlhf::fused_linear<>& fused = {.chunk = 5}) {
    auto in = p.inputs();
    rlhf::linear_outputs<double> out;
    out.grad_hidden = {hidden.data(), p.tokens(), p.depth};
    out.grad_weight = {weight.data(), p.depth, p.columns};
    change(in, out);
    const std::string said = text(f.fused(p, fused, in, out, &loss));
    CHECK(loss == 7);
    for (const auto* g : {&hidden, &weight})
      for (const double x : *g) CHECK(x == 7);
    return said;
  };
  const auto nothing = [](auto&, auto&) {};
  CHECK(message(nothing, {.chunk = 0}) == "fused_linear: chunk is 0, wants 1 or more");
  CHECK(message(nothing, {.kept = 0}) == "fused_linear: kept is 0, wants 1 or more");
  CHECK(message([](auto& in, auto&) { in.head.hidden.data = nullptr; }) ==
        "fused_linear: hidden is null, wants a pointer to its elements");
  CHECK(message([](auto& in, auto&) { in.head.weight.data = nullptr; }) ==
        "fused_linear: weight is null, wants a pointer to its elements");
  CHECK(message([](auto& in, auto&) { in.target = {}; }) ==
        "fused_linear: target is null, wants a pointer to its elements");
  CHECK(message([](auto& in, auto&) { in.head.weight.rows = 4; }) == "fused_linear: weight has 4 rows, wants 5");
  CHECK(message([](auto& in, auto&) { in.vocabulary = 10; }) ==
        "fused_linear: vocabulary is 10, wants at most the columns of the weight");
  CHECK(message([](auto& in, auto&) { in.temperature = 0; }) == "fused_linear: temperature is 0, wants more than 0");
  CHECK(message([](auto& in, auto&) { in.head.bias.extent = 3; }) == "fused_linear: bias has 3 elements, wants 9");
  CHECK(message([](auto& in, auto&) { in.mask.extent = 3; }) == "fused_linear: mask has 3 elements, wants 12");
  CHECK(message([](auto& in, auto&) { in.head.hidden.pitch = 1; }) ==
        "fused_linear: hidden has a pitch of 1, wants rows that do not overlap");
  CHECK(message([](auto&, auto& out) { out.grad_hidden.rows = 3; }) ==
        "fused_linear: grad_hidden has 3 rows, wants 12");
  CHECK(message([](auto&, auto& out) { out.grad_weight.columns = 3; }) ==
        "fused_linear: grad_weight has 3 columns, wants 9");
  CHECK(message([](auto& in, auto&) {
          static const std::vector<std::int32_t> beyond(12, 7);
          in.target = beyond;
        }) == "fused_linear: target outside the vocabulary in rows: 9, wants 0 <= target < vocabulary");

  rlhf::reference_backend be;
  const auto with = [&](auto change) {
    rlhf::over_tokens tokens{rlhf::policy_loss{rlhf::ppo_clip{}}, p.sequences(), p.streams(),
                             rlhf::token_outputs<double>{{&loss, 1}}};
    change(tokens);
    return text(rlhf::fused_linear<>{}(be, p.inputs(), tokens, rlhf::linear_outputs<double>{}));
  };
  CHECK(with([](auto& t) { t.sequences = rlhf::padded(2, 3); }) == "over_tokens: sequences has 6 elements, wants 12");
  CHECK(
      with([&](auto& t) { t.in.logp = p.old_logp; }) ==
      "over_tokens: logp, entropy, mask or a gradient given by the caller: 1, wants none: fused_linear computes them, "
      "and has the mask");
  CHECK(with([](auto& t) { t.in.old_logp = {}; }) == "policy_loss: old_logp is null, wants a pointer to its elements");
  CHECK(with([](auto& t) { t.loss.objective.low = -1; }).starts_with("ppo_clip: low is -1"));
  CHECK(loss == 7);
}
