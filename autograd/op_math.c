/* op_math.c - functions of one number: y_i = f(x_i).
 *
 * `partial` returns g dy/dx. As the Jacobian is diagonal, the same line serves backward, where g is
 * the gradient of y, and forward mode, where g is the tangent of x. */
#include "autograd/ops.h"
#include "tensor/kernels.h"

static const tl_sample any_real[] = {{1, {{2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
                                     {1, {{0, {0}, -2, 2, 0}}, TL_NO_ATTR},
                                     {1, {{3, {2, 1, 5}, -4, 4, 0}}, TL_NO_ATTR},
                                     TL_SAMPLES_END};
static const tl_sample positive[] = {{1, {{2, {3, 4}, 0.2, 3, 0}}, TL_NO_ATTR},
                                     {1, {{0, {0}, 2, 9, 0}}, TL_NO_ATTR},
                                     {1, {{3, {2, 1, 5}, 0.3, 20, 0}}, TL_NO_ATTR},
                                     TL_SAMPLES_END};
static const tl_sample small[] = {{1, {{2, {3, 4}, -1, 1, 0}}, TL_NO_ATTR},
                                  {1, {{0, {0}, 0.5, 1.2, 0}}, TL_NO_ATTR},
                                  {1, {{3, {2, 1, 5}, -1.2, 0, 0}}, TL_NO_ATTR},
                                  TL_SAMPLES_END};
/* Clear of kinks and steps, which whole and half numbers are. */
static const tl_sample away_from_zero[] = {{1, {{2, {3, 4}, -0.9, -0.1, 0}}, TL_NO_ATTR},
                                           {1, {{2, {3, 4}, 0.6, 0.9, 0}}, TL_NO_ATTR},
                                           {1, {{3, {2, 1, 5}, 5.1, 5.4, 0}}, TL_NO_ATTR},
                                           TL_SAMPLES_END};

/* ---- neg: y = -x;  dy/dx = -1 ----------------------------------------------------------- */

static tl_var neg_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_neg(c->tape, g);
}

const tl_op tl_op_neg = {.name = "neg",
                         .equation = "y = -x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_neg,
                         .partial = neg_partial,
                         .samples = any_real};

tl_var tl_neg(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_neg, 1, &x, NULL);
}

/* ---- abs: y = |x|;  dy/dx = sign x, 0 at 0 ---------------------------------------------- */

static tl_var abs_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_sign(c->tape, c->in[k]));
}

const tl_op tl_op_abs = {.name = "abs",
                         .equation = "y = |x|",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_abs,
                         .partial = abs_partial,
                         .samples = away_from_zero};

tl_var tl_abs(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_abs, 1, &x, NULL);
}

/* ---- sign: y = sign x;  0 at 0, NaN for NaN; dy/dx = 0 ---------------------------------- */

static tl_var sign_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_sign = {.name = "sign",
                          .equation = "y = sign x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_sign,
                          .partial = sign_partial,
                          .samples = away_from_zero};

tl_var tl_sign(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_sign, 1, &x, NULL);
}

/* ---- reciprocal: y = 1 / x;  dy/dx = -y y ----------------------------------------------- */

static tl_var reciprocal_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_neg(c->tape, tl_mul(c->tape, g, tl_square(c->tape, c->out)));
}

const tl_op tl_op_reciprocal = {.name = "reciprocal",
                                .equation = "y = 1 / x",
                                .kind = TL_ELEMENTWISE,
                                .least = 1,
                                .most = 1,
                                .kernel = tl_kernel_reciprocal,
                                .partial = reciprocal_partial,
                                .samples = positive};

tl_var tl_reciprocal(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_reciprocal, 1, &x, NULL);
}

/* ---- square: y = x x;  dy/dx = 2 x ------------------------------------------------------ */

static tl_var square_partial(const tl_call *c, int k, tl_var g)
{
    return tl_affine(c->tape, tl_mul(c->tape, g, c->in[k]), 2, 0);
}

const tl_op tl_op_square = {.name = "square",
                            .equation = "y = x x",
                            .kind = TL_ELEMENTWISE,
                            .least = 1,
                            .most = 1,
                            .kernel = tl_kernel_square,
                            .partial = square_partial,
                            .samples = any_real};

tl_var tl_square(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_square, 1, &x, NULL);
}

/* ---- sqrt: y = sqrt x;  dy/dx = 1 / (2 y) ----------------------------------------------- */

static tl_var sqrt_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_affine(c->tape, tl_div(c->tape, g, c->out), 0.5, 0);
}

const tl_op tl_op_sqrt = {.name = "sqrt",
                          .equation = "y = sqrt x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_sqrt,
                          .partial = sqrt_partial,
                          .samples = positive};

tl_var tl_sqrt(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_sqrt, 1, &x, NULL);
}

/* ---- rsqrt: y = 1 / sqrt x;  dy/dx = -y^3 / 2 ------------------------------------------- */

static tl_var rsqrt_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    tl_var cube = tl_mul(c->tape, c->out, tl_square(c->tape, c->out));
    return tl_affine(c->tape, tl_mul(c->tape, g, cube), -0.5, 0);
}

