// expect: rlhf: the Eigen backend is for C\+\+ compilers
// What nvcc's host pass would see.
#define __CUDACC__
#define __host__
#define __device__
#include <rlhf/backend/eigen.hpp>
