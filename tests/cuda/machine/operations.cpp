// What PTX's arithmetic does to registers. Approximate instructions are computed exactly and rounded: a device may be off by some last
// places where this is not, so no test here proves an error bound of a device.

#include <algorithm>
#include <array>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <unordered_map>

#include "program.hpp"
#include "rlhf/core/numeric.hpp"

namespace ptx {
namespace {

template <class T>
[[nodiscard]] T get(word r) {
  if constexpr (std::is_same_v<T, bool>) {
    return (r & 1) != 0;
  } else {
    std::array<unsigned char, sizeof(T)> low;
    std::memcpy(low.data(), &r, sizeof(T));
    return std::bit_cast<T>(low);
  }
}
template <class T>
void put(word& r, T value) {
  if constexpr (std::is_same_v<T, bool>) {
    r = value ? 1 : 0;
  } else {
    const auto low = std::bit_cast<std::array<unsigned char, sizeof(T)>>(value);
    r = 0;
    std::memcpy(&r, low.data(), sizeof(T));
  }
}

using table = std::unordered_map<std::string, computation>;

/// to = f(from...), all of types To and From.
template <class To, class... From, class F>
void on(table& t, const std::string& name, F) {
  t[name] = [](const instruction& i, word* r) {
    const auto apply = [&]<std::size_t... K>(std::index_sequence<K...>) {
      put<To>(r[i.to[0]], static_cast<To>(F{}(get<From>(r[i.from[K]])...)));
    };
    apply(std::index_sequence_for<From...>{});
  };
}

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;
template <class T>
using wider = std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, int128, uint128>,
                                 std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
template <class T>
using doubled = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>,
                                   std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;

template <class T>
void integers(table& t, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  constexpr int bits = static_cast<int>(8 * sizeof(T));
  // Through the wider type: it wraps as a device does.
  on<T, T, T>(t, "add." + type, [](T a, T b) { return static_cast<T>(static_cast<wider<T>>(a) + b); });
  on<T, T, T>(t, "sub." + type, [](T a, T b) { return static_cast<T>(static_cast<wider<T>>(a) - b); });
  on<T, T, T>(t, "mul.lo." + type, [](T a, T b) { return static_cast<T>(static_cast<wider<T>>(a) * b); });
  on<T, T, T>(t, "mul.hi." + type, [](T a, T b) { return static_cast<T>(static_cast<wider<T>>(a) * b >> bits); });
  on<T, T, T, T>(t, "mad.lo." + type, [](T a, T b, T c) { return static_cast<T>(static_cast<wider<T>>(a) * b + c); });
  if constexpr (sizeof(T) < 8) {
    using D = doubled<T>;
    on<D, T, T>(t, "mul.wide." + type, [](T a, T b) { return static_cast<D>(static_cast<D>(a) * static_cast<D>(b)); });
    on<D, T, T, D>(t, "mad.wide." + type,
                   [](T a, T b, D c) { return static_cast<D>(static_cast<wider<D>>(static_cast<D>(a)) * b + c); });
  }
  // A device gives all ones where the divisor is 0.
  on<T, T, T>(t, "div." + type,
              [](T a, T b) { return b == 0 ? static_cast<T>(~U(0)) : static_cast<T>(static_cast<wider<T>>(a) / b); });
  on<T, T, T>(t, "rem." + type, [](T a, T b) { return b == 0 ? a : static_cast<T>(static_cast<wider<T>>(a) % b); });
  on<T, T, T>(t, "min." + type, [](T a, T b) { return std::min(a, b); });
  on<T, T, T>(t, "max." + type, [](T a, T b) { return std::max(a, b); });
  on<T, T>(t, "neg." + type, [](T a) { return static_cast<T>(-static_cast<wider<T>>(a)); });
  on<T, T>(t, "abs." + type, [](T a) { return a < T(0) ? static_cast<T>(-static_cast<wider<T>>(a)) : a; });
  on<T, T, std::uint32_t>(t, "shr." + type, [](T a, std::uint32_t n) {
    return static_cast<T>(static_cast<wider<T>>(a) >> std::min<std::uint32_t>(n, bits));
  });
}

template <class U>
void bit_patterns(table& t, const std::string& type) {
  constexpr std::uint32_t bits = 8 * sizeof(U);
  on<U, U, U>(t, "and." + type, [](U a, U b) { return static_cast<U>(a & b); });
  on<U, U, U>(t, "or." + type, [](U a, U b) { return static_cast<U>(a | b); });
  on<U, U, U>(t, "xor." + type, [](U a, U b) { return static_cast<U>(a ^ b); });
  if constexpr (std::is_same_v<U, bool>) {
    on<U, U>(t, "not." + type, [](U a) { return !a; });
  } else {
    on<U, U>(t, "not." + type, [](U a) { return static_cast<U>(~a); });
    on<U, U, std::uint32_t>(t, "shl." + type, [](U a, std::uint32_t n) {
      return n >= bits ? U(0) : static_cast<U>(static_cast<std::uint64_t>(a) << n);
    });
    t["shr." + type] = t["shr.u" + type.substr(1)];
    if constexpr (sizeof(U) >= 4) {
      on<std::uint32_t, U>(t, "popc." + type, [](U a) { return std::popcount(a); });
      on<std::uint32_t, U>(t, "clz." + type, [](U a) { return std::countl_zero(a); });
      on<U, U>(t, "brev." + type, [](U a) {
        U reversed = 0;
        for (std::uint32_t k = 0; k < bits; ++k) reversed |= (a >> k & 1) << (bits - 1 - k);
        return reversed;
      });
    }
  }
}

template <class T>
void choices(table& t, const std::string& type) {
  on<T, T>(t, "mov." + type, [](T a) { return a; });
  on<T, T, T, bool>(t, "selp." + type, [](T a, T b, bool first) { return first ? a : b; });
}
template <class T>
void comparisons(table& t, const std::string& type) {
  on<bool, T, T>(t, "setp.eq." + type, [](T a, T b) { return a == b; });
  on<bool, T, T>(t, "setp.lt." + type, [](T a, T b) { return a < b; });
  on<bool, T, T>(t, "setp.le." + type, [](T a, T b) { return a <= b; });
  on<bool, T, T>(t, "setp.gt." + type, [](T a, T b) { return a > b; });
  on<bool, T, T>(t, "setp.ge." + type, [](T a, T b) { return a >= b; });
  if constexpr (std::is_floating_point_v<T>) {
    // Ordered: false where one is NaN. The -u forms are true there.
    on<bool, T, T>(t, "setp.ne." + type, [](T a, T b) { return a < b || a > b; });
    on<bool, T, T>(t, "setp.equ." + type, [](T a, T b) { return !(a < b || a > b); });
    on<bool, T, T>(t, "setp.neu." + type, [](T a, T b) { return !(a == b); });
    on<bool, T, T>(t, "setp.ltu." + type, [](T a, T b) { return !(a >= b); });
    on<bool, T, T>(t, "setp.leu." + type, [](T a, T b) { return !(a > b); });
    on<bool, T, T>(t, "setp.gtu." + type, [](T a, T b) { return !(a <= b); });
    on<bool, T, T>(t, "setp.geu." + type, [](T a, T b) { return !(a < b); });
    on<bool, T, T>(t, "setp.num." + type, [](T a, T b) { return !std::isnan(a) && !std::isnan(b); });
    on<bool, T, T>(t, "setp.nan." + type, [](T a, T b) { return std::isnan(a) || std::isnan(b); });
  } else {
    on<bool, T, T>(t, "setp.ne." + type, [](T a, T b) { return a != b; });
  }
}

/// f under another direction of rounding.
template <int Direction, class F>
[[nodiscard]] auto rounding(F f) {
  const int before = std::fegetround();
  std::fesetround(Direction);
  const auto result = f();
  std::fesetround(before);
  return result;
}
// Not inlined, so that nothing is computed before the direction is set.
[[gnu::noinline]] float plus(float a, float b) { return a + b; }
[[gnu::noinline]] float times_plus(float a, float b, float c) { return std::fma(a, b, c); }

template <class T>
[[nodiscard]] T flushed(T a) {
  return std::abs(a) < std::numeric_limits<T>::min() ? std::copysign(T(0), a) : a;
}

template <class T>
void numbers(table& t, const std::string& type) {
  on<T, T, T>(t, "add." + type, [](T a, T b) { return a + b; });
  on<T, T, T>(t, "sub." + type, [](T a, T b) { return a - b; });
  on<T, T, T>(t, "mul." + type, [](T a, T b) { return a * b; });
  on<T, T, T>(t, "div." + type, [](T a, T b) { return a / b; });
  on<T, T, T, T>(t, "fma." + type, [](T a, T b, T c) { return std::fma(a, b, c); });
  on<T, T>(t, "rcp." + type, [](T a) { return T(1) / a; });
  on<T, T>(t, "sqrt." + type, [](T a) { return std::sqrt(a); });
  on<T, T>(t, "neg." + type, [](T a) { return -a; });
  on<T, T>(t, "abs." + type, [](T a) { return std::abs(a); });
  on<T, T, T>(t, "copysign." + type, [](T sign, T size) { return std::copysign(size, sign); });
  // The number where one of them is NaN; -0 is less than 0.
  on<T, T, T>(t, "min." + type, [](T a, T b) { return a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b); });
  on<T, T, T>(t, "max." + type, [](T a, T b) { return a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b); });
  on<T, T, T>(t, "min.NaN." + type, [](T a, T b) {
    return std::isnan(a) || std::isnan(b) ? a + b : a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b);
  });
  on<T, T, T>(t, "max.NaN." + type, [](T a, T b) {
    return std::isnan(a) || std::isnan(b) ? a + b : a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b);
  });
}

