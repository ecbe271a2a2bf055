# How our own programs (tests, examples, benchmarks) are built. Nothing here reaches a user of the library.
#
#   rlhf_add_program(name SOURCES ... [LIBRARIES ...] [DEFINITIONS ...] [MARCH isa])
#   rlhf_add_example(NAME n SOURCES ... [LIBRARIES ...] [COST s] [ARGUMENTS ...])              program n, run by ctest as example.n
#   rlhf_add_test(NAME n SOURCES ... [LIBRARIES ...] [DEFINITIONS ...] [COST s] [LABELS ...])  a Catch2 program, one ctest test
#   rlhf_add_sanitized_test(NAME n SANITIZER address|thread SOURCES ... ...)                   the same, with ASan and UBSan, or TSan
#   rlhf_add_script(NAME n COMMAND ... [COST s] [LABELS ...])                                  a script as a ctest test
#
# COST is the expected time in seconds: ctest starts the dearest first, and gives up after twenty times that.

include(CheckCXXSourceCompiles)
include(CheckCXXSourceRuns)

option(RLHF_WERROR "Treat warnings in our own programs as errors" ON)

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)
get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()
if(NOT CMAKE_RUNTIME_OUTPUT_DIRECTORY AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endif()

# rlhf_runs_x86_64_v3(variable): whether this machine runs programs built for AVX2 and FMA.
function(rlhf_runs_x86_64_v3 variable)
  if(CMAKE_CROSSCOMPILING)
    set(${variable} OFF PARENT_SCOPE)
    return()
  endif()
  set(CMAKE_REQUIRED_FLAGS -march=x86-64-v3)
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_runs("int main() { return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") &&
      __builtin_cpu_supports(\"bmi\") && __builtin_cpu_supports(\"bmi2\") ? 0 : 1; }" RLHF_RUNS_X86_64_V3)
  set(${variable} ${RLHF_RUNS_X86_64_V3} PARENT_SCOPE)
endfunction()

if(NOT DEFINED RLHF_MARCH)
  rlhf_runs_x86_64_v3(runs)
  set(march "")
  if(runs)
    set(march x86-64-v3)
  endif()
  set(RLHF_MARCH "${march}" CACHE STRING "-march of our own programs; empty: the compiler's default")
endif()
message(STATUS "rlhf: components ${rlhf_COMPONENTS}; our programs: ${CMAKE_BUILD_TYPE}, -march=${RLHF_MARCH}")

# What the programs need and the library does not; whoever builds one asks if(TARGET nlohmann_json::nlohmann_json AND TARGET CLI11::CLI11).
find_package(nlohmann_json 3 CONFIG QUIET)
find_package(CLI11 2 CONFIG QUIET)
if(NOT TARGET nlohmann_json::nlohmann_json OR NOT TARGET CLI11::CLI11)
  message(STATUS "rlhf: the programs that read JSON or a command line are left out, they need nlohmann-json and CLI11 "
                 "(Debian: nlohmann-json3-dev, libcli11-dev; upstream: https://github.com/nlohmann/json, https://github.com/CLIUtils/CLI11)")
endif()

# ggml, for its example and its test; it stands in no release of Debian yet: CMAKE_PREFIX_PATH or ggml_DIR tells where it is. Searched
# for in a function, as its package sets variables that are nobody else's business.
function(rlhf_find_ggml)
  find_package(ggml CONFIG QUIET GLOBAL)
endfunction()
rlhf_find_ggml()
if(NOT TARGET ggml::ggml)
  message(STATUS "rlhf: the example and the test beside ggml are left out, they need it (https://github.com/ggml-org/ggml)")
endif()

# Thrust once more, on its OpenMP system.
if(TARGET rlhf_thrust)
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(TARGET OpenMP::OpenMP_CXX)
    rlhf_thrust_system(rlhf_thrust_omp OMP rlhf_core OpenMP::OpenMP_CXX)
  else()
    message(STATUS "rlhf: Thrust's OpenMP system is not tested, this compiler has no OpenMP")
  endif()
endif()

# -fno-math-errno and -fno-trapping-math keep NaN, infinities and signed zeros; -ffast-math does not and is refused.
add_library(rlhf_numerics INTERFACE)
target_compile_options(rlhf_numerics INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno -fno-trapping-math>)  # Release has -O3 from CMake
add_library(rlhf_warnings INTERFACE)
target_compile_options(rlhf_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow $<$<BOOL:${RLHF_WERROR}>:-Werror>>)
add_library(rlhf_development INTERFACE)
target_link_libraries(rlhf_development INTERFACE rlhf_numerics rlhf_warnings)

function(rlhf_add_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MARCH" "SOURCES;LIBRARIES;DEFINITIONS")
  if(NOT DEFINED arg_MARCH)
    set(arg_MARCH ${RLHF_MARCH})
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE rlhf_core ${arg_LIBRARIES} rlhf_development)
  target_compile_definitions(${name} PRIVATE ${arg_DEFINITIONS})
  if(arg_MARCH)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-march=${arg_MARCH}>)
  endif()
  if("rlhf::eigen" IN_LIST arg_LIBRARIES AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 takes the undefined registers of its own AVX-512 intrinsics for a mistake of Eigen's.
    target_compile_options(${name} PRIVATE -Wno-maybe-uninitialized)
  endif()
endfunction()

function(rlhf_set_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "COST" "LABELS")
  if(NOT arg_COST)
    set(arg_COST 5)
  endif()
  math(EXPR timeout "${arg_COST} * 20")
  if(timeout LESS 120)
    set(timeout 120)
  endif()
  set_tests_properties(${name} PROPERTIES COST ${arg_COST} TIMEOUT ${timeout} LABELS "${arg_LABELS}")
endfunction()

function(rlhf_add_script)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;COST" "COMMAND;LABELS")
  add_test(NAME ${arg_NAME} COMMAND ${arg_COMMAND})
  rlhf_set_test(${arg_NAME} COST ${arg_COST} LABELS ${arg_LABELS})
endfunction()

function(rlhf_add_example)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;COST" "SOURCES;LIBRARIES;DEFINITIONS;ARGUMENTS")
  rlhf_add_program(${arg_NAME} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES} DEFINITIONS ${arg_DEFINITIONS})
  rlhf_add_script(NAME example.${arg_NAME} COMMAND ${arg_NAME} ${arg_ARGUMENTS} COST ${arg_COST} LABELS example)
