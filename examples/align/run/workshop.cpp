#include "align/run/workshop.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <utility>

#include "align/files/llama_safetensors.hpp"
#include "align/files/reward_safetensors.hpp"
#include "align/run/peak_memory.hpp"
#include "rlhf/train/dvpo.hpp"
#include "rlhf/train/supervised.hpp"

namespace align {
namespace {

/// `n` of some prompts, going round.
rlhf::prompt_list turn(const rlhf::prompt_list& from, std::int64_t first, std::int64_t n) {
  rlhf::prompt_list out;
  const auto size = static_cast<std::int64_t>(from.size());
  for (std::int64_t i = 0; i < n; ++i) out.push_back(from[static_cast<std::size_t>((first + i) % size)]);
  return out;
}

/// With TRL's num_tokens: response tokens so far, as the curves count them (TRL counts prompts too).
rlhf::statistics with_tokens(rlhf::statistics metrics, std::int64_t tokens) {
  metrics.add_total("num_tokens", static_cast<double>(tokens));
  return metrics;
}

}  // namespace

pass_memories new_memories(const settings& s) {
  const pass_limits learns{
      .tokens = s.pass_tokens,
      .storage = s.activations == "bfloat16" ? activation_storage::bfloat16 : activation_storage::full};
  return {std::make_shared<pass_memory>(learns), std::make_shared<pass_memory>(learns),
          std::make_shared<pass_memory>(scoring_limits())};
}

void release(const pass_memories& all) {
  for (pass_memory* of : {all.learning.get(), all.valuing.get(), all.scoring.get()}) of->release();
#if defined(__GLIBC__)
  ::malloc_trim(0);  // so that what was freed does not count any more
#endif
}

parameter_storage storage_of(const settings& s) {
  return s.parameters == "bfloat16" ? parameter_storage::bfloat16 : parameter_storage::full;
}

std::string number(const char* format, double x) {
  char text[64];
  std::snprintf(text, sizeof text, format, x);
  return text;
}

workshop::workshop(const settings& s, const task& t, run_folder& to, bool silent, const pass_memories& memories)
    : asked(s),
      sizes(s.how),
      subject(t),
      folder(to),
      quiet(silent),
      pool(s.threads),
      learning(memories.learning),
      valuing(memories.valuing),
      scoring(memories.scoring),
      results_(to.results()),
      all_(to.seconds_before()) {
  for (const auto& [name, table] : t.tables) results_.tables[name] = table;
}

std::int64_t workshop::longest() const {
  const std::int64_t room = subject.shape.context - 1;
  return subject.new_tokens == 0 ? room : std::min(room, subject.new_tokens);
}

policy& workshop::start() {
  if (!start_)
    start_.emplace(subject.corpus.size() > 0 ? fine_tune() : policy(cpu, pool, first_model(), limits(), scoring));
  return *start_;
}

language_model<float> workshop::first_model() const {
  return subject.start.empty() ? language_model<float>(subject.shape, key(initial), storage_of(asked))
                               : language_model<float>(subject.shape, subject.start, storage_of(asked));
}

double workshop::loss_of(policy& model, const rlhf::responses& text) {
  std::vector<float> logp(static_cast<std::size_t>(text.response_tokens()));
  model.log_probs(text, logp);
  double loss = 0;
  for (const float x : logp) loss -= static_cast<double>(x) / static_cast<double>(logp.size());
  return loss;
}

void workshop::begin_prompts() {
  if (std::exchange(prompts_begun_, true)) return;
  prompts_ = subject.prompts;
  judged_ = subject.judged_prompts;
  if (!subject.begins) return;
  // The model begins stories itself; every twelfth is kept to judge by.
  const std::int64_t all = std::max<std::int64_t>(64, 16 * sizes.prompts);
  const rlhf::responses drawn = start().sample(turn(prompts_, 0, all), 1, key(beginnings),
                                               {static_cast<int>(sizes.prompt_tokens), subject.end_token});
  prompts_.clear();
  judged_.clear();
  for (std::int64_t i = 0; i < drawn.size(); ++i) {
    std::vector<std::int32_t> one(drawn.prompt(i).begin(), drawn.prompt(i).end());
    one.insert(one.end(), drawn.response(i).begin(), drawn.response(i).end());
    if (one.back() == subject.end_token) continue;  // it ended at once
    (i % 12 == 0 ? judged_ : prompts_).push_back(std::move(one));
  }
}

rlhf::prompt_list workshop::prompts(std::int64_t i, std::int64_t n) {
  begin_prompts();
  if (n == 0) n = sizes.prompts;
  return turn(prompts_, i * n, n);
}

rlhf::prompt_list workshop::judged_prompts(std::int64_t n) {
  begin_prompts();
  return turn(judged_, 0, n);
}

policy workshop::fine_tune() {
  if (done("sft")) return loaded("sft");
  policy model(cpu, pool, first_model(), limits(), learning);
  const rlhf::loop_options order{.batch = sizes.batch, .epochs = sizes.sft_epochs, .key = key(sft_order)};
  const auto steps = rlhf::minibatches(subject.corpus.size(), order);
  rlhf::parameter_update update{
      rlhf::cosine_schedule{.rate = sizes.sft_rate, .warmup = 50, .total = steps, .final_rate = sizes.sft_rate / 100}};
  const std::vector<trained_part> parts{{"policy", model.parameters(), &update.optimiser}};
  rlhf::loop_options loop = order;
  const bool pretrained = !subject.start.empty() && subject.corpus_held_out.size() > 0;
  double before = 0;
  if (pretrained) {
    model.use(scoring);
    results_.figures["sft_loss_before"] = before = loss_of(model, subject.corpus_held_out);
    model.use(learning);
  }
  loop.done = folder.restore("sft", parts).steps;
  progress_line line("sft", steps, "updates", loop.done);
  rlhf::train_supervised(cpu, model, update, subject.corpus, loop, [&](const rlhf::progress& p) {
    line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
    folder.log("sft", p.step, *p.metrics);
    if (due(p.step) || p.step % (steps / order.epochs) == 0) save("sft", {p.step, 0}, parts);
  });
  model.use(scoring);
  if (subject.corpus_held_out.size() > 0) {
    const double loss = loss_of(model, subject.corpus_held_out);
    results_.figures["sft_loss"] = loss;
    if (!quiet)
      std::fprintf(stderr, "sft            held-out loss %.3f nats per token%s\n", loss,
                   pretrained ? (", before " + number("%.3f", before)).c_str() : "");
  }
  keep("sft", model);
  return model;
}

const reward_function& workshop::reward() {
  if (reward_) return *reward_;
  const reward_function score = subject.rule
                                    ? reward_function(subject.rule)
                                    : reward_function(learned_.emplace(model_reward("reward", subject.reward)));
  return reward_.emplace([score, this](const rlhf::responses& batch, std::span<float> out) {
    score.rewards(batch, out);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (!std::isfinite(out[i])) {
        const std::filesystem::path good = folder.newest();
        throw std::runtime_error("the reward of response " + std::to_string(i) + " of " + std::to_string(out.size()) +
                                 " is " + number("%g", static_cast<double>(out[i])) +
                                 ", wants a finite number; the last good checkpoint is " +
                                 (good.empty() ? "none: there was no checkpoint yet" : good.string()));
      }
  });
}

scalar_policy workshop::model_reward(const std::string& name, const reward_data& data, int member) {
  scalar_policy model = new_critic();
  if (done(name)) {
    load_reward_model(folder.model(name), subject.shape, model.parameters());
    model.use(scoring);
    return model;
  }
  const win_law law = train_reward(name, model, data, member);
  model.use(scoring);
  if (data.held_out.chosen.size() > 0)
    judge_by_pairs(name, model, data.held_out, law);
  else if (data.held_out_labels.response.size() > 0)
    judge_by_labels(name, model, data.held_out_labels);
  save_reward_model(folder.model(name), subject.shape, model.parameters());
  close(name);
  return model;
}

void workshop::judge_by_pairs(const std::string& name, scalar_policy& model, const rlhf::preference_pairs& held_out,
                              const win_law& law) {
  std::vector<float> chosen(static_cast<std::size_t>(held_out.chosen.size())), rejected(chosen.size());
  model.rewards(held_out.chosen, chosen);
  model.rewards(held_out.rejected, rejected);
  double right = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i)
    right += chosen[i] > rejected[i] ? 1 : chosen[i] == rejected[i] ? 0.5 : 0;
  told(name, "pairs", right, chosen.size());
  if (subject.judge_pairs) results_.tables[name] = subject.judge_pairs(chosen, rejected, law);
}

