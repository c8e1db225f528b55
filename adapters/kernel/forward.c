// One forward pass over a flat batch of tokens: rows that decode and chunks of prompts alike, each token with its own
// adapter, its own position and its own past.

#include "forward.h"
#include "attention.h"
#include "team.h"

#include <stddef.h>

static const bf16 *slot_of(const Pass *p, long token) {
    long slot = p->batch->slot[token];
    return slot ? p->batch->adapters + (slot - 1) * p->batch->adapter_size : NULL;
}

static bf16 *low_of(const Pass *p, const Kept *kept, long token, int module) {
    return kept->low + (token * MODULES + module) * even(p->model->rank);
}

static void norm(const float *x, const float *weight, long width, float eps, bf16 *out) {
    float scale = norm_scale(x, width, eps);
    for (long i = 0; i < width; i += LANES) narrow(out + i, load(x + i) * scale * load(weight + i));
}

// low (R') = A (R', K) · x
static void shrink(const Pass *p, const Kept *kept, long layer, int module, long token, const bf16 *x) {
    const Model *m = p->model;
    const bf16 *adapter = slot_of(p, token);
    if (!adapter) return;
    long inputs = m->layer[layer].linear[module].inputs, rank = even(m->rank);
    const bf16 *a = adapter + adapter_at(m, layer, module);
    bf16 *low = low_of(p, kept, token, module);
    for (long r = 0; r < rank; r += 2) {
        f32v one = all(0), two = all(0), three = all(0), four = all(0);  // two chains a row hide the latency
        const bf16 *first = a + r * inputs, *second = first + inputs;
        long k = 0;
        for (; k + 4 * LANES <= inputs; k += 4 * LANES) {
            u32v near = load_pairs(x + k), far = load_pairs(x + k + 2 * LANES);
            one = dot2(one, load_pairs(first + k), near);
            two = dot2(two, load_pairs(second + k), near);
            three = dot2(three, load_pairs(first + k + 2 * LANES), far);
            four = dot2(four, load_pairs(second + k + 2 * LANES), far);
        }
        if (k < inputs) {  // sixteen lanes of pairs: a width is a multiple of 32
            u32v near = load_pairs(x + k);
            one = dot2(one, load_pairs(first + k), near);
            two = dot2(two, load_pairs(second + k), near);
        }
        low[r] = narrow_one(sum(one + three));
        low[r + 1] = narrow_one(sum(two + four));
    }
}

// The adapter of a token, if the token before it in the piece has another
static const bf16 *new_adapter(const Pass *p, long token, long from) {
    const bf16 *adapter = slot_of(p, token);
    return token > from && adapter == slot_of(p, token - 1) ? NULL : adapter;
}

// What is to come while a panel's product is computed: B of every adapter, for its own sums; and A of a share of the
// adapters, for the modules that read what this one gives.
static void fetch(const Pass *p, long layer, int module, long panel, long from, long to, Ahead *ahead) {
    enum { NONE = MODULES };
    static const struct { int first, last; } readers[MODULES] = {
        [Q] = {O, O}, [KEY] = {NONE}, [VALUE] = {NONE}, [O] = {GATE, UP}, [GATE] = {DOWN, DOWN}, [UP] = {NONE}, [DOWN] = {Q, VALUE}};
    const Model *m = p->model;
    const Linear *w = &m->layer[layer].linear[module];
    long size = even(m->rank) * WIDE, up = adapter_at(m, layer, module) + down_size(m, w) + panel * size;
    long next = layer + (module == DOWN), panels = PANELS(w->outputs);
    const bf16 *adapter;
    ahead->count = ahead->next = 0;
    for (long t = from; t < to; t++)
        if ((adapter = new_adapter(p, t, from))) ask(ahead, adapter + up, size);
    if (next == m->layers) return;
    for (long t = from + panel; t < to; t += panels)
        if ((adapter = new_adapter(p, t, from)))
            for (int i = readers[module].first; i <= readers[module].last; i++)
                ask(ahead, adapter + adapter_at(m, next, i), down_size(m, &m->layer[next].linear[i]));
}

