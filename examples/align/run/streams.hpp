#pragma once
// Every use of random numbers has a stream of its own.

#include <cstdint>

namespace align {

enum stream : std::uint64_t {
  initial = 1,
  sft_order,
  reward_order,
  pair_choice,
  dpo_order,
  evaluation,
  frontier,
  texts,
  beginnings,
  rehearsal,
  value_order,
  adapter_start,
  head_start,
  opponents,
  remembered,
  member_order = 500,   ///< and a stream for each model of an ensemble
  value_draws = 10000,  ///< and more: two a batch
  on_policy = 1000
};

}  // namespace align
