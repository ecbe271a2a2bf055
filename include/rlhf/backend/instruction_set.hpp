#pragma once
// What a translation unit is compiled for, as a number that backends carry in their types.
//
// The linker keeps one of two functions of the same name. Code whose type says what it was compiled for has another name in
// a unit with other -m flags, so both bodies live and each unit calls its own.

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// One bit for each instruction set that changes the code of a loop.
constexpr unsigned compiled_instruction_set = 0u
#if defined(__SSE4_1__)
                                              | 1u
#endif
#if defined(__AVX__)
                                              | 2u
#endif
#if defined(__AVX2__)
                                              | 4u
#endif
#if defined(__FMA__)
                                              | 8u
#endif
#if defined(__F16C__)
                                              | 16u
#endif
#if defined(__AVX512F__)
                                              | 32u
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
                                              | 64u
#endif
#if defined(__AVX512BF16__)
                                              | 128u
#endif
    ;

}  // namespace rlhf::inline v1
