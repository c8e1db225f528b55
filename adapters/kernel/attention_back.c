// The gradient of attention over whole sequences (Dao et al. 2022, appendix B.2), some queries at a time.

#include "attention_back.h"

enum { QUERIES = 48 };  // of attention's gradient at once, an even number

// Two pairs side by side become the pair of their firsts and the pair of their seconds
INLINE void turn(const bf16 *one, const bf16 *two, bf16 *firsts, bf16 *seconds) {
    bf16 four[] = {one[0], two[0], one[1], two[1]};
    memcpy(firsts, four, 2 * sizeof *four);
    memcpy(seconds, four + 2, 2 * sizeof *four);
}

// x (rows, width) → (width, QUERIES), noughts where rows end inside a pair
static void transpose(const bf16 *x, long step, long rows, long width, bf16 *out) {
    const bf16 nought[2] = {0, 0};
    for (long r = 0; r < rows; r += 2)
        for (long i = 0; i < width; i += 2)
            turn(x + r * step + i, r + 1 < rows ? x + (r + 1) * step + i : nought, out + i * QUERIES + r,
                 out + (i + 1) * QUERIES + r);
}

// One head's gradient of attention for queries `from` to `to` of a sequence, over keys 0 to `to` - 1.
typedef struct {
    float *scores, *dshares;  // (QUERIES, longest)
    bf16 *dscores;            // (QUERIES, longest)
    bf16 *shares, *spread;    // panels of the shares and of dscores: queries by key
    bf16 *keys, *values;      // panels: keys by dimension, values by key
    bf16 *upright;            // (d, QUERIES) queries or outputs' gradients
    float *dkeys, *dvalues;   // (d, longest)
    float *dqueries;          // (QUERIES, head_room)
    long padded;              // keys of the sequence, rounded up to pages
} Grown;

static Grown grown_of(const Pass *p, int thread) {
    const Model *m = p->model;
    long longest = p->longest, room = head_room(m);
    char *at = (char *)(p->work.grown + thread * grown_size(m, longest));
    Grown g;
#define NEXT(what, count) (g.what = (void *)at, at += ROUND_UP((count) * (long)sizeof *g.what, 64))
    NEXT(scores, QUERIES * longest);
    NEXT(dshares, QUERIES * longest);
    NEXT(dscores, QUERIES * longest);
    NEXT(shares, QUERIES * longest);
    NEXT(spread, QUERIES * longest);
    NEXT(keys, longest * room);
    NEXT(values, longest * room);
    NEXT(upright, QUERIES * room);
    NEXT(dkeys, longest * m->head);
    NEXT(dvalues, longest * m->head);
    NEXT(dqueries, QUERIES * room);
#undef NEXT
    return g;
}

// Pages hold keys summed over dimensions and values summed over keys; the gradient sums each the other way round.
static void gather(const Pass *p, long layer, long group, const int32_t *pages, const Grown *g) {
    const Model *m = p->model;
    long room = head_room(m);
    for (long key = 0; key < g->padded; key += 2) {
        const bf16 *k = p->batch->cache + page_at(m, pages[key / PAGE], layer, 0, group) + key % PAGE * 2;
        const bf16 *v = p->batch->cache + page_at(m, pages[key / PAGE], layer, 1, group) + key % PAGE * WIDE;
        bf16 *values = g->values + key / PAGE * room * WIDE + key % PAGE * 2;
        for (long i = 0; i < room; i += 2) {
            bf16 *keys = g->keys + i / WIDE * g->padded * WIDE + key * WIDE + i % WIDE * 2;
            const bf16 *from = v + i / WIDE * PAGE * WIDE + i % WIDE * 2;
            turn(k + i * PAGE, k + i * PAGE + 2, keys, keys + 2);
            turn(from, from + 2, values + i * WIDE, values + i * WIDE + 2);
        }
    }
}

// Shares of one query, and their scores' gradient, over keys `i` to `i` + LANES - 1
typedef struct { f32v share, dscore; } Softened;

typedef struct {
    float mass, mean;  // log of the sum of e^score; the output along its gradient
    uint32_t begin, end;
} Query;

static Query query_of(const Pass *p, long layer, long head, long token, long position) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long at = token * m->heads + head, end = position + 1, begin = m->window && end > m->window ? end - m->window : 0;
    f32v along = all(0);
    for (long i = 0; i < m->head; i += LANES)
        along += widen(kept->attended + at * m->head + i) * widen(p->work.dattended + at * m->head + i);
    return (Query){kept->mass[at], sum(along), (uint32_t)begin, (uint32_t)end};
}

INLINE Softened soften_back(const Query *q, float scaling, long i, const float *score, const float *dshare) {
    static const uint32_t lanes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    u32v lane;
    memcpy(&lane, lanes, sizeof lane);
    u32v key = lane + (uint32_t)i, visible = (u32v)(key < q->end) & (u32v)(key >= q->begin);
    f32v share = (f32v)((u32v)vexp(load(score + i) * scaling - q->mass) & visible);
    return (Softened){share, (f32v)((u32v)(share * (load(dshare + i) - q->mean) * scaling) & visible)};
}

