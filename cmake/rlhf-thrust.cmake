# Makes the imported target rlhf_thrust_cpp: Thrust on its CPP system, for any C++ compiler, no CUDA needed to build or run.
# Used by the project and, installed beside rlhf-config.cmake, by those who ask for the component `thrust`.
# CCCL first (on its own or inside a CUDA toolkit), then a Thrust of its own (Debian's libthrust-dev).

if(NOT TARGET rlhf_thrust_cpp)
  if(NOT COMMAND thrust_create_target)
    find_package(CCCL CONFIG QUIET)
  endif()
  if(NOT COMMAND thrust_create_target)
    find_package(CUDAToolkit QUIET)
    if(CUDAToolkit_FOUND)
      find_package(CCCL CONFIG QUIET
        HINTS "${CUDAToolkit_LIBRARY_DIR}/cmake" "${CUDAToolkit_LIBRARY_ROOT}/lib64/cmake" "${CUDAToolkit_TARGET_DIR}/lib/cmake")
    endif()
  endif()
  if(NOT COMMAND thrust_create_target)
    find_package(Thrust CONFIG QUIET)
  endif()
  if(COMMAND thrust_create_target)
    thrust_create_target(rlhf_thrust_cpp HOST CPP DEVICE CPP GLOBAL)
    set_property(TARGET rlhf_thrust_cpp APPEND PROPERTY INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
      $<TARGET_PROPERTY:rlhf_thrust_cpp,INTERFACE_INCLUDE_DIRECTORIES>)
  endif()
endif()

# rlhf_thrust_system(target system [libraries]): Thrust on another of its CPU systems, OMP or TBB, as a target. Everything in one
# translation unit is for one system; units for different ones may be linked together.
function(rlhf_thrust_system target system)
  add_library(${target} INTERFACE)
  foreach(property INTERFACE_INCLUDE_DIRECTORIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES)
    set_target_properties(${target} PROPERTIES ${property} $<TARGET_PROPERTY:rlhf_thrust_cpp,${property}>)
  endforeach()
  target_compile_definitions(${target} INTERFACE
    THRUST_HOST_SYSTEM=THRUST_HOST_SYSTEM_CPP THRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_${system})
  target_link_libraries(${target} INTERFACE ${ARGN})
endfunction()
