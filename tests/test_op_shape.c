/* op_shape.c, op_arrange.c, op_window.c: what the checks of all ops cannot see: messages, negative
 * dimensions, what is a view, odd sizes, special numbers. */
#include "support.h"

#include "autograd/named.h"

#define F(...)    tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define MASK(...) tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR    tl_full(t, TL_F64, 0, NULL, 1)
#define EIGHT     F(1, 1, 1, 1, 1, 1, 1, 2)

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).layout);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2); /* the tape is as good as new */
    assert_ok(t);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static tl_var named(tl_tape *t, const char *op, tl_var x, const char *json)
{
    return tl_apply_named(t, op, 1, &x, json);
}

static tl_var with_attr(tl_tape *t, const tl_op *op, tl_var x, int n, int64_t first)
{
    tl_attr attr = {.i = {first, first, first, first, first, first, first, first}, .n = n};
    return tl_apply(t, op, 1, &x, &attr);
}

static void bad_dimensions_and_sizes(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var out[3];
    REFUSED(tl_transpose(t, F(2, 3), 0, 2), TL_ERR_INDEX,
            "transpose: there is no dimension 2 in [2,3]");
    REFUSED(tl_transpose(t, F(2, 3), -3, 0), TL_ERR_INDEX,
            "transpose: there is no dimension -3 in [2,3]");
    REFUSED(named(t, "transpose", F(2, 3), "{\"dim0\": -1, \"dim1\": 0}"), TL_ERR_INDEX,
            "transpose: there is no dimension -1 in [2,3]");
    REFUSED(named(t, "transpose", SCALAR, "{\"dim0\": 0, \"dim1\": 0}"), TL_ERR_INDEX,
            "transpose: there is no dimension 0 in []");
    REFUSED(tl_movedim(t, F(2, 3), 0, 2), TL_ERR_INDEX, "movedim: there is no dimension 2 in [2,3]");
    REFUSED(tl_movedim(t, F(2, 3), -3, 0), TL_ERR_INDEX, "movedim: there is no dimension -3 in [2,3]");
    REFUSED(tl_flatten(t, F(2, 3), 0, 2), TL_ERR_INDEX, "flatten: there is no dimension 2 in [2,3]");
    REFUSED(tl_flatten(t, F(2, 3), 1, 0), TL_ERR_ARGUMENT,
            "flatten: dimension 1 does not come before 0 in [2,3]");
    REFUSED(named(t, "flatten", F(2, 3), "{\"start_dim\": 0, \"end_dim\": 2}"), TL_ERR_INDEX,
            "flatten: there is no dimension 2 in [2,3]");
    REFUSED(tl_squeeze(t, F(2, 1), 2), TL_ERR_INDEX, "squeeze: there is no dimension 2 in [2,1]");
    REFUSED(tl_squeeze(t, SCALAR, 1), TL_ERR_INDEX, "squeeze: there is no dimension 1 in []");
    REFUSED(named(t, "squeeze", F(2, 1), "{\"dim\": -1}"), TL_ERR_INDEX,
            "squeeze: there is no dimension -1 in [2,1]");
    REFUSED(tl_unsqueeze(t, F(2, 3), 3), TL_ERR_INDEX, "unsqueeze: there is no dimension 3 in [2,3]");
    REFUSED(named(t, "unsqueeze", F(2), "{\"dim\": 2}"), TL_ERR_INDEX,
            "unsqueeze: there is no dimension 2 in [2]");
    REFUSED(tl_unsqueeze(t, EIGHT, 0), TL_ERR_SHAPE,
            "unsqueeze: [1,1,1,1,1,1,1,2] has no room for another dimension");
    REFUSED(tl_flip(t, F(2, 3), 1, (int[]){2}), TL_ERR_INDEX, "flip: there is no dimension 2 in [2,3]");
    REFUSED(tl_flip(t, F(2, 3), 2, (int[]){1, -1}), TL_ERR_ARGUMENT,
            "flip: dimension 1 is there twice");
    REFUSED(tl_flip(t, F(2, 3), 9, (int[9]){0}), TL_ERR_ARGUMENT, "flip: 9 dimensions, at most 8");
    REFUSED(tl_flip(t, F(2, 3), -1, NULL), TL_ERR_ARGUMENT, "flip: -1 dimensions, at most 8");
    REFUSED(named(t, "flip", F(2, 3), "{\"dims\": [0, -1]}"), TL_ERR_INDEX,
            "flip: there is no dimension -1 in [2,3]");
    REFUSED(tl_roll(t, F(2, 3), 1, 2), TL_ERR_INDEX, "roll: there is no dimension 2 in [2,3]");
    REFUSED(tl_roll(t, SCALAR, 1, 0), TL_ERR_INDEX, "roll: there is no dimension 0 in []");
    REFUSED(named(t, "roll", F(2), "{\"shift\": 1, \"dim\": 1}"), TL_ERR_INDEX,
            "roll: there is no dimension 1 in [2]");
    REFUSED(tl_repeat(t, F(2, 3), 1, (int64_t[]){2}), TL_ERR_ARGUMENT,
            "repeat: 1 numbers for [2,3]; at most 8");
    REFUSED(tl_repeat(t, F(2, 3), 9, (int64_t[9]){0}), TL_ERR_ARGUMENT,
            "repeat: 9 numbers for [2,3]; at most 8");
    REFUSED(tl_repeat(t, F(2, 3), 2, (int64_t[]){2, -1}), TL_ERR_ARGUMENT,
            "repeat: -1 times along dimension 1");
    REFUSED(tl_repeat(t, F(2, 3), 2, (int64_t[]){INT64_MAX, 1}), TL_ERR_ARGUMENT,
            "repeat: 9223372036854775807 times along dimension 0");
    REFUSED(tl_repeat(t, F(2, 3), 2, (int64_t[]){INT64_MAX / 4, 5}), TL_ERR_ARGUMENT,
            "repeat: too large a result for [2,3]");
    REFUSED((tl_split(t, F(2, 5), 2, (int64_t[]){2, 2}, 1, out), out[0]), TL_ERR_SHAPE,
            "split: the sizes do not add up to dimension 1 of [2,5]");
    REFUSED((tl_split(t, F(2, 5), 3, (int64_t[]){6, -2, 1}, 1, out), out[2]), TL_ERR_SHAPE,
            "split: the sizes do not add up to dimension 1 of [2,5]");
    REFUSED((tl_split(t, F(2, 5), 2, (int64_t[]){INT64_MAX, 2}, -1, out), out[1]), TL_ERR_SHAPE,
            "split: the sizes do not add up to dimension 1 of [2,5]");
    REFUSED((tl_split(t, F(2, 5), 2, (int64_t[]){2, 3}, 2, out), out[1]), TL_ERR_INDEX,
            "split: there is no dimension 2 in [2,5]");
    REFUSED((tl_chunk(t, F(2, 5), 2, 1, out), out[1]), TL_ERR_SHAPE,
            "chunk: dimension 1 is not 2 equal parts in [2,5]");
    tl_tape_free(t);
}

