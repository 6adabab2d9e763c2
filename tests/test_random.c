/* The generator against its published numbers, and the distributions against their moments.
 * Seeds are fixed; bounds are 4 standard deviations of what is estimated. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/random.h"

/* ---- help ------------------------------------------------------------------------------- */

#define assert_within(actual, expected, bound) check_within((actual), (expected), (bound), __LINE__)

static void check_within(double actual, double expected, double bound, int line)
{
    if (!(fabs(actual - expected) <= bound))
        fail_msg("line %d: %.17g should be %.17g, give or take %g", line, actual, expected, bound);
}

static tl_tensor *zeros(tl_dtype dtype, int ndim, const int64_t *shape)
{
    tl_tensor *tensor = tl_tensor_zeros(dtype, ndim, shape, NULL);
    assert_non_null(tensor);
    return tensor;
}

/* Mean of f(number): with f(x) = ((x - shift) / scale)^power. */
static double moment(const tl_tensor *tensor, double shift, double scale, int power)
{
    double sum = 0;
    for (int64_t i = 0; i < tensor->layout.count; i++)
        sum += pow((tl_tensor_get(tensor, i) - shift) / scale, power);
    return sum / (double)tensor->layout.count;
}

/* Mean of the products of neighbours i, i + lag of numbers that have mean 0. */
static double correlation(const tl_tensor *tensor, int64_t lag)
{
    double sum = 0;
    int64_t n = tensor->layout.count - lag;
    for (int64_t i = 0; i < n; i++)
        sum += tl_tensor_get(tensor, i) * tl_tensor_get(tensor, i + lag);
    return sum / (double)n;
}

enum { MANY = 200000 };

/* ---- the generator ---------------------------------------------------------------------- */

/* kat_vectors of Random123, lines "philox4x32 10". */
static void philox_gives_the_published_numbers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t words[4];
        tl_philox4x32(known[i].counter, known[i].key, words);
        for (int w = 0; w < 4; w++)
            assert_int_equal(words[w], known[i].words[w]);
    }
}

static void a_generator_counts_blocks(void **state)
{
    (void)state;
    tl_random random = tl_random_seed(0x299f31d0a4093822);
    random.next = 0x85a308d3243f6a88; /* a place restored */
    const uint32_t counter[4] = {0x243f6a88, 0x85a308d3, 0, 0}, key[2] = {0xa4093822, 0x299f31d0};
    uint32_t words[4];
    tl_philox4x32(counter, key, words);
    assert_int_equal(tl_random_u32(&random), words[0]);
    assert_true(random.next == 0x85a308d3243f6a89);
    random.next--;
    double unit = (double)(((uint64_t)words[1] << 32 | words[0]) >> 11) / 9007199254740992.0;
    assert_within(tl_random_unit(&random), unit, 0);

    tl_random zero = tl_random_seed(0);
    assert_int_equal(tl_random_u32(&zero), 0x6627e8d5);
}