const tl_op tl_op_rsqrt = {.name = "rsqrt",
                           .equation = "y = 1 / sqrt x",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_rsqrt,
                           .partial = rsqrt_partial,
                           .samples = positive};

tl_var tl_rsqrt(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_rsqrt, 1, &x, NULL);
}

/* ---- exp: y = exp x;  dy/dx = y --------------------------------------------------------- */

static tl_var exp_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_mul(c->tape, g, c->out);
}

const tl_op tl_op_exp = {.name = "exp",
                         .equation = "y = exp x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_exp,
                         .partial = exp_partial,
                         .samples = any_real};

tl_var tl_exp(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_exp, 1, &x, NULL);
}

/* ---- expm1: y = exp x - 1;  dy/dx = y + 1 ----------------------------------------------- */

static tl_var expm1_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_mul(c->tape, g, tl_affine(c->tape, c->out, 1, 1));
}

const tl_op tl_op_expm1 = {.name = "expm1",
                           .equation = "y = exp x - 1",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_expm1,
                           .partial = expm1_partial,
                           .samples = any_real};

tl_var tl_expm1(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_expm1, 1, &x, NULL);
}

/* ---- log: y = log x;  dy/dx = 1 / x ----------------------------------------------------- */

static tl_var log_partial(const tl_call *c, int k, tl_var g)
{
    return tl_div(c->tape, g, c->in[k]);
}

const tl_op tl_op_log = {.name = "log",
                         .equation = "y = log x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_log,
                         .partial = log_partial,
                         .samples = positive};

tl_var tl_log(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_log, 1, &x, NULL);
}

/* ---- log1p: y = log(1 + x);  dy/dx = 1 / (1 + x) ---------------------------------------- */

static tl_var log1p_partial(const tl_call *c, int k, tl_var g)
{
    return tl_div(c->tape, g, tl_affine(c->tape, c->in[k], 1, 1));
}

const tl_op tl_op_log1p = {.name = "log1p",
                           .equation = "y = log(1 + x)",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_log1p,
                           .partial = log1p_partial,
                           .samples = positive};

tl_var tl_log1p(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_log1p, 1, &x, NULL);
}

/* ---- log2: y = log x / log 2;  dy/dx = 1 / (x log 2) ------------------------------------ */

static tl_var log2_partial(const tl_call *c, int k, tl_var g)
{
    return tl_affine(c->tape, tl_div(c->tape, g, c->in[k]), 1.4426950408889634, 0);
}

const tl_op tl_op_log2 = {.name = "log2",
                          .equation = "y = log x / log 2",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_log2,
                          .partial = log2_partial,
                          .samples = positive};

tl_var tl_log2(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_log2, 1, &x, NULL);
}

/* ---- sin: y = sin x;  dy/dx = cos x ----------------------------------------------------- */

static tl_var sin_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_cos(c->tape, c->in[k]));
}

const tl_op tl_op_sin = {.name = "sin",
                         .equation = "y = sin x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_sin,
                         .partial = sin_partial,
                         .samples = any_real};

tl_var tl_sin(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_sin, 1, &x, NULL);
}

/* ---- cos: y = cos x;  dy/dx = -sin x ---------------------------------------------------- */

static tl_var cos_partial(const tl_call *c, int k, tl_var g)
{
    return tl_neg(c->tape, tl_mul(c->tape, g, tl_sin(c->tape, c->in[k])));
}

const tl_op tl_op_cos = {.name = "cos",
                         .equation = "y = cos x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_cos,
                         .partial = cos_partial,
                         .samples = any_real};

tl_var tl_cos(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_cos, 1, &x, NULL);
}

/* ---- tan: y = tan x;  dy/dx = 1 + y y --------------------------------------------------- */

static tl_var tan_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_mul(c->tape, g, tl_affine(c->tape, tl_square(c->tape, c->out), 1, 1));
}

const tl_op tl_op_tan = {.name = "tan",
                         .equation = "y = tan x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_tan,
                         .partial = tan_partial,
                         .samples = small};

tl_var tl_tan(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_tan, 1, &x, NULL);
}

/* ---- atan: y = atan x;  dy/dx = 1 / (1 + x x) ------------------------------------------- */

static tl_var atan_partial(const tl_call *c, int k, tl_var g)
{
    return tl_div(c->tape, g, tl_affine(c->tape, tl_square(c->tape, c->in[k]), 1, 1));
}

const tl_op tl_op_atan = {.name = "atan",
                          .equation = "y = atan x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_atan,
                          .partial = atan_partial,
                          .samples = any_real};

tl_var tl_atan(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_atan, 1, &x, NULL);
}

/* ---- sinh: y = sinh x;  dy/dx = cosh x -------------------------------------------------- */

static tl_var sinh_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_cosh(c->tape, c->in[k]));
}

const tl_op tl_op_sinh = {.name = "sinh",
                          .equation = "y = sinh x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_sinh,
                          .partial = sinh_partial,
                          .samples = any_real};

tl_var tl_sinh(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_sinh, 1, &x, NULL);
}

