// The gradients of an adapter's A and B: sums over tokens of thin rows times wide ones.

#include "factors.h"

enum { THIN = LANES / 2 };  // rows of the rank at once: their sums over two vectors fit the registers

// out (THIN rows of the rank, 32 columns) = Σ over tokens of thin[t][r] · x[t][column]
static void outer(long tokens, const float *thin, long thin_step, const bf16 *x, long x_step, float out[THIN][WIDE]) {
    for (int i = 0; i < WIDE; i += 2 * LANES) {
        f32v left[THIN], right[THIN];
        for (int r = 0; r < THIN; r++) left[r] = right[r] = all(0);
        for (long t = 0; t < tokens; t++) {
            f32v one = widen(x + t * x_step + i), two = widen(x + t * x_step + i + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < THIN; r++) {
                left[r] += one * thin[t * thin_step + r];
                right[r] += two * thin[t * thin_step + r];
            }
        }
        for (int r = 0; r < THIN; r++) {
            store(out[r] + i, left[r]);
            store(out[r] + i + LANES, right[r]);
        }
    }
}

static float *grad_of(const Back *back, long layer, int module) {
    const Model *m = back->pass->model;
    float *at = back->grads;
    for (long l = 0; l <= layer; l++)
        for (int i = 0; i < (l < layer ? MODULES : module); i++)
            at += m->rank * (m->layer[l].linear[i].inputs + m->layer[l].linear[i].outputs);
    return at;
}

long grad_pieces(const Pass *p, int module) {
    const Linear *w = linear_of(p, 0, module);
    return PANELS(w->inputs) + PANELS(w->outputs);
}

void grad(const Back *back, long layer, int module, long number, const bf16 *x, long x_step, const bf16 *dy, long dy_step) {
    const Pass *p = back->pass;
    const Model *m = p->model;
    const Linear *w = linear_of(p, layer, module);
    long rank = m->rank, row = MODULES * even(rank), tokens = p->batch->tokens;
    int down = number < PANELS(w->inputs);
    long panel = down ? number : number - PANELS(w->inputs), width = down ? w->inputs : w->outputs;
    long count = width - panel * WIDE < WIDE ? width - panel * WIDE : WIDE;
    float *to = grad_of(back, layer, module) + (down ? panel * WIDE : rank * w->inputs + panel * WIDE * rank);
    for (long r0 = 0; r0 < rank; r0 += THIN) {
        float out[THIN][WIDE];
        const float *thin = (down ? p->work.dlow : p->work.low) + module * even(rank) + r0;
        outer(tokens, thin, row, (down ? x + panel * WIDE : dy + panel * WIDE), down ? x_step : dy_step, out);
        for (long r = r0; r < rank && r < r0 + THIN; r++)
            for (long i = 0; i < count; i++)
                to[down ? r * w->inputs + i : i * rank + r] = down ? out[r - r0][i] : out[r - r0][i] * back->scale;
    }
}
