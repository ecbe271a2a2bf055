// Rows of two distributions: divergences between them, the likeliest tokens, what a truncated sampler leaves, and mixtures.

#include "property/support.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/cosine_distance.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/full_total_variation.hpp"
#include "rlhf/driver/sampling_distribution.hpp"
#include "rlhf/driver/surviving_mass.hpp"
#include "rlhf/driver/top_k.hpp"
#include "rlhf/driver/top_k_divergence.hpp"

namespace {

using namespace property;

/// Two matrices of logits with columns beyond the vocabulary.
struct matrices {
  std::int64_t rows = 0, columns = 0, vocabulary = 0, k = 1;
  double temperature = 1;
  std::vector<double> x, y, weight;  // of the student and of the teacher; what flows back
  std::vector<std::uint8_t> mask{};  // empty: all rows

  [[nodiscard]] std::size_t at(std::int64_t r, std::int64_t j) const {
    return static_cast<std::size_t>(r * columns + j);
  }
  [[nodiscard]] bool valid(std::size_t r) const { return mask.empty() || mask[r] != 0; }
};

/// Where logits are minus infinity; every row keeps a number in both.
enum class excluded { none, in_both, anywhere };

matrices draw(double range, excluded where = excluded::none, std::int64_t least = 1) {
  matrices m;
  m.rows = integer(0, 4);
  m.vocabulary = integer(least, 9);
  m.k = integer(1, m.vocabulary);
  m.columns = m.vocabulary + integer(0, 3);
  numbers random(seed());
  m.temperature = random.chance(0.5) ? 1 : random.uniform(0.5, 2);
  for (std::int64_t r = 0; r < m.rows; ++r) {
    const std::int64_t kept = random.integer(0, m.vocabulary - 1);
    for (std::int64_t j = 0; j < m.columns; ++j) {
      // Numbers that are floats too, so that both precisions see the same ones.
      double a = static_cast<float>(random.uniform(-range, range)),
             b = static_cast<float>(random.uniform(-range, range));
      const bool out = where != excluded::none && j != kept && random.chance(0.25);
      if (out && (where == excluded::in_both || random.chance(0.5))) a = -infinity;
      if (out && (where == excluded::in_both || random.chance(0.5))) b = -infinity;
      m.x.push_back(a);
      m.y.push_back(b);
    }
    m.weight.push_back(random.uniform(-1, 1));
  }
  return m;
}
matrices masked(matrices m, numbers& random) {
  m.mask.clear();
  for (std::int64_t r = 0; r < m.rows; ++r) m.mask.push_back(random.chance(0.7));
  return m;
}
/// Garbage beyond the vocabulary and in masked rows.
matrices spoiled(matrices m, numbers& random) {
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t j = 0; j < m.columns; ++j)
      if (j >= m.vocabulary || !m.valid(static_cast<std::size_t>(r))) {
        m.x[m.at(r, j)] = random.garbage();
        m.y[m.at(r, j)] = random.garbage();
      }
  for (std::size_t r = 0; r < m.weight.size(); ++r)
    if (!m.valid(r)) m.weight[r] = random.garbage();
  return m;
}

/// log-probabilities of a row, by the definition.
std::vector<double> log_softmax(const matrices& m, const std::vector<double>& z, std::int64_t r) {
  std::vector<double> p;
  for (std::int64_t j = 0; j < m.vocabulary; ++j) p.push_back(z[m.at(r, j)] / m.temperature);
  const double top = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (const double v : p) sum += std::exp(v - top);
  for (double& v : p) v -= top + std::log(sum);
  return p;
}

enum class measure {
  forward_kl,
  reverse_kl,
  skewed,
  jensen_shannon,
  variation,
  top_k_forward,
  top_k_reverse,
  top_k_mixed,
  top_k_bare,
  cosine
};
constexpr double skew = 0.3;
struct line {
  measure of;
  const char* name;
};
constexpr line measures[] = {
    {measure::forward_kl, "forward kl"},
    {measure::reverse_kl, "reverse kl"},
    {measure::skewed, "skewed jensen-shannon"},
    {measure::jensen_shannon, "jensen-shannon"},
    {measure::variation, "total variation"},
    {measure::top_k_forward, "top-k forward kl"},
    {measure::top_k_reverse, "top-k reverse kl"},
    {measure::top_k_mixed, "top-k mixed kl"},
    {measure::top_k_bare, "top-k kl without a tail, clamped"},
    {measure::cosine, "cosine distance"},
};

struct answer {
  std::vector<double> value, gradient;
};

/// The k likeliest of the teacher.
template <class T>
struct likeliest {
  std::vector<T> logp, tail, entropy;
  std::vector<std::int32_t> token;
};
template <class T>
likeliest<T> find_likeliest(const matrices& m, std::int64_t k, const std::vector<T>& z) {
  const auto rows = static_cast<std::size_t>(m.rows), cells = static_cast<std::size_t>(m.rows * k);
  likeliest<T> f{std::vector<T>(cells, T(7)), std::vector<T>(rows, T(7)), std::vector<T>(rows, T(7)),
                 std::vector<std::int32_t>(cells, 7)};
  rlhf::reference_backend be;
  expect_done(
      rlhf::top_k(be,
                  rlhf::top_k_inputs<T>{{z.data(), m.rows, m.columns, m.columns},
                                        m.mask.empty() ? rlhf::mask_view<>{} : rlhf::mask_view<>(m.mask),
                                        m.vocabulary,
                                        m.temperature},
                  rlhf::top_k_outputs<T>{{f.logp.data(), m.rows, k}, {f.token.data(), m.rows, k}, f.tail, f.entropy}),
      "top_k");
  return f;
}

/// The k of the teacher may come in any order: `order` of [0, k).
struct manner {
  bool in_place = false;
  bool teacher_tail = true;
  const std::vector<std::size_t>* order = nullptr;
};

