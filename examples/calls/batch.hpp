#pragma once
// A small batch that the programs of the formula pages share: two responses in rows of four slots, the second of two tokens,
// with garbage in its masked slots.

#include <cstdint>
#include <limits>
#include <vector>

namespace calls {

struct token_batch {
  static constexpr float pad = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::uint8_t> mask{1, 1, 1, 1, 1, 1, 0, 0};
  std::vector<float> old_logp{-1.1f, -0.9f, -1.5f, -0.1f, -0.7f, -0.8f, pad, pad};
  std::vector<float> logp{-1.0f, -0.5f, -2.0f, -0.1f, -0.7f, -1.2f, pad, pad};
  std::vector<float> ref_logp{-1.3f, -0.4f, -1.6f, -0.3f, -0.9f, -0.6f, pad, pad};
  std::vector<float> dpo_logp{-0.8f, -1.9f, -1.0f, -0.2f, -0.5f, -0.9f, pad, pad};
  std::vector<float> old_value{0, 0.5f, 0.3f, 0.1f, 0.4f, -0.1f, pad, pad};
  std::vector<float> value{0.1f, 0.2f, 0.3f, 0.4f, 0.5f, -0.2f, pad, pad};
  std::vector<float> entropy{1.2f, 0.9f, 1.4f, 0.3f, 1.0f, 1.1f, pad, pad};
  std::vector<float> advantage{0.9405306962f,  0.2020096065f,  0.6124557272f, 0.930051256f,
                               -1.6814611798f, -1.0035861061f, pad,           pad};
  std::vector<float> returns{0.910132125f, 0.9075075f, 0.98685f, 1.003f, -0.47435f, -0.513f, pad, pad};
  std::vector<float> score{1, -0.5f};
};

}  // namespace calls
