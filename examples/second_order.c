/* second_order.c - curvature through time: products with the Hessian of an LSTM, and a step that uses
 * it.
 *
 * The tape's derivative is made of ops, and so can be differentiated again. With L the loss, y the
 * outputs and theta all parameters as one vector,
 *
 *     H v = d/dtheta (dL/dtheta . v)             tl_hvp: back through the walk back, Pearlmutter 1994
 *     G v = J' H_L J v,    J = dy/dtheta         tl_gnvp: forwards, through the loss, back; Schraudolph
 * 2002
 *
 * cost a few gradients each, while H itself would be a table of all pairs of parameters. G is H without
 * the curvature of the network: it is never negative where H_L is not, so that a quadratic made with it
 * has a lowest point.
 *
 * First the products are checked: against differences of gradients, for symmetry, and for their sign.
 * Then one step of Hessian-free optimisation (Martens 2010; Martens and Sutskever 2011): conjugate
 * gradients find a low point of
 *
 *     q(d) = L + g . d + d . (G + lambda) d / 2
 *
 * with nothing but products, and d is the step. Beside it stands the best that any step along the
 * gradient could do, found by trying out all lengths. In a network that has to carry something over
 * time curvatures of different directions differ by orders of magnitude: the gradient's step is as long
 * as the steepest of them allows, and the flat ones are hardly walked along at all.
 *
 * Ends with 1 if a product is off, or if the gradient's step is as good. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

enum { T = 12, B = 8, I = 2, H = 6, MOST_PARAMS = 8, CG_STEPS = 60, DIRECTIONS = 5 };

/* The network has to add up, at the end, the inputs that were marked: Hochreiter and Schmidhuber's
 * adding problem, in small. */
typedef struct problem {
    tl_params *params;
    tl_rnn lstm;
    tl_linear_layer readout;
    tl_tensor *x, *target; /* [T,B,I], [B,1] */
    tl_tape *t;
    int64_t size; /* of theta */
} problem;

static bool problem_init(problem *p)
{
    tl_random random = tl_random_seed(5);
    *p = (problem){.params = tl_params_new(TL_F64, 2),
                   .x = tl_tensor_zeros(TL_F64, TL_SHAPE(T, B, I), NULL),
                   .target = tl_tensor_zeros(TL_F64, TL_SHAPE(B, 1), NULL),
                   .t = tl_tape_new(NULL)};
    if (!p->params || !p->x || !p->target || !p->t)
        return false;
    for (int64_t b = 0; b < B; b++) {
        int64_t first = tl_random_below(&random, T / 2),
                second = T / 2 + tl_random_below(&random, T / 2);
        for (int64_t step = 0; step < T; step++) {
            double value = 2 * tl_random_unit(&random) - 1;
            bool marked = step == first || step == second;
            tl_tensor_set(p->x, (step * B + b) * I, value);
            tl_tensor_set(p->x, (step * B + b) * I + 1, marked);
            tl_tensor_set(p->target, b, tl_tensor_get(p->target, b) + (marked ? value : 0));
        }
    }
    tl_rnn_init(&p->lstm, p->params,
                &(tl_rnn_config){.cell = &tl_lstm_cell,
                                 .options = &(tl_lstm_options){.forget_bias = 1},
                                 .input = I,
                                 .hidden = H,
                                 .layers = 1});
    tl_linear_init(&p->readout, p->params, "readout.", H, 1, true);
    p->size = tl_params_elements(p->params);
    return tl_params_status(p->params) == TL_OK && p->params->count <= MOST_PARAMS;
}

static void problem_free(problem *p)
{
    tl_rnn_free(&p->lstm);
    tl_params_free(p->params);
    tl_tensor_release(p->x);
    tl_tensor_release(p->target);
    tl_tape_free(p->t);
}

/* ---- theta as one vector of doubles ------------------------------------------------------------ */