static void bad_windows_and_pads(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    REFUSED(tl_unfold(t, F(2, 5), 2, 1, 1, 1), TL_ERR_INDEX,
            "unfold: there is no dimension 2 in [2,5]");
    REFUSED(tl_unfold(t, SCALAR, 0, 1, 1, 1), TL_ERR_INDEX, "unfold: there is no dimension 0 in []");
    REFUSED(tl_unfold(t, F(2, 5), 1, 6, 1, 1), TL_ERR_SHAPE,
            "unfold: no window of 6, step 1, dilation 1 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, F(2, 5), 1, 3, 1, 3), TL_ERR_SHAPE,
            "unfold: no window of 3, step 1, dilation 3 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, F(2, 5), 1, 0, 1, 1), TL_ERR_SHAPE,
            "unfold: no window of 0, step 1, dilation 1 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, F(2, 5), 1, 2, 0, 1), TL_ERR_SHAPE,
            "unfold: no window of 2, step 0, dilation 1 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, F(2, 5), 1, 2, 1, 0), TL_ERR_SHAPE,
            "unfold: no window of 2, step 1, dilation 0 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, F(2, 0), 1, 1, 1, 1), TL_ERR_SHAPE,
            "unfold: no window of 1, step 1, dilation 1 along dimension 1 of [2,0]");
    REFUSED(tl_unfold(t, F(2, 5), 1, INT64_MAX, INT64_MAX, INT64_MAX), TL_ERR_SHAPE,
            "unfold: no window of 9223372036854775807, step 9223372036854775807, dilation "
            "9223372036854775807 along dimension 1 of [2,5]");
    REFUSED(tl_unfold(t, EIGHT, 7, 2, 1, 1), TL_ERR_SHAPE,
            "unfold: [1,1,1,1,1,1,1,2] has no room for another dimension");
    REFUSED(named(t, "unfold", F(5), "{\"dim\": -1, \"size\": 1, \"step\": 1, \"dilation\": 1}"),
            TL_ERR_INDEX, "unfold: there is no dimension -1 in [5]");
    REFUSED(tl_fold(t, F(5), 0, 5, 1, 1), TL_ERR_SHAPE,
            "fold: wants windows in the last dimension, not [5]");
    REFUSED(tl_fold(t, SCALAR, 0, 5, 1, 1), TL_ERR_SHAPE,
            "fold: wants windows in the last dimension, not []");
    REFUSED(tl_fold(t, F(3, 2), 1, 5, 1, 1), TL_ERR_INDEX, "fold: there is no dimension 1 in [3,2]");
    REFUSED(tl_fold(t, F(3, 2), 0, 5, 1, 1), TL_ERR_SHAPE,
            "fold: the windows of [3,2], step 1, dilation 1, are not those of a dimension 0 of size 5");
    REFUSED(
        tl_fold(t, F(3, 2), 0, -1, 1, 1), TL_ERR_SHAPE,
        "fold: the windows of [3,2], step 1, dilation 1, are not those of a dimension 0 of size -1");
    REFUSED(tl_fold(t, F(0, 2), 0, 0, 1, 1), TL_ERR_SHAPE,
            "fold: the windows of [0,2], step 1, dilation 1, are not those of a dimension 0 of size 0");
    REFUSED(tl_fold(t, F(1, 2), 0, INT64_MAX, 1, INT64_MAX - 1), TL_ERR_ARGUMENT,
            "fold: 9223372036854775807 is too large a size");
    REFUSED(named(t, "fold", F(3, 2), "{\"dim\": -1, \"length\": 4, \"step\": 1, \"dilation\": 1}"),
            TL_ERR_INDEX, "fold: there is no dimension -1 in [3,2]");
    REFUSED(tl_fold(t, MASK(3, 2), 0, 4, 1, 1), TL_ERR_DTYPE, "fold: operand 0 is u8, not a real");
    const char *wants =
        "pad: wants two numbers for each of the last dimensions of [2,3] (at most 4), not ";
    char text[128];
    for (int count = -1; count < 10; count++)
        if (count != 0 && count != 2 && count != 4) {
            snprintf(text, sizeof text, "%s%d in all", wants, count);
            REFUSED(tl_pad(t, F(2, 3), count, (int64_t[10]){0}, 0), TL_ERR_ARGUMENT, text);
        }
    REFUSED(tl_pad(t, F(2, 3), 4, (int64_t[]){1, 1, -1, 1}, 0), TL_ERR_ARGUMENT,
            "pad: -1 elements beside dimension 0");
    REFUSED(tl_pad(t, F(2, 3), 2, (int64_t[]){1, INT64_MAX}, 0), TL_ERR_ARGUMENT,
            "pad: 9223372036854775807 elements beside dimension 1");
    REFUSED(tl_pad(t, F(2, 3), 2, (int64_t[]){0, INT64_MAX - 3}, 0), TL_ERR_ARGUMENT,
            "pad: too large a result for [2,3]");
    REFUSED(
        with_attr(t, &tl_op_pad, F(2, 3), 100, 0), TL_ERR_ARGUMENT,
        "pad: wants two numbers for each of the last dimensions of [2,3] (at most 4), not 100 in all");
    REFUSED(with_attr(t, &tl_op_repeat, F(2, 3), 100, 1), TL_ERR_ARGUMENT,
            "repeat: 100 numbers for [2,3]; at most 8");
    tl_tape_free(t);
}

