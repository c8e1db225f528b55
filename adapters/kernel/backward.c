// Backward through the same pass: what a change of the answers' log-probabilities asks of the adapter's A and B.
//
// The frozen weights get no gradient, so each linear layer costs one product (with the weight transposed) and four thin
// ones. All tokens use one adapter; a sequence's tokens lie side by side, from position 0 on, or
// from where the beginning that all sequences share ends.

#include "backward.h"
#include "attention_back.h"
#include "factors.h"
#include "forward.h"
#include "team.h"

#include <stdlib.h>

static const bf16 *adapter_of(const Pass *p) { return p->batch->adapters + (p->batch->slot[0] - 1) * p->batch->adapter_size; }

// (T, R') of each module
static float *dlow_of(const Pass *p, long token, int module) {
    return p->work.dlow + (token * MODULES + module) * even(p->model->rank);
}

// low (rows, parts of a sum) = some of B's columns · dy; panels of B are `step` numbers apart
INLINE void shrunk(const int rows, long outputs, const bf16 *b, long step, const bf16 *dy, f32v low[8]) {
    for (int r = 0; r < rows; r++) low[r] = all(0);
    for (long n = 0; n < outputs; n += LANES) {
        f32v d = widen(dy + n);
        const bf16 *at = b + n / WIDE * step + n % WIDE * 2;
#pragma GCC unroll 4
        for (int r = 0; r < rows; r += 2) {
            u32v both = load_pairs(at + r * WIDE);
            low[r] += (f32v)(both << 16) * d;
            low[r + 1] += (f32v)(both & 0xffff0000u) * d;
        }
    }
}

// dlow (R') = (scale · B)ᵀ · dy (N)
static void shrink_back(const Pass *p, long layer, int module, long token, const bf16 *dy) {
    const Model *m = p->model;
    const Linear *w = linear_of(p, layer, module);
    long rank = even(m->rank);
    const bf16 *b = adapter_of(p) + adapter_at(m, layer, module) + down_size(m, w);
    float *dlow = dlow_of(p, token, module);
    for (long r0 = 0; r0 < rank; r0 += 8) {
        f32v low[8];
        int rows = rank - r0 < 8 ? (int)(rank - r0) : 8;
        if (rows == 8) shrunk(8, w->outputs, b + r0 * WIDE, rank * WIDE, dy, low);
        else shrunk(rows, w->outputs, b + r0 * WIDE, rank * WIDE, dy, low);
        for (int r = 0; r < rows; r++) dlow[r0 + r] = sum(low[r]);
    }
}

// dx (rows, 32) [+]= a panel of dy · W + dlow · A
static void linear_back(const Pass *p, long layer, int module, Piece piece, const bf16 *dy, long dy_step, float *dx, int add) {
    const Model *m = p->model;
    const Linear *w = linear_of(p, layer, module);
    const bf16 *a = adapter_of(p) + adapter_at(m, layer, module) + piece.panel * WIDE;
    product(piece.to - piece.from, dy + piece.from * dy_step, dy_step, w->back + piece.panel * WIDE * w->outputs,
            w->outputs / 2, dx, WIDE, add);
    float down[m->rank][WIDE];
    for (long r = 0; r < m->rank; r++)
        for (long i = 0; i < WIDE; i += LANES) store(down[r] + i, widen(a + r * w->inputs + i));
    for (long t = piece.from; t < piece.to; t++, dx += WIDE) {
        f32v sums[ACROSS];
        const float *dlow = dlow_of(p, t, module);
        for (int i = 0; i < ACROSS; i++) sums[i] = load(dx + i * LANES);
        for (long r = 0; r < m->rank; r++)
            for (int i = 0; i < ACROSS; i++) sums[i] += dlow[r] * load(down[r] + i * LANES);
        for (int i = 0; i < ACROSS; i++) store(dx + i * LANES, sums[i]);
    }
}

// The layer's A · x as float32, so that both gradients are one function
static void widen_low(const Pass *p, const Kept *kept, long token) {
    long row = MODULES * even(p->model->rank);
    for (long i = 0; i < row; i++) p->work.low[token * row + i] = widen_one(kept->low[token * row + i]);
}

