/* Reductions: what the checks of tests/test_ops.c and PyTorch's answers cannot see. */
#include "support.h"

#include "autograd/named.h"

static tl_var vector(tl_tape *t, tl_dtype dtype, int64_t n, const double *values)
{
    tl_tensor *x = tensor_of(dtype, 1, &n, values);
    tl_var leaf = tl_leaf_untied(t, x);
    tl_tensor_release(x);
    return leaf;
}

static tl_var gradient(tl_tape *t, tl_var y, tl_var x, bool create_graph)
{
    tl_var grad = tl_poison(t);
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, create_graph, &grad);
    return grad;
}

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

#define F(...)   tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...) tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define AXIS(k)                                                                                        \
    1, (const int[])                                                                                   \
    {                                                                                                  \
        k                                                                                              \
    }
#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

/* Names, and what stands in the constants beside the axes. */
static const struct {
    const char *name, *constants;
    bool any_dtype, needs_some;
} over_axes[] = {
    {"sum", "", false, false},
    {"mean", "", false, false},
    {"max", "", false, true},
    {"min", "", false, true},
    {"prod", "", false, false},
    {"logsumexp", "", false, false},
    {"norm", ", \"p\": 2", false, false},
    {"norm", ", \"p\": \"inf\"", false, true},
    {"norm", ", \"p\": -1.0", false, true},
    {"var", ", \"correction\": 1", false, false},
    {"std", ", \"correction\": 1", false, false},
    {"any", "", true, false},
    {"all", "", true, false},
};

static void bad_axes_are_refused_by_every_reduction(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    static const struct {
        const char *axes, *rule;
        tl_status status;
    } bad[] = {{"[2]", "there is no axis 2 in [2,0]", TL_ERR_INDEX},
               {"[0, -1]", "there is no axis -1 in [2,0]", TL_ERR_INDEX},
               {"[1, 0, 1]", "axis 1 is given twice", TL_ERR_ARGUMENT},
               {"[1]", "no elements along the axes of [2,0]", TL_ERR_SHAPE}};
    for (int k = 0; k < COUNT_OF(over_axes); k++) {
        const char *name = over_axes[k].name;
        char constants[128], message[TL_MESSAGE_SIZE];
        for (int b = 0; b < COUNT_OF(bad); b++) {
            if (bad[b].status == TL_ERR_SHAPE && !over_axes[k].needs_some)
                continue;
            snprintf(constants, sizeof constants, "{\"axes\": %s, \"keepdim\": true%s}", bad[b].axes,
                     over_axes[k].constants);
            snprintf(message, sizeof message, "%s: %s", name, bad[b].rule);
            tl_var x = F(2, 0);
            REFUSED(tl_apply_named(t, name, 1, &x, constants), bad[b].status, message);
        }
        tl_var x = INT(2, 3);
        snprintf(constants, sizeof constants, "{\"axes\": [1], \"keepdim\": true%s}",
                 over_axes[k].constants);
        snprintf(message, sizeof message, "%s: operand 0 is i64, not a real", name);
        tl_var y = tl_apply_named(t, name, 1, &x, constants);
        if (over_axes[k].any_dtype)
            assert_shape(t, y, "[2,1]");
        else
            REFUSED(y, TL_ERR_DTYPE, message);
    }
    tl_tape_free(t);
}

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    REFUSED(tl_max_axes(t, F(2, 3), AXIS(2), false), TL_ERR_INDEX, "max: there is no axis 2 in [2,3]");
    REFUSED(tl_min_axes(t, F(2, 3), AXIS(-3), false), TL_ERR_INDEX,
            "min: there is no axis -3 in [2,3]");
    REFUSED(tl_mean_axes(t, F(2, 3), AXIS(5), true), TL_ERR_INDEX, "mean: there is no axis 5 in [2,3]");
    REFUSED(tl_any(t, F(2, 3), 9, (int[9]){0}, true), TL_ERR_ARGUMENT, "any: 9 axes");
    REFUSED(tl_all(t, F(2, 3), -1, NULL, true), TL_ERR_ARGUMENT, "all: -1 axes");
    REFUSED(tl_logsumexp(t, F(2, 3), 2, (int[]){1, -1}, true), TL_ERR_ARGUMENT,
            "logsumexp: axis 1 is given twice");
    REFUSED(tl_prod_axes(t, tl_poison(t), AXIS(0), true), TL_ERR_STALE,
            "value: variable is from before the tape was reset");
    REFUSED(tl_norm(t, F(2), (double)NAN, 0, NULL, true), TL_ERR_ARGUMENT, "norm: p is not a number");
    REFUSED(tl_argmax(t, F(2, 3), 2, false), TL_ERR_INDEX, "argmax: there is no dimension 2 in [2,3]");
    REFUSED(tl_argmin(t, F(2, 3), -3, false), TL_ERR_INDEX,
            "argmin: there is no dimension -3 in [2,3]");
    REFUSED(tl_argmin(t, tl_full(t, TL_F64, 0, NULL, 1), 1, false), TL_ERR_INDEX,
            "argmin: there is no dimension 1 in []");
    REFUSED(tl_argmax(t, F(2, 0), 1, false), TL_ERR_SHAPE,
            "argmax: no elements along the axes of [2,0]");
    REFUSED(tl_argmax(t, INT(2), 0, false), TL_ERR_DTYPE, "argmax: operand 0 is i64, not a real");
    tl_var x = F(2, 3);
    REFUSED(tl_apply_named(t, "argmin", 1, &x, "{\"dim\": -1, \"keepdim\": false}"), TL_ERR_INDEX,
            "argmin: there is no dimension -1 in [2,3]");
    tl_tape_free(t);
}

