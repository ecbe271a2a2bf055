// expect: (could not convert|no known conversion).*host_space.*cuda_space
#include <rlhf/core/view.hpp>

void on_device(rlhf::view<const float, 1, rlhf::cuda_space>);

void call(rlhf::view<const float> host, rlhf::view<const float, 1, rlhf::cuda_space> device) {
  on_device(device);
#ifdef MUST_FAIL
  on_device(host);
#endif
}
