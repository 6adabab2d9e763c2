/* op_arithmetic.c - functions of two and three numbers: y_i = f(a_i, b_i, ...), with NumPy's
 * broadcasting.
 *
 * `partial` returns g dy/dx_k, in the shape of y; backward sums it over what was broadcast. */
#include "autograd/ops.h"
#include "tensor/kernels.h"

/* Operands for the checks: two that broadcast against each other, in both directions. */
#define TWO_REALS                                                                                      \
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 0, 0}},                             \
        {2, {{3, {2, 1, 4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}}, {{0}, {0}, 0, 0}},                      \
    {                                                                                                  \
        2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 4}, -2, 2, 0}},                                             \
        {                                                                                              \
            {0}, {0}, 0, 0                                                                             \
        }                                                                                              \
    }

static const tl_sample two_reals[] = {TWO_REALS, TL_SAMPLES_END};

static tl_var apply2(tl_tape *t, const tl_op *op, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, op, 2, in, NULL);
}

/* ---- add: y = a + b --------------------------------------------------------------------- */

static tl_var add_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k;
    return g;
}

const tl_op tl_op_add = {.name = "add",
                         .equation = "y = a + b",
                         .kind = TL_ELEMENTWISE,
                         .least = 2,
                         .most = 2,
                         .kernel = tl_kernel_add,
                         .partial = add_partial,
                         .samples = two_reals};

tl_var tl_add(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_add, a, b);
}

/* ---- sub: y = a - b --------------------------------------------------------------------- */

static tl_var sub_partial(const tl_call *c, int k, tl_var g)
{
    return k == 0 ? g : tl_neg(c->tape, g);
}

const tl_op tl_op_sub = {.name = "sub",
                         .equation = "y = a - b",
                         .kind = TL_ELEMENTWISE,
                         .least = 2,
                         .most = 2,
                         .kernel = tl_kernel_sub,
                         .partial = sub_partial,
                         .samples = two_reals};

tl_var tl_sub(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_sub, a, b);
}

/* ---- mul: y = a b ----------------------------------------------------------------------- */

static tl_var mul_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, c->in[1 - k]);
}

const tl_op tl_op_mul = {.name = "mul",
                         .equation = "y = a b",
                         .kind = TL_ELEMENTWISE,
                         .least = 2,
                         .most = 2,
                         .kernel = tl_kernel_mul,
                         .partial = mul_partial,
                         .samples = two_reals};

tl_var tl_mul(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_mul, a, b);
}

/* ---- div: y = a / b --------------------------------------------------------------------- */

static tl_var div_partial(const tl_call *c, int k, tl_var g)
{
    tl_var quotient = tl_div(c->tape, g, c->in[1]); /* dy/da = 1/b;  dy/db = -y/b */
    return k == 0 ? quotient : tl_neg(c->tape, tl_mul(c->tape, quotient, c->out));
}

static const tl_sample div_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0.5, 2, 0}}, {{0}, {0}, 0, 0}},
    {2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 4}, -2, -0.5, 0}}, {{0}, {0}, 0, 0}},
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 1}, 0.5, 2, 0}}, {{0}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_div = {.name = "div",
                         .equation = "y = a / b",
                         .kind = TL_ELEMENTWISE,
                         .least = 2,
                         .most = 2,
                         .kernel = tl_kernel_div,
                         .partial = div_partial,
                         .samples = div_samples};

tl_var tl_div(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_div, a, b);
}

/* Operands that stay clear of each other, and of the origin. */
static const tl_sample apart[] = {{2, {{2, {3, 4}, -2, -0.2, 0}, {2, {3, 4}, 0.2, 2, 0}}, TL_NO_ATTR},
                                  {2, {{3, {2, 1, 4}, 1.5, 2, 0}, {2, {3, 1}, 0.2, 1, 0}}, TL_NO_ATTR},
                                  {2, {{1, {4}, -3, -2, 0}, {3, {2, 3, 4}, -1, -0.2, 0}}, TL_NO_ATTR},
                                  TL_SAMPLES_END};

