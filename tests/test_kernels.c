/* Plain loops: accuracy of the vectorised functions, strided maps, sums, softmax, optimiser steps. */
#include "support.h"

#include <float.h>

#include "tensor/kernels.h"

/* ---- accuracy ------------------------------------------------------------------------
 *
 * Errors are counted in units of the last place of the correct result: the distance to the next
 * number of the dtype, 2^-149 below the normal range. libm's double results are the truth for f32. */

typedef double function(double x);

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double ulps(float actual, double truth)
{
    if (isnan(truth))
        return isnan(actual) ? 0 : INFINITY;
    double rounded = (double)(float)truth;
    if (!isfinite(rounded))
        return (double)actual == rounded ? 0 : INFINITY;
    int exponent;
    frexp(truth, &exponent);
    double ulp = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)actual - truth) / ulp;
}

typedef struct worst {
    double error;
    float at;
} worst;

enum { RUN = 4096 };

static void measure_run(tl_kernel *kernel, function *truth, const float *x, int n, worst *w)
{
    float y[RUN];
    const void *in[1] = {x};
    kernel(n, in, y, NULL);
    for (int i = 0; i < n; i++) {
        double error = ulps(y[i], truth((double)x[i]));
        if (error > w->error)
            *w = (worst){error, x[i]};
    }
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every `step`-th float whose bits lie in [from, to], and the same with the other sign. */
static worst measure(tl_kernel *kernel, function *truth, uint32_t from, uint32_t to, uint32_t step)
{
    worst w = {0, 0};
    float x[RUN];
    int n = 0;
    for (uint64_t bits = from; bits <= to; bits += step) {
        x[n] = float_of((uint32_t)bits);
        x[n + 1] = -x[n];
        n += 2;
        if (n + 2 > RUN) {
            measure_run(kernel, truth, x, n, &w);
            n = 0;
        }
    }
    measure_run(kernel, truth, x, n, &w);
    return w;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#if defined(TEST_SANITIZED)
enum { COARSE = 40009, FINE = 331 };
#else
enum { COARSE = 4001, FINE = 37 };
#endif

static void assert_within(worst w, double bound, const char *name)
{
    print_message("%s: at most %.3f ulp, at %.9g\n", name, w.error, (double)w.at);
    if (!(w.error <= bound))
        fail_msg("%s(%.9g) is off by %.3f ulp, more than %g", name, (double)w.at, w.error, bound);
}

/* exp: 1.25 ulp, and denormal results too. */
static void exp_f32_is_accurate(void **state)
{
    (void)state;
    tl_kernel *k = tl_kernel_exp[TL_F32];
    assert_within(measure(k, exp, 0, bits_of(INFINITY), COARSE), 1.25, "exp");
    assert_within(measure(k, exp, bits_of(0.1f), bits_of(110), FINE), 1.25, "exp");
    assert_within(measure(k, exp, bits_of(86), bits_of(105), 3), 1.25, "exp near its limits");
}

/* tanh: 1.5 ulp. */
static void tanh_f32_is_accurate(void **state)
{
    (void)state;
    tl_kernel *k = tl_kernel_tanh[TL_F32];
    assert_within(measure(k, tanh, 0, bits_of(INFINITY), COARSE), 1.5, "tanh");
    assert_within(measure(k, tanh, bits_of(0.1f), bits_of(12), FINE), 1.5, "tanh");
    assert_within(measure(k, tanh, bits_of(0.6249f), bits_of(0.6251f), 1), 1.5, "tanh at its seam");
}

/* sigmoid: 2.5 ulp as long as exp(-x) is finite; where it is not (x < -88.72), the result is 0 for a
 * truth of less than 3e-39, below the normal range. */
static void sigmoid_f32_is_accurate(void **state)
{
    (void)state;
    tl_kernel *k = tl_kernel_sigmoid[TL_F32];
    assert_within(measure(k, sigmoid, 0, bits_of(87), COARSE), 2.5, "sigmoid");
    assert_within(measure(k, sigmoid, bits_of(0.1f), bits_of(87), FINE), 2.5, "sigmoid");
    float x[RUN], y[RUN];
    const void *in[1] = {x};
    for (int i = 0; i < RUN; i++)
        x[i] = -87 - 20.0f * (float)i / RUN;
    k(RUN, in, y, NULL);
    for (int i = 0; i < RUN; i++)
        assert_true(y[i] >= 0 && fabs((double)y[i] - sigmoid((double)x[i])) < (double)FLT_MIN);
}

static void f64_functions_are_libms(void **state)
{
    (void)state;
    enum { N = 777 };
    double x[N], y[N];
    const void *in[1] = {x};
    for (int i = 0; i < N; i++)
        x[i] = -40 + 0.1037 * i;
    tl_kernel_exp[TL_F64](N, in, y, NULL);
    for (int i = 0; i < N; i++)
        assert_near_at(y[i] / exp(x[i]), 1, 4e-16, i);
    tl_kernel_tanh[TL_F64](N, in, y, NULL);
    for (int i = 0; i < N; i++)
        assert_near_at(y[i], tanh(x[i]), 4e-16, i);
    tl_kernel_sigmoid[TL_F64](N, in, y, NULL);
    for (int i = 0; i < N; i++)
        assert_near_at(y[i] / sigmoid(x[i]), 1, 8e-16, i);
}

/* The same whatever the position in a register: lengths 1..70 give the same bits as one by one. */
static void functions_do_not_depend_on_position(void **state)
{
    (void)state;
    enum { N = 70 };
    tl_kernel *const *kernels[] = {tl_kernel_exp, tl_kernel_tanh, tl_kernel_sigmoid};
    float x[N], y[N], one;
    dice d = dice_of(3);
    for (int i = 0; i < N; i++)
        x[i] = (float)dice_real(&d, -9, 9);
    for (int k = 0; k < COUNT_OF(kernels); k++)
        for (int n = 1; n <= N; n++) {
            const void *in[1] = {x};
            kernels[k][TL_F32](n, in, y, NULL);
            for (int i = 0; i < n; i++) {
                const void *single[1] = {&x[i]};
                kernels[k][TL_F32](1, single, &one, NULL);
                assert_true(ulps(y[i], (double)one) <=
                            1); /* a compiler may contract one and not the other */
            }
        }
}

static void special_numbers(void **state)
{
    (void)state;
    const double inf = INFINITY, huge = 1e30, tiny = 1e-42; /* denormal in f32 */
    const struct {
        const char *name;
        tl_kernel *const *kernel;
        double x, y;
    } cases[] = {
        {"exp", tl_kernel_exp, inf, inf},
        {"exp", tl_kernel_exp, -inf, 0},
        {"exp", tl_kernel_exp, huge, inf},
        {"exp", tl_kernel_exp, -huge, 0},
        {"exp", tl_kernel_exp, 0, 1},
        {"exp", tl_kernel_exp, tiny, 1},
        {"exp", tl_kernel_exp, NAN, NAN},
        {"tanh", tl_kernel_tanh, inf, 1},
        {"tanh", tl_kernel_tanh, -inf, -1},
        {"tanh", tl_kernel_tanh, huge, 1},
        {"tanh", tl_kernel_tanh, -huge, -1},
        {"tanh", tl_kernel_tanh, 0, 0},
        {"tanh", tl_kernel_tanh, NAN, NAN},
        {"sigmoid", tl_kernel_sigmoid, inf, 1},
        {"sigmoid", tl_kernel_sigmoid, -inf, 0},
        {"sigmoid", tl_kernel_sigmoid, huge, 1},
        {"sigmoid", tl_kernel_sigmoid, -huge, 0},
        {"sigmoid", tl_kernel_sigmoid, 0, 0.5},
        {"sigmoid", tl_kernel_sigmoid, tiny, 0.5},
        {"sigmoid", tl_kernel_sigmoid, NAN, NAN},
        {"log", tl_kernel_log, 0, -inf},
        {"log", tl_kernel_log, -1, NAN},
        {"log", tl_kernel_log, inf, inf},
        {"log", tl_kernel_log, 1, 0},
        {"relu", tl_kernel_relu, -inf, 0},
        {"relu", tl_kernel_relu, inf, inf},
        {"relu", tl_kernel_relu, NAN, NAN},
        {"relu", tl_kernel_relu, -0.5, 0},
        {"sign", tl_kernel_sign, inf, 1},
        {"sign", tl_kernel_sign, -inf, -1},
        {"sign", tl_kernel_sign, -tiny, -1},
        {"sign", tl_kernel_sign, 0, 0},
        {"sign", tl_kernel_sign, NAN, NAN},
        {"round", tl_kernel_round, 0.5, 0},
        {"round", tl_kernel_round, 1.5, 2},
        {"round", tl_kernel_round, -2.5, -2},
        {"round", tl_kernel_round, huge, huge},
        {"floor", tl_kernel_floor, -0.25, -1},
        {"ceil", tl_kernel_ceil, -0.25, 0},
        {"softplus", tl_kernel_softplus, 1000, 1000},
        {"softplus", tl_kernel_softplus, -1000, 0},
        {"logsigmoid", tl_kernel_logsigmoid, -1000, -1000},
        {"logsigmoid", tl_kernel_logsigmoid, 1000, 0},
        {"mish", tl_kernel_mish, 1000, 1000},
        {"mish", tl_kernel_mish, -1000, 0},
        {"silu", tl_kernel_silu, 1000, 1000},
        {"silu", tl_kernel_silu, -1000, 0},
        {"gelu", tl_kernel_gelu, 1000, 1000},
        {"gelu", tl_kernel_gelu, -1000, 0},
        {"sqrt", tl_kernel_sqrt, -1, NAN},
        {"rsqrt", tl_kernel_rsqrt, 0, inf},
        {"reciprocal", tl_kernel_reciprocal, 0, inf},
        {"log1p", tl_kernel_log1p, -1, -inf},
        {"expm1", tl_kernel_expm1, -inf, -1},
        {"erf", tl_kernel_erf, inf, 1},
        {"atan", tl_kernel_atan, 0, 0},
    };
    for (int c = 0; c < COUNT_OF(cases); c++) {
        enum { N = 19 }; /* registers and a rest */
        float x32[N], y32[N];
        double x64[N], y64[N];
        const void *in32[1] = {x32}, *in64[1] = {x64};
        for (int i = 0; i < N; i++) {
            x32[i] = (float)cases[c].x;
            x64[i] = cases[c].x;
        }
        cases[c].kernel[TL_F32](N, in32, y32, NULL);
        cases[c].kernel[TL_F64](N, in64, y64, NULL);
        for (int i = 0; i < N; i++) {
            check_near((double)y32[i], (double)(float)cases[c].y, 0, cases[c].name, c, __FILE__,
                       __LINE__);
            check_near(y64[i], cases[c].y, 0, cases[c].name, c, __FILE__, __LINE__);
        }
    }
}

/* tanh of a denormal is the denormal. */
static void tanh_keeps_tiny_numbers(void **state)
{
    (void)state;
    float x[5] = {1e-45f, -1e-45f, 1e-40f, -1.1754944e-38f, 1e-20f}, y[5];
    const void *in[1] = {x};
    tl_kernel_tanh[TL_F32](5, in, y, NULL);
    for (int i = 0; i < 5; i++)
        assert_same((double)y[i], (double)x[i]);
}

/* ---- the elementwise kernels against one line each -------------------------------------- */

static const struct {
    const char *name;
    int operands;
} kernels[] = {
#define X(name, operands) {#name, operands},
    TL_KERNEL_LIST(X)
#undef X
};

static tl_kernel *const *kernel_at(int index)
{
    tl_kernel *const *const pointers[] = {
#define X(name, operands) tl_kernel_##name,
        TL_KERNEL_LIST(X)
#undef X
    };
    return pointers[index];
}

static bool wants_positive(const char *name)
{
    return strstr("log log2 log1p sqrt rsqrt", name) != NULL;
}

static void every_kernel_computes_its_equation(void **state)
{
    (void)state;
    enum { N = 131 };
    const double scalar[2] = {-1.75, 0.375};
    dice d = dice_of(7);
    for (int k = 0; k < COUNT_OF(kernels); k++)
        for (int n = 0; n <= N; n += n < 20 ? 1 : 37) {
            const double probe[3] = {1, 0.5, 0.25};
            double expected;
            if (!elementwise_formula(kernels[k].name, probe, scalar, &expected)) {
                print_message("%s: no formula here\n", kernels[k].name);
                break;
            }
            double x[3][N + 1], y[N + 1];
            float x32[3][N + 1], y32[N + 1];
            const void *in[3] = {x[0], x[1], x[2]}, *in32[3] = {x32[0], x32[1], x32[2]};
            for (int i = 0; i < 3 * (N + 1); i++) {
                double low = wants_positive(kernels[k].name) ? 0.01 : -3;
                float *single = &x32[i / (N + 1)][i % (N + 1)];
                *single = (float)dice_real(&d, low, 3);
                x[i / (N + 1)][i % (N + 1)] = (double)*single;
            }
            y[n] = 77;
            y32[n] = 77;
            kernel_at(k)[TL_F64](n, in, y, scalar);
            kernel_at(k)[TL_F32](n, in32, y32, scalar);
            for (int i = 0; i < n; i++) {
                const double operands[3] = {x[0][i], x[1][i], x[2][i]};
                elementwise_formula(kernels[k].name, operands, scalar, &expected);
                check_near(y[i], expected, 1e-14, kernels[k].name, i, __FILE__, __LINE__);
                check_near((double)y32[i], expected, 2e-6, kernels[k].name, i, __FILE__, __LINE__);
            }
            assert_same(y[n], 77); /* and not one number more */
            assert_same((double)y32[n], 77);
        }
}

/* In place: y may be one of the x. */
static void kernels_work_in_place(void **state)
{
    (void)state;
    enum { N = 45 };
    const double scalar[2] = {-1.75, 0.375};
    for (int k = 0; k < COUNT_OF(kernels); k++)
        for (int own = 0; own < kernels[k].operands; own++) {
            double x[3][N], y[N];
            const void *in[3] = {x[0], x[1], x[2]};
            for (int i = 0; i < 3 * N; i++)
                x[i / N][i % N] = 0.1 + i % 17;
            kernel_at(k)[TL_F64](N, in, y, scalar);
            kernel_at(k)[TL_F64](N, in, x[own], scalar);
            for (int i = 0; i < N; i++)
                assert_same(x[own][i], y[i]);
        }
}

/* ---- maps ------------------------------------------------------------------------------- */

enum { DIMS = 4 };

/* A view of a larger tensor, sliced with steps, permuted, and expanded where `once` says so. */
static tl_tensor *any_view(dice *d, tl_dtype dtype, const int64_t *shape, const bool *once,
                           tl_tensor **whole)
{
    int order[DIMS] = {0, 1, 2, 3}, back[DIMS];
    for (int k = DIMS - 1; k > 0; k--) {
        int other = (int)dice_below(d, k + 1), own = order[k];
        order[k] = order[other];
        order[other] = own;
    }
    int64_t larger[DIMS], start[DIMS], step[DIMS], wanted[DIMS];
    bool plain =
        dice_below(d, 3) == 0; /* often enough nothing is skipped, and dimensions can be merged */
    for (int k = 0; k < DIMS; k++) {
        wanted[k] = once && once[order[k]] ? 1 : shape[order[k]];
        start[k] = plain ? 0 : dice_below(d, 2);
        step[k] = plain ? 1 : 1 + dice_below(d, 3);
        larger[k] = plain ? wanted[k] : start[k] + wanted[k] * step[k];
        back[order[k]] = k;
    }
    tl_tensor *view = *whole = random_tensor(d, dtype, DIMS, larger, -2, 2);
    tl_tensor_retain(view);
    for (int k = 0; k < DIMS; k++) {
        tl_tensor *part =
            tl_tensor_slice(view, k, start[k], start[k] + wanted[k] * step[k], step[k], NULL);
        assert_non_null(part);
        tl_tensor_release(view);
        view = part;
    }
    tl_tensor *turned = tl_tensor_permute(view, back, NULL);
    tl_tensor *wide = tl_tensor_expand(turned, DIMS, shape, NULL);
    tl_tensor_release(view);
    tl_tensor_release(turned);
    assert_non_null(wide);
    return wide;
}

static void any_shape(dice *d, int64_t *shape)
{
    static const int64_t sizes[] = {1, 1, 2, 3, 5, 0, 7, 4};
    int64_t longest = dice_below(d, 12) ? 0 : 300 + dice_below(d, 300); /* more than a tile at a time */
    for (int k = 0; k < DIMS; k++)
        shape[k] = sizes[dice_below(d, dice_below(d, 20) ? 5 : 8)];
    if (longest)
        shape[dice_below(d, DIMS)] = longest;
}

static double sum_of(const tl_tensor *x)
{
    double sum = 0;
    for (int64_t i = 0; i < x->layout.count; i++)
        sum += tl_tensor_get(x, i);
    return sum;
}

/* y = a + 2 b + 3 c + 4 d */
static void weighted_f64(int64_t n, const void *const *x, void *y, const double *scalar)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < TL_MAP_MOST; k++)
            sum += scalar[k] * ((const double *)x[k])[i];
        ((double *)y)[i] = sum;
    }
}

