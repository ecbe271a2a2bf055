#pragma once

struct outcome {
  float loss = 0;
  double gradient = 0;
  bool ok = false;
};
struct outcomes {
  outcome reference, eigen;
};
