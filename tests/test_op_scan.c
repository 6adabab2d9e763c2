/* Running sums, running products and the linear recurrence: threads, blocks, extremes, bad input. */
#include "support.h"

#include "autograd/named.h"
#include "tensor/kernels.h"

/* ---- bad input -------------------------------------------------------------------------- */

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_int_not_equal(tl_tape_status(t), TL_OK);
    assert_null(tl_value(t, y).data);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_full(t, TL_F64, TL_SHAPE(2), 2))), 4);
    assert_ok(t);
    tl_tape_reset(t);
}

#define F(...)                      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR                      tl_full(t, TL_F64, 0, NULL, 1)
#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x;
    REFUSED(tl_cumsum(t, F(2, 3), 2, false), TL_ERR_INDEX, "cumsum: there is no dimension 2 in [2,3]");
    REFUSED(tl_cumsum(t, SCALAR, 1, true), TL_ERR_INDEX, "cumsum: there is no dimension 1 in []");
    REFUSED(tl_cumprod(t, F(2, 3), -3), TL_ERR_INDEX, "cumprod: there is no dimension -3 in [2,3]");
    REFUSED((x = F(2), tl_apply_named(t, "cumsum", 1, &x, "{\"dim\": -1, \"reverse\": true}")),
            TL_ERR_INDEX, "cumsum: there is no dimension -1 in [2]");
    REFUSED((x = F(2), tl_apply_named(t, "cumprod", 1, &x, "{\"dim\": 1}")), TL_ERR_INDEX,
            "cumprod: there is no dimension 1 in [2]");
    REFUSED(tl_cumsum(t, tl_full(t, TL_I64, TL_SHAPE(2), 1), 0, false), TL_ERR_DTYPE,
            "cumsum: operand 0 is i64, not a real");
    REFUSED(tl_cumprod(t, tl_full(t, TL_U8, TL_SHAPE(2), 1), 0), TL_ERR_DTYPE,
            "cumprod: operand 0 is u8, not a real");
    REFUSED(tl_linear_recurrence(t, F(5, 2), F(5, 3), TL_NONE, false, 0), TL_ERR_SHAPE,
            "linear_recurrence: wants a and b of one shape [T,..], not [5,2] and [5,3]");
    REFUSED(tl_linear_recurrence(t, SCALAR, SCALAR, TL_NONE, false, 0), TL_ERR_SHAPE,
            "linear_recurrence: wants a and b of one shape [T,..], not [] and []");
    REFUSED(tl_linear_recurrence(t, F(5, 2), F(5, 2), F(5, 2), false, 0), TL_ERR_SHAPE,
            "linear_recurrence: wants h0 [2] for a [5,2], not [5,2]");
    REFUSED(tl_linear_recurrence(t, F(5), F(5), F(1), true, 3), TL_ERR_SHAPE,
            "linear_recurrence: wants h0 [] for a [5], not [1]");
    REFUSED(tl_linear_recurrence(t, F(5), F(5), SCALAR, true, -3), TL_ERR_ARGUMENT,
            "linear_recurrence: blocks of -3 steps");
    REFUSED(tl_linear_recurrence(t, F(5), tl_full(t, TL_F32, TL_SHAPE(5), 1), TL_NONE, true, 0),
            TL_ERR_DTYPE, "linear_recurrence: operands differ in dtype: f64 and f32");
    tl_tape_free(t);
}

