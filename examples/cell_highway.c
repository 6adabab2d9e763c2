/* cell_highway.c - the recurrent highway network: several small steps within each step.
 *
 * From one input to the next an ordinary RNN is one layer deep. Here the state s goes through D layers,
 * on a highway that lets it pass where a gate g is closed, and so gradients too:
 *
 *     s_0 = h
 *     n   = tanh   (U_n s_(l-1) + b_n  [+ W_n x where l = 1])       l = 1..D
 *     g   = sigmoid(U_g s_(l-1) + b_g  [+ W_g x where l = 1])
 *     s_l = g n + (1-g) s_(l-1)
 *     h'  = s_D
 *
 * The carry gate of the paper is coupled, 1 - g, as in its experiments. Zilly, Srivastava, Koutnik and
 * Schmidhuber, "Recurrent highway networks", ICML 2017.
 *
 * The D matrices are one weight "D,2H,H", where D is a letter of the cell's own.
 *
 * The task: each input shuffles three cups in one of six ways; where are they now? The answer is a
 * product of permutations, for which state and input must be multiplied, as it were, in every step.
 * Compared with a network of the same cell that is as wide, but only one layer deep. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

enum { DEEPEST = 8 };

typedef struct highway {
    tl_var w, u, b;
} highway;

typedef struct highway_options {
    int64_t depth; /* D, 1..DEEPEST */
} highway_options;

static const tl_cell_weight highway_weights[] = {
    TL_WEIGHT(highway, w, .shape = "2H,I"), TL_WEIGHT(highway, u, .shape = "D,2H,H", .recurrent = true),
    TL_WEIGHT(highway, b, .shape = "D,2H"), TL_WEIGHTS_END};

static int64_t highway_size(const tl_rnn_config *config, const void *options, char letter)
{
    (void)config;
    return letter == 'D' ? ((const highway_options *)options)->depth : 0;
}

static void highway_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const highway *w = c->weights;
    const highway_options *o = c->options;
    tl_var s = state[0], part[2];
    for (int64_t l = 0; l < o->depth; l++) {
        tl_var b = tl_select(t, w->b, 0, l);
        b = l ? b : tl_linear_op(t, x, w->w, b);
        tl_chunk(t, tl_linear_op(t, s, tl_select(t, w->u, 0, l), b), 2, 1, part);
        s = tl_lerp(t, s, tl_tanh(t, part[0]), tl_sigmoid(t, part[1]));
    }
    state[0] = s;
}

static const tl_cell_type highway_cell = {.name = "highway",
                                          .gates = "n, g",
                                          .bytes = sizeof(highway),
                                          .weights = highway_weights,
                                          .states = {{"h", "H"}},
                                          .step = highway_step,
                                          .options_bytes = sizeof(highway_options),
                                          .size = highway_size};

/* ---- the task --------------------------------------------------------------------------- */

static const int order[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

/* The shuffle that does first a, then b. */
static int64_t after(int64_t a, int64_t b)
{
    int64_t k = 0;
    while (order[k][0] != order[a][order[b][0]] || order[k][1] != order[a][order[b][1]])
        k++;
    return k;
}

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0, cups = 0; t < steps; t++) {
            int64_t shuffle = tl_random_below(random, 6);
            cups = after(cups, shuffle);
            x[(t * batch + b) * 6 + shuffle] = 1;
            y[t * batch + b] = (float)cups;
        }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    int64_t right = 0;
    (void)x;
    printf("\n  where the cups are:  ");
    for (int64_t t = 0; t < steps; t++)
        for (int cup = 0; cup < 4; cup++)
            printf("%c", cup < 3 ? 'A' + order[(int)y[t * batch]][cup] : ' ');
    printf("\n  and for the network: ");
    for (int64_t t = 0; t < steps; t++)
        for (int cup = 0; cup < 4; cup++)
            printf("%c", cup < 3 ? 'A' + order[lesson_best(6, output + t * batch * 6)][cup] : ' ');
    for (int64_t i = 0; i < steps * batch; i++)
        right += lesson_best(6, output + i * 6) == (int64_t)y[i];
    printf("\n  right: %.1f %% (guessing: 16.7 %%)\n", 100. * (double)right / (double)(steps * batch));
}

int main(int argc, char **argv)
{
    static const highway_options four = {4}, three = {3}, one = {1};
    return lesson_run(
        &(lesson){
            .rnn = {.cell = &highway_cell, .options = &four, .input = 6, .hidden = 24, .layers = 1},
            .tiny = {.cell = &highway_cell, .options = &three, .input = 2, .hidden = 3, .layers = 1},
            .rival = {.cell = &highway_cell, .options = &one, .input = 6, .hidden = 24, .layers = 1},
            .steps = 12,
            .batch = 32,
            .outputs = 6,
            .labels = true,
            .draw = draw,
            .show = show,
            .updates = 800,
            .rate = 0.01,
            .goal = 0.5},
        argc, argv);
}
