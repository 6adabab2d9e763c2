/* Order: stability, special values, long rows, where the derivative goes, bad input. */
#include "support.h"

#include "autograd/named.h"

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
#define INT(...)                    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR                      tl_full(t, TL_F64, 0, NULL, 1)
#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x, index;
    REFUSED(tl_argsort(t, F(2, 3), 2, false), TL_ERR_INDEX,
            "argsort: there is no dimension 2 in [2,3]");
    REFUSED(tl_sort(t, F(2, 3), -3, true), TL_ERR_INDEX, "sort: there is no dimension -3 in [2,3]");
    REFUSED(tl_sort(t, SCALAR, 1, true), TL_ERR_INDEX, "sort: there is no dimension 1 in []");
    REFUSED(tl_topk(t, F(2, 3), 1, 2, true, NULL), TL_ERR_INDEX,
            "topk: there is no dimension 2 in [2,3]");
    REFUSED(tl_topk(t, F(2, 3), 1, 2, true, &index), TL_ERR_INDEX,
            "topk: there is no dimension 2 in [2,3]");
    REFUSED(tl_topk(t, F(2, 3), 3, 0, true, NULL), TL_ERR_ARGUMENT,
            "topk: there are no 3 along dimension 0 of [2,3]");
    REFUSED(tl_topk(t, F(2, 3), -1, 0, false, &index), TL_ERR_ARGUMENT,
            "topk: there are no -1 along dimension 0 of [2,3]");
    REFUSED(tl_topk(t, SCALAR, 2, 0, false, NULL), TL_ERR_ARGUMENT,
            "topk: there are no 2 along dimension 0 of []");
    REFUSED(tl_topk(t, SCALAR, 0, 0, false, NULL), TL_ERR_ARGUMENT,
            "topk: there are no 0 along dimension 0 of []");
    REFUSED((x = F(2), tl_apply_named(t, "sort", 1, &x, "{\"dim\": -1, \"descending\": true}")),
            TL_ERR_INDEX, "sort: there is no dimension -1 in [2]");
    REFUSED((x = F(2), tl_apply_named(t, "argsort", 1, &x, "{\"dim\": 1, \"descending\": true}")),
            TL_ERR_INDEX, "argsort: there is no dimension 1 in [2]");
    REFUSED((x = F(2), tl_apply_named(t, "topk", 1, &x, "{\"dim\": 3, \"k\": 1, \"largest\": true}")),
            TL_ERR_INDEX, "topk: there is no dimension 3 in [2]");
    REFUSED(tl_argsort(t, INT(2), 0, false), TL_ERR_DTYPE, "argsort: operand 0 is i64, not a real");
    REFUSED(tl_sort(t, INT(2), 0, false), TL_ERR_DTYPE, "sort: operand 0 is i64, not a real");
    REFUSED(tl_topk(t, INT(2), 1, 0, false, NULL), TL_ERR_DTYPE, "topk: operand 0 is i64, not a real");
    tl_topk(t, INT(2), 1, 0, false, &index);
    REFUSED(index, TL_ERR_DTYPE, "argsort: operand 0 is i64, not a real (topk)");
    tl_tape_free(t);
}

/* ---- order ------------------------------------------------------------------------------ */

/* Many equal numbers: each follows a smaller one, or an equal one with a smaller index. */
static void long_rows_are_sorted_and_ties_stay_in_order(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 1000, 4096, 5001};
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(3);
    for (int k = 0; k < COUNT_OF(sizes); k++)
        for (int way = 0; way < 8; way++) {
            const int64_t n = sizes[k], columns = way & 4 ? 3 : 1, shape[2] = {n, columns};
            bool down = way & 1;
            tl_tensor *x = tl_tensor_zeros(way & 2 ? TL_F32 : TL_F64, 2, shape, NULL);
            for (int64_t i = 0; i < x->layout.count; i++)
                tl_tensor_set(x, i, (double)dice_below(&d, 1 + n / 3) - (double)(n / 7));
            tl_tensor *order = value_of(t, tl_argsort(t, tl_constant(t, x), 0, down));
            tl_tensor *sorted = value_of(t, tl_sort(t, tl_constant(t, x), 0, down));
            uint8_t *met = calloc((size_t)n, 1);
            for (int64_t j = 0; j < columns; j++) {
                double before = 0, at_before = 0;
                for (int64_t i = 0; i < n; i++) {
                    double at = tl_tensor_get(order, i * columns + j);
                    double value = tl_tensor_get(x, (int64_t)at * columns + j);
                    assert_same(tl_tensor_get(sorted, i * columns + j), value);
                    assert_int_equal(met[(int64_t)at]++, j);
                    assert_true(i == 0 || (down ? value < before : value > before) ||
                                (value == before && at > at_before));
                    before = value;
                    at_before = at;
                }
            }
            free(met);
            tl_tensor_release(x);
            tl_tensor_release(order);
            tl_tensor_release(sorted);
            tl_tape_reset(t);
        }
    tl_tape_free(t);
}

