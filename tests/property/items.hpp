#pragma once
// Properties of formulas of one item (a pair, a response, a token, ...), the same for every kind of item.

#include "property/support.hpp"
#include "rlhf/math/fields.hpp"

namespace property {

/// An item from its numbers: first the variables, then the constants, in the order of its `visit`.
template <template <class> class Item, class V, int Partials>
struct seeded {
  const double* x;
  void variable(int k, rlhf::dual<V, Partials>& field) const {
    const V value = static_cast<V>(x[k]);
    field = k < Partials ? rlhf::dual<V, Partials>::variable(value, k) : rlhf::dual<V, Partials>(value);
  }
  void constant(int k, V& field) const { field = static_cast<V>(x[Item<double>::variables + k]); }
};

/// Formulas of one kind of item. `Partials`: how many of its variables they are differentiated in; `Moved`: the variables
/// that a shift moves together, and with them nothing else.
template <template <class> class Item, const auto& List, int Partials>
struct item_family {
  static constexpr int fields = Item<double>::variables + Item<double>::constants;
  using input = std::vector<double>;
  using any = any_of<List>;

  template <class V>
  static rlhf::dual<V, Partials> at(const any& formula, const input& x) {
    Item<rlhf::dual<V, Partials>> item;
    Item<rlhf::dual<V, Partials>>::visit(item, seeded<Item, V, Partials>{x.data()});
    return formula(item);
  }
  static std::string text(const any& formula, const input& x) {
    std::ostringstream out;
    out.precision(17);
    out << formula.name() << " at";
    for (const double v : x) out << ' ' << v;
    return out.str();
  }
  template <class F>
  static void each(F&& f) {
    for (std::size_t i = 0; i < any::count; ++i) f(any{i});
  }
  /// The drawn numbers where the formula is defined.
  static input placed(const any& formula, input x) {
    formula.place(x.data());
    return x;
  }
  template <class V>
  static void expect_finite(const any& formula, const input& x) {
    const auto y = at<V>(formula, x);
    expect(std::isfinite(y.value), text(formula, x), " is ", y.value, sizeof(V) == 4 ? " in float" : "");
    for (int k = 0; k < Partials; ++k)
      expect(std::isfinite(y.partial[k]), text(formula, x), " has the slope ", y.partial[k],
             sizeof(V) == 4 ? " in float" : "");
  }

  /// Hyperparameters are accepted, value and slopes are finite at the ends of the range. `shrink(x, factor)` scales the
  /// log-ratios of formulas that are exponential in them.
  template <class Draw, class Shrink>
  static void finite(const char* what, Draw draw, Shrink shrink) {
    for_all(what, any::count, [&] {
      const input drawn = draw();
      each([&](const any& formula) {
        expect(bool(formula.check()), formula.name(), " refuses its parameters");
        input x = drawn, less = drawn;
        shrink(x, formula.has(exponential) ? 0.3 : 1.0);
        shrink(less, formula.has(exponential) ? 0.03 : 1.0);
        expect_finite<double>(formula, placed(formula, x));
        expect_finite<float>(formula, placed(formula, less));
      });
    });
  }

  /// float against double on the same numbers.
  template <class Draw>
  static void single_precision(const char* what, Draw draw) {
    for_all(what, any::count, [&] {
      input drawn = draw();
      for (double& v : drawn) v = static_cast<float>(v);
      each([&](const any& formula) {
        input x = placed(formula, drawn);
        for (double& v : x) v = static_cast<float>(v);
        const auto y = at<double>(formula, x);
        const auto z = at<float>(formula, x);
        // An error of every input by a rounding or two, and of the result by a few; slopes bend too, so a kink that lies
        // within the rounding of the inputs is no failure of the slope.
        double scale = 1;
        for (int k = 0; k < Partials; ++k)
          scale += std::abs(y.partial[k]) * (std::abs(x[static_cast<std::size_t>(k)]) + 1);
        expect(near(z.value, y.value, 1e-5, scale), text(formula, x), " is ", z.value, " in float, ", y.value);
        if (kink(formula, x, 1e-5)) return;
        for (int k = 0; k < Partials; ++k)
          expect(near(z.partial[k], y.partial[k], 1e-4, scale), text(formula, x), " has the slope ", z.partial[k],
                 " in float, ", y.partial[k]);
      });
    });
  }

  /// Does a slope jump within h of x in one of the variables?
  static bool kink(const any& formula, const input& x, double h) {
    const auto here = at<double>(formula, x);
    for (int j = 0; j < Partials; ++j)
      for (const double side : {-h, h}) {
        input moved = x;
        moved[static_cast<std::size_t>(j)] += side;
        const auto there = at<double>(formula, moved);
        for (int k = 0; k < Partials; ++k)
          if (!near(there.partial[k], here.partial[k], 50 * h, 50 * h)) return true;
      }
    return false;
  }

  /// Slopes against central differences of fourth order, away from kinks.
  template <class Draw>
  static void slopes(const char* what, Draw draw) {
    std::vector<int> compared(any::count), seen(any::count);
    for_all(what, any::count, [&] {
      const input drawn = draw();
      each([&](const any& formula) {
        if (formula.has(stops_gradient)) return;
        const input x = placed(formula, drawn);
        const double h = 2e-4;
        ++seen[formula.which];
        if (kink(formula, x, 2 * h)) return;
        ++compared[formula.which];
        const auto y = at<double>(formula, x);
        for (int k = 0; k < Partials; ++k) {
          const auto value = [&](double by) {
            input moved = x;
            moved[static_cast<std::size_t>(k)] += by;
            return at<double>(formula, moved).value;
          };
          const double slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
          // A small kink within reach, or a steep formula, bends the slope: by that much the differences may be off.
          const auto slope_at = [&](double by) {
            input moved = x;
            moved[static_cast<std::size_t>(k)] += by;
            return at<double>(formula, moved).partial[k];
          };
          const double bend = std::abs(slope_at(2 * h) - 2 * y.partial[k] + slope_at(-2 * h));
          expect(near(slope, y.partial[k], 1e-6, 1e-5 + 1e-5 * std::abs(y.value) + 1e6 * bend), text(formula, x),
                 ": slope ", k, " is ", y.partial[k], ", differences give ", slope);
        }
      });
    });
    // Kinks are rare; a formula that is never compared would be a hole in the test.
    each([&](const any& formula) {
      INFO(formula.name() << " compared " << compared[formula.which] << " times of " << seen[formula.which]);
      CHECK((formula.has(stops_gradient) || 2 * compared[formula.which] > seen[formula.which]));
    });
  }
};

}  // namespace property
