#include "buffers.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bench {

std::uint32_t stream_read(const void* bytes, std::int64_t words) {
  constexpr int wide = 128;
  std::uint32_t sum[wide] = {};
  const auto* p = static_cast<const std::uint32_t*>(bytes);
  std::int64_t i = 0;
  for (; i + wide <= words; i += wide)
    for (int j = 0; j < wide; ++j) sum[j] += p[i + j];
  for (; i < words; ++i) sum[0] += p[i];
  std::uint32_t total = 0;
  for (const std::uint32_t s : sum) total += s;
  return total;
}

void triad(float* __restrict d, const float* __restrict a, const float* __restrict b, const float* __restrict c,
           std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) d[i] = a[i] + b[i] * c[i];
}

void scale(float* x, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void scale(rlhf::bfloat16* x, std::int64_t n) {
  // The same bytes in and out: flips the sign of every number.
  for (std::int64_t i = 0; i < n; ++i) x[i].bits = static_cast<std::uint16_t>(x[i].bits ^ 0x8000u);
}

double hand_written_ppo(const float* logp, const float* old_logp, const float* advantage, float* gradient,
                        std::int64_t n) {
  const float weight = 1.0f / static_cast<float>(n);
  double loss = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float ratio = std::exp(logp[i] - old_logp[i]);
    const float a = advantage[i];
    const float bounded = std::min(std::max(ratio, 0.8f), 1.2f);
    const float plain = -ratio * a, clipped = -bounded * a;
    loss += static_cast<double>(std::max(plain, clipped));
    gradient[i] = plain >= clipped ? -ratio * a * weight : 0.0f;
  }
  return loss / static_cast<double>(n);
}

}  // namespace bench
