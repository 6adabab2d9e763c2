/* cell_mlstm.c - the mLSTM of xLSTM: an LSTM whose cell is a matrix.
 *
 * The matrix C is an associative memory: what is to be remembered, the value v, is stored under a key k
 * as the outer product v k', and comes back when C meets a query q like that key:
 *
 *     q, k, v = W_q x + b_q, (W_k x + b_k) / sqrt H, W_v x + b_v     o = sigmoid(W_o x + b_o)
 *     i, f    = w_i x + b_i, log sigmoid(w_f x + b_f)                one number each
 *     C' = exp(f) C + exp(i) v k'
 *     n' = exp(f) n + exp(i) k                                       h' = o (C' q) / max(|n'.q|, 1)
 *
 * with C and n kept divided by exp(m), m' = max(f + m, i), so that nothing overflows: the 1 becomes
 * exp(-m'). No gate reads h. Beck, Poeppel, Spanring et al., "xLSTM: extended long short-term memory",
 * NeurIPS 2024, section 2.3, with one head.
 *
 * A state may have any shape: C's is "H,H", which makes [B,H,H] of it in a batch, and m's is "1".
 *
 * The task: pairs of a letter and a digit are shown; then the letters come again, in another order.
 * Which digit was it? Guessing has a loss of log 10 = 2.3; with some seeds one letter in eight
 * is never learned, 0.3. An LSTM is trained for comparison. */
#include "cell_lesson.h"

/* ---- the cell --------------------------------------------------------------------------- */

typedef struct mlstm {
    tl_var w, b, w_i, b_i, w_f, b_f;
} mlstm;

static const tl_cell_weight mlstm_weights[] = {TL_WEIGHT(mlstm, w, .shape = "4H,I"), /* of q, k, v, o */
                                               TL_WEIGHT(mlstm, b, .shape = "4H"),
                                               TL_WEIGHT(mlstm, w_i, .shape = "1,I"),
                                               TL_WEIGHT(mlstm, b_i, .shape = "1"),
                                               TL_WEIGHT(mlstm, w_f, .shape = "1,I"),
                                               TL_WEIGHT(mlstm, b_f, .shape = "1",
                                                         .init = TL_INIT_VALUE,
                                                         .value = 4), /* forgets little at first */
                                               TL_WEIGHTS_END};

static void mlstm_step(const tl_cell_call *call, tl_var x, tl_var *state)
{
    tl_tape *t = call->tape;
    const mlstm *w = call->weights;
    tl_var C = state[1], n = state[2], m = state[3], part[4];
    tl_chunk(t, tl_linear_op(t, x, w->w, w->b), 4, 1, part);
    tl_var q = tl_unsqueeze(t, part[0], 2), v = tl_unsqueeze(t, part[2], 2); /* columns, [B,H,1] */
    tl_var k = tl_div_scalar(t, part[1], sqrt((double)call->hidden)), o = tl_sigmoid(t, part[3]);
    tl_var i = tl_linear_op(t, x, w->w_i, w->b_i); /* [B,1], as f and m */
    tl_var f = tl_add(t, tl_logsigmoid(t, tl_linear_op(t, x, w->w_f, w->b_f)), m);
    m = tl_maximum(t, f, i);
    i = tl_exp(t, tl_sub(t, i, m)), f = tl_exp(t, tl_sub(t, f, m));
    k = tl_mul(t, i, k);
    C = tl_add(t, tl_mul(t, tl_unsqueeze(t, f, 2), C), tl_matmul(t, v, tl_unsqueeze(t, k, 1)));
    n = tl_add(t, tl_mul(t, f, n), k);
    tl_var read = tl_squeeze(t, tl_matmul(t, C, q), 2);
    tl_var weight = tl_squeeze(t, tl_matmul(t, tl_unsqueeze(t, n, 1), q), 2); /* n.q, [B,1] */
    weight = tl_maximum(t, tl_abs(t, weight), tl_exp(t, tl_neg(t, m)));
    state[0] = tl_mul(t, o, tl_div(t, read, weight));
    state[1] = C, state[2] = n, state[3] = m;
}

static const tl_cell_type mlstm_cell = {.name = "mlstm",
                                        .bytes = sizeof(mlstm),
                                        .weights = mlstm_weights,
                                        .states = {{"h", "H"}, {"C", "H,H"}, {"n", "H"}, {"m", "1"}},
                                        .step = mlstm_step};

/* ---- the task --------------------------------------------------------------------------- */

enum { LETTERS = 8, DIGITS = 10, PAIRS = 6 };

static void shuffle(tl_random *random, int64_t count, int64_t *list)
{
    for (int64_t k = count - 1; k > 0; k--) {
        int64_t other = tl_random_below(random, k + 1), kept = list[k];
        list[k] = list[other];
        list[other] = kept;
    }
}

static void draw(tl_random *random, int64_t steps, int64_t batch, float *x, float *y)
{
    for (int64_t b = 0; b < batch; b++) {
        int64_t letter[LETTERS] = {0, 1, 2, 3, 4, 5, 6, 7}, digit[LETTERS];
        shuffle(random, LETTERS, letter);
        for (int64_t t = 0; t < steps; t++) {
            float *now = x + (t * batch + b) * (LETTERS + DIGITS);
            if (t == PAIRS)
                shuffle(random, PAIRS, letter);
            int64_t which = letter[t % PAIRS];
            if (t < PAIRS)
                digit[which] = tl_random_below(random, DIGITS);
            now[which] = 1;
            now[LETTERS + digit[which]] = t < PAIRS;
            y[t * batch + b] = t < PAIRS ? NAN : (float)digit[which];
        }
    }
}

static void show(int64_t steps, int64_t batch, const float *x, const float *y, const float *output)
{
    int64_t right = 0;
    printf("\n  shown:");
    for (int64_t t = 0; t < steps; t++) {
        const float *now = x + t * batch * (LETTERS + DIGITS);
        printf("%s %c", t == PAIRS ? "\n  said: " : "", (int)('A' + lesson_best(LETTERS, now)));
        printf("%d", (int)lesson_best(DIGITS, t < PAIRS ? now + LETTERS : output + t * batch * DIGITS));
    }
    for (int64_t i = PAIRS * batch; i < steps * batch; i++)
        right += lesson_best(DIGITS, output + i * DIGITS) == (int64_t)y[i];
    printf("\n  right: %.1f %% (guessing: 10 %%)\n",
           100. * (double)right / (double)((steps - PAIRS) * batch));
}

int main(int argc, char **argv)
{
    const int64_t inputs = LETTERS + DIGITS;
    return lesson_run(
        &(lesson){.rnn = {.cell = &mlstm_cell, .input = inputs, .hidden = 24, .layers = 1},
                  .tiny = {.cell = &mlstm_cell, .input = 3, .hidden = 4, .layers = 1},
                  .rival = {.cell = &tl_lstm_cell, .input = inputs, .hidden = 24, .layers = 1},
                  .steps = 2 * PAIRS,
                  .batch = 32,
                  .outputs = DIGITS,
                  .labels = true,
                  .draw = draw,
                  .show = show,
                  .updates = 600,
                  .rate = 0.01,
                  .goal = 0.8},
        argc, argv);
}
