// Drawing the next token of every row: temperature, repetition penalty and nucleus as sampling.py defines them.

#include "draw.h"
#include "product.h"
#include "team.h"

#include <stdlib.h>

enum { BLOCK = 1024 };  // numbers whose sum is kept while a draw is looked for

typedef struct { float mass; int32_t token; } Candidate;

typedef struct {
    const Draws *draws;
    float *mass;            // a thread's own (V,)
    Candidate *candidates;  // a thread's own (V,)
} Work;

// The row's logits as they are drawn from; the largest of them
static float alter(const Draws *d, long row, float *out) {
    const float *logits = d->logits + row * d->vocabulary;
    const uint8_t *seen = d->penalty[row] == 1.0f ? NULL : d->seen[row];
    float penalty = d->penalty[row], warmth = d->temperature[row] < COLD ? 1.0f : 1.0f / d->temperature[row], most = -INFINITY;
    for (long i = 0; i < d->vocabulary; i++) {
        float logit = logits[i];
        if (seen && seen[i]) logit = logit > 0 ? logit / penalty : logit * penalty;
        out[i] = logit * warmth;
    }
    f32v top = all(-INFINITY);
    long i = 0;
    for (; i + LANES <= d->vocabulary; i += LANES) top = larger(top, load(out + i));
    most = largest(top);
    for (; i < d->vocabulary; i++) most = out[i] > most ? out[i] : most;
    return most;
}

// e^(logit - most) in place; the sum, block by block; and the sum of e^x · x
static double exponentiate(float *mass, long size, float most, double *blocks, double *expected) {
    double whole = 0;
    *expected = 0;
    for (long from = 0; from < size; from += BLOCK) {
        long to = from + BLOCK < size ? from + BLOCK : size, i = from;
        f32v total = all(0), mean = all(0);
        for (; i + LANES <= to; i += LANES) {
            f32v x = load(mass + i) - most, e = vexp(x);
            store(mass + i, e);
            total += e;
            mean += e * x;
        }
        double block = sum(total);
        *expected += sum(mean);
        for (; i < to; i++) {
            float x = mass[i] - most;
            block += mass[i] = expf(x);
            *expected += mass[i] * x;
        }
        whole += blocks[from / BLOCK] = block;
    }
    return whole;
}

// The token at which the cumulative mass passes `target`
static long find(const float *mass, long size, const double *blocks, double target) {
    long block = 0, last = (size - 1) / BLOCK;
    while (block < last && target >= blocks[block]) target -= blocks[block++];
    long end = (block + 1) * BLOCK < size ? (block + 1) * BLOCK : size, chosen = -1;
    for (long i = block * BLOCK; i < end; i++) {
        if (mass[i] <= 0) continue;
        chosen = i;
        if (target < mass[i]) break;
        target -= mass[i];
    }
    return chosen < 0 ? end - 1 : chosen;
}

static int likelier(const void *a, const void *b) {
    const Candidate *one = a, *two = b;
    if (one->mass != two->mass) return one->mass < two->mass ? 1 : -1;
    return one->token < two->token ? -1 : 1;
}

// All tokens at or above `least`, sorted; how many, and their mass
static long gather(const float *mass, long size, float least, Candidate *out, double *total) {
    long count = 0;
    *total = 0;
    for (long i = 0; i < size; i++)
        if (mass[i] >= least) {
            out[count++] = (Candidate){mass[i], (int32_t)i};
            *total += mass[i];
        }
    return count;
}

// Nucleus sampling (Holtzman et al. 2020, eq. 3): the fewest likeliest tokens that hold `top_p` of the mass
static long nucleus(const float *mass, long size, double whole, double top_p, double uniform, Candidate *candidates) {
    double total = 0;
    long count = 0;
    for (float least = 1e-2f; least > 1e-30f; least *= 1e-2f) {
        count = gather(mass, size, least, candidates, &total);
        if (total >= top_p * whole) break;
    }
    if (!count) return 0;  // NaN logits: some token of the vocabulary
    qsort(candidates, count, sizeof *candidates, likelier);
    double inside = 0;
    long kept = 0;
    while (kept < count && (!kept || inside < top_p * whole)) inside += candidates[kept++].mass;
    double target = uniform * inside;
    for (long i = 0; i < kept; i++) {
        if (target < candidates[i].mass) return candidates[i].token;
        target -= candidates[i].mass;
    }
    return candidates[kept - 1].token;
}

static void draw_row(const Draws *d, long row, float *mass, Candidate *candidates) {
    long size = d->vocabulary;
    double blocks[(size - 1) / BLOCK + 1];
    float most = alter(d, row, mass);
    d->logprob[row] = d->entropy[row] = NAN;
    if (d->temperature[row] < COLD) {
        long token = 0;
        while (mass[token] != most && token < size - 1) token++;
        d->token[row] = token;
        return;
    }
    double expected, whole = exponentiate(mass, size, most, blocks, &expected);
    if (d->top_p[row] < 1) {
        d->token[row] = nucleus(mass, size, whole, d->top_p[row], d->uniform[row], candidates);
        return;
    }
    long token = find(mass, size, blocks, d->uniform[row] * whole);
    d->token[row] = token;
    if (d->temperature[row] == 1 && d->penalty[row] == 1) {
        d->logprob[row] = (float)(d->logits[row * size + token] - most - log(whole));
        d->entropy[row] = (float)(log(whole) - expected / whole);
    }
}

static void run(void *argument, int thread) {
    const Work *work = argument;
    const Draws *d = work->draws;
    EACH(row, d->rows) draw_row(d, row, work->mass + thread * ROUND_UP(d->vocabulary, LANES), work->candidates + thread * d->vocabulary);
    team_wait();
}

int draw(const Draws *draws) {
    long each = ROUND_UP(draws->vocabulary, LANES);
    Work work = {draws, malloc(draws->threads * each * sizeof(float)), malloc(draws->threads * each * sizeof(Candidate))};
    if (work.mass && work.candidates) team_run(run, &work, (int)draws->threads);
    free(work.mass);
    free(work.candidates);
    return work.mass && work.candidates ? 0 : -1;
}
