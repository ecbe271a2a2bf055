#pragma once
// value_loss: objectives of a value prediction.

#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "workspace.hpp"

namespace eval {

/// Either of the objectives with a clip, chosen at run time.
struct any_clipped_value {
  bool robust = false;
  rlhf::clipped_value clipped{};
  rlhf::huber_value huber{};

  static constexpr unsigned reads = rlhf::reads_of<rlhf::clipped_value>() | rlhf::reads_of<rlhf::huber_value>();
  [[nodiscard]] constexpr rlhf::status check() const { return robust ? huber.check() : clipped.check(); }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::value_item<V>& v) const {
    return robust ? huber(v) : clipped(v);
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <rlhf::number V>
  RLHF_HD void statistics(const rlhf::value_item<V>& v, V (&out)[1]) const {
    if (robust)
      huber.statistics(v, out);
    else
      clipped.statistics(v, out);
  }
};

/// A value objective made from the arguments.
template <class B, class Make>
[[nodiscard]] auto value_objective(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t rows = p.extent("B"), columns = p.extent("T"), n = rows * columns;
    rlhf::value_inputs<T, typename B::space> in;
    in.value = work.in(p, "value");
    in.old_value = work.in(p, "old_value");
    if (!p.has("old_value") && !p.settings.given("clip")) in.old_value = in.value;  // nothing is held near it
    in.returns = work.in(p, "returns");
    in.mask = work.mask(mask_or_ones(p, "mask", n));
    if (p.has("prompt_id")) in.groups = work.groups(p.data("prompt_id"));
    rlhf::statistics found;
    rlhf::value_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.grad_value = work.out(n);
    to.per_token = work.out(n);
    to.stats = &found;
    const auto objective = make(p.settings);
    with_aggregate(p.settings, "aggregation.", p.settings.word("aggregation.mode"), columns,
                   [&](const auto& aggregate) {
                     const rlhf::value_loss loss{objective, aggregate};
                     require(loss(work.backend(), work.rows(rows, columns), in, to));
                   });
    out.put("per_token", {rows, columns}, work.read(to.per_token));
    out.put("loss", work.read_one(to.loss));
    out.gradient("value", {rows, columns}, work.read(to.grad_value));
    put(out, found);
  };
}

template <class B>
void add_value_loss(registry& table) {
  const rlhf::clipped_value clipped;
  const rlhf::squared_value squared;
  const rlhf::huber_value huber;
  const parameters aggregation = aggregation_parameters();
  const parameter kind = optional_word("kind", {}, "the objective's name again; not read");
  const inputs arrays{required("value", "B,T"), optional("old_value", "B,T"), required("returns", "B,T"),
                      optional("mask", "B,T"), optional("prompt_id", "B")};
  table.add("value_loss", "clipped",
            parameters{kind, nullable_number("clip", clipped.clip, "how far the prediction may move; null: no bound"),
                       number("scale", clipped.scale, "the factor in front"),
                       word("clip_form", "difference", {"difference", "bounds"},
                            "old + clamp(v - old), or max(min(v, old + c), old - c)")} +
                aggregation,
            arrays, value_objective<B>([](const arguments& a) {
              return any_clipped_value{
                  false,
                  {a.bound("clip"), a.number("scale"),
                   a.word("clip_form") == "bounds" ? rlhf::value_clip::bounds : rlhf::value_clip::difference},
                  {}};
            }));
  table.add("value_loss", "huber",
            parameters{kind, number("delta", huber.delta, "where the loss turns from square to linear"),
                       nullable_number("clip", huber.clip, "how far the prediction may move; null: no bound"),
                       number("scale", huber.scale, "the factor in front")} +
                aggregation,
            arrays, value_objective<B>([](const arguments& a) {
              return any_clipped_value{true, {}, {a.number("delta"), a.bound("clip"), a.number("scale")}};
            }));
  table.add("value_loss", "mse",
            parameters{kind, optional_number("clip", "none here; not read"),
                       number("scale", squared.scale, "the factor in front")} +
                aggregation,
            arrays, value_objective<B>([](const arguments& a) { return rlhf::squared_value{a.number("scale")}; }));
}

}  // namespace eval