template <class T>
answer run(const line& l, const matrices& m, const manner& how = {}) {
  const std::vector<T> x(m.x.begin(), m.x.end()), y(m.y.begin(), m.y.end()), weight(m.weight.begin(), m.weight.end());
  std::vector<T> value(static_cast<std::size_t>(m.rows), T(7)), gradient(x.size(), T(7));
  if (how.in_place) gradient = x;
  const T* const student = how.in_place ? gradient.data() : x.data();
  const auto mask = m.mask.empty() ? rlhf::mask_view<>{} : rlhf::mask_view<>(m.mask);
  rlhf::reference_backend be;
  rlhf::full_kl_inputs<T> in{{student, m.rows, m.columns, m.columns},
                             {y.data(), m.rows, m.columns, m.columns},
                             mask,
                             m.vocabulary,
                             m.temperature};
  const rlhf::full_kl_outputs<T> out{value, weight, {gradient.data(), m.rows, m.columns, m.columns}};
  const auto by_top_k = [&](const rlhf::top_k_divergence& d) {
    auto teacher = find_likeliest<T>(m, m.k, y);
    if (how.order != nullptr) {
      const auto as_found = teacher;
      const auto k = static_cast<std::size_t>(m.k);
      for (std::size_t i = 0; i < teacher.logp.size(); ++i) {
        const std::size_t from = i - i % k + (*how.order)[i % k];
        teacher.logp[i] = as_found.logp[from];
        teacher.token[i] = as_found.token[from];
      }
    }
    rlhf::top_k_divergence_inputs<T> given;
    given.logits = in.logits;
    given.token = {teacher.token.data(), m.rows, m.k};
    given.teacher_logp = {teacher.logp.data(), m.rows, m.k};
    if (how.teacher_tail) given.teacher_tail = teacher.tail;
    given.mask = mask;
    given.vocabulary = m.vocabulary;
    given.temperature = m.temperature;
    return d(be, given, out);
  };
  const auto call = [&]() -> rlhf::status {
    switch (l.of) {
      case measure::forward_kl:
        in.direction = rlhf::kl_direction::forward;
        return rlhf::full_kl(be, in, out);
      case measure::reverse_kl:
        return rlhf::full_kl(be, in, out);
      case measure::skewed:
        return rlhf::full_jensen_shannon(be, in, out, skew);
      case measure::jensen_shannon:
        return rlhf::full_jensen_shannon(be, in, out, 0.5);
      case measure::variation:
        return rlhf::full_total_variation(be, in, out);
      case measure::top_k_forward:
        return by_top_k({});
      case measure::top_k_reverse:
        return by_top_k({.forward = 0});
      case measure::top_k_mixed:
        return by_top_k({.forward = 0.4});
      case measure::top_k_bare:
        return by_top_k({.forward = 0.4, .tail = false, .at_least_zero = true});
      case measure::cosine:
        break;
    }
    // The same rows without the columns beyond the vocabulary.
    return rlhf::cosine_distance(
        be,
        rlhf::cosine_inputs<T>{
            {student, m.rows, m.vocabulary, m.columns}, {y.data(), m.rows, m.vocabulary, m.columns}, mask},
        rlhf::cosine_outputs<T>{value, weight, {gradient.data(), m.rows, m.vocabulary, m.columns}});
  };
  expect_done(call(), l.name);
  answer a;
  a.value.assign(value.begin(), value.end());
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t j = 0; j < m.columns; ++j) {
      const T slope = gradient[m.at(r, j)];
      if (j >= m.vocabulary && l.of != measure::cosine)
        expect(plain_zero(slope), l.name, " writes the slope ", slope, " beyond the vocabulary");
      a.gradient.push_back(j < m.vocabulary ? slope : 0);
    }
  return a;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}
/// As large as it can be.
double bound_of(measure d) {
  switch (d) {
    case measure::skewed:
      return -skew * std::log(skew) - (1 - skew) * std::log1p(-skew);
    case measure::jensen_shannon:
      return std::log(2.0);
    case measure::variation:
      return 1;
    case measure::cosine:
      return 2;
    default:
      return infinity;
  }
}
bool takes_zeros_anywhere(measure d) {
  return d == measure::skewed || d == measure::jensen_shannon || d == measure::variation;
}

template <class Holds>
void for_measures(const char* what, Holds holds) {
  for_all(what, std::size(measures), [&] {
    const auto check = holds();
    for (const line& l : measures) check(l);
  });
}

}  // namespace

TEST_CASE("divergences: finite and within their bounds, with tokens excluded too") {
  for_measures("bounds", [] {
    const double range = real(0.1, 700);
    const matrices plain = draw(range), both = draw(range, excluded::in_both),
                   anywhere = draw(range, excluded::anywhere);
    return [=](const line& l) {
      const auto holds = [&](const matrices& m) {
        for (const auto& a : {run<double>(l, m), run<float>(l, m)}) {
          for (const double v : a.value)
            expect(v >= -1e-3 && v <= bound_of(l.of) + 1e-3 && std::isfinite(v), l.name, " is ", v);
          for (const double g : a.gradient) expect(std::isfinite(g), l.name, " has the slope ", g);
        }
        for (const double v : run<double>(l, m).value)
          expect(v >= -1e-11 && v <= bound_of(l.of) + 1e-12, l.name, " is ", v, " of ", bound_of(l.of));
      };
      holds(plain);
      if (l.of != measure::cosine) holds(both);
      if (takes_zeros_anywhere(l.of)) holds(anywhere);
    };
  });
}

