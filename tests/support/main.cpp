// The main program of every test, for a Catch2 2 that comes without one.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
