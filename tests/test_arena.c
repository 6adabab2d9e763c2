/* Where a tape's bytes come from: accounting, limits, reuse. */
#include "support.h"

#include "tensor/arena.h"

static bool is_aligned(const void *pointer)
{
    return (uintptr_t)pointer % TL_ALIGN == 0;
}

/* ---- memory ----------------------------------------------------------------------------- */

static void memory_counts_what_it_holds(void **state)
{
    (void)state;
    tl_memory m = {0};
    void *a = tl_memory_get(&m, 1000), *b = tl_memory_get(&m, 24);
    assert_non_null(a);
    assert_non_null(b);
    assert_true(is_aligned(a) && is_aligned(b));
    assert_int_equal(m.held, 1024);
    assert_int_equal(m.system_calls, 2);
    tl_memory_give(&m, a, 1000);
    assert_int_equal(m.held, 24);
    tl_memory_give(&m, NULL, 77); /* nothing */
    assert_int_equal(m.held, 24);
    tl_memory_give(&m, b, 24);
    assert_int_equal(m.held, 0);
}

static void memory_keeps_to_its_limit(void **state)
{
    (void)state;
    tl_memory m = {.limit = 1000};
    assert_null(tl_memory_get(&m, 1001));
    assert_null(tl_memory_get(&m, SIZE_MAX));
    void *a = tl_memory_get(&m, 600);
    assert_non_null(a);
    assert_null(tl_memory_get(&m, 401));
    assert_null(tl_memory_get(&m, SIZE_MAX - 500)); /* no overflow in the comparison */
    assert_int_equal(m.held, 600);
    void *b = tl_memory_get(&m, 400);
    assert_non_null(b);
    assert_int_equal(m.held, 1000);
    tl_memory_give(&m, a, 600);
    tl_memory_give(&m, b, 400);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    assert_null(tl_system_get(SIZE_MAX));
    assert_null(tl_system_get(SIZE_MAX - 10));
    tl_memory m = {0};
    tl_pool pool;
    tl_pool_init(&pool, &m);
    assert_null(tl_pool_get(&pool, SIZE_MAX));
    assert_null(tl_pool_get(&pool, (size_t)1 << 44));
    m.limit = 1; /* the largest class exists; there is no memory for it */
    assert_null(tl_pool_get(&pool, ((size_t)1 << 44) - 1));
    tl_pool_free(&pool);
    tl_arena arena;
    tl_arena_init(&arena, &m);
    assert_null(tl_arena_get(&arena, SIZE_MAX));
    assert_null(tl_arena_get(&arena, SIZE_MAX - 10));
    m.limit = 0;
    assert_non_null(
        tl_arena_get(&arena, 100)); /* a chunk is there: the size must not wrap round into it */
    assert_null(tl_arena_get(&arena, SIZE_MAX));
    assert_null(tl_arena_get(&arena, SIZE_MAX - 10));
    tl_arena_free(&arena);
    assert_int_equal(m.held, 0);
}

/* ---- arena ------------------------------------------------------------------------------ */

static void arena_counts_and_rounds(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_arena arena;
    tl_arena_init(&arena, &m);
    char *a = tl_arena_get(&arena, 1), *b = tl_arena_get(&arena, 65), *c = tl_arena_get(&arena, 64);
    assert_true(is_aligned(a) && is_aligned(b) && is_aligned(c));
    assert_int_equal(b - a, 64);
    assert_int_equal(c - b, 128);
    assert_int_equal(m.live, 256);
    assert_int_equal(m.peak, 256);
    assert_int_equal(m.system_calls, 1);
    tl_arena_reset(&arena);
    assert_int_equal(m.live, 0);
    assert_int_equal(m.peak, 256);
    assert_ptr_equal(tl_arena_get(&arena, 10), a); /* from the beginning again */
    assert_int_equal(m.live, 64);
    assert_int_equal(m.peak, 256);
    tl_arena_free(&arena);
    assert_int_equal(m.live, 0);
    assert_int_equal(m.held, 0);
}

