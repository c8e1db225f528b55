#pragma once
#include "workspace.h"

// Compute the batch. Returns 0, or -1 if there is no memory for it.
int forward(Pass *pass);

// 1 / √(mean of x² + eps): what an RMS norm multiplies with (Zhang and Sennrich 2019, eq. 4)
static inline float norm_scale(const float *x, long width, float eps) {
    f32v squares = all(0);
    for (long i = 0; i < width; i += LANES) squares += load(x + i) * load(x + i);
    return 1.0f / sqrtf(sum(squares) / (float)width + eps);
}
