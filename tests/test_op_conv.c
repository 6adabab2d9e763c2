/* Convolution and pooling: what the generated checks of test_ops.c and PyTorch's answers do not see. */
#include "support.h"

#include "autograd/named.h"

#define F(...)      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...) tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR      tl_full(t, TL_F64, 0, NULL, 1)
#define TWO(a, b)                                                                                      \
    (const int64_t[2])                                                                                 \
    {                                                                                                  \
        a, b                                                                                           \
    }

/* Refused with that message, and the tape as good as new after a reset. */
static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).data);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static tl_var leaf_of(tl_tape *t, dice *d, tl_dtype dtype, int ndim, const int64_t *shape)
{
    tl_tensor *numbers = random_tensor(d, dtype, ndim, shape, -2, 2);
    tl_var x = tl_leaf_untied(t, numbers);
    tl_tensor_release(numbers);
    return x;
}

/* ---- convolution ------------------------------------------------------------------------ */

/* Padded on the left only, a convolution over time sees no future. */
static void causal_convolution(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(1);
    tl_var x = leaf_of(t, &d, TL_F64, TL_SHAPE(1, 2, STEPS)),
           w = leaf_of(t, &d, TL_F64, TL_SHAPE(3, 2, 2)), dx;
    tl_var y = tl_conv1d(t, tl_pad(t, x, 2, TWO(2, 0), 0), w, TL_NONE, 1, 0, 2, 1);
    assert_shape(t, y, "[1,3,6]");
    for (int64_t step = 0; step < STEPS; step++) {
        tl_grad(t, tl_sum(t, tl_select(t, y, 2, step)), TL_NONE, 1, &x, true, &dx);
        for (int64_t i = 0; i < 2 * STEPS; i++)
            assert_true((item_at(t, dx, i) != 0) == (i % STEPS == step || i % STEPS == step - 2));
    }
    assert_ok(t);
    tl_tape_free(t);
}

/* The functions' arguments arrive where the names say; the two forms agree where one is flat. */
static void arguments_find_their_places(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(2);
    tl_var x = leaf_of(t, &d, TL_F64, TL_SHAPE(2, 4, 9)), w = leaf_of(t, &d, TL_F64, TL_SHAPE(6, 2, 3)),
           b = leaf_of(t, &d, TL_F64, TL_SHAPE(6)), in[3] = {x, w, b};
    tl_var y = tl_conv1d(t, x, w, b, 2, 1, 3, 2);
    assert_shape(t, y, "[2,6,3]");
    assert_vars(t, y,
                tl_apply_named(t, "conv1d", 3, in,
                               "{\"stride\": 2, \"padding\": 1, \"dilation\": 3, \"groups\": 2}"),
                0);
    tl_var tall = tl_reshape(t, x, TL_SHAPE(2, 4, 9, 1)), wide = tl_reshape(t, x, TL_SHAPE(2, 4, 1, 9));
    tl_var up = tl_conv2d(t, tall, tl_reshape(t, w, TL_SHAPE(6, 2, 3, 1)), b, TWO(2, 1), TWO(1, 0),
                          TWO(3, 1), 2);
    tl_var along = tl_conv2d(t, wide, tl_reshape(t, w, TL_SHAPE(6, 2, 1, 3)), b, TWO(1, 2), TWO(0, 1),
                             TWO(1, 3), 2);
    assert_shape(t, up, "[2,6,3,1]");
    assert_shape(t, along, "[2,6,1,3]");
    assert_vars(t, tl_reshape(t, up, TL_SHAPE(2, 6, 3)), y, 1e-14);
    assert_vars(t, tl_reshape(t, along, TL_SHAPE(2, 6, 3)), y, 1e-14);
    tl_var large = tl_max_pool1d(t, x, 4, 3, 2), mean = tl_avg_pool1d(t, x, 4, 3, 2);
    assert_shape(t, large, "[2,4,4]");
    assert_vars(
        t, tl_reshape(t, tl_max_pool2d(t, tall, TWO(4, 1), TWO(3, 1), TWO(2, 0)), TL_SHAPE(2, 4, 4)),
        large, 0);
    assert_vars(
        t, tl_reshape(t, tl_max_pool2d(t, wide, TWO(1, 4), TWO(1, 3), TWO(0, 2)), TL_SHAPE(2, 4, 4)),
        large, 0);
    assert_vars(
        t, tl_reshape(t, tl_avg_pool2d(t, tall, TWO(4, 1), TWO(3, 1), TWO(2, 0)), TL_SHAPE(2, 4, 4)),
        mean, 1e-15);
    assert_vars(
        t, tl_reshape(t, tl_avg_pool2d(t, wide, TWO(1, 4), TWO(1, 3), TWO(0, 2)), TL_SHAPE(2, 4, 4)),
        mean, 1e-15);
    assert_ok(t);
    tl_tape_free(t);
}