TEST_CASE("divergences: masked rows, columns beyond the vocabulary, the order of both, and the gradient's place") {
  for_measures("mask and order", [] {
    numbers random(seed());
    const matrices m = masked(draw(4, excluded::none), random), spoilt = spoiled(m, random);
    matrices turned = m, shuffled = m;
    const auto rows = random.order(static_cast<std::size_t>(m.rows));
    const auto tokens = random.order(static_cast<std::size_t>(m.vocabulary));
    const auto c = static_cast<std::size_t>(m.columns);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      for (std::size_t j = 0; j < c; ++j) {
        const std::size_t token = j < tokens.size() ? tokens[j] : j;
        turned.x[r * c + j] = m.x[rows[r] * c + j];
        turned.y[r * c + j] = m.y[rows[r] * c + j];
        shuffled.x[r * c + j] = m.x[r * c + token];
        shuffled.y[r * c + j] = m.y[r * c + token];
      }
      turned.mask[r] = m.mask[rows[r]];
      turned.weight[r] = m.weight[rows[r]];
    }
    return [=](const line& l) {
      const answer a = run<double>(l, m), b = run<double>(l, spoilt), t = run<double>(l, turned),
                   s = run<double>(l, shuffled), p = run<double>(l, m, {.in_place = true});
      expect(same(a.value, b.value) && same(a.gradient, b.gradient), l.name, ": garbage changes the result");
      expect(same(a.value, p.value) && same(a.gradient, p.gradient), l.name, ": another gradient on the logits");
      for (std::size_t r = 0; r < rows.size(); ++r) {
        expect(m.valid(r) || plain_zero(a.value[r]), l.name, " writes ", a.value[r], " under the mask");
        expect(same_bits(a.value[rows[r]], t.value[r]), l.name, ": another order of rows makes ", a.value[rows[r]],
               " to ", t.value[r]);
        expect(near(a.value[r], s.value[r], 1e-12, 1), l.name, ": another order of tokens makes ", a.value[r], " to ",
               s.value[r]);
        for (std::size_t j = 0; j < c; ++j) {
          const std::size_t token = j < tokens.size() ? tokens[j] : j;
          expect(m.valid(r) || plain_zero(a.gradient[r * c + j]), l.name, " writes a slope under the mask");
          expect(same_bits(a.gradient[rows[r] * c + j], t.gradient[r * c + j]), l.name, ": a slope of another row");
          expect(near(a.gradient[r * c + token], s.gradient[r * c + j], 1e-12, 1), l.name,
                 ": another order of tokens makes the slope ", a.gradient[r * c + token], " to ",
                 s.gradient[r * c + j]);
        }
      }
    };
  });
}

TEST_CASE("divergences: float is near double, shifts change nothing, and equals have none") {
  for_measures("float and shifts", [] {
    numbers random(seed());
    const matrices m = draw(4);
    matrices shifted = m, equal = m, scaled = m;
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const double a = random.uniform(-200, 200), b = random.uniform(-200, 200), u = std::exp(random.uniform(-80, 80)),
                   v = std::exp(random.uniform(-80, 80));
      for (std::int64_t j = 0; j < m.columns; ++j) {
        const std::size_t i = m.at(r, j);
        shifted.x[i] += a;
        shifted.y[i] += b;
        scaled.x[i] *= u;
        scaled.y[i] *= v;
      }
    }
    equal.y = equal.x;
    return [=](const line& l) {
      const answer a = run<double>(l, m), f = run<float>(l, m), e = run<double>(l, equal),
                   s = run<double>(l, l.of == measure::cosine ? scaled : shifted);
      for (std::size_t r = 0; r < a.value.size(); ++r) {
        expect(near(a.value[r], f.value[r], 2e-5, 1), l.name, " is ", f.value[r], " in float, ", a.value[r]);
        expect(near(a.value[r], s.value[r], 1e-10, 1), l.name, " is ", a.value[r], ", elsewhere ", s.value[r]);
        expect(std::abs(e.value[r]) < 1e-12, l.name, " of equals is ", e.value[r]);
      }
      for (std::size_t i = 0; i < a.gradient.size() && l.of != measure::top_k_bare; ++i)  // that is no divergence
        expect(std::abs(e.gradient[i]) < 1e-12, l.name, " of equals has the slope ", e.gradient[i]);
      // Short rows have steep cosines; sides may change within the rounding.
      if (l.of == measure::cosine || l.of == measure::variation || l.of == measure::top_k_bare) return;
      for (std::size_t i = 0; i < a.gradient.size(); ++i)
        expect(near(a.gradient[i], f.gradient[i], 1e-4, 1), l.name, " has the slope ", f.gradient[i], " in float, ",
               a.gradient[i]);
    };
  });
}

