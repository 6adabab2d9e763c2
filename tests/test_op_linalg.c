/* op_linalg.c, and vectors in op_matmul.c: messages, derivatives of products with vectors, special
 * numbers. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "autograd/named.h"

#define F(...)    tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define MASK(...) tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR    tl_full(t, TL_F64, 0, NULL, 1)

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).layout);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2); /* the tape is as good as new */
    assert_ok(t);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

static void bad_products_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    REFUSED(tl_matmul(t, SCALAR, F(3)), TL_ERR_SHAPE,
            "matmul: operand 0 wants at least 1 dimension, not []");
    REFUSED(tl_matmul(t, F(3, 3), SCALAR), TL_ERR_SHAPE,
            "matmul: operand 1 wants at least 1 dimension, not []");
    REFUSED(tl_matmul(t, F(3), F(4)), TL_ERR_SHAPE, "matmul: inner sizes differ: [3] x [4]");
    REFUSED(tl_matmul(t, F(1), F(4)), TL_ERR_SHAPE, "matmul: inner sizes differ: [1] x [4]");
    REFUSED(tl_matmul(t, F(3), F(4, 3)), TL_ERR_SHAPE, "matmul: inner sizes differ: [3] x [4,3]");
    REFUSED(tl_matmul(t, F(3), F(3, 4, 5)), TL_ERR_SHAPE, "matmul: inner sizes differ: [3] x [3,4,5]");
    REFUSED(tl_matmul(t, F(2, 3), F(2)), TL_ERR_SHAPE, "matmul: inner sizes differ: [2,3] x [2]");
    REFUSED(tl_matmul(t, F(2, 3), MASK(3)), TL_ERR_DTYPE, "matmul: operand 1 is u8, not a real");
    REFUSED(tl_outer(t, F(2, 3), F(3)), TL_ERR_SHAPE, "outer: wants two vectors: [2,3] and [3]");
    REFUSED(tl_outer(t, F(2), SCALAR), TL_ERR_SHAPE, "outer: wants two vectors: [2] and []");
    REFUSED(tl_outer(t, F(2), MASK(3)), TL_ERR_DTYPE, "outer: operand 1 is u8, not a real");
    REFUSED(tl_dot(t, F(2), F(3)), TL_ERR_SHAPE, "dot: wants two vectors of one size: [2] and [3]");
    REFUSED(tl_dot(t, F(2, 1), F(2)), TL_ERR_SHAPE,
            "dot: wants two vectors of one size: [2,1] and [2]");
    REFUSED(tl_addmm(t, F(3), F(2, 3), F(3, 4), 1, 1), TL_ERR_SHAPE,
            "addmm: wants what can be broadcast to [M,N], [M,K], [K,N]: [3], [2,3], [3,4]");
    REFUSED(tl_addmm(t, F(5, 2, 4), F(2, 3), F(3, 4), 1, 1), TL_ERR_SHAPE,
            "addmm: wants what can be broadcast to [M,N], [M,K], [K,N]: [5,2,4], [2,3], [3,4]");
    REFUSED(tl_addmm(t, F(3), F(2, 3), F(4, 3), 0, 1), TL_ERR_SHAPE,
            "addmm: wants what can be broadcast to [M,N], [M,K], [K,N]: [3], [2,3], [4,3]");
    REFUSED(tl_addmm(t, F(3), F(3), F(3, 3), 1, 1), TL_ERR_SHAPE,
            "addmm: wants what can be broadcast to [M,N], [M,K], [K,N]: [3], [3], [3,3]");
    const char *bilinear = "bilinear: wants [..,I], [..,J], [O,I,J] and [O]: ";
    char text[256];
