// Attention of tokens that decode, or that a prompt is computed with: each over its own pages.

#include "attention.h"
#include "forward.h"

static const int32_t *table_of(const Pass *p, long token) {
    return p->batch->table + p->batch->sequence[token] * p->batch->table_width;
}

// Rotary positions (Su et al. 2021, eq. 34): numbers i and i + d / 2 of a head turn together
static void rotate(const Model *m, const float *x, long position, float *out) {
    long half = m->head / 2;
    const float *cosine = m->cosine + position * half, *sine = m->sine + position * half;
    for (long i = 0; i < half; i++) {
        out[i] = x[i] * cosine[i] - x[i + half] * sine[i];
        out[i + half] = x[i + half] * cosine[i] + x[i] * sine[i];
    }
}

// Queries and keys of a token are normed head by head, in place
static void norm_heads(const Pass *p, long layer, long token) {
    const Model *m = p->model;
    long d = m->head, heads = m->heads + m->groups;
    float *x = p->work.wide + token * (heads + m->groups) * d;
    if (!m->layer[layer].head_norm[0]) return;
    if (p->batch->keep) memcpy(p->work.kept[layer].raw + token * heads * d, x, heads * d * sizeof *x);
    for (long head = 0; head < heads; head++, x += d) {
        const float *weight = m->layer[layer].head_norm[head >= m->heads];
        float scale = norm_scale(x, d, m->eps);
        for (long i = 0; i < d; i += LANES) store(x + i, load(x + i) * scale * load(weight + i));
    }
}

// One group's key and value (d) into the page of a sequence's position
static void write(const Pass *p, long layer, long group, long sequence, long position, const bf16 *key, const bf16 *value) {
    const Model *m = p->model;
    long page = p->batch->table[sequence * p->batch->table_width + position / PAGE], column = position % PAGE;
    bf16 *keys = p->batch->cache + page_at(m, page, layer, 0, group) + 2 * column;
    bf16 *values = p->batch->cache + page_at(m, page, layer, 1, group) + column / 2 * 2 * WIDE + column % 2;
    for (long i = 0; i < m->head; i += 2) memcpy(keys + i * PAGE, key + i, 2 * sizeof *key);
    for (long i = 0; i < m->head; i++) values[i / WIDE * PAGE * WIDE + i % WIDE * 2] = value[i];
}

void remember(const Pass *p, long layer, long token) {
    const Model *m = p->model;
    norm_heads(p, layer, token);
    long d = m->head, position = p->batch->position[token];
    const float *x = p->work.wide + token * (m->heads + 2 * m->groups) * d;
    float turned[d];
    for (long head = 0; head < m->heads; head++) {
        rotate(m, x + head * d, position, turned);
        for (long i = 0; i < d; i += LANES)
            narrow(p->work.kept[layer].query + (token * m->heads + head) * d + i, load(turned + i));
    }
    for (long group = 0; group < m->groups; group++) {
        bf16 key[d], value[d];
        rotate(m, x + (m->heads + group) * d, position, turned);
        for (long i = 0; i < d; i += LANES) {
            narrow(key + i, load(turned + i));
            narrow(value + i, load(x + (m->heads + m->groups + group) * d + i));
        }
        long own = p->batch->sequence[token], last = token < p->batch->shared ? p->batch->sequences - 1 : own;
        for (long sequence = own; sequence <= last; sequence++) write(p, layer, group, sequence, position, key, value);
    }
}

// e^(score - max) of one head over keys `from` to `to` - 1, rounded; 0 for the rest of their pages. Returns the sum.
static float soften(float *scores, bf16 *out, long from, long to, float scaling, float *most) {
    long first = from / PAGE * PAGE, end = ROUND_UP(to, PAGE);
    for (long i = first; i < from; i++) scores[i] = -INFINITY;
    for (long i = to; i < end; i++) scores[i] = -INFINITY;
    f32v top = all(-INFINITY), total = all(0);
    for (long i = first; i < end; i += LANES) top = larger(top, load(scores + i));
    *most = largest(top);
    for (long i = first; i < end; i += LANES) {
        f32v score = load(scores + i);
        u32v seen = (u32v)(score > -INFINITY);
        narrow(out + i, (f32v)((u32v)vexp((score - *most) * scaling) & seen));
        total += widen(out + i);
    }
    return sum(total);
}

void attend(const Pass *p, long layer, long number, float *scores, float *out) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long group = number % m->groups, token = number / m->groups, repeats = m->heads / m->groups;
    long d = m->head, room = head_room(m), step = p->longest;
    long to = p->batch->position[token] + 1, from = m->window && to > m->window ? to - m->window : 0;
    const int32_t *pages = table_of(p, token);
    long first = from / PAGE, end = PANELS(to), head = token * m->heads + group * repeats;
    bf16 *shares = (bf16 *)(scores + repeats * step);
    float totals[repeats];
    for (long page = first; page < end; page++)
        product(repeats, kept->query + head * d, d, p->batch->cache + page_at(m, pages[page], layer, 0, group), d / 2,
                scores + page * PAGE, step, 0);
    for (long r = 0; r < repeats; r++) {
        float most;
        totals[r] = soften(scores + r * step, shares + r * step, from, to, m->scaling, &most);
        kept->mass[head + r] = most * m->scaling + logf(totals[r]);
    }
    for (long i = 0; i < room; i += WIDE)
        for (long page = first; page < end; page++)
            product(repeats, shares + page * PAGE, step,
                    p->batch->cache + page_at(m, pages[page], layer, 1, group) + i * PAGE, PAGE / 2, out + i, room,
                    page > first);
    for (long r = 0; r < repeats; r++)
        for (long i = 0; i < d; i += LANES)
            narrow(kept->attended + (head + r) * d + i, load(out + r * room + i) / totals[r]);
}
