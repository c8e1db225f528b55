#pragma once
#include "workspace.h"

// The gradient of Σ weight[n] · logprob[n] over the batch that `pass` computed last with `keep`, with respect to A and B of
// the one adapter that all its tokens use. `grads` (layers: modules: A (R, K), then B (N, R)) is overwritten; the gradient is
// with respect to `scale · B`, times `scale`.
void backward(Pass *pass, const float *weight, float scale, float *grads);