TEST_CASE("divergences: slopes are derivatives") {
  std::vector<int> compared(std::size(measures));
  for_measures("slopes", [&] {
    const matrices m = draw(1.5);
    const std::int64_t r = m.rows == 0 ? 0 : integer(0, m.rows - 1);
    const auto row = static_cast<std::size_t>(r);
    const std::size_t i = m.at(r, integer(0, m.vocabulary - 1));
    return [=, &compared](const line& l) {
      if (m.rows == 0) return;
      const answer a = run<double>(l, m);
      double sum = 0, along = 0, length = 0, closest = infinity;
      const auto p = log_softmax(m, m.x, r), q = log_softmax(m, m.y, r);
      for (std::int64_t j = 0; j < m.vocabulary; ++j) {
        const double g = a.gradient[m.at(r, j)], z = m.x[m.at(r, j)];
        sum += g;
        along += g * z;
        length += z * z;
        const auto t = static_cast<std::size_t>(j);
        closest = std::min(closest, std::abs(std::exp(p[t]) - std::exp(q[t])));
      }
      // Logits are defined up to a number, directions up to a factor.
      if (l.of == measure::cosine)
        expect(std::abs(along) < 1e-12, l.name, ": the slope along the row itself is ", along);
      else
        expect(std::abs(sum) < 1e-12, l.name, ": slopes of a row add up to ", sum);
      // Away from kinks: sides that change, the clamp, and the origin.
      if (l.of == measure::variation && m.vocabulary > 1 && closest < 3e-3) return;
      if (l.of == measure::top_k_bare && a.value[row] > 0 && a.value[row] < 0.02) return;
      if (l.of == measure::cosine && length < 0.5) return;
      ++compared[static_cast<std::size_t>(l.of)];
      const double h = 1e-3;
      const auto moved = [&](double by) {
        matrices there = m;
        there.x[i] += by;
        return m.weight[row] * run<double>(l, there).value[row];
      };
      const double slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
      if (l.of == measure::top_k_bare && (moved(2 * h) == 0) != (moved(-2 * h) == 0)) return;
      expect(near(a.gradient[i], slope, 1e-6, 1e-3), l.name, ": slope ", a.gradient[i], ", differences give ", slope);
      // and linear in what flows back
      matrices twice = m;
      for (double& w : twice.weight) w *= 2;
      expect(same_bits(2 * a.gradient[i], run<double>(l, twice).gradient[i]), l.name,
             ": twice the weight is not twice");
    };
  });
  for (const line& l : measures) {
    INFO(l.name << " compared " << compared[static_cast<std::size_t>(l.of)] << " times");
    CHECK(compared[static_cast<std::size_t>(l.of)] > 20);
  }
}

TEST_CASE("divergences: by the definition") {
  for_measures("definitions", [] {
    const matrices m = draw(real(0.1, 8));
    return [=](const line& l) {
      const answer a = run<double>(l, m);
      for (std::int64_t r = 0; r < m.rows; ++r) {
        auto p = log_softmax(m, m.x, r), q = log_softmax(m, m.y, r);
        double forward = 0, reverse = 0, want = 0, xy = 0, xx = 0, yy = 0;
        if (l.of >= measure::top_k_forward && l.of <= measure::top_k_bare) {
          // The teacher's k likeliest, and with a tail the sum of the others.
          std::vector<std::size_t> order;
          for (std::size_t j = 0; j < p.size(); ++j) order.push_back(j);
          std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return q[i] > q[j]; });
          std::vector<double> some_p, some_q;
          double rest_p = 0, rest_q = 0;
          for (std::size_t i = 0; i < order.size(); ++i)
            if (i < static_cast<std::size_t>(m.k))
              some_p.push_back(p[order[i]]), some_q.push_back(q[order[i]]);
            else
              rest_p += std::exp(p[order[i]]), rest_q += std::exp(q[order[i]]);
          if (l.of != measure::top_k_bare && m.k < m.vocabulary)
            some_p.push_back(std::log(rest_p)), some_q.push_back(std::log(rest_q));
          p = some_p;
          q = some_q;
        }
        const double beta = l.of == measure::skewed ? skew : 0.5;
        for (std::size_t j = 0; j < p.size(); ++j) {
          const double s = std::exp(p[j]), t = std::exp(q[j]), mixture = std::log((1 - beta) * s + beta * t);
          forward += t * (q[j] - p[j]);
          reverse += s * (p[j] - q[j]);
          if (l.of == measure::variation) want += std::abs(s - t) / 2;
          if (l.of == measure::skewed || l.of == measure::jensen_shannon)
            want += beta * t * (q[j] - mixture) + (1 - beta) * s * (p[j] - mixture);
        }
        for (std::int64_t j = 0; j < m.vocabulary; ++j) {
          const double x = m.x[m.at(r, j)], y = m.y[m.at(r, j)];
          xy += x * y;
          xx += x * x;
          yy += y * y;
        }
        if (l.of == measure::forward_kl || l.of == measure::top_k_forward) want = forward;
        if (l.of == measure::reverse_kl || l.of == measure::top_k_reverse) want = reverse;
        if (l.of == measure::top_k_mixed) want = 0.4 * forward + 0.6 * reverse;
        if (l.of == measure::top_k_bare) want = std::max(0.0, 0.4 * forward + 0.6 * reverse);
        if (l.of == measure::cosine) want = 1 - xy / std::sqrt(xx * yy);
        expect(near(a.value[static_cast<std::size_t>(r)], want, 1e-11, 1), l.name, " is ",
               a.value[static_cast<std::size_t>(r)], ", not ", want);
      }
    };
  });
}

TEST_CASE("total variation: a token that both find equally likely is on neither side") {
  for_all("ties", 1, [] {
    matrices m = draw(2, excluded::none, 3);
    // One token is the policy's alone and one the teacher's; the others are alike, to the last bit.
    for (std::int64_t r = 0; r < m.rows; ++r) {
      for (std::int64_t j = 0; j < m.vocabulary; ++j) m.x[m.at(r, j)] = m.y[m.at(r, j)] = m.x[m.at(r, 0)];
      m.x[m.at(r, 1)] = m.y[m.at(r, 0)] = -infinity;
    }
    const answer a = run<double>(measures[static_cast<std::size_t>(measure::variation)], m);
    const double gap = 1 / static_cast<double>(m.vocabulary - 1);
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const auto row = static_cast<std::size_t>(r);
      expect(near(a.value[row], gap, 1e-12), "rows that differ in two tokens are ", a.value[row], " apart, not ", gap);
      const double want = -m.weight[row] * gap * gap / (2 * m.temperature);
      for (std::int64_t j = 2; j < m.vocabulary; ++j)
        expect(near(a.gradient[m.at(r, j)], want, 1e-11, 1e-3), "on neither side the slope is ", a.gradient[m.at(r, j)],
               ", not ", want);
    }
  });
}