void workshop::judge_by_labels(const std::string& name, scalar_policy& model,
                               const rlhf::labelled_responses& held_out) {
  std::vector<float> score(held_out.label.size());
  model.rewards(held_out.response, score);
  double right = 0, good = 0;
  for (std::size_t i = 0; i < score.size(); ++i) {
    right += (score[i] > 0) == (held_out.label[i] > 0.5f) ? 1 : 0;
    good += held_out.label[i] > 0.5f ? 1 : 0;
  }
  const auto all = static_cast<double>(score.size());
  results_.figures[name + "_commoner_label"] = std::max(good, all - good) / all;
  told(name, "labels", right, score.size());
}

void workshop::told(const std::string& name, const char* of, double right, std::size_t all) {
  results_.figures[name + "_accuracy"] = right / static_cast<double>(all);
  results_.figures[name + "_" + of] = static_cast<double>(all);
  if (!quiet)
    std::fprintf(stderr, "%-14s right on %.3f of %zu held-out %s\n", name.c_str(), right / static_cast<double>(all),
                 all, of);
}

const rlhf::preference_pairs& workshop::pairs() {
  if (!pairs_) pairs_ = subject.preference.chosen.size() > 0 ? subject.preference : judged_pairs();
  return *pairs_;
}

const rlhf::labelled_responses& workshop::labels() {
  if (!labels_)
    labels_ = subject.reward.labels.response.size() > 0 ? subject.reward.labels : rlhf::label_pairs(pairs(), 1, 0);
  return *labels_;
}