static void weighted_f32(int64_t n, const void *const *x, void *y, const double *scalar)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < TL_MAP_MOST; k++)
            sum += scalar[k] * (double)((const float *)x[k])[i];
        ((float *)y)[i] = (float)sum;
    }
}

static void map_meets_every_layout(void **state)
{
    (void)state;
    dice d = dice_of(21);
    const double scalar[TL_MAP_MOST] = {1, 2, 3, 4};
    for (int round = 0; round < 1500; round++) {
        int64_t shape[DIMS];
        any_shape(&d, shape);
        tl_dtype dtype = round % 2 ? TL_F32 : TL_F64;
        tl_tensor *x[TL_MAP_MOST], *x_whole[TL_MAP_MOST], *y_whole;
        tl_array in[TL_MAP_MOST];
        for (int k = 0; k < TL_MAP_MOST; k++) {
            bool once[DIMS];
            for (int j = 0; j < DIMS; j++)
                once[j] = dice_below(&d, 4) == 0;
            x[k] = any_view(&d, dtype, shape, once, &x_whole[k]);
            in[k] = tl_tensor_array(x[k]);
        }
        tl_tensor *y = any_view(&d, dtype, shape, NULL, &y_whole);
        double others = sum_of(y_whole) - sum_of(y);
        tl_map(dtype == TL_F32 ? weighted_f32 : weighted_f64, TL_MAP_MOST, in, tl_tensor_array(y),
               scalar);
        for (int64_t i = 0; i < y->layout.count; i++) {
            double expected = 0;
            for (int k = 0; k < TL_MAP_MOST; k++)
                expected += scalar[k] * tl_tensor_get(x[k], i);
            assert_near_at(tl_tensor_get(y, i), expected, dtype == TL_F32 ? 1e-6 : 1e-15, i);
        }
        assert_near(sum_of(y_whole) - sum_of(y), others, 1e-9); /* nothing beside y has changed */
        for (int k = 0; k < TL_MAP_MOST; k++) {
            tl_tensor_release(x[k]);
            tl_tensor_release(x_whole[k]);
        }
        tl_tensor_release(y);
        tl_tensor_release(y_whole);
    }
}

