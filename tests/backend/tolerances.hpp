#pragma once
// How exact a backend must be in a type. The tables stand in the conformance_<backend>.cpp files.

struct tolerances {
  double element;   ///< relative error of one element
  double sum;       ///< relative error of a sum of terms of one sign
  double scan;      ///< relative, and absolute, error of a recurrence
  double row;       ///< error of a row's log-sum-exp, entropy and sums, in epsilons of the magnitude of its logits
  double function;  ///< error of a mathematical function, in epsilons; derivatives may have three times as much
};