static void of_no_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t shapes[][3] = {{0, 3, 2}, {4, 0, 2}, {4, 3, 0}};
    for (int k = 0; k < COUNT_OF(shapes); k++) {
        tl_tensor *none = tl_tensor_zeros(TL_F64, 3, shapes[k], NULL);
        tl_tensor *first = tl_tensor_zeros(TL_F64, 2, shapes[k] + 1, NULL);
        tl_var x[3] = {tl_leaf_untied(t, none), tl_leaf_untied(t, none), tl_leaf_untied(t, first)},
               d[3];
        tl_var y = tl_linear_recurrence(t, x[0], x[1], x[2], k == 1, 2);
        for (int dim = 0; dim < 3; dim++)
            y = tl_add(t, y, tl_add(t, tl_cumsum(t, x[0], dim, dim == 1), tl_cumprod(t, x[0], dim)));
        assert_true(tl_layout_same_shape(tl_value(t, y).layout, &none->layout));
        assert_int_equal(tl_grad(t, tl_sum(t, y), TL_NONE, 3, x, true, d), TL_OK);
        assert_true(tl_layout_same_shape(tl_value(t, d[2]).layout, &first->layout));
        for (int64_t i = 0; i < first->layout.count; i++)
            assert_same(item_at(t, d[2], i), 0);
        tl_tensor_release(none);
        tl_tensor_release(first);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

/* ---- threads and blocks ----------------------------------------------------------------- */

enum { STEPS = 301, RESULTS = 5 };

/* h, da, db, dh0 and the running sums of h, both ways. */
static void run(int threads, tl_dtype dtype, int64_t width, bool reverse, int64_t block,
                tl_tensor **result)
{
    tl_tape *t = tl_tape_new(&(tl_tape_config){.threads = threads});
    dice d = dice_of(5);
    const int64_t shape[2] = {STEPS, width};
    tl_tensor *a = random_tensor(&d, dtype, 2, shape, -1.05, 1.05),
              *b = random_tensor(&d, dtype, 2, shape, -1, 1),
              *h0 = random_tensor(&d, dtype, 1, shape + 1, -1, 1),
              *weight = random_tensor(&d, dtype, 2, shape, -1, 1);
    tl_var x[3] = {tl_leaf(t, a, NULL), tl_leaf(t, b, NULL), tl_leaf(t, h0, NULL)}, dx[3];
    tl_var h = tl_linear_recurrence(t, x[0], x[1], x[2], reverse, block);
    tl_grad(t, h, tl_constant(t, weight), 3, x, false, dx);
    result[0] = value_of(t, h);
    for (int k = 0; k < 3; k++)
        result[1 + k] = value_of(t, dx[k]);
    result[4] = value_of(t, tl_add(t, tl_cumsum(t, h, 0, false), tl_cumsum(t, h, 1, true)));
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tensor_release(h0);
    tl_tensor_release(weight);
}

static void release(tl_tensor **result)
{
    for (int k = 0; k < RESULTS; k++)
        tl_tensor_release(result[k]);
}

static void any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 70, TL_SCAN_COLUMNS, 3 * TL_SCAN_COLUMNS + 5},
                         blocks[] = {0, 7, 64, STEPS};
    for (int w = 0; w < COUNT_OF(widths); w++)
        for (int b = 0; b < COUNT_OF(blocks); b++)
            for (int way = 0; way < 4; way++) {
                tl_dtype dtype = way & 1 ? TL_F32 : TL_F64;
                tl_tensor *one[RESULTS], *many[RESULTS];
                run(1, dtype, widths[w], way & 2, blocks[b], one);
                for (int threads = 2; threads <= 5; threads += 3) {
                    run(threads, dtype, widths[w], way & 2, blocks[b], many);
                    for (int k = 0; k < RESULTS; k++)
                        assert_memory_equal(one[k]->data, many[k]->data,
                                            (size_t)one[k]->layout.count * tl_dtype_size(dtype));
                    release(many);
                }
                release(one);
            }
}

static void blocks_compute_what_steps_do(void **state)
{
    (void)state;
    static const int64_t blocks[] = {1, 2, 100, 150, STEPS - 1, STEPS, 10 * STEPS};
    for (int reverse = 0; reverse < 2; reverse++) {
        tl_tensor *steps[RESULTS], *blocked[RESULTS];
        run(1, TL_F64, 150, reverse, 0, steps);
        for (int b = 0; b < COUNT_OF(blocks); b++) {
            run(2, TL_F64, 150, reverse, blocks[b], blocked);
            for (int k = 0; k < RESULTS; k++)
                check_tensors(blocked[k], steps[k], 1e-12, "blocked", __FILE__, __LINE__);
            release(blocked);
        }
        release(steps);
    }
}

/* The equation, step by step in plain C. */
static void a_long_recurrence_is_the_loop(void **state)
{
    (void)state;
    tl_tensor *result[RESULTS];
    for (int reverse = 0; reverse < 2; reverse++) {
        const int64_t width = TL_SCAN_COLUMNS + 3;
        run(1, TL_F64, width, reverse, 0, result);
        dice d = dice_of(5);
        const int64_t shape[2] = {STEPS, width};
        tl_tensor *a = random_tensor(&d, TL_F64, 2, shape, -1.05, 1.05),
                  *b = random_tensor(&d, TL_F64, 2, shape, -1, 1),
                  *h0 = random_tensor(&d, TL_F64, 1, shape + 1, -1, 1);
        for (int64_t j = 0; j < width; j++) {
            double h = tl_tensor_get(h0, j);
            for (int64_t s = 0; s < STEPS; s++) {
                int64_t at = (reverse ? STEPS - 1 - s : s) * width + j;
                h = tl_tensor_get(a, at) * h + tl_tensor_get(b, at);
                assert_near_at(tl_tensor_get(result[0], at), h, 1e-13, at);
            }
        }
        release(result);
        tl_tensor_release(a);
        tl_tensor_release(b);
        tl_tensor_release(h0);
    }
}

