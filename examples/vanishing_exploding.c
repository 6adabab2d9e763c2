/* vanishing_exploding.c - why a recurrent network forgets, or blows up, and what helps.
 *
 *     h_0 --J_1--> h_1 --J_2--> h_2 -- .. --J_T--> h_T --> L
 *      g_0 <------- g_1 <------- g_2 <- ..  <------ g_T        g_n = dL/dh_n = g_(n+1) J_(n+1)
 *
 * What the loss at the end has to say to the first step has to pass through T Jacobians. If each makes
 * a gradient half as long, a trillionth of it is left after 40 steps: the gradient has vanished, and
 * nothing that is 40 steps old is learned from. If each makes it half as long again, it has grown ten
 * million times: it has exploded. The network is right in between, or it does not learn over long times
 * (Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
 *
 * For Elman's network J = diag(f') W_hh, and so the size of W_hh decides, as far as f' lets it: tanh'
 * is 1 at zero and smaller everywhere else. For an LSTM's memory it is the forget gate, c' = f c + ..,
 * which depends on the weights but little: sigmoid(forget bias) at first. A bias of 1, the usual
 * advice, is much better than 0, and over 40 steps still a small number.
 *
 * The lesson measures all this on freshly made networks and compares it with what theory says. Then
 * clipping makes an exploding gradient usable, and the regulariser of Pascanu et al. moves vanishing
 * and exploding networks to where gradients keep their length.
 *
 * Ends with 1 if a verdict is not what theory says. With gnuplot installed it draws flow.svg and
 * flow_units.svg: the LSTM's gradient over time, and unit by unit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

enum { T = 40, B = 3, I = 2, H = 16, UPDATES = 60, SHOWN = 8 };

typedef struct network {
    const char *name;
    const tl_cell_type *cell;
    const void *options;
    tl_rnn_scheme init;
    double scale;  /* of the recurrent weights, after that */
    double inputs; /* standard deviation of the inputs */
    double theory; /* the rate; 0: theory has only a bound */
    tl_flow_verdict verdict;
} network;

static tl_var identity(tl_tape *t, tl_var x)
{
    return tl_affine(t, x, 1, 0);
}

static const tl_elman_options relu = {.activation = tl_relu}, none = {.activation = identity};
static const tl_lstm_options bias_0 = {0}, bias_1 = {.forget_bias = 1}, bias_5 = {.forget_bias = 5};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_tensor *x, *target; /* [T,B,I], [B,H] */
    tl_unrolled u;
} model;

/* ---- a network, and its loss at the last step ------------------------------------------------ */

static bool model_init(model *m, const network *n)
{
    tl_random random = tl_random_seed(3);
    *m = (model){.params = tl_params_new(TL_F64, 1),
                 .x = tl_tensor_empty(TL_F64, TL_SHAPE(T, B, I), NULL),
                 .target = tl_tensor_empty(TL_F64, TL_SHAPE(B, H), NULL)};
    if (!m->params || !m->x || !m->target)
        return false;
    tl_random_normal(&random, m->x, 0, n->inputs);
    tl_random_normal(&random, m->target, 0, 1);
    tl_rnn_init(&m->rnn, m->params,
                &(tl_rnn_config){.cell = n->cell,
                                 .options = n->options,
                                 .input = I,
                                 .hidden = H,
                                 .layers = 1,
                                 .init = n->init});
    if (tl_params_status(m->params) != TL_OK)
        return false;
    tl_tensor *w = tl_rnn_weight(&m->rnn, 0, 0, "weight_hh")->value;
    for (int64_t i = 0; i < w->layout.count; i++)
        tl_tensor_set(w, i, n->scale * tl_tensor_get(w, i));
    return true;
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
    tl_tensor_release(m->x);
    tl_tensor_release(m->target);
}

/* L = mean (h_T - target)^2 */
static tl_var record(tl_tape *t, model *m)
{
    tl_var y = tl_unroll_with(t, &m->rnn, tl_constant(t, m->x), NULL,
                              &(tl_unroll_options){.handles = &m->u, .keep_gradients = true});
    return tl_mse(t, tl_select(t, y, 0, T - 1), tl_constant(t, m->target), TL_REDUCE_MEAN);
}