static void negative_dimensions_count_from_the_end(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, 2, 3, 4, 5, 6};
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), numbers), out[3];
    assert_value(t, tl_flip(t, x, 1, (int[]){-1}), REALS(3, 2, 1, 6, 5, 4), 0);
    assert_value(t, tl_roll(t, x, 1, -1), REALS(3, 1, 2, 6, 4, 5), 0);
    assert_value(t, tl_roll(t, x, -1, -2), REALS(4, 5, 6, 1, 2, 3), 0);
    assert_value(t, tl_unfold(t, x, -1, 2, 1, 1), REALS(1, 2, 2, 3, 4, 5, 5, 6), 0);
    assert_value(t, tl_fold(t, tl_unfold(t, x, -1, 2, 1, 1), -1, 3, 1, 1), REALS(1, 4, 3, 4, 10, 6), 0);
    assert_shape(t, tl_unsqueeze(t, x, -1), "[2,3,1]");
    assert_shape(t, tl_unsqueeze(t, x, -3), "[1,2,3]");
    assert_shape(t, tl_squeeze(t, tl_unsqueeze(t, x, -2), -2), "[2,3]");
    assert_shape(t, tl_flatten(t, x, -2, -1), "[6]");
    const char *moved[3][3] = {{"[2,3,4]", "[3,2,4]", "[3,4,2]"},
                               {"[3,2,4]", "[2,3,4]", "[2,4,3]"},
                               {"[4,2,3]", "[2,4,3]", "[2,3,4]"}};
    for (int k = 0; k < 9; k++)
        assert_shape(t, tl_movedim(t, F(2, 3, 4), k / 3 - 3, k % 3), moved[k / 3][k % 3]);
    assert_shape(t, tl_flatten(t, SCALAR, -1, 0), "[1]");
    tl_split(t, x, 3, (int64_t[]){2, 0, 1}, -1, out);
    assert_value(t, out[0], REALS(1, 2, 4, 5), 0);
    assert_shape(t, out[1], "[2,0]");
    assert_value(t, out[2], REALS(3, 6), 0);
    tl_split(t, tl_slice(t, x, 1, 0, 0, 1), 0, NULL, 1, out); /* into nothing */
    assert_ok(t);
    tl_tape_free(t);
}

