#pragma once
// The version of the library: the single place where it is written (CMake reads it from here).

#define RLHF_VERSION_MAJOR 0
#define RLHF_VERSION_MINOR 1
#define RLHF_VERSION_PATCH 0
