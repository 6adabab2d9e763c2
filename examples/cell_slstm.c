/* cell_slstm.c - the sLSTM of xLSTM: an LSTM that can change its mind.
 *
 * An LSTM's input gate is a sigmoid: what comes late can at best be as loud as what is there. Here the
 * gate is an exponential, so that any input may outweigh all before it, and a normaliser n counts the
 * weights, so that what is read, c/n, is a weighted mean:
 *
 *     z  = tanh(W_z x + R_z h + b_z)                  o = sigmoid(W_o x + R_o h + b_o)
 *     i  = W_i x + R_i h + b_i                        f = log sigmoid(W_f x + R_f h + b_f)
 *     c' = exp(f) c + exp(i) z
 *     n' = exp(f) n + exp(i)                          h' = o c'/n'
 *
 * exp(i) may overflow; as h' is a quotient, c and n are kept divided by exp(m), m being the largest
 * exponent so far, which changes nothing:
 *
 *     m' = max(f + m, i),   i <- i - m',   f <- f + m - m'
 *
 * Before the first step m is as good as -infinity. Beck, Poeppel, Spanring et al., "xLSTM: extended
 * long short-term memory", NeurIPS 2024, section 2.2, with one head.
 *
 * The task is to change one's mind: bids come in, each with a colour; at every step, what colour had
 * the highest bid so far? An LSTM is trained for comparison. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct slstm {
    tl_var w, r, b;
} slstm;

static const tl_cell_weight slstm_weights[] = {TL_WEIGHT(slstm, w, .shape = "4H,I"),
                                               TL_WEIGHT(slstm, r, .shape = "4H,H", .recurrent = true),
                                               TL_WEIGHT(slstm, b, .shape = "4H"), TL_WEIGHTS_END};

static void slstm_step(const tl_cell_call *call, tl_var x, tl_var *state)
{
    tl_tape *t = call->tape;
    const slstm *w = call->weights;
    tl_var h = state[0], c = state[1], n = state[2], m = state[3], gate[4];
    tl_chunk(t, tl_linear_op(t, h, w->r, tl_linear_op(t, x, w->w, w->b)), 4, 1, gate);
    tl_var z = tl_tanh(t, gate[0]), o = tl_sigmoid(t, gate[1]);
    tl_var i = gate[2], f = tl_add(t, tl_logsigmoid(t, gate[3]), m);
    m = tl_maximum(t, f, i);
    i = tl_exp(t, tl_sub(t, i, m));
    f = tl_exp(t, tl_sub(t, f, m));
    state[1] = tl_add(t, tl_mul(t, f, c), tl_mul(t, i, z));
    state[2] = tl_add(t, tl_mul(t, f, n), i);
    state[3] = m;
    state[0] = tl_mul(t, o, tl_div(t, state[1], state[2]));
}

static const tl_cell_type slstm_cell = {.name = "slstm",
                                        .gates = "z, o, i, f",
                                        .bytes = sizeof(slstm),
                                        .weights = slstm_weights,
                                        .states = {{"h", "H"}, {"c", "H"}, {"n", "H"}, {"m", "H"}},
                                        .initial = {[3] = {.value = -1e4}},
                                        .step = slstm_step};

/* ---- the task --------------------------------------------------------------------------- */

enum { COLOURS = 4 };

static const char *const colours[COLOURS] = {"red", "green", "blue", "yellow"};

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t b = 0; b < batch; b++) {
        float highest = -1, colour = 0;
        for (int64_t t = 0; t < steps; t++) {
            float *now = x + (t * batch + b) * (1 + COLOURS);
            int64_t c = tl_random_below(random, COLOURS);
            now[0] = 10 * (float)tl_random_unit(random);
            now[1 + c] = 1;
            colour = now[0] > highest ? (float)c : colour;
            highest = fmaxf(highest, now[0]);
            y[t * batch + b] = colour;
        }
    }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    int64_t right = 0;
    printf("\n  bid    of      leads   the network\n");
    for (int64_t t = 0; t < 10; t++) {
        const float *now = x + t * batch * (1 + COLOURS);
        printf("  %5.2f  %-6s  %-6s  %s\n", now[0], colours[lesson_best(COLOURS, now + 1)],
               colours[(int)y[t * batch]], colours[lesson_best(COLOURS, output + t * batch * COLOURS)]);
    }
    for (int64_t i = 0; i < steps * batch; i++)
        right += lesson_best(COLOURS, output + i * COLOURS) == (int64_t)y[i];
    printf("  right: %.1f %%\n", 100. * (double)right / (double)(steps * batch));
}

int main(int argc, char **argv)
{
    return lesson_run(
        &(lesson){.rnn = {.cell = &slstm_cell, .input = 1 + COLOURS, .hidden = 16, .layers = 1},
                  .tiny = {.cell = &slstm_cell, .input = 3, .hidden = 4, .layers = 1},
                  .rival = {.cell = &tl_lstm_cell, .input = 1 + COLOURS, .hidden = 16, .layers = 1},
                  .steps = 24,
                  .batch = 32,
                  .outputs = COLOURS,
                  .labels = true,
                  .draw = draw,
                  .show = show,
                  .updates = 1000,
                  .rate = 0.02,
                  .goal = 0.15},
        argc, argv);
}
