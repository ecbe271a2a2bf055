#pragma once
// What a user writes: DPO's loss and gradient from raw pointers, on a backend of choice.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <rlhf/algorithm/dpo.hpp>

template <class Backend>
rlhf::status dpo_step(Backend& backend, const float* w, const float* l, const float* ref_w, const float* ref_l,
                      std::int64_t pairs, float* loss, float* grad_w, float* grad_l) {
  const rlhf::dpo dpo{.beta = 0.1};
  return dpo(
      backend,
      {.chosen = {w, pairs}, .rejected = {l, pairs}, .ref_chosen = {ref_w, pairs}, .ref_rejected = {ref_l, pairs}},
      {.loss = {loss, 1}, .grad_chosen = {grad_w, pairs}, .grad_rejected = {grad_l, pairs}});
}

/// Two pairs with margins 2 and -1: 0 when the numbers are right.
template <class Backend>
int run(const char* name) {
  Backend backend;
  const float w[] = {-10, -12}, l[] = {-14, -13}, ref_w[] = {-11, -12}, ref_l[] = {-13, -14};
  float loss = 0, grad_w[2], grad_l[2];
  const rlhf::status done = dpo_step(backend, w, l, ref_w, ref_l, 2, &loss, grad_w, grad_l);
  const double wants = (std::log1p(std::exp(-0.2)) + std::log1p(std::exp(0.1))) / 2;
  const double slope = -0.1 / (1 + std::exp(0.2)) / 2;
  std::printf("%s: DPO loss %.7f, wants %.7f; gradient %.7f, wants %.7f\n", name, static_cast<double>(loss), wants,
              static_cast<double>(grad_w[0]), slope);
  const auto near = [](double a, double b) { return std::abs(a - b) < 1e-6; };
  return done && near(static_cast<double>(loss), wants) && near(static_cast<double>(grad_w[0]), slope) &&
                 grad_l[0] == -grad_w[0]
             ? 0
             : 1;
}
