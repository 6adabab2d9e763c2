/* op_activation.c - the functions that networks put between their products. */
#include "autograd/ops.h"
#include "tensor/kernels.h"

static const tl_sample any_real[] = {{1, {{2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
                                     {1, {{0, {0}, -2, 2, 0}}, TL_NO_ATTR},
                                     {1, {{3, {2, 1, 5}, -9, 9, 0}}, TL_NO_ATTR},
                                     TL_SAMPLES_END};
static const tl_sample away_from_zero[] = {{1, {{2, {3, 4}, -2, -0.1, 0}}, TL_NO_ATTR},
                                           {1, {{2, {3, 4}, 0.1, 2, 0}}, TL_NO_ATTR},
                                           {1, {{0, {0}, -9, -3, 0}}, TL_NO_ATTR},
                                           TL_SAMPLES_END};
static const tl_sample two_reals[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
    {2, {{3, {2, 1, 4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}}, TL_NO_ATTR},
    {2, {{0, {0}, -2, 2, 0}, {3, {2, 1, 5}, -2, 2, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

/* ---- sigmoid: y = 1 / (1 + exp(-x));  dy/dx = y (1 - y) --------------------------------- */

static tl_var sigmoid_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_sigmoid_grad(c->tape, g, c->out);
}

const tl_op tl_op_sigmoid = {.name = "sigmoid",
                             .equation = "y = 1 / (1 + exp(-x))",
                             .kind = TL_ELEMENTWISE,
                             .least = 1,
                             .most = 1,
                             .kernel = tl_kernel_sigmoid,
                             .partial = sigmoid_partial,
                             .samples = any_real};

tl_var tl_sigmoid(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_sigmoid, 1, &x, NULL);
}

/* z = g y (1 - y);  dz/dg = y (1 - y),  dz/dy = g (1 - 2 y) */
static tl_var sigmoid_grad_partial(const tl_call *c, int k, tl_var u)
{
    tl_tape *t = c->tape;
    if (k == 0)
        return tl_sigmoid_grad(t, u, c->in[1]);
    return tl_mul(t, tl_mul(t, u, c->in[0]), tl_affine(t, c->in[1], -2, 1));
}

const tl_op tl_op_sigmoid_grad = {.name = "sigmoid_grad",
                                  .equation = "z = g y (1 - y)",
                                  .kind = TL_ELEMENTWISE,
                                  .least = 2,
                                  .most = 2,
                                  .kernel = tl_kernel_sigmoid_grad,
                                  .partial = sigmoid_grad_partial,
                                  .samples = two_reals};

tl_var tl_sigmoid_grad(tl_tape *t, tl_var g, tl_var y)
{
    tl_var in[2] = {g, y};
    return tl_apply(t, &tl_op_sigmoid_grad, 2, in, NULL);
}

/* ---- tanh: y = tanh x;  dy/dx = 1 - y y ------------------------------------------------- */

static tl_var tanh_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_tanh_grad(c->tape, g, c->out);
}

const tl_op tl_op_tanh = {.name = "tanh",
                          .equation = "y = tanh x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_tanh,
                          .partial = tanh_partial,
                          .samples = any_real};

tl_var tl_tanh(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_tanh, 1, &x, NULL);
}

/* z = g (1 - y y);  dz/dg = 1 - y y,  dz/dy = -2 g y */
static tl_var tanh_grad_partial(const tl_call *c, int k, tl_var u)
{
    tl_tape *t = c->tape;
    if (k == 0)
        return tl_tanh_grad(t, u, c->in[1]);
    return tl_affine(t, tl_mul(t, tl_mul(t, u, c->in[0]), c->in[1]), -2, 0);
}

const tl_op tl_op_tanh_grad = {.name = "tanh_grad",
                               .equation = "z = g (1 - y y)",
                               .kind = TL_ELEMENTWISE,
                               .least = 2,
                               .most = 2,
                               .kernel = tl_kernel_tanh_grad,
                               .partial = tanh_grad_partial,
                               .samples = two_reals};

tl_var tl_tanh_grad(tl_tape *t, tl_var g, tl_var y)
{
    tl_var in[2] = {g, y};
    return tl_apply(t, &tl_op_tanh_grad, 2, in, NULL);
}

/* ---- relu: y = max(x, 0);  dy/dx = [x > 0] ---------------------------------------------- */

static tl_var relu_partial(const tl_call *c, int k, tl_var g)
{
    return tl_relu_grad(c->tape, g, c->in[k]);
}

const tl_op tl_op_relu = {.name = "relu",
                          .equation = "y = max(x, 0)",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_relu,
                          .partial = relu_partial,
                          .samples = away_from_zero};

tl_var tl_relu(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_relu, 1, &x, NULL);
}

/* y = g [x > 0] */
static tl_var relu_grad_partial(const tl_call *c, int k, tl_var g)
{
    return k == 0 ? tl_relu_grad(c->tape, g, c->in[1]) : TL_NONE;
}

static const tl_sample relu_grad_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, -0.1, 0}}, {{0}, {0}, 0, 0}},
    {2, {{2, {3, 4}, -2, 2, 0}, {1, {4}, 0.1, 2, 0}}, {{0}, {0}, 0, 0}},
    {2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 1}, 0.1, 2, 0}}, {{0}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_relu_grad = {.name = "relu_grad",
                               .equation = "y = g [x > 0]",
                               .kind = TL_ELEMENTWISE,
                               .least = 2,
                               .most = 2,
                               .kernel = tl_kernel_relu_grad,
                               .partial = relu_grad_partial,
                               .samples = relu_grad_samples};

tl_var tl_relu_grad(tl_tape *t, tl_var g, tl_var x)
{
    tl_var in[2] = {g, x};
    return tl_apply(t, &tl_op_relu_grad, 2, in, NULL);
}

/* ---- step: y = [x > 0];  dy/dx = 0 ------------------------------------------------------ */

static tl_var step_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_step = {.name = "step",
                          .equation = "y = [x > 0]",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_step,
                          .partial = step_partial,
                          .samples = away_from_zero};

tl_var tl_step(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_step, 1, &x, NULL);
}

