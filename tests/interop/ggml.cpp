// ggml beside us: views of its tensors, and gradients through its graphs against differences.

#include "ggml/models.hpp"

#include <string>

#include "rlhf/train/preference.hpp"
#include "support/catch.hpp"

using namespace rlhf;
using ggml_example::ggml_critic;
using ggml_example::ggml_policy;

namespace {

struct context {
  ggml_context* c = ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = false});
  context() = default;
  context(const context&) = delete;
  ~context() { ggml_free(c); }
};

template <class T, int Rank = 1>
std::string refusal(const ggml_tensor* x) {
  view<T, Rank> out;
  return as_view(*x, out, "logits", "score").message().c_str();
}

constexpr std::int64_t vocabulary = 9, width = 5;

responses some_responses() {
  ggml_policy p(vocabulary, width, vocabulary, 5);
  p.max_tokens = 7;
  return p.sample({{1}, {2, 3}, {4}, {5, 6, 7, 8}}, 2, {3, 3});
}

/// Slope of `value` along the parameters' gradient, against a central difference.
template <class Model, class Value>
void check_gradient(Model& model, Value&& value) {
  const std::vector<float> at(model.parameters().begin(), model.parameters().end());
  const std::vector<float> gradient(model.gradient().begin(), model.gradient().end());
  double square = 0;
  for (const float g : gradient) square += static_cast<double>(g) * static_cast<double>(g);
  REQUIRE(square > 0);
  const double step = 1e-2 / std::sqrt(square);
  double ends[2];
  for (const int side : {0, 1}) {
    for (std::size_t i = 0; i < at.size(); ++i)
      model.parameters()[i] = at[i] + static_cast<float>(side == 0 ? -step : step) * gradient[i];
    ends[side] = value();
  }
  std::ranges::copy(at, model.parameters().begin());
  CHECK((ends[1] - ends[0]) / (2 * step) == Approx(square).epsilon(2e-3));
}

}  // namespace

TEST_CASE("views of ggml's tensors, without a copy") {
  const context own;
  ggml_tensor* const x = ggml_new_tensor_3d(own.c, GGML_TYPE_F32, 5, 3, 2);
  for (int i = 0; i < 30; ++i) static_cast<float*>(x->data)[i] = static_cast<float>(i);
  const auto rows = as_view<float, 2>(*x);
  CHECK(rows.data == x->data);
  CHECK((rows.rows == 6 && rows.columns == 5 && rows.pitch == 5));
  CHECK(rows.row(5)[4] == 29);
  CHECK(as_view<const float>(*x).extent == 30);
  const ggml_tensor* const part = ggml_view_2d(own.c, x, 3, 3, x->nb[1], x->nb[0]);
  CHECK(as_view<const float, 2>(*part).pitch == 5);
  CHECK(as_view<const float, 2>(*part).row(2)[0] == 11);
  CHECK(refusal<const float>(part) ==
        "score: logits has gaps between dimensions, of which it has 4, wants one stride between all elements, for a "
        "view of rank 1");
  CHECK(refusal<const float, 2>(ggml_transpose(own.c, ggml_view_2d(own.c, x, 5, 3, x->nb[1], 0))) ==
        "score: logits has columns at a distance of 5, wants 1");
  CHECK(refusal<const float>(ggml_new_tensor_1d(own.c, GGML_TYPE_F16, 4)) == "score: logits is f16, wants f32");
  CHECK(refusal<const float>(ggml_new_tensor_1d(own.c, GGML_TYPE_Q8_0, 32)) == "score: logits is q8_0, wants f32");
  CHECK(as_view<const bfloat16>(*ggml_new_tensor_1d(own.c, GGML_TYPE_BF16, 4)).extent == 4);
  ggml_set_no_alloc(own.c, true);
  CHECK(refusal<const float>(ggml_new_tensor_1d(own.c, GGML_TYPE_F32, 4)) ==
        "score: logits is null, wants a pointer to its elements");
}

TEST_CASE("tensors of a backend's buffer") {
  ggml_context* const c = ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = true});
  const ggml_tensor* const x = ggml_new_tensor_1d(c, GGML_TYPE_F32, 8);
  ggml_backend_t cpu = ggml_backend_cpu_init();
  ggml_backend_buffer_t memory = ggml_backend_alloc_ctx_tensors(c, cpu);
  CHECK(as_view<const float>(*x).data == x->data);
  view<const float, 1, cuda_space> far;
  CHECK(std::string(as_view(*x, far).message().c_str()) == "as_view: tensor is in host memory, wants CUDA memory");
  ggml_backend_buffer_free(memory);
  ggml_backend_free(cpu);
  ggml_free(c);
}

TEST_CASE("gradients of log-probabilities through ggml's graph are slopes, and add up") {
  const responses r = some_responses();
  ggml_policy p(vocabulary, width, vocabulary, 1);
  std::vector<float> logp(static_cast<std::size_t>(r.response_tokens())), weight(logp.size());
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 1.0f - 0.25f * static_cast<float>(i % 7);
  const auto value = [&] {
    p.log_probs(r, logp);
    double sum = 0;
    for (std::size_t i = 0; i < logp.size(); ++i) sum += static_cast<double>(logp[i]) * static_cast<double>(weight[i]);
    return sum;
  };
  (void)value();
  p.backward(weight);
  check_gradient(p, value);

  const std::vector<float> once(p.gradient().begin(), p.gradient().end());
  (void)value();
  p.backward(weight);
  for (std::size_t i = 0; i < once.size(); ++i) CHECK(p.gradient()[i] == 2 * once[i]);
}

TEST_CASE("gradients of a critic's values") {
  const responses r = some_responses();
  ggml_critic v(vocabulary, width, 1, 2);
  std::vector<float> values(static_cast<std::size_t>(r.response_tokens())), error(values.size());
  const auto value = [&] {
    v.values(r, values);
    double sum = 0;
    for (const float x : values) sum += 0.5 * (static_cast<double>(x) - 1) * (static_cast<double>(x) - 1);
    return sum;
  };
  (void)value();
  for (std::size_t i = 0; i < values.size(); ++i) error[i] = values[i] - 1;
  v.backward_values(error);
  check_gradient(v, value);
}

TEST_CASE("DPO through ggml: the loss of its first update is log 2, and falls") {
  reference_backend cpu;
  ggml_policy reference(vocabulary, width, vocabulary, 1), p(vocabulary, width, vocabulary, 1);
  const responses r = some_responses();
  preference_pairs pairs;
  for (std::int64_t i = 0; i < r.size(); i += 2) {
    pairs.chosen.add(r, i);
    pairs.rejected.add(r, i + 1);
  }
  parameter_update<constant_schedule> update{.rate = {0.02}};
  std::vector<double> losses;
  train_preference(cpu, p, reference, update, pairs, {.batch = 4, .epochs = 5}, dpo{},
                   [&](const progress& now) { losses.push_back((*now.metrics)["loss"]); });
  CHECK(losses.front() == Approx(std::log(2.0)).epsilon(1e-5));
  CHECK(losses.back() < losses.front());
}
