// The frozen model, the adapters' slots, and one batch of tokens: what Python hands over (native.py mirrors these).
//
// Shapes: T tokens of the batch, D hidden, H query heads of d numbers, G key heads, F inner width of the feed-forward,
// V vocabulary, R rank, N outputs and K inputs of a linear layer. A decoder of the Llama kind: RMS norms, rotary positions, grouped
// queries, a gated feed-forward; biases on q, k and v where the model has them.

#pragma once
#include "product.h"

enum { Q, KEY, VALUE, O, GATE, UP, DOWN, MODULES };
enum { PAGE = WIDE };  // tokens of a page: its keys are one panel

typedef struct {
    int64_t outputs, inputs;
    const bf16 *panels;  // of W
    const bf16 *back;    // panels of W transposed, for gradients; or none
    const float *bias;   // (N,), or none
} Linear;

typedef struct {
    Linear linear[MODULES];
    const float *norm[2];       // (D,) before attention, before the feed-forward
    const float *head_norm[2];  // (d,) of each query, of each key, before they turn; or none (Qwen 3)
} Layer;

typedef struct {
    int64_t layers, hidden, heads, groups, head, inner, vocabulary, rank, window, threads;
    float eps, scaling;
    const Layer *layer;
    Linear out;
    const bf16 *embedding;       // (V, D)
    const float *norm;           // (D,)
    const float *cosine, *sine;  // (positions, d / 2)
    int64_t positions;
} Model;

// A slot's adapter: layer by layer, module by module, A (R', K), then scale · B as panels [N / 32][R' / 2][32][2].
// R' is R rounded up to an even number, with zeros.
INLINE long even(long n) { return ROUND_UP(n, 2); }
INLINE long down_size(const Model *m, const Linear *w) { return even(m->rank) * w->inputs; }
INLINE long up_size(const Model *m, const Linear *w) { return even(m->rank) * PANELS(w->outputs) * WIDE; }

static inline long layer_size(const Model *m) {
    long size = 0;
    for (int i = 0; i < MODULES; i++) size += down_size(m, &m->layer->linear[i]) + up_size(m, &m->layer->linear[i]);
    return size;
}

// Where A of a module of a layer begins in a slot; B follows it.
static inline long adapter_at(const Model *m, long layer, int module) {
    long at = layer * layer_size(m);
    for (int i = 0; i < module; i++) at += down_size(m, &m->layer->linear[i]) + up_size(m, &m->layer->linear[i]);
    return at;
}

// A page: [layer][keys, values][G], keys as a panel [d / 2][32 tokens][2], values as panels [d / 32][16][32][2] over
// pairs of tokens.
INLINE long head_room(const Model *m) { return ROUND_UP(m->head, WIDE); }
INLINE long page_size(const Model *m) { return m->layers * 2 * m->groups * PAGE * head_room(m); }
INLINE long page_at(const Model *m, long page, long layer, int value, long group) {
    return page * page_size(m) + ((layer * 2 + value) * m->groups + group) * PAGE * head_room(m);
}

typedef struct {
    int64_t tokens, wanted, table_width, sequences;
    int64_t shared;  // the first tokens, of sequence 0, begin every other sequence too: these hold only what follows
    const int32_t *id, *position, *sequence, *slot;  // (T,)
    const int32_t *table;                            // (sequences, table_width) pages
    const int32_t *want;                             // (wanted,) tokens whose states are asked for
    const int32_t *target;                           // (wanted,) next tokens to score, or none
    bf16 *cache;                                     // pages
    const bf16 *adapters;                            // slots from 1 on
    int64_t adapter_size;
    float *states;             // (wanted, D) out
    float *logits;             // (wanted, V) out, or none
    float *logprob, *entropy;  // (wanted,) out, with `target`
    int64_t keep;              // whether a gradient will be asked for
} Batch;
