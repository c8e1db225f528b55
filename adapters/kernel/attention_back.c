// The gradient of attention over whole sequences (Dao et al. 2022, appendix B.2), some queries at a time.

#include "attention_back.h"

enum { QUERIES = 48 };  // of attention's gradient at once

// Panels of x (rows, width) read as K = rows, N = width: [width / 32][rows / 2][32][2]
static void panels_of(const bf16 *x, long step, long rows, long width, bf16 *out) {
    for (long n = 0; n < ROUND_UP(width, WIDE); n++)
        for (long k = 0; k < even(rows); k++)
            out[n / WIDE * even(rows) * WIDE + k / 2 * 2 * WIDE + n % WIDE * 2 + k % 2] =
                k < rows && n < width ? x[k * step + n] : 0;
}

// One head's gradient of attention for queries `from` to `to` of a sequence, over keys 0 to `to` - 1 (Dao et al. 2022, App. B.2).
typedef struct {
    float *scores, *dshares;  // (QUERIES, longest)
    bf16 *shares, *dscores;   // (QUERIES, longest)
    bf16 *flipped;            // (longest, QUERIES)
    bf16 *keys, *values;      // panels: keys by dimension, values by key
    bf16 *thin;               // panels of 48 queries or outputs' gradients
    float *dkeys, *dvalues;   // (longest, head_room)
    float *dqueries;          // (QUERIES, head_room)
} Grown;

static Grown grown_of(const Pass *p, int thread) {
    const Model *m = p->model;
    long longest = p->longest, room = head_room(m);
    char *at = (char *)(p->work.grown + thread * grown_size(m, longest));
    Grown g;
#define NEXT(what, count) (g.what = (void *)at, at += ROUND_UP((count) * (long)sizeof *g.what, 64))
    NEXT(scores, QUERIES * longest);
    NEXT(dshares, QUERIES * longest);
    NEXT(shares, QUERIES * longest);
    NEXT(dscores, QUERIES * longest);
    NEXT(flipped, QUERIES * longest);
    NEXT(keys, longest * room);
    NEXT(values, longest * room);
    NEXT(thin, QUERIES * room);
    NEXT(dkeys, longest * room);
    NEXT(dvalues, longest * room);
    NEXT(dqueries, QUERIES * room);
#undef NEXT
    return g;
}

static void gather(const Pass *p, long layer, long group, const int32_t *pages, long length, const Grown *g) {
    const Model *m = p->model;
    long d = m->head, room = head_room(m), padded = ROUND_UP(length, PAGE);
    for (long key = 0; key < padded; key++) {
        const bf16 *k = p->batch->cache + page_at(m, pages[key / PAGE], layer, 0, group) + key % PAGE * 2;
        const bf16 *v = p->batch->cache + page_at(m, pages[key / PAGE], layer, 1, group) + key % PAGE / 2 * 2 * WIDE + key % 2;
        for (long i = 0; i < room; i++) {
            int there = key < length && i < d;
            // keys: summed over keys, so that a panel's columns are dimensions
            g->keys[i / WIDE * padded * WIDE + key / 2 * 2 * WIDE + i % WIDE * 2 + key % 2] =
                there ? k[i / 2 * 2 * PAGE + i % 2] : 0;
            // values: summed over dimensions, so that a panel's columns are keys
            g->values[key / PAGE * room * WIDE + i / 2 * 2 * WIDE + key % PAGE * 2 + i % 2] =
                there ? v[i / WIDE * PAGE * WIDE + i % WIDE * 2] : 0;
        }
    }
}

static void flip(const bf16 *x, long step, long rows, long columns, bf16 *out) {  // (rows, columns) → (columns, QUERIES)
    for (long c = 0; c < columns; c++)
        for (long r = 0; r < QUERIES; r++) out[c * QUERIES + r] = r < rows ? x[r * step + c] : 0;
}