static void single_numbers_keep_their_range(void **state)
{
    (void)state;
    tl_random random = tl_random_seed(5);
    double sum = 0;
    for (int i = 0; i < MANY; i++) {
        double u = tl_random_unit(&random);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_within(sum / MANY, 0.5, 4 * sqrt(1.0 / 12 / MANY));
}

static void below_is_even(void **state)
{
    (void)state;
    enum { SIDES = 7 };
    tl_random random = tl_random_seed(6);
    int counts[SIDES] = {0};
    for (int i = 0; i < MANY; i++) {
        int64_t drawn = tl_random_below(&random, SIDES);
        assert_in_range(drawn, 0, SIDES - 1);
        counts[drawn]++;
    }
    for (int i = 0; i < SIDES; i++)
        assert_within(counts[i], (double)MANY / SIDES, 4 * sqrt(MANY * (1.0 / SIDES) * (6.0 / SIDES)));
    for (int i = 0; i < 50; i++)
        assert_int_equal(tl_random_below(&random, 1), 0);
}

/* Of 3 * 2^61 numbers, a plain remainder of 64 bits would draw the first 2^62 half again as often. */
static void below_is_even_for_large_bounds(void **state)
{
    (void)state;
    const int64_t bound = 3LL << 61;
    tl_random random = tl_random_seed(7);
    int low = 0;
    for (int i = 0; i < MANY; i++) {
        int64_t drawn = tl_random_below(&random, bound);
        assert_true(drawn >= 0 && drawn < bound);
        low += drawn < 1LL << 62;
    }
    assert_within(low, MANY * 2.0 / 3, 4 * sqrt(MANY * (2.0 / 3) * (1.0 / 3)));
    int64_t largest = tl_random_below(&random, INT64_MAX);
    assert_true(largest >= 0 && largest < INT64_MAX);
}

/* ---- split ------------------------------------------------------------------------------ */

static void split_generators_have_nothing_in_common(void **state)
{
    (void)state;
    tl_random parent = tl_random_seed(8);
    tl_random children[] = {parent, tl_random_split(&parent, 0), tl_random_split(&parent, 1),
                            tl_random_split(&parent, 1ULL << 32)};
    assert_true(parent.next == 0);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) {
            assert_true(children[i].seed != children[j].seed);
            tl_random a = children[i], b = children[j];
            double sum = 0;
            for (int n = 0; n < MANY; n++)
                sum += (tl_random_unit(&a) - 0.5) * (tl_random_unit(&b) - 0.5);
            assert_within(sum / MANY, 0, 4 * (1.0 / 12) / sqrt(MANY));
        }
    tl_random_u32(&parent); /* draws do not change what the children will be */
    assert_true(tl_random_split(&parent, 1).seed == children[2].seed);
    tl_random first = tl_random_seed(8); /* and a child's seed is not what its parent draws */
    uint64_t low = tl_random_u32(&first);
    assert_true((children[1].seed & 0xffffffff) != low);
}

/* ---- distributions ---------------------------------------------------------------------- */

static void uniform_numbers(void **state)
{
    (void)state;
    tl_random random = tl_random_seed(9);
    tl_tensor *a = zeros(TL_F64, TL_SHAPE(MANY));
    assert_int_equal(tl_random_uniform(&random, a, -3, 5), TL_OK);
    for (int64_t i = 0; i < MANY; i++)
        assert_true(tl_tensor_get(a, i) >= -3 && tl_tensor_get(a, i) < 5);
    double deviation = 8 / sqrt(12);
    assert_within(moment(a, 0, 1, 1), 1, 4 * deviation / sqrt(MANY));
    assert_within(moment(a, 1, deviation, 2), 1, 4 * sqrt(0.8 / MANY)); /* E x^4 = 9/5 */
    tl_tensor_release(a);
}

/* Moments of x: E x = E x^3 = 0, E x^2 = 1, E x^4 = 3; the variance of x^k is E x^2k - (E x^k)^2. */
static void normal_numbers(void **state)
{
    (void)state;
    tl_random random = tl_random_seed(10);
    tl_tensor *a = zeros(TL_F64, TL_SHAPE(MANY));
    assert_int_equal(tl_random_normal(&random, a, -2, 3), TL_OK);
    assert_within(moment(a, -2, 3, 1), 0, 4 * sqrt(1.0 / MANY));
    assert_within(moment(a, -2, 3, 2), 1, 4 * sqrt(2.0 / MANY));
    assert_within(moment(a, -2, 3, 3), 0, 4 * sqrt(15.0 / MANY));
    assert_within(moment(a, -2, 3, 4), 3, 4 * sqrt(96.0 / MANY));

    int tail = 0; /* beyond 2 sigma: 4.55 % */
    for (int64_t i = 0; i < MANY; i++)
        tail += fabs(tl_tensor_get(a, i) + 2) > 6;
    assert_within(tail, 0.0455003 * MANY, 4 * sqrt(MANY * 0.0455003 * (1 - 0.0455003)));

    assert_int_equal(tl_random_normal(&random, a, 0, 1), TL_OK);
    for (int64_t lag = 1; lag <= 4; lag++)
        assert_within(correlation(a, lag), 0, 4 / sqrt(MANY));
    tl_tensor_release(a);
}

