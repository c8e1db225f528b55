#pragma once
#include "model.h"

// Panels [outputs / 32][inputs / 2][32][2] of a weight (outputs, inputs), or of one stored `turned` (inputs, outputs).
void pack_panels(const bf16 *weight, long outputs, long inputs, int turned, int threads, bf16 *out);

// Fill a slot from float32 factors: layer by layer, module by module, A (R, K) and B (N, R).
void pack_adapter(const Model *model, const float *const *factors, float scale, bf16 *slot);
