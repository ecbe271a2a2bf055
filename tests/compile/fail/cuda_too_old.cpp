// expect: rlhf: the CUDA backend needs CUDA 13.0 or later
#define __CUDACC__
#define __CUDACC_VER_MAJOR__ 12
#include <rlhf/backend/cuda.cuh>
