#pragma once
// distill_loss: divergences between a student's and a teacher's distributions over the vocabulary.

#include <string>

#include "registry.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "workspace.hpp"

namespace eval {

template <class B>
void add_distill_loss(registry& table) {
  table.add("distill_loss", "gkd",
            {number("beta", 0.5, "0: KL(teacher || student), 1: KL(student || teacher), between: their mixture"),
             number("temperature", 1, "divides the logits of both"),
             optional_number("num_items_in_batch", "tokens of the whole batch; null: of this call")},
            {required("student_logits", "B,T,V"), required("teacher_logits", "B,T,V"), optional("mask", "B,T")},
            []<class T>(const problem& p, results& out) {
              workspace<B, T> work;
              const std::int64_t rows = p.extent("B"), columns = p.extent("T"), vocabulary = p.extent("V");
              const std::int64_t n = rows * columns;
              const std::vector<double> mask = mask_or_ones(p, "mask", n);
              double tokens = 0;
              for (const double m : mask) tokens += m != 0 ? 1 : 0;
              tokens = p.settings.number_or("num_items_in_batch", tokens);
              const double weight = tokens > 0 ? 1 / tokens : 0;
              rlhf::full_kl_inputs<T, typename B::space> in;
              in.logits = {work.in(p, "student_logits").data, n, vocabulary};
              in.ref_logits = {work.in(p, "teacher_logits").data, n, vocabulary};
              in.mask = work.mask(mask);
              in.temperature = p.settings.number("temperature");
              rlhf::full_kl_outputs<T, T, typename B::space> to;
              to.kl = work.out(n);
              to.grad_kl = work.in(std::vector<double>(static_cast<std::size_t>(n), weight));
              to.grad_logits = work.out(n, vocabulary);
              require(rlhf::full_jensen_shannon(work.backend(), in, to, p.settings.number("beta")));
              const std::vector<double> value = work.read(to.kl);
              double loss = 0;
              for (const double x : value) loss += x * weight;
              out.put("per_token", {rows, columns}, value);
              out.put("loss", loss);
              out.gradient("student_logits", {rows, columns, vocabulary}, work.read(to.grad_logits));
            });
}

}  // namespace eval
