#pragma once
// Observers that do something: stop a run whose numbers have broken, steer the price of KL. They wrap another observer.

#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "rlhf/reward/kl_controller.hpp"
#include "rlhf/train/rollout.hpp"

namespace rlhf::inline v1 {

/// A metric that is not finite: which one, and after how many updates (or iterations).
class broken_metric : public std::runtime_error {
 public:
  broken_metric(std::string metric, double value, std::int64_t step)
      : std::runtime_error("training stopped at step " + std::to_string(step) + ": " + metric + " is " +
                           (std::isnan(value) ? "nan"
                            : value < 0       ? "-inf"
                                              : "inf") +
                           ", wants a finite number"),
        metric_(std::move(metric)),
        step_(step) {}
  [[nodiscard]] const std::string& metric() const { return metric_; }
  [[nodiscard]] std::int64_t step() const { return step_; }

 private:
  std::string metric_;
  std::int64_t step_;
};

namespace observers_detail {

template <class News>
[[nodiscard]] std::int64_t step_of(const News& news) {
  if constexpr (requires { news.step; })
    return news.step;
  else
    return news.number;
}

}  // namespace observers_detail

/// Throws broken_metric at the first metric that is not finite; before that `observe` has seen the report, so that what it
/// saves is of the step before. Of progress and of iterations.
template <class Observer = ignore_iteration>
struct stop_when_broken {
  Observer observe{};

  template <class News>
  bool operator()(const News& news) {
    const std::int64_t step = observers_detail::step_of(news);
    if (news.metrics != nullptr)
      for (int i = 0; i < news.metrics->size; ++i) {
        const char* const name = news.metrics->entries[i].name;
        const double value = (*news.metrics)[name];
        if (!std::isfinite(value)) throw broken_metric(name, value, step);
      }
    if constexpr (std::invocable<Observer&, const News&>) return tell(observe, news);
    return true;
  }
  void sampled(const rollout& r)
    requires wants_rollouts<Observer>
  {
    observe.sampled(r);
  }
};
template <class O>
stop_when_broken(O) -> stop_when_broken<O>;

/// Lets a controller set a price of KL after every iteration: give it the member of the algorithm that the loop was called
/// with, `algorithm.reward.coefficient`, say. The controller is part of the state of the run. Observed is the KL of a
/// response in nats, the steps are responses.
template <class Controller = adaptive_kl_controller, class Observer = ignore_iteration>
struct control_kl {
  double* coefficient;
  Controller* controller;
  Observer observe{};

  bool operator()(const iteration& now) {
    const statistics::entry* const kl = now.metrics != nullptr ? now.metrics->find("objective/kl") : nullptr;
    if (kl != nullptr) controller->update(now.kl, kl->count);
    *coefficient = controller->coefficient;
    return tell(observe, now);
  }
  void sampled(const rollout& r)
    requires wants_rollouts<Observer>
  {
    observe.sampled(r);
  }
};
template <class C>
control_kl(double*, C*) -> control_kl<C>;
template <class C, class O>
control_kl(double*, C*, O) -> control_kl<C, O>;

}  // namespace rlhf::inline v1