#define BILINEAR(a, b, w, bias, shapes)                                                                \
    snprintf(text, sizeof text, "%s%s", bilinear, shapes);                                             \
    REFUSED(tl_bilinear(t, (a), (b), (w), (bias)), TL_ERR_SHAPE, text)
    BILINEAR(F(3), F(4), F(2, 4, 3), TL_NONE, "[3], [4], [2,4,3], no bias");
    BILINEAR(F(3), F(5), F(2, 3, 4), TL_NONE, "[3], [5], [2,3,4], no bias");
    BILINEAR(F(2, 3), F(4), F(2, 3, 4), TL_NONE, "[2,3], [4], [2,3,4], no bias");
    BILINEAR(SCALAR, SCALAR, F(2, 3, 4), TL_NONE, "[], [], [2,3,4], no bias");
    BILINEAR(F(3), SCALAR, F(2, 3, 4), TL_NONE, "[3], [], [2,3,4], no bias");
    BILINEAR(F(3), F(4), F(3, 4), TL_NONE, "[3], [4], [3,4], no bias");
    BILINEAR(F(3), F(4), F(2, 3, 4), F(3), "[3], [4], [2,3,4], [3]");
    BILINEAR(F(3), F(4), F(2, 3, 4), SCALAR, "[3], [4], [2,3,4], []");
    BILINEAR(F(1, 1, 1, 1, 1, 1, 1, 3), F(1, 1, 1, 1, 1, 1, 1, 4), F(2, 3, 4), TL_NONE,
             "[1,1,1,1,1,1,1,3], [1,1,1,1,1,1,1,4], [2,3,4], no bias");
#undef BILINEAR
    tl_tape_free(t);
}

static void bad_diagonals_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x;
    REFUSED(tl_tril(t, F(3), 0), TL_ERR_SHAPE, "tril: wants at least 2 dimensions, not [3]");
    REFUSED(tl_triu(t, SCALAR, 0), TL_ERR_SHAPE, "triu: wants at least 2 dimensions, not []");
    REFUSED(tl_diagonal(t, F(2, 3), 0, 0, 2), TL_ERR_INDEX,
            "diagonal: there is no dimension 2 in [2,3]");
    REFUSED(tl_diagonal(t, F(2, 3), 0, -3, 0), TL_ERR_INDEX,
            "diagonal: there is no dimension -3 in [2,3]");
    REFUSED(tl_diagonal(t, F(2, 3), 0, 1, -1), TL_ERR_ARGUMENT, "diagonal: dimension 1 is there twice");
    REFUSED(tl_diagonal(t, F(3), 0, 0, 0), TL_ERR_ARGUMENT, "diagonal: dimension 0 is there twice");
    x = F(2, 3);
    REFUSED(tl_apply_named(t, "diagonal", 1, &x, "{\"offset\": 0, \"dim1\": 0, \"dim2\": -1}"),
            TL_ERR_INDEX, "diagonal: there is no dimension -1 in [2,3]");
    REFUSED(tl_undiagonal(t, SCALAR, 0, 0, 0, 1, 1), TL_ERR_SHAPE,
            "undiagonal: wants 1 to 7 dimensions, not []");
    REFUSED(tl_undiagonal(t, F(1, 1, 1, 1, 1, 1, 1, 1), 0, 0, 1, 1, 1), TL_ERR_SHAPE,
            "undiagonal: wants 1 to 7 dimensions, not [1,1,1,1,1,1,1,1]");
    REFUSED(tl_undiagonal(t, F(2), 0, 0, 2, 2, 2), TL_ERR_INDEX,
            "undiagonal: there is no dimension 2 in [2]");
    REFUSED(tl_undiagonal(t, F(2), 0, 1, 1, 2, 2), TL_ERR_ARGUMENT,
            "undiagonal: dimension 1 is there twice");
    REFUSED(tl_undiagonal(t, F(2), 0, 0, 1, 2, -2), TL_ERR_ARGUMENT, "undiagonal: 2 rows, -2 columns");
    REFUSED(tl_undiagonal(t, F(2), 0, 0, 1, INT64_MAX, INT64_MAX), TL_ERR_ARGUMENT,
            "undiagonal: 9223372036854775807 rows, 9223372036854775807 columns");
    REFUSED(tl_undiagonal(t, F(2), 1, 0, 1, 2, 2), TL_ERR_SHAPE,
            "undiagonal: diagonal 1 of 2 x 2 is not of [2]");
    REFUSED(tl_undiagonal(t, F(2), INT64_MIN, 0, 1, 2, 2), TL_ERR_SHAPE,
            "undiagonal: diagonal -9223372036854775808 of 2 x 2 is not of [2]");
    x = F(2);
    REFUSED(tl_apply_named(t, "undiagonal", 1, &x,
                           "{\"offset\": 0, \"dim1\": -1, \"dim2\": 0, \"rows\": 2, \"cols\": 2}"),
            TL_ERR_INDEX, "undiagonal: there is no dimension -1 in [2]");
    tl_tape_free(t);
}