static void special_values_have_their_place(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double inf = (double)INFINITY, nan = (double)NAN;
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
        double tiny = dtype == TL_F32 ? 1e-45 : 5e-324;
        tl_tensor *values = tensor_of((tl_dtype)dtype, TL_SHAPE(9),
                                      REALS(nan, 0, inf, -0.0, -inf, -nan, -tiny, tiny, 0));
        tl_var x = tl_constant(t, values);
        assert_value(t, tl_argsort(t, x, 0, false), REALS(4, 6, 1, 3, 8, 7, 2, 0, 5), 0);
        assert_value(t, tl_argsort(t, x, 0, true), REALS(0, 5, 2, 7, 1, 3, 8, 6, 4), 0);
        tl_var index, y = tl_topk(t, x, 3, -1, true, &index);
        assert_true(isnan(item_at(t, y, 0)) && isnan(item_at(t, y, 1)));
        assert_same(item_at(t, y, 2), inf);
        assert_value(t, index, REALS(0, 5, 2), 0);
        tl_tensor_release(values);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

static void the_derivative_goes_where_the_value_was(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *values = tensor_of(TL_F64, TL_SHAPE(2, 3), REALS(3, 1, 2, 5, 5, 4));
    tl_var x = tl_leaf(t, values, NULL), index, d;
    tl_var weights = constant_f64(t, TL_SHAPE(2, 3), REALS(10, 20, 30, 40, 50, 60));
    tl_grad(t, tl_sort(t, x, 1, false), weights, 1, &x, false, &d);
    assert_value(t, d, REALS(30, 10, 20, 50, 60, 40), 0);
    tl_grad(t, tl_sort(t, x, -1, true), weights, 1, &x, false, &d);
    assert_value(t, d, REALS(10, 30, 20, 40, 50, 60), 0);
    tl_var two = tl_topk(t, x, 2, 1, true, &index);
    assert_value(t, two, REALS(3, 2, 5, 5), 0);
    assert_value(t, index, REALS(0, 2, 0, 1), 0);
    assert_int_equal(tl_value(t, index).dtype, TL_I64);
    assert_false(tl_needs_gradient(t, index));
    assert_vars(t, two, tl_topk(t, x, 2, 1, true, NULL), 0);
    tl_grad(t, tl_square(t, two), constant_f64(t, TL_SHAPE(2, 2), REALS(1, 10, 100, 1000)), 1, &x, true,
            &d);
    assert_value(t, d, REALS(6, 0, 40, 1000, 10000, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(values);
}

static void of_no_elements_and_of_one(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *none = tl_tensor_zeros(TL_F64, TL_SHAPE(2, 0, 3), NULL);
    tl_var x = tl_leaf(t, none, NULL), index, d;
    for (int dim = 0; dim < 3; dim++) {
        tl_var y = tl_sort(t, x, dim, dim == 1);
        assert_shape(t, y, "[2,0,3]");
        tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, true, &d);
        assert_shape(t, d, "[2,0,3]");
    }
    assert_shape(t, tl_topk(t, x, 0, 1, true, &index), "[2,0,3]");
    assert_shape(t, tl_topk(t, x, 1, 0, true, &index), "[1,0,3]");
    assert_shape(t, index, "[1,0,3]");
    tl_var some = tl_full(t, TL_F32, TL_SHAPE(2, 3), 4), one = tl_full(t, TL_F32, 0, NULL, 4);
    assert_shape(t, tl_topk(t, some, 0, 1, false, &index), "[2,0]");
    assert_shape(t, index, "[2,0]");
    assert_same(tl_item(t, tl_sort(t, one, 0, true)), 4);
    assert_same(tl_item(t, tl_argsort(t, one, -1, true)), 0);
    assert_same(tl_item(t, tl_topk(t, one, 1, 0, true, &index)), 4);
    assert_same(tl_item(t, index), 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(long_rows_are_sorted_and_ties_stay_in_order),
        cmocka_unit_test(special_values_have_their_place),
        cmocka_unit_test(the_derivative_goes_where_the_value_was),
        cmocka_unit_test(of_no_elements_and_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
