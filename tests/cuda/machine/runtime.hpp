#pragma once
// What other libraries over the runtime need of it.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace ptx {

/// Does something when the stream comes to it, or in each launch of the graph that is captured.
cudaError_t later(cudaStream_t stream, std::function<void()> task);
/// The bytes behind [p, p + bytes) of device memory, checked as a kernel's accesses are. Throws fault.
[[nodiscard]] const unsigned char* to_read(const void* p, std::size_t bytes);
[[nodiscard]] unsigned char* to_write(void* p, std::size_t bytes);

}  // namespace ptx