/* ---- softplus: y = log(1 + exp x);  dy/dx = sigmoid x ----------------------------------- */

static tl_var softplus_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_sigmoid(c->tape, c->in[k]));
}

const tl_op tl_op_softplus = {.name = "softplus",
                              .equation = "y = log(1 + exp x)",
                              .kind = TL_ELEMENTWISE,
                              .least = 1,
                              .most = 1,
                              .kernel = tl_kernel_softplus,
                              .partial = softplus_partial,
                              .samples = any_real};

tl_var tl_softplus(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_softplus, 1, &x, NULL);
}

/* ---- logsigmoid: y = log sigmoid x;  dy/dx = sigmoid(-x) -------------------------------- */

static tl_var logsigmoid_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_sigmoid(c->tape, tl_neg(c->tape, c->in[k])));
}

const tl_op tl_op_logsigmoid = {.name = "logsigmoid",
                                .equation = "y = log sigmoid x",
                                .kind = TL_ELEMENTWISE,
                                .least = 1,
                                .most = 1,
                                .kernel = tl_kernel_logsigmoid,
                                .partial = logsigmoid_partial,
                                .samples = any_real};

tl_var tl_logsigmoid(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_logsigmoid, 1, &x, NULL);
}

/* ---- silu: y = x sigmoid x; dy/dx = s (1 + x (1 - s)), s = sigmoid x. Elfwing et al. 2018 ---- */

static tl_var silu_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var s = tl_sigmoid(t, c->in[k]);
    tl_var rest = tl_affine(t, tl_mul(t, c->in[k], tl_affine(t, s, -1, 1)), 1, 1);
    return tl_mul(t, g, tl_mul(t, s, rest));
}

const tl_op tl_op_silu = {.name = "silu",
                          .equation = "y = x sigmoid x",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_silu,
                          .partial = silu_partial,
                          .samples = any_real};

tl_var tl_silu(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_silu, 1, &x, NULL);
}

