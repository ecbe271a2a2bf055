// expect: rlhf: rlhf/backend/cuda.cuh is for nvcc
#include <rlhf/backend/cuda.cuh>