/// Pairs of the start's own samples, labelled by the Bradley-Terry law of the reward.
rlhf::preference_pairs workshop::judged_pairs() {
  begin_prompts();
  const rlhf::responses drawn = start().sample(turn(prompts_, 0, sizes.preference_pairs), 2, key(pair_choice + 100));
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  reward().rewards(drawn, score);
  const rlhf::random_numbers label(key(pair_choice + 101));
  rlhf::preference_pairs out;
  for (std::int64_t i = 0; i + 1 < drawn.size(); i += 2) {
    const double gap = static_cast<double>(score[static_cast<std::size_t>(i)] - score[static_cast<std::size_t>(i) + 1]);
    const bool first = label.uniform({.prompt = static_cast<std::uint32_t>(i)}) < rlhf::sigmoid(gap);
    out.chosen.add(drawn, first ? i : i + 1);
    out.rejected.add(drawn, first ? i + 1 : i);
  }
  return out;
}

void workshop::measure_start() {
  const rlhf::evaluation e =
      rlhf::evaluate(start(), start(), reward(), judged_prompts(sizes.judged), 1, key(evaluation));
  results_.figures["start_reward"] = e.reward;
  results_.figures["start_kl"] = e.kl;
  results_.figures["reward_deviation"] = e.reward_deviation;
  results_.figures["start_length"] = e.length;
}

const std::vector<float>& workshop::scores_to_beat() {
  if (!scores_to_beat_.empty()) return scores_to_beat_;
  const rlhf::responses drawn = start().sample(judged_prompts(sizes.judged), 1, key(opponents));
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  reward().rewards(drawn, score);
  scores_to_beat_ = std::move(score);
  return scores_to_beat_;
}

void workshop::measure(const std::string& method, policy& model, stage_position at, std::int64_t iteration,
                       double seconds, const reward_function* proxy) {
  const uncounted these = judging();
  double promised = 0, wins = 0;
  const reward_function both([&](const rlhf::responses& batch, std::span<float> out) {
    if (proxy != nullptr) {
      proxy->rewards(batch, out);
      promised = 0;
      for (const float x : out) promised += static_cast<double>(x) / static_cast<double>(out.size());
    }
    reward().rewards(batch, out);
    wins = rlhf::compare_scores(out, scores_to_beat()).rate;
  });
  const auto point = [&](policy& of, std::int64_t count, std::int64_t tokens, double taken) {
    const rlhf::evaluation e = rlhf::evaluate(of, start(), both, judged_prompts(sizes.judged), 1, key(evaluation));
    results_.points.push_back(
        {method, asked.seed, count, e.reward, e.kl, tokens, taken, promised, proxy != nullptr, e.length, wins});
  };
  const bool first =
      std::none_of(results_.points.begin(), results_.points.end(), [&](const auto& p) { return p.method == method; });
  if (first) point(start(), 0, 0, 0);
  const std::shared_ptr<pass_memory> own = model.use(scoring);
  const sampling_law law = model.draw_by({});
  point(model, iteration, at.tokens, seconds);
  model.draw_by(law);
  model.use(own);
}

