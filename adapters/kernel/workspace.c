#define _GNU_SOURCE
#include "workspace.h"
#include "team.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 2 << 20 };

static struct { char *memory; size_t size; } held;

typedef struct { size_t at; char *base; } Cursor;

static void *take(Cursor *cursor, size_t bytes) {  // with base NULL it only counts
    void *place = cursor->base ? cursor->base + cursor->at : NULL;
    cursor->at = ROUND_UP(cursor->at + bytes, 64);
    return place;
}

#define TAKE(what, count) (what) = take(&cursor, (size_t)(count) * sizeof *(what))

static size_t lay(Pass *pass, char *base) {
    const Model *m = pass->model;
    const Batch *b = pass->batch;
    Workspace *w = &pass->work;
    Cursor cursor = {0, base};
    long tokens = b->tokens, wide = m->heads * m->head, rank = even(m->rank), repeats = m->heads / m->groups;
    long both = wide + 2 * m->groups * m->head;
    TAKE(w->kept, m->layers);
    TAKE(w->x, tokens * m->hidden);
    TAKE(w->h, tokens * m->hidden);
    TAKE(w->wide, tokens * (both > m->hidden ? both : m->hidden));
    TAKE(w->inner, tokens * m->inner);
    TAKE(w->final, b->wanted * m->hidden);
    TAKE(w->logits, b->target ? b->wanted * m->vocabulary : 0);
    TAKE(w->scores, pass->threads * 2 * repeats * pass->longest);
    TAKE(w->tiles, pass->threads * tile_size(m));
    for (long layer = 0; layer < m->layers; layer++) {
        Kept *kept = base ? &w->kept[layer] : &(Kept){0};
        if (layer && !b->keep) {
            if (base) *kept = w->kept[0];
            continue;
        }
        TAKE(kept->before, b->keep ? tokens * m->hidden : 0);
        TAKE(kept->middle, b->keep ? tokens * m->hidden : 0);
        TAKE(kept->raw, b->keep && m->layer->head_norm[0] ? tokens * (m->heads + m->groups) * m->head : 0);
        TAKE(kept->query, tokens * wide);
        TAKE(kept->mass, tokens * m->heads);
        TAKE(kept->attended, tokens * wide);
        TAKE(kept->gate, b->keep ? tokens * m->inner : 0);
        TAKE(kept->up, b->keep ? tokens * m->inner : 0);
        TAKE(kept->low, tokens * MODULES * rank);
    }
    if (b->keep) {
        long widest = m->hidden > both ? m->hidden : both;
        TAKE(w->dnarrow, tokens * widest);
        TAKE(w->dh, tokens * m->hidden);
        TAKE(w->dattended, tokens * wide);
        TAKE(w->dshared, (b->sequences - 1) * b->shared * 2 * m->groups * m->head);
        TAKE(w->dgate, tokens * m->inner);
        TAKE(w->dup, tokens * m->inner);
        TAKE(w->low, tokens * MODULES * rank);
        TAKE(w->dlow, tokens * MODULES * rank);
        TAKE(w->dlogits, b->wanted * ROUND_UP(m->vocabulary, 2));
        TAKE(w->grown, pass->threads * grown_size(m, pass->longest));
    }
    return cursor.at;
}

int workspace_lay(Pass *pass) {
    size_t size = lay(pass, NULL);
    if (size > held.size) {
        free(held.memory);
        held.size = ROUND_UP(size, HUGE_PAGE);
        held.memory = aligned_alloc(HUGE_PAGE, held.size);
        if (!held.memory) {
            held.size = 0;
            return -1;
        }
#if defined(__linux__)
        madvise(held.memory, held.size, MADV_HUGEPAGE);  // fewer page faults, and fewer misses of the address cache
#endif
    }
    lay(pass, held.memory);
    return 0;
}