// Gradient of an RMS norm: dx += s · (w·dh - x · s² · mean(w·dh·x)); and h once more, for the gradient of A
static void norm_back(const float *x, const float *weight, long width, float eps, const float *dh, float *dx, bf16 *h) {
    float scale = norm_scale(x, width, eps);
    f32v along = all(0);
    for (long i = 0; i < width; i += LANES) along += load(dh + i) * load(weight + i) * load(x + i);
    float mean = sum(along) / (float)width * scale * scale;
    for (long i = 0; i < width; i += LANES) {
        f32v w = load(weight + i), at = load(x + i);
        store(dx + i, load(dx + i) + scale * (w * load(dh + i) - at * mean));
        if (h) narrow(h + i, at * scale * w);
    }
}

// d log-probability / d logits, weighted: weight · (one at the target - softmax)
static void head_below(const Back *back, long row) {
    const Pass *p = back->pass;
    long size = p->model->vocabulary, step = ROUND_UP(size, 2);
    const float *logits = p->work.logits + row * size;
    bf16 *out = p->work.dlogits + row * step;
    long target = p->batch->target[row];
    float log_mass = logits[target] - p->batch->logprob[row], weight = back->weight[row];
    long i = 0;
    for (; i + LANES <= size; i += LANES) narrow(out + i, -weight * vexp(load(logits + i) - log_mass));
    for (; i < size; i++) out[i] = narrow_one(-weight * expf(logits[i] - log_mass));
    if (step > size) out[size] = 0;
    out[target] = narrow_one(weight * (1.0f - expf(logits[target] - log_mass)));
}

static void head_back(const Pass *p, long number, float *tile) {
    const Model *m = p->model;
    long panels = PANELS(m->hidden), panel = number % panels, from = number / panels * ROWS;
    long rows = p->batch->wanted - from < ROWS ? p->batch->wanted - from : ROWS, step = ROUND_UP(m->vocabulary, 2);
    enum { DEEP = 2048 };  // numbers of a row at once: twelve rows of them stay cached
    for (long k = 0; k < step; k += DEEP)
        product(rows, p->work.dlogits + from * step + k, step, m->out.back + panel * WIDE * step + k * WIDE,
                (step - k < DEEP ? step - k : DEEP) / 2, tile, WIDE, k > 0);
    for (long row = 0; row < rows; row++)
        memcpy(p->work.wide + (from + row) * m->hidden + panel * WIDE, tile + row * WIDE, WIDE * sizeof *tile);
}

static void feed_back(const Pass *p, long layer, long number, float *tile) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    Piece piece = piece_of(p, number, PANELS(m->inner));
    linear_back(p, layer, DOWN, piece, p->work.dnarrow, m->hidden, tile, 0);
    for (long t = piece.from; t < piece.to; t++)
        for (long i = 0; i < WIDE; i += LANES, tile += LANES) {
            long at = t * m->inner + piece.panel * WIDE + i;
            f32v d = load(tile), g = widen(kept->gate + at), u = widen(kept->up + at), s = sigmoid(g);
            narrow(p->work.inner + at, g * s * u);
            narrow(p->work.dup + at, d * g * s);
            narrow(p->work.dgate + at, d * u * s * (1.0f + g * (1.0f - s)));
        }
}

static void copy_out(const Pass *p, Piece piece, const float *tile, float *to) {
    for (long t = piece.from; t < piece.to; t++, tile += WIDE)
        memcpy(to + t * p->model->hidden + piece.panel * WIDE, tile, WIDE * sizeof *tile);
}

// What comes from above, rounded; and its product with B of the module that it left
static void descend(const Pass *p, long layer, int module, long token) {
    long width = p->model->hidden;
    bf16 *dy = p->work.dnarrow + token * width;
    for (long i = 0; i < width; i += LANES) narrow(dy + i, load(p->work.x + token * width + i));
    shrink_back(p, layer, module, token, dy);
}