static void move(problem *p, double by, const double *along)
{
    for (int k = 0; k < p->params->count; k++) {
        tl_tensor *w = p->params->entry[k]->value;
        for (int64_t i = 0; i < w->layout.count; i++)
            tl_tensor_set(w, i, tl_tensor_get(w, i) + by * *along++);
    }
}

static tl_status flatten(problem *p, const tl_var *part, double *out)
{
    for (int k = 0; k < p->params->count; k++) {
        tl_tensor *x = tl_value_copy(p->t, part[k]);
        for (int64_t i = 0; x && i < x->layout.count; i++)
            *out++ = tl_tensor_get(x, i);
        tl_tensor_release(x);
    }
    return tl_tape_status(p->t);
}

static void unflatten(problem *p, const double *v, tl_var *part)
{
    for (int k = 0; k < p->params->count; k++) {
        const tl_layout *l = &p->params->entry[k]->value->layout;
        part[k] = tl_constant_from(p->t, TL_F64, l->ndim, l->shape, v);
        v += l->count;
    }
}

static double dot(int64_t n, const double *a, const double *b)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double norm(int64_t n, const double *a)
{
    return sqrt(dot(n, a, a));
}

/* ---- what the tape is asked for ----------------------------------------------------------------- */

/* L = mean (y - target)^2; the parameters' leaves in `leaf`. Each question begins a new recording, so
 * that memory does not grow with their number. */
static tl_var record(problem *p, tl_var *leaf, tl_var *output)
{
    tl_tape_reset(p->t);
    for (int k = 0; k < p->params->count; k++)
        leaf[k] = tl_use(p->t, p->params->entry[k]);
    tl_var h = tl_select(p->t, tl_unroll(p->t, &p->lstm, tl_constant(p->t, p->x), NULL), 0, T - 1);
    *output = tl_linear(p->t, h, &p->readout);
    return tl_mse(p->t, *output, tl_constant(p->t, p->target), TL_REDUCE_MEAN);
}

static double loss_of(problem *p)
{
    tl_var leaf[MOST_PARAMS], y;
    return tl_item(p->t, record(p, leaf, &y));
}

static double loss_after(problem *p, double by, const double *along)
{
    move(p, by, along);
    double loss = loss_of(p);
    move(p, -by, along);
    return loss;
}

static double gradient(problem *p, double *g)
{
    tl_var leaf[MOST_PARAMS], part[MOST_PARAMS], y, loss = record(p, leaf, &y);
    tl_grad(p->t, loss, TL_NONE, p->params->count, leaf, false, part);
    return flatten(p, part, g) == TL_OK ? tl_item(p->t, loss) : (double)NAN;
}

typedef enum { HESSIAN, GAUSS_NEWTON } curvature;

static tl_status product(problem *p, curvature which, const double *v, double *out)
{
    tl_var leaf[MOST_PARAMS], vector[MOST_PARAMS], part[MOST_PARAMS], y, loss = record(p, leaf, &y);
    unflatten(p, v, vector);
    if (which == HESSIAN)
        tl_hvp(p->t, loss, p->params->count, leaf, vector, part);
    else
        tl_gnvp(p->t, loss, y, p->params->count, leaf, vector, part);
    return flatten(p, part, out);
}

/* y, [B]. */
static void outputs(problem *p, double *out)
{
    tl_var leaf[MOST_PARAMS], y;
    record(p, leaf, &y);
    tl_tensor *value = tl_value_copy(p->t, y);
    for (int64_t b = 0; value && b < B; b++)
        out[b] = tl_tensor_get(value, b);
    tl_tensor_release(value);
}

/* ---- first part: the products are right ------------------------------------------------------------
 */

/* Room for the vectors of the lesson. */
typedef struct vectors {
    double *g, *u, *v, *Hu, *Hv, *Gu, *Gv, *above, *below;
} vectors;

static bool vectors_init(vectors *w, int64_t n)
{
    double **all[] = {&w->g, &w->u, &w->v, &w->Hu, &w->Hv, &w->Gu, &w->Gv, &w->above, &w->below};
    bool good = true;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        good = (*all[k] = calloc((size_t)n, sizeof(double))) && good;
    return good;
}