TEST_CASE("divergences: what one says of another") {
  const auto by = [](measure d) { return measures[static_cast<std::size_t>(d)]; };
  for_all("inequalities", 8, [&] {
    const matrices m = draw(real(0.1, 8));
    matrices other = m, finer = m, whole = m;
    std::swap(other.x, other.y);
    finer.k = std::min(m.k + 1, m.vocabulary);
    whole.k = m.vocabulary;
    numbers random(seed());
    const auto order = random.order(static_cast<std::size_t>(m.k));
    const auto value = [&](measure d, const matrices& of) { return run<double>(by(d), of).value; };
    const auto forward = value(measure::forward_kl, m), reverse = value(measure::reverse_kl, m),
               variation = value(measure::variation, m), halves = value(measure::jensen_shannon, m);
    const auto skewed = value(measure::skewed, m);
    const auto variation_back = value(measure::variation, other), halves_back = value(measure::jensen_shannon, other),
               forward_back = value(measure::forward_kl, other);
    for (std::size_t r = 0; r < forward.size(); ++r) {
      // Pinsker, and what mixing does to a convex divergence.
      expect(2 * variation[r] * variation[r] <= std::min(forward[r], reverse[r]) + 1e-11, "total variation ",
             variation[r], " with the divergences ", forward[r], " and ", reverse[r]);
      expect(skewed[r] <= skew * (1 - skew) * (forward[r] + reverse[r]) + 1e-11, "skewed jensen-shannon ", skewed[r],
             " with the divergences ", forward[r], " and ", reverse[r]);
      expect(halves[r] <= std::log(2.0) * variation[r] + 1e-12 && halves[r] >= variation[r] * variation[r] / 2 - 1e-12,
             "jensen-shannon ", halves[r], " with the total variation ", variation[r]);
      expect(near(variation[r], variation_back[r], 1e-12, 1) && near(halves[r], halves_back[r], 1e-12, 1),
             "not symmetric: ", variation[r], ", ", variation_back[r], "; ", halves[r], ", ", halves_back[r]);
      expect(near(reverse[r], forward_back[r], 1e-12, 1), "reverse ", reverse[r], ", the other way round ",
             forward_back[r]);
    }
    const auto teacher = find_likeliest<double>(m, m.k, m.y);
    const std::pair<measure, measure> merged[] = {{measure::top_k_forward, measure::forward_kl},
                                                  {measure::top_k_reverse, measure::reverse_kl}};
    for (const auto& [some, all] : merged) {
      const auto coarse = value(some, m), fine = value(some, finer), full = value(all, m);
      const answer complete = run<double>(by(some), whole), exact = run<double>(by(all), m),
                   found = run<double>(by(some), m), reordered = run<double>(by(some), m, {.order = &order}),
                   subtracted = run<double>(by(some), m, {.teacher_tail = false});
      for (std::size_t r = 0; r < full.size(); ++r) {
        expect(coarse[r] <= fine[r] + 1e-11 && fine[r] <= full[r] + 1e-11, by(some).name, " is ", coarse[r],
               ", with one token more ", fine[r], ", of all ", full[r]);
        expect(near(complete.value[r], full[r], 1e-11, 1), by(some).name, " of all tokens is ", complete.value[r],
               ", not ", full[r]);
        expect(near(found.value[r], reordered.value[r], 1e-12, 1), by(some).name, ": the order of the k matters");
      }
      for (std::size_t i = 0; i < exact.gradient.size(); ++i) {
        expect(near(complete.gradient[i], exact.gradient[i], 1e-11, 1), by(some).name, " of all tokens has the slope ",
               complete.gradient[i], ", not ", exact.gradient[i]);
        expect(near(found.gradient[i], reordered.gradient[i], 1e-12, 1), by(some).name,
               ": the order of the k moves a slope");
      }
      // 1 less the k is what the others have, where that is more than rounding and the floor under it.
      for (std::int64_t r = 0; r < m.rows && m.k < m.vocabulary; ++r) {
        const auto at = static_cast<std::size_t>(r);
        if (teacher.tail[at] < std::log(1e-6)) continue;
        expect(near(found.value[at], subtracted.value[at], 1e-6, 1), by(some).name, " is ", found.value[at],
               ", with a subtracted tail ", subtracted.value[at]);
      }
    }
  });
}

TEST_CASE("cosine distance: rows of any size, opposite ones, and rows of zeros") {
  for_all("directions", 1, [] {
    matrices m = draw(1, excluded::none, 2);
    numbers random(seed());
    const line cosine = measures[static_cast<std::size_t>(measure::cosine)];
    const answer a = run<double>(cosine, m);
    matrices large = m, opposite = m;
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const int up = static_cast<int>(random.integer(-980, 980)), side = static_cast<int>(random.integer(-980, 980));
      for (std::int64_t j = 0; j < m.columns; ++j) {
        const std::size_t i = m.at(r, j);
        large.x[i] = std::ldexp(m.x[i], up);
        large.y[i] = std::ldexp(m.y[i], side);
        opposite.y[i] = -m.y[i];
      }
    }
    const answer b = run<double>(cosine, large), o = run<double>(cosine, opposite);
    for (std::size_t r = 0; r < a.value.size(); ++r) {
      expect(near(a.value[r], b.value[r], 1e-12, 1), "a row's size makes ", a.value[r], " to ", b.value[r]);
      expect(near(a.value[r] + o.value[r], 2, 1e-12), "opposite rows are ", a.value[r], " and ", o.value[r], " apart");
    }
    for (const double g : b.gradient) expect(std::isfinite(g), "slope ", g);
    // A row of zeros has no direction.
    for (std::int64_t r = 0; r < m.rows; ++r)
      for (std::int64_t j = 0; j < m.columns; ++j)
        (r % 2 == 0 ? m.x : m.y)[m.at(r, j)] = random.chance(0.5) ? 0.0 : -0.0;
    const answer zero = run<double>(cosine, m);
    for (const double v : zero.value) expect(v == 1, "a row of zeros is ", v, " away");
    for (const double g : zero.gradient) expect(plain_zero(g), "a row of zeros has the slope ", g);
  });
}