endfunction()

# Tests see tests/ as an include folder ("support/catch.hpp") and its path as RLHF_TESTS_DIR.
function(rlhf_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;COST;MARCH" "SOURCES;LIBRARIES;DEFINITIONS;LABELS")
  set(program test.${arg_NAME})
  set(march "")
  if(arg_MARCH)
    set(march MARCH ${arg_MARCH})
  endif()
  rlhf_add_program(${program} ${march} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES} rlhf_catch DEFINITIONS ${arg_DEFINITIONS})
  # The tests are many templates over small data: what counts is the time to compile them.
  target_compile_options(${program} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
  rlhf_add_script(NAME ${arg_NAME} COMMAND ${program} COST ${arg_COST} LABELS ${arg_LABELS})
endfunction()

# No warnings here: sanitizers make GCC see ghosts, and the ordinary build of the same sources has shown the real ones.
function(rlhf_add_sanitized_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;SANITIZER;COST" "SOURCES;LIBRARIES;DEFINITIONS;LABELS")
  set(run "")
  if(arg_SANITIZER STREQUAL "address")
    # What is left out of UBSan is found by ASan too, and triples the time to compile.
    set(flags -fsanitize=address,undefined -fno-sanitize=null,alignment,object-size,vptr -fno-sanitize-recover=all)
  elseif(arg_SANITIZER STREQUAL "thread")
    set(flags -fsanitize=thread)
    # The older thread sanitizers cannot place their shadow memory where a kernel randomises addresses with many bits.
    find_program(RLHF_SETARCH setarch)
    if(RLHF_SETARCH)
      execute_process(COMMAND ${RLHF_SETARCH} -R true RESULT_VARIABLE refused OUTPUT_QUIET ERROR_QUIET)
      if(NOT refused)
        set(run ${RLHF_SETARCH} -R)
      endif()
    endif()
  else()
    message(FATAL_ERROR "rlhf_add_sanitized_test: SANITIZER is ${arg_SANITIZER}, wants address or thread")
  endif()
  list(JOIN flags " " CMAKE_REQUIRED_FLAGS)
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_compiles("int main() {}" RLHF_HAS_SANITIZER_${arg_SANITIZER})
  if(NOT RLHF_HAS_SANITIZER_${arg_SANITIZER})
    message(STATUS "rlhf: ${arg_NAME} is left out, this compiler does not link -fsanitize=${arg_SANITIZER}")
    return()
  endif()
  set(program test.${arg_NAME})
  add_executable(${program} ${arg_SOURCES})
  target_link_libraries(${program} PRIVATE rlhf_core ${arg_LIBRARIES} rlhf_catch)
  target_compile_definitions(${program} PRIVATE _GLIBCXX_ASSERTIONS ${arg_DEFINITIONS})
  target_compile_options(${program} PRIVATE -O1 -g1 -UNDEBUG -w ${flags} $<$<BOOL:${RLHF_MARCH}>:-march=${RLHF_MARCH}>)
  target_link_options(${program} PRIVATE ${flags})
  rlhf_add_script(NAME ${arg_NAME} COMMAND ${run} $<TARGET_FILE:${program}> COST ${arg_COST} LABELS sanitizer ${arg_LABELS})
  # Memory that cannot be had is null, as it is without a sanitizer.
  set_tests_properties(${arg_NAME} PROPERTIES ENVIRONMENT
    "ASAN_OPTIONS=allocator_may_return_null=1;TSAN_OPTIONS=allocator_may_return_null=1")
endfunction()
