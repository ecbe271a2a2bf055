// expect: (required expression|would be invalid).*segment_scan|segment_scan.*(required expression|would be invalid)
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

/// A backend somebody began to write.
struct half_a_backend {
  using space = rlhf::host_space;
  static constexpr bool deterministic = true, synchronous = true;
  rlhf::reference_backend cpu;
  template <class Kernel>
  rlhf::status map(std::int64_t n, Kernel kernel, rlhf::totals_of<Kernel>* out) {
    return cpu.map(n, kernel, out);
  }
  template <class Kernel>
  rlhf::status segment_map(const rlhf::layout<>& sequences, Kernel kernel, rlhf::totals_of<Kernel>* out) {
    return cpu.segment_map(sequences, kernel, out);
  }
  template <class Kernel>
  rlhf::status segment_reduce(const rlhf::layout<>& sequences, Kernel kernel) {
    return cpu.segment_reduce(sequences, kernel);
  }
};

#ifdef MUST_FAIL
static_assert(rlhf::backend<half_a_backend>);
#endif
static_assert(rlhf::backend<rlhf::reference_backend>);
