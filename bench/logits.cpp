// Stations 1 and 3: 1024 rows of 32000 logits to log-probabilities and back.

#include <atomic>
#include <memory>

#include "buffers.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "table.hpp"

namespace bench {
namespace {

constexpr std::int64_t rows = 1024, vocabulary = 32000;

template <class L>
struct logit_arrays {
  logit_arrays()
      : logits(static_cast<std::size_t>(rows * vocabulary)), logp(rows), entropy(rows), lse(rows), gradient(rows) {
    buffer<float> some(static_cast<std::size_t>(rows * vocabulary));
    fill(some, -8, 8, 11);
    for (std::size_t i = 0; i < some.size(); ++i) logits[i] = L(some[i]);
    for (std::int64_t r = 0; r < rows; ++r) target.push_back(static_cast<std::int32_t>(r * 31 % vocabulary));
    fill(gradient, -1e-3f, 1e-3f, 12);
  }
  [[nodiscard]] rlhf::view<L, 2> view() { return {logits.data(), rows, vocabulary}; }

  buffer<L> logits;
  buffer<float> logp, entropy, lse, gradient;
  buffer<std::int32_t> target;
  std::atomic<std::uint32_t> sink{0};
};

template <class L>
void add(std::vector<contest>& contests, const char* type) {
  const auto a = std::make_shared<logit_arrays<L>>();
  const auto words = static_cast<std::int64_t>(a->logits.size() * sizeof(L) / 4);
  for (const int threads : {1, 2}) {
    const auto cpu = std::make_shared<rlhf::eigen_backend>(threads);
    const auto pool = std::make_shared<rlhf::thread_pool>(threads);
    const std::string suffix = std::string("/") + type + (threads == 1 ? "/1t" : "/2t");
    const auto read = [=] {
      in_parallel(*pool, words, [&](std::int64_t begin, std::int64_t end) {
        a->sink += stream_read(reinterpret_cast<const std::uint32_t*>(a->logits.data()) + begin, end - begin);
      });
    };
    contests.push_back({"cpu/token_logp/stream" + suffix, "reading the logits once",
                        [=] {
                          rlhf::or_throw(
                              rlhf::token_logp(*cpu, rlhf::logits_inputs<L>{.logits = a->view(), .target = a->target},
                                               {.logp = a->logp, .lse = a->lse}));
                        },
                        read});
    contests.push_back({"cpu/token_logp_entropy/stream" + suffix, "reading the logits once",
                        [=] {
                          rlhf::or_throw(
                              rlhf::token_logp(*cpu, rlhf::logits_inputs<L>{.logits = a->view(), .target = a->target},
                                               {.logp = a->logp, .entropy = a->entropy, .lse = a->lse}));
                        },
                        read});
    // Gradients overwrite the logits: the log-sum-exp is set so that they stay small numbers from run to run.
    contests.push_back({"cpu/token_logp_backward/scale" + suffix, "scaling the same buffer in place",
                        [=] {
                          for (float& x : a->lse) x = 12;
                          rlhf::or_throw(rlhf::token_logp_backward(
                              *cpu, rlhf::logits_inputs<L>{.logits = a->view(), .target = a->target},
                              {.lse = a->lse, .grad_logp = a->gradient}, a->view()));
                        },
                        [=] {
                          in_parallel(*pool, static_cast<std::int64_t>(a->logits.size()),
                                      [&](std::int64_t begin, std::int64_t end) {
                                        if constexpr (sizeof(L) == 4)
                                          scale(a->logits.data() + begin, 1.0f + 1e-7f, end - begin);
                                        else
                                          scale(a->logits.data() + begin, end - begin);
                                      });
                        }});
  }
}

}  // namespace

void add_logit_contests(std::vector<contest>& contests, bool) {
  add<float>(contests, "f32");
  add<rlhf::bfloat16>(contests, "bf16");
}

}  // namespace bench
