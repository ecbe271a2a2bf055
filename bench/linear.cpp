// The last layer with its loss: chunk by chunk against logits as a whole, in time; the memory of both is said beside.

#include <algorithm>
#include <cstdio>
#include <memory>

#include "buffers.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/eigen/product.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/fused_linear.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"
#include "table.hpp"

namespace bench {
namespace {

constexpr std::int64_t depth = 256, vocabulary = 32000;

struct layer {
  explicit layer(std::int64_t n)
      : tokens(n),
        hidden(static_cast<std::size_t>(n * depth)),
        weight(static_cast<std::size_t>(vocabulary * depth)),
        grad_hidden(hidden.size()),
        grad_weight(weight.size()),
        logits(static_cast<std::size_t>(n * vocabulary)),
        logp(static_cast<std::size_t>(n)),
        lse(logp.size()),
        gradient(logp.size()),
        reference(logp.size(), -10) {
    fill(hidden, -1, 1, 31);
    fill(weight, -0.2f, 0.2f, 32);
    for (std::int64_t i = 0; i < n; ++i) target.push_back(static_cast<std::int32_t>(i * 7919 % vocabulary));
  }
  [[nodiscard]] rlhf::linear_inputs<float> inputs() const {
    rlhf::linear_inputs<float> in;
    in.head = {{hidden.data(), tokens, depth}, {weight.data(), vocabulary, depth}, true, {}};
    in.target = target;
    return in;
  }
  [[nodiscard]] rlhf::linear_outputs<float> outputs() {
    rlhf::linear_outputs<float> out;
    out.grad_hidden = {grad_hidden.data(), tokens, depth};
    out.grad_weight = {grad_weight.data(), vocabulary, depth};
    return out;
  }
  [[nodiscard]] rlhf::token_pair_inputs<float> pairs() const {
    rlhf::token_pair_inputs<float> in;
    in.chosen.sequences = in.rejected.sequences = rlhf::padded(4, tokens / 8);
    in.chosen.ref_logp = {reference.data(), tokens / 2};
    in.rejected.ref_logp = {reference.data() + tokens / 2, tokens / 2};
    return in;
  }
  /// Layer, log-probabilities, loss and back, the logits as a whole.
  template <class Loss>
  void unfused(rlhf::eigen_backend& cpu, const Loss& loss_of) {
    const rlhf::eigen_product product;
    const rlhf::view<float, 2> z(logits.data(), tokens, vocabulary);
    const rlhf::view<const float, 2> h(hidden.data(), tokens, depth), w(weight.data(), vocabulary, depth);
    using factor = rlhf::factor<float>;
    rlhf::or_throw(product(cpu, factor{h}, factor{w, true}, z, false));
    const rlhf::logits_inputs<float> rows{.logits = z, .target = target};
    rlhf::or_throw(rlhf::token_logp(cpu, rows, {.logp = logp, .lse = lse}));
    loss_of();
    rlhf::or_throw(rlhf::token_logp_backward(cpu, rows, {.lse = lse, .grad_logp = gradient}, z));
    const auto out = outputs();
    rlhf::or_throw(product(cpu, factor{z}, factor{w}, out.grad_hidden, false));
    rlhf::or_throw(product(cpu, factor{z, true}, factor{h}, out.grad_weight, false));
  }

  std::int64_t tokens;
  buffer<float> hidden, weight, grad_hidden, grad_weight, logits, logp, lse, gradient, reference;
  buffer<std::int32_t> target;
  float loss = 0;
};

}  // namespace

void add_linear_contests(std::vector<contest>& contests, bool quick) {
  const std::int64_t n = quick ? 256 : 1024;
  const auto a = std::make_shared<layer>(n);
  const auto cpu = std::make_shared<rlhf::eigen_backend>(2);
  using layer_and_loss = rlhf::fused_linear<rlhf::eigen_product>;
  const auto add = [&](const char* loss, const layer_and_loss& fused, bool coupled, auto ours, auto against) {
    const std::int64_t rows = fused.rows(n), again = coupled ? n - std::min(n, rows * fused.kept) : 0;
    const auto need = fused.workspace(n, depth, vocabulary, coupled, false, true, false).bytes<float>();
    char name[64], what[128];
    std::snprintf(name, sizeof name, "cpu/fused_linear/%s/%d/2t", loss, static_cast<int>(rows));
    std::snprintf(what, sizeof what, "logits as a whole; %.0f MiB of memory beside theirs of %.0f MiB, %.1f products",
                  static_cast<double>(need) / 1048576, static_cast<double>(n * vocabulary * 4) / 1048576,
                  3 + static_cast<double>(again) / static_cast<double>(n));
    contests.push_back({name, what, ours, against});
  };
  for (const std::int64_t parts : {8, 2, 1}) {
    const layer_and_loss fused{.chunk = parts > 1 ? n / parts : layer_and_loss{}.chunk};
    add(
        "supervised", fused, false,
        [=] {
          rlhf::or_throw(
              fused(*cpu, a->inputs(),
                    rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, rlhf::padded(1, n),
                                      rlhf::token_inputs<float>{}, rlhf::token_outputs<float>{{&a->loss, 1}}},
                    a->outputs()));
        },
        [=] {
          a->unfused(*cpu, [&] {
            rlhf::or_throw(rlhf::policy_loss{rlhf::negative_log_likelihood{}}(
                *cpu, rlhf::padded(1, n), rlhf::token_inputs<float>{.logp = a->logp},
                rlhf::token_outputs<float>{.loss = {&a->loss, 1}, .grad_logp = a->gradient}));
          });
        });
  }
  for (const std::int64_t parts : {2, 1}) {
    const layer_and_loss fused{.chunk = parts > 1 ? n / parts : layer_and_loss{}.chunk};
    add(
        "dpo", fused, true,
        [=] {
          rlhf::or_throw(fused(*cpu, a->inputs(),
                               rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{}}, a->pairs(),
                                                rlhf::pair_outputs<float>{{&a->loss, 1}}},
                               a->outputs()));
        },
        [=] {
          a->unfused(*cpu, [&] {
            auto in = a->pairs();
            in.chosen.logp = {a->logp.data(), n / 2};
            in.rejected.logp = {a->logp.data() + n / 2, n / 2};
            rlhf::or_throw(rlhf::preference_loss{rlhf::dpo_sigmoid{}}(
                *cpu, in,
                rlhf::pair_outputs<float>{.loss = {&a->loss, 1},
                                          .grad_chosen = {a->gradient.data(), n / 2},
                                          .grad_rejected = {a->gradient.data() + n / 2, n / 2}}));
          });
        });
  }
}

}  // namespace bench