static void arena_gives_nothing_an_address_too(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_arena arena;
    tl_arena_init(&arena, &m);
    assert_non_null(tl_arena_get(&arena, 0)); /* NULL would mean: no memory */
    tl_arena_free(&arena);
}

/* Allocations of any size do not overlap, and a second recording like the first asks for nothing. */
static void arena_keeps_what_it_got(void **state)
{
    (void)state;
    enum { N = 400 };
    tl_memory m = {0};
    tl_arena arena;
    tl_arena_init(&arena, &m);
    size_t calls = 0, held = 0;
    for (int round = 0; round < 3; round++) {
        char *given[N];
        size_t bytes[N], sum = 0;
        dice d = dice_of(5);
        for (int i = 0; i < N; i++) {
            bytes[i] = (size_t)dice_below(&d, i % 50 == 0 ? 900000 : 3000);
            given[i] = tl_arena_get(&arena, bytes[i]);
            assert_non_null(given[i]);
            memset(given[i], i % 251, bytes[i]);
            sum += (bytes[i] + 63) / 64 * 64;
        }
        for (int i = 0; i < N; i++)
            for (size_t k = 0; k < bytes[i]; k += 61)
                assert_int_equal((unsigned char)given[i][k], i % 251);
        assert_true(m.live >= sum && m.live <= sum + 64 * N);
        assert_true(m.held >= m.live);
        if (round == 0) {
            calls = m.system_calls;
            held = m.held;
        }
        assert_int_equal(m.system_calls, calls);
        assert_int_equal(m.held, held);
        tl_arena_reset(&arena);
        assert_int_equal(m.live, 0);
    }
    tl_arena_free(&arena);
    assert_int_equal(m.held, 0);
}

static void arena_skips_chunks_that_are_too_small(void **state)
{
    (void)state;
    const size_t large = 3 << 20;
    tl_memory m = {0};
    tl_arena arena;
    tl_arena_init(&arena, &m);
    char *first = tl_arena_get(&arena, 1000);
    char *big = tl_arena_get(&arena, large);
    assert_non_null(big);
    memset(big, 1, large);
    size_t calls = m.system_calls;
    assert_int_equal(calls, 2);

    tl_arena_reset(&arena);
    assert_ptr_equal(tl_arena_get(&arena, large), big); /* the first chunk is passed over */
    memset(big, 2, large);
    char *after = tl_arena_get(&arena, 100); /* ... and not entered again before the reset */
    assert_non_null(after);
    memset(after, 3, 100);
    for (size_t k = 0; k < large; k += 4096)
        assert_int_equal(big[k], 2);

    size_t live = m.live;
    assert_true(live >= large + 64 && live <= large + 256);
    calls = m.system_calls;
    tl_arena_reset(&arena);
    assert_int_equal(m.live, 0);
    assert_ptr_equal(tl_arena_get(&arena, 1000), first);
    assert_ptr_equal(tl_arena_get(&arena, large), big);
    assert_int_equal(m.system_calls, calls);
    tl_arena_free(&arena);
    assert_int_equal(m.held, 0);
}

static void arena_near_the_limit_takes_what_there_is(void **state)
{
    (void)state;
    tl_memory m = {.limit = 300000}; /* a chunk, but not a second one of twice its size */
    tl_arena arena;
    tl_arena_init(&arena, &m);
    assert_non_null(tl_arena_get(&arena, 262000));
    assert_non_null(tl_arena_get(&arena, 20000));
    assert_true(m.held <= 300000);
    size_t held = m.held, live = m.live;
    assert_null(tl_arena_get(&arena, 200000));
    assert_int_equal(m.held, held);
    assert_int_equal(m.live, live);
    tl_arena_reset(&arena);
    assert_non_null(tl_arena_get(&arena, 262000)); /* as good as new */
    tl_arena_free(&arena);
    assert_int_equal(m.held, 0);
}

/* ---- pool ------------------------------------------------------------------------------- */

