/* cell_clockwork.c - the clockwork RNN: parts of one state that tick at different rates.
 *
 * The H units are G modules of H/G. Module g moves only in steps that its period p_g = 2^g divides, and
 * else keeps what it has; and it reads from modules that are as slow as itself or slower:
 *
 *     a    = tanh(W x + U h + b)                    U: block upper triangular
 *     h'_g = a_g  where t mod p_g = 0, else h_g
 *
 * So a slow module remembers over few steps of its own what is long ago in ours. Koutnik, Greff, Gomez
 * and Schmidhuber, "A clockwork RNN", ICML 2014.
 *
 * U's zeros are put in once for all steps, in `begin`: `blocks` is no weight, but made of one.
 * Who rests is a mask that depends on c->step.
 *
 * The task is the paper's first: to bring forth a signal out of nothing, here a slow wave under a fast
 * one. The only input is a 1 in the first step. An Elman network is trained for comparison; with some
 * seeds it finds the slow wave too, with most it takes much longer. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct clockwork {
    tl_var w, u, b, blocks;
} clockwork;

typedef struct clockwork_options {
    int64_t modules; /* G, which must divide H */
} clockwork_options;

static const tl_cell_weight clockwork_weights[] = {
    TL_WEIGHT(clockwork, w, .shape = "H,I"),
    TL_WEIGHT(clockwork, u, .shape = "H,H", .init = TL_INIT_ORTHOGONAL, .recurrent = true),
    TL_WEIGHT(clockwork, b, .shape = "H"), TL_WEIGHT(clockwork, blocks, .shape = NULL), TL_WEIGHTS_END};

static int64_t module_of(const tl_cell_call *c, int64_t unit)
{
    const clockwork_options *o = c->options;
    return unit * o->modules / c->hidden;
}

/* A mask u8 [rows,H] of those for which it is so. */
static tl_var mask(const tl_cell_call *c, int64_t rows,
                   bool (*is)(const tl_cell_call *c, int64_t row, int64_t unit))
{
    uint8_t *on = tl_scratch(c->tape, (size_t)(rows * c->hidden));
    for (int64_t i = 0; on && i < rows * c->hidden; i++)
        on[i] = is(c, i / c->hidden, i % c->hidden);
    return on ? tl_constant_from(c->tape, TL_U8, TL_SHAPE(rows, c->hidden), on) : tl_poison(c->tape);
}

static bool is_faster(const tl_cell_call *c, int64_t row, int64_t unit)
{
    return module_of(c, unit) < module_of(c, row);
}

static bool rests(const tl_cell_call *c, int64_t row, int64_t unit)
{
    (void)row;
    return c->step % ((int64_t)1 << module_of(c, unit)) != 0;
}

static void clockwork_begin(const tl_cell_call *c, void *weights)
{
    clockwork *w = weights;
    w->blocks = tl_masked_fill(c->tape, w->u, mask(c, c->hidden, is_faster), 0);
}

static void clockwork_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const clockwork *w = c->weights;
    tl_var h = state[0];
    tl_var a = tl_tanh(t, tl_linear_op(t, h, w->blocks, tl_linear_op(t, x, w->w, w->b)));
    state[0] = tl_where(t, mask(c, 1, rests), h, a);
}

static const char *clockwork_refuse(const tl_rnn_config *config, const void *options)
{
    const clockwork_options *o = options;
    bool good = o->modules >= 1 && o->modules <= 30 && config->hidden % o->modules == 0;
    return good ? NULL : "the number of modules, 1 to 30, must divide that of the units";
}

static const tl_cell_type clockwork_cell = {.name = "clockwork",
                                            .bytes = sizeof(clockwork),
                                            .weights = clockwork_weights,
                                            .states = {{"h", "H"}},
                                            .begin = clockwork_begin,
                                            .step = clockwork_step,
                                            .options_bytes = sizeof(clockwork_options),
                                            .refuse = clockwork_refuse};

/* ---- the task --------------------------------------------------------------------------- */

static float wave(int64_t step)
{
    double t = (double)step;
    return (float)(0.7 * sin(2 * 3.14159265 * t / 48) + 0.3 * sin(2 * 3.14159265 * t / 5));
}

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    (void)random;
    for (int64_t i = 0; i < steps * batch; i++) {
        x[i] = i / batch == 0;
        y[i] = wave(i / batch);
    }
}

/* Time runs to the right, a column a step. */
static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    enum { ROWS = 15, MOST = 96 };
    char line[ROWS][MOST + 1];
    (void)x;
    memset(line, ' ', sizeof line);
    for (int64_t t = 0; t < steps && t < MOST; t++) {
        float said = fmaxf(-1, fminf(1, output[t * batch]));
        line[(int)(ROWS / 2. * (1 - 0.99 * y[t * batch]))][t] = '.';
        line[(int)(ROWS / 2. * (1 - 0.99 * said))][t] = 'o';
    }
    printf("\n  the wave (.) and over it the network's (o)\n");
    for (int row = 0; row < ROWS; row++) {
        line[row][MOST] = 0;
        printf("  %s\n", line[row]);
    }
}

int main(int argc, char **argv)
{
    static const clockwork_options six = {6}, three = {3};
    return lesson_run(
        &(lesson){
            .rnn = {.cell = &clockwork_cell, .options = &six, .input = 1, .hidden = 30, .layers = 1},
            .tiny = {.cell = &clockwork_cell, .options = &three, .input = 2, .hidden = 6, .layers = 1},
            .rival = {.cell = &tl_elman_cell, .input = 1, .hidden = 24, .layers = 1},
            .steps = 96,
            .batch = 1,
            .outputs = 1,
            .draw = draw,
            .show = show,
            .updates = 800,
            .rate = 0.01,
            .goal = 0.02},
        argc, argv);
}
