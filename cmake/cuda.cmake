# The CUDA language where nvcc is found. CMake 3.25 does not know how to ask nvcc for C++20, so the flags are spelled out.

include(CheckLanguage)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real)  # `native` would fail on a machine without a GPU
endif()
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  set(RLHF_NVCC ${CMAKE_CUDA_COMPILER})
  add_library(rlhf_cuda_flags INTERFACE)
  target_compile_options(rlhf_cuda_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --extended-lambda --expt-relaxed-constexpr --diag-suppress=20012>)
elseif(RLHF_CUDA STREQUAL "ON")
  message(FATAL_ERROR "rlhf: RLHF_CUDA is ON, but nvcc was not found (the CUDA toolkit, 13.0 or later)")
else()
  message(STATUS "rlhf: nvcc was not found (the CUDA toolkit, 13.0 or later), .cu files are not compiled")
endif()