/* ---- matmul with vectors ---------------------------------------------------------------- */

typedef struct pair {
    int ndim[2];
    int64_t shape[2][4];
    const char *result;
} pair;

static const pair pairs[] = {
    {{1, 1}, {{5}, {5}}, "[]"},
    {{1, 2}, {{3}, {3, 4}}, "[4]"},
    {{2, 1}, {{2, 3}, {3}}, "[2]"},
    {{1, 3}, {{3}, {2, 3, 4}}, "[2,4]"},
    {{3, 1}, {{2, 4, 3}, {3}}, "[2,4]"},
    {{1, 4}, {{3}, {2, 1, 3, 4}}, "[2,1,4]"},
    {{4, 1}, {{2, 1, 4, 3}, {3}}, "[2,1,4]"},
    {{1, 1}, {{1}, {1}}, "[]"},
};

static tl_var product(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_matmul(t, in[0], in[1]);
}

/* The same with each operand turned round, so that its strides are others. */
static tl_var turned(tl_tape *t, tl_var x)
{
    if (tl_value(t, x).layout->ndim > 1)
        return tl_transpose(t, tl_contiguous(t, tl_transpose(t, x, 0, -1)), 0, -1);
    tl_var with_gaps = tl_stack(t, 2, (tl_var[]){x, x}, 1);
    return tl_select(t, with_gaps, 1, 1);
}

static tl_var product_of_strided(tl_tape *t, const tl_var *in, void *context)
{
    tl_var other[2] = {turned(t, in[0]), turned(t, in[1])};
    return product(t, other, context);
}

static double element(tl_tensor *const *x, int64_t at)
{
    const tl_layout *a = &x[0]->layout, *b = &x[1]->layout;
    int64_t inner = a->shape[a->ndim - 1], cols = b->ndim == 1 ? 1 : b->shape[b->ndim - 1];
    double sum = 0;
    for (int64_t k = 0; k < inner; k++) {
        int64_t left = a->ndim == 1 ? k : at * inner + k;
        int64_t right = b->ndim == 1 ? k : (at / cols * inner + k) * cols + at % cols;
        sum += tl_tensor_get(x[0], left) * tl_tensor_get(x[1], right);
    }
    return sum;
}

static tl_var tangent(tl_tape *t, const tl_var *in, void *context)
{
    tl_var u[2] = {tl_affine(t, tl_detach(t, in[0]), 0, 0.7),
                   tl_affine(t, tl_detach(t, in[1]), 0, -1.3)};
    return tl_jvp(t, product(t, in, context), 2, in, u);
}

static void vectors_in_matmul(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(5);
    for (int n = 0; n < COUNT_OF(pairs); n++) {
        const pair *p = &pairs[n];
        tl_tensor *x[2];
        tl_gradcheck_report report;
        for (int k = 0; k < 2; k++)
            x[k] = random_tensor(&d, TL_F64, p->ndim[k], p->shape[k], -1, 1);
        tl_tape_reset(t);
        tl_var in[2] = {tl_constant(t, x[0]), tl_constant(t, x[1])}, y = product(t, in, NULL);
        assert_shape(t, y, p->result);
        for (int64_t i = 0; i < tl_value(t, y).layout->count; i++) {
            assert_near_at(item_at(t, y, i), element(x, i), 1e-14, i);
            assert_near_at(item_at(t, product_of_strided(t, in, NULL), i), element(x, i), 1e-14, i);
        }
        if (tl_gradcheck(product, NULL, 2, x, NULL, &report) != TL_OK ||
            tl_gradgradcheck(product, NULL, 2, x, NULL, &report) != TL_OK ||
            tl_gradcheck(product_of_strided, NULL, 2, x, NULL, &report) != TL_OK ||
            tl_gradcheck(tangent, NULL, 2, x, NULL, &report) != TL_OK)
            fail_msg("pair %d: %s", n, report.message);
        /* forward mode against the product rule */
        tl_var leaf[2] = {tl_leaf(t, x[0], NULL), tl_leaf(t, x[1], NULL)};
        tl_var u[2] = {tl_square(t, in[0]), tl_exp(t, in[1])};
        tl_var along = tl_jvp(t, product(t, leaf, NULL), 2, leaf, u);
        assert_vars(t, along, tl_add(t, tl_matmul(t, u[0], in[1]), tl_matmul(t, in[0], u[1])), 1e-14);
        assert_ok(t);
        tl_tensor_release(x[0]);
        tl_tensor_release(x[1]);
    }
    tl_tape_free(t);
}