static void copy_and_add_meet_every_layout(void **state)
{
    (void)state;
    dice d = dice_of(22);
    for (int round = 0; round < 1000; round++) {
        int64_t shape[DIMS];
        any_shape(&d, shape);
        tl_dtype dtype = (tl_dtype)(round % 4);
        bool once[DIMS];
        for (int j = 0; j < DIMS; j++)
            once[j] = dice_below(&d, 4) == 0;
        tl_tensor *x_whole, *y_whole, *x = any_view(&d, dtype, shape, once, &x_whole);
        tl_tensor *y = any_view(&d, dtype, shape, NULL, &y_whole),
                  *before = tl_tensor_copy(y, dtype, NULL);
        double others = sum_of(y_whole) - sum_of(y);
        if (tl_dtype_is_real(dtype)) {
            tl_add_into(tl_tensor_array(x), tl_tensor_array(y));
            for (int64_t i = 0; i < y->layout.count; i++)
                assert_near_at(tl_tensor_get(y, i), tl_tensor_get(before, i) + tl_tensor_get(x, i),
                               1e-6, i);
        }
        tl_copy(tl_tensor_array(x), tl_tensor_array(y));
        for (int64_t i = 0; i < y->layout.count; i++)
            assert_same(tl_tensor_get(y, i), tl_tensor_get(x, i));
        assert_near(sum_of(y_whole) - sum_of(y), others, 1e-9);
        tl_tensor *all[] = {x, x_whole, y, y_whole, before};
        for (int k = 0; k < COUNT_OF(all); k++)
            tl_tensor_release(all[k]);
    }
}

