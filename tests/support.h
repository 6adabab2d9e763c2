/* support.h - what the tests share: numbers from a seed, comparisons that print both sides.
 *
 * Everything is static inline, so that each test takes what it needs. */
#ifndef TL_TESTS_SUPPORT_H
#define TL_TESTS_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tensor/tensor.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                             \
    __has_feature(memory_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#endif

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* Is this op to be tried? TL_TEST_OPS=name,name restricts the loops over all ops (see faults.py). */
static inline bool op_is_chosen(const char *name)
{
    const char *list = getenv("TL_TEST_OPS");
    size_t length = strlen(name);
    for (const char *next = list; next && *next; next += strcspn(next, ","), next += *next == ',')
        if (strncmp(next, name, length) == 0 && (next[length] == ',' || !next[length]))
            return true;
    return !list;
}

/* ---- dice ------------------------------------------------------------------------------- */

typedef struct dice {
    uint64_t state;
} dice;

static inline dice dice_of(uint64_t seed)
{
    return (dice){seed * 0x9e3779b97f4a7c15u + 1};
}

static inline uint32_t dice_bits(dice *d)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->state >> 32);
}

static inline int64_t dice_below(dice *d, int64_t sides) /* 0..sides-1 */
{
    return (int64_t)(dice_bits(d) % (uint64_t)sides);
}

static inline double dice_real(dice *d, double low, double high)
{
    return low + (high - low) * ((double)dice_bits(d) + 0.5) / 4294967296.0;
}

/* ---- numbers ---------------------------------------------------------------------------- */

static inline void check_near(double actual, double expected, double tolerance, const char *what,
                              int64_t at, const char *file, int line)
{
    bool alike = actual == expected || (isnan(actual) && isnan(expected));
    bool finite = isfinite(actual) && isfinite(expected); /* inf is near to nothing else */
    if (!alike && !(finite && fabs(actual - expected) <= tolerance * (1 + fabs(expected))))
        fail_msg("%s:%d: %s[%lld] is %+.17g, should be %+.17g (tolerance %g)", file, line, what,
                 (long long)at, actual, expected, tolerance);
}

