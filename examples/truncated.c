/* truncated.c - what truncation costs: the bias of the gradient, and how it falls as k2 grows.
 *
 * Truncated BPTT lets each loss send its gradient back through k2 steps only. What would have come from
 * further back is missing, and not by chance: it is missing every time, so no averaging over more data
 * brings it back. That is a bias, and here it is measured, against the gradient of full BPTT, with the
 * weights held still.
 *
 * Two Elman networks, h' = tanh(W_ih x + b + W_hh h), read the same noise x_t and are asked at every
 * step for the sum of all they have read, faded by 0.95 a step. They differ in one number: W_hh is an
 * orthogonal matrix times 0.98, so that a gradient loses 2 % a step and comes far; or times 0.5, so
 * that it halves at every step. The error of the gradient that stops after k2 steps is what lies
 * beyond: it falls about as memory^k2, and faster where the task itself asks little of steps so far
 * back.
 *
 * The loop is tl_bptt_run with k1 = 1, Williams and Peng's BPTT(h): every loss goes back exactly
 * h = k2 steps. Beside it the common form, k1 = k2 (detach every k2 steps), at the same k2: a loss at
 * the beginning of its stretch goes back one step only, so once k2 is of use the bias is larger, and
 * the price is k2 times lower. In the tables
 *
 *     cosine       of the angle between truncated and full gradient
 *     norm         |truncated| / |full|
 *     bias         |truncated - full| / |full|
 *
 * for the weights of the recurrent layer, all in one vector. Ends with 1 if the bias does not fall. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <tapeloop/tapeloop.h>

enum { T = 64, B = 32, I = 1, H = 24 };

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer out;
    tl_tensor *inputs, *goals; /* [T,B,1] */
} model;

/* x_t, and what is to be told: y_t = 0.95 y_{t-1} + 0.3 x_t. */
static bool make_task(model *m)
{
    tl_random random = tl_random_seed(7);
    m->inputs = tl_tensor_zeros(TL_F64, TL_SHAPE(T, B, I), NULL);
    m->goals = tl_tensor_zeros(TL_F64, TL_SHAPE(T, B, 1), NULL);
    if (!m->inputs || !m->goals)
        return false;
    tl_random_normal(&random, m->inputs, 0, 1);
    for (int64_t i = 0; i < T * B; i++)
        tl_tensor_set(m->goals, i,
                      (i < B ? 0 : 0.95 * tl_tensor_get(m->goals, i - B)) +
                          0.3 * tl_tensor_get(m->inputs, i));
    return true;
}

/* memory: what a gradient keeps of its length from step to step. */
static bool make_model(model *m, double memory)
{
    *m = (model){.params = tl_params_new(TL_F64, 3)};
    if (!m->params)
        return false;
    tl_rnn_init(
        &m->rnn, m->params,
        &(tl_rnn_config){
            .cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1, .init = TL_RNN_ORTHOGONAL});
    tl_linear_init(&m->out, m->params, "out.", H, 1, true);
    if (tl_params_status(m->params) != TL_OK || !make_task(m))
        return false;
    tl_tensor *w = tl_rnn_weight(&m->rnn, 0, 0, "weight_hh")->value;
    for (int64_t i = 0; i < w->layout.count; i++)
        tl_tensor_set(w, i, memory * tl_tensor_get(w, i));
    tl_tensor *in = tl_rnn_weight(&m->rnn, 0, 0, "weight_ih")->value;
    for (int64_t i = 0; i < in->layout.count; i++)
        tl_tensor_set(in, i, 0.1 * tl_tensor_get(in, i)); /* tanh stays where it is nearly a line */
    return true;
}

static void free_model(model *m)
{
    tl_tensor_release(m->inputs);
    tl_tensor_release(m->goals);
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
}

/* A sum over the steps, so that the parts add up to the whole. */
static tl_var record(tl_tape *t, void *self, int64_t from, int64_t to, tl_var *state)
{
    model *m = self;
    tl_var x = tl_slice(t, tl_constant(t, m->inputs), 0, from, to, 1);
    tl_var goal = tl_slice(t, tl_constant(t, m->goals), 0, from, to, 1);
    tl_var y = tl_linear(t, tl_unroll(t, &m->rnn, x, state), &m->out);
    return tl_affine(t, tl_mse(t, y, goal, TL_REDUCE_SUM), 1.0 / (T * B), 0);
}