/* y += x summed over what y lacks: against a walk over all elements of x. */
static void sum_into_meets_every_layout(void **state)
{
    (void)state;
    dice d = dice_of(23);
    for (int round = 0; round < 1500; round++) {
        int64_t shape[DIMS], small[DIMS];
        any_shape(&d, shape);
        tl_dtype dtype = round % 2 ? TL_F32 : TL_F64;
        int dropped = (int)dice_below(&d, 3); /* leading dimensions that y does not have at all */
        bool once[DIMS];
        for (int k = 0; k < DIMS; k++) {
            once[k] = dice_below(&d, 5) == 0;
            small[k] = k < dropped || dice_below(&d, 2) ? 1 : shape[k];
        }
        tl_tensor *x_whole, *y_whole, *x = any_view(&d, dtype, shape, once, &x_whole);
        tl_tensor *full = any_view(&d, dtype, small, NULL, &y_whole), *y = full;
        if (dropped)
            y = tl_tensor_reshape(full, DIMS - dropped, small + dropped, NULL);
        if (!y) { /* only a copy could have that shape */
            tl_tensor *copy = tl_tensor_copy(full, dtype, NULL);
            y = tl_tensor_reshape(copy, DIMS - dropped, small + dropped, NULL);
            tl_tensor_release(copy);
        }
        assert_non_null(y);
        double *expected = malloc((size_t)(y->layout.count + 1) * sizeof *expected);
        assert_non_null(expected);
        for (int64_t i = 0; i < y->layout.count; i++)
            expected[i] = tl_tensor_get(y, i);
        for (int64_t i = 0; i < x->layout.count; i++) {
            int64_t rest = i, index[DIMS], at = 0;
            for (int k = DIMS - 1; k >= 0; rest /= shape[k], k--)
                index[k] = rest % shape[k];
            for (int k = 0; k < DIMS; k++)
                at = at * small[k] + (small[k] == 1 ? 0 : index[k]);
            expected[at] += tl_tensor_get(x, i);
        }
        tl_sum_into(tl_tensor_array(x), tl_tensor_array(y));
        for (int64_t i = 0; i < y->layout.count; i++)
            assert_near_at(tl_tensor_get(y, i), expected[i], dtype == TL_F32 ? 2e-4 : 1e-12, i);
        free(expected);
        tl_tensor *all[] = {x, x_whole, full, y_whole, y != full ? y : NULL};
        for (int k = 0; k < COUNT_OF(all); k++)
            tl_tensor_release(all[k]);
    }
}

