/* checkpointing.c - memory for time: backpropagation through more steps than fit into memory.
 *
 * To walk back through T steps, everything that was computed in them must be at hand, some twenty
 * arrays a step for an LSTM. It need not be kept, though: from the state before a step, the step can be
 * computed again. Keep every s-th state, and each stretch of s steps is recorded once more when
 * backward comes to it: with s = sqrt T, memory falls from T to 2 sqrt T steps, for less than one more
 * pass forward. Keep c states and choose their places anew whenever one is free again, as `revolve`
 * does (Griewank and Walther 2000), and time grows but with the logarithm of T over memory. Or keep
 * single steps whole, or both kinds (Gruslys et al. 2016).
 *
 * Below an LSTM reads T numbers and predicts the next one. Its parameters' gradients come out the same,
 * to the bit, whatever is kept. Theory: steps computed, forward and again; where a step forward costs 1
 * and one back 2, the whole costs (steps + 2 T) / 3 T.
 *
 *     checkpointing [T]        1000 steps by default
 *     checkpointing long       100,000 steps of an LSTM of 128 with a batch of 16, within 256 MiB */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tapeloop/tapeloop.h>

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer head;
    tl_tensor *numbers; /* [T+1,B,1] */
    tl_var x;
} model;

/* One step: the LSTM, and the squared error of what it predicts. */
static void step(tl_tape *t, void *self, int64_t at, tl_var *state, tl_var *output)
{
    model *m = self;
    tl_var now = tl_slice(t, m->x, 0, at, at + 1, 1), next = tl_slice(t, m->x, 0, at + 1, at + 2, 1);
    tl_var y = tl_linear(t, tl_unroll(t, &m->rnn, now, state), &m->head);
    *output = tl_mse(t, y, next, TL_REDUCE_MEAN);
}

static bool model_init(model *m, int64_t steps, int64_t batch, int64_t hidden)
{
    *m = (model){.params = tl_params_new(TL_F32, 1)};
    m->numbers = tl_tensor_empty(TL_F32, TL_SHAPE(steps + 1, batch, 1), NULL);
    if (!m->params || !m->numbers)
        return false;
    tl_random random = tl_random_seed(2);
    tl_random_normal(&random, m->numbers, 0, 1);
    tl_rnn_init(&m->rnn, m->params,
                &(tl_rnn_config){.cell = &tl_lstm_cell, .input = 1, .hidden = hidden, .layers = 1});
    tl_linear_init(&m->head, m->params, "head.", hidden, 1, true);
    return tl_params_status(m->params) == TL_OK;
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
    tl_tensor_release(m->numbers);
}

typedef struct result {
    double seconds;
    size_t peak;
    uint64_t again;    /* steps that the walk computed */
    uint64_t gradient; /* all bits of it, mixed */
} result;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static uint64_t bits_of(const tl_params *params)
{
    uint64_t bits = 1469598103934665603u; /* FNV-1a */
    for (int k = 0; k < params->count; k++) {
        const tl_tensor *g = params->entry[k]->gradient;
        for (int64_t i = 0; i < g->layout.count; i++) {
            double x = tl_tensor_get(g, i);
            uint64_t word;
            memcpy(&word, &x, sizeof word);
            bits = (bits ^ word) * 1099511628211u;
        }
    }
    return bits;
}

/* Records the chain by the plan, walks it back. */
static tl_status run(model *m, const tl_plan *plan, result *r)
{
    int64_t steps = m->numbers->layout.shape[0] - 1;
    tl_tape *t = tl_tape_new(NULL);
    tl_var *loss = malloc((size_t)steps * sizeof *loss);
    tl_status status = TL_ERR_MEMORY;
    if (t && loss) {
        tl_var state[2] = {TL_NONE, TL_NONE};
        int64_t batch = m->numbers->layout.shape[1], hidden = m->rnn.config.hidden;
        const tl_chain chain = {.steps = steps, .states = 2, .step = step, .context = m};
        double begin = now();
        tl_zero_gradients(m->params);
        m->x = tl_constant(t, m->numbers);
        for (int k = 0; k < 2; k++)
            state[k] = tl_full(t, TL_F32, TL_SHAPE(batch, hidden), 0);
        tl_chain_record(t, &chain, plan, state, loss);
        tl_var total = tl_sum(t, tl_stack(t, (int)steps, loss, 0));
        status = tl_backward(t, total);
        *r = (result){.seconds = now() - begin,
                      .peak = tl_tape_measure(t).peak,
                      .again = tl_recomputed_steps(t),
                      .gradient = bits_of(m->params)};
        if (status != TL_OK)
            fprintf(stderr, "%s\n", tl_tape_message(t));
    }
    free(loss);
    tl_tape_free(t);
    return status;
}

