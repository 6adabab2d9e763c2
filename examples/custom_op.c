/* custom_op.c - an op of your own, three ways, from outside the library.
 *
 *     squareplus(x) = (x + sqrt(x x + b)) / 2        Barron, arXiv:2112.11687: a softplus without exp
 *
 *     composed    a function that applies ops of the library: nothing else to do
 *     with rule   an op with a loop of its own and its derivative in terms of the tape's ops:
 *                 dy/dx = (1 + x / sqrt(x x + b)) / 2. Written once, it gives derivatives of every
 * order by hand     an op whose backward works on numbers: to try a derivation, or a fast kernel,
 * against the tape's own. A first derivative, no second
 *
 * The gradients of all three are compared, number by number, and checked against differences. */
#include <math.h>
#include <stdio.h>

#include <tapeloop/tapeloop.h>

/* ---- composed --------------------------------------------------------------------------- */

static tl_var squareplus_composed(tl_tape *t, tl_var x, double b)
{
    tl_var root = tl_sqrt(t, tl_affine(t, tl_square(t, x), 1, b));
    return tl_affine(t, tl_add(t, x, root), 0.5, 0);
}

/* ---- with a rule ------------------------------------------------------------------------ */

static void squareplus_f64(int64_t n, const void *const *x, void *y, const double *scalar)
{
    const double *a = x[0], b = scalar[0];
    for (int64_t i = 0; i < n; i++)
        ((double *)y)[i] = (a[i] + sqrt(a[i] * a[i] + b)) / 2;
}

static void squareplus_f32(int64_t n, const void *const *x, void *y, const double *scalar)
{
    const float *a = x[0], b = (float)scalar[0];
    for (int64_t i = 0; i < n; i++)
        ((float *)y)[i] = (a[i] + sqrtf(a[i] * a[i] + b)) / 2;
}

static tl_kernel *const squareplus_kernel[] = {[TL_F32] = squareplus_f32, [TL_F64] = squareplus_f64};

/* As sqrt(x x + b) = 2 y - x:  dy/dx = y / (2 y - x) */
static tl_var squareplus_partial(const tl_call *c, int k, tl_var g)
{
    tl_tape *t = c->tape;
    tl_var root = tl_sub(t, tl_affine(t, c->out, 2, 0), c->in[k]);
    return tl_mul(t, g, tl_div(t, c->out, root));
}

static const tl_op squareplus_op = {.name = "squareplus",
                                    .equation = "y = (x + sqrt(x x + b)) / 2",
                                    .kind = TL_ELEMENTWISE,
                                    .attributes = "b=f0",
                                    .least = 1,
                                    .most = 1,
                                    .kernel = squareplus_kernel,
                                    .partial = squareplus_partial};

/* ---- by hand ---------------------------------------------------------------------------- */

static bool same_shape(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void by_hand_forward(tl_call *c)
{
    const double *x = c->x[0].data, b = c->attr->f[0];
    for (int64_t i = 0; i < c->y.layout->count; i++)
        ((double *)c->y.data)[i] = (x[i] + sqrt(x[i] * x[i] + b)) / 2;
}

static void by_hand_backward(const tl_call *c, tl_array dy, const tl_array *dx)
{
    const double *x = c->x[0].data, *g = dy.data, b = c->attr->f[0];
    double *out = dx[0].data;
    for (int64_t i = 0; out && i < dy.layout->count; i++)
        out[i] += g[i] * (1 + x[i] / sqrt(x[i] * x[i] + b)) / 2;
}

static const tl_op by_hand_op = {.name = "squareplus_by_hand",
                                 .equation = "y = (x + sqrt(x x + b)) / 2, f64",
                                 .kind = TL_GENERAL,
                                 .attributes = "b=f0",
                                 .least = 1,
                                 .most = 1,
                                 .dense = true,
                                 .shape = same_shape,
                                 .forward = by_hand_forward,
                                 .backward = by_hand_backward};

/* ---- the comparison --------------------------------------------------------------------- */

typedef enum { COMPOSED, WITH_RULE, BY_HAND } way;

static tl_var squareplus(tl_tape *t, const tl_var *x, void *context)
{
    tl_attr attr = {.f = {0.25}};
    switch (*(way *)context) {
    case COMPOSED:
        return squareplus_composed(t, x[0], attr.f[0]);
    case WITH_RULE:
        return tl_apply(t, &squareplus_op, 1, x, &attr);
    default:
        return tl_apply(t, &by_hand_op, 1, x, &attr);
    }
}

/* d/dx of the sum of squareplus(x)^2, to be released; NULL with the message printed. */
static tl_tensor *gradient(tl_tape *t, tl_tensor *x, way which)
{
    tl_tape_reset(t);
    tl_var leaf = tl_leaf(t, x, NULL);
    tl_backward(t, tl_sum(t, tl_square(t, squareplus(t, &leaf, &which))));
    tl_tensor *g = tl_value_copy(t, tl_gradient(t, leaf));
    if (!g)
        fprintf(stderr, "%s\n", tl_tape_message(t));
    return g;
}

int main(void)
{
    const double numbers[] = {-3, -1, -0.25, 0, 0.5, 2};
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tl_tensor_from(TL_F64, TL_SHAPE(2, 3), numbers, NULL);
    tl_tensor *g[3] = {NULL};
    tl_error error = {0};
    int failures = !t || !x;
    for (way which = COMPOSED; which <= BY_HAND && !failures; which++)
        failures += !(g[which] = gradient(t, x, which));
    if (!failures) {
        const tl_grad_pair pairs[] = {{"with rule", -1, g[WITH_RULE], g[COMPOSED]},
                                      {"by hand", -1, g[BY_HAND], g[COMPOSED]}};
        if (tl_compare_grads(2, pairs, 1e-14, stdout, NULL, &error) != TL_OK)
            failures++, printf("%s\n", error.message);
    }
    for (way which = COMPOSED; which <= BY_HAND && !failures; which++) {
        tl_gradcheck_report first, second;
        tl_status bad = tl_gradcheck(squareplus, &which, 1, &x, NULL, &first);
        tl_status bad_second = tl_gradgradcheck(squareplus, &which, 1, &x, NULL, &second);
        printf("\n%s\n%s\n", first.message, second.message);
        failures += bad != TL_OK || (bad_second != TL_OK) != (which == BY_HAND);
    }
    printf(failures ? "\nFAILED\n"
                    : "\nAll three agree; only the one by hand has no second derivative.\n");
    for (int k = 0; k < 3; k++)
        tl_tensor_release(g[k]);
    tl_tensor_release(x);
    tl_tape_free(t);
    return failures != 0;
}