void workshop::show(const std::string& method, policy& model) {
  const std::int64_t lines = subject.what == subject::names ? 12 : 8;
  const sampling_law law = model.draw_by({});
  const rlhf::responses drawn = model.sample(judged_prompts(lines), 1, key(texts));
  model.draw_by(law);
  sample_text text{method, {}};
  for (std::int64_t i = 0; i < drawn.size(); ++i)
    text.samples.push_back({subject.text(drawn.prompt(i)), subject.text(drawn.response(i))});
  results_.samples.push_back(std::move(text));
  double reached = results_.figures["start_reward"], kl = 0, seconds = 0;
  for (const curve_point& p : results_.points)
    if (p.method == method) reached = p.reward, kl = p.kl, seconds = p.seconds;
  if (quiet) return;
  const std::int64_t mebibytes = results_.peaks.contains(method) ? results_.peaks[method] >> 20 : 0;
  std::fprintf(stderr, "%-14s reward %.2f at %.2f nats, %.1f s", method.c_str(), reached, kl, seconds);
  if (mebibytes > 0) std::fprintf(stderr, ", %lld MiB", static_cast<long long>(mebibytes));
  std::fputs("\n", stderr);
}

void workshop::best_of_n() {
  show("start", start());
  const stopwatch watch;
  // As many samples of each prompt as the largest n; every prompt's own frontier counts the same.
  const bool one_prompt = judged_.size() == 1;
  const std::int64_t n = one_prompt ? sizes.frontier : std::min<std::int64_t>(64, sizes.frontier),
                     count = sizes.frontier / n;
  const rlhf::responses drawn =
      start().sample(judged_prompts(one_prompt ? n : count), one_prompt ? 1 : n, key(frontier));
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  reward().rewards(drawn, score);
  std::vector<rlhf::best_of_n_point> sum;
  for (std::int64_t p = 0; p < count; ++p) {
    const std::vector<float> one(score.begin() + p * n, score.begin() + (p + 1) * n);
    const auto curve = rlhf::best_of_n(one, {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128});
    sum.resize(curve.size());
    for (std::size_t i = 0; i < curve.size(); ++i)
      sum[i] = {curve[i].n, sum[i].reward + curve[i].reward / static_cast<double>(count), curve[i].kl};
  }
  const std::int64_t length = drawn.response_tokens() / std::max<std::int64_t>(1, drawn.size());
  for (const auto& p : sum)
    results_.points.push_back({"best_of_n", asked.seed, p.n - 1, p.reward, p.kl, p.n * length, watch.seconds()});
}

void workshop::count_memory() {
  release({learning, valuing, scoring});
  forget_peak_memory();
}

method_memory workshop::counted_memory(const std::vector<trained_part>& parts) const {
  method_memory out;
  std::map<const float*, std::int64_t> models, copies;
  for (const pass_memory* of : {learning.get(), valuing.get(), scoring.get()}) {
    out.activations += of->counted.most;
    models.insert(of->counted.models.begin(), of->counted.models.end());
    copies.insert(of->counted.copies.begin(), of->counted.copies.end());
  }
  for (const trained_part& part : parts) {
    // Of what learns there is a gradient, and moments as soon as there was an update.
    out.trainable += static_cast<std::int64_t>(
        2 * part.values.size_bytes() +
        sizeof(float) * (part.optimiser->first_moment.size() + part.optimiser->second_moment.size()));
    models.erase(part.values.data());
  }
  for (const auto& [place, bytes] : copies) {
    out.activations += bytes;
    models.erase(place);
  }
  for (const auto& [place, bytes] : models) out.frozen += bytes;
  return out;
}

double workshop::seconds_of(const std::string& method) const {
  double seconds = 0;
  for (const curve_point& p : results_.points)
    if (p.method == method) seconds = p.seconds;
  return seconds;
}

void workshop::keep(const std::string& name, const policy& model) {
  save_llama_safetensors(folder.model(name), {subject.shape, model.model().parameters});
  close(name);
}

