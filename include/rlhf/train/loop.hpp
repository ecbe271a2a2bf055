#pragma once
// What all training loops share: minibatches in a random order, and what they tell while they run.

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "rlhf/core/statistics.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/math/random.hpp"

namespace rlhf::inline v1 {

/// How a loop walks its data.
struct loop_options {
  std::int64_t batch = 32;  ///< items of an update
  std::int64_t epochs = 1;
  random_key key{};       ///< of the order; epoch e is shuffled at prompt = e
  std::int64_t done = 0;  ///< updates made before: they are passed over, so that a run can go on from what it saved
};

/// What a loop hands to its observer after every update: any callable of (const progress&).
struct progress {
  std::int64_t step = 0;                ///< updates done
  std::int64_t steps = 0;               ///< updates in all
  std::int64_t items = 0;               ///< items seen
  const statistics* metrics = nullptr;  ///< of the last update, under the names that TRL's users know
};

/// Tells an observer; the answer is whether to go on: false only where the observer returns a bool and says so.
template <class Observer, class News>
[[nodiscard]] bool tell(Observer&& observe, const News& news) {
  static_assert(std::invocable<Observer&, const News&>,
                "rlhf: an observer is called with what a loop tells: const progress& of loops over fixed data, const "
                "iteration& of loops that sample. The order of a loop's last arguments, loss and observer, is its own: "
                "see its declaration");
  if constexpr (std::same_as<std::invoke_result_t<Observer&, const News&>, bool>)
    return observe(news);
  else
    observe(news);
  return true;
}

/// An observer that looks at nothing.
struct ignore_progress {
  void operator()(const progress&) const {}
};

/// Refuses what a loop cannot walk: nothing at all, empty minibatches, a past of fewer than no updates. Throws rlhf::error.
inline void check_loop(const char* function, const char* data, std::int64_t items, const loop_options& options) {
  const auto wants = [function](const char* argument, std::int64_t got, const char* range) {
    throw error(remark::argument(function, argument, static_cast<double>(got), range));
  };
  if (items < 1) throw error({errc::argument, function, data, "has elements:", 0, 0, "at least one"});
  if (options.batch < 1) wants("options.batch", options.batch, "1 or more");
  if (options.epochs < 0) wants("options.epochs", options.epochs, "0 or more");
  if (options.done < 0) wants("options.done", options.done, "0 or more");
}

/// Minibatches of a fixed number of items (the last of an epoch may be smaller): `f(rows)` for each but the first
/// `options.done`, in shuffled order. Where `f` returns a bool, false ends the walk.
template <class F>
void for_each_minibatch(std::int64_t items, const loop_options& options, F&& f) {
  if (items == 0) return;
  std::vector<std::int64_t> order(static_cast<std::size_t>(items));
  const random_numbers numbers(options.key);
  const std::int64_t per_epoch = (items + options.batch - 1) / options.batch;
  for (std::int64_t epoch = options.done / per_epoch; epoch < options.epochs; ++epoch) {
    std::iota(order.begin(), order.end(), std::int64_t{0});
    shuffle(order, numbers, {.prompt = static_cast<std::uint32_t>(epoch)});
    const std::int64_t passed = std::max(std::int64_t{0}, options.done - epoch * per_epoch);
    for (std::int64_t begin = passed * options.batch; begin < items; begin += options.batch)
      if (!tell(f,
                std::span<const std::int64_t>(order).subspan(
                    static_cast<std::size_t>(begin), static_cast<std::size_t>(std::min(options.batch, items - begin)))))
        return;
  }
}

/// Updates of all epochs, those that were made before included.
[[nodiscard]] constexpr std::int64_t minibatches(std::int64_t items, const loop_options& options) {
  return options.epochs * ((items + options.batch - 1) / options.batch);
}

/// Where a loop over `items` items begins.
[[nodiscard]] constexpr progress progress_of(std::int64_t items, const loop_options& options) {
  const std::int64_t per_epoch = std::max(std::int64_t{1}, (items + options.batch - 1) / options.batch);
  const std::int64_t rest = std::min(items, options.done % per_epoch * options.batch);
  return {.step = options.done, .steps = minibatches(items, options), .items = options.done / per_epoch * items + rest};
}

}  // namespace rlhf::inline v1
