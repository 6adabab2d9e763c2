/* rnn_bench.c - what a train step costs, and whether its gradients are right.
 *
 *     rnn_bench --workload W2,W3 --threads 1 --reps 31
 *     rnn_bench --workload all --verify
 *
 * A train step: gradients set to zero, forward over T time steps, linear decoder and cross-entropy at
 * every one, mean over all T B rows, gradients of all parameters. f32, no update. Other than that:
 *
 *     W7   the LSTM of W2 as a user would write it, op by op, without anything that is done for all
 *          time steps at once; once with linear layers and once with plain matrix products
 *     W8   a chain of alternating add, mul, tanh on 16 numbers: what an op costs by itself. The addend
 *          and the factor are constants, or want gradients, too
 *     W9   an LSTM layer alone: the output's gradient is given, the input's is computed as well
 *
 * One JSON object a line. us_per_step and kb_per_step are per time step (W8: per op): the median over
 * `reps` samples, each of at least 10 ms; and the peak of what the tape has in use during a train step.
 * ms_per_train_step is of the whole. gflops counts matrix products only, backward as twice forward,
 * though the input's gradient is computed in W9 alone.
 *
 * --verify compares gradients with those of plain C loops in f64 at the end of this file, which know
 * nothing of a tape. Differences are relative to the largest element of the parameter's gradient.
 *
 * Letters: T time, B batch, I input, H hidden, G gates, O output. */
#include <tapeloop/tapeloop.h>

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- workloads ------------------------------------------------------------------- */

typedef enum cell_kind { ELMAN, LSTM, GRU } cell_kind;
typedef enum style { BUILT_IN, USER_LINEAR, USER_MATMUL, LAYER_ALONE, CHAIN } style;

typedef struct workload {
    const char *name, *mode;
    style style;
    cell_kind cell;
    int64_t input, hidden, output, batch, steps;
    int64_t verify_steps; /* T for --verify, where the slow computation takes too long for all */
    bool chain_parameters;
} workload;

enum { CHAIN_STEPS = 3333, CHAIN_OPS = 3 * CHAIN_STEPS, CHAIN_WIDTH = 16 };

static const workload workloads[] = {
    {"W1", "elman", BUILT_IN, ELMAN, 32, 32, 32, 1, 50, 50, false},
    {"W2", "lstm", BUILT_IN, LSTM, 64, 128, 64, 16, 64, 64, false},
    {"W3", "lstm", BUILT_IN, LSTM, 128, 256, 128, 32, 64, 64, false},
    {"W4", "lstm", BUILT_IN, LSTM, 512, 512, 512, 64, 35, 35, false},
    {"W5", "gru", BUILT_IN, GRU, 128, 256, 128, 32, 64, 64, false},
    {"W6", "elman", BUILT_IN, ELMAN, 64, 128, 64, 16, 1000, 1000, false},
    {"W7", "user lstm, linear", USER_LINEAR, LSTM, 64, 128, 64, 16, 64, 64, false},
    {"W7", "user lstm, matmul", USER_MATMUL, LSTM, 64, 128, 64, 16, 64, 64, false},
    {"W8", "constants", CHAIN, ELMAN, 0, CHAIN_WIDTH, 0, 1, CHAIN_OPS, CHAIN_OPS, false},
    {"W8", "parameters", CHAIN, ELMAN, 0, CHAIN_WIDTH, 0, 1, CHAIN_OPS, CHAIN_OPS, true},
    {"W9", "lstm layer, dx", LAYER_ALONE, LSTM, 128, 128, 0, 16, 64, 64, false},
    {"W9", "lstm layer, dx", LAYER_ALONE, LSTM, 512, 512, 0, 64, 64, 32, false},
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

static int64_t gates_of(const workload *w) /* rows of the weights: G H */
{
    static const int64_t gates[] = {[ELMAN] = 1, [LSTM] = 4, [GRU] = 3};
    return gates[w->cell] * w->hidden;
}

static double product_flops(const workload *w)
{
    int64_t a_row = gates_of(w) * (w->input + w->hidden) + w->hidden * w->output;
    return w->style == CHAIN ? 0 : 3 * 2 * (double)(a_row * w->batch * w->steps);
}

/* ---- models ---------------------------------------------------------------------- */

/* What has a gradient, or might have one. */
#define ROLE_LIST(X)                                                                                   \
    X(WEIGHT_IH, "weight_ih")   /* [GH,I] */                                                           \
    X(WEIGHT_HH, "weight_hh")   /* [GH,H] */                                                           \
    X(BIAS_IH, "bias_ih")       /* [GH] */                                                             \
    X(BIAS_HH, "bias_hh")       /* [GH] */                                                             \
    X(WEIGHT_OUT, "weight_out") /* [O,H] */                                                            \
    X(BIAS_OUT, "bias_out")     /* [O] */                                                              \
    X(INPUT, "x")               /* [T,B,I]; the start of the chain */                                  \
    X(ADDEND, "addend")         /* of the chain */                                                     \
    X(FACTOR, "factor")

typedef enum role {
#define X(code, text) code,
    ROLE_LIST(X)
#undef X
        ROLES
} role;

static const char *const role_name[] = {
#define X(code, text) text,
    ROLE_LIST(X)
#undef X
};

typedef struct model {
    const workload *w;
    int64_t steps;
    tl_params *params;
    tl_param *part[ROLES]; /* NULL: the model has no such part */
    bool wants[ROLES];     /* is its gradient asked for? */
    tl_rnn rnn;
    tl_tensor *target, *output_grad;
    tl_var result;       /* of the last train step: the loss; LAYER_ALONE: the output */
    tl_var grads[ROLES]; /* LAYER_ALONE: good until the tape is reset */
} model;

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "rnn_bench: %s: %s\n", what, why);
    exit(1);
}