static void bernoulli_numbers(void **state)
{
    (void)state;
    const tl_dtype dtypes[] = {TL_F32, TL_F64, TL_U8};
    for (int d = 0; d < 3; d++) {
        tl_random random = tl_random_seed(11);
        tl_tensor *a = zeros(dtypes[d], TL_SHAPE(MANY));
        assert_int_equal(tl_random_bernoulli(&random, a, 0.3), TL_OK);
        assert_within(moment(a, 0, 1, 1), 0.3, 4 * sqrt(0.3 * 0.7 / MANY));
        for (int64_t i = 0; i < MANY; i++)
            assert_true(tl_tensor_get(a, i) == 0 || tl_tensor_get(a, i) == 1);
        assert_int_equal(tl_random_bernoulli(&random, a, 0), TL_OK);
        assert_within(moment(a, 0, 1, 1), 0, 0);
        assert_int_equal(tl_random_bernoulli(&random, a, 1), TL_OK);
        assert_within(moment(a, 0, 1, 1), 1, 0);
        tl_tensor_release(a);
    }
}

static void permutations(void **state)
{
    (void)state;
    enum { ROUNDS = 24000 };
    tl_random random = tl_random_seed(12);
    tl_tensor *a = zeros(TL_I64, TL_SHAPE(4, 2));
    tl_tensor *column = tl_tensor_slice(a, 1, 1, 2, 1, NULL);
    tl_tensor *order = tl_tensor_reshape(column, TL_SHAPE(4), NULL);
    int counts[256] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(tl_random_permutation(&random, order), TL_OK);
        int code = 0, seen = 0;
        for (int64_t i = 0; i < 4; i++) {
            int place = (int)tl_tensor_get(order, i);
            code = 4 * code + place;
            seen |= 1 << place;
            assert_within(tl_tensor_get(a, 2 * i), 0, 0); /* the other column is left alone */
        }
        assert_int_equal(seen, 15);
        counts[code]++;
    }
    int kinds = 0;
    for (int code = 0; code < 256; code++)
        if (counts[code]) {
            kinds++;
            assert_within(counts[code], ROUNDS / 24.0, 4 * sqrt(ROUNDS * (1.0 / 24) * (23.0 / 24)));
        }
    assert_int_equal(kinds, 24);
    tl_tensor_release(a);
    tl_tensor_release(column);
    tl_tensor_release(order);
}

/* ---- number i is a function of seed and place ------------------------------------------- */

typedef tl_status filling(tl_random *random, tl_tensor *tensor);

static tl_status fill_uniform(tl_random *random, tl_tensor *tensor)
{
    return tl_random_uniform(random, tensor, -1, 2);
}

static tl_status fill_normal(tl_random *random, tl_tensor *tensor)
{
    return tl_random_normal(random, tensor, 0.5, 3);
}

static tl_status fill_bernoulli(tl_random *random, tl_tensor *tensor)
{
    return tl_random_bernoulli(random, tensor, 0.4);
}

static filling *const fillings[] = {fill_uniform, fill_normal, fill_bernoulli};

enum { FILLINGS = sizeof fillings / sizeof fillings[0] };

static void layout_and_dtype_change_no_number(void **state)
{
    (void)state;
    for (int f = 0; f < FILLINGS; f++) {
        tl_random one = tl_random_seed(13), two = one, three = one;
        tl_tensor *plain = zeros(TL_F64, TL_SHAPE(5, 3)), *single = zeros(TL_F32, TL_SHAPE(5, 3));
        tl_tensor *whole = zeros(TL_F64, TL_SHAPE(3, 11));
        tl_tensor *every = tl_tensor_slice(whole, 1, 1, 11, 2, NULL);
        tl_tensor *turned = tl_tensor_permute(every, (int[]){1, 0}, NULL);
        fillings[f](&one, plain);
        fillings[f](&two, single);
        fillings[f](&three, turned);
        for (int64_t i = 0; i < 15; i++) {
            assert_within(tl_tensor_get(single, i), (double)(float)tl_tensor_get(plain, i), 0);
            assert_within(tl_tensor_get(turned, i), tl_tensor_get(plain, i), 0);
        }
        assert_true(one.next == two.next && one.next == three.next);
        tl_tensor *all[] = {plain, single, whole, every, turned};
        for (int i = 0; i < 5; i++)
            tl_tensor_release(all[i]);
    }
}