/* ---- no elements, one element ----------------------------------------------------------- */

static void of_no_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *none = tl_tensor_zeros(TL_F64, TL_SHAPE(2, 0), NULL);
    tl_var x = tl_leaf(t, none, NULL);
    const struct {
        tl_var y;
        double value;
    } of[] = {{tl_mean_axes(t, x, AXIS(1), false), (double)NAN},
              {tl_prod_axes(t, x, AXIS(1), false), 1},
              {tl_logsumexp(t, x, AXIS(1), false), -(double)INFINITY},
              {tl_norm(t, x, 2, AXIS(1), false), 0},
              {tl_norm(t, x, 0, AXIS(1), false), 0},
              {tl_norm(t, x, 0.5, AXIS(1), false), 0},
              {tl_var_axes(t, x, 0, AXIS(1), false), (double)NAN},
              {tl_std_axes(t, x, 1, AXIS(1), false), (double)NAN},
              {tl_any(t, x, AXIS(1), false), 0},
              {tl_all(t, x, AXIS(1), false), 1}};
    for (int k = 0; k < COUNT_OF(of); k++) {
        assert_shape(t, of[k].y, "[2]");
        assert_value(t, of[k].y, REALS(of[k].value, of[k].value), 0);
        if (k < COUNT_OF(of) - 2)
            assert_shape(t, gradient(t, of[k].y, x, true), "[2,0]");
    }
    /* along the other dimension there is nothing to reduce, which is no reason to complain */
    assert_shape(t, tl_max_axes(t, x, AXIS(0), true), "[1,0]");
    assert_shape(t, tl_argmin(t, x, 0, false), "[0]");
    assert_shape(t, gradient(t, tl_min_axes(t, x, AXIS(0), false), x, true), "[2,0]");
    assert_shape(t, gradient(t, tl_prod_axes(t, x, AXIS(0), false), x, true), "[2,0]");
    assert_shape(t, gradient(t, tl_std_axes(t, x, 1, AXIS(0), false), x, true), "[2,0]");
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(none);
}