namespace {

/// Logits with ties: multiples of one half, and minus infinity now and then.
matrices with_ties(double range) {
  matrices m = draw(range, excluded::anywhere);
  if (integer(0, 1) == 0)
    for (auto* z : {&m.x, &m.y})
      for (double& v : *z) v = v > -infinity ? std::round(v / 2) : v;
  return m;
}

}  // namespace

TEST_CASE("top-k: the likeliest first, of equals the first, and what is left to the others") {
  for_all("top-k", 1, [] {
    numbers random(seed());
    const matrices m = masked(with_ties(real(1, 700)), random), spoilt = spoiled(m, random);
    const auto f = find_likeliest<double>(m, m.k, m.x), g = find_likeliest<double>(spoilt, m.k, spoilt.x);
    const auto single = find_likeliest<float>(m, m.k, {m.x.begin(), m.x.end()});
    expect(same(f.logp, g.logp) && f.token == g.token && same(f.tail, g.tail) && same(f.entropy, g.entropy),
           "garbage changes the result");
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const auto row = static_cast<std::size_t>(r);
      if (!m.valid(row)) {
        expect(plain_zero(f.tail[row]) && plain_zero(f.entropy[row]), "a masked row has ", f.tail[row]);
        for (std::int64_t i = 0; i < m.k; ++i)
          expect(plain_zero(f.logp[static_cast<std::size_t>(r * m.k + i)]), "a masked row has a log-probability");
        continue;
      }
      const auto p = log_softmax(m, m.x, r);
      std::vector<std::int32_t> order;
      for (std::int32_t j = 0; j < m.vocabulary; ++j) order.push_back(j);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int32_t a, std::int32_t b) { return m.x[m.at(r, a)] > m.x[m.at(r, b)]; });
      double inside = 0, outside = 0, entropy = 0, likeliest_outside = -infinity;
      for (std::size_t i = 0; i < order.size(); ++i) {
        const double log_p = p[static_cast<std::size_t>(order[i])];
        if (i >= static_cast<std::size_t>(m.k)) {
          if (!(log_p > -infinity)) continue;
          if (!(likeliest_outside > -infinity)) likeliest_outside = log_p;
          outside += std::exp(log_p - likeliest_outside);
          continue;
        }
        inside += std::exp(log_p);
        const std::size_t at = row * static_cast<std::size_t>(m.k) + i;
        expect(f.token[at] == order[i] && single.token[at] == order[i], "token ", f.token[at], " is number ", i,
               ", not ", order[i]);
        expect(near(f.logp[at], log_p, 1e-12, 1) && near(single.logp[at], log_p, 1e-5, 1), "log-probability ",
               f.logp[at], ", not ", log_p);
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(m.k); ++i) {
        const double share = std::exp(p[static_cast<std::size_t>(order[i])]) / inside;
        if (share > 0) entropy -= share * std::log(share);
      }
      const double tail = outside > 0 ? likeliest_outside + std::log(outside) : -infinity;
      expect(near(f.tail[row], tail, 1e-11, 1), "the others have ", f.tail[row], ", not ", tail);
      expect(near(f.entropy[row], entropy, 1e-11, 1) && f.entropy[row] >= 0 && f.entropy[row] <= std::log(m.k) + 1e-12,
             "entropy ", f.entropy[row], ", not ", entropy);
    }
  });
}

namespace {

template <class T>
std::vector<double> mass(const matrices& m, const rlhf::truncation& how) {
  const std::vector<T> z(m.x.begin(), m.x.end());
  std::vector<T> out(static_cast<std::size_t>(m.rows), T(7));
  rlhf::reference_backend be;
  expect_done(rlhf::surviving_mass(be, rlhf::view<const T, 2>{z.data(), m.rows, m.columns, m.columns}, how,
                                   rlhf::view<T>(out), m.temperature, m.vocabulary,
                                   m.mask.empty() ? rlhf::mask_view<>{} : rlhf::mask_view<>(m.mask)),
              "surviving_mass");
  return {out.begin(), out.end()};
}
/// By the definition: sort, cut, add up. `close`: a threshold lies within this of a choice.
double mass_by_sorting(const matrices& m, const rlhf::truncation& how, std::int64_t r, double margin, bool& close) {
  const auto p = log_softmax(m, m.x, r);
  std::vector<std::size_t> order(p.size());
  for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
  const auto logit = [&](std::size_t j) { return m.x[m.at(r, static_cast<std::int64_t>(j))]; };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logit(a) > logit(b); });
  const auto with_ties_of = [&](std::size_t kept) {
    while (kept < order.size() && logit(order[kept]) == logit(order[kept - 1])) ++kept;
    return kept;
  };
  std::size_t kept = order.size();
  if (how.min_p > 0) {
    kept = 0;
    for (const std::size_t j : order) {
      const double above = p[j] - p[order[0]] - std::log(how.min_p);
      close = close || (how.min_p < 1 && std::abs(above) < margin);
      if (above >= 0) ++kept;
    }
  }
  if (how.top_k > 0) kept = std::min(kept, with_ties_of(std::min(order.size(), static_cast<std::size_t>(how.top_k))));
  double whole = 0, sum = 0;
  for (std::size_t i = 0; i < kept; ++i) whole += std::exp(p[order[i]]);
  if (how.top_p < 1) {
    std::size_t n = 0;
    while (n < kept && (n == 0 || sum / whole < how.top_p)) {
      for (const std::size_t end = with_ties_of(n + 1); n < end; ++n) sum += std::exp(p[order[n]]);
      close = close || std::abs(sum / whole - how.top_p) < margin;
    }
    whole = sum;
  }
  return std::log(std::min(whole, 1.0));
}

}  // namespace