static void check_tape(const tl_tape *t, const model *m)
{
    if (tl_tape_status(t) != TL_OK)
        give_up(m->w->name, tl_tape_message(t));
}

static tl_var use(tl_tape *t, const model *m, role which)
{
    return m->wants[which] ? tl_use(t, m->part[which]) : tl_constant(t, m->part[which]->value);
}

/* W7: the paper's equations and nothing else. */

static void user_gates(tl_tape *t, tl_var a, tl_var *state)
{
    tl_var gate[4];
    tl_chunk(t, a, 4, 1, gate);
    tl_var i = tl_sigmoid(t, gate[0]);
    tl_var f = tl_sigmoid(t, gate[1]);
    tl_var g = tl_tanh(t, gate[2]);
    tl_var o = tl_sigmoid(t, gate[3]);
    state[1] = tl_add(t, tl_mul(t, f, state[1]), tl_mul(t, i, g));
    state[0] = tl_mul(t, o, tl_tanh(t, state[1]));
}

typedef struct user_cell {
    tl_var weight_ih, weight_hh, bias_ih;
} user_cell;

static void user_linear_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const user_cell *w = c->weights;
    tl_var from_x = tl_linear_op(c->tape, x, w->weight_ih, w->bias_ih);
    tl_var from_h = tl_linear_op(c->tape, state[0], w->weight_hh, TL_NONE);
    user_gates(c->tape, tl_add(c->tape, from_x, from_h), state);
}

static void user_matmul_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const user_cell *w = c->weights;
    tl_var from_x = tl_matmul(c->tape, x, w->weight_ih);
    tl_var from_h = tl_matmul(c->tape, state[0], w->weight_hh);
    user_gates(c->tape, tl_add(c->tape, tl_add(c->tape, from_x, from_h), w->bias_ih), state);
}

#define NORMAL .init = TL_INIT_NORMAL, .value = 0.1

static const tl_cell_type user_linear = {
    .name = "user_linear",
    .bytes = sizeof(user_cell),
    .weights =
        (const tl_cell_weight[]){TL_WEIGHT(user_cell, weight_ih, .shape = "4H,I", NORMAL),
                                 TL_WEIGHT(user_cell, weight_hh, .shape = "4H,H", NORMAL),
                                 TL_WEIGHT(user_cell, bias_ih, .shape = "4H", NORMAL), TL_WEIGHTS_END},
    .states = {{"h", "H"}, {"c", "H"}},
    .step = user_linear_step};

static const tl_cell_type user_matmul = {
    .name = "user_matmul",
    .bytes = sizeof(user_cell),
    .weights =
        (const tl_cell_weight[]){TL_WEIGHT(user_cell, weight_ih, .shape = "I,4H", NORMAL),
                                 TL_WEIGHT(user_cell, weight_hh, .shape = "H,4H", NORMAL),
                                 TL_WEIGHT(user_cell, bias_ih, .shape = "4H", NORMAL), TL_WEIGHTS_END},
    .states = {{"h", "H"}, {"c", "H"}},
    .step = user_matmul_step};

static void add_part(model *m, role which, int ndim, const int64_t *shape, double mean,
                     double deviation)
{
    m->part[which] = tl_params_add(m->params, "", role_name[which], ndim, shape);
    m->wants[which] = true;
    if (m->part[which])
        tl_random_normal(&m->params->random, m->part[which]->value, mean, deviation);
}