static void of_a_scalar(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double three = -3;
    tl_tensor *scalar = tensor_of(TL_F64, 0, NULL, &three);
    tl_var x = tl_leaf(t, scalar, NULL);
    assert_same(tl_item(t, tl_max(t, x)), -3);
    assert_same(tl_item(t, tl_prod(t, x)), -3);
    assert_same(tl_item(t, tl_logsumexp(t, x, 0, NULL, true)), -3);
    assert_same(tl_item(t, tl_norm(t, x, 2, 0, NULL, false)), 3);
    assert_same(tl_item(t, tl_var_axes(t, x, 0, 0, NULL, false)), 0);
    assert_same(tl_item(t, tl_any(t, x, 0, NULL, false)), 1);
    assert_same(tl_item(t, tl_argmax(t, x, -1, true)), 0);
    assert_shape(t, tl_argmax(t, x, 0, true), "[]");
    assert_same(tl_item(t, gradient(t, tl_min(t, x), x, false)), 1);
    assert_same(tl_item(t, gradient(t, tl_norm(t, x, 2, 0, NULL, false), x, false)), -1);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(scalar);
}

/* ---- the largest and where it is -------------------------------------------------------- */

/* NaN beats all, and the first keeps its place. */
static bool beats(double a, double b, double sign)
{
    return !isnan(b) && (isnan(a) || sign * a > sign * b);
}

/* Row lengths on both sides of what the vector loops do at a time, the largest at every place, in rows
 * that lie together and in columns. */
static void the_largest_is_found_wherever_it_is(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int single = 0; single < 2; single++)
        for (int64_t n = 1; n < 40; n++) {
            tl_dtype dtype = single ? TL_F32 : TL_F64;
            tl_tensor *x = tl_tensor_zeros(dtype, TL_SHAPE(n, n), NULL);
            for (int64_t i = 0; i < n; i++)
                tl_tensor_set(x, i * n + (i * 7) % n, i % 2 ? 1 : (double)INFINITY);
            for (int64_t i = 0; i < n; i++)
                tl_tensor_set(x, i * n + (i * 7 + 5) % n, -1);
            if (n % 3 == 0)
                tl_tensor_set(x, n * n / 2, (double)NAN);
            tl_var v = tl_constant(t, x);
            for (int dim = 0; dim < 2; dim++) {
                tl_var most = tl_max_axes(t, v, AXIS(dim), false),
                       least = tl_min_axes(t, v, AXIS(dim), false);
                tl_var most_at = tl_argmax(t, v, dim, false), least_at = tl_argmin(t, v, dim, false);
                for (int64_t r = 0; r < n; r++) {
                    int64_t high = 0, low = 0, step = dim ? 1 : n, first = dim ? r * n : r;
                    for (int64_t i = 1; i < n; i++) {
                        if (beats(tl_tensor_get(x, first + i * step),
                                  tl_tensor_get(x, first + high * step), 1))
                            high = i;
                        if (beats(tl_tensor_get(x, first + i * step),
                                  tl_tensor_get(x, first + low * step), -1))
                            low = i;
                    }
                    assert_same(item_at(t, most, r), tl_tensor_get(x, first + high * step));
                    assert_same(item_at(t, least, r), tl_tensor_get(x, first + low * step));
                    assert_same(item_at(t, most_at, r), (double)high);
                    assert_same(item_at(t, least_at, r), (double)low);
                }
            }
            tl_tensor_release(x);
            tl_tape_reset(t);
        }
    tl_tape_free(t);
}

static void indices_want_no_gradient(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = vector(t, TL_F32, 3, REALS(1, 3, 2));
    assert_false(tl_needs_gradient(t, tl_argmax(t, x, 0, false)));
    assert_false(tl_needs_gradient(t, tl_any(t, x, 0, NULL, false)));
    assert_int_equal(tl_value(t, tl_argmax(t, x, 0, false)).dtype, TL_I64);
    assert_int_equal(tl_value(t, tl_all(t, x, 0, NULL, false)).dtype, TL_U8);
    tl_tape_free(t);
}

