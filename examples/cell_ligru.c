/* cell_ligru.c - the light GRU: a GRU with one gate less.
 *
 * A GRU's reset gate and its update gate do nearly the same thing, so the light GRU does without the
 * former; and as the gate z alone now decides what is kept, the candidate may be a relu, through which
 * gradients pass undamped over many steps:
 *
 *     z  = sigmoid(norm(W_z x) + U_z h)
 *     n  = relu   (norm(W_n x) + U_n h)
 *     h' = z h + (1-z) n
 *
 * What keeps a relu from running away is the normalisation of what comes from the input. The paper's is
 * that of the batch, which must keep running means for later use; here it is layer normalisation, which
 * need not. It does not depend on the recurrence, so `input` does it for all steps in one go.
 * Ravanelli, Brakel, Omologo and Bengio, "Light gated recurrent units for speech recognition", IEEE
 * Transactions on Emerging Topics in Computational Intelligence 2 (2018).
 *
 * The task is the adding problem (Hochreiter and Schmidhuber, 1997): of two rows of numbers one is
 * noise, but for two numbers that are marked in the other. What is their sum, at the end? Always to say
 * 1 has a loss of 1/6. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct ligru {
    tl_var w, gain, bias, u;
} ligru;

static const tl_cell_weight ligru_weights[] = {
    TL_WEIGHT(ligru, w, .shape = "2H,I"),
    TL_WEIGHT(ligru, gain, .shape = "2H", .init = TL_INIT_VALUE, .value = 1),
    TL_WEIGHT(ligru, bias, .shape = "2H", .init = TL_INIT_ZEROS),
    TL_WEIGHT(ligru, u, .shape = "2H,H", .init = TL_INIT_ORTHOGONAL, .recurrent = true),
    TL_WEIGHTS_END};

/* x: [T,B,I] -> [T,B,2H] */
static tl_var ligru_input(const tl_cell_call *c, tl_var x)
{
    const ligru *w = c->weights;
    return tl_layer_norm(c->tape, tl_linear_op(c->tape, x, w->w, TL_NONE), 1, w->gain, w->bias, 1e-5);
}

static void ligru_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const ligru *w = c->weights;
    tl_var h = state[0], gate[2];
    tl_chunk(t, tl_linear_op(t, h, w->u, x), 2, 1, gate);
    tl_var z = tl_sigmoid(t, gate[0]), n = tl_relu(t, gate[1]);
    state[0] = tl_lerp(t, n, h, z);
}

static const tl_cell_type ligru_cell = {.name = "ligru",
                                        .gates = "z, n",
                                        .bytes = sizeof(ligru),
                                        .weights = ligru_weights,
                                        .states = {{"h", "H"}},
                                        .input = ligru_input,
                                        .step = ligru_step};

/* ---- the task --------------------------------------------------------------------------- */

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t b = 0; b < batch; b++) {
        int64_t mark[2] = {tl_random_below(random, steps / 2),
                           steps / 2 + tl_random_below(random, steps / 2)};
        float sum = 0;
        for (int64_t t = 0; t < steps; t++) {
            bool marked = t == mark[0] || t == mark[1];
            float number = (float)tl_random_unit(random);
            x[(t * batch + b) * 2] = number;
            x[(t * batch + b) * 2 + 1] = marked;
            sum += marked ? number : 0;
            y[t * batch + b] = t == steps - 1 ? sum : NAN;
        }
    }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    printf("\n  the marked ones         their sum    the network's\n");
    for (int64_t b = 0; b < 5; b++) {
        int64_t end = (steps - 1) * batch + b;
        for (int64_t t = 0; t < steps; t++)
            if (x[(t * batch + b) * 2 + 1] > 0)
                printf("  %.3f (step %2d)", x[(t * batch + b) * 2], (int)t);
        printf("  %9.3f  %9.3f\n", y[end], output[end]);
    }
}

int main(int argc, char **argv)
{
    return lesson_run(&(lesson){.rnn = {.cell = &ligru_cell, .input = 2, .hidden = 24, .layers = 1},
                                .tiny = {.cell = &ligru_cell, .input = 3, .hidden = 4, .layers = 1},
                                .steps = 30,
                                .batch = 32,
                                .outputs = 1,
                                .draw = draw,
                                .show = show,
                                .updates = 1000,
                                .rate = 0.01,
                                .goal = 0.02},
                      argc, argv);
}
