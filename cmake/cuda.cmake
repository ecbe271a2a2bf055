# The CUDA language where nvcc is found. CMake 3.25 does not know how to ask nvcc for C++20, so the flags are spelled out.

include(CheckLanguage)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # `native` would fail on a machine without a GPU.
  find_program(RLHF_NVIDIA_SMI nvidia-smi)
  set(devices "")
  if(RLHF_NVIDIA_SMI)
    execute_process(COMMAND ${RLHF_NVIDIA_SMI} --list-gpus OUTPUT_VARIABLE devices ERROR_QUIET)
  endif()
  if(devices MATCHES "GPU 0")
    set(CMAKE_CUDA_ARCHITECTURES native)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 90-real)
  endif()
endif()
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  set(RLHF_NVCC ${CMAKE_CUDA_COMPILER})
  add_library(rlhf_cuda_flags INTERFACE)
  target_compile_options(rlhf_cuda_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --extended-lambda --expt-relaxed-constexpr --diag-suppress=20012
      -Xcompiler=-Wall,-Wextra>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${RLHF_WERROR}>>:--Werror=all-warnings>)
elseif(RLHF_CUDA STREQUAL "ON")
  message(FATAL_ERROR "rlhf: RLHF_CUDA is ON, but nvcc was not found (the CUDA toolkit, 13.0 or later)")
else()
  message(STATUS "rlhf: nvcc was not found (the CUDA toolkit, 13.0 or later), .cu files are not compiled")
endif()
