/* cell_memory.c - a neural Turing machine, small: a controller with a memory of its own.
 *
 * The memory M has N slots of W numbers. The controller, an ordinary recurrent layer, compares a key k
 * with all slots; the more alike the key and a slot, the larger the slot's share w of what is done:
 *
 *     h'  = tanh(W_x x + W_r r + W_h h + b)                r: what was read in the step before
 *     w_i = softmax over i of beta cos(k, M_i)             beta = 1 + softplus(..), a sharpness
 *     M_i' = M_i (1 - w_i e) + w_i a                       to write: e = sigmoid(..) erases, a is added
 *     r'  = sum over i of w_i M_i'                         to read
 *
 * where writing and reading each have a key and a sharpness, and all of k, beta, e, a are linear in h'.
 * Nothing here is a decision: every slot is always read and written a little, so that everything can be
 * differentiated. Graves, Wayne and Danihelka, "Neural Turing machines", arXiv:1410.5401; of its ways
 * to find a slot only that by content, without shifts.
 *
 * Slots that hold the same are treated alike, and so hold the same for ever after: the memory must not
 * begin with zeros. Its initial contents are learned, from normal numbers.
 *
 * The task is to repeat a row of bits, once it is over; the output is r, so that what is said has been
 * in the memory. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct memory {
    tl_var w_x, w_r, w_h, b, heads, heads_b, sharp, sharp_b;
} memory;

typedef struct memory_options {
    int64_t slots, width; /* N, W */
} memory_options;

static const tl_cell_weight memory_weights[] = {
    TL_WEIGHT(memory, w_x, .shape = "H,I"),
    TL_WEIGHT(memory, w_r, .shape = "H,W"),
    TL_WEIGHT(memory, w_h, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(memory, b, .shape = "H"),
    TL_WEIGHT(memory, heads, .shape = "4W,H"), /* two keys, e, a */
    TL_WEIGHT(memory, heads_b, .shape = "4W"),
    TL_WEIGHT(memory, sharp, .shape = "2,H"), /* two sharpnesses */
    TL_WEIGHT(memory, sharp_b, .shape = "2"),
    TL_WEIGHTS_END};

static int64_t memory_size(const tl_rnn_config *config, const void *options, char letter)
{
    const memory_options *o = options;
    (void)config;
    return letter == 'N' ? o->slots : letter == 'W' ? o->width : 0;
}

/* The share of each slot, [B,N,1]. key: [B,W], sharpness: [B,1] */
static tl_var find(tl_tape *t, tl_var M, tl_var key, tl_var sharpness)
{
    tl_var alike = tl_cosine_similarity(t, M, tl_unsqueeze(t, key, 1), 2, 1e-6); /* [B,N] */
    sharpness = tl_add_scalar(t, tl_softplus(t, sharpness), 1);
    return tl_unsqueeze(t, tl_softmax(t, tl_mul(t, sharpness, alike)), 2);
}

static void memory_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const memory *w = c->weights;
    tl_var r = state[0], h = state[1], M = state[2], part[4], beta[2];
    h = tl_linear_op(t, h, w->w_h, tl_linear_op(t, r, w->w_r, tl_linear_op(t, x, w->w_x, w->b)));
    h = tl_tanh(t, h);
    tl_chunk(t, tl_linear_op(t, h, w->heads, w->heads_b), 4, 1, part);
    tl_chunk(t, tl_linear_op(t, h, w->sharp, w->sharp_b), 2, 1, beta);
    tl_var at = find(t, M, part[0], beta[0]);
    tl_var e = tl_unsqueeze(t, tl_sigmoid(t, part[2]), 1); /* [B,1,W], as a */
    tl_var a = tl_unsqueeze(t, part[3], 1);
    M = tl_mul(t, M, tl_rsub_scalar(t, tl_mul(t, at, e), 1));
    M = tl_add(t, M, tl_mul(t, at, a));
    at = find(t, M, part[1], beta[1]);
    state[0] = tl_sum_axes(t, tl_mul(t, at, M), 1, (int[]){1}, false);
    state[1] = h, state[2] = M;
}

static const tl_cell_type memory_cell = {.name = "memory",
                                         .bytes = sizeof(memory),
                                         .weights = memory_weights,
                                         .states = {{"r", "W"}, {"h", "H"}, {"M", "N,W"}},
                                         .initial = {[2] = {TL_INIT_NORMAL, 0.5}},
                                         .step = memory_step,
                                         .options_bytes = sizeof(memory_options),
                                         .size = memory_size};

/* ---- the task --------------------------------------------------------------------------- */

enum { LENGTH = 4, BITS = 3 };

/* LENGTH steps to look at, and LENGTH to speak; the last input says which. */
static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t i = 0; i < steps * batch; i++) {
        bool look = i / batch < LENGTH;
        for (int64_t bit = 0; bit < BITS; bit++) {
            if (look)
                x[i * (BITS + 1) + bit] = (float)tl_random_below(random, 2);
            y[i * BITS + bit] = look ? NAN : x[(i - LENGTH * batch) * (BITS + 1) + bit];
        }
        x[i * (BITS + 1) + BITS] = !look;
    }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    int64_t right = 0;
    printf("\n  shown and repeated, a row of bits a step\n");
    for (int64_t t = 0; t < LENGTH; t++) {
        for (int64_t bit = 0; bit < BITS; bit++)
            printf("%s%d", bit ? " " : "  ", (int)x[t * batch * (BITS + 1) + bit]);
        for (int64_t bit = 0; bit < BITS; bit++)
            printf("%s%5.2f", bit ? " " : "    ", output[(t + LENGTH) * batch * BITS + bit]);
        printf("\n");
    }
    for (int64_t i = LENGTH * batch * BITS; i < steps * batch * BITS; i++)
        right += (output[i] > 0.5f) == (y[i] > 0.5f);
    printf("  right: %.1f %% of the bits (guessing: 50 %%)\n",
           100. * (double)right / (double)(LENGTH * batch * BITS));
}

int main(int argc, char **argv)
{
    static const memory_options six = {6, 8}, tiny = {3, 2};
    return lesson_run(
        &(lesson){
            .rnn =
                {.cell = &memory_cell, .options = &six, .input = BITS + 1, .hidden = 24, .layers = 1},
            .tiny = {.cell = &memory_cell, .options = &tiny, .input = 3, .hidden = 4, .layers = 1},
            .steps = 2 * LENGTH,
            .batch = 32,
            .outputs = BITS,
            .draw = draw,
            .show = show,
            .updates = 1500,
            .rate = 0.01,
            .goal = 0.05},
        argc, argv);
}
