/* op_index.c: messages, indices that are repeated, strided, out of range, and special numbers. */
#include "support.h"

#include "autograd/named.h"

#define F(...)      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...) tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR      tl_full(t, TL_F64, 0, NULL, 1)
#define INDEX(...)                                                                                     \
    tl_constant_from(t, TL_I64, 1, (int64_t[]){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)},    \
                     (int64_t[]){__VA_ARGS__})

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).layout);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2); /* the tape is as good as new */
    assert_ok(t);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var in[3];
    REFUSED(tl_gather(t, F(2, 3), 2, INT(2, 3)), TL_ERR_INDEX,
            "gather: there is no dimension 2 in [2,3]");
    REFUSED(tl_gather(t, SCALAR, 1, INT(1)), TL_ERR_INDEX, "gather: there is no dimension 1 in []");
    REFUSED(tl_gather(t, F(2, 3), 1, F(2, 3)), TL_ERR_DTYPE, "gather: indices must be i64, not f64");
    REFUSED(tl_gather(t, F(2, 3), 1, INT(2)), TL_ERR_SHAPE,
            "gather: the index must be no larger than x beside dimension 1: [2,3], index [2]");
    REFUSED(tl_gather(t, F(2, 3), 1, INT(3, 3)), TL_ERR_SHAPE,
            "gather: the index must be no larger than x beside dimension 1: [2,3], index [3,3]");
    REFUSED(tl_gather(t, F(4), 0, INDEX(0, 4, 2)), TL_ERR_INDEX,
            "gather: index 4 is not within the 4 of dimension 0");
    REFUSED(tl_gather(t, F(4), 0, INDEX(0, -1, 2)), TL_ERR_INDEX,
            "gather: index -1 is not within the 4 of dimension 0");
    REFUSED(tl_gather(t, F(2, 0), -1, INT(2, 1)), TL_ERR_INDEX,
            "gather: index 1 is not within the 0 of dimension 1");
    REFUSED(tl_gather(t, SCALAR, 0, tl_full(t, TL_I64, 0, NULL, 1)), TL_ERR_INDEX,
            "gather: index 1 is not within the 1 of dimension 0");
    in[0] = F(2, 3);
    in[1] = INT(2, 3);
    REFUSED(tl_apply_named(t, "gather", 2, in, "{\"dim\": -1}"), TL_ERR_INDEX,
            "gather: there is no dimension -1 in [2,3]");
    REFUSED(tl_scatter_add(t, F(2, 3), 2, INT(2, 3), F(2, 3)), TL_ERR_INDEX,
            "scatter_add: there is no dimension 2 in [2,3]");
    REFUSED(tl_scatter_add(t, INT(2, 3), 0, INT(2, 3), INT(2, 3)), TL_ERR_DTYPE,
            "scatter_add: operand 0 must be f32 or f64, not i64");
    REFUSED(tl_scatter_add(t, F(2, 3), 0, F(2, 3), F(2, 3)), TL_ERR_DTYPE,
            "scatter_add: indices must be i64, not f64");
    REFUSED(tl_scatter_add(t, F(2, 3), 0, INT(2, 3), SINGLE(2, 3)), TL_ERR_DTYPE,
            "scatter_add: operands differ in dtype: f64 and f32");
    REFUSED(tl_scatter_add(t, F(2, 3), 0, INT(2, 4), F(2, 4)), TL_ERR_SHAPE,
            "scatter_add: the index must be no larger than x beside dimension 0: [2,3], index [2,4]");
    REFUSED(tl_scatter_add(t, F(2, 3), 0, INT(2, 2), F(2, 3)), TL_ERR_SHAPE,
            "scatter_add: one number for each index: [2,3], index [2,2]");
    REFUSED(tl_scatter_add(t, F(2), 0, INDEX(0, 2), F(2)), TL_ERR_INDEX,
            "scatter_add: index 2 is not within the 2 of dimension 0");
    in[0] = F(2, 3);
    in[1] = INT(2, 3);
    in[2] = F(2, 3);
    REFUSED(tl_apply_named(t, "scatter_add", 3, in, "{\"dim\": 2}"), TL_ERR_INDEX,
            "scatter_add: there is no dimension 2 in [2,3]");
    REFUSED(tl_index_select(t, F(2, 3), 2, INT(2)), TL_ERR_INDEX,
            "index_select: there is no dimension 2 in [2,3]");
    REFUSED(tl_index_select(t, F(2, 3), 0, F(2)), TL_ERR_DTYPE,
            "index_select: indices must be i64, not f64");
    REFUSED(tl_index_select(t, F(2, 3), 0, INT(2, 2)), TL_ERR_SHAPE,
            "index_select: wants a list of indices, not [2,2]");
    REFUSED(tl_index_select(t, SCALAR, 0, INT(2)), TL_ERR_SHAPE,
            "index_select: wants a list of indices (one of them, for a scalar), not [2]");
    REFUSED(tl_index_select(t, F(2, 3), 1, INDEX(0, 3)), TL_ERR_INDEX,
            "gather: index 3 is not within the 3 of dimension 1 (index_select)");
    in[0] = F(2, 3);
    in[1] = INT(2);
    REFUSED(tl_apply_named(t, "index_select", 2, in, "{\"dim\": -1}"), TL_ERR_INDEX,
            "index_select: there is no dimension -1 in [2,3]");
    REFUSED(tl_one_hot(t, F(2), 3), TL_ERR_DTYPE, "one_hot: indices must be i64, not f64");
    REFUSED(tl_one_hot(t, INT(2), 0), TL_ERR_ARGUMENT, "one_hot: 0 classes");
    REFUSED(tl_one_hot(t, INT(2), -1), TL_ERR_ARGUMENT, "one_hot: -1 classes");
    REFUSED(tl_one_hot(t, INT(2), INT64_MAX), TL_ERR_ARGUMENT, "one_hot: 9223372036854775807 classes");
    REFUSED(tl_one_hot(t, INDEX(0, 3), 3), TL_ERR_INDEX,
            "one_hot: index 3 at position 1 is not within the 3 classes");
    REFUSED(tl_one_hot(t, INDEX(-1), 3), TL_ERR_INDEX,
            "one_hot: index -1 at position 0 is not within the 3 classes");
    REFUSED(tl_one_hot(t, INT(1, 1, 1, 1, 1, 1, 1, 1), 2), TL_ERR_SHAPE,
            "one_hot: [1,1,1,1,1,1,1,1] has no room for another dimension");
    tl_tape_free(t);
}