/* ---- mish: y = x tanh(softplus x); dy/dx = w + x (1 - w w) sigmoid x, w = tanh(softplus x).
 *     Misra, BMVC 2020 --------------------------------------------------------------------- */

static tl_var mish_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var x = c->in[k], w = tl_tanh(t, tl_softplus(t, x));
    tl_var slope = tl_mul(t, x, tl_tanh_grad(t, tl_sigmoid(t, x), w));
    return tl_mul(t, g, tl_add(t, w, slope));
}

const tl_op tl_op_mish = {.name = "mish",
                          .equation = "y = x tanh(softplus x)",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_mish,
                          .partial = mish_partial,
                          .samples = any_real};

tl_var tl_mish(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_mish, 1, &x, NULL);
}

/* ---- gelu: y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2; dy/dx = Phi(x) + x phi(x).
 *     Hendrycks and Gimpel 2016 ------------------------------------------------------------ */

static tl_var gelu_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var x = c->in[k];
    tl_var phi = tl_affine(t, tl_exp(t, tl_affine(t, tl_square(t, x), -0.5, 0)), 0.3989422804014327, 0);
    tl_var cdf = tl_affine(t, tl_erf(t, tl_affine(t, x, 0.7071067811865476, 0)), 0.5, 0.5);
    return tl_mul(t, g, tl_add(t, cdf, tl_mul(t, x, phi)));
}

const tl_op tl_op_gelu = {.name = "gelu",
                          .equation = "y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2",
                          .kind = TL_ELEMENTWISE,
                          .least = 1,
                          .most = 1,
                          .kernel = tl_kernel_gelu,
                          .partial = gelu_partial,
                          .samples = any_real};

tl_var tl_gelu(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_gelu, 1, &x, NULL);
}

/* ---- gelu_tanh: y = x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3);
 *     dy/dx = (1 + tanh u + x (1 - tanh^2 u) du/dx) / 2. Hendrycks and Gimpel 2016 --------- */

static tl_var gelu_tanh_partial(const tl_call *c, int k, tl_var g)
{
    const double root = 0.7978845608028654, cubic = 0.044715;
    tl_tape *t = c->tape;
    tl_var x = tl_clamp(t, c->in[k], -40, 40); /* beyond, tanh u is 1 or -1; x^3 stays finite */
    tl_var slope = tl_affine(t, tl_square(t, x), 3 * root * cubic, root); /* du/dx */
    tl_var u = tl_mul(t, x, tl_affine(t, tl_square(t, x), root * cubic, root)), y = tl_tanh(t, u);
    tl_var rest = tl_mul(t, x, tl_tanh_grad(t, slope, y));
    return tl_mul(t, g, tl_affine(t, tl_add(t, y, rest), 0.5, 0.5));
}

const tl_op tl_op_gelu_tanh = {.name = "gelu_tanh",
                               .equation = "y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2",
                               .kind = TL_ELEMENTWISE,
                               .least = 1,
                               .most = 1,
                               .kernel = tl_kernel_gelu_tanh,
                               .partial = gelu_tanh_partial,
                               .samples = any_real};

tl_var tl_gelu_tanh(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_gelu_tanh, 1, &x, NULL);
}

/* ---- softsign: y = x / (1 + |x|);  dy/dx = 1 / (1 + |x|)^2 ------------------------------ */

static tl_var softsign_partial(const tl_call *c, int k, tl_var g)
{
    return tl_div(c->tape, g, tl_square(c->tape, tl_affine(c->tape, tl_abs(c->tape, c->in[k]), 1, 1)));
}

const tl_op tl_op_softsign = {.name = "softsign",
                              .equation = "y = x / (1 + |x|)",
                              .kind = TL_ELEMENTWISE,
                              .least = 1,
                              .most = 1,
                              .kernel = tl_kernel_softsign,
                              .partial = softsign_partial,
                              .samples = away_from_zero};

tl_var tl_softsign(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_softsign, 1, &x, NULL);
}

static const tl_sample leaky_samples[] = {{1, {{2, {3, 4}, -2, -0.1, 0}}, {{0}, {0.1, 0}, 0, 0}},
                                          {1, {{2, {3, 4}, 0.1, 2, 0}}, {{0}, {0.1, 0}, 0, 0}},
                                          {1, {{0, {0}, -9, -3, 0}}, {{0}, {-2, 0}, 0, 0}},
                                          TL_SAMPLES_END};

