// Matrix products of bfloat16 numbers, summed in float32.
//
// A weight W (N, K) lies in panels of 32 outputs, in the order in which they are read: [N / 32][K / 2][32][2], zeros
// where N ends inside a panel. Every sum runs over K in the same order, however many rows are computed beside it, so that
// a row's bits do not depend on its company.

#pragma once
#include "vector.h"

enum { WIDE = 32, TALL = 12 };  // outputs of a panel; rows computed at once: 24 sums and 3 operands fill 32 registers

#define PANELS(n) (((n) + WIDE - 1) / WIDE)
#define ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))

// y (rows, 32) = [y +] x (rows, 2 · pairs) · panel
INLINE void tile(const int rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step,
                 const int add) {
    f32v left[TALL], right[TALL];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        left[r] = add ? load(y + r * y_step) : all(0);
        right[r] = add ? load(y + r * y_step + LANES) : all(0);
    }
    for (long p = 0; p < pairs; p++) {
        u32v first = load_pairs(panel + p * 2 * WIDE), second = load_pairs(panel + p * 2 * WIDE + WIDE);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            u32v both = all_pair(x + r * x_step + 2 * p);
            left[r] = dot2(left[r], both, first);
            right[r] = dot2(right[r], both, second);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        store(y + r * y_step, left[r]);
        store(y + r * y_step + LANES, right[r]);
    }
}

// y (rows, 32) = [y +] x · panel, for any number of rows
static inline void product(long rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step, int add) {
#define OF(n) \
    case n: \
        if (add) { tile(n, x, x_step, panel, pairs, y, y_step, 1); } \
        else { tile(n, x, x_step, panel, pairs, y, y_step, 0); } \
        break;
    for (; rows > 0; rows -= TALL, x += TALL * x_step, y += TALL * y_step) {
        switch (rows < TALL ? rows : TALL) {
            OF(1) OF(2) OF(3) OF(4) OF(5) OF(6) OF(7) OF(8) OF(9) OF(10) OF(11) OF(12)
        }
    }
#undef OF
}
