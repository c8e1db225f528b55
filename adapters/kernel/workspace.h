// Memory that a forward pass works in and a gradient is computed from. It grows to the largest batch and stays.

#pragma once
#include "model.h"

// What a layer leaves for its gradient; without one all layers share the first one's.
typedef struct {
    float *before, *middle;  // (T, D) the residual stream before attention, before the feed-forward
    float *raw;              // (T, (H + G) · d) queries and keys before their own norms, where they have any
    bf16 *query;             // (T, H · d) rotated
    float *mass;             // (T, H) log of the sum of e^score
    bf16 *attended;          // (T, H · d)
    bf16 *gate, *up;         // (T, F)
    bf16 *low;               // (T, MODULES, R') A · x
} Kept;

typedef struct {
    float *x;         // (T, D) the residual stream
    bf16 *h;          // (T, D) normed
    float *wide;      // (T, (H + 2 G) · d): q, k and v, later their gradients
    bf16 *inner;      // (T, F)
    bf16 *final;      // (wanted, D)
    float *logits;    // (wanted, V)
    float *scores;    // a thread's own: H / G rows of the longest context, twice
    float *tiles;     // a thread's own: 2 tiles
    // for gradients
    bf16 *dnarrow;    // (T, D) or (T, (H + 2 G) · d) what comes from above
    float *dh;        // (T, D) of a normed state
    bf16 *dattended;  // (T, H · d)
    float *dshared;   // (sequences - 1, shared, 2 G · d) what all but the first ask of the keys and values of their beginning
    bf16 *dgate, *dup;  // (T, F)
    float *low, *dlow;  // (T, MODULES, R')
    bf16 *dlogits;    // (wanted, V)
    float *grown;     // a thread's own scratch of attention's gradient
    Kept *kept;       // layers
} Workspace;

enum { ROWS = 192 };  // rows of one piece of a product: they and a panel stay in the second-level cache

typedef struct {
    const Model *model;
    const Batch *batch;
    long threads;  // a gradient runs on as many as its own pass: their scratch is laid out once
    Workspace work;
    long longest;  // positions of the longest sequence, rounded up to pages
} Pass;

// Floats of a thread's own two tiles; one group's heads of attention fit in too.
static inline long tile_size(const Model *m) {
    long heads = m->heads / m->groups * head_room(m);
    return heads > 2 * ROWS * WIDE ? heads : 2 * ROWS * WIDE;
}

// Floats of a thread's scratch for attention's gradient (backward.c)
static inline long grown_size(const Model *m, long longest) { return 48 * longest * 4 + longest * head_room(m) * 3 + 48 * head_room(m) * 2 + 256; }

typedef struct { long from, to, panel; } Piece;  // of a product: tokens, and the panel of outputs

// Rows first, so that they stay cached while panels pass by.
INLINE Piece piece_of(const Pass *p, long number, long panels) {
    long from = number / panels * ROWS, to = from + ROWS;
    return (Piece){from, to < p->batch->tokens ? to : p->batch->tokens, number % panels};
}

INLINE long pieces(const Pass *p, long panels) { return (p->batch->tokens + ROWS - 1) / ROWS * panels; }

// Lay out a workspace for the batch. Returns 0, or -1 if there is no memory for it.
int workspace_lay(Pass *pass);
