// A backend whose reads fail: drivers say so, instead of statistics of zeros and a status that all went well.

#include <cstring>
#include <vector>

#include "rlhf/backend/emulated.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/value.hpp"
#include "support/catch.hpp"

namespace {

/// As a device that is lost: reads give zeros, and the trouble stays.
template <bool Synchronous>
struct lost_device : rlhf::serial_executor<> {
  static constexpr bool synchronous = Synchronous;
  int good = 0;  // so many reads go well before
  rlhf::status found{};

  template <class T>
  [[nodiscard]] T read(const T* cell) {
    if (good-- > 0) return *cell;
    found = {rlhf::errc::backend, "read", "cudaStreamSynchronize", "unspecified launch failure", 0, 0, nullptr};
    return T{};
  }
  [[nodiscard]] rlhf::status trouble() const { return found; }
};
using lost = rlhf::team_backend<lost_device<false>>;
using lost_and_waiting = rlhf::team_backend<lost_device<true>>;
static_assert(rlhf::backend<lost> && rlhf::backend<lost_and_waiting>);

constexpr int n = 12;
const std::vector<float> some(n, 0.5f), other(n, -0.25f);

void check_told(const rlhf::status& s) {
  CHECK(s.code == rlhf::errc::backend);
  CHECK(std::strcmp(s.function, "read") == 0);
}

template <class B>
rlhf::status policy(B be, rlhf::statistics* stats) {
  rlhf::token_inputs<float> in;
  const std::vector<std::uint8_t> mask(n, 1);
  in.logp = in.old_logp = in.advantage = some;
  in.mask = mask;
  std::vector<float> gradient(n);
  rlhf::token_outputs<float> out;
  out.grad_logp = gradient;
  out.stats = stats;
  return rlhf::policy_loss{rlhf::ppo_clip{}}(be, rlhf::padded(3, 4), in, out);
}
template <class B>
rlhf::status value(B be, rlhf::statistics* stats) {
  rlhf::value_inputs<float> in;
  in.value = in.returns = some;
  rlhf::value_outputs<float> out;
  out.stats = stats;
  return rlhf::value_loss{rlhf::squared_value{}}(be, rlhf::padded(3, 4), in, out);
}
template <class B>
rlhf::status logp(B be, rlhf::statistics* stats) {
  std::vector<float> z(n, 1.0f), found(3);
  const std::vector<std::int32_t> target{0, 1, 2};
  rlhf::logp_outputs<float> out;
  out.logp = found;
  out.stats = stats;
  return rlhf::token_logp(be, rlhf::logits_inputs<float>{{z.data(), 3, 4}, target}, out);
}

}  // namespace

TEST_CASE("statistics that cannot be read are an error") {
  rlhf::statistics stats;
  check_told(policy(lost{}, &stats));
  check_told(value(lost{}, &stats));
  check_told(logp(lost{}, &stats));
  lost second;
  second.good = 1;
  check_told(value(second, &stats));
  CHECK(policy(lost{}, nullptr));  // nothing is read
  CHECK(logp(lost{}, nullptr));
}

TEST_CASE("what a synchronous backend cannot read is an error, not an empty mask") {
  check_told(policy(lost_and_waiting{}, nullptr));
  check_told(logp(lost_and_waiting{}, nullptr));
  lost_and_waiting be;
  std::vector<float> out(n);
  check_told(rlhf::whitening{}(be, rlhf::whiten_inputs<float>{some, {}}, out));
}

TEST_CASE("a running reference stays as it was when the batch cannot be read") {
  lost be;
  rlhf::running_reference reference;
  const double before = reference.mean();
  rlhf::log_ratio_inputs<float> in;
  in.logp = some;
  in.ref_logp = other;
  check_told(reference.update(be, in));
  CHECK(reference.rewards.count == 1e-24);
  CHECK(reference.mean() == before);
}

TEST_CASE("backends without trouble read as before") {
  rlhf::reference_backend be;
  rlhf::totals<1> cell, value;
  cell.sum[0] = 3;
  CHECK(rlhf::read_cell(be, &cell, value));
  CHECK(value.sum[0] == 3);
}