/* What is picked often gets a gradient as often; what is not picked gets zero, not what lay there. */
static void repeated_indices_add_up(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(4), REALS(NAN, 10, 20, 30));
    tl_var v = tl_leaf(t, x, NULL), y = tl_gather(t, v, -1, INDEX(3, 1, 3, 3));
    assert_value(t, y, REALS(30, 10, 30, 30), 0);
    assert_int_equal(
        tl_backward(t, tl_sum(t, tl_mul(t, y, constant_f64(t, TL_SHAPE(4), REALS(1, 2, 4, 8))))),
        TL_OK);
    assert_value(t, tl_gradient(t, v), REALS(0, 2, 0, 13), 0);
    assert_value(t, tl_scatter_add(t, v, 0, INDEX(1, 1), constant_f64(t, TL_SHAPE(2), REALS(3, 4))),
                 REALS(NAN, 17, 20, 30), 0);
    assert_value(t, tl_scatter_add(t, v, 0, INDEX(2), constant_f64(t, TL_SHAPE(1), REALS(INFINITY))),
                 REALS(NAN, 10, INFINITY, 30), 0);
    assert_ok(t);
    tl_tensor_release(x);
    tl_tape_free(t);
}

/* Two gradients that meet in one variable, and the second derivative of x[i] x[i] x[j]. */
static void the_same_variable_twice(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), REALS(2, 3, 5));
    tl_var v = tl_leaf(t, x, NULL), dx, ddx;
    tl_var y = tl_scatter_add(t, v, 0, INDEX(2, 0, 0), v); /* 2 + 3 + 5, 3, 5 + 2 */
    assert_value(t, y, REALS(10, 3, 7), 0);
    tl_var cubes = tl_sum(t, tl_mul(t, tl_square(t, tl_gather(t, v, 0, INDEX(0, 0, 1))),
                                    tl_index_select(t, v, 0, INDEX(1, 2, 2)))); /* aab + aac + bbc */
    assert_int_equal(tl_grad(t, cubes, TL_NONE, 1, &v, true, &dx), TL_OK);
    assert_value(t, dx, REALS(2 * 2 * 3 + 2 * 2 * 5, 4 + 2 * 3 * 5, 4 + 9), 1e-15);
    tl_grad(t, tl_select(t, dx, 0, 0), TL_NONE, 1, &v, false, &ddx); /* 2ab + 2ac */
    assert_value(t, ddx, REALS(2 * 3 + 2 * 5, 4, 4), 1e-15);
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &v, false, &dx);
    assert_value(t, dx, REALS(2, 2, 2), 0);
    assert_ok(t);
    tl_tensor_release(x);
    tl_tape_free(t);
}