/* ---- leaky_relu: y = x > 0 ? x : slope x;  f[0] = slope; dy/dx = slope at 0 ------------- */

static tl_var leaky_relu_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var slope = tl_affine(t, tl_step(t, c->in[k]), 1 - c->attr->f[0], c->attr->f[0]);
    return tl_mul(t, g, slope);
}

const tl_op tl_op_leaky_relu = {.name = "leaky_relu",
                                .equation = "y = x > 0 ? x : slope x",
                                .kind = TL_ELEMENTWISE,
                                .attributes = "slope=f0",
                                .least = 1,
                                .most = 1,
                                .kernel = tl_kernel_leaky_relu,
                                .partial = leaky_relu_partial,
                                .samples = leaky_samples};

tl_var tl_leaky_relu(tl_tape *t, tl_var x, double slope)
{
    return tl_apply(t, &tl_op_leaky_relu, 1, &x, &(tl_attr){.f = {slope, 0}});
}

static const tl_sample elu_samples[] = {{1, {{2, {3, 4}, -2, -0.1, 0}}, {{0}, {1.5, 0}, 0, 0}},
                                        {1, {{2, {3, 4}, 0.1, 2, 0}}, {{0}, {1.5, 0}, 0, 0}},
                                        {1, {{0, {0}, -9, -3, 0}}, {{0}, {-2, 0}, 0, 0}},
                                        TL_SAMPLES_END};

/* ---- elu: y = x > 0 ? x : alpha (exp x - 1); f[0] = alpha; dy/dx = alpha exp x for x <= 0.
 *     Clevert et al., ICLR 2016 ------------------------------------------------------------ */

static tl_var elu_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var above = tl_step(t, c->in[k]);
    tl_var below = tl_neg(t, tl_relu(t, tl_neg(t, c->in[k]))); /* min(x, 0) */
    tl_var slope =
        tl_mul(t, tl_affine(t, above, -1, 1), tl_affine(t, tl_exp(t, below), c->attr->f[0], 0));
    return tl_mul(t, g, tl_add(t, above, slope));
}

const tl_op tl_op_elu = {.name = "elu",
                         .equation = "y = x > 0 ? x : alpha (exp x - 1)",
                         .kind = TL_ELEMENTWISE,
                         .attributes = "alpha=f0",
                         .least = 1,
                         .most = 1,
                         .kernel = tl_kernel_elu,
                         .partial = elu_partial,
                         .samples = elu_samples};

tl_var tl_elu(tl_tape *t, tl_var x, double alpha)
{
    return tl_apply(t, &tl_op_elu, 1, &x, &(tl_attr){.f = {alpha, 0}});
}

/* ---- selu: y = scale elu(x), alpha 1.6733, scale 1.0507: keeps mean 0 and variance 1.
 *     Klambauer et al., NeurIPS 2017 ------------------------------------------------------- */

static tl_var selu_of(const tl_call *c)
{
    return tl_affine(c->tape, tl_elu(c->tape, c->in[0], 1.6732632423543772), 1.0507009873554805, 0);
}

const tl_op tl_op_selu = {.name = "selu",
                          .equation = "y = 1.0507 elu(x), alpha = 1.6733",
                          .kind = TL_COMPOSED,
                          .least = 1,
                          .most = 1,
                          .compose = selu_of,
                          .samples = away_from_zero};

tl_var tl_selu(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_selu, 1, &x, NULL);
}

static const tl_sample clamp_samples[] = {{1, {{2, {3, 4}, -0.4, 0.4, 0}}, {{0}, {-0.5, 0.5}, 0, 0}},
                                          {1, {{2, {3, 4}, 0.6, 2, 0}}, {{0}, {-0.5, 0.5}, 0, 0}},
                                          {1, {{1, {5}, -2, -0.6, 0}}, {{0}, {-0.5, 0.5}, 0, 0}},
                                          TL_SAMPLES_END};