static void output_back(const Pass *p, long layer, long number, float *tile) {
    const Model *m = p->model;
    long wide = m->heads * m->head;
    Piece piece = piece_of(p, number, PANELS(wide));
    linear_back(p, layer, O, piece, p->work.dnarrow, m->hidden, tile, 0);
    for (long t = piece.from; t < piece.to; t++, tile += WIDE)
        for (long i = 0; i < WIDE; i += LANES) narrow(p->work.dattended + t * wide + piece.panel * WIDE + i, load(tile + i));
}

// What the other sequences ask of a shared token's keys and values
static void add_others(const Pass *p, long token, float *own) {
    long pair = 2 * p->model->groups * p->model->head;
    for (long sequence = 1; sequence < p->batch->sequences; sequence++) {
        const float *theirs = p->work.dshared + ((sequence - 1) * p->batch->shared + token) * pair;
        for (long i = 0; i < pair; i += LANES) store(own + i, load(own + i) + load(theirs + i));
    }
}

// Rotate back, round, and take the products with B of q, k and v
static void remember_back(const Pass *p, long layer, long token) {
    const Model *m = p->model;
    long d = m->head, row = (m->heads + 2 * m->groups) * d, half = d / 2, position = p->batch->position[token];
    const float *cosine = m->cosine + position * half, *sine = m->sine + position * half;
    float *x = p->work.wide + token * row;
    if (token < p->batch->shared) add_others(p, token, x + m->heads * d);
    for (long head = 0; head < m->heads + m->groups; head++, x += d) {
        for (long i = 0; i < half; i++) {
            float one = x[i], two = x[i + half];
            x[i] = one * cosine[i] + two * sine[i];
            x[i + half] = two * cosine[i] - one * sine[i];
        }
        const float *weight = m->layer[layer].head_norm[head >= m->heads];
        if (!weight) continue;
        float above[d];
        memcpy(above, x, sizeof above);
        memset(x, 0, sizeof above);
        norm_back(p->work.kept[layer].raw + (token * (m->heads + m->groups) + head) * d, weight, d, m->eps, above, x, NULL);
    }
    bf16 *dy = p->work.dnarrow + token * row;
    for (long i = 0; i < row; i += LANES) narrow(dy + i, load(p->work.wide + token * row + i));
    shrink_back(p, layer, Q, token, dy);
    shrink_back(p, layer, KEY, token, dy + m->heads * d);
    shrink_back(p, layer, VALUE, token, dy + (m->heads + m->groups) * d);
}

static void project_back(const Pass *p, long layer, long number, float *tile) {
    const Model *m = p->model;
    long row = (m->heads + 2 * m->groups) * m->head;
    Piece piece = piece_of(p, number, PANELS(m->hidden));
    linear_back(p, layer, Q, piece, p->work.dnarrow, row, tile, 0);
    linear_back(p, layer, KEY, piece, p->work.dnarrow + m->heads * m->head, row, tile, 1);
    linear_back(p, layer, VALUE, piece, p->work.dnarrow + (m->heads + m->groups) * m->head, row, tile, 1);
    copy_out(p, piece, tile, p->work.dh);
}

static void feed_forward_back(const Back *back, long layer, float *tile) {
    const Pass *p = back->pass;
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long tokens = p->batch->tokens, hidden = m->hidden, inner = m->inner;
    EACH(t, tokens) {
        widen_low(p, kept, t);
        descend(p, layer, DOWN, t);
    }
    team_wait();
    EACH(n, pieces(p, PANELS(inner))) feed_back(p, layer, n, tile);
    team_wait();
    EACH(n, grad_pieces(p, DOWN)) grad(back, layer, DOWN, n, p->work.inner, inner, p->work.dnarrow, hidden);
    team_wait();
    EACH(t, tokens) {
        shrink_back(p, layer, GATE, t, p->work.dgate + t * inner);
        shrink_back(p, layer, UP, t, p->work.dup + t * inner);
    }
    team_wait();
    EACH(n, pieces(p, PANELS(hidden))) {
        Piece piece = piece_of(p, n, PANELS(hidden));
        linear_back(p, layer, GATE, piece, p->work.dgate, inner, tile, 0);
        linear_back(p, layer, UP, piece, p->work.dup, inner, tile, 1);
        copy_out(p, piece, tile, p->work.dh);
    }
    team_wait();
    EACH(t, tokens)
        norm_back(kept->middle + t * hidden, m->layer[layer].norm[1], hidden, m->eps, p->work.dh + t * hidden,
                  p->work.x + t * hidden, p->work.h + t * hidden);
    team_wait();
    EACH(n, grad_pieces(p, GATE)) grad(back, layer, GATE, n, p->work.h, hidden, p->work.dgate, inner);
    team_wait();
    EACH(n, grad_pieces(p, UP)) grad(back, layer, UP, n, p->work.h, hidden, p->work.dup, inner);
    team_wait();
}