// Two queries' shares and gradients of scores, rounded: side by side in panels, and the latter row by row
static void soften_pair(const Query *q, long two, float scaling, long seen, long step, long row, long deep, const Grown *g) {
    const float *scores = g->scores + row * step, *dshares = g->dshares + row * step;
    for (long i = 0; i < seen; i += LANES) {
        bf16 shares[2][LANES] = {0}, *dscores = g->dscores + row * step + i, nought[LANES] = {0};
        for (long r = 0; r <= two; r++) {
            Softened s = soften_back(&q[r], scaling, i, scores + r * step, dshares + r * step);
            narrow(shares[r], s.share);
            narrow(dscores + r * step, s.dscore);
        }
        long at = i / WIDE * deep * WIDE + row * WIDE + i % WIDE * 2;
        store_pairs(g->shares + at, shares[0], shares[1]);
        store_pairs(g->spread + at, dscores, two ? dscores + step : nought);
    }
}

static void attend_back_chunk(const Pass *p, long layer, long head, const int32_t *pages, long first, long from, long to,
                              const Grown *g) {
    const Model *m = p->model;
    long d = m->head, room = head_room(m), step = p->longest, wide = m->heads * d, group = head / (m->heads / m->groups);
    long rows = to - from, seen = ROUND_UP(to, PAGE), deep = even(rows), token = first + from;
    const bf16 *query = p->work.kept[layer].query + token * wide + head * d, *dout = p->work.dattended + token * wide + head * d;
    for (long page = 0; page < seen / PAGE; page++) {
        product(rows, query, wide, p->batch->cache + page_at(m, pages[page], layer, 0, group), d / 2,
                g->scores + page * PAGE, step, 0);
        product(rows, dout, wide, g->values + page * room * WIDE, d / 2, g->dshares + page * PAGE, step, 0);
    }
    for (long r = 0; r < rows; r += 2) {
        long two = r + 1 < rows;
        Query q[] = {query_of(p, layer, head, token + r, from + r), query_of(p, layer, head, token + r + two, from + r + two)};
        soften_pair(q, two, m->scaling, seen, step, r, deep, g);
    }
    for (long i = 0; i < room; i += WIDE)
        product(rows, g->dscores, step, g->keys + i * g->padded, seen / 2, g->dqueries + i, room, 0);
    float *to_query = p->work.wide + token * (wide + 2 * m->groups * d) + head * d;
    for (long r = 0; r < rows; r++) memcpy(to_query + r * (wide + 2 * m->groups * d), g->dqueries + r * room, d * sizeof(float));
    transpose(dout, wide, rows, d, g->upright);
    for (long key = 0; key < seen; key += PAGE)
        product(d, g->upright, QUERIES, g->shares + key * deep, deep / 2, g->dvalues + key, step, 1);
    transpose(query, wide, rows, d, g->upright);
    for (long key = 0; key < seen; key += PAGE)
        product(d, g->upright, QUERIES, g->spread + key * deep, deep / 2, g->dkeys + key, step, 1);
}

// The gradients of a sequence's keys and values to their tokens; those of a beginning that others own are added up later.
static void hand_on(const Pass *p, const int32_t *firsts, long sequence, long group, const Grown *g) {
    const Model *m = p->model;
    long d = m->head, step = p->longest, row = (m->heads + 2 * m->groups) * d, pair = 2 * m->groups * d;
    long others = sequence ? p->batch->shared : 0, length = others + firsts[sequence + 1] - firsts[sequence];
    for (long t = 0; t < length; t++) {
        float *to = t < others ? p->work.dshared + ((sequence - 1) * others + t) * pair
                               : p->work.wide + (firsts[sequence] + t - others) * row + m->heads * d;
        for (long i = 0; i < d; i++) {
            to[group * d + i] = g->dkeys[i * step + t];
            to[(m->groups + group) * d + i] = g->dvalues[i * step + t];
        }
    }
}

void attend_back(const Pass *p, const int32_t *firsts, long layer, long number, int thread) {
    const Model *m = p->model;
    long sequence = number / m->groups, group = number % m->groups, repeats = m->heads / m->groups;
    long begin = sequence ? p->batch->shared : 0, first = firsts[sequence] - begin, length = firsts[sequence + 1] - first;
    const int32_t *pages = p->batch->table + sequence * p->batch->table_width;
    Grown g = grown_of(p, thread);
    g.padded = ROUND_UP(length, PAGE);
    gather(p, layer, group, pages, &g);
    memset(g.dkeys, 0, m->head * p->longest * sizeof(float));
    memset(g.dvalues, 0, m->head * p->longest * sizeof(float));
    for (long head = group * repeats; head < (group + 1) * repeats; head++)
        for (long from = begin; from < length; from += QUERIES)
            attend_back_chunk(p, layer, head, pages, first, from, from + QUERIES < length ? from + QUERIES : length, &g);
    hand_on(p, firsts, sequence, group, &g);
}
