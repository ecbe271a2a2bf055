#pragma once
// A small decoder-only transformer of Llama's shape, with exact gradients, for the demonstrations and tests.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "align/model/batch.hpp"
#include "align/model/parameters.hpp"
#include "rlhf/backend/thread_pool.hpp"
#include "rlhf/math/random.hpp"

namespace align {

/// Gradients of a loss by what the model put out. An empty span is an output that the loss does not use.
template <class Scalar>
struct output_gradient {
  std::span<const std::int64_t> rows = {};  ///< tokens whose logits were read, ascending
  std::span<const Scalar> logits = {};      ///< [rows, vocabulary]
  std::span<const Scalar> hidden = {};      ///< [tokens, dimension]
};

template <class Scalar>
class transformer;

/// What a forward pass keeps of the activations inside its layers, for the backward pass.
enum class activation_storage : std::uint8_t {
  none,      ///< nothing: outputs can be read, and there is no way back
  full,      ///< what was computed
  bfloat16,  ///< rounded, in half the memory of float; scales of norms and softmaxes are not rounded
};

/// How the weights that passes and the sampler read are stored.
///
/// `bfloat16`: every parameter of the transformer (embeddings, matrices, norms) is rounded to bfloat16, to nearest even, where a pass
/// or the sampler begins; they read nothing else, and widen it in registers. What they give, gradients too, is to the bit that
/// of `full` at parameters that were rounded before: the gradient is taken at the rounded weights and given to the parameters as they are
/// (a straight-through estimate). Panels of matrices then take half the memory. Not rounded are activations (see above), sums, gradients, the
/// optimiser's moments, heads of scalar models, and the parameters themselves, which updates go to and files hold: an update smaller
/// than bfloat16 can tell is not lost. Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.1 (a master copy of weights);
/// Kalamkar et al. 2019, arXiv 1905.12322 (bfloat16).
enum class parameter_storage : std::uint8_t {
  full,      ///< as they are
  bfloat16,  ///< rounded, in half the memory of float
};

/// What a forward pass leaves for the output and the backward pass. Reusable: it allocates only when a batch is larger
/// than all before. It belongs to one thread, which may hand it to any model.
template <class Scalar>
class workspace {
 public:
  workspace();
  ~workspace();
  workspace(workspace&&) noexcept;
  workspace& operator=(workspace&&) noexcept;

  /// Tokens of the last forward pass.
  [[nodiscard]] std::int64_t tokens() const;
  /// Memory of the activations that the last forward pass kept.
  [[nodiscard]] std::int64_t activation_bytes() const;
  /// Memory that the last forward pass and the last way back asked for, all of it: what was kept, scratch of every thread, weights
  /// in the layout of the matrix products, partial gradients, the batch.
  [[nodiscard]] std::int64_t bytes() const;
  /// Memory of the weights as the last passes read them.
  [[nodiscard]] std::int64_t parameter_bytes() const;
  /// The last hidden state of a token (after the final norm) [dimension].
  [[nodiscard]] std::span<const Scalar> hidden(std::int64_t token) const;

 private:
  friend class transformer<Scalar>;
  struct state;
  std::unique_ptr<state> state_;
};

/// Memory of the activations that a forward pass over so many tokens keeps, at most, where no sequence is longer than
/// the chunks that are computed at once: what a network takes besides parameters, their gradients and two moments.
template <class Scalar>
[[nodiscard]] std::int64_t activation_bytes(const transformer_options& options, std::int64_t tokens,
                                            activation_storage keep);

/// Memory of the weights as passes read them, beside the parameters: a copy for the forward pass, and one for the backward pass where
/// there is a `way_back`.
template <class Scalar>
[[nodiscard]] std::int64_t parameter_bytes(const transformer_options& options, parameter_storage storage,
                                           bool way_back = true);

/// The architecture: a pure function of (parameters, tokens) and its gradient. It holds no parameters, so a reference,
/// a best or an averaged model is just another array.
///
/// Token embedding; per layer x += attention(norm(x)), x += swiglu(norm(x)) with RMSNorm, rotary positions and
/// grouped-query attention; a final norm; logits by the transposed embedding (tied head). Position 0 is the first token
/// of each sequence.
///
/// Results are the same bits for any number of threads: the batch is cut into chunks of whole sequences by their
/// lengths alone, and gradients are added up in the order of the chunks. A token's output does not even depend on the
/// rest of the batch. Wrong sizes, tokens or options throw std::invalid_argument.
/// Source: Touvron et al. 2023, arXiv 2302.13971, section 2.2.
template <class Scalar>
class transformer {
 public:
  explicit transformer(const transformer_options& options = {}, parameter_storage storage = parameter_storage::full);

  [[nodiscard]] const transformer_options& options() const { return options_; }
  [[nodiscard]] parameter_storage storage() const { return storage_; }
  /// Number of parameters.
  [[nodiscard]] std::int64_t size() const { return size_; }
  /// All tensors, in the order of the flat array, without gaps.
  [[nodiscard]] const std::vector<parameter_slice>& slices() const { return slices_; }
  /// The slice of that name.
  [[nodiscard]] const parameter_slice& slice(const std::string& name) const;

  /// Cosines, then sines, of the rotary angles [context, dimension / heads].
  [[nodiscard]] const std::vector<Scalar>& rotations() const { return rotations_; }

  /// Random initial parameters [size()]: normal with deviation 1/sqrt(inputs), smaller by sqrt(2 layers) where a branch
  /// joins the residual stream; norms 1.
  void initialize(std::span<Scalar> parameters, rlhf::random_key key) const;

  /// Computes the hidden states of all tokens into `work`.
  void forward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, const token_batch& batch,
               workspace<Scalar>& work, activation_storage keep = activation_storage::full) const;

  /// logits [rows, vocabulary] of the tokens `rows` (ascending indices) of the last forward pass.
  void logits(rlhf::thread_pool& pool, const workspace<Scalar>& work, std::span<const std::int64_t> rows,
              std::span<Scalar> logits) const;

  /// gradient [size()] += that of the loss, with the parameters of the last forward pass.
  void backward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, workspace<Scalar>& work,
                const output_gradient<Scalar>& output, std::span<Scalar> gradient) const;

 private:
  transformer_options options_;
  parameter_storage storage_;
  std::vector<parameter_slice> slices_;
  std::vector<Scalar> rotations_;
  std::int64_t size_ = 0;
};

extern template class transformer<float>;
extern template class transformer<double>;
extern template class workspace<float>;
extern template class workspace<double>;
extern template std::int64_t activation_bytes<float>(const transformer_options&, std::int64_t, activation_storage);
extern template std::int64_t activation_bytes<double>(const transformer_options&, std::int64_t, activation_storage);
extern template std::int64_t parameter_bytes<float>(const transformer_options&, parameter_storage, bool);
extern template std::int64_t parameter_bytes<double>(const transformer_options&, parameter_storage, bool);

}  // namespace align