/* ---- runs ------------------------------------------------------------------------------- */

static void sums_are_kept_in_double(void **state)
{
    (void)state;
    enum { N = 100003 };
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    double sum = 0, squares = 0, strided = 0;
    for (int i = 0; i < N; i++) {
        x[i] = 1.0f + (float)(i % 97) * 1e-3f;
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        strided += i % 3 == 0 ? (double)x[i] : 0;
    }
    float y = 0.5f;
    tl_sum_run(TL_F32, N, x, 1, &y);
    assert_near((double)y, 0.5 + sum, 1e-7);
    y = 0;
    tl_sum_run(TL_F32, (N + 2) / 3, x, 3, &y);
    assert_near((double)y, strided, 1e-7);
    y = 0;
    tl_sum_run(TL_F32, 1000, x, 0, &y); /* one number, a thousand times */
    assert_same((double)y, 1000);
    assert_near(tl_sum_squares(TL_F32, N, x), squares, 1e-12);
    assert_same(tl_sum_squares(TL_F32, 0, x), 0);
    const double pair[2] = {3, -4};
    assert_same(tl_sum_squares(TL_F64, 2, pair), 25);
    double total = 1;
    tl_sum_run(TL_F64, 2, pair, 1, &total);
    assert_same(total, 0);
    free(x);
}

