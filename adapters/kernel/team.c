#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#else
#define PAUSE() ((void)0)
#endif

enum { MOST = 256, SPINS = 4000, YIELDS = 6000 };

static struct {
    pthread_mutex_t one_job, lock;
    pthread_cond_t begin;
    Job job;
    void *argument;
    int threads, workers;
    unsigned long number;  // of the present job
    _Alignas(64) atomic_long next;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase;
} team = {.one_job = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .begin = PTHREAD_COND_INITIALIZER};

long team_take(void) { return atomic_fetch_add_explicit(&team.next, 1, memory_order_relaxed); }

void team_wait(void) {
    int threads = team.threads;  // read before arriving: once all have, another job may begin
    unsigned phase = atomic_load_explicit(&team.phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team.arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&team.next, 0, memory_order_relaxed);
        atomic_store_explicit(&team.arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team.phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team.phase, memory_order_acquire) == phase;) {
        if (++spins < SPINS) PAUSE();
        else if (spins < YIELDS) sched_yield();
        else nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);  // the others have no core: leave them this one
    }
}

static void *work(void *which) {
    int thread = (int)(long)which;
    for (unsigned long done = 0;;) {
        pthread_mutex_lock(&team.lock);
        while (team.number == done) pthread_cond_wait(&team.begin, &team.lock);
        done = team.number;
        Job job = thread < team.threads ? team.job : NULL;
        pthread_mutex_unlock(&team.lock);
        if (!job) continue;
        job(team.argument, thread);
        team_wait();
    }
    return NULL;
}

void team_run(Job job, void *argument, int threads) {
    pthread_mutex_lock(&team.one_job);
    if (threads > MOST) threads = MOST;
    pthread_mutex_lock(&team.lock);
    while (team.workers < threads - 1) {
        pthread_t worker;
        if (pthread_create(&worker, NULL, work, (void *)(long)(team.workers + 1))) break;
        pthread_detach(worker);
        team.workers++;
    }
    team.threads = threads < team.workers + 1 ? threads : team.workers + 1;
    team.job = job;
    team.argument = argument;
    team.number++;
    atomic_store(&team.next, 0);
    pthread_cond_broadcast(&team.begin);
    pthread_mutex_unlock(&team.lock);
    job(argument, 0);
    team_wait();
    pthread_mutex_unlock(&team.one_job);
}