static void pool_wastes_at_most_an_eighth(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_pool pool;
    tl_pool_init(&pool, &m);
    size_t before = 0;
    for (size_t lines = 1; lines < 40000; lines += 1 + lines / 23) {
        tl_block *b = tl_pool_get(&pool, lines * TL_ALIGN - 7);
        assert_non_null(b);
        assert_true(is_aligned(tl_block_data(b)));
        assert_true(b->bytes >= lines * TL_ALIGN - 7);
        assert_true(b->bytes >= before); /* never smaller for a larger request */
        if (lines <= 8)
            assert_int_equal(b->bytes, lines * TL_ALIGN);
        else if (8 * b->bytes > 9 * lines * TL_ALIGN)
            fail_msg("%zu lines asked for, %zu given", lines, b->bytes / TL_ALIGN);
        before = b->bytes;
        memset(tl_block_data(b), 5, b->bytes); /* a sanitizer looks whether they are there */
        tl_pool_put(&pool, b);
    }
    assert_int_equal(m.live, 0);
    tl_pool_free(&pool);
    assert_int_equal(m.held, 0);
}

static void pool_gives_a_block_again(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_pool pool;
    tl_pool_init(&pool, &m);
    tl_block *a = tl_pool_get(&pool, 64 * 100), *b = tl_pool_get(&pool, 64 * 100);
    assert_ptr_not_equal(a, b);
    assert_int_equal(m.live, a->bytes + b->bytes);
    size_t peak = m.peak;
    tl_pool_put(&pool, a);
    assert_int_equal(m.live, b->bytes);
    assert_ptr_equal(tl_pool_get(&pool, 64 * 100 - 30), a);
    tl_block *c = tl_pool_get(&pool, 64 * 100);
    assert_true(c != a && c != b);
    assert_int_equal(m.peak, peak + c->bytes);
    assert_int_equal(m.system_calls, 3);
    tl_pool_put(&pool, a);
    tl_pool_put(&pool, b);
    tl_pool_put(&pool, c);
    assert_int_equal(m.live, 0);
    tl_pool_free(&pool);
    assert_int_equal(m.held, 0);
}

static void pool_counts_references(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_pool pool;
    tl_pool_init(&pool, &m);
    tl_block *a = tl_pool_get(&pool, 10);
    assert_int_equal(a->refs, 1);
    a->refs++;
    tl_pool_put(&pool, a);
    assert_int_equal(m.live, a->bytes);
    tl_block *b = tl_pool_get(&pool, 10);
    assert_ptr_not_equal(b, a);
    tl_pool_put(&pool, a);
    assert_ptr_equal(tl_pool_get(&pool, 10), a);
    assert_int_equal(a->refs, 1);
    tl_pool_put(&pool, NULL); /* nothing */
    tl_pool_put(&pool, a);
    tl_pool_put(&pool, b);
    tl_pool_free(&pool);
    assert_int_equal(m.held, 0);
}

static void pool_gives_nothing_room_too(void **state)
{
    (void)state;
    tl_memory m = {0};
    tl_pool pool;
    tl_pool_init(&pool, &m);
    tl_block *a = tl_pool_get(&pool, 0), *b = tl_pool_get(&pool, 0);
    assert_true(a && b && a != b);
    tl_pool_put(&pool, a);
    tl_pool_put(&pool, b);
    tl_pool_free(&pool);
    assert_int_equal(m.held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_counts_what_it_holds),
        cmocka_unit_test(memory_keeps_to_its_limit),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(arena_counts_and_rounds),
        cmocka_unit_test(arena_gives_nothing_an_address_too),
        cmocka_unit_test(arena_keeps_what_it_got),
        cmocka_unit_test(arena_skips_chunks_that_are_too_small),
        cmocka_unit_test(arena_near_the_limit_takes_what_there_is),
        cmocka_unit_test(pool_wastes_at_most_an_eighth),
        cmocka_unit_test(pool_gives_a_block_again),
        cmocka_unit_test(pool_counts_references),
        cmocka_unit_test(pool_gives_nothing_room_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
