/* op_elementwise.c - y_i = f(a_i, b_i, ...), with NumPy's broadcasting.
 *
 * `partial` returns g df/dx_k. As such an op's Jacobian is diagonal, the same line serves backward,
 * where g is the gradient of y, and forward mode, where g is the tangent of x_k. */
#include "autograd/ops.h"
#include "tensor/kernels.h"

/* Operands for the checks: two that broadcast against each other, in both directions. */
#define ANY_REAL {1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 0, 0}}
#define POSITIVE {1, {{2, {3, 4}, 0.2, 3, 0}}, {{0}, {0}, 0, 0}}
#define TWO_REALS                                                                                  \
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 0, 0}},                         \
    {2, {{3, {2, 1, 4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}}, {{0}, {0}, 0, 0}},                      \
    {2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 4}, -2, 2, 0}}, {{0}, {0}, 0, 0}}
#define END {0, {{0, {0}, 0, 0, 0}}, {{0}, {0}, 0, 0}}

static const tl_sample any_real[] = {ANY_REAL, {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 0, 0}}, END};
static const tl_sample positive[] = {POSITIVE, END};
static const tl_sample two_reals[] = {TWO_REALS, END};

static tl_var apply1(tl_tape *t, const tl_op *op, tl_var x)
{
    return tl_apply(t, op, 1, &x, NULL);
}

static tl_var apply2(tl_tape *t, const tl_op *op, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, op, 2, in, NULL);
}

/* ---- neg: y = -x ---------------------------------------------------------------------------- */

static tl_var neg_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_neg(c->tape, g);
}

const tl_op tl_op_neg = {.name = "neg", .equation = "y = -x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
                         .kernel = tl_kernel_neg, .partial = neg_partial, .samples = any_real};

tl_var tl_neg(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_neg, x);
}

/* ---- add: y = a + b --------------------------------------------------------------------------- */

static tl_var add_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k;
    return g;
}

const tl_op tl_op_add = {.name = "add", .equation = "y = a + b", .kind = TL_ELEMENTWISE, .least = 2, .most = 2,
                         .kernel = tl_kernel_add, .partial = add_partial, .samples = two_reals};

tl_var tl_add(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_add, a, b);
}

/* ---- sub: y = a - b --------------------------------------------------------------------------- */

static tl_var sub_partial(const tl_call *c, int k, tl_var g)
{
    return k == 0 ? g : tl_neg(c->tape, g);
}

const tl_op tl_op_sub = {.name = "sub", .equation = "y = a - b", .kind = TL_ELEMENTWISE, .least = 2, .most = 2,
                         .kernel = tl_kernel_sub, .partial = sub_partial, .samples = two_reals};

tl_var tl_sub(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_sub, a, b);
}

/* ---- mul: y = a b ----------------------------------------------------------------------------- */

static tl_var mul_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, c->in[1 - k]);
}

const tl_op tl_op_mul = {.name = "mul", .equation = "y = a b", .kind = TL_ELEMENTWISE, .least = 2, .most = 2,
                         .kernel = tl_kernel_mul, .partial = mul_partial, .samples = two_reals};

tl_var tl_mul(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_mul, a, b);
}

/* ---- div: y = a / b ----------------------------------------------------------------------------- */

static tl_var div_partial(const tl_call *c, int k, tl_var g)
{
    tl_var quotient = tl_div(c->tape, g, c->in[1]); /* dy/da = 1/b;  dy/db = -y/b */
    return k == 0 ? quotient : tl_neg(c->tape, tl_mul(c->tape, quotient, c->out));
}

static const tl_sample div_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0.5, 2, 0}}, {{0}, {0}, 0, 0}},
    {2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 4}, -2, -0.5, 0}}, {{0}, {0}, 0, 0}},
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 1}, 0.5, 2, 0}}, {{0}, {0}, 0, 0}}, END};