static int teach(int64_t steps)
{
    const struct {
        const char *name;
        tl_plan plan;
    } rows[] = {
        {"keep all", {.schedule = TL_KEEP_ALL}},
        {"every 10", {.schedule = TL_EVERY, .slots = 10}},
        {"sqrt T", {.schedule = TL_SQRT}},
        {"revolve, 50 states", {.schedule = TL_REVOLVE, .slots = 50}},
        {"revolve, 10 states", {.schedule = TL_REVOLVE, .slots = 10}},
        {"revolve, 3 states", {.schedule = TL_REVOLVE, .slots = 3}},
        {"50 whole steps", {.schedule = TL_INTERNAL, .slots = 50}},
        {"mixed, room for 250 states", {.schedule = TL_MIXED, .slots = 250, .ratio = 8}},
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    model m;
    result all = {0};
    int failures = !model_init(&m, steps, 16, 128);
    printf("An LSTM of 128 units, a batch of 16, %" PRId64 " steps.\n\n", steps);
    printf("%-28s %10s %7s %8s %12s %8s %8s\n", "what is kept", "peak KiB", "memory", "time",
           "steps again", "theory", "gradient");
    for (int k = 0; k < ROWS && !failures; k++) {
        result r = {0};
        failures += run(&m, &rows[k].plan, &r) != TL_OK;
        if (!k) /* once more: the first one met untouched memory */
            failures += run(&m, &rows[k].plan, &r) != TL_OK;
        all = k ? all : r;
        int64_t cost = tl_plan_cost(&rows[k].plan, steps);
        if (rows[k].plan.schedule ==
            TL_REVOLVE) /* its count leaves out the steps that are walked at once */
            cost += steps;
        printf("%-28s %10zu %6.1f%% %8.2f %12" PRIu64 " %8.2f %8s\n", rows[k].name, r.peak >> 10,
               100 * (double)r.peak / (double)all.peak, r.seconds / all.seconds, r.again,
               (double)(cost + 2 * steps) / (double)(3 * steps),
               r.gradient == all.gradient ? "same" : "OTHER");
        failures += r.gradient != all.gradient || (k && r.peak >= all.peak);
    }
    model_free(&m);
    printf(failures ? "\nFAILED\n" : "\nThe same bits, in less memory, for more time.\n");
    return failures != 0;
}

static int far(void)
{
    const size_t limit = (size_t)256 << 20;
    model m;
    result r = {0};
    bool good = model_init(&m, 100000, 16, 128);
    const tl_plan plan = {.schedule = TL_REVOLVE, .slots = 2000};
    good = good && run(&m, &plan, &r) == TL_OK && r.peak <= limit;
    printf("100,000 steps of an LSTM of 128 units, a batch of 16: %.1f s, peak %.1f MiB, %" PRIu64
           " steps computed again\n",
           r.seconds, (double)r.peak / 1048576, r.again);
    model_free(&m);
    return !good;
}

int main(int argc, char **argv)
{
    char *end = "";
    long steps = argc > 1 && strcmp(argv[1], "long") != 0 ? strtol(argv[1], &end, 10) : 1000;
    if (argc > 2 || *end || steps < 1 || steps > 1000000) {
        fprintf(stderr,
                "Usage: checkpointing [T | long]      T: 1..1000000 steps, 1000 if not given\n");
        return 2;
    }
    return argc > 1 && strcmp(argv[1], "long") == 0 ? far() : teach(steps);
}
