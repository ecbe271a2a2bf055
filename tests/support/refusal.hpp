#pragma once
// What a call that must be refused says.

#include <exception>
#include <string>

/// The words of what `f` throws, or "no refusal".
template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const std::exception& trouble) {
    return trouble.what();
  }
  return "no refusal";
}
