#include "tensor/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "tensor/arena.h"

/* A member waits awake for about 50 us before it goes to sleep: the next product of a time
 * step usually comes sooner, and waking a sleeper costs as much as a small product. Only a
 * machine that has a processor for each member gains from that. */
enum { SPINS = 20000, SPINS_BEFORE_YIELD = 2000 };

struct tl_threads {
    int count;
    int started; /* workers that run */
    pthread_t *workers;
    struct member {
        tl_threads *team;
        int index;
    } *members;

    /* The job. Written by the caller before `round` is raised. */
    tl_piece *piece;
    void *context;
    int64_t pieces;

    _Alignas(TL_ALIGN) atomic_uint round; /* one more for each job */
    _Alignas(TL_ALIGN) atomic_int busy;   /* workers that have not finished it */
    _Alignas(TL_ALIGN) atomic_int asleep;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

static inline void pause_a_moment(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void do_share(tl_threads *team, int member)
{
    int64_t begin = team->pieces * member / team->count;
    int64_t end = team->pieces * (member + 1) / team->count;
    if (begin < end)
        team->piece(team->context, member, begin, end);
}

static void wait_for_round(tl_threads *team, unsigned seen)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != seen)
            return;
        pause_a_moment();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->round) == seen)
        pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->asleep, 1);
    pthread_mutex_unlock(&team->mutex);
}

static void *work(void *argument)
{
    struct member *self = argument;
    tl_threads *team = self->team;
    for (unsigned seen = 0;;) {
        wait_for_round(team, seen);
        seen++;
        if (atomic_load(&team->stop))
            return NULL;
        do_share(team, self->index);
        atomic_fetch_sub_explicit(&team->busy, 1, memory_order_release);
    }
}

/* The round is raised first and sleepers are counted second; a worker does it the other way
 * round, under the mutex. One of the two sees the other, so no wake-up is lost. */
static void start_round(tl_threads *team)
{
    atomic_fetch_add(&team->round, 1);
    if (atomic_load(&team->asleep) > 0) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->mutex);
    }
}

tl_threads *tl_threads_new(int count)
{
    tl_threads *team = tl_system_get(sizeof *team);
    if (!team)
        return NULL;
    memset(team, 0, sizeof *team);
    team->count = count < 1 ? 1 : count;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    if (team->count == 1)
        return team;
    team->workers = tl_system_get((size_t)team->count * sizeof *team->workers);
    team->members = tl_system_get((size_t)team->count * sizeof *team->members);
    if (!team->workers || !team->members) {
        tl_threads_free(team);
        return NULL;
    }
    for (int i = 1; i < team->count; i++) {
        team->members[i] = (struct member){.team = team, .index = i};
        if (pthread_create(&team->workers[i], NULL, work, &team->members[i]) != 0) {
            tl_threads_free(team);
            return NULL;
        }
        team->started = i;
    }
    return team;
}

void tl_threads_free(tl_threads *team)
{
    if (!team)
        return;
    if (team->started) {
        atomic_store(&team->stop, true);
        start_round(team);
        for (int i = 1; i <= team->started; i++)
            pthread_join(team->workers[i], NULL);
    }
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    tl_system_give(team->workers);
    tl_system_give(team->members);
    tl_system_give(team);
}

int tl_threads_count(const tl_threads *team)
{
    return team->count;
}

void tl_threads_run(tl_threads *team, int64_t pieces, tl_piece *piece, void *context)
{
    if (pieces <= 0)
        return;
    if (team->count == 1 || pieces == 1) {
        piece(context, 0, 0, pieces);
        return;
    }
    team->piece = piece;
    team->context = context;
    team->pieces = pieces;
    atomic_store_explicit(&team->busy, team->count - 1, memory_order_relaxed);
    start_round(team);
    do_share(team, 0);
    for (int spin = 0; atomic_load_explicit(&team->busy, memory_order_acquire) > 0; spin++) {
        if (spin < SPINS_BEFORE_YIELD)
            pause_a_moment();
        else
            sched_yield();
    }
}