/* Which of them copy nothing, and which return x itself. */
static void views_are_views(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = F(2, 3, 1), turned = tl_transpose(t, x, 0, 1), out[2];
    const void *numbers = tl_value(t, x).data;
    const tl_var views[] = {tl_flatten(t, x, 0, 1), tl_squeeze(t, turned, 2),
                            tl_unsqueeze(t, turned, 1), tl_unfold(t, turned, 0, 2, 1, 1), turned};
    for (int k = 0; k < COUNT_OF(views); k++)
        assert_ptr_equal(tl_value(t, views[k]).data, numbers);
    tl_split(t, x, 2, (int64_t[]){2, 1}, 1, out);
    assert_ptr_equal(tl_value(t, out[1]).data, (const double *)numbers + 2);
    assert_int_equal(tl_squeeze(t, x, 0).id, x.id);
    assert_int_equal(tl_roll(t, x, 6, 1).id, x.id);
    assert_int_equal(tl_repeat(t, x, 3, (int64_t[]){1, 1, 1}).id, x.id);
    assert_ptr_not_equal(tl_value(t, tl_flatten(t, turned, 0, 1)).data, numbers);
    assert_ptr_not_equal(tl_value(t, tl_flip(t, x, 0, NULL)).data, numbers);
    assert_ptr_not_equal(tl_value(t, tl_pad(t, x, 0, NULL, 0)).data, numbers);
    for (int k = 0; k < tl_value(t, tl_flip(t, x, 1, (int[]){0})).layout->ndim; k++)
        assert_true(tl_value(t, tl_flip(t, x, 1, (int[]){0})).layout->stride[k] >= 0);
    assert_ok(t);
    tl_tape_free(t);
}

