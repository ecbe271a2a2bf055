#pragma once
// The last layer and the loss in one: hidden states to loss and gradients, a chunk of tokens at a time.

#include "rlhf/driver/fill.hpp"
#include "rlhf/driver/fused_linear_losses.hpp"
#include "rlhf/driver/plain_product.hpp"
#include "rlhf/driver/token_logp.hpp"

namespace rlhf::inline v1 {

/// Memory that fused_linear takes for itself, in elements; the loss takes its own.
struct linear_workspace {
  std::int64_t logits = 0;  ///< L: the chunks of logits that exist at one time
  std::int64_t hidden = 0;  ///< L: one chunk of hidden states without those that do not count
  std::int64_t streams =
      0;  ///< arithmetic type: log-probabilities, their log-sum-exp, entropies and gradients of all tokens
  std::int64_t tokens = 0;  ///< bytes of a mask, and cleaned targets
  std::int64_t ones = 0;    ///< L: for the gradient of the bias

  template <class L, class Index = std::int32_t>
  [[nodiscard]] constexpr std::int64_t bytes() const {
    return (logits + hidden + ones) * static_cast<std::int64_t>(sizeof(L)) +
           streams * static_cast<std::int64_t>(sizeof(compute_t<L>)) +
           tokens * static_cast<std::int64_t>(1 + sizeof(Index));
  }
};

/// \f$ z = hW + b \f$, log-probabilities, loss, and the gradients of h, W and b, over `chunk` tokens at a time: of the logits
/// [tokens, vocabulary] no more than `chunk` rows (`kept` chunks for losses that couple tokens) exist at one time.
///
/// The losses are the drivers themselves, seen through `over_tokens`, `over_pairs`, `over_rows` or `over_all`
/// (fused_linear_losses.hpp): denominators are those of the whole call, so the result does not depend on `chunk` beyond
/// rounding. Where a token's gradient needs no other token (policy_loss without sequence ratios, divergences) each chunk goes
/// forward and backward at once: three products. Where it does (pairs, whole sequences) all log-probabilities come first, and
/// logits that are no longer there are computed again: a fourth product, for all but the last `kept` chunks.
///
/// Logits are rounded to L, as a layer of its own would write them; the gradient lies over them. Without gradients asked for
/// only the loss is computed. The one mask of the call is `linear_inputs::mask` (and the ignored targets). Masked tokens: hidden
/// states, targets and streams may be anything; their grad_hidden is exactly 0. Columns of the weight and the bias beyond the vocabulary are never read; their
/// gradients are 0 (untouched with `add`). Empty: the gradients are 0 (untouched with `add`) and the loss's `errc::empty_mask`. Errors: null, shape, stride,
/// argument, index, memory, before anything is written, and those of the loss.
/// Memory: `workspace`. Cost: the products, token_logp and token_logp_backward.
/// Source: chunked language-model heads as in Liger-Kernel (Hsu et al. 2024, arXiv 2410.10989, section 3.2); catalogue L-11.
template <class Product = plain_product>
struct fused_linear {
  Product product{};
  std::int64_t chunk = 1024;  ///< tokens whose logits exist at one time, at most
  std::int64_t kept = 1;      ///< chunks of logits kept from the forward pass, for losses that couple tokens

  [[nodiscard]] constexpr status check() const {
    if (chunk < 1) return remark::argument("fused_linear", "chunk", static_cast<double>(chunk), "1 or more");
    if (kept < 1) return remark::argument("fused_linear", "kept", static_cast<double>(kept), "1 or more");
    return {};
  }

  /// Tokens in a chunk: even chunks in whole 64s, at most `chunk`. A last one of a few tokens would read the weight and its
  /// gradient for them alone.
  [[nodiscard]] constexpr std::int64_t rows(std::int64_t tokens) const {
    if (tokens < 1) return 0;
    const std::int64_t chunks = (tokens - 1) / chunk + 1, even = (tokens - 1) / chunks + 1;
    return std::min({chunk, tokens, (even + 63) / 64 * 64});
  }