// y (rows, 32) = a panel's outputs of tokens `from` to `to`: frozen product, bias, and each token's own change
static void linear(const Pass *p, const Kept *kept, long layer, int module, long panel, long from, long to,
                   const bf16 *x, float *y) {
    const Model *m = p->model;
    const Linear *w = &m->layer[layer].linear[module];
    long rank = even(m->rank), size = rank * WIDE;
    long up = adapter_at(m, layer, module) + down_size(m, w) + panel * size;
    Ahead ahead;
    fetch(p, layer, module, panel, from, to, &ahead);
    product_beside(to - from, x + from * w->inputs, w->inputs, w->panels + panel * WIDE * w->inputs, w->inputs / 2, y, WIDE,
                   &ahead);
    for (long t = from; t < to; t++, y += WIDE) {
        f32v sums[ACROSS];
        for (int i = 0; i < ACROSS; i++) sums[i] = load(y + i * LANES);
        if (w->bias)  // padded to whole panels
            for (int i = 0; i < ACROSS; i++) sums[i] += load(w->bias + panel * WIDE + i * LANES);
        const bf16 *adapter = slot_of(p, t);
        if (adapter) {
            const bf16 *b = adapter + up, *low = low_of(p, kept, t, module);
            for (long r = 0; r < rank; r += 2, b += 2 * WIDE) {
                u32v both = all_pair(low + r);
                for (int i = 0; i < ACROSS; i++) sums[i] = dot2(sums[i], both, load_pairs(b + 2 * i * LANES));
            }
        }
        for (int i = 0; i < ACROSS; i++) store(y + i * LANES, sums[i]);
    }
}

static void embed(const Pass *p, long token) {
    long width = p->model->hidden;
    const bf16 *from = p->model->embedding + p->batch->id[token] * width;
    for (long i = 0; i < width; i += LANES) store(p->work.x + token * width + i, widen(from + i));
}

// The normed residual, and its products with A of the modules that read it
static void begin(const Pass *p, long layer, int half, long token) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    float *x = p->work.x + token * m->hidden;
    bf16 *h = p->work.h + token * m->hidden;
    if (p->batch->keep) memcpy((half ? kept->middle : kept->before) + token * m->hidden, x, m->hidden * sizeof *x);
    norm(x, m->layer[layer].norm[half], m->hidden, m->eps, h);
    for (int module = half ? GATE : Q; module <= (half ? UP : VALUE); module++) shrink(p, kept, layer, module, token, h);
}

static void project(const Pass *p, long layer, long number, float *tile) {
    const Model *m = p->model;
    long wide = m->heads * m->head, narrow_ = m->groups * m->head, all_ = wide + 2 * narrow_;
    long first = PANELS(wide), each = PANELS(narrow_);
    Piece piece = piece_of(p, number, first + 2 * each);
    int module = piece.panel < first ? Q : piece.panel < first + each ? KEY : VALUE;
    long at[] = {0, wide, wide + narrow_}, begin[] = {0, first, first + each};
    long panel = piece.panel - begin[module], width = module == Q ? wide : narrow_;
    linear(p, &p->work.kept[layer], layer, module, panel, piece.from, piece.to, p->work.h, tile);
    long count = width - panel * WIDE < WIDE ? width - panel * WIDE : WIDE;
    for (long t = piece.from; t < piece.to; t++, tile += WIDE)
        memcpy(p->work.wide + t * all_ + at[module] + panel * WIDE, tile, count * sizeof *tile);
}

// The residual stream takes in a module's outputs
static void join(const Pass *p, long layer, int module, long number, const bf16 *x, float *tile) {
    long width = p->model->hidden;
    Piece piece = piece_of(p, number, PANELS(width));
    linear(p, &p->work.kept[layer], layer, module, piece.panel, piece.from, piece.to, x, tile);
    for (long t = piece.from; t < piece.to; t++, tile += WIDE) {
        float *to = p->work.x + t * width + piece.panel * WIDE;
        for (long i = 0; i < WIDE; i += LANES) store(to + i, load(to + i) + load(tile + i));
    }
}

static void feed(const Pass *p, long layer, long number, float *gate) {
    long width = p->model->inner;
    const Kept *kept = &p->work.kept[layer];
    Piece piece = piece_of(p, number, PANELS(width));
    float *up = gate + ROWS * WIDE;
    linear(p, kept, layer, GATE, piece.panel, piece.from, piece.to, p->work.h, gate);
    linear(p, kept, layer, UP, piece.panel, piece.from, piece.to, p->work.h, up);
    for (long t = piece.from; t < piece.to; t++)
        for (long i = 0; i < WIDE; i += LANES, gate += LANES, up += LANES) {
            long at = t * width + piece.panel * WIDE + i;
            f32v g = load(gate), u = load(up);
            narrow(p->work.inner + at, g * sigmoid(g) * u);
            if (p->batch->keep) {
                narrow(kept->gate + at, g);
                narrow(kept->up + at, u);
            }
        }
}

static void finish(const Pass *p, long number) {
    const Model *m = p->model;
    long width = m->hidden;
    const float *x = p->work.x + p->batch->want[number] * width;
    float scale = norm_scale(x, width, m->eps);
    for (long i = 0; i < width; i += LANES) {
        f32v state = load(x + i) * scale * load(m->norm + i);
        if (p->batch->states) store(p->batch->states + number * width + i, state);
        narrow(p->work.final + number * width + i, state);
    }
}