const tl_op tl_op_div = {.name = "div", .equation = "y = a / b", .kind = TL_ELEMENTWISE, .least = 2, .most = 2,
                         .kernel = tl_kernel_div, .partial = div_partial, .samples = div_samples};

tl_var tl_div(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_div, a, b);
}

/* ---- affine: y = f[0] x + f[1] -------------------------------------------------------------------- */

static tl_var affine_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_affine(c->tape, g, c->attr->f[0], 0);
}

static const tl_sample affine_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {-1.5, 0.25}, 0, 0}}, END};

const tl_op tl_op_affine = {.name = "affine", .equation = "y = scale x + shift", .kind = TL_ELEMENTWISE,
                            .least = 1, .most = 1, .kernel = tl_kernel_affine, .partial = affine_partial,
                            .samples = affine_samples};

tl_var tl_affine(tl_tape *t, tl_var x, double scale, double shift)
{
    return tl_apply(t, &tl_op_affine, 1, &x, &(tl_attr){.f = {scale, shift}});
}

/* ---- lerp: y = a + w (b - a) ------------------------------------------------------------------------ */

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
    {3, {{1, {4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}, {3, {2, 1, 1}, 0, 1, 0}}, {{0}, {0}, 0, 0}}, END};

const tl_op tl_op_lerp = {.name = "lerp", .equation = "y = a + w (b - a)", .kind = TL_ELEMENTWISE, .least = 3,
                          .most = 3, .kernel = tl_kernel_lerp, .partial = lerp_partial, .samples = lerp_samples};

tl_var tl_lerp(tl_tape *t, tl_var a, tl_var b, tl_var w)
{
    tl_var in[3] = {a, b, w};
    return tl_apply(t, &tl_op_lerp, 3, in, NULL);
}

/* ---- exp: y = exp x ----------------------------------------------------------------------------------- */

static tl_var exp_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_mul(c->tape, g, c->out);
}

const tl_op tl_op_exp = {.name = "exp", .equation = "y = exp x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
                         .kernel = tl_kernel_exp, .partial = exp_partial, .samples = any_real};

tl_var tl_exp(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_exp, x);
}

/* ---- log: y = log x ----------------------------------------------------------------------------------- */

static tl_var log_partial(const tl_call *c, int k, tl_var g)
{
    return tl_div(c->tape, g, c->in[k]);
}

const tl_op tl_op_log = {.name = "log", .equation = "y = log x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
                         .kernel = tl_kernel_log, .partial = log_partial, .samples = positive};

tl_var tl_log(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_log, x);
}

/* ---- square: y = x x ------------------------------------------------------------------------------------ */

static tl_var square_partial(const tl_call *c, int k, tl_var g)
{
    return tl_affine(c->tape, tl_mul(c->tape, g, c->in[k]), 2, 0);
}

const tl_op tl_op_square = {.name = "square", .equation = "y = x x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
                            .kernel = tl_kernel_square, .partial = square_partial, .samples = any_real};

tl_var tl_square(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_square, x);
}

/* ---- relu: y = max(x, 0); dy/dx = 0 at 0, as PyTorch has it ------------------------------------------------ */

static tl_var relu_partial(const tl_call *c, int k, tl_var g)
{
    return tl_relu_grad(c->tape, g, c->in[k]);
}

static const tl_sample relu_samples[] = {{1, {{2, {3, 4}, -2, -0.1, 0}}, {{0}, {0}, 0, 0}},
                                         {1, {{2, {3, 4}, 0.1, 2, 0}}, {{0}, {0}, 0, 0}}, END};

const tl_op tl_op_relu = {.name = "relu", .equation = "y = max(x, 0)", .kind = TL_ELEMENTWISE, .least = 1,
                          .most = 1, .kernel = tl_kernel_relu, .partial = relu_partial, .samples = relu_samples};

tl_var tl_relu(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_relu, x);
}