/* |actual - expected| <= tolerance (1 + |expected|) */
#define assert_near(actual, expected, tolerance)                                                       \
    check_near((actual), (expected), (tolerance), #actual, 0, __FILE__, __LINE__)
#define assert_near_at(actual, expected, tolerance, at)                                                \
    check_near((actual), (expected), (tolerance), #actual, (at), __FILE__, __LINE__)
#define assert_same(actual, expected) assert_near((actual), (expected), 0)

/* ---- tensors ---------------------------------------------------------------------------- */

static inline tl_tensor *tensor_of(tl_dtype dtype, int ndim, const int64_t *shape, const double *values)
{
    tl_tensor *x = tl_tensor_empty(dtype, ndim, shape, NULL);
    assert_non_null(x);
    for (int64_t i = 0; i < x->layout.count; i++)
        tl_tensor_set(x, i, values[i]);
    return x;
}

static inline tl_tensor *random_tensor(dice *d, tl_dtype dtype, int ndim, const int64_t *shape,
                                       double low, double high)
{
    tl_tensor *x = tl_tensor_empty(dtype, ndim, shape, NULL);
    assert_non_null(x);
    for (int64_t i = 0; i < x->layout.count; i++)
        tl_tensor_set(x, i, dice_real(d, low, high));
    return x;
}

static inline tl_tensor *zeros_like(const tl_tensor *x)
{
    tl_tensor *zeros = tl_tensor_zeros(x->dtype, x->layout.ndim, x->layout.shape, NULL);
    assert_non_null(zeros);
    return zeros;
}

static inline void check_tensors(const tl_tensor *actual, const tl_tensor *expected, double tolerance,
                                 const char *what, const char *file, int line)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    if (!tl_layout_same_shape(&actual->layout, &expected->layout))
        fail_msg("%s:%d: %s is %s, should be %s", file, line, what, tl_layout_text(&actual->layout, a),
                 tl_layout_text(&expected->layout, b));
    for (int64_t i = 0; i < actual->layout.count; i++)
        check_near(tl_tensor_get(actual, i), tl_tensor_get(expected, i), tolerance, what, i, file,
                   line);
}

#define assert_tensors(actual, expected, tolerance)                                                    \
    check_tensors((actual), (expected), (tolerance), #actual, __FILE__, __LINE__)

#define REALS(...)                                                                                     \
    (const double[])                                                                                   \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }

/* ---- tapes ------------------------------------------------------------------------------ */

static inline void check_ok(const tl_tape *t, const char *file, int line)
{
    if (tl_tape_status(t) != TL_OK)
        fail_msg("%s:%d: %s: %s", file, line, tl_status_text(tl_tape_status(t)), tl_tape_message(t));
}

#define assert_ok(t) check_ok((t), __FILE__, __LINE__)

/* The error and its whole message; the tape is reset. */
static inline void check_error(tl_tape *t, tl_status status, const char *message, const char *file,
                               int line)
{
    if (tl_tape_status(t) != status || strcmp(tl_tape_message(t), message) != 0)
        fail_msg("%s:%d: status %d \"%s\"\n      should be %d \"%s\"", file, line, tl_tape_status(t),
                 tl_tape_message(t), status, message);
    tl_tape_reset(t);
    assert_int_equal(tl_tape_status(t), TL_OK);
    assert_string_equal(tl_tape_message(t), "");
}

#define assert_error(t, status, message) check_error((t), (status), (message), __FILE__, __LINE__)

/* The value of a variable as a tensor to be released; never NULL. */
static inline tl_tensor *check_value(tl_tape *t, tl_var v, const char *file, int line)
{
    tl_tensor *value = tl_value_copy(t, v);
    if (!value)
        fail_msg("%s:%d: no value: %s", file, line, tl_tape_message(t));
    return value;
}

#define value_of(t, v) check_value((t), (v), __FILE__, __LINE__)

static inline double item_at(tl_tape *t, tl_var v, int64_t i)
{
    tl_tensor *value = value_of(t, v);
    double x = tl_tensor_get(value, i);
    tl_tensor_release(value);
    return x;
}

static inline void check_value_near(tl_tape *t, tl_var v, const double *expected, double tolerance,
                                    const char *what, const char *file, int line)
{
    tl_tensor *value = check_value(t, v, file, line);
    for (int64_t i = 0; i < value->layout.count; i++)
        check_near(tl_tensor_get(value, i), expected[i], tolerance, what, i, file, line);
    tl_tensor_release(value);
}

#define assert_value(t, v, expected, tolerance)                                                        \
    check_value_near((t), (v), (expected), (tolerance), #v, __FILE__, __LINE__)

static inline void check_vars(tl_tape *t, tl_var actual, tl_var expected, double tolerance,
                              const char *what, const char *file, int line)
{
    tl_tensor *a = check_value(t, actual, file, line), *b = check_value(t, expected, file, line);
    check_tensors(a, b, tolerance, what, file, line);
    tl_tensor_release(a);
    tl_tensor_release(b);
}

#define assert_vars(t, actual, expected, tolerance)                                                    \
    check_vars((t), (actual), (expected), (tolerance), #actual, __FILE__, __LINE__)

static inline void check_shape(tl_tape *t, tl_var v, const char *shape, const char *file, int line)
{
    char text[TL_LAYOUT_TEXT];
    tl_array a = tl_value(t, v);
    if (!a.layout)
        fail_msg("%s:%d: no value: %s", file, line, tl_tape_message(t));
    if (strcmp(tl_layout_text(a.layout, text), shape) != 0)
        fail_msg("%s:%d: shape is %s, should be %s", file, line, text, shape);
}

#define assert_shape(t, v, shape) check_shape((t), (v), (shape), __FILE__, __LINE__)

/* A constant with the numbers of an expression list: constant(t, TL_SHAPE(2, 3), REALS(...)). */
static inline tl_var constant_f64(tl_tape *t, int ndim, const int64_t *shape, const double *values)
{
    return tl_constant_from(t, TL_F64, ndim, shape, values);
}

/* ---- elementwise ops, by name ----------------------------------------------------------- */

/* f(x[0], x[1], x[2]) with the constants c; false for a name that is not known here. */
static inline bool elementwise_formula(const char *name, const double *x, const double *c, double *y)
{
    const double a = x[0], b = x[1], w = x[2], sigmoid = 1 / (1 + exp(-a));
    const struct {
        const char *name;
        double y;
    } formulas[] = {
        {"neg", -a},
        {"abs", fabs(a)},
        {"sign", isnan(a) ? a
                 : a > 0  ? 1
                 : a < 0  ? -1
                          : 0},
        {"reciprocal", 1 / a},
        {"square", a * a},
        {"sqrt", sqrt(a)},
        {"rsqrt", pow(a, -0.5)},
        {"exp", exp(a)},
        {"expm1", expm1(a)},
        {"log", log(a)},
        {"log1p", log1p(a)},
        {"log2", log(a) / log(2)},
        {"sin", sin(a)},
        {"cos", cos(a)},
        {"tan", sin(a) / cos(a)},
        {"atan", atan2(a, 1)},
        {"sinh", (exp(a) - exp(-a)) / 2},
        {"cosh", (exp(a) + exp(-a)) / 2},
        {"erf", 1 - erfc(a)},
        {"floor", floor(a)},
        {"ceil", -floor(-a)},
        {"round", nearbyint(a)},
        {"affine", c[0] * a + c[1]},
        {"sigmoid", sigmoid},
        {"tanh", tanh(a)},
        {"relu", fmax(a, 0)},
        {"step", a > 0},
        {"softplus", log(1 + exp(a))},
        {"logsigmoid", log(sigmoid)},
        {"silu", a * sigmoid},
        {"mish", a * tanh(log(1 + exp(a)))},
        {"gelu", a * erfc(-a / sqrt(2)) / 2},
        {"softsign", a / (1 + fabs(a))},
        {"leaky_relu", a > 0 ? a : c[0] * a},
        {"elu", a > 0 ? a : c[0] * (exp(a) - 1)},
        {"clamp", fmin(fmax(a, c[0]), c[1])},
        {"between", c[0] <= a && a <= c[1]},
        {"add", a + b},
        {"sub", a - b},
        {"mul", a * b},
        {"div", a / b},
        {"maximum", fmax(a, b)},
        {"minimum", fmin(a, b)},
        {"atan2", 2 * atan(a / (sqrt(a * a + b * b) + b))}, /* half the angle; not on the cut */
        {"hypot", sqrt(a * a + b * b)},
        {"relu_grad", b > 0 ? a : 0},
        {"tanh_grad", a * (1 - b * b)},
        {"sigmoid_grad", a * b * (1 - b)},
        {"lerp", (1 - w) * a + w * b},
    };
    for (int k = 0; k < COUNT_OF(formulas); k++)
        if (strcmp(name, formulas[k].name) == 0) {
            *y = formulas[k].y;
            return true;
        }
    return false;
}

#endif
