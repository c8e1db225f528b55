#pragma once
#include "workspace.h"

// A token's queries are rotated and kept; its keys, rotated, and its values are written to its page.
void remember(const Pass *p, long layer, long token);

// One token's queries of one group over its own past. `number`: token · G + group; `scores`, `out`: a thread's own.
void attend(const Pass *p, long layer, long number, float *scores, float *out);
