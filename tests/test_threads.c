/* The team: every piece once, whoever sleeps. */
#include "support.h"

#include <stdatomic.h>
#include <unistd.h>

#include "tensor/threads.h"

enum { MOST_PIECES = 1000, MOST_MEMBERS = 5 };

typedef struct job {
    atomic_int done[MOST_PIECES];
    atomic_int calls, wrong;
    int64_t pieces;
} job;

static void count_pieces(void *context, int64_t begin, int64_t end)
{
    job *j = context;
    atomic_fetch_add(&j->calls, 1);
    if (begin < 0 || begin >= end || end > j->pieces) {
        atomic_fetch_add(&j->wrong, 1);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&j->done[i], 1);
}

static void run_once(tl_threads *team, job *j, int64_t pieces)
{
    memset(j, 0, sizeof *j);
    j->pieces = pieces;
    tl_threads_run(team, pieces, count_pieces, j);
    assert_int_equal(j->wrong, 0);
    for (int64_t i = 0; i < MOST_PIECES; i++)
        if (j->done[i] != (i < pieces))
            fail_msg("%d members, %lld pieces: piece %lld done %d times", tl_threads_count(team),
                     (long long)pieces, (long long)i, (int)j->done[i]);
}

static void every_piece_is_done_once(void **state)
{
    (void)state;
    static job j;
    const int64_t pieces[] = {0, 1, 2, 3, 4, 5, 7, 64, 999, 1000};
    for (int count = 1; count <= MOST_MEMBERS; count++) {
        tl_threads *team = tl_threads_new(count);
        assert_non_null(team);
        assert_int_equal(tl_threads_count(team), count);
        for (int round = 0; round < 30; round++)
            for (int k = 0; k < COUNT_OF(pieces); k++)
                run_once(team, &j, pieces[k]);
        tl_threads_free(team);
    }
}

/* What one round wrote, the next one reads: no member may be late. */
static void add_up(void *context, int64_t begin, int64_t end)
{
    int64_t *numbers = context;
    for (int64_t i = begin; i < end; i++)
        numbers[i] = 2 * numbers[i] + i;
}

static void rounds_follow_each_other(void **state)
{
    (void)state;
    enum { N = 37, ROUNDS = 3000, AGAIN = 31 }; /* doubling 31 times stays within 64 bits */
    int64_t numbers[N] = {0}, expected[N] = {0};
    tl_threads *team = tl_threads_new(3);
    assert_non_null(team);
    for (int round = 0; round < ROUNDS; round++) {
        if (round % AGAIN == 0)
            memset(numbers, 0, sizeof numbers);
        tl_threads_run(team, N, add_up, numbers);
    }
    for (int round = 0; round < (ROUNDS - 1) % AGAIN + 1; round++)
        for (int64_t i = 0; i < N; i++)
            expected[i] = 2 * expected[i] + i;
    assert_memory_equal(numbers, expected, sizeof numbers);
    tl_threads_free(team);
}

/* Rounds of few and many pieces in turn: who comes late from the one must find nothing to do in the
 * other. More members than processors, so that some do come late. */
static void latecomers_do_no_harm(void **state)
{
    (void)state;
    static job j[2];
    tl_threads *team = tl_threads_new(MOST_MEMBERS);
    assert_non_null(team);
    for (int round = 0; round < 20000; round++) {
        job *now = &j[round % 2];
        now->pieces = round % 2 ? 61 : 2 + round % 7;
        for (int64_t i = 0; i < now->pieces; i++)
            now->done[i] = 0;
        tl_threads_run(team, now->pieces, count_pieces, now);
        for (int64_t i = 0; i < now->pieces; i++)
            if (now->done[i] != 1)
                fail_msg("round %d: piece %lld done %d times", round, (long long)i, (int)now->done[i]);
        assert_int_equal(now->wrong, 0);
    }
    tl_threads_free(team);
}

static void sleepers_wake_up(void **state)
{
    (void)state;
    static job j;
    tl_threads *team = tl_threads_new(4);
    assert_non_null(team);
    for (int round = 0; round < 40; round++) {
        usleep(round % 4 == 0
                   ? 5000
                   : 500u * (unsigned)(round % 4)); /* long enough to fall asleep, or nearly */
        run_once(team, &j, 64);
    }
    usleep(5000);
    tl_threads_free(team); /* while they sleep */
}

static void free_without_work(void **state)
{
    (void)state;
    for (int count = -1; count <= 4; count++) {
        tl_threads *team = tl_threads_new(count);
        assert_non_null(team);
        assert_int_equal(tl_threads_count(team), count < 1 ? 1 : count);
        tl_threads_free(team);
    }
    tl_threads_free(NULL);
}

static void a_team_of_one_works_in_place(void **state)
{
    (void)state;
    static job j;
    tl_threads *team = tl_threads_new(1);
    assert_non_null(team);
    run_once(team, &j, 1000);
    assert_int_equal(j.calls, 1); /* all in one call */
    tl_threads_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_is_done_once), cmocka_unit_test(rounds_follow_each_other),
        cmocka_unit_test(latecomers_do_no_harm),    cmocka_unit_test(sleepers_wake_up),
        cmocka_unit_test(free_without_work),        cmocka_unit_test(a_team_of_one_works_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
