#include "tensor/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "tensor/arena.h"

/* A member waits awake for half a millisecond (a pause takes 29 ns on a Zen 5) before it goes to
 * sleep: the next product of a time step usually comes sooner, and waking a sleeper costs as much as
 * a small product. Only a machine that has a processor for each member gains from that.
 *
 * The caller gives way to others only after some milliseconds: sched_yield gives away a whole time
 * slice, and with one other busy process on two cores a step of the LSTM of 64/128/64 took 130 us
 * instead of 52 to 84. */
enum { SPINS = 20000, SPINS_BEFORE_YIELD = 100000 };

/* Each member has a share of the pieces, the same at every round where the job is alike, so that it
 * meets the same part of a weight in its own cache. Who is done with his own takes from the others':
 * a member that the system is not running at the moment then holds up nobody.
 *
 * A claim is the round in the upper half and the next piece of the share in the lower half of one
 * word: who comes late, with the round over, fails to claim. */
typedef struct share {
    _Alignas(TL_ALIGN) atomic_uint_fast64_t claim;
    pthread_t thread;
    tl_threads *team;
    int index;
} share;

struct tl_threads {
    int count;
    int started; /* workers that run */
    share *shares;

    /* The job; may be read by who comes late, and is then not used. */
    _Atomic(tl_piece *) piece;
    _Atomic(void *) context;
    _Atomic(int64_t) pieces;

    _Alignas(TL_ALIGN) atomic_uint_fast32_t round; /* one more for each job */
    _Alignas(TL_ALIGN) _Atomic(int64_t) done;      /* pieces */
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

static int64_t share_end(int64_t pieces, int count, int member)
{
    return pieces * (member + 1) / count;
}

static void take_from(tl_threads *team, share *s, uint64_t round)
{
    uint64_t claim = atomic_load_explicit(&s->claim, memory_order_acquire);
    while (claim >> 32 == round) {
        tl_piece *piece = atomic_load_explicit(&team->piece, memory_order_acquire);
        void *context = atomic_load_explicit(&team->context, memory_order_acquire);
        int64_t pieces = atomic_load_explicit(&team->pieces, memory_order_acquire);
        int64_t begin = (int64_t)(claim & UINT32_MAX), end = share_end(pieces, team->count, s->index);
        int64_t some = 1 + pieces / team->count / 4;
        if (begin >= end)
            return;
        if (begin + some < end)
            end = begin + some;
        if (!atomic_compare_exchange_weak_explicit(&s->claim, &claim, round << 32 | (uint64_t)end,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        piece(context, begin, end);
        atomic_fetch_add_explicit(&team->done, end - begin, memory_order_release);
        claim = atomic_load_explicit(&s->claim, memory_order_acquire);
    }
}

static void help(tl_threads *team, int member, uint64_t round)
{
    for (int i = 0; i < team->count; i++)
        take_from(team, &team->shares[(member + i) % team->count], round);
}

/* Returns the number of the new round. */
static uint32_t wait_for_round(tl_threads *team, uint32_t seen)
{
    for (int spin = 0; spin < SPINS; spin++) {
        uint32_t round = (uint32_t)atomic_load_explicit(&team->round, memory_order_acquire);
        if (round != seen)
            return round;
        pause_a_moment();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->asleep, 1);
    while ((uint32_t)atomic_load(&team->round) == seen)
        pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->asleep, 1);
    pthread_mutex_unlock(&team->mutex);
    return (uint32_t)atomic_load(&team->round);
}

static void *work(void *argument)
{
    share *self = argument;
    tl_threads *team = self->team;
    for (uint32_t seen = 0;;) {
        seen = wait_for_round(team, seen);
        if (atomic_load(&team->stop))
            return NULL;
        help(team, self->index, seen);
    }
}

/* The round is raised first and sleepers are counted second; a worker does it the other way
 * round, under the mutex. One of the two sees the other, so no wake-up is lost. */
static void start_round(tl_threads *team)
{
    uint32_t round = (uint32_t)atomic_load_explicit(&team->round, memory_order_relaxed) + 1;
    atomic_store(&team->round, round); /* of 32 bits, like a claim's */
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
    team->shares = tl_system_get((size_t)team->count * sizeof *team->shares);
    if (!team->shares) {
        tl_threads_free(team);
        return NULL;
    }
    memset(team->shares, 0, (size_t)team->count * sizeof *team->shares);
    for (int i = 0; i < team->count; i++) {
        team->shares[i].team = team;
        team->shares[i].index = i;
    }
    for (int i = 1; i < team->count; i++) {
        if (pthread_create(&team->shares[i].thread, NULL, work, &team->shares[i]) != 0) {
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
            pthread_join(team->shares[i].thread, NULL);
    }
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    tl_system_give(team->shares);
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
    if (team->count == 1 || pieces == 1 || pieces >= UINT32_MAX) {
        piece(context, 0, pieces);
        return;
    }
    uint64_t round = (uint32_t)(atomic_load_explicit(&team->round, memory_order_relaxed) + 1);
    /* First nothing can be claimed, then the job changes, then there is something to claim: who has read
     * a part of the new job while he held an old claim will not get it. */
    for (int i = 0; i < team->count; i++)
        atomic_store_explicit(&team->shares[i].claim, round << 32 | UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&team->piece, piece, memory_order_release);
    atomic_store_explicit(&team->context, context, memory_order_release);
    atomic_store_explicit(&team->pieces, pieces, memory_order_release);
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    for (int i = 0; i < team->count; i++) {
        uint64_t begin = (uint64_t)(i ? share_end(pieces, team->count, i - 1) : 0);
        atomic_store_explicit(&team->shares[i].claim, round << 32 | begin, memory_order_release);
    }
    start_round(team);
    help(team, 0, round);
    for (int spin = 0; atomic_load_explicit(&team->done, memory_order_acquire) < pieces; spin++) {
        if (spin < SPINS_BEFORE_YIELD)
            pause_a_moment();
        else
            sched_yield();
    }
}