  /// What a call needs: `coupled` for pairs and whole sequences, `entropy` where the loss reads it or it is asked for.
  [[nodiscard]] constexpr linear_workspace workspace(std::int64_t tokens, std::int64_t depth, std::int64_t columns,
                                                     bool coupled, bool entropy, bool grad_weight,
                                                     bool grad_bias) const {
    const std::int64_t each = rows(tokens), chunks = each > 0 ? (tokens - 1) / each + 1 : 0;
    linear_workspace w;
    w.logits = std::min(coupled ? kept : 1, chunks) * each * columns;
    w.hidden = grad_weight ? each * depth : 0;
    w.streams = (entropy ? 5 : 3) * tokens;
    w.tokens = tokens;
    w.ones = grad_bias ? each : 0;
    return w;
  }

  template <class B, class L, class Space, class Index, class Loss, class Hidden, class Weight>
    requires backend<B>
  status operator()(B& be, const linear_inputs<L, Space, Index>& in, const Loss& loss,
                    const linear_outputs<L, Space, Hidden, Weight>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(matrix_product<Product, B, L, L> && matrix_product<Product, B, L, Hidden> &&
                      matrix_product<Product, B, L, Weight>,
                  "rlhf: a matrix product is a struct with `status operator()(B&, const factor<L, Space>& a, "
                  "const factor<L, Space>& b, const view<C, 2, Space>& c, bool add) const` (rlhf/math/product.hpp)");
    static_assert(std::signed_integral<Index>,
                  "rlhf: targets are signed: ignore_index, which stands for masked tokens too, is negative");
    using T = compute_t<L>;
    constexpr const char* name = "fused_linear";
    if (auto s = check(); !s) return s;
    run<B, L, Space, Index, Hidden, Weight> call{be, *this, in, out};
    if (auto s = call.check(name, !Loss::of_logits); !s) return s;

    const bool entropy = loss.reads_entropy() || out.entropy;
    const auto need = workspace(call.tokens, in.head.depth(), in.head.columns(), !Loss::by_parts, entropy,
                                static_cast<bool>(out.grad_weight), static_cast<bool>(out.grad_bias));
    auto logits = be.template scratch<L>(need.logits);
    auto hidden = be.template scratch<L>(need.hidden);
    auto ones = be.template scratch<L>(need.ones);
    auto streams = be.template scratch<T>(need.streams);
    auto live = be.template scratch<std::uint8_t>(need.tokens);
    auto target = be.template scratch<Index>(need.tokens);
    auto outside = be.template scratch<totals<1>>(1);
    if (!logits.data() || !hidden.data() || !ones.data() || !streams.data() || !live.data() || !target.data() ||
        !outside.data())
      return remark::memory(name);
    call.rows = rows(call.tokens);
    call.slots = call.rows > 0 ? need.logits / (call.rows * in.head.columns()) : 0;
    call.logits = logits.data();
    call.hidden = hidden.data();
    call.ones = ones.data();
    call.live = live.data();
    call.target = target.data();
    const auto stream = [&](std::int64_t k) {
      return view<T, 1, Space>(streams.data() + k * call.tokens, call.tokens);
    };
    call.all.logp = out.logp ? out.logp : stream(0);
    call.all.grad_logp = stream(2);
    call.lse = stream(1);
    if (entropy) {
      call.all.entropy = out.entropy ? out.entropy : stream(3);
      if (loss.reads_entropy()) call.all.grad_entropy = stream(4);
    }

    if (auto s = be.map(call.tokens,
                        linear_detail::mark_live<Index, Space>{in.target, in.mask, call.vocabulary, in.ignore_index,
                                                               live.data(), target.data()},
                        outside.data());
        !s)
      return s;
    if constexpr (B::synchronous) {
      totals<1> bad;
      if (auto s = read_cell(be, outside.data(), bad); !s) return s;
      if (bad.sum[0] > 0)
        return {
            errc::index, name, "target", "outside the vocabulary in rows:", bad.sum[0], 0, "0 <= target < vocabulary"};
    }
    if (need.ones > 0)
      if (auto s = be.map(need.ones, fill<L>{ones.data(), L(1.0f)}, nullptr); !s) return s;

    auto counted = in;
    counted.mask = call.all.mask = view<const std::uint8_t, 1, Space>(live.data(), call.tokens);
    counted.target = {target.data(), call.tokens};
    auto session = loss.template open<L, Index>(be, product, counted, call.all, call.rows);
    if (auto s = session.check(); !s) return s;
    if (call.tokens == 0)
      if (auto s = call.clear(0); !s) return s;
    const std::int64_t chunks = call.rows > 0 ? (call.tokens - 1) / call.rows + 1 : 0;
    const bool backward = out.grad_hidden || out.grad_weight || out.grad_bias;
    if constexpr (Loss::of_logits) {
      for (std::int64_t c = 0; c < chunks; ++c) {
        if (auto s = call.make_logits(c); !s) return s;
        if (auto s = session.run(call.begin(c), call.logits_at(c)); !s) return s;
        if (backward)
          if (auto s = call.back(c); !s) return s;
      }
    } else if constexpr (Loss::by_parts) {
      for (std::int64_t c = 0; c < chunks; ++c) {
        if (auto s = call.forward(c); !s) return s;
        if (auto s = session.run(call.begin(c), call.count(c)); !s) return s;
        if (backward)
          if (auto s = call.backward(c); !s) return s;
      }
    } else {
      for (std::int64_t c = 0; c < chunks; ++c)
        if (auto s = call.forward(c); !s) return s;
      if (auto s = session.run(0, call.tokens); !s && s.code != errc::empty_mask) return s;
      // Backwards: the logits of the last chunks are still there.
      for (std::int64_t c = chunks - 1; backward && c >= 0; --c) {
        if (c < chunks - call.slots)
          if (auto s = call.make_logits(c); !s) return s;
        if (auto s = call.backward(c); !s) return s;
      }
    }
    return session.finish();
  }