/* ---- measuring ----------------------------------------------------------------------------- */

/* The loss is at the last step alone: rates can be read off the gradients, and Jacobians, which cost
 * far more, are for those who want to see them. */
static tl_status measure(tl_tape *t, model *m, bool jacobians, tl_gradient_flow *flow)
{
    tl_tape_reset(t);
    tl_zero_gradients(m->params);
    if (tl_backward_retain(t, record(t, m)) != TL_OK)
        return tl_tape_status(t);
    return tl_gradient_flow_measure(
        t, &m->u, &(tl_flow_options){.network = &m->rnn, .no_jacobians = !jacobians}, flow);
}

/* How much of dL/dW_hh the steps of the older half are, by the norms of the steps' own gradients. */
static double share_of_the_old(tl_tape *t, model *m)
{
    tl_step_share share[T];
    double old = 0, all = 0;
    const tl_param *w = tl_rnn_weight(&m->rnn, 0, 0, "weight_hh");
    tl_tape_reset(t);
    tl_untie(t, w->value);
    tl_backward(t, record(t, m));
    if (tl_step_shares(t, w->value, T, share) != T)
        return (double)NAN;
    for (int step = 0; step < T; step++) {
        all += share[step].norm;
        old += step < T / 2 ? share[step].norm : 0;
    }
    return old / all;
}

static FILE *gnuplot(const char *command)
{
    return system("command -v gnuplot >/dev/null 2>&1") == 0 ? popen(command, "w") : NULL;
}

static void draw(const tl_gradient_flow *flow)
{
    FILE *curves = gnuplot("gnuplot > flow.svg 2>/dev/null"),
         *units = gnuplot("gnuplot > flow_units.svg 2>/dev/null");
    if (curves)
        tl_flow_plot(flow, curves);
    if (units)
        tl_flow_plot_units(flow, tl_flow_find(flow, 0, 0, TL_FLOW_ALL_STATES), units);
    bool drawn = curves && units;
    if (curves)
        drawn = pclose(curves) == 0 && drawn;
    if (units)
        drawn = pclose(units) == 0 && drawn;
    if (drawn)
        printf("drawn: flow.svg, flow_units.svg\n\n");
}

/* ---- first part: what theory says ------------------------------------------------------------ */

/* Returns 1 where measurement and theory differ. */
static int judge(const network *n, const tl_flow_trace *trace, double share)
{
    bool exact = n->theory > 0; /* else the bound: |W_hh|_2 max |f'| <= |W_hh|_2 */
    bool right = exact ? fabs(trace->rate - n->theory) <= 0.1 * n->theory : trace->rate < n->scale;
    right = right && trace->verdict == n->verdict;
    char theory[32];
    snprintf(theory, sizeof theory, "%s%.3f", exact ? "" : "< ", exact ? n->theory : n->scale);
    printf("%-34s %8s %9.3f %10.1e   %-10s %9.1e%s\n", n->name, theory, trace->rate, trace->left,
           tl_flow_verdict_name(trace->verdict), share, right ? "" : "   NOT AS IT SHOULD BE");
    return !right;
}

static int measure_all(tl_tape *t, const network *networks, int count)
{
    int failures = 0;
    printf("%-34s %8s %9s %10s   %-10s %9s\n%-34s %8s %9s %10s   %-10s %9s\n", "",
           "rate:", "rate:", "left after", "", "older half", "network", "theory", "measured",
           "39 steps", "verdict", "of dL/dW");
    for (int k = 0; k < count; k++) {
        tl_gradient_flow flow;
        model m;
        if (!model_init(&m, &networks[k]) || measure(t, &m, false, &flow) != TL_OK) {
            fprintf(stderr, "%s: %s\n", networks[k].name, tl_tape_message(t));
            failures++;
        } else {
            tl_flow_trace trace = *tl_flow_find(&flow, 0, 0, TL_FLOW_ALL_STATES);
            failures += judge(&networks[k], &trace, share_of_the_old(t, &m));
        }
        model_free(&m);
    }
    return failures;
}