static void add_network(model *m)
{
    static const tl_cell_type *const built_in[] = {
        [ELMAN] = &tl_elman_cell, [LSTM] = &tl_lstm_cell, [GRU] = &tl_gru_cell};
    const workload *w = m->w;
    tl_rnn_config config = {.cell = w->style == USER_LINEAR   ? &user_linear
                                    : w->style == USER_MATMUL ? &user_matmul
                                                              : built_in[w->cell],
                            .input = w->input,
                            .hidden = w->hidden,
                            .layers = 1};
    tl_rnn_init(&m->rnn, m->params, &config);
    for (int k = WEIGHT_IH; k <= BIAS_HH; k++) {
        m->part[k] = tl_rnn_weight(&m->rnn, 0, 0, role_name[k]);
        m->wants[k] = m->part[k] != NULL;
    }
}

static tl_tensor *random_targets(tl_random *random, int64_t steps, int64_t batch, int64_t classes)
{
    tl_tensor *target = tl_tensor_empty(TL_I64, TL_SHAPE(steps, batch), NULL);
    for (int64_t i = 0; target && i < target->layout.count; i++)
        ((int64_t *)target->data)[i] = tl_random_below(random, classes);
    return target;
}

static void add_sequence(model *m)
{
    const workload *w = m->w;
    tl_random *random = &m->params->random;
    double uniform = 1 / sqrt((double)w->hidden);
    add_part(m, INPUT, TL_SHAPE(m->steps, w->batch, w->input), 0, 1);
    m->wants[INPUT] = w->style == LAYER_ALONE;
    if (w->style == LAYER_ALONE) {
        m->output_grad =
            tl_tensor_empty(m->params->dtype, TL_SHAPE(m->steps, w->batch, w->hidden), NULL);
        if (!m->output_grad || tl_random_normal(random, m->output_grad, 0, 1) != TL_OK)
            give_up(w->name, "out of memory");
        return;
    }
    add_part(m, WEIGHT_OUT, TL_SHAPE(w->output, w->hidden), 0, uniform);
    add_part(m, BIAS_OUT, TL_SHAPE(w->output), 0, uniform);
    m->target = random_targets(random, m->steps, w->batch, w->output);
    if (!m->target)
        give_up(w->name, "out of memory");
}

static void add_chain(model *m)
{
    add_part(m, INPUT, TL_SHAPE(CHAIN_WIDTH), 0, 1);
    add_part(m, ADDEND, TL_SHAPE(CHAIN_WIDTH), 0.01, 0);
    add_part(m, FACTOR, TL_SHAPE(CHAIN_WIDTH), 0.99, 0);
    m->wants[ADDEND] = m->wants[FACTOR] = m->w->chain_parameters;
}

static void model_init(model *m, const workload *w, tl_dtype dtype, int64_t steps)
{
    *m = (model){.w = w, .steps = steps, .params = tl_params_new(dtype, 1)};
    if (!m->params)
        give_up(w->name, "out of memory");
    if (w->style == CHAIN) {
        add_chain(m);
    } else {
        add_network(m);
        add_sequence(m);
    }
    if (tl_params_status(m->params) != TL_OK)
        give_up(w->name, m->params->error.message);
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
    tl_tensor_release(m->target);
    tl_tensor_release(m->output_grad);
}

/* ---- a train step ---------------------------------------------------------------- */

static tl_var record_chain(tl_tape *t, const model *m)
{
    tl_var x = use(t, m, INPUT), addend = use(t, m, ADDEND), factor = use(t, m, FACTOR);
    for (int i = 0; i < CHAIN_STEPS; i++)
        x = tl_tanh(t, tl_mul(t, tl_add(t, x, addend), factor));
    return tl_sum(t, x);
}

static tl_var record(tl_tape *t, const model *m)
{
    if (m->w->style == CHAIN)
        return record_chain(t, m);
    tl_var y = tl_unroll(t, &m->rnn, use(t, m, INPUT), NULL);
    if (m->w->style == LAYER_ALONE)
        return y;
    tl_var logits = tl_linear_op(t, y, use(t, m, WEIGHT_OUT), use(t, m, BIAS_OUT));
    return tl_cross_entropy(t, logits, tl_constant(t, m->target), TL_REDUCE_MEAN);
}