policy workshop::loaded(const std::string& name) {
  return policy(
      cpu, pool,
      language_model<float>(subject.shape, load_llama_safetensors(folder.model(name)).parameters, storage_of(asked)),
      limits(), scoring);
}

void workshop::finish_run() {
  results_.seconds = all_.seconds();
  folder.finish_run(results_, all_.seconds());
}

course::course(workshop& w, std::string method, policy& model, std::vector<trained_part> parts,
               const reward_function* proxy)
    : w_(w),
      method_(std::move(method)),
      model_(model),
      parts_(std::move(parts)),
      proxy_(proxy),
      at_(w.folder.restore(method_, parts_)),
      watch_(w.seconds_of(method_)),
      line_(method_, w.sizes.iterations, "iterations", at_.steps) {
  w_.count_memory();
}

course::course(workshop& w, std::string method, policy& model, std::vector<trained_part> parts, std::int64_t steps,
               std::int64_t epochs, std::int64_t tokens)
    : w_(w),
      method_(std::move(method)),
      model_(model),
      parts_(std::move(parts)),
      every_(std::max<std::int64_t>(1, steps / w.sizes.iterations)),
      epochs_(epochs),
      tokens_(tokens),
      at_(w.folder.restore(method_, parts_)),
      watch_(w.seconds_of(method_)),
      line_(method_, steps, "updates", at_.steps) {
  w_.count_memory();
}

bool course::too_far() {
  const curve_point& last = w_.results().points.back();
  const double most = w_.sizes.most_kl;
  if (most == 0 || last.kl <= most) return false;
  w_.results().figures[method_ + "_ended_after"] = static_cast<double>(last.iteration);
  if (!w_.quiet)
    std::fprintf(stderr, "%-14s ends after evaluation %lld: %.2f nats to the start are more than --most-kl %g\n",
                 method_.c_str(), static_cast<long long>(last.iteration), last.kl, most);
  return true;
}

bool course::operator()(const rlhf::iteration& i) {
  watch_.stop();
  w_.folder.log(method_, i.number, with_tokens(*i.metrics, i.tokens));
  at_ = {i.number, i.tokens};
  note_memory();
  w_.measure(method_, model_, at_, i.number, watch_.seconds(), proxy_);
  const curve_point& last = w_.results().points.back();
  line_.update(i.number, "reward " + number("%.2f", last.reward) + ", kl " + number("%.2f", last.kl) + ", length " +
                             number("%.1f", last.length) + ", lr " + number("%.2g", (*i.metrics)["learning_rate"]));
  // The end is in the checkpoint of the finished stage: a run that is killed before it makes this iteration again.
  const bool on = i.number == i.of || !too_far();
  if (on) w_.save(method_, at_, parts_);
  watch_.go();
  return on;
}

bool course::operator()(const rlhf::progress& p) {
  line_.update(
      p.step, "loss " + number("%.3f", (*p.metrics)["loss"]) + ", lr " + number("%.2g", (*p.metrics)["learning_rate"]));
  at_ = {p.step, std::min(tokens_, tokens_ * epochs_ * p.step / p.steps)};  // later epochs read nothing new
  w_.folder.log(method_, p.step, with_tokens(*p.metrics, at_.tokens));
  const bool judged = p.step % every_ == 0 || p.step == p.steps;
  if (judged || w_.due(p.step)) note_memory();
  if (judged) {
    watch_.stop();
    w_.measure(method_, model_, at_, (p.step + every_ - 1) / every_, watch_.seconds());
  }
  const bool on = !judged || p.step == p.steps || !too_far();
  if (on && (judged || w_.due(p.step))) w_.save(method_, at_, parts_);
  if (judged) watch_.go();
  return on;
}

/// The most so far: of a run that was interrupted, before that too.
void course::note_memory() {
  const method_memory now = w_.counted_memory(parts_);
  method_memory& most = w_.results().memory[method_];
  most = {std::max(most.trainable, now.trainable), std::max(most.frozen, now.frozen),
          std::max(most.activations, now.activations)};
  std::int64_t& peak = w_.results().peaks[method_];
  peak = std::max(peak, peak_memory());
}

void course::finish() {
  note_memory();
  w_.show(method_, model_);
  w_.keep(method_, model_);
}

}  // namespace align