static void vectors_free(vectors *w)
{
    double *all[] = {w->g, w->u, w->v, w->Hu, w->Hv, w->Gu, w->Gv, w->above, w->below};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        free(all[k]);
}

/* |H v - (g(theta + h v) - g(theta - h v)) / 2h| / |H v| */
static double against_differences(problem *p, const vectors *w)
{
    const double h = 1e-5;
    double squares = 0;
    move(p, h, w->v);
    gradient(p, w->above);
    move(p, -2 * h, w->v);
    gradient(p, w->below);
    move(p, h, w->v);
    for (int64_t i = 0; i < p->size; i++) {
        double off = (w->above[i] - w->below[i]) / (2 * h) - w->Hv[i];
        squares += off * off;
    }
    return sqrt(squares) / norm(p->size, w->Hv);
}

/* v . G v = J v . H_L J v = 2/B |J v|^2, with J v from differences of outputs. */
static double against_outputs(problem *p, const vectors *w)
{
    const double h = 1e-5;
    double above[B], below[B], squares = 0;
    move(p, h, w->v);
    outputs(p, above);
    move(p, -2 * h, w->v);
    outputs(p, below);
    move(p, h, w->v);
    for (int b = 0; b < B; b++)
        squares += (above[b] - below[b]) * (above[b] - below[b]) / (4 * h * h);
    double expected = 2 * squares / B;
    return fabs(dot(p->size, w->v, w->Gv) - expected) / expected;
}

static double relative(double a, double b)
{
    return fabs(a - b) / fmax(fabs(a), fabs(b));
}

static int check_products(problem *p, vectors *w)
{
    int failures = 0, below_zero = 0;
    tl_random random = tl_random_seed(9);
    printf("Products with %d directions at random, of all %lld parameters of the LSTM and its "
           "readout:\n\n"
           "                 H v off         asymmetry        G v off\n"
           "   v'Hv          differences     H       G        outputs     v'Gv\n",
           DIRECTIONS, (long long)p->size);
    for (int k = 0; k < DIRECTIONS; k++) {
        for (int64_t i = 0; i < p->size; i++) {
            w->u[i] = 2 * tl_random_unit(&random) - 1;
            w->v[i] = 2 * tl_random_unit(&random) - 1;
        }
        product(p, HESSIAN, w->u, w->Hu);
        product(p, HESSIAN, w->v, w->Hv);
        product(p, GAUSS_NEWTON, w->u, w->Gu);
        product(p, GAUSS_NEWTON, w->v, w->Gv);
        double off = against_differences(p, w), off_outputs = against_outputs(p, w);
        double skew = relative(dot(p->size, w->u, w->Hv), dot(p->size, w->v, w->Hu));
        double skew_g = relative(dot(p->size, w->u, w->Gv), dot(p->size, w->v, w->Gu));
        double vHv = dot(p->size, w->v, w->Hv), vGv = dot(p->size, w->v, w->Gv);
        printf("%+9.5f          %7.1e   %7.1e %7.1e      %7.1e %+9.5f\n", vHv, off, skew, skew_g,
               off_outputs, vGv);
        below_zero += vHv < 0;
        failures += !(off < 1e-7 && off_outputs < 1e-7 && skew < 1e-10 && skew_g < 1e-10 && vGv >= 0);
    }
    printf(
        "\nv'Hv is below zero for %d of them: there the loss bends downwards, and Newton's step would\n"
        "climb. v'Gv never is.\n\n",
        below_zero);
    return failures;
}

/* ---- second part: one step ------------------------------------------------------------------------
 */

/* The lowest loss along -g: all lengths on a grid of powers, and between the best one's neighbours. */
static double best_along_gradient(problem *p, const double *g, double *length, int *looks)
{
    double best = loss_of(p), at = 0;
    for (double rate = 1e-4; rate < 1e4; rate *= 1.25, ++*looks) {
        double loss = loss_after(p, -rate, g);
        at = loss < best ? rate : at;
        best = fmin(loss, best);
    }
    for (double rate = at / 1.25; rate < at * 1.25; rate += at / 200, ++*looks) {
        double loss = loss_after(p, -rate, g);
        *length = loss < best ? rate : at;
        at = *length;
        best = fmin(loss, best);
    }
    *length = at;
    return best;
}