static void show_curve(tl_tape *t, const network *n, bool picture)
{
    tl_gradient_flow flow;
    model m;
    printf("\n%s\n", n->name);
    if (model_init(&m, n) && measure(t, &m, true, &flow) == TL_OK) {
        tl_gradient_flow shown = flow;
        shown.trace += flow.count - 1; /* all states of the cell */
        shown.count = 1;
        tl_flow_print(&shown, SHOWN, stdout);
        if (picture)
            draw(&flow);
    }
    model_free(&m);
}

/* ---- second part: clipping ------------------------------------------------------------------- */

/* One step of gradient descent; the loss after it. */
static double step_and_look(tl_tape *t, model *m, double limit, double *before, double *norm)
{
    tl_optimizer *sgd =
        tl_optimizer_new(m->params, &(tl_optimizer_config){.kind = TL_SGD, .rate = 0.01});
    tl_tape_reset(t);
    tl_zero_gradients(m->params);
    tl_var loss = record(t, m);
    *before = tl_item(t, loss);
    if (!sgd || tl_backward(t, loss) != TL_OK)
        return (double)NAN;
    *norm = tl_clip_gradient_norm(m->params, limit);
    tl_optimizer_step(sgd);
    tl_optimizer_free(sgd);
    tl_tape_reset(t);
    return tl_item(t, record(t, m));
}

static int clip(tl_tape *t, const network *n)
{
    double after[2] = {0}, before = 0, norm = 0;
    printf("\nClipping. One step of gradient descent (rate 0.01) with the exploding network:\n\n");
    for (int clipped = 0; clipped < 2; clipped++) {
        model m;
        if (model_init(&m, n))
            after[clipped] = step_and_look(t, &m, clipped ? 1 : HUGE_VAL, &before, &norm);
        model_free(&m);
        printf("    %-22s |dL/dtheta| = %-9.3g loss %.3e -> ",
               clipped ? "clipped to norm 1" : "as it is", norm, before);
        printf(isfinite(after[clipped]) ? "%.3e\n" : "more than a number can hold\n", after[clipped]);
    }
    printf(
        "\nThe direction was good, the length was not: the loss has a wall there, and behind it the\n"
        "gradient knows nothing. Clipping does not make the old steps count for more, though: it\n"
        "helps against exploding, not against vanishing.\n");
    return !(after[1] < before) || after[0] <= before;
}

/* ---- third part: the regulariser ------------------------------------------------------------- */

/* Updates with L + lambda Omega; the verdict afterwards. */
static tl_flow_verdict train(tl_tape *t, const network *n, double lambda)
{
    tl_flow_verdict verdict = TL_FLOW_NOT_FINITE;
    tl_gradient_flow flow;
    model m;
    printf("    %-24s lambda %g   rate", n->name, lambda);
    tl_optimizer *adam = NULL;
    if (model_init(&m, n))
        adam = tl_optimizer_new(m.params, &(tl_optimizer_config){.kind = TL_SGD, .rate = 0.05});
    for (int update = 0; adam && update <= UPDATES; update++) {
        if (update % (UPDATES / 4) == 0 && measure(t, &m, false, &flow) == TL_OK) {
            verdict = flow.verdict;
            printf(" %.3f%s", flow.trace[0].rate, update < UPDATES ? " ->" : "");
        }
        tl_tape_reset(t);
        tl_zero_gradients(m.params);
        tl_var loss = record(t, &m);
        if (lambda > 0)
            loss = tl_add(t, loss, tl_affine(t, tl_flow_penalty(t, loss, &m.u, NULL), lambda, 0));
        if (tl_backward(t, loss) != TL_OK)
            fprintf(stderr, "%s\n", tl_tape_message(t));
        tl_clip_gradient_norm(m.params, 1);
        tl_optimizer_step(adam);
    }
    printf("   %s\n", tl_flow_verdict_name(verdict));
    tl_optimizer_free(adam);
    model_free(&m);
    return verdict;
}