TEST_CASE("surviving mass: what sorting says, and never more with a sharper cut") {
  for_all("mass", 1, [] {
    numbers random(seed());
    // Flat rows, where every cut is felt, and sharp ones.
    const matrices m = masked(with_ties(random.chance(0.6) ? 1.5 : 20), random), spoilt = spoiled(m, random);
    rlhf::truncation how;
    if (random.chance(0.5)) how.min_p = random.chance(0.2) ? 1 : random.uniform(0, 1) * random.uniform(0, 1);
    if (random.chance(0.5)) how.top_k = random.integer(1, m.vocabulary + 1);
    if (random.chance(0.7)) how.top_p = random.uniform(0.01, 1);
    const auto all = mass<double>(m, {}), some = mass<double>(m, how), again = mass<double>(spoilt, how),
               single = mass<float>(m, how);
    rlhf::truncation sharper = how;
    sharper.min_p = how.min_p + (1 - how.min_p) * random.uniform(0, 1);
    sharper.top_k = how.top_k > 1 ? how.top_k - 1 : how.top_k == 0 ? m.vocabulary : 1;
    const auto fewer = mass<double>(m, sharper);
    auto less = how;
    less.top_p = how.top_p * random.uniform(0.1, 1);
    const auto nucleus = mass<double>(m, less);
    expect(same(some, again), "garbage changes the mass");
    for (std::size_t r = 0; r < all.size(); ++r) {
      expect(plain_zero(all[r]), "nothing is cut, and the mass is ", all[r]);
      if (!m.valid(r)) {
        expect(plain_zero(some[r]), "a masked row keeps ", some[r]);
        continue;
      }
      bool close = false, closer = false;
      const double want = mass_by_sorting(m, how, static_cast<std::int64_t>(r), 1e-12, close);
      mass_by_sorting(m, how, static_cast<std::int64_t>(r), 1e-4, closer);
      expect(some[r] <= 0 && (close || near(some[r], want, 1e-12, 1)), "min-p ", how.min_p, ", top-k ", how.top_k,
             ", top-p ", how.top_p, ": ", some[r], ", not ", want);
      expect(closer || near(single[r], want, 1e-5, 1), "min-p ", how.min_p, ", top-k ", how.top_k, ", top-p ",
             how.top_p, ": ", single[r], " in float, not ", want);
      expect(nucleus[r] <= some[r] + 1e-12, "a smaller nucleus keeps ", nucleus[r], ", the larger one ", some[r]);
      if (how.top_p >= 1)
        expect(fewer[r] <= some[r] + 1e-12, "a sharper cut keeps ", fewer[r], ", the other one ", some[r]);
    }
    // What top-k leaves and what it gives to the others are all there is, where nothing ties.
    const auto found = find_likeliest<double>(m, m.k, m.x);
    const auto kept = mass<double>(m, {.top_k = m.k});
    for (std::size_t r = 0; r < kept.size(); ++r) {
      if (!m.valid(r)) continue;
      double whole = 0;
      bool ties = false;
      for (std::int64_t i = 0; i < m.k; ++i) {
        const std::size_t at = r * static_cast<std::size_t>(m.k) + static_cast<std::size_t>(i);
        whole += std::exp(found.logp[at]);
        if (i == m.k - 1)
          for (std::int64_t j = 0; j < m.vocabulary; ++j)
            ties = ties || (j != found.token[at] && m.x[m.at(static_cast<std::int64_t>(r), j)] ==
                                                        m.x[m.at(static_cast<std::int64_t>(r), found.token[at])]);
      }
      expect(near(whole + std::exp(found.tail[r]), 1, 1e-12), "the k have ", whole, ", the others ", found.tail[r]);
      expect(ties || near(std::exp(kept[r]), whole, 1e-12), "top-k keeps ", kept[r], ", its tokens have ", whole);
    }
  });
}

namespace {

struct mixed {
  std::vector<double> logp, lse, normaliser;
};
/// `on`: 0 writes elsewhere, 1 on the policy, 2 on the reference.
template <class T>
mixed mix(const matrices& m, const rlhf::logit_mixture& mixture, int on = 0) {
  std::vector<T> x(m.x.begin(), m.x.end()), y(m.y.begin(), m.y.end()), apart(x.size(), T(7));
  std::vector<T> lse(static_cast<std::size_t>(m.rows)), normaliser(lse.size());
  std::vector<T>& to = on == 0 ? apart : on == 1 ? x : y;
  rlhf::reference_backend be;
  expect_done(rlhf::sampling_distribution(
                  be, mixture,
                  rlhf::sampling_inputs<T>{
                      {x.data(), m.rows, m.columns, m.columns}, {y.data(), m.rows, m.columns, m.columns}, m.vocabulary},
                  rlhf::sampling_outputs<T>{{to.data(), m.rows, m.columns, m.columns}, lse, normaliser}),
              "sampling_distribution");
  mixed f;
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t j = 0; j < m.columns; ++j) {
      if (j < m.vocabulary)
        f.logp.push_back(to[m.at(r, j)]);
      else if (on == 0)
        expect(to[m.at(r, j)] == T(7), "a column beyond the vocabulary is written");
    }
  f.lse.assign(lse.begin(), lse.end());
  f.normaliser.assign(normaliser.begin(), normaliser.end());
  return f;
}

}  // namespace