/// To an integer: clamped to its range, NaN to 0.
template <class To, class From>
[[nodiscard]] To clamped(From a) {
  if (std::isnan(a)) return 0;
  if (a <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (a >= static_cast<From>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return static_cast<To>(a);
}
template <class Integer>
void conversions(table& t, const std::string& integer) {
  const auto with = [&]<class Float>(const std::string& type, Float) {
    on<Float, Integer>(t, "cvt.rn." + type + "." + integer, [](Integer a) { return static_cast<Float>(a); });
    on<Integer, Float>(t, "cvt.rzi." + integer + "." + type, [](Float a) { return clamped<Integer>(std::trunc(a)); });
    on<Integer, Float>(t, "cvt.rni." + integer + "." + type,
                       [](Float a) { return clamped<Integer>(std::nearbyint(a)); });
    on<Integer, Float>(t, "cvt.rmi." + integer + "." + type, [](Float a) { return clamped<Integer>(std::floor(a)); });
    on<Integer, Float>(t, "cvt.rpi." + integer + "." + type, [](Float a) { return clamped<Integer>(std::ceil(a)); });
  };
  with("f32", float());
  with("f64", double());
}
template <class From, class... To>
void integer_conversions(table& t, const std::string& from, const std::pair<const char*, To>&... to) {
  (on<To, From>(t, std::string("cvt.") + to.first + "." + from, [](From a) { return static_cast<To>(a); }), ...);
}

/// d = the byte of {a, b} that each digit of c picks.
[[nodiscard]] std::uint32_t permuted(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  std::uint32_t out = 0;
  for (int k = 0; k < 4; ++k) {
    const std::uint32_t pick = c >> (4 * k) & 0xf;
    std::uint32_t byte = static_cast<std::uint32_t>(both >> (8 * (pick & 7))) & 0xff;
    if ((pick & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    out |= byte << (8 * k);
  }
  return out;
}
[[nodiscard]] std::uint32_t by_truth_table(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t truth) {
  std::uint32_t out = 0;
  for (std::uint32_t k = 0; k < 8; ++k)
    if ((truth >> k & 1) != 0) out |= ((k & 4) != 0 ? a : ~a) & ((k & 2) != 0 ? b : ~b) & ((k & 1) != 0 ? c : ~c);
  return out;
}

/// `mov.b64 {lo, hi}, a` and back: as many pieces as there are operands.
template <int Bits>
void packing(table& t, const std::string& type) {
  t["mov." + type] = [](const instruction& i, word* r) {
    if (i.tos > 1) {
      const int each = Bits / i.tos;
      const word whole = r[i.from[0]];
      for (int k = 0; k < i.tos; ++k) r[i.to[k]] = whole >> (each * k) & ((word(1) << each) - 1);
    } else {
      const int each = Bits / i.froms;
      word whole = 0;
      for (int k = 0; k < i.froms; ++k)
        whole |= (each == 64 ? r[i.from[k]] : r[i.from[k]] & ((word(1) << each) - 1)) << (each == 64 ? 0 : each * k);
      r[i.to[0]] = whole;
    }
  };
}

table make_table() {
  table t;
  integers<std::int16_t>(t, "s16"), integers<std::uint16_t>(t, "u16");
  integers<std::int32_t>(t, "s32"), integers<std::uint32_t>(t, "u32");
  integers<std::int64_t>(t, "s64"), integers<std::uint64_t>(t, "u64");
  bit_patterns<bool>(t, "pred");
  bit_patterns<std::uint16_t>(t, "b16"), bit_patterns<std::uint32_t>(t, "b32"), bit_patterns<std::uint64_t>(t, "b64");
  const auto common = [&]<class T>(const std::string& type, T) {
    choices<T>(t, type);
    comparisons<T>(t, type);
  };
  common("s16", std::int16_t()), common("u16", std::uint16_t()), common("b16", std::uint16_t());
  common("s32", std::int32_t()), common("u32", std::uint32_t()), common("b32", std::uint32_t());
  common("s64", std::int64_t()), common("u64", std::uint64_t()), common("b64", std::uint64_t());
  common("f32", float()), common("f64", double());
  choices<bool>(t, "pred");
  packing<16>(t, "b16"), packing<32>(t, "b32"), packing<64>(t, "b64");
  numbers<float>(t, "f32"), numbers<double>(t, "f64");

  on<float, float, float>(t, "add.rz.f32",
                          [](float a, float b) { return rounding<FE_TOWARDZERO>([&] { return plus(a, b); }); });
  on<float, float, float, float>(t, "fma.rm.f32", [](float a, float b, float c) {
    return rounding<FE_DOWNWARD>([&] { return times_plus(a, b, c); });
  });
  const auto exp2_flushed = [](float a) {
    return flushed(static_cast<float>(std::exp2(static_cast<double>(flushed(a)))));
  };
  on<float, float>(t, "ex2.approx.ftz.f32", exp2_flushed);
  on<float, float>(t, "ex2.approx.f32", [](float a) { return static_cast<float>(std::exp2(static_cast<double>(a))); });
  on<float, float>(t, "lg2.approx.f32", [](float a) { return static_cast<float>(std::log2(static_cast<double>(a))); });
  on<float, float>(t, "lg2.approx.ftz.f32",
                   [](float a) { return flushed(static_cast<float>(std::log2(static_cast<double>(flushed(a))))); });
  on<float, float>(t, "rcp.approx.ftz.f32", [](float a) { return flushed(1.0f / flushed(a)); });
  on<double, double>(t, "rcp.approx.ftz.f64", [](double a) {  // its low half is 0
    return std::bit_cast<double>(std::bit_cast<word>(flushed(1.0 / flushed(a))) & 0xffffffff00000000ull);
  });
  on<float, float>(t, "sin.approx.f32", [](float a) { return std::sin(a); });
  on<float, float>(t, "cos.approx.f32", [](float a) { return std::cos(a); });

  conversions<std::int32_t>(t, "s32"), conversions<std::uint32_t>(t, "u32");
  conversions<std::int64_t>(t, "s64"), conversions<std::uint64_t>(t, "u64");
  conversions<std::int16_t>(t, "s16"), conversions<std::uint16_t>(t, "u16");
  const auto between = [&]<class T>(const char* type, T) {
    integer_conversions<T>(t, type, std::pair{"s8", std::int8_t()}, std::pair{"u8", std::uint8_t()},
                           std::pair{"s16", std::int16_t()}, std::pair{"u16", std::uint16_t()},
                           std::pair{"s32", std::int32_t()}, std::pair{"u32", std::uint32_t()},
                           std::pair{"s64", std::int64_t()}, std::pair{"u64", std::uint64_t()});
  };
  between("s8", std::int8_t()), between("u8", std::uint8_t()), between("s16", std::int16_t()),
      between("u16", std::uint16_t());
  between("s32", std::int32_t()), between("u32", std::uint32_t()), between("s64", std::int64_t()),
      between("u64", std::uint64_t());
  on<double, float>(t, "cvt.f64.f32", [](float a) { return static_cast<double>(a); });
  on<float, double>(t, "cvt.rn.f32.f64", [](double a) { return static_cast<float>(a); });
  on<float, float>(t, "cvt.sat.f32.f32", [](float a) { return a > 0 ? std::min(a, 1.0f) : 0.0f; });  // NaN to 0
  const auto whole = [&]<class T>(const std::string& type, T) {
    on<T, T>(t, "cvt.rni." + type + "." + type, [](T a) { return std::nearbyint(a); });
    on<T, T>(t, "cvt.rzi." + type + "." + type, [](T a) { return std::trunc(a); });
    on<T, T>(t, "cvt.rmi." + type + "." + type, [](T a) { return std::floor(a); });
    on<T, T>(t, "cvt.rpi." + type + "." + type, [](T a) { return std::ceil(a); });
  };
  whole("f32", float()), whole("f64", double());
  using rlhf::bfloat16, rlhf::float16;
  on<float, float16>(t, "cvt.f32.f16", [](float16 a) { return static_cast<float>(a); });
  on<float16, float>(t, "cvt.rn.f16.f32", [](float a) { return float16(a); });
  on<float, bfloat16>(t, "cvt.f32.bf16", [](bfloat16 a) { return static_cast<float>(a); });
  on<bfloat16, float>(t, "cvt.rn.bf16.f32", [](float a) { return bfloat16(a); });

  on<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      t, "prmt.b32", [](std::uint32_t a, std::uint32_t b, std::uint32_t c) { return permuted(a, b, c); });
  on<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      t, "lop3.b32", [](std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t truth) {
        return by_truth_table(a, b, c, truth);
      });
  on<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      t, "shf.l.wrap.b32", [](std::uint32_t low, std::uint32_t high, std::uint32_t n) {
        return static_cast<std::uint32_t>(((static_cast<word>(high) << 32 | low) << (n & 31)) >> 32);
      });
  on<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      t, "shf.r.wrap.b32", [](std::uint32_t low, std::uint32_t high, std::uint32_t n) {
        return static_cast<std::uint32_t>((static_cast<word>(high) << 32 | low) >> (n & 31));
      });
  // All memories have addresses of their own among the generic ones (program.hpp), so nothing is converted.
  for (const char* const space : {"global", "shared", "local", "param"})
    for (const std::string way : {"cvta.to.", "cvta."}) t[way + space + ".u64"] = t["mov.u64"];
  return t;
}

}  // namespace

computation find_computation(const std::string& opcode) {
  static const table all = make_table();
  if (const auto found = all.find(opcode); found != all.end()) return found->second;
  // Rounding to nearest is what the machine does anyway.
  std::string plain = opcode;
  if (const std::size_t at = plain.find(".rn."); at != std::string::npos && plain.substr(0, 3) != "cvt")
    plain.erase(at, 3);
  const auto found = all.find(plain);
  return found == all.end() ? nullptr : found->second;
}

}  // namespace ptx
