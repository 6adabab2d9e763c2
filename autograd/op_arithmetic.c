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
                                  TL_SAMPLES_END};

/* ---- maximum: y = max(a, b);  at a tie each gets half of g, as in PyTorch --------------- */

static tl_var maximum_partial(const tl_call *c, int k, tl_var g)
{
    /* [a > b] + [a = b] / 2, and the same with a and b exchanged */
    tl_var sign = tl_sign(c->tape, tl_sub(c->tape, c->in[k], c->in[1 - k]));
    return tl_mul(c->tape, g, tl_affine(c->tape, sign, 0.5, 0.5));
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
    tl_var sign = tl_sign(c->tape, tl_sub(c->tape, c->in[1 - k], c->in[k]));
    return tl_mul(c->tape, g, tl_affine(c->tape, sign, 0.5, 0.5));
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

/* ---- atan2: y = the angle of (b, a);  dy/da = b / (a a + b b), dy/db = -a / (a a + b b) ---- */

static tl_var atan2_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var square = tl_add(t, tl_square(t, c->in[0]), tl_square(t, c->in[1]));
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