/* Groups are convolutions side by side. */
static void groups_are_apart(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(3);
    tl_var x = leaf_of(t, &d, TL_F32, TL_SHAPE(2, 6, 5)), w = leaf_of(t, &d, TL_F32, TL_SHAPE(3, 2, 2)),
           b = leaf_of(t, &d, TL_F32, TL_SHAPE(3)), part[3];
    for (int g = 0; g < 3; g++)
        part[g] = tl_conv1d(t, tl_slice(t, x, 1, 2 * g, 2 * g + 2, 1), tl_slice(t, w, 0, g, g + 1, 1),
                            tl_slice(t, b, 0, g, g + 1, 1), 1, 1, 1, 1);
    assert_vars(t, tl_conv1d(t, x, w, b, 1, 1, 1, 3), tl_concat(t, 3, part, 1), 1e-6);
    assert_ok(t);
    tl_tape_free(t);
}

static void convolution_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(4);
    tl_var x = leaf_of(t, &d, TL_F64, TL_SHAPE(0, 4, 5)), w = leaf_of(t, &d, TL_F64, TL_SHAPE(2, 4, 3)),
           b = leaf_of(t, &d, TL_F64, TL_SHAPE(2)), in[3] = {x, w, b}, dx[3];
    tl_var y = tl_conv1d(t, x, w, b, 1, 0, 1, 1);
    assert_shape(t, y, "[0,2,3]");
    tl_grad(t, tl_sum(t, y), TL_NONE, 3, in, false, dx);
    assert_shape(t, dx[0], "[0,4,5]");
    assert_value(t, dx[2], REALS(0, 0), 0);
    assert_shape(t, tl_conv1d(t, x, F(6, 2, 3), F(6), 1, 0, 1, 2), "[0,6,3]");
    assert_shape(
        t, tl_conv2d(t, F(0, 1, 3, 3), F(2, 1, 3, 2), TL_NONE, TWO(1, 1), TWO(0, 0), TWO(1, 1), 1),
        "[0,2,1,2]");
    assert_shape(t, tl_conv1d(t, F(2, 4, 5), F(0, 4, 3), F(0), 1, 0, 1, 1), "[2,0,3]");
    assert_value(t, tl_conv1d(t, F(1, 0, 3), F(2, 0, 3), F(2), 1, 0, 1, 1), REALS(1, 1),
                 0); /* the bias */
    assert_shape(t, tl_max_pool1d(t, F(0, 4), 2, 2, 0), "[0,2]");
    assert_shape(t, tl_avg_pool2d(t, F(3, 0, 4, 4), TWO(2, 2), TWO(2, 2), TWO(0, 0)), "[3,0,2,2]");
    assert_ok(t);
    tl_tape_free(t);
}

static void convolution_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
#define CONV(x, w, b, stride, padding, dilation, groups)                                               \
    tl_conv1d(t, (x), (w), (b), (stride), (padding), (dilation), (groups))
#define BAD(y, status, reason) REFUSED(y, status, "conv1d: " reason)
    BAD(CONV(F(3, 5), F(4, 3, 2), TL_NONE, 1, 0, 1, 1), TL_ERR_SHAPE,
        "wants [N,C,L] and [O,C/G,K], not [3,5] and [4,3,2], for G = 1");
    BAD(CONV(F(2, 3, 5), F(4, 2, 2), TL_NONE, 1, 0, 1, 1), TL_ERR_SHAPE,
        "wants [N,C,L] and [O,C/G,K], not [2,3,5] and [4,2,2], for G = 1");
    BAD(CONV(F(2, 4, 5), F(3, 2, 2), TL_NONE, 1, 0, 1, 2), TL_ERR_SHAPE,
        "wants [N,C,L] and [O,C/G,K], not [2,4,5] and [3,2,2], for G = 2");
    BAD(CONV(F(2, 4, 5), F(3, 1, 2), TL_NONE, 1, 0, 1, 3), TL_ERR_SHAPE,
        "wants [N,C,L] and [O,C/G,K], not [2,4,5] and [3,1,2], for G = 3");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), F(3), 1, 0, 1, 1), TL_ERR_SHAPE, "wants a bias of [4], not [3]");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), F(4, 1), 1, 0, 1, 1), TL_ERR_SHAPE,
        "wants a bias of [4], not [4,1]");
    BAD(CONV(F(2, 3, 5), F(4, 3, 6), TL_NONE, 1, 0, 1, 1), TL_ERR_SHAPE,
        "a window of 6 does not fit into [2,3,5], padding 0");
    BAD(CONV(F(2, 3, 5), F(4, 3, 4), TL_NONE, 1, 1, 3, 1), TL_ERR_SHAPE,
        "a window of 10 does not fit into [2,3,5], padding 1");
    BAD(CONV(F(2, 3, 5), F(4, 3, 0), TL_NONE, 1, 0, 1, 1), TL_ERR_ARGUMENT, "window of size 0");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), TL_NONE, 0, 0, 1, 1), TL_ERR_ARGUMENT, "stride 0");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), TL_NONE, 1, -1, 1, 1), TL_ERR_ARGUMENT, "padding -1");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), TL_NONE, 1, 0, 0, 1), TL_ERR_ARGUMENT, "dilation 0");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), TL_NONE, 1, 0, INT64_MAX, 1), TL_ERR_ARGUMENT,
        "dilation 9223372036854775807");
    BAD(CONV(F(2, 3, 5), F(4, 3, 2), TL_NONE, 1, 0, 1, 0), TL_ERR_ARGUMENT, "groups: 0");
    REFUSED(CONV(F(2, 3, 5), SINGLE(4, 3, 2), TL_NONE, 1, 0, 1, 1), TL_ERR_DTYPE,
            "conv1d: operands differ in dtype: f64 and f32");
    REFUSED(CONV(INT(2, 3, 5), INT(4, 3, 2), TL_NONE, 1, 0, 1, 1), TL_ERR_DTYPE,
            "conv1d: operand 0 is i64, not a real");
    REFUSED(tl_conv2d(t, F(2, 3, 5), F(4, 3, 2, 2), TL_NONE, TWO(1, 1), TWO(0, 0), TWO(1, 1), 1),
            TL_ERR_SHAPE,
            "conv2d: wants [N,C,H,W] and [O,C/G,K,K'], not [2,3,5] and [4,3,2,2], for G = 1");
    REFUSED(tl_conv2d(t, F(2, 3, 5, 4), F(4, 3, 2, 7), TL_NONE, TWO(1, 1), TWO(0, 1), TWO(1, 1), 1),
            TL_ERR_SHAPE, "conv2d: a window of 7 does not fit into [2,3,5,4], padding 1");
    REFUSED(tl_conv2d(t, F(2, 3, 5, 4), F(4, 3, 2, 2), TL_NONE, TWO(1, -2), TWO(0, 0), TWO(1, 1), 1),
            TL_ERR_ARGUMENT, "conv2d: stride -2");