static void strides_and_dtypes(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t numbers[] = {INT64_MAX, 1, INT64_MIN, 3, 4, 5};
    tl_var x = tl_constant_from(t, TL_I64, TL_SHAPE(2, 3), numbers), at = INDEX(1, 0);
    const int64_t *y =
        tl_value(t, tl_gather(t, x, 0, tl_expand(t, tl_unsqueeze(t, at, 1), TL_SHAPE(2, 3)))).data;
    for (int k = 0; k < 6; k++)
        assert_true(y[k] == numbers[(k + 3) % 6]);
    y = tl_value(t, tl_index_select(t, tl_transpose(t, x, 0, 1), 1, at)).data; /* [3,2] */
    for (int k = 0; k < 6; k++)
        assert_true(y[k] == numbers[k / 2 + (k % 2 ? 0 : 3)]);
    tl_var every_second = tl_slice(t, INDEX(2, 99, 0, 99, 1), 0, 0, 5, 2);
    y = tl_value(t, tl_one_hot(t, every_second, 3)).data;
    for (int k = 0; k < 9; k++)
        assert_int_equal(y[k], k == 2 || k == 3 || k == 7);
    assert_int_equal(tl_value(t, tl_one_hot(t, at, 2)).dtype, TL_I64);
    tl_var wide = tl_expand(t, SINGLE(1), TL_SHAPE(2, 3)),
           same = tl_expand(t, SINGLE(1), TL_SHAPE(2, 2));
    assert_value(t, tl_scatter_add(t, wide, 1, INT(2, 2), same), REALS(1, 3, 1, 1, 3, 1), 0);
    assert_value(t, wide, REALS(1, 1, 1, 1, 1, 1), 0); /* and y is of its own */
    assert_shape(t, tl_gather(t, F(0, 3), 0, tl_full(t, TL_I64, TL_SHAPE(0, 2), 0)), "[0,2]");
    assert_shape(t, tl_index_select(t, F(0, 3), 0, tl_full(t, TL_I64, TL_SHAPE(0), 0)), "[0,3]");
    assert_shape(t, tl_index_select(t, F(2, 0), 0, INDEX(1, 1, 1)), "[3,0]");
    assert_value(t, tl_scatter_add(t, F(2), 0, tl_full(t, TL_I64, TL_SHAPE(0), 0), F(0)), REALS(1, 1),
                 0);
    assert_ok(t);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(repeated_indices_add_up),
        cmocka_unit_test(the_same_variable_twice),
        cmocka_unit_test(strides_and_dtypes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