 private:
  /// One call: its views by chunk, and the steps that a chunk goes through.
  template <class B, class L, class Space, class Index, class Hidden, class Weight>
  struct run {
    using T = compute_t<L>;
    B& be;
    const fused_linear& how;
    const linear_inputs<L, Space, Index>& in;
    const linear_outputs<L, Space, Hidden, Weight>& out;
    std::int64_t tokens = in.head.tokens();
    std::int64_t vocabulary = in.vocabulary > 0 ? in.vocabulary : in.head.columns();
    linear_head<L, Space> head = linear_detail::columns_of(in.head, vocabulary);
    std::int64_t rows = 0, slots = 0;
    L *logits = nullptr, *hidden = nullptr, *ones = nullptr;
    std::uint8_t* live = nullptr;
    Index* target = nullptr;
    linear_streams<T, Space> all{};
    view<T, 1, Space> lse{};
    bool first = true;  // the first chunk that goes backward overwrites

    [[nodiscard]] std::int64_t begin(std::int64_t c) const { return c * rows; }
    [[nodiscard]] std::int64_t count(std::int64_t c) const { return std::min(rows, tokens - c * rows); }
    [[nodiscard]] view<L, 2, Space> logits_at(std::int64_t c) const {
      const std::int64_t pitch = in.head.columns();
      return {logits + c % slots * rows * pitch, count(c), vocabulary, pitch};
    }
    [[nodiscard]] logits_inputs<L, Space, Index> scored(std::int64_t c) const {
      return {logits_at(c), view<const Index, 1, Space>(target + begin(c), count(c)), vocabulary, in.temperature,
              in.ignore_index};
    }
    template <class V>
    [[nodiscard]] V of(const V& v, std::int64_t c) const {
      return linear_detail::part_of(v, begin(c), count(c));
    }