static void attend_back_chunk(const Pass *p, long layer, long head, const int32_t *pages, long first, long from, long to,
                              long length, const Grown *g) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long d = m->head, room = head_room(m), step = p->longest, wide = m->heads * d, group = head / (m->heads / m->groups);
    long rows = to - from, seen = ROUND_UP(to, PAGE), padded = ROUND_UP(length, PAGE), token = first + from;
    const bf16 *query = kept->query + token * wide + head * d, *dout = p->work.dattended + token * wide + head * d;
    for (long page = 0; page < seen / PAGE; page++) {
        product(rows, query, wide, p->batch->cache + page_at(m, pages[page], layer, 0, group), d / 2,
                g->scores + page * PAGE, step, 0);
        product(rows, dout, wide, g->values + page * room * WIDE, d / 2, g->dshares + page * PAGE, step, 0);
    }
    for (long r = 0; r < rows; r++) {
        const bf16 *out = kept->attended + (token + r) * wide + head * d;
        f32v along = all(0);
        for (long i = 0; i < d; i += LANES) along += widen(out + i) * widen(dout + r * wide + i);
        float mean = sum(along), mass = kept->mass[(token + r) * m->heads + head];
        long end = from + r + 1, begin = m->window && end > m->window ? end - m->window : 0;
        u32v lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        for (long i = 0; i < seen; i += LANES) {
            u32v key = lane + (uint32_t)i, visible = (u32v)(key < (uint32_t)end) & (u32v)(key >= (uint32_t)begin);
            f32v share = (f32v)((u32v)vexp(load(g->scores + r * step + i) * m->scaling - mass) & visible);
            narrow(g->shares + r * step + i, share);
            narrow(g->dscores + r * step + i,
                   (f32v)((u32v)(share * (load(g->dshares + r * step + i) - mean) * m->scaling) & visible));
        }
    }
    for (long i = 0; i < room; i += WIDE)
        product(rows, g->dscores, step, g->keys + i * padded, seen / 2, g->dqueries + i, room, 0);
    float *to_query = p->work.wide + token * (wide + 2 * m->groups * d) + head * d;
    for (long r = 0; r < rows; r++) memcpy(to_query + r * (wide + 2 * m->groups * d), g->dqueries + r * room, d * sizeof(float));
    long deep = even(rows);
    panels_of(dout, wide, rows, d, g->thin);
    flip(g->shares, step, rows, seen, g->flipped);
    for (long i = 0; i < room; i += WIDE)
        product(seen, g->flipped, QUERIES, g->thin + i * deep, deep / 2, g->dvalues + i, room, 1);
    panels_of(query, wide, rows, d, g->thin);
    flip(g->dscores, step, rows, seen, g->flipped);
    for (long i = 0; i < room; i += WIDE)
        product(seen, g->flipped, QUERIES, g->thin + i * deep, deep / 2, g->dkeys + i, room, 1);
}

// The gradients of a sequence's keys and values to their tokens; those of a beginning that others own are added up later.
static void hand_on(const Pass *p, const int32_t *firsts, long sequence, long group, const Grown *g) {
    const Model *m = p->model;
    long d = m->head, room = head_room(m), row = (m->heads + 2 * m->groups) * d, pair = 2 * m->groups * d;
    long others = sequence ? p->batch->shared : 0, length = others + firsts[sequence + 1] - firsts[sequence];
    for (long t = 0; t < length; t++) {
        float *to = t < others ? p->work.dshared + ((sequence - 1) * others + t) * pair
                               : p->work.wide + (firsts[sequence] + t - others) * row + m->heads * d;
        memcpy(to + group * d, g->dkeys + t * room, d * sizeof *to);
        memcpy(to + (m->groups + group) * d, g->dvalues + t * room, d * sizeof *to);
    }
}

void attend_back(const Pass *p, const int32_t *firsts, long layer, long number, int thread) {
    const Model *m = p->model;
    long sequence = number / m->groups, group = number % m->groups, repeats = m->heads / m->groups, room = head_room(m);
    long begin = sequence ? p->batch->shared : 0, first = firsts[sequence] - begin, length = firsts[sequence + 1] - first;
    const int32_t *pages = p->batch->table + sequence * p->batch->table_width;
    Grown g = grown_of(p, thread);
    gather(p, layer, group, pages, length, &g);
    memset(g.dkeys, 0, ROUND_UP(length, PAGE) * room * sizeof(float));
    memset(g.dvalues, 0, ROUND_UP(length, PAGE) * room * sizeof(float));
    for (long head = group * repeats; head < (group + 1) * repeats; head++)
        for (long from = begin; from < length; from += QUERIES)
            attend_back_chunk(p, layer, head, pages, first, from, from + QUERIES < length ? from + QUERIES : length, length, &g);
    hand_on(p, firsts, sequence, group, &g);
}
