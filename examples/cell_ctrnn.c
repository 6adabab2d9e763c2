/* cell_ctrnn.c - a continuous-time RNN: a differential equation, and steps as long as one likes.
 *
 * Each unit is a leaky integrator that relaxes with a time constant tau of its own, which is learned:
 *
 *     tau dh/dt = -h + tanh(W x + U h + b)
 *
 * and Euler's method, with steps of length dt, makes a recurrent network of it:
 *
 *     h' = h + dt/tau (-h + tanh(W x + U h + b)),     tau = 1 + softplus(p)
 *
 * tau > 1 >= dt keeps Euler's method stable. Any smooth motion can be had so: Funahashi and Nakamura,
 * "Approximation of dynamical systems by continuous time recurrent neural networks", Neural Networks 6
 * (1993).
 *
 * As time is a number in the equation, it need not go in equal steps: here dt is the first input, how
 * long it is from this look at the signal until the next. `begin` works out 1/tau once for all steps.
 *
 * The task: an oscillation, sometimes faster and sometimes slower, is looked at at irregular times.
 * What will be seen next, after dt? */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct ctrnn {
    tl_var w, u, b, p, rate;
} ctrnn;

static const tl_cell_weight ctrnn_weights[] = {
    TL_WEIGHT(ctrnn, w, .shape = "H,I"),
    TL_WEIGHT(ctrnn, u, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(ctrnn, b, .shape = "H"),
    TL_WEIGHT(ctrnn, p, .shape = "H", .init = TL_INIT_NORMAL, .value = 1),
    TL_WEIGHT(ctrnn, rate, .shape = NULL), /* 1/tau */
    TL_WEIGHTS_END};

static void ctrnn_begin(const tl_cell_call *c, void *weights)
{
    ctrnn *w = weights;
    w->rate = tl_reciprocal(c->tape, tl_add_scalar(c->tape, tl_softplus(c->tape, w->p), 1));
}

static void ctrnn_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const ctrnn *w = c->weights;
    tl_var h = state[0], dt = tl_slice(t, x, 1, 0, 1, 1);
    tl_var a = tl_tanh(t, tl_linear_op(t, h, w->u, tl_linear_op(t, x, w->w, w->b)));
    state[0] = tl_lerp(t, h, a, tl_mul(t, dt, w->rate));
}

static const tl_cell_type ctrnn_cell = {.name = "ctrnn",
                                        .bytes = sizeof(ctrnn),
                                        .weights = ctrnn_weights,
                                        .states = {{"h", "H"}},
                                        .begin = ctrnn_begin,
                                        .step = ctrnn_step};

/* ---- the task --------------------------------------------------------------------------- */

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t b = 0; b < batch; b++) {
        double phase = 6.2831853 * tl_random_unit(random), speed = 0.8 + 0.4 * tl_random_unit(random);
        for (int64_t t = 0; t < steps; t++) {
            double dt = 0.1 + 0.9 * tl_random_unit(random);
            x[(t * batch + b) * 2] = (float)dt;
            x[(t * batch + b) * 2 + 1] = (float)sin(phase);
            phase += speed * dt;
            y[t * batch + b] = t < 4 ? NAN : (float)sin(phase);
        }
    }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    printf("\n  after dt    it was    the network said\n");
    for (int64_t t = steps - 8; t < steps; t++)
        printf("  %8.3f  %8.3f  %8.3f\n", x[t * batch * 2], y[t * batch], output[t * batch]);
}

int main(int argc, char **argv)
{
    return lesson_run(&(lesson){.rnn = {.cell = &ctrnn_cell, .input = 2, .hidden = 24, .layers = 1},
                                .tiny = {.cell = &ctrnn_cell, .input = 3, .hidden = 4, .layers = 1},
                                .steps = 32,
                                .batch = 32,
                                .outputs = 1,
                                .draw = draw,
                                .show = show,
                                .updates = 1500,
                                .rate = 0.01,
                                .goal = 0.01},
                      argc, argv);
}