    [[nodiscard]] status make_logits(std::int64_t c) {
      return linear_detail::logits_of(be, how.product, head, begin(c), logits_at(c));
    }
    [[nodiscard]] status forward(std::int64_t c) {
      if (auto s = make_logits(c); !s) return s;
      logp_outputs<T, Space> to;
      to.logp = of(all.logp, c);
      to.entropy = of(all.entropy, c);
      to.lse = of(lse, c);
      to.stats = out.stats;
      return token_logp(be, scored(c), to);
    }
    [[nodiscard]] status backward(std::int64_t c) {
      logp_gradients<T, Space> from;
      from.lse = of(lse, c);
      from.grad_logp = of(all.grad_logp, c);
      if (all.grad_entropy) {
        from.entropy = of(all.entropy, c);
        from.grad_entropy = of(all.grad_entropy, c);
      }
      if (auto s = token_logp_backward(be, scored(c), from, logits_at(c)); !s) return s;
      return back(c);
    }
    /// From the gradient that lies over the logits to those of the layer.
    [[nodiscard]] status back(std::int64_t c) {
      const view<const L, 2, Space> slope(logits_at(c));
      if (out.grad_hidden)
        if (auto s = how.product(be, factor<L, Space>{slope, false}, factor<L, Space>{head.weight, !head.transposed},
                                 linear_detail::rows_of(out.grad_hidden, begin(c), count(c)), false);
            !s)
          return s;
      const bool add = out.add || !first;
      if (!add)
        if (auto s = clear(vocabulary); !s) return s;
      first = false;
      if (out.grad_weight) {
        const view<L, 2, Space> counted(hidden, count(c), in.head.depth());
        if (auto s = be.rows(count(c),
                             linear_detail::live_rows<T, L, Space>{
                                 linear_detail::rows_of(in.head.hidden, begin(c), count(c)), counted, live + begin(c)},
                             nullptr);
            !s)
          return s;
        auto to = out.grad_weight;
        (head.transposed ? to.rows : to.columns) = vocabulary;
        const factor<L, Space> h{counted, !head.transposed}, g{slope, head.transposed};
        if (auto s = head.transposed ? how.product(be, g, h, to, add) : how.product(be, h, g, to, add); !s) return s;
      }
      if (out.grad_bias) {
        const view<const L, 2, Space> one(ones, 1, count(c));
        return how.product(be, factor<L, Space>{one, false}, factor<L, Space>{slope, false},
                           view<Weight, 2, Space>(out.grad_bias.data, 1, vocabulary), add);
      }
      return {};
    }
    /// The gradients of columns that no token reads: those from `begin` on.
    [[nodiscard]] status clear(std::int64_t begin) {
      const std::int64_t padding = in.head.columns() - begin;
      if (out.add || padding == 0) return {};
      using linear_detail::clear_rows;
      if (out.grad_weight) {
        auto rest = out.grad_weight;
        rest.data += in.head.transposed ? begin * rest.pitch : begin;
        (in.head.transposed ? rest.rows : rest.columns) = padding;
        if (auto s = be.rows(rest.rows, clear_rows<T, Weight, Space>{rest}, nullptr); !s) return s;
      }
      if (!out.grad_bias) return {};
      const view<Weight, 2, Space> rest(out.grad_bias.data + begin, 1, padding);
      return be.rows(1, clear_rows<T, Weight, Space>{rest}, nullptr);
    }

    [[nodiscard]] status check(const char* name, bool scores) const {
      if (auto s = linear_detail::check(in.head, name, "hidden", "weight", "bias"); !s) return s;
      if (in.vocabulary < 0 || in.vocabulary > in.head.columns())
        return {errc::shape,
                name,
                "vocabulary",
                "is",
                static_cast<double>(in.vocabulary),
                0,
                "at most the columns of the weight"};
      if (tokens > 0 && in.head.columns() == 0)
        return {errc::shape, name, "weight", "has columns:", 0, 0, "at least one"};
      if (!(in.temperature > 0)) return remark::argument(name, "temperature", in.temperature, "more than 0");
      if (scores && tokens > 0 && !in.target) return remark::null(name, "target");
      const auto sized = [&](const auto& v, const char* what, std::int64_t n) -> status {
        return !v || v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
      };
      if (auto s = sized(in.target, "target", tokens); !s) return s;
      if (auto s = sized(in.mask, "mask", tokens); !s) return s;
      if (auto s = sized(out.logp, "logp", tokens); !s) return s;
      if (auto s = sized(out.entropy, "entropy", tokens); !s) return s;
      if (auto s = sized(out.grad_bias, "grad_bias", in.head.columns()); !s) return s;
      if (out.grad_bias && out.grad_bias.stride != 1)
        return {errc::stride, name, "grad_bias", "has a stride of", static_cast<double>(out.grad_bias.stride), 0, "1"};
      const auto shaped = [&](const auto& v, const char* what, std::int64_t r, std::int64_t c) -> status {
        if (!v) return {};
        if (v.rows != r) return remark::shape(name, what, v.rows, r, "rows");
        if (v.columns != c) return remark::shape(name, what, v.columns, c, "columns");
        if (r > 1 && v.pitch < c) return remark::overlap(name, what, v.pitch);
        return {};
      };
      if (auto s = shaped(out.grad_hidden, "grad_hidden", tokens, in.head.depth()); !s) return s;
      return shaped(out.grad_weight, "grad_weight", in.head.weight.rows, in.head.weight.columns);
    }
  };
};
template <class Product>
fused_linear(Product) -> fused_linear<Product>;
template <class Product>
fused_linear(Product, std::int64_t) -> fused_linear<Product>;
template <class Product>
fused_linear(Product, std::int64_t, std::int64_t) -> fused_linear<Product>;

}  // namespace rlhf::inline v1