static void check_empty(tl_tape *t, tl_var leaf, tl_var y, const char *shape, double fill, int line)
{
    check_shape(t, y, shape, __FILE__, line);
    tl_array a = tl_value(t, y);
    for (int64_t i = 0; i < a.layout->count; i++)
        check_near(item_at(t, y, i), fill, 0, "value", i, __FILE__, line);
    tl_backward(t, tl_sum(t, y));
    check_ok(t, __FILE__, line);
    tl_var g = tl_gradient(t, leaf);
    if (!tl_is_none(g))
        assert_true(tl_layout_same_shape(tl_value(t, g).layout, tl_value(t, leaf).layout));
    tl_tape_reset(t);
}

static tl_var leaf_of(tl_tape *t, int ndim, const int64_t *shape)
{
    tl_tensor *x = tl_tensor_zeros(TL_F64, ndim, shape, NULL);
    tl_var v = tl_leaf_untied(t, x);
    tl_tensor_release(x);
    return v;
}

static void arrays_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x;
#define CHECK(y, shape, fill, ...)                                                                     \
    x = leaf_of(t, TL_SHAPE(__VA_ARGS__));                                                             \
    check_empty(t, x, (y), (shape), (fill), __LINE__)
    CHECK(tl_transpose(t, x, 0, 1), "[3,0]", 0, 0, 3);
    CHECK(tl_flatten(t, x, 0, 1), "[0]", 0, 0, 3);
    CHECK(tl_squeeze(t, x, 1), "[0]", 0, 0, 1);
    CHECK(tl_unsqueeze(t, x, 0), "[1,0,3]", 0, 0, 3);
    CHECK(tl_flip(t, x, 2, ((int[]){0, 1})), "[0,3]", 0, 0, 3);
    CHECK(tl_flip(t, x, 1, (int[]){1}), "[3,0]", 0, 3, 0);
    CHECK(tl_roll(t, x, 2, 1), "[0,3]", 0, 0, 3);
    CHECK(tl_repeat(t, x, 3, ((int64_t[]){2, 2, 3})), "[2,0,9]", 0, 0, 3);
    CHECK(tl_repeat(t, x, 2, ((int64_t[]){0, 2})), "[0,6]", 0, 2, 3);
    CHECK(tl_unfold(t, x, 1, 2, 1, 1), "[0,2,2]", 0, 0, 3);
    CHECK(tl_fold(t, x, 1, 4, 1, 1), "[0,4]", 0, 0, 3, 2);
    CHECK(tl_pad(t, x, 2, ((int64_t[]){2, 1}), 7), "[2,3]", 7, 2, 0);
    CHECK(tl_pad(t, x, 2, ((int64_t[]){2, 1}), 7), "[0,5]", 0, 0, 2);
    CHECK(tl_pad(t, x, 4, ((int64_t[]){0, 0, 1, 1}), -1), "[2,3]", -1, 0, 3);
#undef CHECK
    tl_tape_free(t);
}