/* ---- maximum: y = max(a, b);  at a tie each gets half of g, as in PyTorch --------------- */

/* [a_k > a_other] + [a_k = a_other] / 2; with masks, as infinities have no difference. */
static tl_var maximum_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var own = c->in[k], other = c->in[1 - k];
    tl_var shared = tl_where(t, tl_eq(t, own, other), tl_affine(t, g, 0.5, 0), g);
    return tl_masked_fill(t, shared, tl_lt(t, own, other), 0);
}

const tl_op tl_op_maximum = {.name = "maximum",
                             .equation = "y = max(a, b)",
                             .kind = TL_ELEMENTWISE,
                             .least = 2,
                             .most = 2,
                             .kernel = tl_kernel_maximum,
                             .partial = maximum_partial,
                             .samples = apart};

tl_var tl_maximum(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_maximum, a, b);
}

/* ---- minimum: y = min(a, b);  at a tie each gets half of g, as in PyTorch --------------- */

static tl_var minimum_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var own = c->in[k], other = c->in[1 - k];
    tl_var shared = tl_where(t, tl_eq(t, own, other), tl_affine(t, g, 0.5, 0), g);
    return tl_masked_fill(t, shared, tl_gt(t, own, other), 0);
}

const tl_op tl_op_minimum = {.name = "minimum",
                             .equation = "y = min(a, b)",
                             .kind = TL_ELEMENTWISE,
                             .least = 2,
                             .most = 2,
                             .kernel = tl_kernel_minimum,
                             .partial = minimum_partial,
                             .samples = apart};

tl_var tl_minimum(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_minimum, a, b);
}

/* ---- atan2: y = the angle of (b, a);  dy/da = b / (a a + b b), dy/db = -a / (a a + b b), both 0 at
 *     the origin --------------------------------------------------------------------------- */

static tl_var atan2_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var square = tl_add(t, tl_square(t, c->in[0]), tl_square(t, c->in[1]));
    square = tl_masked_fill(t, square, tl_eq_scalar(t, square, 0), 1);
    tl_var slope = tl_div(t, c->in[1 - k], square);
    return tl_mul(t, g, k == 0 ? slope : tl_neg(t, slope));
}

const tl_op tl_op_atan2 = {.name = "atan2",
                           .equation = "y = the angle of (b, a)",
                           .kind = TL_ELEMENTWISE,
                           .least = 2,
                           .most = 2,
                           .kernel = tl_kernel_atan2,
                           .partial = atan2_partial,
                           .samples = apart};

tl_var tl_atan2(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_atan2, a, b);
}

/* ---- hypot: y = sqrt(a a + b b);  dy/da = a / y, dy/db = b / y -------------------------- */

static tl_var hypot_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_div(c->tape, c->in[k], c->out));
}

const tl_op tl_op_hypot = {.name = "hypot",
                           .equation = "y = sqrt(a a + b b)",
                           .kind = TL_ELEMENTWISE,
                           .least = 2,
                           .most = 2,
                           .kernel = tl_kernel_hypot,
                           .partial = hypot_partial,
                           .samples = apart};

tl_var tl_hypot(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_hypot, a, b);
}

/* ---- lerp: y = a + w (b - a) ------------------------------------------------------------ */

static tl_var lerp_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    if (k == 0) /* dy/da = 1 - w */
        return tl_sub(t, g, tl_mul(t, g, c->in[2]));
    if (k == 1) /* dy/db = w */
        return tl_mul(t, g, c->in[2]);
    return tl_mul(t, g, tl_sub(t, c->in[1], c->in[0])); /* dy/dw = b - a */
}