/* y = g [x > 0] */
static tl_var relu_grad_partial(const tl_call *c, int k, tl_var g)
{
    return k == 0 ? tl_relu_grad(c->tape, g, c->in[1]) : TL_NONE;
}

static const tl_sample relu_grad_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, -0.1, 0}}, {{0}, {0}, 0, 0}},
    {2, {{2, {3, 4}, -2, 2, 0}, {1, {4}, 0.1, 2, 0}}, {{0}, {0}, 0, 0}}, END};

const tl_op tl_op_relu_grad = {.name = "relu_grad", .equation = "y = g [x > 0]", .kind = TL_ELEMENTWISE,
                               .least = 2, .most = 2, .kernel = tl_kernel_relu_grad,
                               .partial = relu_grad_partial, .samples = relu_grad_samples};

tl_var tl_relu_grad(tl_tape *t, tl_var g, tl_var x)
{
    return apply2(t, &tl_op_relu_grad, g, x);
}

/* ---- tanh: y = tanh x;  dy/dx = 1 - y y --------------------------------------------------------------------- */

static tl_var tanh_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_tanh_grad(c->tape, g, c->out);
}

const tl_op tl_op_tanh = {.name = "tanh", .equation = "y = tanh x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
                          .kernel = tl_kernel_tanh, .partial = tanh_partial, .samples = any_real};

tl_var tl_tanh(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_tanh, x);
}

/* z = g (1 - y y);  dz/dg = 1 - y y,  dz/dy = -2 g y */
static tl_var tanh_grad_partial(const tl_call *c, int k, tl_var u)
{
    tl_tape *t = c->tape;
    if (k == 0)
        return tl_tanh_grad(t, u, c->in[1]);
    return tl_affine(t, tl_mul(t, tl_mul(t, u, c->in[0]), c->in[1]), -2, 0);
}

const tl_op tl_op_tanh_grad = {.name = "tanh_grad", .equation = "z = g (1 - y y)", .kind = TL_ELEMENTWISE,
                               .least = 2, .most = 2, .kernel = tl_kernel_tanh_grad,
                               .partial = tanh_grad_partial, .samples = two_reals};

tl_var tl_tanh_grad(tl_tape *t, tl_var g, tl_var y)
{
    return apply2(t, &tl_op_tanh_grad, g, y);
}

/* ---- sigmoid: y = 1 / (1 + exp(-x));  dy/dx = y (1 - y) ------------------------------------------------------- */

static tl_var sigmoid_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_sigmoid_grad(c->tape, g, c->out);
}

const tl_op tl_op_sigmoid = {.name = "sigmoid", .equation = "y = 1 / (1 + exp(-x))", .kind = TL_ELEMENTWISE,
                             .least = 1, .most = 1, .kernel = tl_kernel_sigmoid, .partial = sigmoid_partial,
                             .samples = any_real};

tl_var tl_sigmoid(tl_tape *t, tl_var x)
{
    return apply1(t, &tl_op_sigmoid, x);
}

/* z = g y (1 - y);  dz/dg = y (1 - y),  dz/dy = g (1 - 2 y) */
static tl_var sigmoid_grad_partial(const tl_call *c, int k, tl_var u)
{
    tl_tape *t = c->tape;
    if (k == 0)
        return tl_sigmoid_grad(t, u, c->in[1]);
    return tl_mul(t, tl_mul(t, u, c->in[0]), tl_affine(t, c->in[1], -2, 1));
}

const tl_op tl_op_sigmoid_grad = {.name = "sigmoid_grad", .equation = "z = g y (1 - y)", .kind = TL_ELEMENTWISE,
                                  .least = 2, .most = 2, .kernel = tl_kernel_sigmoid_grad,
                                  .partial = sigmoid_grad_partial, .samples = two_reals};

tl_var tl_sigmoid_grad(tl_tape *t, tl_var g, tl_var y)
{
    return apply2(t, &tl_op_sigmoid_grad, g, y);
}
