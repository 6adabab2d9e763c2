/* Elementwise ops, comparisons, casts: what the checks that are made from the op list cannot see.
 * Values and gradients at ends, zeros and ties are in tests/golden. */
#include "support.h"

#include "autograd/named.h"

static const double inf = (double)INFINITY, nan_ = (double)NAN;

static tl_var leaf_of(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, const double *values)
{
    tl_tensor *x = tensor_of(dtype, ndim, shape, values);
    tl_var v = tl_leaf_untied(t, x);
    tl_tensor_release(x);
    return v;
}

static tl_var leaf(tl_tape *t, double value)
{
    return leaf_of(t, TL_F64, 0, NULL, &value);
}

static tl_var constant_of(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape,
                          const double *values)
{
    tl_tensor *x = tensor_of(dtype, ndim, shape, values);
    tl_var v = tl_constant(t, x);
    tl_tensor_release(x);
    return v;
}

/* The gradient of the sum of y. */
static tl_var slope(tl_tape *t, tl_var y, tl_var x, bool create_graph)
{
    tl_var dx;
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, create_graph, &dx);
    return dx;
}

/* ---- masks ------------------------------------------------------------------------------ */

static void masks_are_zeros_and_ones(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var many = constant_of(t, TL_U8, TL_SHAPE(4), REALS(0, 1, 2, 255));
    assert_value(t, tl_logical_and(t, many, many), REALS(0, 1, 1, 1), 0);
    assert_value(t, tl_logical_or(t, many, many), REALS(0, 1, 1, 1), 0);
    assert_value(t, tl_logical_xor(t, many, tl_full(t, TL_U8, 0, NULL, 7)), REALS(1, 0, 0, 0), 0);
    assert_value(t, tl_logical_not(t, many), REALS(1, 0, 0, 0), 0);
    assert_int_equal(tl_value(t, tl_logical_not(t, many)).dtype, TL_U8);
    assert_value(t, tl_where(t, many, many, tl_full(t, TL_U8, 0, NULL, 9)), REALS(9, 1, 2, 255), 0);
    tl_var odd = constant_f64(t, TL_SHAPE(4), REALS(nan_, -0., 1e-320, inf));
    assert_value(t, tl_logical_not(t, odd), REALS(0, 1, 0, 0), 0);
    assert_value(t, tl_isnan(t, odd), REALS(1, 0, 0, 0), 0);
    assert_value(t, tl_isfinite(t, odd), REALS(0, 1, 1, 0), 0);
    assert_value(t, tl_eq(t, odd, odd), REALS(0, 1, 1, 1), 0);
    assert_value(t, tl_ne(t, odd, odd), REALS(1, 0, 0, 0), 0);
    assert_value(t, tl_ge(t, odd, odd), REALS(0, 1, 1, 1), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* A double has 53 bits; an i64 that passed through one would lose some. */
static void large_integers_keep_all_their_bits(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t left[] = {INT64_MAX, INT64_MIN, 1ll << 53, 5},
                  right[] = {INT64_MAX - 1, INT64_MIN, (1ll << 53) + 1, 5};
    tl_var a = tl_constant_from(t, TL_I64, TL_SHAPE(4), left),
           b = tl_constant_from(t, TL_I64, TL_SHAPE(4), right);
    assert_value(t, tl_eq(t, a, b), REALS(0, 1, 0, 1), 0);
    assert_value(t, tl_lt(t, a, b), REALS(0, 0, 1, 0), 0);
    assert_value(t, tl_gt(t, a, b), REALS(1, 0, 0, 0), 0);
    assert_value(t, tl_isfinite(t, a), REALS(1, 1, 1, 1), 0);
    tl_var mask = constant_of(t, TL_U8, TL_SHAPE(4), REALS(0, 1, 0, 1));
    const int64_t *chosen = tl_value(t, tl_where(t, mask, a, b)).data;
    assert_true(chosen[0] == right[0] && chosen[1] == left[1] && chosen[2] == right[2]);
    const int64_t *filled = tl_value(t, tl_masked_fill(t, b, mask, -3)).data;
    assert_true(filled[0] == right[0] && filled[1] == -3 && filled[2] == right[2]);
    tl_var same;
    same = tl_apply_named(t, "cast", 1, &b, "{\"dtype\": \"i64\"}");
    assert_memory_equal(tl_value(t, same).data, right, sizeof right);
    assert_ok(t);
    tl_tape_free(t);
}

static void a_value_to_fill_with_becomes_the_nearest_there_is(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double values[] = {2.9, -2.9, 1e30, -1e30, inf, nan_};
    const double whole[] = {2, -2, 0x1p63, -0x1p63, 0x1p63, 0}, byte[] = {2, 0, 255, 0, 255, 0};
    tl_var one = tl_full(t, TL_U8, 0, NULL, 1), i = tl_full(t, TL_I64, 0, NULL, 5);
    for (int k = 0; k < COUNT_OF(values); k++) {
        assert_near_at(tl_item(t, tl_masked_fill(t, i, one, values[k])), whole[k], 0, k);
        assert_near_at(tl_item(t, tl_masked_fill(t, one, one, values[k])), byte[k], 0, k);
    }
    tl_var f = tl_full(t, TL_F32, 0, NULL, 5);
    assert_same(tl_item(t, tl_masked_fill(t, f, one, 0.1)), (double)0.1f);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- the branch not chosen -------------------------------------------------------------- */

/* Gradients that are infinite or NaN stay with the branch they belong to; and a square root whose
 * operand is filled where it is not chosen has finite derivatives at 0, of second order too. */
static void nothing_comes_from_the_branch_that_was_not_chosen(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(0, -1, 4));
    tl_var y = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(nan_, inf, 2));
    tl_var mask = tl_gt_scalar(t, x, 0);
    assert_false(tl_needs_gradient(t, mask));
    tl_var z = tl_where(t, mask, y, x);
    assert_value(t, z, REALS(0, -1, 2), 0);
    tl_var both[2] = {y, x}, grads[2];
    tl_var seed = constant_f64(t, TL_SHAPE(3), REALS(inf, nan_, 5));
    tl_grad(t, z, seed, 2, both, false, grads);
    assert_value(t, grads[0], REALS(0, 0, 5), 0);
    assert_value(t, grads[1], REALS(inf, nan_, 0), 0);
    tl_var safe = tl_masked_fill(t, x, tl_logical_not(t, mask), 1);
    tl_var root = tl_where(t, mask, tl_sqrt(t, safe), tl_affine(t, x, 0, 0));
    assert_value(t, root, REALS(0, 0, 2), 0);
    tl_var first = slope(t, root, x, true);
    assert_value(t, first, REALS(0, 0, 0.25), 0);
    assert_value(t, slope(t, first, x, false), REALS(0, 0, -1. / 32), 1e-16);
    tl_grad(t, tl_masked_fill(t, x, mask, inf), seed, 1, &x, false, grads);
    assert_value(t, grads[0], REALS(inf, nan_, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* The mask wider than what is chosen from: gradients are summed over what was broadcast. */
static void masks_broadcast_too(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var mask = constant_of(t, TL_U8, TL_SHAPE(2, 3), REALS(1, 0, 1, 0, 0, 1));
    tl_var a = leaf_of(t, TL_F64, 0, NULL, REALS(5)),
           b = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(1, 2, 3));
    tl_var both[2] = {a, b}, grads[2];
    tl_var y = tl_where(t, mask, a, b);
    assert_value(t, y, REALS(5, 2, 5, 1, 2, 5), 0);
    tl_grad(t, tl_sum(t, y), TL_NONE, 2, both, false, grads);
    assert_shape(t, grads[0], "[]");
    assert_value(t, grads[0], REALS(3), 0);
    assert_value(t, grads[1], REALS(1, 2, 0), 0);
    assert_value(t, slope(t, tl_masked_fill(t, b, mask, 7), b, false), REALS(1, 2, 0), 0);
    tl_var along = tl_full(t, TL_F64, 0, NULL, 10);
    assert_value(t, tl_jvp(t, y, 1, &a, &along), REALS(10, 0, 10, 0, 0, 10), 0);
    tl_var turned = tl_transpose(t, mask, 0, 1);
    assert_value(t, tl_where(t, turned, a, tl_full(t, TL_F64, TL_SHAPE(2), 0)), REALS(5, 0, 0, 0, 5, 5),
                 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- kinks and ties --------------------------------------------------------------------- */

static void infinities_that_tie_share_the_gradient(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var a = leaf_of(t, TL_F64, TL_SHAPE(4), REALS(inf, -inf, inf, 1)),
           b = leaf_of(t, TL_F64, TL_SHAPE(4), REALS(inf, -inf, -inf, inf));
    assert_value(t, slope(t, tl_maximum(t, a, b), a, false), REALS(0.5, 0.5, 1, 0), 0);
    assert_value(t, slope(t, tl_maximum(t, a, b), b, false), REALS(0.5, 0.5, 0, 1), 0);
    assert_value(t, slope(t, tl_minimum(t, a, b), a, false), REALS(0.5, 0.5, 0, 1), 0);
    assert_value(t, slope(t, tl_minimum(t, a, b), b, false), REALS(0.5, 0.5, 1, 0), 0);
    assert_value(t, slope(t, tl_maximum_scalar(t, a, 1), a, false), REALS(1, 0, 1, 0.5), 0);
    assert_value(t, slope(t, tl_minimum_scalar(t, a, 1), a, false), REALS(0, 1, 0, 0.5), 0);
    assert_ok(t);
    tl_tape_free(t);
}

static void bounds_of_clamp_and_hardtanh(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(5), REALS(-1, -0.5, 0.5, 1, nan_));
    assert_value(t, tl_hardtanh(t, x, -1, 0.5), REALS(-1, -0.5, 0.5, 0.5, nan_), 0);
    assert_value(t, slope(t, tl_hardtanh(t, x, -1, 0.5), x, false), REALS(0, 1, 0, 0, 1), 0);
    assert_value(t, slope(t, tl_clamp(t, x, -1, 0.5), x, false), REALS(1, 1, 1, 0, 0), 0);
    tl_var wide = leaf_of(t, TL_F32, TL_SHAPE(5), REALS(-3, -1.5, 0, 3, 5));
    assert_value(t, tl_hardsigmoid(t, wide), REALS(0, 0.25, 0.5, 1, 1), 0);
    const double sixth = (double)(1.f / 6);
    assert_value(t, slope(t, tl_hardsigmoid(t, wide), wide, false), REALS(0, sixth, sixth, 0, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
}

static void gelu_of_huge_numbers_has_a_slope(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(4), REALS(1e300, -1e300, 50, -50)), first;
    assert_value(t, tl_gelu_tanh(t, x), REALS(1e300, 0, 50, 0), 0);
    first = slope(t, tl_gelu_tanh(t, x), x, true);
    assert_value(t, first, REALS(1, 0, 1, 0), 0);
    assert_value(t, slope(t, first, x, false), REALS(0, 0, 0, 0), 0);
    tl_var single = leaf_of(t, TL_F32, TL_SHAPE(2), REALS(1e30, -1e30));
    assert_value(t, slope(t, tl_gelu_tanh(t, single), single, false), REALS(1, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- powers ----------------------------------------------------------------------------- */

/* y, dy/da, dy/db, and the derivatives of these two: NaN where the exponent of a negative number
 * would have to move, and nowhere else. PyTorch has NaN for several of the zeros. */
static const struct {
    double a, b, y, da, db, daa, dab, dba, dbb;
} powers[] = {
    {0, 0, 1, 0, 0, 0, 0, 0, 0},
    {0, 1, 0, 1, 0, 0, 1, 0, 0},
    {0, 2, 0, 0, 0, 2, 0, 0, 0},
    {0, 3, 0, 0, 0, 0, 0, 0, 0},
    {1, 0, 1, 0, 0, 0, 1, 1, 0},
    {4, 0, 1, 0, 1.3862943611198906, 0, 0.25, 0.25, 1.9218120556728056},
    {2, 3, 8, 12, 5.545177444479562, 12, 12.317766166719343, 12.317766166719343, 3.8436241113456113},
    {-2, 3, -8, 12, NAN, -12, NAN, NAN, NAN},
    {-2, 2, 4, -4, NAN, 2, NAN, NAN, NAN},
    {-1, 0, 1, 0, NAN, 0, 0, -1, NAN},
    {-2, -1, -0.5, -0.25, NAN, -0.25, NAN, NAN, NAN},
};

static void powers_at_their_corners(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < COUNT_OF(powers); k++) {
        tl_var in[2] = {leaf(t, powers[k].a), leaf(t, powers[k].b)}, d[2], dd[2];
        tl_var y = tl_pow(t, in[0], in[1]);
        assert_near_at(tl_item(t, y), powers[k].y, 1e-15, k);
        tl_grad(t, y, TL_NONE, 2, in, true, d);
        assert_near_at(tl_item(t, d[0]), powers[k].da, 1e-15, k);
        assert_near_at(tl_item(t, d[1]), powers[k].db, 1e-15, k);
        tl_grad(t, d[0], TL_NONE, 2, in, false, dd);
        assert_near_at(tl_item(t, dd[0]), powers[k].daa, 1e-15, k);
        assert_near_at(tl_item(t, dd[1]), powers[k].dab, 1e-15, k);
        tl_grad(t, d[1], TL_NONE, 2, in, false, dd);
        assert_near_at(tl_item(t, dd[0]), powers[k].dba, 1e-15, k);
        assert_near_at(tl_item(t, dd[1]), powers[k].dbb, 1e-15, k);
        assert_ok(t);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

/* Where the exponent is a constant, a negative base is like any other. */
static void powers_with_constant_exponents(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var a = leaf_of(t, TL_F64, TL_SHAPE(4), REALS(-2, 0, 0, -3)),
           b = constant_f64(t, TL_SHAPE(4), REALS(3, 1, 0, 0)),
           first = slope(t, tl_pow(t, a, b), a, true);
    assert_value(t, first, REALS(12, 1, 0, 0), 0);
    assert_value(t, slope(t, first, a, false), REALS(-12, 0, 0, 0), 0);
    for (int p = 0; p <= 4; p++) { /* each derivative to the last one that is not zero */
        tl_var x = leaf_of(t, TL_F64, TL_SHAPE(2), REALS(0, -2)), y = tl_pow_scalar(t, x, p);
        double c = 1;
        for (int order = 0; order <= p; order++) {
            assert_value(t, y, REALS(order == p ? c : 0, c * pow(-2, p - order)), 0);
            c *= p - order;
            if (order < p)
                y = slope(t, y, x, true);
        }
        assert_value(t, slope(t, y, x, false), REALS(0, 0), 0);
    }
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- cast ------------------------------------------------------------------------------- */

static void casts_between_reals_are_linear(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(0.1, -2, 1e300));
    assert_int_equal(tl_cast(t, x, TL_F64).id, x.id);
    tl_var y = tl_cast(t, x, TL_F32);
    assert_int_equal(tl_value(t, y).dtype, TL_F32);
    assert_value(t, y, REALS((double)0.1f, -2, inf), 0);
    tl_var square = tl_square(t, y), first = slope(t, square, x, true);
    assert_int_equal(tl_value(t, first).dtype, TL_F64);
    assert_value(t, first, REALS((double)0.2f, -4, inf), 0);
    assert_value(t, slope(t, first, x, false), REALS(2, 2, 2), 0);
    tl_var along = constant_f64(t, TL_SHAPE(3), REALS(0.1, 3, 0)), moved = tl_jvp(t, y, 1, &x, &along);
    assert_int_equal(tl_value(t, moved).dtype, TL_F32);
    assert_value(t, moved, REALS((double)0.1f, 3, 0), 0);
    tl_var wide = leaf_of(t, TL_F32, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 6));
    tl_var turned = tl_cast(t, tl_transpose(t, wide, 0, 1), TL_F64);
    assert_value(t, turned, REALS(1, 4, 2, 5, 3, 6), 0);
    assert_value(t, slope(t, tl_square(t, turned), wide, false), REALS(2, 4, 6, 8, 10, 12), 0);
    tl_var one = leaf_of(t, TL_F32, TL_SHAPE(2, 1), REALS(1, 2));
    tl_var spread = tl_cast(t, tl_expand(t, one, TL_SHAPE(2, 3)), TL_F64);
    assert_value(t, slope(t, spread, one, false), REALS(3, 3), 0);
    assert_ok(t);
    tl_tape_free(t);
}

static void an_integer_depends_on_no_leaf(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(4), REALS(0.5, -1.9, 300, nan_));
    tl_var i = tl_cast(t, x, TL_I64), m = tl_cast(t, x, TL_U8);
    assert_value(t, i, REALS(0, -1, 300, 0), 0);
    assert_value(t, m, REALS(0, 0, 255, 0), 0);
    assert_false(tl_needs_gradient(t, i) || tl_needs_gradient(t, m));
    assert_false(tl_needs_gradient(t, tl_cast(t, i, TL_F64)));
    assert_value(t, tl_cast(t, i, TL_F32), REALS(0, -1, 300, 0), 0);
    assert_value(t, tl_cast(t, i, TL_U8), REALS(0, 0, 255, 0), 0);
    tl_var y = tl_mul(t, x, tl_cast(t, i, TL_F64)); /* the integer is a factor like any constant */
    assert_value(t, slope(t, y, x, false), REALS(0, -1, 300, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- a number as an operand ------------------------------------------------------------- */

static void forms_with_a_number(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(-0., 1.5, -3));
#define CHECK(y, ...)                                                                                  \
    assert_value(t, (y), REALS(__VA_ARGS__), 0);                                                       \
    assert_shape(t, (y), "[3]")
    CHECK(tl_add_scalar(t, x, 2), 2, 3.5, -1);
    CHECK(tl_sub_scalar(t, x, 2), -2, -0.5, -5);
    CHECK(tl_rsub_scalar(t, x, 2), 2, 0.5, 5);
    CHECK(tl_mul_scalar(t, x, 2), 0, 3, -6);
    CHECK(tl_div_scalar(t, x, 3), 0, 0.5, -1);
    CHECK(tl_maximum_scalar(t, x, 1), 1, 1.5, 1);
    CHECK(tl_minimum_scalar(t, x, 1), 0, 1, -3);
    CHECK(tl_eq_scalar(t, x, 1.5), 0, 1, 0);
    CHECK(tl_ne_scalar(t, x, 1.5), 1, 0, 1);
    CHECK(tl_lt_scalar(t, x, 0), 0, 0, 1);
    CHECK(tl_le_scalar(t, x, 0), 1, 0, 1);
    CHECK(tl_gt_scalar(t, x, 0), 0, 1, 0);
    CHECK(tl_ge_scalar(t, x, 0), 1, 1, 0);
    CHECK(slope(t, tl_rsub_scalar(t, x, 2), x, false), -1, -1, -1);
    CHECK(slope(t, tl_mul_scalar(t, x, 2), x, false), 2, 2, 2);
    CHECK(slope(t, tl_div_scalar(t, x, 4), x, false), 0.25, 0.25, 0.25);
#undef CHECK
    assert_true(signbit(item_at(t, tl_mul_scalar(t, x, 1), 0)));
    assert_true(signbit(item_at(t, tl_sub_scalar(t, x, 0), 0)));
    tl_var single = tl_full(t, TL_F32, TL_SHAPE(2), 0.1); /* compared as the f32 that it is */
    assert_value(t, tl_eq_scalar(t, single, 0.1), REALS(1, 1), 0);
    assert_int_equal(tl_value(t, tl_div_scalar(t, single, 3)).dtype, TL_F32);
    tl_var whole = constant_of(t, TL_I64, TL_SHAPE(3), REALS(-1, 0, 7));
    assert_value(t, tl_ge_scalar(t, whole, 0), REALS(0, 1, 1), 0);
    assert_value(t, tl_eq_scalar(t, tl_cast(t, whole, TL_U8), 7), REALS(0, 0, 1), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* Off the record, too: an integer or a mask is no special case there. */
static void the_same_off_the_record(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(-1, 0, 2));
    tl_no_record_begin(t);
    tl_var y = tl_where(t, tl_gt_scalar(t, x, 0), tl_pow_scalar(t, x, 3), tl_selu(t, x));
    assert_near(item_at(t, y, 0), -1.0507009873554805 * 1.6732632423543772 * (1 - exp(-1)), 1e-15);
    assert_same(item_at(t, y, 2), 8);
    assert_value(t, tl_cast(t, tl_cast(t, y, TL_I64), TL_F64), REALS(-1, 0, 8), 0);
    tl_no_record_end(t, 1, &y);
    assert_false(tl_needs_gradient(t, y));
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- no elements ------------------------------------------------------------------------ */

static void arrays_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = leaf_of(t, TL_F64, TL_SHAPE(0, 3), NULL),
           row = leaf_of(t, TL_F64, TL_SHAPE(3), REALS(1, 2, 3)),
           mask = tl_full(t, TL_U8, TL_SHAPE(2, 1, 1), 1);
    const tl_var real[] = {tl_selu(t, x),          tl_gelu_tanh(t, x),
                           tl_hardsigmoid(t, x),   tl_hardtanh(t, x, -1, 1),
                           tl_pow_scalar(t, x, 2), tl_pow(t, x, row),
                           tl_pow(t, row, x),      tl_addcmul(t, x, row, row, 2),
                           tl_maximum(t, x, row),  tl_div_scalar(t, x, 2)};
    for (int k = 0; k < COUNT_OF(real); k++) {
        assert_shape(t, real[k], "[0,3]");
        assert_shape(t, slope(t, real[k], x, false), "[0,3]");
    }
    assert_value(t, slope(t, tl_pow(t, row, x), row, false), REALS(0, 0, 0), 0);
    tl_var y = tl_where(t, mask, x, row);
    assert_shape(t, y, "[2,0,3]");
    assert_value(t, slope(t, y, row, false), REALS(0, 0, 0), 0);
    assert_shape(t, slope(t, tl_masked_fill(t, x, mask, 1), x, false), "[0,3]");
    assert_shape(t, tl_eq(t, x, row), "[0,3]");
    assert_shape(t, tl_lt_scalar(t, x, 0), "[0,3]");
    assert_shape(t, tl_logical_not(t, x), "[0,3]");
    assert_shape(t, tl_cast(t, x, TL_I64), "[0,3]");
    assert_shape(t, slope(t, tl_cast(t, x, TL_F32), x, false), "[0,3]");
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- bad input -------------------------------------------------------------------------- */

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).layout);
    assert_null(tl_value(t, tl_where(t, y, y, y)).layout); /* and so on; the first message stays */
    assert_null(tl_value(t, tl_cast(t, y, TL_F64)).layout);
    assert_null(tl_value(t, tl_eq_scalar(t, y, 0)).layout);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_pow_scalar(t, tl_full(t, TL_F64, TL_SHAPE(2), 2), 2))), 8);
    assert_ok(t);
    tl_tape_reset(t);
}

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL), *other = tl_tape_new(NULL);
    tl_var one;
#define F(...)                      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...)                 tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)                    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define MASK(...)                   tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 1)
#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)
    /* shapes */
    REFUSED(tl_pow(t, F(2), F(3)), TL_ERR_SHAPE, "pow: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_addcmul(t, F(2), F(1), F(3), 1), TL_ERR_SHAPE,
            "addcmul: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_where(t, MASK(2), F(3), F(3)), TL_ERR_SHAPE,
            "where: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_masked_fill(t, F(2, 3), MASK(2), 0), TL_ERR_SHAPE,
            "masked_fill: shapes cannot be broadcast: [2,3] and [2]");
    REFUSED(tl_eq(t, INT(2), INT(3)), TL_ERR_SHAPE, "eq: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_logical_and(t, MASK(0), MASK(2)), TL_ERR_SHAPE,
            "logical_and: shapes cannot be broadcast: [0] and [2]");
    /* dtypes */
    REFUSED(tl_where(t, F(2), F(2), F(2)), TL_ERR_DTYPE, "where: operand 0 is f64, not a mask (u8)");
    REFUSED(tl_where(t, MASK(2), F(2), SINGLE(2)), TL_ERR_DTYPE,
            "where: operands differ in dtype: f64 and f32");
    REFUSED(tl_where(t, MASK(2), INT(2), MASK(2)), TL_ERR_DTYPE,
            "where: operands differ in dtype: i64 and u8");
    REFUSED(tl_masked_fill(t, F(2), INT(2), 0), TL_ERR_DTYPE,
            "masked_fill: operand 1 is i64, not a mask (u8)");
    REFUSED(tl_lt(t, F(2), INT(2)), TL_ERR_DTYPE, "lt: operands differ in dtype: f64 and i64");
    REFUSED(tl_logical_xor(t, MASK(2), F(2)), TL_ERR_DTYPE,
            "logical_xor: operands differ in dtype: u8 and f64");
    REFUSED(tl_pow(t, INT(2), INT(2)), TL_ERR_DTYPE, "pow: operand 0 is i64, not a real");
    REFUSED(tl_pow(t, F(2), SINGLE(2)), TL_ERR_DTYPE, "pow: operands differ in dtype: f64 and f32");
    REFUSED(tl_pow_scalar(t, INT(2), 2), TL_ERR_DTYPE, "pow_scalar: operand 0 is i64, not a real");
    REFUSED(tl_addcmul(t, F(2), F(2), MASK(2), 1), TL_ERR_DTYPE,
            "addcmul: operand 2 is u8, not a real");
    REFUSED(tl_hardtanh(t, INT(2), -1, 1), TL_ERR_DTYPE, "hardtanh: operand 0 is i64, not a real");
    REFUSED(tl_hardsigmoid(t, MASK(2)), TL_ERR_DTYPE, "hardsigmoid: operand 0 is u8, not a real");
    REFUSED(tl_gelu_tanh(t, INT(2)), TL_ERR_DTYPE, "gelu_tanh: operand 0 is i64, not a real");
    REFUSED(tl_selu(t, INT(2)), TL_ERR_DTYPE, "selu: operand 0 is i64, not a real");
    REFUSED(tl_add_scalar(t, INT(2), 1), TL_ERR_DTYPE, "affine: operand 0 is i64, not a real");
    REFUSED(tl_maximum_scalar(t, INT(2), 1), TL_ERR_DTYPE, "maximum: operand 0 is i64, not a real");
    REFUSED(tl_cast(t, F(2), (tl_dtype)7), TL_ERR_DTYPE, "cast: there is no dtype 7");
    one = F(2);
    REFUSED(tl_apply(t, &tl_op_cast, 1, &one, &(tl_attr){.flag = -1}), TL_ERR_DTYPE,
            "cast: there is no dtype -1");
    /* numbers that are none of the dtype's */
    REFUSED(tl_eq_scalar(t, INT(2), 2.5), TL_ERR_ARGUMENT,
            "eq_scalar: 2.5 is not an integer that i64 holds");
    REFUSED(tl_lt_scalar(t, MASK(2), -1), TL_ERR_ARGUMENT,
            "lt_scalar: -1 is not an integer that u8 holds");
    REFUSED(tl_ge_scalar(t, MASK(2), 256), TL_ERR_ARGUMENT,
            "ge_scalar: 256 is not an integer that u8 holds");
    REFUSED(tl_ne_scalar(t, INT(2), nan_), TL_ERR_ARGUMENT,
            "ne_scalar: nan is not an integer that i64 holds");
    REFUSED(tl_gt_scalar(t, INT(2), -inf), TL_ERR_ARGUMENT,
            "gt_scalar: -inf is not an integer that i64 holds");
    /* variables */
    REFUSED(tl_le_scalar(t, TL_NONE, 1), TL_ERR_ARGUMENT, "le_scalar: a required variable is TL_NONE");
    REFUSED(tl_div_scalar(t, tl_full(other, TL_F64, 0, NULL, 1), 1), TL_ERR_STALE,
            "div_scalar: variable belongs to another tape");
    REFUSED(tl_where(t, MASK(2), F(2), TL_NONE), TL_ERR_ARGUMENT, "where: wants 3..3 operands, not 2");
    REFUSED(tl_cast(t, TL_NONE, TL_F32), TL_ERR_ARGUMENT, "cast: a required variable is TL_NONE");
    REFUSED(tl_pow(t, TL_NONE, F(2)), TL_ERR_ARGUMENT, "pow: a required variable is TL_NONE");
    /* constants, by name */
    one = F(2);
    REFUSED(tl_apply_named(t, "cast", 1, &one, "{\"dtype\": \"f16\"}"), TL_ERR_ARGUMENT,
            "cast: constant \"dtype\" wants one of f32,f64,i64,u8");
    one = F(2);
    REFUSED(tl_apply_named(t, "pow_scalar", 1, &one, "{}"), TL_ERR_ARGUMENT,
            "pow_scalar: constant \"p\" is missing: a number");
    one = F(2);
    REFUSED(tl_apply_named(t, "eq", 1, &one, NULL), TL_ERR_ARGUMENT, "eq: wants 2..2 operands, not 1");
    tl_tape_free(other);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_zeros_and_ones),
        cmocka_unit_test(large_integers_keep_all_their_bits),
        cmocka_unit_test(a_value_to_fill_with_becomes_the_nearest_there_is),
        cmocka_unit_test(nothing_comes_from_the_branch_that_was_not_chosen),
        cmocka_unit_test(masks_broadcast_too),
        cmocka_unit_test(infinities_that_tie_share_the_gradient),
        cmocka_unit_test(bounds_of_clamp_and_hardtanh),
        cmocka_unit_test(gelu_of_huge_numbers_has_a_slope),
        cmocka_unit_test(powers_at_their_corners),
        cmocka_unit_test(powers_with_constant_exponents),
        cmocka_unit_test(casts_between_reals_are_linear),
        cmocka_unit_test(an_integer_depends_on_no_leaf),
        cmocka_unit_test(forms_with_a_number),
        cmocka_unit_test(the_same_off_the_record),
        cmocka_unit_test(arrays_without_elements),
        cmocka_unit_test(bad_input_is_refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