static void a_longer_fill_begins_like_a_shorter(void **state)
{
    (void)state;
    for (int f = 0; f < FILLINGS; f++) {
        tl_random one = tl_random_seed(14), two = one;
        tl_tensor *shorter = zeros(TL_F64, TL_SHAPE(7)), *longer = zeros(TL_F64, TL_SHAPE(12));
        fillings[f](&one, shorter);
        fillings[f](&two, longer);
        for (int64_t i = 0; i < 7; i++)
            assert_within(tl_tensor_get(longer, i), tl_tensor_get(shorter, i), 0);
        assert_true(one.next == 4 && two.next == 6); /* two numbers a block */

        fillings[f](&one, shorter); /* the next fill has new numbers, the restored generator the old */
        int same = 0;
        for (int64_t i = 0; i < 7; i++)
            same += tl_tensor_get(longer, i) == tl_tensor_get(shorter, i);
        assert_true(same < 7);
        two.next = 0;
        fillings[f](&two, shorter);
        for (int64_t i = 0; i < 7; i++)
            assert_within(tl_tensor_get(longer, i), tl_tensor_get(shorter, i), 0);
        tl_tensor_release(shorter);
        tl_tensor_release(longer);
    }
}

static void fills_refuse(void **state)
{
    (void)state;
    tl_random random = tl_random_seed(15);
    tl_tensor *i64 = zeros(TL_I64, TL_SHAPE(4, 3)), *u8 = zeros(TL_U8, TL_SHAPE(5));
    tl_tensor *f32 = zeros(TL_F32, TL_SHAPE(6)), *none = zeros(TL_F32, TL_SHAPE(0));
    assert_int_equal(tl_random_uniform(&random, i64, 0, 1), TL_ERR_DTYPE);
    assert_int_equal(tl_random_uniform(&random, u8, 0, 1), TL_ERR_DTYPE);
    assert_int_equal(tl_random_normal(&random, u8, 0, 1), TL_ERR_DTYPE);
    assert_int_equal(tl_random_bernoulli(&random, i64, 0.5), TL_ERR_DTYPE);
    assert_int_equal(tl_random_bernoulli(&random, f32, -0.1), TL_ERR_ARGUMENT);
    assert_int_equal(tl_random_bernoulli(&random, f32, 1.1), TL_ERR_ARGUMENT);
    assert_int_equal(tl_random_bernoulli(&random, f32, NAN), TL_ERR_ARGUMENT);
    assert_int_equal(tl_random_permutation(&random, f32), TL_ERR_DTYPE);
    assert_int_equal(tl_random_permutation(&random, i64), TL_ERR_SHAPE);
    assert_int_equal(tl_random_normal(&random, none, 0, 1), TL_OK);
    assert_true(random.next == 0); /* nothing was drawn for any of them */
    tl_tensor *all[] = {i64, u8, f32, none};
    for (int i = 0; i < 4; i++)
        tl_tensor_release(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(a_generator_counts_blocks),
        cmocka_unit_test(single_numbers_keep_their_range),
        cmocka_unit_test(below_is_even),
        cmocka_unit_test(below_is_even_for_large_bounds),
        cmocka_unit_test(split_generators_have_nothing_in_common),
        cmocka_unit_test(uniform_numbers),
        cmocka_unit_test(normal_numbers),
        cmocka_unit_test(bernoulli_numbers),
        cmocka_unit_test(permutations),
        cmocka_unit_test(layout_and_dtype_change_no_number),
        cmocka_unit_test(a_longer_fill_begins_like_a_shorter),
        cmocka_unit_test(fills_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
