// Matrix products of bfloat16 numbers, summed in float32.
//
// A weight W (N, K) lies in panels of 32 outputs, in the order in which they are read: [N / 32][K / 2][32][2], zeros
// where N ends inside a panel. Every sum runs over K in the same order, however many rows are computed beside it, so that
// a row's bits do not depend on its company.

#pragma once
#include "vector.h"

enum { WIDE = 32, ACROSS = WIDE / LANES };  // outputs of a panel, and vectors of them

#define PANELS(n) (((n) + WIDE - 1) / WIDE)
#define ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))

// Cache lines that are asked for while a product is computed, one a step: so they come while the arithmetic goes on, and
// nobody waits for them, as one would for many asked at once. What is left when the product ends is not asked for.
enum { LINE = 64 / sizeof(bf16), MOST_LINES = 1024 };
typedef struct {
    const bf16 *line[MOST_LINES];
    long count, next;
} Ahead;

INLINE void ask(Ahead *ahead, const bf16 *from, long size) {
    long lines = (size + LINE - 1) / LINE, room = MOST_LINES - ahead->count;
    if (lines > room) lines = room;
    const bf16 **to = ahead->line + ahead->count;
    for (long i = 0; i < lines; i++) to[i] = from + i * LINE;
    ahead->count += lines;
}

#if defined(__AVX512BF16__)

enum { TALL = 12 };  // rows computed at once: 24 sums and 3 operands fill 32 registers

// y (rows, 32) = [y +] x (rows, 2 · pairs) · panel
INLINE void tile(const int rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step,
                 const int add, Ahead *ahead) {
    f32v left[TALL], right[TALL];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        left[r] = add ? load(y + r * y_step) : all(0);
        right[r] = add ? load(y + r * y_step + LANES) : all(0);
    }
    long next = ahead ? ahead->next : 0, count = ahead ? ahead->count : 0;
    for (long p = 0; p < pairs; p++) {
        if (ahead && next < count) __builtin_prefetch(ahead->line[next++], 0, 2);
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
    if (ahead) ahead->next = next;
}

#else

// Without a product of pairs: four rows by two vectors are eight sums, which leave room in 16 registers for what they are
// made of. A row's numbers are widened before, for many outputs use them; a weight as it is used.
enum { TALL = 4, DEEP = 256 };  // DEEP: pairs whose operands stay in the first-level cache

INLINE void widen_row(const bf16 *from, long count, float *to) {
    long i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, widen(from + i));
    for (; i < count; i++) to[i] = widen_one(from[i]);
}

// y (rows, 2 vectors) = [y +] x (rows, 2 · pairs) · as many outputs of a panel
INLINE void strip(const int rows, float x[TALL][2 * DEEP], const bf16 *panel, long pairs, float *y, long y_step,
                  const int add, Ahead *ahead) {
    f32v left[TALL], right[TALL];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        left[r] = add ? load(y + r * y_step) : all(0);
        right[r] = add ? load(y + r * y_step + LANES) : all(0);
    }
    long next = ahead ? ahead->next : 0, count = ahead ? ahead->count : 0;
    for (long p = 0; p < pairs; p++) {
        if (ahead && next < count) __builtin_prefetch(ahead->line[next++], 0, 2);
        u32v near = load_pairs(panel + p * 2 * WIDE), far = load_pairs(panel + p * 2 * WIDE + 2 * LANES);
        f32v one = (f32v)(near << 16), two = (f32v)(far << 16);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            left[r] += x[r][2 * p] * one;
            right[r] += x[r][2 * p] * two;
        }
        one = (f32v)(near & 0xffff0000u), two = (f32v)(far & 0xffff0000u);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            left[r] += x[r][2 * p + 1] * one;
            right[r] += x[r][2 * p + 1] * two;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        store(y + r * y_step, left[r]);
        store(y + r * y_step + LANES, right[r]);
    }
    if (ahead) ahead->next = next;
}

// y (rows, 32) = [y +] x (rows, 2 · pairs) · panel
INLINE void tile(const int rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step,
                 const int add, Ahead *ahead) {
    float wide[TALL][2 * DEEP];
    for (long from = 0; from < pairs; from += DEEP) {
        long some = pairs - from < DEEP ? pairs - from : DEEP;
        for (int r = 0; r < rows; r++) widen_row(x + r * x_step + 2 * from, 2 * some, wide[r]);
        for (int i = 0; i < WIDE; i += 2 * LANES) {
            const bf16 *weights = panel + from * 2 * WIDE + 2 * i;
            if (add || from) strip(rows, wide, weights, some, y + i, y_step, 1, ahead);
            else strip(rows, wide, weights, some, y + i, y_step, 0, ahead);
        }
    }
}

#endif

#define TILES(add, ahead) \
    for (; rows > 0; rows -= TALL, x += TALL * x_step, y += TALL * y_step) { \
        switch (rows < TALL ? rows : TALL) { \
            OF(1, add, ahead) OF(2, add, ahead) OF(3, add, ahead) OF(4, add, ahead) OF(5, add, ahead) OF(6, add, ahead) \
            OF(7, add, ahead) OF(8, add, ahead) OF(9, add, ahead) OF(10, add, ahead) OF(11, add, ahead) OF(12, add, ahead) \
        } \
    }
#define OF(n, add, ahead) \
    case n: if (n <= TALL) tile(n, x, x_step, panel, pairs, y, y_step, add, ahead); break;

// y (rows, 32) = [y +] x · panel, for any number of rows
static inline void product(long rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step, int add) {
    if (add) { TILES(1, NULL) }
    else { TILES(0, NULL) }
}

// The same, y = x · panel, while what will be read next is fetched
static inline void product_beside(long rows, const bf16 *x, long x_step, const bf16 *panel, long pairs, float *y, long y_step,
                                  Ahead *ahead) {
    TILES(0, ahead)
}
#undef OF
#undef TILES