static int regularise(tl_tape *t, const network *vanishing, const network *exploding)
{
    printf("\nThe regulariser, Omega = sum over steps of (|g J| / |g| - 1)^2, added to the loss. %d\n"
           "updates (gradient descent, rate 0.05, clipped to norm 1), the rate at every fourth part of "
           "them:\n\n",
           UPDATES);
    int failures = train(t, vanishing, 0) != TL_FLOW_VANISHING;
    failures += train(t, vanishing, 1) != TL_FLOW_HEALTHY;
    failures += train(t, exploding, 1) != TL_FLOW_HEALTHY;
    printf("\nThe loss alone cannot repair what it does not feel. The regulariser does, from both "
           "sides.\n");
    return failures;
}

int main(void)
{
    const network networks[] = {
        {"Elman, tanh, radius 0.5", &tl_elman_cell, NULL, TL_RNN_ORTHOGONAL, 0.5, 0.1, 0.5,
         TL_FLOW_VANISHING},
        {"Elman, tanh, radius 1", &tl_elman_cell, NULL, TL_RNN_ORTHOGONAL, 1, 0.01, 1, TL_FLOW_HEALTHY},
        {"Elman, linear, radius 1.5", &tl_elman_cell, &none, TL_RNN_ORTHOGONAL, 1.5, 0.1, 1.5,
         TL_FLOW_EXPLODING},
        {"Elman, tanh, radius 1.5, tiny x", &tl_elman_cell, NULL, TL_RNN_ORTHOGONAL, 1.5, 1e-9, 1.5,
         TL_FLOW_EXPLODING},
        {"Elman, tanh, radius 1.5, large x", &tl_elman_cell, NULL, TL_RNN_ORTHOGONAL, 1.5, 10, 0,
         TL_FLOW_VANISHING},
        {"Elman, relu, W_hh = 1 (IRNN)", &tl_elman_cell, &relu, TL_RNN_IDENTITY, 1, 1, 1,
         TL_FLOW_HEALTHY},
        {"LSTM, forget bias 0", &tl_lstm_cell, &bias_0, TL_RNN_ORTHOGONAL, 0.1, 0.1, sigmoid(0),
         TL_FLOW_VANISHING},
        {"LSTM, forget bias 1", &tl_lstm_cell, &bias_1, TL_RNN_ORTHOGONAL, 0.1, 0.1, sigmoid(1),
         TL_FLOW_VANISHING},
        {"LSTM, forget bias 5", &tl_lstm_cell, &bias_5, TL_RNN_ORTHOGONAL, 0.1, 0.1, sigmoid(5),
         TL_FLOW_HEALTHY}};
    const int count = (int)(sizeof networks / sizeof *networks);
    tl_tape *t = tl_tape_new(NULL);
    if (!t)
        return 1;
    printf(
        "Gradients through %d steps, back from a loss at the last one. rate: what a gradient is\n"
        "multiplied by at each step back; a verdict is vanishing below 0.9, exploding above 1.1.\n\n",
        T);
    int failures = measure_all(t, networks, count);
    printf(
        "\nA weight matrix that is too large is not enough for an explosion: with large inputs tanh\n"
        "is flat, f' small, and the same matrix lets the gradient vanish. The bound holds all the "
        "same.\n"
        "IRNN's units pass everything on or, below zero, nothing. And an LSTM forgets by its forget\n"
        "gate: with a bias of 1 the gradient lives twice as long as with 0, with 5 for all 40 "
        "steps.\n");
    printf(
        "\nStep by step, last one first. ratio: |g J| / |g|. |J|_F, |J|_2: the step's Jacobian. "
        "bound:\n"
        "|W_hh|_2 times the largest f' (Pascanu et al., equation 6). lg: log10 of what is left of the\n"
        "last step's gradient, and of the products of |J|_2 and of the bounds, which are above it.\n");
    show_curve(t, &networks[0], false);
    show_curve(t, &networks[2], false);
    show_curve(t, &networks[7], true);
    failures += clip(t, &networks[2]);
    failures += regularise(t, &networks[0], &networks[3]);
    tl_tape_free(t);
    printf(failures ? "\nFAILED: %d of these are not what theory says.\n"
                    : "\nAll verdicts are what theory says.\n",
           failures);
    return failures > 0;
}