static void scale_scales(void **state)
{
    (void)state;
    double x[37];
    float x32[37];
    for (int i = 0; i < 37; i++)
        x32[i] = (float)(x[i] = i - 17);
    tl_scale(TL_F64, 36, x, -0.25);
    tl_scale(TL_F32, 36, x32, -0.25);
    for (int i = 0; i < 37; i++) {
        assert_same(x[i], i < 36 ? -0.25 * (i - 17) : 19);
        assert_same((double)x32[i], x[i]);
    }
}

static void softmax_rows(void **state)
{
    (void)state;
    const double rows[][5] = {{1, -2, 0.5, 3, -0.25},
                              {1e30, 1e30, -1e30, 0, 1e30},
                              {-1e30, -1e30, -1e30, -1e30, -1e30},
                              {1000, 1001, 999, 1000.5, -1000},
                              {-INFINITY, 0, 1, -INFINITY, 2},
                              {88, 89, 90, 500, 3.4e38}};
    for (int r = 0; r < COUNT_OF(rows); r++)
        for (int n = 1; n <= 5; n++) {
            double largest = -INFINITY, sum = 0, y[5];
            float x32[5], y32[5];
            for (int i = 0; i < n; i++) {
                x32[i] = (float)rows[r][i];
                largest = fmax(largest, rows[r][i]);
            }
            if (largest == -INFINITY)
                continue; /* no distribution at all: NaN */
            for (int i = 0; i < n; i++)
                sum += exp(rows[r][i] - largest);
            double top, top32, none;
            double rest = tl_softmax_row(TL_F64, n, rows[r], y, &top);
            double rest32 = tl_softmax_row(TL_F32, n, x32, y32, &top32);
            assert_same(top, largest);
            assert_same(top32, (double)(float)largest);
            assert_near_at(rest, log(sum), 1e-15, r);
            assert_near_at(rest32, log(sum), 1e-6, r);
            assert_near(tl_softmax_row(TL_F64, n, rows[r], NULL, &none), rest, 1e-15);
            assert_near(tl_softmax_row(TL_F32, n, x32, NULL, &none), rest32, 1e-7);
            for (int i = 0; i < n; i++) {
                assert_near_at(y[i], exp(rows[r][i] - largest) / sum, 1e-15, i);
                assert_near_at((double)y32[i], exp(rows[r][i] - largest) / sum, 1e-6, i);
            }
        }
    double x[3] = {1, NAN, 2}, y[3], top;
    tl_softmax_row(TL_F64, 3, x, y, &top);
    assert_true(isnan(y[0]) && isnan(y[1]) && isnan(y[2]));
}

