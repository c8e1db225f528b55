#pragma once
#include "workspace.h"

// One group of one sequence: from the gradient of what was attended to those of its queries, keys and values. `firsts`: each
// sequence's first token of its own, (sequences + 1,); `number`: sequence · G + group; `thread`: whose scratch.
void attend_back(const Pass *p, const int32_t *firsts, long layer, long number, int thread);
