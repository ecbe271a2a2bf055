// The main program of the suites that run on a device.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <cstdio>

#include "gpu/both_sides.hpp"

int main(int argc, char** argv) {
  if (!both_sides::the_pool().start()) {
    std::fprintf(stderr, "no memory that host and device both see: %s\n", cudaGetErrorString(cudaGetLastError()));
    return 1;
  }
  return Catch::Session().run(argc, argv);
}