static void one_vector_twice(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), REALS(1, 2, 4));
    tl_var v = tl_leaf(t, x, NULL);
    assert_same(tl_item(t, tl_dot(t, v, v)), 21);
    assert_int_equal(tl_backward(t, tl_dot(t, v, v)), TL_OK);
    assert_value(t, tl_gradient(t, v), REALS(2, 4, 8), 0);
    tl_tape_reset(t);
    v = tl_leaf(t, x, NULL);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_outer(t, v, v))), TL_OK);
    assert_value(t, tl_gradient(t, v), REALS(14, 14, 14), 0);
    tl_tensor_release(x);
    tl_tape_free(t);
}

static tl_var leaf_of(tl_tape *t, int ndim, const int64_t *shape)
{
    tl_tensor *x = tl_tensor_empty(TL_F64, ndim, shape, NULL);
    tl_tensor_fill(x, 1);
    tl_var v = tl_leaf_untied(t, x);
    tl_tensor_release(x);
    return v;
}

static void check_empty(tl_tape *t, tl_var y, const char *shape, double fill, int line)
{
    check_shape(t, y, shape, __FILE__, line);
    for (int64_t i = 0; i < tl_value(t, y).layout->count; i++)
        check_near(item_at(t, y, i), fill, 0, "value", i, __FILE__, line);
    tl_backward(t, tl_sum(t, y));
    check_ok(t, __FILE__, line);
    tl_tape_reset(t);
}

static void arrays_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
#define X(...)                leaf_of(t, TL_SHAPE(__VA_ARGS__))
#define CHECK(y, shape, fill) check_empty(t, (y), (shape), (fill), __LINE__)
    CHECK(tl_matmul(t, X(0), X(0)), "[]", 0);
    CHECK(tl_matmul(t, X(0), X(0, 3)), "[3]", 0);
    CHECK(tl_matmul(t, X(3), X(3, 0)), "[0]", 0);
    CHECK(tl_matmul(t, X(2, 0), X(0)), "[2]", 0);
    CHECK(tl_matmul(t, X(0, 2), X(2)), "[0]", 0);
    CHECK(tl_matmul(t, X(0), X(2, 0, 3)), "[2,3]", 0);
    CHECK(tl_matmul(t, X(3), X(0, 3, 2)), "[0,2]", 0);
    CHECK(tl_matmul(t, X(4, 0, 2), X(2)), "[4,0]", 0);
    CHECK(tl_outer(t, X(0), X(3)), "[0,3]", 0);
    CHECK(tl_outer(t, X(2), X(0)), "[2,0]", 0);
    CHECK(tl_dot(t, X(0), X(0)), "[]", 0);
    CHECK(tl_bilinear(t, X(0, 3), X(0, 4), X(2, 3, 4), X(2)), "[0,2]", 0);
    CHECK(tl_bilinear(t, X(5, 0), X(5, 4), X(2, 0, 4), X(2)), "[5,2]", 1);
    CHECK(tl_bilinear(t, X(5, 3), X(5, 0), X(2, 3, 0), TL_NONE), "[5,2]", 0);
    CHECK(tl_bilinear(t, X(5, 3), X(5, 4), X(0, 3, 4), X(0)), "[5,0]", 0);
    CHECK(tl_addmm(t, X(3), X(2, 0), X(0, 3), 2, 5), "[2,3]", 2);
    CHECK(tl_addmm(t, X(1), X(0, 2), X(2, 3), 2, 5), "[0,3]", 0);
    CHECK(tl_tril(t, X(0, 3), 0), "[0,3]", 0);
    CHECK(tl_triu(t, X(3, 0), -1), "[3,0]", 0);
    CHECK(tl_triu(t, X(0, 2, 2), 0), "[0,2,2]", 0);
    CHECK(tl_diagonal(t, X(0, 3), 0, 0, 1), "[0]", 0);
    CHECK(tl_diagonal(t, X(2, 3), 3, 0, 1), "[0]", 0);
    CHECK(tl_diagonal(t, X(2, 3), -2, 0, 1), "[0]", 0);
    CHECK(tl_diagonal(t, X(2, 3), INT64_MIN, 0, 1), "[0]", 0);
    CHECK(tl_diagonal(t, X(2, 3), INT64_MAX, 0, 1), "[0]", 0);
    CHECK(tl_diagonal(t, X(0, 2, 3), 1, 2, 1), "[0,1]", 0);
    CHECK(tl_undiagonal(t, X(0), 2, 0, 1, 2, 2), "[2,2]", 0);
    CHECK(tl_undiagonal(t, X(0, 2), 0, 0, 1, 2, 3), "[2,3,0]", 0);