/* ---- special values --------------------------------------------------------------------- */

static void logsumexp_at_the_ends(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double inf = (double)INFINITY;
    const struct {
        double x[3], y, d[3];
    } cases[] = {{{-inf, -inf, -inf}, -inf, {0, 0, 0}},
                 {{-inf, 2, -inf}, 2, {0, 1, 0}},
                 {{1e30, 1e30, -1e30}, 1e30, {0.5, 0.5, 0}},
                 {{-1e30, -1e30, -inf}, -1e30, {0.5, 0.5, 0}},
                 {{inf, 1, 2}, inf, {(double)NAN, 0, 0}},
                 {{(double)NAN, 1, inf}, (double)NAN, {(double)NAN, (double)NAN, (double)NAN}},
                 {{-inf, (double)NAN, -inf}, (double)NAN, {(double)NAN, (double)NAN, (double)NAN}}};
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
            tl_var x = vector(t, (tl_dtype)dtype, 3, cases[k].x);
            tl_var y = tl_logsumexp(t, x, 0, NULL, false);
            check_near(tl_item(t, y), cases[k].y, 1e-7, "logsumexp", k, __FILE__, __LINE__);
            tl_var d = gradient(t, y, x, true);
            check_value_near(t, d, cases[k].d, 1e-6, "its gradient", __FILE__, __LINE__);
            if (k < 2) /* and of higher order */
                assert_value(t, gradient(t, tl_square(t, d), x, false), REALS(0, 0, 0), 0);
            tl_tape_reset(t);
        }
    tl_tape_free(t);
}

static void norms_neither_overflow_nor_vanish(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    static const double sizes[] = {1e-300, 1e-170, 1e-30, 1, 1e30, 1e170, 1e300};
    static const double powers[] = {2, 3, 1.5, 0.5, -1};
    for (int k = 0; k < COUNT_OF(sizes); k++)
        for (int p = 0; p < COUNT_OF(powers); p++)
            for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
                double a = 3 * sizes[k], b = -4 * sizes[k], at = powers[p];
                if (dtype == TL_F32 && fabs(log10(sizes[k])) > 30)
                    continue;
                tl_var x = vector(t, (tl_dtype)dtype, 2, REALS(a, b));
                tl_var y = tl_norm(t, x, at, 0, NULL, false);
                double norm = pow(pow(3, at) + pow(4, at), 1 / at);
                assert_near(tl_item(t, y) / sizes[k], norm, dtype == TL_F32 ? 1e-6 : 1e-13);
                assert_value(t, gradient(t, y, x, false),
                             REALS(pow(3 / norm, at - 1), -pow(4 / norm, at - 1)),
                             dtype == TL_F32 ? 1e-5 : 1e-12);
                tl_tape_reset(t);
            }
    tl_tape_free(t);
}

static void norms_at_zero_have_derivatives_of_zero(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    static const double powers[] = {2, 1, 3, 1.5, 0.5, (double)INFINITY};
    for (int p = 0; p < COUNT_OF(powers); p++) {
        tl_var x = vector(t, TL_F64, 2, REALS(0, 0));
        tl_var d = gradient(t, tl_norm(t, x, powers[p], 0, NULL, false), x, true);
        assert_value(t, d, REALS(0, 0), 0);
        assert_value(t, gradient(t, d, x, false), REALS(0, 0), 0);
        tl_tape_reset(t);
    }
    /* one zero among others: d|x|_3 = x|x| / y^2, whose derivative at zero is zero too */
    tl_var x = vector(t, TL_F64, 2, REALS(0, -2));
    tl_var d = gradient(t, tl_norm(t, x, 3, 0, NULL, false), x, true);
    assert_value(t, d, REALS(0, -1), 1e-15);
    assert_value(t, gradient(t, d, x, false), REALS(0, 0), 1e-15);
    tl_tape_reset(t);
    x = vector(t, TL_F64, 2, REALS(3, (double)NAN));
    assert_true(isnan(tl_item(t, tl_norm(t, x, 2, 0, NULL, false))));
    assert_true(isnan(tl_item(t, tl_norm(t, x, -1, 0, NULL, false))));
    assert_true(isnan(tl_item(t, tl_norm(t, x, (double)INFINITY, 0, NULL, false))));
    assert_same(tl_item(t, tl_norm(t, x, 0, 0, NULL, false)), 2);
    tl_tape_free(t);
}

