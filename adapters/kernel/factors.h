#pragma once
#include "workspace.h"

typedef struct {
    const Pass *pass;
    const float *weight;
    float scale;
    float *grads;
    const int32_t *first;  // (sequences + 1,) each sequence's first token of its own
} Back;

static inline const Linear *linear_of(const Pass *p, long layer, int module) { return &p->model->layer[layer].linear[module]; }

// 32 columns of dA = dlowᵀ · x, or 32 rows of dB = scale · dyᵀ · low. `number`: which of the module's `grad_pieces`; x (T, K), dy (T, N).
void grad(const Back *back, long layer, int module, long number, const bf16 *x, long x_step, const bf16 *dy, long dy_step);

long grad_pieces(const Pass *p, int module);
