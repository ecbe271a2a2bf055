// Every part of the program against the definition, in double.
#include <cmath>
#include <cstdio>

#include "odr/unit.hpp"

outcomes baseline();
outcomes with_avx2();
#ifdef WITH_NVCC
outcomes with_nvcc();
#endif

namespace {

int failures = 0;

void check(const char* part, const char* backend, const outcome& got, double loss, double gradient) {
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); };
  const bool right = got.ok && near(static_cast<double>(got.loss), loss) && near(got.gradient, gradient);
  std::printf("%-10s %-10s loss %.9g, wants %.9g; gradient %.9g, wants %.9g%s\n", part, backend,
              static_cast<double>(got.loss), loss, got.gradient, gradient, right ? "" : "  <-- wrong");
  if (!right) ++failures;
}

}  // namespace

int main() {
  double loss = 0, gradient = 0;
  constexpr int pairs = 1003;
  for (int i = 0; i < pairs; ++i) {
    const double margin = (-20 + 25 + 21 - 22) + i * (-0.01 - 0.007 + 0.003 + 0.001);
    loss += std::log1p(std::exp(-0.1 * margin)) / pairs;
    gradient += -0.1 / (1 + std::exp(0.1 * margin)) / pairs;
  }
  const auto part = [&](const char* name, const outcomes& got) {
    check(name, "reference", got.reference, loss, gradient);
    check(name, "eigen", got.eigen, loss, gradient);
  };
  part("baseline", baseline());
  part("avx2", with_avx2());
#ifdef WITH_NVCC
  part("nvcc", with_nvcc());
#endif
  return failures == 0 ? 0 : 1;
}
