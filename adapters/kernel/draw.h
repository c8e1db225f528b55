#pragma once
#include "vector.h"

#define COLD 1e-5f  // a division by less would leave nothing but infinity

typedef struct {
    int64_t rows, vocabulary, threads;
    const float *logits;         // (rows, V)
    const float *temperature;    // (rows,) below COLD: the likeliest token
    const float *top_p;          // (rows,)
    const float *penalty;        // (rows,) divides the logits of tokens seen
    const double *uniform;       // (rows,) in [0, 1)
    const uint8_t *const *seen;  // rows of (V,), or none where the penalty is 1
    int64_t *token;              // (rows,) out
    float *logprob, *entropy;    // (rows,) out: the model's own in nats, NaN where the distribution was altered
} Draws;

// Draw a token for every row. Returns 0, or -1 if there is no memory for it.
int draw(const Draws *draws);