static void long_softmax_rows_add_up_to_one(void **state)
{
    (void)state;
    enum { N = 30011 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_true(x && y);
    dice d = dice_of(9);
    for (int i = 0; i < N; i++)
        x[i] = (float)dice_real(&d, -3, 3);
    double sum = 0, top;
    tl_softmax_row(TL_F32, N, x, y, &top);
    for (int i = 0; i < N; i++)
        sum += (double)y[i];
    assert_near(sum, 1, 1e-6);
    free(x);
    free(y);
}

/* ---- optimisers ------------------------------------------------------------------------- */

static void sgd_step_is_its_formula(void **state)
{
    (void)state;
    enum { N = 41 };
    const double rate = 0.1, momentum = 0.9, decay = 0.01;
    double p[N], v[N], expected_p[N], expected_v[N];
    float p32[N], v32[N];
    for (int i = 0; i < N; i++) {
        p32[i] = (float)(p[i] = expected_p[i] = 0.3 * i - 5);
        v32[i] = (float)(v[i] = expected_v[i] = 0);
    }
    for (int step = 0; step < 4; step++) {
        double g[N];
        float g32[N];
        for (int i = 0; i < N; i++)
            g32[i] = (float)(g[i] = sin(i + 7.0 * step));
        tl_sgd_step(TL_F64, N - 1, p, g, v, rate, momentum, decay);
        tl_sgd_step(TL_F32, N - 1, p32, g32, v32, rate, momentum, decay);
        for (int i = 0; i < N; i++) {
            if (i < N - 1) {
                expected_v[i] = momentum * expected_v[i] + g[i] + decay * expected_p[i];
                expected_p[i] -= rate * expected_v[i];
            }
            assert_near_at(v[i], expected_v[i], 1e-15, i);
            assert_near_at(p[i], expected_p[i], 1e-15, i);
            assert_near_at((double)v32[i], expected_v[i], 1e-6, i);
            assert_near_at((double)p32[i], expected_p[i], 1e-6, i);
        }
    }
}

static void adam_step_is_algorithm_1(void **state)
{
    (void)state;
    enum { N = 41 };
    const double rate = 0.05, beta1 = 0.8, beta2 = 0.95, epsilon = 1e-6, decay = 0.02;
    double p[N], m[N] = {0}, v[N] = {0}, expected[N], em[N] = {0}, ev[N] = {0};
    float p32[N], m32[N] = {0}, v32[N] = {0};
    for (int i = 0; i < N; i++)
        p32[i] = (float)(p[i] = expected[i] = 0.3 * i - 5);
    for (int step = 1; step <= 4; step++) {
        double g[N], c1 = 1 - pow(beta1, step), c2 = 1 - pow(beta2, step);
        float g32[N];
        tl_adam_rates rates = {rate, beta1, beta2, epsilon, decay, c1, c2};
        for (int i = 0; i < N; i++)
            g32[i] = (float)(g[i] = cos(i + 7.0 * step));
        tl_adam_step(TL_F64, N, p, g, m, v, &rates);
        tl_adam_step(TL_F32, N, p32, g32, m32, v32, &rates);
        for (int i = 0; i < N; i++) {
            em[i] = beta1 * em[i] + (1 - beta1) * g[i];
            ev[i] = beta2 * ev[i] + (1 - beta2) * g[i] * g[i];
            expected[i] -= rate * decay * expected[i];
            expected[i] -= rate * (em[i] / c1) / (sqrt(ev[i] / c2) + epsilon);
            assert_near_at(p[i], expected[i], 1e-14, i);
            assert_near_at((double)p32[i], expected[i], 3e-6, i);
        }
    }
}

/* beta2 close to one: 1 - beta2 must not be rounded in f32. */
static void adam_in_f32_corrects_its_bias(void **state)
{
    (void)state;
    float p = 0, g = 1, m = 0, v = 0;
    tl_adam_rates rates = {1, 0.9, 0.999, 0, 0, 1 - 0.9, 1 - 0.999};
    tl_adam_step(TL_F32, 1, &p, &g, &m, &v, &rates);
    assert_near((double)p, -1, 1e-6); /* the first step is exactly the rate long */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_f32_is_accurate),
        cmocka_unit_test(tanh_f32_is_accurate),
        cmocka_unit_test(sigmoid_f32_is_accurate),
        cmocka_unit_test(f64_functions_are_libms),
        cmocka_unit_test(functions_do_not_depend_on_position),
        cmocka_unit_test(special_numbers),
        cmocka_unit_test(tanh_keeps_tiny_numbers),
        cmocka_unit_test(every_kernel_computes_its_equation),
        cmocka_unit_test(kernels_work_in_place),
        cmocka_unit_test(map_meets_every_layout),
        cmocka_unit_test(copy_and_add_meet_every_layout),
        cmocka_unit_test(sum_into_meets_every_layout),
        cmocka_unit_test(sums_are_kept_in_double),
        cmocka_unit_test(scale_scales),
        cmocka_unit_test(softmax_rows),
        cmocka_unit_test(long_softmax_rows_add_up_to_one),
        cmocka_unit_test(sgd_step_is_its_formula),
        cmocka_unit_test(adam_step_is_algorithm_1),
        cmocka_unit_test(adam_in_f32_corrects_its_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
