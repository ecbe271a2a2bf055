// Station 2: PPO over 16 million tokens, GAE and RTO's rewards over a batch of rollouts, DPO over 4096 pairs.

#include <memory>

#include "buffers.hpp"
#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "table.hpp"

namespace bench {
namespace {

struct ppo_arrays {
  explicit ppo_arrays(std::size_t n) : logp(n), old_logp(n), advantage(n), gradient(n) {
    fill(logp, -3, 0, 1);
    fill(old_logp, -3, 0, 2);
    for (std::size_t i = 0; i < n; ++i) old_logp[i] = logp[i] + 0.1f * (old_logp[i] + 1.5f);
    fill(advantage, -1, 1, 3);
  }
  buffer<float> logp, old_logp, advantage, gradient;
  float loss = 0;
};

struct gae_arrays {
  explicit gae_arrays(std::size_t n) : reward(n), value(n), advantage(n), returns(n) {
    fill(reward, -1, 1, 4);
    fill(value, -1, 1, 5);
  }
  buffer<float> reward, value, advantage, returns;
};

/// Responses of 512 to 1023 tokens in rows of 1024.
struct rto_arrays {
  static constexpr std::size_t rows = 512, width = 1024;
  rto_arrays()
      : old_logp(rows * width), ref_logp(rows * width), dpo_logp(rows * width), reward(rows * width), score(rows) {
    fill(old_logp, -3, 0, 10);
    fill(ref_logp, -3, 0, 11);
    fill(dpo_logp, -3, 0, 12);
    fill(score, -1, 1, 13);
    mask.resize(rows * width);
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % width < 512 + i / width % 512 ? 1 : 0;
  }
  buffer<float> old_logp, ref_logp, dpo_logp, reward, score;
  std::vector<std::uint8_t> mask;
};

struct dpo_arrays {
  explicit dpo_arrays(std::size_t n) : x(4, buffer<float>(n)), gradient(2, buffer<float>(n)) {
    for (std::uint32_t k = 0; k < 4; ++k) fill(x[k], -60, -5, 6 + k);
  }
  std::vector<buffer<float>> x, gradient;
  float loss = 0;
};

}  // namespace

void add_token_contests(std::vector<contest>& contests, bool quick) {
  const std::int64_t n = quick ? 4 << 20 : 16 << 20;
  const auto a = std::make_shared<ppo_arrays>(static_cast<std::size_t>(n));
  for (const int threads : {1, 2}) {
    const auto cpu = std::make_shared<rlhf::eigen_backend>(threads);
    const auto pool = std::make_shared<rlhf::thread_pool>(threads);
    const auto ours = [=] {
      rlhf::or_throw(rlhf::policy_loss{rlhf::ppo_clip{}}(
          *cpu, rlhf::padded(1, n), {.logp = a->logp, .old_logp = a->old_logp, .advantage = a->advantage},
          {.loss = {&a->loss, 1}, .grad_logp = a->gradient}));
    };
    contests.push_back(
        {threads == 1 ? "cpu/ppo_clip/triad" : "cpu/ppo_clip/triad/2t", "a triad that moves the same bytes", ours, [=] {
           in_parallel(*pool, n, [&](std::int64_t begin, std::int64_t end) {
             triad(a->gradient.data() + begin, a->logp.data() + begin, a->old_logp.data() + begin,
                   a->advantage.data() + begin, end - begin);
           });
         }});
    if (threads == 1)
      contests.push_back({"cpu/ppo_clip/scalar", "a hand-written scalar loop", ours, [=] {
                            a->loss = static_cast<float>(hand_written_ppo(a->logp.data(), a->old_logp.data(),
                                                                          a->advantage.data(), a->gradient.data(), n));
                          }});
  }

  const auto cpu = std::make_shared<rlhf::eigen_backend>(2);
  const auto g = std::make_shared<gae_arrays>(512 * 1024);
  contests.push_back({"cpu/gae", "a scalar loop per row",
                      [=] {
                        rlhf::or_throw(rlhf::advantage_estimate{rlhf::gae{}}(
                            *cpu, rlhf::padded(512, 1024), {.reward = g->reward, .value = g->value},
                            {.advantage = g->advantage, .returns = g->returns}));
                      },
                      [=] {
                        for (std::size_t row = 0; row < 512; ++row) {
                          float next_value = 0, next_advantage = 0;
                          for (std::size_t t = 1024; t-- > 0;) {
                            const std::size_t i = row * 1024 + t;
                            const float delta = g->reward[i] + next_value - g->value[i];
                            next_advantage = delta + 0.95f * next_advantage;
                            next_value = g->value[i];
                            g->advantage[i] = next_advantage;
                            g->returns[i] = next_advantage + next_value;
                          }
                        }
                      }});
  const auto r = std::make_shared<rto_arrays>();
  contests.push_back({"cpu/rto_rewards", "a scalar loop per row",
                      [=] {
                        rlhf::or_throw(rlhf::reward_shaping{rlhf::rto_reward{}}(
                            *cpu, rlhf::padded(rto_arrays::rows, rto_arrays::width),
                            rlhf::shaping_inputs<float>{.old_logp = r->old_logp,
                                                        .ref_logp = r->ref_logp,
                                                        .dpo_logp = r->dpo_logp,
                                                        .score = r->score,
                                                        .mask = r->mask},
                            rlhf::shaping_outputs<float>{.reward = r->reward}));
                      },
                      [=] {
                        for (std::size_t row = 0; row < rto_arrays::rows; ++row) {
                          std::size_t last = rto_arrays::rows * rto_arrays::width;
                          for (std::size_t t = 0; t < rto_arrays::width; ++t) {
                            const std::size_t i = row * rto_arrays::width + t;
                            r->reward[i] = 0;
                            if (r->mask[i] == 0) continue;
                            const float dpo = 0.05f * (r->dpo_logp[i] - r->ref_logp[i]);
                            r->reward[i] =
                                std::min(std::max(dpo, -0.05f), 0.05f) - 0.01f * (r->old_logp[i] - r->ref_logp[i]);
                            last = i;
                          }
                          if (last < rto_arrays::rows * rto_arrays::width) r->reward[last] += r->score[row];
                        }
                      }});
  const auto d = std::make_shared<dpo_arrays>(4096);
  contests.push_back(
      {"cpu/dpo_4096", "the reference backend's plain loop",
       [=] {
         rlhf::or_throw(
             rlhf::dpo{}(*cpu, {.chosen = d->x[0], .rejected = d->x[1], .ref_chosen = d->x[2], .ref_rejected = d->x[3]},
                         {.loss = {&d->loss, 1}, .grad_chosen = d->gradient[0], .grad_rejected = d->gradient[1]}));
       },
       [=] {
         rlhf::reference_backend plain;
         rlhf::or_throw(rlhf::dpo{}(
             plain, {.chosen = d->x[0], .rejected = d->x[1], .ref_chosen = d->x[2], .ref_rejected = d->x[3]},
             {.loss = {&d->loss, 1}, .grad_chosen = d->gradient[0], .grad_rejected = d->gradient[1]}));
       }});
}

}  // namespace bench
