#pragma once
// The largest logits of a row, for drivers of logits.

#include "rlhf/backend/concept.hpp"

namespace rlhf::inline v1::logp_detail {

/// The k largest of `count` logits, from the largest down, and where they stand: `held` [k] and `token` [k]. Of equal ones the
/// first comes first. By insertion into what is held, so k wants to be small.
template <class T, class L, class Index>
RLHF_HD RLHF_INLINE void collect_largest(const L* row, std::int64_t count, std::int64_t k, T* held, Index* token) {
  std::int64_t filled = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    const T z = memory_traits<T>::load(row + j);
    if (filled == k && !(z > held[k - 1])) continue;
    std::int64_t i = filled < k ? filled++ : k - 1;
    for (; i > 0 && z > held[i - 1]; --i) {
      held[i] = held[i - 1];
      token[i] = token[i - 1];
    }
    held[i] = z;
    token[i] = static_cast<Index>(j);
  }
}

/// Does a team know where in a row it reads, and find the largest of one together?
template <class Team>
inline constexpr bool knows_places = requires { requires Team::knows_places; };

/// The same by a team, of the numbers that `logit` gives for each column, which lie at `logit.origin()`.
template <class T, class Team, class F, class Index>
RLHF_HD RLHF_INLINE void collect_largest(Team& team, const F& logit, std::int64_t count, std::int64_t k, T* held,
                                         Index* token) {
  if constexpr (knows_places<Team>)
    team.largest(count, logit, k, [&](std::int64_t i, T z, std::int64_t j) {
      held[i] = z;
      token[i] = static_cast<Index>(j);
    });
  else
    team.one([&] { collect_largest(logit.origin(), count, k, held, token); });
}

}  // namespace rlhf::inline v1::logp_detail