/* The product over a block may overflow although h, which is zero, never does. */
static void nothing_times_an_overflow_is_nothing(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var two = tl_full(t, TL_F32, TL_SHAPE(600, 3), 2),
           zero = tl_full(t, TL_F32, TL_SHAPE(600, 3), 0);
    tl_var h0 = tl_full(t, TL_F32, TL_SHAPE(3), 0);
    for (int64_t block = 0; block <= 256; block += 256) {
        assert_same(tl_item(t, tl_sum(t, tl_linear_recurrence(t, two, zero, h0, false, block))), 0);
        assert_same(tl_item(t, tl_sum(t, tl_linear_recurrence(t, two, zero, TL_NONE, true, block))), 0);
    }
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- special values --------------------------------------------------------------------- */

/* A million tenths in f32, kept in double: each running sum is right to the last bit or two. */
static void running_sums_do_not_drift(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    enum { N = 1000000 };
    const double tenth = (double)0.1f;
    tl_var x = tl_full(t, TL_F32, TL_SHAPE(N), tenth);
    tl_tensor *y = value_of(t, tl_cumsum(t, x, 0, false)), *z = value_of(t, tl_cumsum(t, x, -1, true));
    for (int64_t i = 0; i < N; i += 999) {
        assert_near_at(tl_tensor_get(y, i), (double)(i + 1) * tenth, 1e-7, i);
        assert_near_at(tl_tensor_get(z, i), (double)(N - i) * tenth, 1e-7, i);
    }
    tl_tensor_release(y);
    tl_tensor_release(z);
    tl_tape_free(t);
}

static void special_values_run_on(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double inf = (double)INFINITY, nan = (double)NAN;
    tl_var x = constant_f64(t, TL_SHAPE(5), REALS(1, inf, 2, -inf, 3));
    assert_value(t, tl_cumsum(t, x, 0, false), REALS(1, inf, inf, nan, nan), 0);
    assert_value(t, tl_cumsum(t, x, 0, true), REALS(nan, nan, -inf, -inf, 3), 0);
    assert_value(t, tl_cumprod(t, x, 0), REALS(1, inf, inf, -inf, -inf), 0);
    tl_var zeros = tl_cumprod(t, constant_f64(t, TL_SHAPE(3), REALS(-0.0, 2, -1)), 0);
    assert_true(signbit(item_at(t, zeros, 0)) && signbit(item_at(t, zeros, 1)));
    assert_false(signbit(item_at(t, zeros, 2)));
    /* a without a state before it is not multiplied at all */
    tl_var a = constant_f64(t, TL_SHAPE(2), REALS(inf, 0)),
           b = constant_f64(t, TL_SHAPE(2), REALS(1, 2));
    assert_value(t, tl_linear_recurrence(t, a, b, TL_NONE, false, 0), REALS(1, 2), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* d^3/dx0 dx1 dx2 of x0 x1 x2, and of its running products, with zeros: the last is 1, the others 0. */
static void running_products_have_derivatives_of_any_order(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int64_t n = 1; n <= 5; n++) {
        const double values[] = {0, 0, 0, 0, 0};
        tl_tensor *zeros = tensor_of(TL_F64, 1, &n, values);
        tl_var x = tl_leaf(t, zeros, NULL), d = tl_sum(t, tl_cumprod(t, x, 0));
        for (int64_t k = 0; k < n; k++) {
            tl_grad(t, d, TL_NONE, 1, &x, true, &d);
            assert_ok(t);
            d = tl_select(t, d, 0, n - 1 - k);
        }
        assert_same(tl_item(t, d), 1);
        tl_tensor_release(zeros);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(of_no_elements),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(blocks_compute_what_steps_do),
        cmocka_unit_test(a_long_recurrence_is_the_loop),
        cmocka_unit_test(nothing_times_an_overflow_is_nothing),
        cmocka_unit_test(running_sums_do_not_drift),
        cmocka_unit_test(special_values_run_on),
        cmocka_unit_test(running_products_have_derivatives_of_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