static void layer_gradients(tl_tape *t, model *m)
{
    tl_var inputs[ROLES], grads[ROLES];
    int count = 0;
    for (int k = 0; k < ROLES; k++)
        if (m->wants[k])
            inputs[count++] = use(t, m, (role)k);
    tl_grad(t, m->result, tl_constant(t, m->output_grad), count, inputs, false, grads);
    for (int k = ROLES - 1; k >= 0; k--)
        if (m->wants[k])
            m->grads[k] = grads[--count];
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

typedef struct lap {
    double forward, backward; /* seconds */
} lap;

static lap train_step(tl_tape *t, model *m)
{
    double begin = now();
    tl_tape_reset(t);
    if (m->w->style != LAYER_ALONE)
        tl_zero_gradients(m->params);
    m->result = record(t, m);
    double middle = now();
    if (m->w->style == LAYER_ALONE)
        layer_gradients(t, m);
    else
        tl_backward(t, m->result);
    double end = now();
    check_tape(t, m);
    return (lap){middle - begin, end - middle};
}

/* ---- measuring ------------------------------------------------------------------- */

static const double least_seconds = 0.01; /* of a sample */

typedef struct options {
    bool chosen[WORKLOADS], verify;
    int threads, reps;
} options;

typedef struct timing {
    double median, least, forward, backward; /* seconds of a train step */
} timing;

static tl_tape *new_tape(int threads)
{
    tl_tape *t = tl_tape_new(&(tl_tape_config){.threads = threads});
    if (!t)
        give_up("tape", "no memory, or no threads");
    return t;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static timing measure_time(tl_tape *t, model *m, int reps)
{
    double *total = calloc(3 * (size_t)reps, sizeof *total);
    if (!total)
        give_up(m->w->name, "out of memory");
    double *forward = total + reps, *backward = forward + reps;
    lap once = {0};
    for (int i = 0; i < 4; i++) /* the last of the warm-up says how many fill a sample */
        once = train_step(t, m);
    int inner = (int)fmin(1e6, ceil(least_seconds / (once.forward + once.backward)));
    for (int rep = 0; rep < reps; rep++) {
        double begin = now();
        for (int i = 0; i < inner; i++) {
            lap one = train_step(t, m);
            forward[rep] += one.forward / inner;
            backward[rep] += one.backward / inner;
        }
        total[rep] = (now() - begin) / inner;
    }
    timing result = {.median = median(total, reps),
                     .forward = median(forward, reps),
                     .backward = median(backward, reps)};
    result.least = total[0];
    free(total);
    return result;
}

/* Bytes in use at the peak of one train step, on a tape that has seen no other. */
static tl_tape_usage measure_memory(model *m, int threads)
{
    tl_tape *t = new_tape(threads);
    train_step(t, m);
    tl_tape_usage usage = tl_tape_measure(t);
    tl_tape_free(t);
    return usage;
}

static void print_head(const workload *w, int64_t steps, int threads)
{
    static const char *const cells[] = {[ELMAN] = "elman", [LSTM] = "lstm", [GRU] = "gru"};
    printf("{\"workload\": \"%s\", \"mode\": \"%s\", \"threads\": %d", w->name, w->mode, threads);
    if (w->style == CHAIN)
        printf(", \"ops\": %d, \"width\": %d", CHAIN_OPS, CHAIN_WIDTH);
    else
        printf(", \"cell\": \"%s\", \"I\": %lld, \"H\": %lld, \"O\": %lld, \"B\": %lld, \"T\": %lld",
               cells[w->cell], (long long)w->input, (long long)w->hidden, (long long)w->output,
               (long long)w->batch, (long long)steps);
}

static void run(const workload *w, const options *o)
{
    model m;
    model_init(&m, w, TL_F32, w->steps);
    tl_tape_usage usage = measure_memory(&m, o->threads);
    tl_tape *t = new_tape(o->threads);
    timing time = measure_time(t, &m, o->reps);
    double steps = (double)w->steps;
    print_head(w, w->steps, o->threads);
    printf(", \"reps\": %d, \"us_per_step\": %.4f, \"us_per_step_min\": %.4f", o->reps,
           time.median / steps * 1e6, time.least / steps * 1e6);
    printf(", \"us_forward\": %.4f, \"us_backward\": %.4f, \"ms_per_train_step\": %.4f",
           time.forward / steps * 1e6, time.backward / steps * 1e6, time.median * 1e3);
    printf(", \"gflops\": %.2f, \"kb_per_step\": %.4f, \"kb_held_per_step\": %.4f",
           product_flops(w) / time.median * 1e-9, (double)usage.peak / steps / 1024,
           (double)usage.held / steps / 1024);
    if (w->style == CHAIN)
        printf(", \"ns_per_op\": %.1f, \"forward_ns_per_op\": %.1f, \"backward_ns_per_op\": %.1f",
               time.median / steps * 1e9, time.forward / steps * 1e9, time.backward / steps * 1e9);
    printf(", \"version\": \"%s\", \"kernels\": \"%s\"}\n", TL_VERSION, tl_tape_kernels(t));
    fflush(stdout);
    tl_tape_free(t);
    model_free(&m);
}

/* ---- the slow computation: forward ----------------------------------------------- */

typedef struct slow {
    const workload *w;
    int64_t steps;
    double *value[ROLES], *gradient[ROLES]; /* weights are [out,in]; zeros for what the model lacks */
    int64_t *target;
    double *dy;             /* [T,B,H]: the outputs' gradients, before they flow through time */
    double *gate;           /* [T,B,GH]: W_ih x + b_ih, then the gates' values */
    double *recurrent;      /* [T,B,GH]: W_hh h + b_hh */
    double *h, *c;          /* [T+1,B,H], from the initial zeros on */
    double *d_gate, *d_rec; /* [GH] */
    double *dh, *dc;        /* [B,H]: the states' gradients, from the future */
    double loss;
} slow;

static double *zeros(int64_t count)
{
    double *room = calloc((size_t)(count > 0 ? count : 1), sizeof *room);
    if (!room)
        give_up("verify", "out of memory");
    return room;
}

/* y += W x;  W: [rows,cols] */
static void add_product(double *y, const double *w, const double *x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            y[i] += w[i * cols + j] * x[j];
}

/* x += W' y */
static void add_transposed(double *x, const double *w, const double *y, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            x[j] += w[i * cols + j] * y[i];
}

/* W += y x' */
static void add_outer(double *w, const double *y, const double *x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            w[i * cols + j] += y[i] * x[j];
}

static void add_to(double *y, const double *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] += x[i];
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* What a cell sees of one sequence of the batch in one time step. */
typedef struct place {
    double *gate, *recurrent, *h, *c, *dy, *dh, *dc;
    const double *x, *h_before, *c_before;
    double *dx;
    int64_t row; /* of T B */
} place;

static place place_of(const slow *s, int64_t step, int64_t b)
{
    int64_t batch = s->w->batch, hidden = s->w->hidden, gates = gates_of(s->w), row = step * batch + b;
    int64_t before = row * hidden, after = (row + batch) * hidden;
    return (place){.gate = s->gate + row * gates,
                   .recurrent = s->recurrent + row * gates,
                   .h = s->h + after,
                   .c = s->c + after,
                   .dy = s->dy + before,
                   .dh = s->dh + b * hidden,
                   .dc = s->dc + b * hidden,
                   .x = s->value[INPUT] + row * s->w->input,
                   .h_before = s->h + before,
                   .c_before = s->c + before,
                   .dx = s->gradient[INPUT] + row * s->w->input,
                   .row = row};
}

static void elman_forward(const place *p, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        p->h[j] = tanh(p->gate[j] + p->recurrent[j]);
}

static void lstm_forward(const place *p, int64_t n)
{
    double *i = p->gate, *f = i + n, *g = f + n, *o = g + n;
    for (int64_t j = 0; j < 4 * n; j++) {
        double a = p->gate[j] + p->recurrent[j];
        p->gate[j] = j / n == 2 ? tanh(a) : sigmoid(a);
    }
    for (int64_t j = 0; j < n; j++) {
        p->c[j] = f[j] * p->c_before[j] + i[j] * g[j];
        p->h[j] = o[j] * tanh(p->c[j]);
    }
}

static void gru_forward(const place *p, int64_t n)
{
    double *r = p->gate, *z = r + n, *g = z + n; /* g: the candidate, n in the papers */
    for (int64_t j = 0; j < n; j++) {
        r[j] = sigmoid(r[j] + p->recurrent[j]);
        z[j] = sigmoid(z[j] + p->recurrent[n + j]);
        g[j] = tanh(g[j] + r[j] * p->recurrent[2 * n + j]);
        p->h[j] = (1 - z[j]) * g[j] + z[j] * p->h_before[j];
    }
}

static void slow_step(slow *s, int64_t step, int64_t b)
{
    int64_t input = s->w->input, hidden = s->w->hidden, gates = gates_of(s->w);
    place p = place_of(s, step, b);
    add_to(p.gate, s->value[BIAS_IH], gates);
    add_product(p.gate, s->value[WEIGHT_IH], p.x, gates, input);
    add_to(p.recurrent, s->value[BIAS_HH], gates);
    add_product(p.recurrent, s->value[WEIGHT_HH], p.h_before, gates, hidden);
    static void (*const forward[])(const place *, int64_t) = {
        [ELMAN] = elman_forward, [LSTM] = lstm_forward, [GRU] = gru_forward};
    forward[s->w->cell](&p, hidden);
}

/* Decoder and loss of one row, and back to the cell's output at once. */
static void slow_decode(slow *s, const place *p)
{
    int64_t output = s->w->output, hidden = s->w->hidden;
    double *z = zeros(output), sum = 0, rows = (double)(s->steps * s->w->batch);
    add_to(z, s->value[BIAS_OUT], output);
    add_product(z, s->value[WEIGHT_OUT], p->h, output, hidden);
    for (int64_t k = 0; k < output; k++)
        sum += exp(z[k]);
    s->loss += (log(sum) - z[s->target[p->row]]) / rows;
    for (int64_t k = 0; k < output; k++) /* dz = (softmax z - one hot) / rows */
        z[k] = (exp(z[k]) / sum - (k == s->target[p->row])) / rows;
    add_to(s->gradient[BIAS_OUT], z, output);
    add_outer(s->gradient[WEIGHT_OUT], z, p->h, output, hidden);
    add_transposed(p->dy, s->value[WEIGHT_OUT], z, output, hidden);
    free(z);
}

/* ---- the slow computation: backward ---------------------------------------------- */

/* Each takes dh, dc, the gradients of h and c, and leaves those of h_before and c_before but for what
 * goes through W_hh; d_gate and d_rec are the gradients of W_ih x + b_ih and of W_hh h + b_hh. */

static void elman_backward(const place *p, int64_t n, double *d_gate, double *d_rec)
{
    for (int64_t j = 0; j < n; j++) {
        d_gate[j] = d_rec[j] = p->dh[j] * (1 - p->h[j] * p->h[j]);
        p->dh[j] = 0;
    }
}

static void lstm_backward(const place *p, int64_t n, double *d_gate, double *d_rec)
{
    const double *i = p->gate, *f = i + n, *g = f + n, *o = g + n;
    for (int64_t j = 0; j < n; j++) {
        double y = tanh(p->c[j]);
        double dc = p->dc[j] + p->dh[j] * o[j] * (1 - y * y);
        d_gate[j] = dc * g[j] * i[j] * (1 - i[j]);
        d_gate[n + j] = dc * p->c_before[j] * f[j] * (1 - f[j]);
        d_gate[2 * n + j] = dc * i[j] * (1 - g[j] * g[j]);
        d_gate[3 * n + j] = p->dh[j] * y * o[j] * (1 - o[j]);
        p->dc[j] = dc * f[j];
        p->dh[j] = 0;
    }
    memcpy(d_rec, d_gate, (size_t)(4 * n) * sizeof *d_rec);
}

static void gru_backward(const place *p, int64_t n, double *d_gate, double *d_rec)
{
    const double *r = p->gate, *z = r + n, *g = z + n;
    for (int64_t j = 0; j < n; j++) {
        double dh = p->dh[j], dg = dh * (1 - z[j]) * (1 - g[j] * g[j]);
        d_gate[j] = d_rec[j] = dg * p->recurrent[2 * n + j] * r[j] * (1 - r[j]);
        d_gate[n + j] = d_rec[n + j] = dh * (p->h_before[j] - g[j]) * z[j] * (1 - z[j]);
        d_gate[2 * n + j] = dg;
        d_rec[2 * n + j] = dg * r[j];
        p->dh[j] = dh * z[j];
    }
}

static void slow_step_back(slow *s, int64_t step, int64_t b)
{
    int64_t input = s->w->input, hidden = s->w->hidden, gates = gates_of(s->w);
    place p = place_of(s, step, b);
    add_to(p.dh, p.dy, hidden);
    static void (*const backward[])(const place *, int64_t, double *, double *) = {
        [ELMAN] = elman_backward, [LSTM] = lstm_backward, [GRU] = gru_backward};
    backward[s->w->cell](&p, hidden, s->d_gate, s->d_rec);
    add_to(s->gradient[BIAS_IH], s->d_gate, gates);
    add_to(s->gradient[BIAS_HH], s->d_rec, gates);
    add_outer(s->gradient[WEIGHT_IH], s->d_gate, p.x, gates, input);
    add_outer(s->gradient[WEIGHT_HH], s->d_rec, p.h_before, gates, hidden);
    add_transposed(p.dh, s->value[WEIGHT_HH], s->d_rec, gates, hidden);
    if (s->w->style == LAYER_ALONE)
        add_transposed(p.dx, s->value[WEIGHT_IH], s->d_gate, gates, input);
}

static void slow_sequence(slow *s)
{
    for (int64_t step = 0; step < s->steps; step++)
        for (int64_t b = 0; b < s->w->batch; b++) {
            slow_step(s, step, b);
            place p = place_of(s, step, b);
            if (s->target)
                slow_decode(s, &p);
        }
    for (int64_t step = s->steps; step-- > 0;)
        for (int64_t b = 0; b < s->w->batch; b++)
            slow_step_back(s, step, b);
}

/* x <- tanh((x + a) m), element by element */
static void slow_chain(slow *s)
{
    for (int k = 0; k < CHAIN_WIDTH; k++) {
        double x[CHAIN_STEPS + 1], a = s->value[ADDEND][k], m = s->value[FACTOR][k], dx = 1;
        x[0] = s->value[INPUT][k];
        for (int i = 0; i < CHAIN_STEPS; i++)
            x[i + 1] = tanh((x[i] + a) * m);
        s->loss += x[CHAIN_STEPS];
        for (int i = CHAIN_STEPS; i-- > 0;) {
            double inside = dx * (1 - x[i + 1] * x[i + 1]); /* of (x + a) m */
            s->gradient[FACTOR][k] += inside * (x[i] + a);
            s->gradient[ADDEND][k] += dx = inside * m;
        }
        s->gradient[INPUT][k] = dx;
    }
}

/* ---- verify ---------------------------------------------------------------------- */

static const double bound_f32 = 1e-4, bound_f64 = 1e-10;

static bool is_transposed(const workload *w, role which)
{
    return w->style == USER_MATMUL && (which == WEIGHT_IH || which == WEIGHT_HH);
}

/* Where element i of a row-major part [..,cols] lies in the slow computation's copy of it. */
static int64_t slow_index(const model *m, role which, int64_t i)
{
    const tl_layout *l = &m->part[which]->value->layout;
    return is_transposed(m->w, which) ? i % l->shape[1] * l->shape[0] + i / l->shape[1] : i;
}

static void slow_init(slow *s, const model *m)
{
    const workload *w = m->w;
    int64_t rows = m->steps * w->batch, gates = gates_of(w), states = (rows + w->batch) * w->hidden;
    *s = (slow){.w = w, .steps = m->steps};
    for (int k = 0; k < ROLES; k++) {
        int64_t count = m->part[k] ? m->part[k]->value->layout.count : gates;
        s->value[k] = zeros(count);
        s->gradient[k] = zeros(count);
        for (int64_t i = 0; m->part[k] && i < count; i++)
            s->value[k][slow_index(m, (role)k, i)] = tl_tensor_get(m->part[k]->value, i);
    }
    s->target = m->target ? m->target->data : NULL;
    s->dy = zeros(rows * w->hidden);
    for (int64_t i = 0; m->output_grad && i < rows * w->hidden; i++)
        s->dy[i] = tl_tensor_get(m->output_grad, i);
    s->gate = zeros(rows * gates);
    s->recurrent = zeros(rows * gates);
    s->h = zeros(states);
    s->c = zeros(states);
    s->d_gate = zeros(gates);
    s->d_rec = zeros(gates);
    s->dh = zeros(w->batch * w->hidden);
    s->dc = zeros(w->batch * w->hidden);
}

static void slow_free(slow *s)
{
    double *rooms[] = {s->dy, s->gate, s->recurrent, s->h, s->c, s->d_gate, s->d_rec, s->dh, s->dc};
    for (size_t k = 0; k < sizeof rooms / sizeof *rooms; k++)
        free(rooms[k]);
    for (int k = 0; k < ROLES; k++) {
        free(s->value[k]);
        free(s->gradient[k]);
    }
}

/* The same numbers, whatever the dtype. */
static void copy_values(model *to, const model *from)
{
    for (int i = 0; i < from->params->count; i++)
        tl_tensor_assign(to->params->entry[i]->value, from->params->entry[i]->value, NULL);
    if (from->output_grad)
        tl_tensor_assign(to->output_grad, from->output_grad, NULL);
    if (from->target)
        tl_tensor_assign(to->target, from->target, NULL);
}

static tl_tensor *gradient_of(tl_tape *t, const model *m, role which)
{
    if (m->w->style == LAYER_ALONE)
        return tl_value_copy(t, m->grads[which]);
    return tl_tensor_retain(m->part[which]->gradient);
}

/* Relative to the largest element, or to the least normal number: the gradient at the start of the
 * chain is too small for an f32. */
static double worst_difference(const slow *s, const model *m, role which, const tl_tensor *gradient)
{
    double worst = 0, largest = gradient->dtype == TL_F32 ? FLT_MIN : DBL_MIN;
    for (int64_t i = 0; i < gradient->layout.count; i++) {
        double wanted = s->gradient[which][slow_index(m, which, i)];
        double off = fabs(tl_tensor_get(gradient, i) - wanted);
        worst = off > worst || isnan(off) ? off : worst; /* a NaN stays: nothing is larger */
        largest = fmax(largest, fabs(wanted));
    }
    return worst / largest;
}

/* True if the difference is within the bound; JSON has no NaN. */
static bool judge(const model *m, const char *name, double difference)
{
    const char *dtype = tl_dtype_name(m->params->dtype);
    if (isfinite(difference))
        printf(", \"%s_%s\": %.2g", dtype, name, difference);
    else
        printf(", \"%s_%s\": null", dtype, name);
    return difference <= (m->params->dtype == TL_F32 ? bound_f32 : bound_f64);
}

/* One train step on a tape, compared part by part. */
static bool compare(const slow *s, model *m, int threads)
{
    tl_tape *t = new_tape(threads);
    bool good = true;
    train_step(t, m);
    if (m->w->style != LAYER_ALONE)
        good = judge(m, "loss", fabs(tl_item(t, m->result) - s->loss) / fabs(s->loss));
    for (int k = 0; k < ROLES; k++) {
        if (!m->wants[k])
            continue;
        tl_tensor *gradient = gradient_of(t, m, (role)k);
        check_tape(t, m);
        good = judge(m, role_name[k], worst_difference(s, m, (role)k, gradient)) && good;
        tl_tensor_release(gradient);
    }
    tl_tape_free(t);
    return good;
}

static bool verify(const workload *w, const options *o)
{
    model single, real;
    slow s;
    model_init(&single, w, TL_F32, w->verify_steps);
    model_init(&real, w, TL_F64, w->verify_steps);
    copy_values(&real, &single);
    slow_init(&s, &real);
    double begin = now();
    if (w->style == CHAIN)
        slow_chain(&s);
    else
        slow_sequence(&s);
    double seconds = now() - begin;
    print_head(w, w->verify_steps, o->threads);
    if (w->verify_steps != w->steps)
        printf(", \"T_of_workload\": %lld", (long long)w->steps);
    bool good = compare(&s, &single, o->threads);
    good = compare(&s, &real, o->threads) && good;
    printf(", \"bound_f32\": %g, \"bound_f64\": %g, \"slow_seconds\": %.2f, \"verified\": %s}\n",
           bound_f32, bound_f64, seconds, good ? "true" : "false");
    fflush(stdout);
    slow_free(&s);
    model_free(&single);
    model_free(&real);
    return good;
}

/* ---- the command line ------------------------------------------------------------ */

static void usage(FILE *stream)
{
    fprintf(stream,
            "usage: rnn_bench [--workload all|W1,W2,...,W9] [--threads N] [--reps R] [--verify]\n"
            "Times train steps of recurrent networks, one JSON object a line; with --verify\n"
            "compares their gradients with a slow computation in f64 and times nothing.\n"
            "Defaults: --workload all --threads 1 --reps 15\n");
}

static void refuse(const char *what, const char *value)
{
    fprintf(stderr, "rnn_bench: %s: %s\n", what, value);
    usage(stderr);
    exit(2);
}

static void choose(options *o, const char *list)
{
    memset(o->chosen, 0, sizeof o->chosen);
    if (!*list)
        refuse("--workload", "of what?");
    for (const char *name = list, *end; *name; name = *end ? end + 1 : end) {
        size_t length = strcspn(name, ",");
        end = name + length;
        bool known = false, all = length == 3 && strncmp(name, "all", 3) == 0;
        for (int k = 0; k < WORKLOADS; k++)
            if (all ||
                (strlen(workloads[k].name) == length && !strncmp(name, workloads[k].name, length)))
                o->chosen[k] = known = true;
        if (!known)
            refuse("unknown workload", name);
    }
}

static int positive(const char *option, const char *text)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > 1000000)
        refuse(option, "wants a number of at least 1");
    return (int)value;
}

static options parse(int argc, char **argv)
{
    options o = {.threads = 1, .reps = 15};
    choose(&o, "all");
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(option, "--help") || !strcmp(option, "-h")) {
            usage(stdout);
            exit(0);
        }
        if (!strcmp(option, "--verify")) {
            o.verify = true;
            continue;
        }
        if (!strcmp(option, "--workload"))
            choose(&o, value);
        else if (!strcmp(option, "--threads"))
            o.threads = positive(option, value);
        else if (!strcmp(option, "--reps"))
            o.reps = positive(option, value);
        else
            refuse("unknown option", option);
        i++;
    }
    return o;
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    bool good = true;
    for (int k = 0; k < WORKLOADS; k++) {
        if (!o.chosen[k])
            continue;
        if (o.verify)
            good = verify(&workloads[k], &o) && good;
        else
            run(&workloads[k], &o);
    }
    return good ? 0 : 1;
}