static void attention_back(const Back *back, long layer, int thread, float *tile) {
    const Pass *p = back->pass;
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long tokens = p->batch->tokens, hidden = m->hidden, wide = m->heads * m->head, narrow_ = m->groups * m->head;
    EACH(t, tokens) descend(p, layer, O, t);
    team_wait();
    EACH(n, pieces(p, PANELS(wide))) output_back(p, layer, n, tile);
    team_wait();
    EACH(n, grad_pieces(p, O)) grad(back, layer, O, n, kept->attended, wide, p->work.dnarrow, hidden);
    team_wait();
    EACH(n, p->batch->sequences * m->groups) attend_back(p, back->first, layer, n, thread);
    team_wait();
    EACH(t, tokens) remember_back(p, layer, t);
    team_wait();
    EACH(n, pieces(p, PANELS(hidden))) project_back(p, layer, n, tile);
    team_wait();
    EACH(t, tokens)
        norm_back(kept->before + t * hidden, m->layer[layer].norm[0], hidden, m->eps, p->work.dh + t * hidden,
                  p->work.x + t * hidden, p->work.h + t * hidden);
    team_wait();
    const bf16 *dy[] = {p->work.dnarrow, p->work.dnarrow + wide, p->work.dnarrow + wide + narrow_};
    for (int module = Q; module <= VALUE; module++) {
        EACH(n, grad_pieces(p, module)) grad(back, layer, module, n, p->work.h, hidden, dy[module], wide + 2 * narrow_);
        team_wait();
    }
}

static void run(void *argument, int thread) {
    const Back *back = argument;
    const Pass *p = back->pass;
    const Model *m = p->model;
    const Batch *b = p->batch;
    float *tile = p->work.tiles + thread * tile_size(m);
    long width = m->hidden;
    EACH(n, b->wanted) head_below(back, n);
    team_wait();
    EACH(n, (b->wanted + ROWS - 1) / ROWS * PANELS(width)) head_back(p, n, tile);
    team_wait();
    // The residual stream's own gradient takes the residual stream's place, once the last norm has read it.
    EACH(n, b->wanted) {
        float *dx = p->work.dh + n * width;
        memset(dx, 0, width * sizeof *dx);
        norm_back(p->work.x + b->want[n] * width, m->norm, width, m->eps, p->work.wide + n * width, dx, NULL);
    }
    team_wait();
    EACH(t, b->tokens) memset(p->work.x + t * width, 0, width * sizeof(float));
    team_wait();
    EACH(n, b->wanted) memcpy(p->work.x + b->want[n] * width, p->work.dh + n * width, width * sizeof(float));
    team_wait();
    for (long layer = m->layers - 1; layer >= 0; layer--) {
        feed_forward_back(back, layer, tile);
        attention_back(back, layer, thread, tile);
    }
}

void backward(Pass *pass, const float *weight, float scale, float *grads) {
    const Batch *b = pass->batch;
    int32_t first[b->sequences + 1];
    for (long t = b->tokens - 1; t >= 0; t--) first[b->sequence[t]] = (int32_t)t;
    first[b->sequences] = (int32_t)b->tokens;
    Back back = {pass, weight, scale, grads, first};
    team_run(run, &back, (int)pass->threads);
}
