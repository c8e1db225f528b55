// Threads that work through one job together, phase by phase.
//
// Knows threads and barriers; knows nothing of models. Between phases a waiting thread spins for some microseconds, then
// yields its core, and only then sleeps: a forward pass has hundreds of phases, and a sleep costs more than most of them.

#pragma once
#include <stdatomic.h>

typedef struct Team Team;
typedef void (*Job)(void *argument, int thread);

// Run a job on `threads` threads, the caller among them; returns when all are done. One job at a time in a process.
void team_run(Job job, void *argument, int threads);

// The next piece of the present phase that nobody has taken yet.
long team_take(void);

// Wait until every thread is here; the next phase begins at piece 0.
void team_wait(void);

// for each piece of a phase, whoever comes first
#define EACH(piece, count) for (long piece; (piece = team_take()) < (long)(count);)