/* Conjugate gradients on (G + lambda) d = -g from d = 0, until q has not fallen by 0.0005 k of itself
 * in the last k = max(10, i / 10) steps (Martens 2010, section 4.4). Returns q(d) - L. */
static double conjugate_gradients(problem *p, const double *g, double lambda, double *d, int *steps)
{
    int64_t n = p->size;
    double *r = calloc(3 * (size_t)n, sizeof *r), *s = r + n, *As = s + n, q[CG_STEPS + 1] = {0};
    if (!r)
        return (double)NAN;
    for (int64_t i = 0; i < n; i++)
        d[i] = 0, s[i] = r[i] = -g[i];
    double rr = dot(n, r, r);
    for (*steps = 0; *steps < CG_STEPS && product(p, GAUSS_NEWTON, s, As) == TL_OK;) {
        for (int64_t i = 0; i < n; i++)
            As[i] += lambda * s[i];
        double alpha = rr / dot(n, s, As), before = rr;
        for (int64_t i = 0; i < n; i++) {
            d[i] += alpha * s[i];
            r[i] -= alpha * As[i];
        }
        rr = dot(n, r, r);
        for (int64_t i = 0; i < n; i++)
            s[i] = r[i] + rr / before * s[i];
        int now = ++*steps, k = now / 10 > 10 ? now / 10 : 10;
        q[now] = (dot(n, g, d) - dot(n, r, d)) / 2; /* = g.d + d.(G + lambda)d / 2 */
        if (now > k && (q[now] - q[now - k]) / q[now] < 0.0005 * k)
            break;
    }
    free(r);
    return q[*steps];
}

/* Martens's damping by trial: the lambda of the lowest loss. */
static int compare_steps(problem *p, vectors *w)
{
    double *g = w->g, *d = w->u, length, best_hf = HUGE_VAL;
    int looks = 0;
    double loss = gradient(p, g), along_g = best_along_gradient(p, g, &length, &looks);
    printf("L = %.6f, |g| = %.4f\n\n"
           "the best step along the gradient:   L = %.6f, rate %.3g, |d| = %.3f (%d lengths tried)\n\n"
           "Hessian-free:   lambda   CG steps        |d|   angle with -g     q(d)   L(theta + d)\n",
           loss, norm(p->size, g), along_g, length, length * norm(p->size, g), looks);
    for (double lambda = 1; lambda > 5e-5; lambda /= 10) {
        int steps = 0;
        double fall = conjugate_gradients(p, g, lambda, d, &steps), after = loss_after(p, 1, d);
        double cosine = -dot(p->size, g, d) / norm(p->size, g) / norm(p->size, d);
        printf("               %7g %10d %10.3f %11.1f deg %8.4f       %.6f\n", lambda, steps,
               norm(p->size, d), acos(cosine) * 180 / acos(-1), loss + fall, after);
        best_hf = fmin(best_hf, after);
    }
    printf("\nThe best one leaves %.1f %% of the loss, the best gradient step %.1f %%.\n",
           100 * best_hf / loss, 100 * along_g / loss);
    return !(best_hf < along_g && along_g < loss);
}

int main(void)
{
    problem p;
    vectors w = {0};
    int failures = 1;
    if (problem_init(&p) && vectors_init(&w, p.size)) {
        failures = check_products(&p, &w);
        failures += compare_steps(&p, &w);
        if (tl_tape_status(p.t) != TL_OK)
            failures++, fprintf(stderr, "%s\n", tl_tape_message(p.t));
    }
    vectors_free(&w);
    problem_free(&p);
    printf(failures ? "\nFAILED: a product is off, or the gradient's step was as good.\n"
                    : "\nThe products are right, and curvature was worth its price.\n");
    return failures > 0;
}
