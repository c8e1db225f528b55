// Weights into the layout in which they are read.

#include "pack.h"
#include "team.h"

typedef struct {
    const bf16 *weight;
    long outputs, inputs, depth;
    int turned;
    bf16 *out;
} Pack;

static void run_pack(void *argument, int thread) {
    (void)thread;
    const Pack *k = argument;
    EACH(panel, PANELS(k->outputs))
        for (long i = 0; i < k->depth; i++)
            for (long n = 0; n < WIDE; n++) {
                long row = panel * WIDE + n, there = row < k->outputs && i < k->inputs;
                const bf16 *from = k->weight + (k->turned ? i * k->outputs + row : row * k->inputs + i);
                k->out[panel * k->depth * WIDE + i / 2 * 2 * WIDE + n * 2 + i % 2] = there ? *from : 0;
            }
    team_wait();
}

void pack_panels(const bf16 *weight, long outputs, long inputs, int turned, int threads, bf16 *out) {
    Pack pack = {weight, outputs, inputs, even(inputs), turned, out};
    team_run(run_pack, &pack, threads);
}

typedef struct {
    const Model *model;
    const float *const *factors;  // layers: modules: A, B
    float scale;
    bf16 *slot;
} Fill;

static void fill_down(const Linear *w, long rank, const float *a, bf16 *out) {
    for (long i = 0; i < rank * w->inputs; i += LANES) narrow(out + i, load(a + i));
    if (rank % 2) memset(out + rank * w->inputs, 0, w->inputs * sizeof *out);
}

static void fill_up(const Linear *w, long rank, const float *b, float scale, bf16 *out) {
    for (long panel = 0; panel < PANELS(w->outputs); panel++)
        for (long n = panel * WIDE; n < (panel + 1) * WIDE; n++) {
            bf16 *to = out + panel * even(rank) * WIDE + n % WIDE * 2;
            for (long r = 0; r < even(rank); r++)
                to[r / 2 * 2 * WIDE + r % 2] = n < w->outputs && r < rank ? narrow_one(b[n * rank + r] * scale) : 0;
        }
}

static void run_fill(void *argument, int thread) {
    (void)thread;
    const Fill *f = argument;
    const Model *m = f->model;
    EACH(piece, m->layers * MODULES) {
        const Linear *w = &m->layer[piece / MODULES].linear[piece % MODULES];
        bf16 *out = f->slot + adapter_at(m, piece / MODULES, piece % MODULES);
        fill_down(w, m->rank, f->factors[2 * piece], out);
        fill_up(w, m->rank, f->factors[2 * piece + 1], f->scale, out + down_size(m, w));
    }
    team_wait();
}

void pack_adapter(const Model *model, const float *const *factors, float scale, bf16 *slot) {
    Fill fill = {model, factors, scale, slot};
    team_run(run_fill, &fill, (int)model->threads);
}