/* The sum of n equal numbers, divided by n, is in general another number. */
static void equal_numbers_do_not_vary(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int64_t n = 2; n < 30; n++) {
        tl_tensor *equal = tl_tensor_zeros(TL_F64, 1, &n, NULL);
        tl_tensor_fill(equal, 0.1 * (double)n);
        tl_var x = tl_leaf(t, equal, NULL);
        tl_var y = tl_std_axes(t, x, 1, 0, NULL, false), d = gradient(t, y, x, true);
        assert_same(tl_item(t, y), 0);
        assert_same(tl_item(t, tl_var_axes(t, x, 1, 0, NULL, false)), 0);
        tl_var second = gradient(t, d, x, false);
        for (int64_t i = 0; i < n; i++) {
            assert_same(item_at(t, d, i), 0);
            assert_same(item_at(t, second, i), 0);
        }
        tl_tensor_release(equal);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

/* var of numbers far from zero: f32 keeps 7 digits, and their squares would take them all. */
static void variance_does_not_cancel(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = vector(t, TL_F32, 4, REALS(1e6 - 3, 1e6 - 1, 1e6 + 1, 1e6 + 3));
    assert_near(tl_item(t, tl_var_axes(t, x, 0, 0, NULL, false)), 5, 1e-6);
    assert_near(tl_item(t, tl_std_axes(t, x, 1, 0, NULL, false)), sqrt(20. / 3), 1e-6);
    tl_tape_free(t);
}

/* f = a b c d: mixed derivatives of any order with zeros among the factors. */
static void products_are_right_at_zeros(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int64_t n = 3; n < 8; n++) {
        double values[8] = {0, 5, 0, 0, 2, 3, 1, 4}, rest = 1;
        for (int k = 4; k < n; k++)
            rest *= values[k];
        tl_var x = vector(t, TL_F64, n, values), d = tl_prod(t, x);
        int64_t zeros = n == 3 ? 2 : 3;
        assert_same(tl_item(t, d), 0);
        for (int64_t k = 0; k < zeros; k++) {
            d = gradient(t, d, x, true);
            d = tl_select(t, d, 0, k ? k + 1 : 0);
        }
        assert_near(tl_item(t, d), 5 * rest, 1e-15);
        assert_near(item_at(t, gradient(t, d, x, false), 1), rest, 1e-15);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

/* Over two of three axes, the last of which stays: slices, in the order of an odometer. */
static void slices_of_any_strides(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(6);
    tl_tensor *values = random_tensor(&d, TL_F64, TL_SHAPE(3, 5, 1, 41), -2, 2);
    tl_var x = tl_expand(t, tl_constant(t, values), TL_SHAPE(3, 5, 2, 41));
    tl_var apart = tl_permute(t, x, 4, (int[]){2, 1, 0, 3});
    tl_var y = tl_max_axes(t, apart, 2, (int[]){1, 2}, false);
    assert_shape(t, y, "[2,41]");
    for (int64_t j = 0; j < 41; j++) {
        double largest = -2;
        for (int64_t i = 0; i < 15; i++)
            largest = fmax(largest, tl_tensor_get(values, i * 41 + j));
        assert_same(item_at(t, y, j), largest);
        assert_same(item_at(t, y, 41 + j), largest);
    }
    assert_vars(t, tl_min_axes(t, apart, 0, NULL, false), tl_neg(t, tl_max(t, tl_neg(t, x))), 0);
    assert_vars(t, tl_min_axes(t, x, 1, (int[]){0}, true),
                tl_neg(t, tl_max_axes(t, tl_neg(t, x), 1, (int[]){0}, true)), 0);
    tl_tape_free(t);
    tl_tensor_release(values);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* Each op and its derivative, with room for ever more: it works, or says that there is none. */
static void running_out_of_memory_is_said(void **state)
{
    (void)state;
    static const char *const names[] = {
        "mean", "max", "min", "argmax", "prod",    "logsumexp",         "norm",
        "var",  "std", "any", "cumsum", "cumprod", "linear_recurrence", "argsort",
        "sort", "topk"};
    tl_tensor *values = tl_tensor_zeros(TL_F64, TL_SHAPE(60, 90), NULL);
    for (int64_t i = 0; i < values->layout.count; i++)
        tl_tensor_set(values, i, 1 + (double)(i * 37 % 101) / 100);
    for (int k = 0; k < COUNT_OF(names); k++) {
        const tl_op *op = tl_op_find(names[k]);
        bool along = strncmp(op->attributes, "dim", 3) == 0, twice = op->least == 2;
        tl_attr attr = {.i = {0, 2}, .n = along ? 2 : 1, .f = {3}};
        attr.i[0] = twice ? 7 : 0;
        bool done = false;
        for (size_t limit = 1; !done; limit += 50000) {
            tl_tape *t = tl_tape_new(&(tl_tape_config){.memory = limit});
            if (!t)
                continue;
            tl_var x = tl_leaf(t, values, NULL), in[2] = {x, x}, grad;
            tl_var y = tl_apply(t, op, twice ? 2 : 1, in, &attr);
            if (tl_tape_status(t) == TL_OK && tl_needs_gradient(t, y))
                tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, false, &grad);
            done = tl_tape_status(t) == TL_OK;
            if (!done)
                assert_int_equal(tl_tape_status(t), TL_ERR_MEMORY);
            tl_tape_reset(t);
            assert_int_equal(tl_tape_measure(t).live, 0);
            tl_tape_free(t);
        }
    }
    tl_tensor_release(values);
}

static void truth_is_not_being_zero(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = vector(t, TL_F32, 3, REALS(-0.0, 0, -0.0));
    assert_same(tl_item(t, tl_any(t, x, 0, NULL, false)), 0);
    x = vector(t, TL_F32, 3, REALS(1e-45, (double)NAN, -1));
    assert_same(tl_item(t, tl_all(t, x, 0, NULL, false)), 1);
    const int64_t large[] = {(int64_t)1 << 40, 0};
    tl_var i = tl_constant_from(t, TL_I64, TL_SHAPE(2), large);
    assert_same(tl_item(t, tl_any(t, i, 0, NULL, false)), 1);
    assert_same(tl_item(t, tl_all(t, i, 0, NULL, false)), 0);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_axes_are_refused_by_every_reduction),
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(of_no_elements),
        cmocka_unit_test(of_a_scalar),
        cmocka_unit_test(the_largest_is_found_wherever_it_is),
        cmocka_unit_test(indices_want_no_gradient),
        cmocka_unit_test(logsumexp_at_the_ends),
        cmocka_unit_test(norms_neither_overflow_nor_vanish),
        cmocka_unit_test(norms_at_zero_have_derivatives_of_zero),
        cmocka_unit_test(equal_numbers_do_not_vary),
        cmocka_unit_test(variance_does_not_cancel),
        cmocka_unit_test(products_are_right_at_zeros),
        cmocka_unit_test(slices_of_any_strides),
        cmocka_unit_test(running_out_of_memory_is_said),
        cmocka_unit_test(truth_is_not_being_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