static const tl_sample lerp_samples[] = {
    {3, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0, 1, 0}}, {{0}, {0}, 0, 0}},
    {3, {{1, {4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}, {3, {2, 1, 1}, 0, 1, 0}}, {{0}, {0}, 0, 0}},
    {3, {{3, {2, 3, 4}, -2, 2, 0}, {0, {0}, -2, 2, 0}, {1, {4}, -1, 2, 0}}, {{0}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_lerp = {.name = "lerp",
                          .equation = "y = a + w (b - a)",
                          .kind = TL_ELEMENTWISE,
                          .least = 3,
                          .most = 3,
                          .kernel = tl_kernel_lerp,
                          .partial = lerp_partial,
                          .samples = lerp_samples};

tl_var tl_lerp(tl_tape *t, tl_var a, tl_var b, tl_var w)
{
    tl_var in[3] = {a, b, w};
    return tl_apply(t, &tl_op_lerp, 3, in, NULL);
}

/* ---- addcmul: y = a + value b c;  f[0] = value ------------------------------------------ */

static tl_var addcmul_partial(const tl_call *c, int k, tl_var g)
{
    if (k == 0)
        return g;
    return tl_affine(c->tape, tl_mul(c->tape, g, c->in[3 - k]), c->attr->f[0], 0);
}

static const tl_sample addcmul_samples[] = {
    {3, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{0}, {-1.5, 0}, 0, 0}},
    {3, {{1, {4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}, {3, {2, 1, 1}, -2, 2, 0}}, {{0}, {0.5, 0}, 0, 0}},
    {3, {{3, {2, 3, 4}, -2, 2, 0}, {0, {0}, -2, 2, 0}, {1, {4}, -2, 2, 0}}, {{0}, {1, 0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_addcmul = {.name = "addcmul",
                             .equation = "y = a + value b c",
                             .kind = TL_ELEMENTWISE,
                             .attributes = "value=f0",
                             .least = 3,
                             .most = 3,
                             .kernel = tl_kernel_addcmul,
                             .partial = addcmul_partial,
                             .samples = addcmul_samples};

tl_var tl_addcmul(tl_tape *t, tl_var a, tl_var b, tl_var c, double value)
{
    tl_var in[3] = {a, b, c};
    return tl_apply(t, &tl_op_addcmul, 3, in, &(tl_attr){.f = {value, 0}});
}

/* ---- pow: y = a^b;  dy/da = b a^(b-1), 0 where b = 0;  dy/db = y log a, 0 where a = 0 <= b.
 *     Operands for which a factor would be infinite beside a zero are replaced before, so that the
 *     second derivative is not NaN either ---------------------------------------------------- */

static tl_var pow_partial_base(const tl_call *c, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var a = c->in[0], b = c->in[1];
    tl_var smooth = tl_logical_and(t, tl_gt_scalar(t, a, 0), tl_isfinite(t, tl_reciprocal(t, a)));
    tl_var flat = tl_logical_and(t, tl_eq_scalar(t, b, 0), tl_logical_not(t, smooth));
    tl_var power = tl_pow(t, tl_masked_fill(t, a, flat, 1), tl_affine(t, b, 1, -1));
    return tl_masked_fill(t, tl_mul(t, g, tl_mul(t, b, power)), flat, 0);
}

static tl_var pow_partial_exponent(const tl_call *c, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var a = c->in[0], b = c->in[1];
    tl_var flat = tl_logical_and(t, tl_eq_scalar(t, a, 0), tl_ge_scalar(t, b, 0));
    tl_var log = tl_log(t, tl_masked_fill(t, a, flat, 1));
    return tl_masked_fill(t, tl_mul(t, g, tl_mul(t, c->out, log)), flat, 0);
}

static tl_var pow_partial(const tl_call *c, int k, tl_var g)
{
    return k == 0 ? pow_partial_base(c, g) : pow_partial_exponent(c, g);
}

static const tl_sample pow_samples[] = {
    {2, {{2, {3, 4}, 0.3, 2, 0}, {2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
    {2, {{3, {2, 1, 4}, 0.3, 2, 0}, {2, {3, 1}, -2, 2, 0}}, TL_NO_ATTR},
    {2, {{1, {4}, 0.3, 2, 0}, {3, {2, 3, 4}, 0.5, 3, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_pow = {.name = "pow",
                         .equation = "y = a^b",
                         .kind = TL_ELEMENTWISE,
                         .least = 2,
                         .most = 2,
                         .kernel = tl_kernel_pow,
                         .partial = pow_partial,
                         .samples = pow_samples};

tl_var tl_pow(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_pow, a, b);
}