/* Every bit pattern passes unharmed, and every dtype. */
static void numbers_are_moved_not_computed(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double special[] = {NAN, INFINITY, -INFINITY, -0.0, 5e-324, 1};
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), special);
    assert_value(t, tl_flip(t, x, 2, (int[]){1, 0}), REALS(1, 5e-324, -0.0, -INFINITY, INFINITY, NAN),
                 0);
    assert_true(signbit(item_at(t, tl_flip(t, x, 2, (int[]){1, 0}), 2)));
    assert_value(t, tl_roll(t, x, INT64_MIN, 1), REALS(-INFINITY, NAN, INFINITY, 1, -0.0, 5e-324), 0);
    assert_value(t, tl_roll(t, x, INT64_MAX, 1), REALS(-INFINITY, NAN, INFINITY, 1, -0.0, 5e-324), 0);
    assert_value(t, tl_pad(t, x, 4, (int64_t[]){1, 0, 0, 1}, NAN),
                 REALS(NAN, NAN, INFINITY, -INFINITY, NAN, -0.0, 5e-324, 1, NAN, NAN, NAN, NAN), 0);
    const int64_t large[] = {INT64_MAX, INT64_MIN, 3};
    tl_var i = tl_constant_from(t, TL_I64, TL_SHAPE(3), large);
    const int64_t *turned = tl_value(t, tl_flip(t, i, 1, (int[]){0})).data,
                  *padded = tl_value(t, tl_pad(t, i, 2, (int64_t[]){1, 1}, -7)).data,
                  *twice = tl_value(t, tl_repeat(t, i, 1, (int64_t[]){2})).data,
                  *window = tl_value(t, tl_contiguous(t, tl_unfold(t, i, 0, 2, 1, 1))).data;
    for (int k = 0; k < 3; k++) {
        assert_true(turned[k] == large[2 - k] && padded[k + 1] == large[k] && twice[k + 3] == large[k]);
        assert_true(k == 2 || (window[2 * k] == large[k] && window[2 * k + 1] == large[k + 1]));
    }
    assert_true(padded[0] == -7 && padded[4] == -7);
    assert_int_equal(((uint8_t *)tl_value(t, tl_pad(t, MASK(1), 2, (int64_t[]){1, 0}, 1)).data)[0], 1);
    assert_ok(t);
    tl_tape_free(t);
}

/* An expanded operand, and as many dimensions as there can be. */
static void expanded_and_many_dimensions(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, 2, 3};
    tl_var x = tl_expand(t, constant_f64(t, TL_SHAPE(3), numbers), TL_SHAPE(2, 3)), y;
    assert_value(t, tl_flip(t, x, 2, (int[]){0, 1}), REALS(3, 2, 1, 3, 2, 1), 0);
    assert_value(t, tl_unfold(t, x, 0, 2, 1, 1), REALS(1, 1, 2, 2, 3, 3), 0);
    assert_value(t, tl_fold(t, tl_expand(t, x, TL_SHAPE(3, 2, 3)), 0, 5, 1, 1),
                 REALS(1, 1, 3, 3, 6, 6, 5, 5, 3, 3), 0);
    y = tl_repeat(t, tl_reshape(t, x, TL_SHAPE(1, 1, 1, 1, 1, 1, 2, 3)), 8,
                  (int64_t[]){2, 1, 1, 1, 1, 1, 2, 1});
    assert_shape(t, y, "[2,1,1,1,1,1,4,3]");
    assert_same(item_at(t, y, 22), 2);
    assert_shape(t, tl_pad(t, y, 8, (int64_t[]){1, 1, 0, 0, 0, 0, 2, 0}, 0), "[2,1,1,1,3,1,4,5]");
    assert_shape(t, tl_unfold(t, tl_squeeze(t, y, 1), -1, 2, 1, 1), "[2,1,1,1,1,4,2,2]");
    assert_value(t, tl_unfold(t, constant_f64(t, TL_SHAPE(3), numbers), 0, 1, INT64_MAX, INT64_MAX),
                 REALS(1), 0);
    assert_ok(t);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_dimensions_and_sizes),
        cmocka_unit_test(bad_windows_and_pads),
        cmocka_unit_test(negative_dimensions_count_from_the_end),
        cmocka_unit_test(views_are_views),
        cmocka_unit_test(arrays_without_elements),
        cmocka_unit_test(numbers_are_moved_not_computed),
        cmocka_unit_test(expanded_and_many_dimensions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