enum { MOST = H * I + H * H + 2 * H };

/* The gradient of the recurrent layer's weights as one vector. No `update`: the passes add up. */
static bool gradient_of(model *m, int64_t k1, int64_t k2, double g[MOST])
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var state = TL_NONE;
    tl_bptt bptt = {.k1 = k1, .k2 = k2, .model = m, .record = record};
    tl_zero_gradients(m->params);
    if (!t || tl_bptt_run(t, &bptt, T, 1, &state) != TL_OK) {
        fprintf(stderr, "%s\n", t ? tl_tape_message(t) : "out of memory");
        tl_tape_free(t);
        return false;
    }
    tl_tape_free(t);
    int next = 0;
    for (int k = 0; k < m->params->count; k++) {
        const tl_param *p = m->params->entry[k];
        for (int64_t i = 0; p != m->out.weight && p != m->out.bias && i < p->gradient->layout.count;
             i++)
            g[next++] = tl_tensor_get(p->gradient, i);
    }
    return next == MOST;
}

static double dot(const double a[MOST], const double b[MOST])
{
    double sum = 0;
    for (int i = 0; i < MOST; i++)
        sum += a[i] * b[i];
    return sum;
}

static double bias_of(const double g[MOST], const double full[MOST])
{
    double difference[MOST];
    for (int i = 0; i < MOST; i++)
        difference[i] = g[i] - full[i];
    return sqrt(dot(difference, difference) / dot(full, full));
}

enum { LINES = 7 }; /* k2 = 1, 2, 4 .. 64 */

/* One table. False if something failed, or the bias does not fall. */
static bool measure(double memory, double bias[LINES])
{
    model m;
    double full[MOST], g[MOST], detached[MOST];
    bool good = make_model(&m, memory) && gradient_of(&m, 0, 0, full), falls = true;
    printf("recurrent weights: %.2f of an orthogonal matrix\n\n", memory);
    printf("               k1 = 1, BPTT(k2)              k1 = k2\n");
    printf("     k2    cosine      norm      bias        bias     memory^k2\n");
    for (int i = 0; i < LINES && good; i++) {
        int64_t k2 = (int64_t)1 << i;
        good = gradient_of(&m, 1, k2, g) && gradient_of(&m, k2, k2, detached);
        if (!good)
            break;
        bias[i] = bias_of(g, full);
        printf("   %4lld  %8.5f  %8.5f  %8.1e    %8.1e      %8.1e\n", (long long)k2,
               dot(g, full) / sqrt(dot(g, g) * dot(full, full)), sqrt(dot(g, g) / dot(full, full)),
               bias[i], bias_of(detached, full), pow(memory, (double)k2));
        falls = falls && (i == 0 || bias[i] < bias[i - 1]);
    }
    puts("");
    free_model(&m);
    return good && falls && bias[LINES - 1] < 1e-12;
}

int main(void)
{
    double longer[LINES] = {0}, shorter[LINES] = {0};
    puts("Which losses reach which steps: BPTT(3), here on 8 steps\n");
    tl_bptt_explain(&(tl_bptt){.k1 = 1, .k2 = 3}, 8, stdout);
    printf("\nand now %d steps, %d sequences, %d units, full BPTT for comparison\n\n", T, B, H);
    bool falls = measure(0.98, longer);
    falls = measure(0.5, shorter) && falls;
    int as_good = 0; /* where the first network is as well off as the second with four steps */
    while (as_good < LINES - 1 && longer[as_good] > shorter[2])
        as_good++;
    printf(
        "The second network has a bias of %.1e with k2 = 4; the first one has %.1e there, and needs\n"
        "k2 = %d for as much. What k2 must be is a question to the network, and the network learns:\n"
        "if it is to become one with a long memory, a short k2 is what keeps it from it.\n",
        shorter[2], longer[2], 1 << as_good);
    bool shorter_is_easier = shorter[2] < 0.1 && longer[2] > 0.1;
    if (!falls)
        puts("FAILED: the bias does not fall as k2 grows");
    if (!shorter_is_easier)
        puts("FAILED: short memory is not the easier case");
    return falls && shorter_is_easier ? EXIT_SUCCESS : EXIT_FAILURE;
}