/* ---- clamp: y = min(max(x, low), high);  f = low, high; dy/dx = [low <= x <= high] ------ */

static tl_var clamp_partial(const tl_call *c, int k, tl_var g)
{
    return tl_mul(c->tape, g, tl_between(c->tape, c->in[k], c->attr->f[0], c->attr->f[1]));
}

const tl_op tl_op_clamp = {.name = "clamp",
                           .equation = "y = min(max(x, low), high)",
                           .kind = TL_ELEMENTWISE,
                           .attributes = "low=f0 high=f1",
                           .least = 1,
                           .most = 1,
                           .kernel = tl_kernel_clamp,
                           .partial = clamp_partial,
                           .samples = clamp_samples};

tl_var tl_clamp(tl_tape *t, tl_var x, double low, double high)
{
    return tl_apply(t, &tl_op_clamp, 1, &x, &(tl_attr){.f = {low, high}});
}

/* ---- between: y = [low <= x <= high];  f = low, high; dy/dx = 0 ------------------------- */

static tl_var between_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

const tl_op tl_op_between = {.name = "between",
                             .equation = "y = [low <= x <= high]",
                             .kind = TL_ELEMENTWISE,
                             .attributes = "low=f0 high=f1",
                             .least = 1,
                             .most = 1,
                             .kernel = tl_kernel_between,
                             .partial = between_partial,
                             .samples = clamp_samples};

tl_var tl_between(tl_tape *t, tl_var x, double low, double high)
{
    return tl_apply(t, &tl_op_between, 1, &x, &(tl_attr){.f = {low, high}});
}

/* g where low < x < high, else 0. */
static tl_var inside(tl_tape *t, tl_var g, tl_var x, double low, double high)
{
    tl_var outside = tl_logical_or(t, tl_le_scalar(t, x, low), tl_ge_scalar(t, x, high));
    return tl_masked_fill(t, g, outside, 0);
}

/* ---- hardtanh: y = min(max(x, low), high);  f = low, high; dy/dx = [low < x < high] ------ */

static tl_var hardtanh_partial(const tl_call *c, int k, tl_var g)
{
    return inside(c->tape, g, c->in[k], c->attr->f[0], c->attr->f[1]);
}

const tl_op tl_op_hardtanh = {.name = "hardtanh",
                              .equation = "y = min(max(x, low), high)",
                              .kind = TL_ELEMENTWISE,
                              .attributes = "low=f0 high=f1",
                              .least = 1,
                              .most = 1,
                              .kernel = tl_kernel_clamp,
                              .partial = hardtanh_partial,
                              .samples = clamp_samples};

tl_var tl_hardtanh(tl_tape *t, tl_var x, double low, double high)
{
    return tl_apply(t, &tl_op_hardtanh, 1, &x, &(tl_attr){.f = {low, high}});
}

/* ---- hardsigmoid: y = min(max((x + 3) / 6, 0), 1);  dy/dx = [-3 < x < 3] / 6 ------------- */

static tl_var hardsigmoid_partial(const tl_call *c, int k, tl_var g)
{
    return inside(c->tape, tl_affine(c->tape, g, 1. / 6, 0), c->in[k], -3, 3);
}

static const tl_sample hardsigmoid_samples[] = {{1, {{2, {3, 4}, -2.9, 2.9, 0}}, TL_NO_ATTR},
                                                {1, {{3, {2, 1, 5}, 3.1, 5, 0}}, TL_NO_ATTR},
                                                {1, {{1, {4}, -5, -3.1, 0}}, TL_NO_ATTR},
                                                TL_SAMPLES_END};

const tl_op tl_op_hardsigmoid = {.name = "hardsigmoid",
                                 .equation = "y = min(max((x + 3) / 6, 0), 1)",
                                 .kind = TL_ELEMENTWISE,
                                 .least = 1,
                                 .most = 1,
                                 .kernel = tl_kernel_hardsigmoid,
                                 .partial = hardsigmoid_partial,
                                 .samples = hardsigmoid_samples};

tl_var tl_hardsigmoid(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_hardsigmoid, 1, &x, NULL);
}
