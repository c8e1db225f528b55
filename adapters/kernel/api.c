// What Python calls (native.py). One pass at a time in a process.

#include "backward.h"
#include "draw.h"
#include "forward.h"
#include "pack.h"

static Pass last;  // its workspace is what a gradient is computed from
static int64_t passes;

int64_t thumbtune_adapter_size(const Model *model) { return model->layers * layer_size(model); }

int64_t thumbtune_page_size(const Model *model) { return page_size(model); }

void thumbtune_pack_panels(const bf16 *weight, int64_t outputs, int64_t inputs, int64_t turned, int64_t threads, bf16 *out) {
    pack_panels(weight, outputs, inputs, (int)turned, (int)threads, out);
}

void thumbtune_pack_adapter(const Model *model, const float *const *factors, float scale, bf16 *slot) {
    pack_adapter(model, factors, scale, slot);
}

// The pass's number, or -1 if there is no memory for it
int64_t thumbtune_forward(const Model *model, const Batch *batch) {
    int64_t number = ++passes;  // whatever comes of it, no gradient of an earlier pass can be taken any more
    last = (Pass){.model = model, .batch = batch, .threads = model->threads};
    return forward(&last) ? -1 : number;
}

// 0, or -1 if another pass has been computed since
int64_t thumbtune_backward(const Batch *batch, int64_t pass, const float *weight, float scale, float *grads) {
    if (pass != passes) return -1;
    last.batch = batch;
    backward(&last, weight, scale, grads);
    passes++;  // the workspace has been overwritten
    return 0;
}

int64_t thumbtune_draw(const Draws *draws) { return draw(draws); }