TEST_CASE("sampling distributions: they are distributions, of powers of the two") {
  for_all("mixtures", 1, [] {
    numbers random(seed());
    matrices m = draw(real(0.1, 8), excluded::in_both);
    m.temperature = 1;
    const double share = random.chance(0.2) ? static_cast<double>(random.integer(0, 1)) : random.uniform(0, 1);
    const double beta = random.uniform(0, 1);
    const rlhf::logit_mixture mixtures[] = {rlhf::geometric_mixture(share),
                                            rlhf::pilaf(beta),
                                            rlhf::pilaf(beta, false),
                                            {random.uniform(-2, 2), random.uniform(-2, 2)}};
    matrices spoilt = m, shifted = m;
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const double a = random.uniform(-100, 100), b = random.uniform(-100, 100);
      for (std::int64_t j = 0; j < m.columns; ++j) {
        shifted.x[m.at(r, j)] += a;
        shifted.y[m.at(r, j)] += b;
        if (j >= m.vocabulary) spoilt.x[m.at(r, j)] = spoilt.y[m.at(r, j)] = random.garbage();
      }
    }
    const auto v = static_cast<std::size_t>(m.vocabulary);
    for (const auto& mixture : mixtures) {
      const mixed f = mix<double>(m, mixture), g = mix<double>(spoilt, mixture), s = mix<double>(shifted, mixture),
                  single = mix<float>(m, mixture);
      expect(same(f.logp, g.logp) && same(f.lse, g.lse) && same(f.normaliser, g.normaliser),
             "garbage beyond the vocabulary changes the result");
      for (const int on : {1, 2}) expect(same(f.logp, mix<double>(m, mixture, on).logp), "another result in place");
      for (std::size_t r = 0; r < f.lse.size(); ++r) {
        const auto row = static_cast<std::int64_t>(r);
        const auto p = log_softmax(m, m.x, row), q = log_softmax(m, m.y, row);
        double sum = 0, normaliser = 0;
        for (std::size_t j = 0; j < v; ++j) {
          sum += std::exp(f.logp[r * v + j]);
          const bool out = m.x[m.at(row, static_cast<std::int64_t>(j))] <= -infinity;
          const double power = out ? -infinity : mixture.policy * p[j] + mixture.reference * q[j];
          normaliser += std::exp(power);
          expect(near(f.logp[r * v + j], power - f.normaliser[r], 1e-11, 10), "token ", j, " has ", f.logp[r * v + j],
                 ", not ", power - f.normaliser[r]);
          expect(near(f.logp[r * v + j], s.logp[r * v + j], 1e-10, 10), "shifts make ", f.logp[r * v + j], " to ",
                 s.logp[r * v + j]);
          expect(near(f.logp[r * v + j], single.logp[r * v + j], 1e-4, 10), single.logp[r * v + j], " in float, ",
                 f.logp[r * v + j]);
        }
        expect(near(sum, 1, 1e-12), "probabilities add up to ", sum);
        expect(near(f.normaliser[r], std::log(normaliser), 1e-11, 10) &&
                   near(f.normaliser[r], s.normaliser[r], 1e-10, 100),
               "log-normaliser ", f.normaliser[r], ", not ", std::log(normaliser));
      }
    }
    // Hoelder: powers that add up to 1 do not reach the whole; pi^{1+b} / ref^b and its partner do together.
    const mixed geometric = mix<double>(m, mixtures[0]), plus = mix<double>(m, mixtures[1]),
                minus = mix<double>(m, mixtures[2]);
    for (std::size_t r = 0; r < geometric.lse.size(); ++r) {
      expect(geometric.normaliser[r] <= 1e-12, "log-normaliser ", geometric.normaliser[r]);
      expect(plus.normaliser[r] >= -1e-11 && plus.normaliser[r] + minus.normaliser[r] >= -1e-11, "log-normalisers ",
             plus.normaliser[r], " and ", minus.normaliser[r]);
      const auto pairs = rlhf::pilaf_pairs_of(plus.normaliser[r], minus.normaliser[r]);
      expect(pairs.weight >= 2 - 1e-10 && near(pairs.weight * pairs.from_policy, 1, 1e-12), "weight ", pairs.weight,
             ", share of the policy ", pairs.from_policy);
    }
    // A coefficient of 0 reads nothing.
    matrices blind = m;
    for (double& z : blind.y) z = random.garbage();
    const mixed alone = mix<double>(m, {1, 0}), unseen = mix<double>(blind, {1, 0});
    expect(same(alone.logp, unseen.logp) && same(alone.lse, unseen.lse), "a coefficient of 0 reads the reference");
    std::swap(blind.x, blind.y);
    blind.y = m.y;
    const mixed other = mix<double>(m, {0, 1}), unread = mix<double>(blind, {0, 1});
    expect(same(other.logp, unread.logp) && same(other.lse, unread.lse), "a coefficient of 0 reads the policy");
    // The best policy's value lies between the mean reward and the largest one.
    const double temper = random.uniform(0.1, 2);
    matrices gibbs = m;
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const auto p = log_softmax(m, m.x, r);
      for (std::size_t j = 0; j < v; ++j) {
        gibbs.x[m.at(r, static_cast<std::int64_t>(j))] = p[j];
        double& reward = gibbs.y[m.at(r, static_cast<std::int64_t>(j))];
        reward = random.uniform(-3, 3);
      }
    }
    const mixed best = mix<double>(gibbs, rlhf::gibbs(temper));
    for (std::int64_t r = 0; r < m.rows; ++r) {
      double mean = 0, top = -infinity;
      for (std::int64_t j = 0; j < m.vocabulary; ++j) {
        const double p = std::exp(gibbs.x[m.at(r, j)]), reward = gibbs.y[m.at(r, j)];
        mean += p * reward;
        if (p > 0) top = std::max(top, reward);
      }
      const double value = temper * best.lse[static_cast<std::size_t>(r)];
      expect(value >= mean - 1e-11 && value <= top + 1e-11, "value ", value, ", mean reward ", mean, ", largest ", top);
    }
  });
}