static void head(const Pass *p, long number, float *logits, float *tile) {
    const Model *m = p->model;
    long panels = PANELS(m->vocabulary), panel = number % panels, from = number / panels * ROWS;
    long rows = p->batch->wanted - from < ROWS ? p->batch->wanted - from : ROWS;
    product(rows, p->work.final + from * m->hidden, m->hidden, m->out.panels + panel * WIDE * m->hidden, m->hidden / 2,
            tile, WIDE, 0);
    long count = m->vocabulary - panel * WIDE < WIDE ? m->vocabulary - panel * WIDE : WIDE;
    for (long row = 0; row < rows; row++)
        memcpy(logits + (from + row) * m->vocabulary + panel * WIDE, tile + row * WIDE, count * sizeof *tile);
}

static void score(const Pass *p, long row) {
    long size = p->model->vocabulary, whole = size / LANES * LANES;
    const float *logits = p->work.logits + row * size;
    f32v top = all(-INFINITY), total = all(0), mean = all(0);
    for (long i = 0; i < whole; i += LANES) top = larger(top, load(logits + i));
    float most = largest(top);
    for (long i = whole; i < size; i++) most = logits[i] > most ? logits[i] : most;
    for (long i = 0; i < whole; i += LANES) {
        f32v e = vexp(load(logits + i) - most);
        total += e;
        mean += e * load(logits + i);
    }
    float mass = sum(total), expected = sum(mean);
    for (long i = whole; i < size; i++) {
        float e = expf(logits[i] - most);
        mass += e;
        expected += e * logits[i];
    }
    float log_mass = most + logf(mass);
    p->batch->logprob[row] = logits[p->batch->target[row]] - log_mass;
    p->batch->entropy[row] = log_mass - expected / mass;
}

static void decoder_layer(const Pass *p, long layer, float *scores, float *tiles) {
    const Model *m = p->model;
    const Kept *kept = &p->work.kept[layer];
    long tokens = p->batch->tokens, own = m->groups * m->head;
    EACH(t, tokens) begin(p, layer, 0, t);
    team_wait();
    EACH(n, pieces(p, PANELS(m->heads * m->head) + 2 * PANELS(own))) project(p, layer, n, tiles);
    team_wait();
    EACH(t, tokens) remember(p, layer, t);
    team_wait();
    EACH(n, tokens * m->groups) attend(p, layer, n, scores, tiles);
    team_wait();
    EACH(t, tokens) shrink(p, kept, layer, O, t, kept->attended + t * m->heads * m->head);
    team_wait();
    EACH(n, pieces(p, PANELS(m->hidden))) join(p, layer, O, n, kept->attended, tiles);
    team_wait();
    EACH(t, tokens) begin(p, layer, 1, t);
    team_wait();
    EACH(n, pieces(p, PANELS(m->inner))) feed(p, layer, n, tiles);
    team_wait();
    EACH(t, tokens) shrink(p, kept, layer, DOWN, t, p->work.inner + t * m->inner);
    team_wait();
    EACH(n, pieces(p, PANELS(m->hidden))) join(p, layer, DOWN, n, p->work.inner, tiles);
    team_wait();
}

static void run(void *argument, int thread) {
    const Pass *p = argument;
    const Model *m = p->model;
    const Batch *b = p->batch;
    float *scores = p->work.scores + thread * 2 * (m->heads / m->groups) * p->longest;
    float *tiles = p->work.tiles + thread * tile_size(m);
    EACH(t, b->tokens) embed(p, t);
    team_wait();
    for (long layer = 0; layer < m->layers; layer++) decoder_layer(p, layer, scores, tiles);
    EACH(n, b->wanted) finish(p, n);
    team_wait();
    if (!b->logits && !b->target) return;
    float *logits = b->logits ? b->logits : p->work.logits;
    EACH(n, (b->wanted + ROWS - 1) / ROWS * PANELS(m->vocabulary)) head(p, n, logits, tiles);
    team_wait();
    if (!b->target) return;
    EACH(n, b->wanted) score(p, n);
    team_wait();
}

int forward(Pass *pass) {
    long longest = 0;
    for (long t = 0; t < pass->batch->tokens; t++)
        if (pass->batch->position[t] >= longest) longest = pass->batch->position[t] + 1;
    pass->longest = ROUND_UP(longest, PAGE);
    if (workspace_lay(pass)) return -1;
    team_run(run, pass, (int)pass->threads);
    return 0;
}