#undef X
#undef CHECK
    tl_tape_free(t);
}

static void special_numbers(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, NAN, INFINITY, 4, -0.0, 6};
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), numbers), ones = F(2, 1);
    assert_value(t, tl_tril(t, x, 0), REALS(1, 0, 0, 4, -0.0, 0), 0); /* 0, not NaN times 0 */
    assert_true(signbit(item_at(t, tl_tril(t, x, 0), 4)));
    assert_value(t, tl_triu(t, x, 2), REALS(0, 0, INFINITY, 0, 0, 0), 0);
    assert_value(t, tl_tril(t, x, INT64_MAX), numbers, 0);
    assert_value(t, tl_triu(t, x, INT64_MIN), numbers, 0);
    assert_value(t, tl_tril(t, x, INT64_MIN), REALS(0, 0, 0, 0, 0, 0), 0);
    assert_value(t, tl_triu(t, x, INT64_MAX), REALS(0, 0, 0, 0, 0, 0), 0);
    assert_value(t, tl_diagonal(t, x, -1, 0, -1), REALS(4), 0);
    assert_value(t, tl_diagonal(t, x, 1, -2, -1), REALS(NAN, 6), 0);
    assert_ptr_equal(tl_value(t, tl_diagonal(t, x, 1, 0, 1)).data,
                     (const double *)tl_value(t, x).data + 1); /* a view */
    assert_value(t, tl_addmm(t, x, ones, F(1, 3), 0, 3), REALS(3, 3, 3, 3, 3, 3), 0);
    assert_value(t, tl_addmm(t, x, ones, F(1, 3), 1, 1), REALS(2, NAN, INFINITY, 5, 1, 7), 0);
    tl_var mask = tl_tril(t, MASK(3, 3), 0); /* the mask of causal attention */
    const uint8_t *bits = tl_value(t, mask).data;
    for (int k = 0; k < 9; k++)
        assert_int_equal(bits[k], k % 3 <= k / 3);
    assert_ok(t);
    tl_tape_free(t);
}

/* undiagonal adds to a gradient that is there already, and only on the diagonal. */
static void a_trace_and_more(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 6));
    tl_var v = tl_leaf(t, x, NULL);
    tl_var trace = tl_sum(t, tl_diagonal(t, v, 0, 0, 1)),
           beside = tl_sum(t, tl_square(t, tl_diagonal(t, v, 1, 0, 1)));
    assert_same(tl_item(t, trace), 6);
    assert_int_equal(tl_backward(t, tl_add(t, tl_add(t, trace, beside), tl_sum(t, v))), TL_OK);
    assert_value(t, tl_gradient(t, v), REALS(2, 5, 1, 1, 2, 13), 0);
    tl_tensor_release(x);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_products_are_refused_in_words),
        cmocka_unit_test(bad_diagonals_are_refused_in_words),
        cmocka_unit_test(vectors_in_matmul),
        cmocka_unit_test(one_vector_twice),
        cmocka_unit_test(arrays_without_elements),
        cmocka_unit_test(special_numbers),
        cmocka_unit_test(a_trace_and_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