/* ---- cosh: y = cosh x;  dy/dx = sinh x -------------------------------------------------- */

static tl_var cosh_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_sinh(c->tape, c->in[k]));
}

const tl_op tl_op_cosh = {.name = "cosh",
                          .equation = "y = cosh x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_cosh,
                          .partial = cosh_partial,
                          .samples = any_real};

tl_var tl_cosh(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_cosh, 1, &x, NULL);
}

/* ---- erf: y = 2/sqrt(pi) times the integral of exp(-s s) from 0 to x; dy/dx = 2/sqrt(pi)
 *     exp(-x x) ---------------------------------------------------------------------------- */

static tl_var erf_partial(const tl_call *c, int k, tl_var g)
{
    tl_var bell = tl_exp(c->tape, tl_neg(c->tape, tl_square(c->tape, c->in[k])));
    return tl_affine(c->tape, tl_mul(c->tape, g, bell), 1.1283791670955126, 0);
}

const tl_op tl_op_erf = {.name = "erf",
                         .equation = "y = 2/sqrt(pi) times the integral of exp(-s s) from 0 to x",
                         .kind = TL_ELEMENTWISE,
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_erf,
                         .partial = erf_partial,
                         .samples = any_real};

tl_var tl_erf(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_erf, 1, &x, NULL);
}

/* ---- floor: y = floor x;  dy/dx = 0 ----------------------------------------------------- */

static tl_var floor_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_floor = {.name = "floor",
                           .equation = "y = floor x",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_floor,
                           .partial = floor_partial,
                           .samples = away_from_zero};

tl_var tl_floor(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_floor, 1, &x, NULL);
}

/* ---- ceil: y = ceil x;  dy/dx = 0 ------------------------------------------------------- */

static tl_var ceil_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_ceil = {.name = "ceil",
                          .equation = "y = ceil x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_ceil,
                          .partial = ceil_partial,
                          .samples = away_from_zero};

tl_var tl_ceil(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_ceil, 1, &x, NULL);
}

/* ---- round: y = round x, halves to even;  dy/dx = 0 ------------------------------------- */

static tl_var round_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_round = {.name = "round",
                           .equation = "y = round x, halves to even",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_round,
                           .partial = round_partial,
                           .samples = away_from_zero};

tl_var tl_round(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_round, 1, &x, NULL);
}

/* ---- affine: y = f[0] x + f[1] ---------------------------------------------------------- */

static tl_var affine_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_affine(c->tape, g, c->attr->f[0], 0);
}

static const tl_sample affine_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {-1.5, 0.25}, 0, 0}},
                                           {1, {{0, {0}, -2, 2, 0}}, {{0}, {3, 0}, 0, 0}},
                                           {1, {{3, {2, 1, 5}, -2, 2, 0}}, {{0}, {0.5, -7}, 0, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_affine = {.name = "affine",
                            .equation = "y = scale x + shift",
                            .kind = TL_ELEMENTWISE,
                            .attributes = "scale=f0 shift=f1",
                            .least = 1,
                            .most = 1,
                            .kernel = tl_kernel_affine,
                            .partial = affine_partial,
                            .samples = affine_samples};

tl_var tl_affine(tl_tape *t, tl_var x, double scale, double shift)
{
    return tl_apply(t, &tl_op_affine, 1, &x, &(tl_attr){.f = {scale, shift}});
}

/* ---- pow_scalar: y = x^p;  f[0] = p; dy/dx = p x^(p-1), and 0 everywhere for p = 0 ------- */

static tl_var pow_scalar_partial(const tl_call *c, int k, tl_var g)
{
    double p = c->attr->f[0];
    if (p == 0)
        return TL_NONE;
    return tl_mul(c->tape, g, tl_affine(c->tape, tl_pow_scalar(c->tape, c->in[k], p - 1), p, 0));
}

static const tl_sample pow_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {3, 0}, 0, 0}},
                                        {1, {{2, {3, 4}, 0.2, 3, 0}}, {{0}, {-1.5, 0}, 0, 0}},
                                        {1, {{3, {2, 1, 5}, -2, 2, 0}}, {{0}, {2, 0}, 0, 0}},
                                        {1, {{0, {0}, -2, 2, 0}}, {{0}, {1, 0}, 0, 0}},
                                        {1, {{1, {4}, -2, 2, 0}}, {{0}, {0, 0}, 0, 0}},
                                        {1, {{1, {5}, -2, -0.3, 0}}, {{0}, {-4, 0}, 0, 0}},
                                        TL_SAMPLES_END};

const tl_op tl_op_pow_scalar = {.name = "pow_scalar",
                                .equation = "y = x^p",
                                .kind = TL_ELEMENTWISE,
                                .attributes = "p=f0",
                                .least = 1,
                                .most = 1,
                                .kernel = tl_kernel_pow_scalar,
                                .partial = pow_scalar_partial,
                                .samples = pow_samples};

tl_var tl_pow_scalar(tl_tape *t, tl_var x, double p)
{
    return tl_apply(t, &tl_op_pow_scalar, 1, &x, &(tl_attr){.f = {p, 0}});
}