#undef BAD
    tl_tape_free(t);
}

/* ---- pooling ---------------------------------------------------------------------------- */

static void pools_of_special_values(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {-INFINITY, -INFINITY, -3, NAN, 2, 2, INFINITY};
    tl_tensor *tensor = tl_tensor_from(TL_F64, TL_SHAPE(7), numbers, NULL);
    tl_var x = tl_leaf(t, tensor, NULL), dx;
    tl_var y = tl_max_pool1d(t, x, 2, 1, 0);
    assert_value(t, y, REALS(-INFINITY, -3, NAN, NAN, 2, INFINITY), 0);
    tl_grad(t, y, F(6), 1, &x, false, &dx);
    assert_value(t, dx, REALS(1, 0, 1, 2, 1, 0, 1), 0);
    assert_value(t, tl_max_pool1d(t, constant_f64(t, TL_SHAPE(2), REALS(-5, -7)), 2, 1, 1),
                 REALS(-5, -5, -7), 0);
    assert_value(t, tl_avg_pool1d(t, constant_f64(t, TL_SHAPE(2), REALS(-5, -7)), 2, 1, 1),
                 REALS(-2.5, -6, -3.5), 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(tensor);
}

static void pools_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    REFUSED(tl_max_pool1d(t, SCALAR, 2, 2, 0), TL_ERR_SHAPE,
            "max_pool1d: wants 1 to 7 dimensions, not []");
    REFUSED(tl_avg_pool2d(t, F(3), TWO(2, 2), TWO(2, 2), TWO(0, 0)), TL_ERR_SHAPE,
            "avg_pool2d: wants 2 to 6 dimensions, not [3]");
    REFUSED(tl_max_pool2d(t, F(1, 1, 1, 1, 1, 1, 1), TWO(1, 1), TWO(1, 1), TWO(0, 0)), TL_ERR_SHAPE,
            "max_pool2d: wants 2 to 6 dimensions, not [1,1,1,1,1,1,1]");
    REFUSED(tl_max_pool1d(t, F(2, 3), 0, 1, 0), TL_ERR_ARGUMENT, "max_pool1d: window of size 0");
    REFUSED(tl_max_pool1d(t, F(2, 3), 2, 0, 0), TL_ERR_ARGUMENT, "max_pool1d: stride 0");
    REFUSED(tl_avg_pool1d(t, F(2, 3), 2, 1, -1), TL_ERR_ARGUMENT, "avg_pool1d: padding -1");
    REFUSED(tl_avg_pool1d(t, F(2, 3), 3, 1, 2), TL_ERR_ARGUMENT,
            "avg_pool1d: padding 2 is more than half of the window, 3");
    REFUSED(tl_max_pool1d(t, F(2, 3), 4, 1, 0), TL_ERR_SHAPE,
            "max_pool1d: a window of 4 does not fit into [2,3], padding 0");
    REFUSED(tl_max_pool1d(t, INT(2, 3), 2, 1, 0), TL_ERR_DTYPE,
            "max_pool1d: operand 0 is i64, not a real");
    assert_shape(t, tl_max_pool1d(t, F(1, 1, 1, 1, 1, 1, 3), 2, 1, 0), "[1,1,1,1,1,1,2]");
    assert_ok(t);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(causal_convolution),
        cmocka_unit_test(arguments_find_their_places),
        cmocka_unit_test(groups_are_apart),
        cmocka_unit_test(convolution_without_elements),
        cmocka_unit_test(convolution_is_refused_in_words),
        cmocka_unit_test(pools_of_special_values),
        cmocka_unit_test(pools_are_refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
