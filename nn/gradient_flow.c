/* gradient_flow.c - measuring. All derivatives are the tape's; what is here is vectors of doubles,
 * norms and a straight line. Writing it down is flow_print.c, the regulariser flow_penalty.c. */
#include "nn/gradient_flow.h"

#include <math.h>
#include <string.h>

#include "autograd/ops.h"

static bool good(const tl_tape *t)
{
    return tl_tape_status(t) == TL_OK;
}

/* ---- vectors ---------------------------------------------------------------------------- */

/* Without over- or underflow on the way: gradients that vanish or explode are what this is about.
 * NaN if one is. */
static double norm_of(const double *x, int64_t count, int64_t stride)
{
    double largest = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        largest = isnan(x[i * stride]) || fabs(x[i * stride]) > largest ? fabs(x[i * stride]) : largest;
    if (largest == 0 || !isfinite(largest))
        return largest;
    for (int64_t i = 0; i < count; i++)
        squares += (x[i * stride] / largest) * (x[i * stride] / largest);
    return largest * sqrt(squares);
}

static double *room(tl_tape *t, int64_t count)
{
    return tl_scratch(t, (size_t)(count > 0 ? count : 1) * sizeof(double));
}

static double *missing(tl_tape *t, int64_t count)
{
    double *x = room(t, count);
    for (int64_t i = 0; x && i < count; i++)
        x[i] = (double)NAN;
    return x;
}

/* A variable's numbers; false for a poisoned one. */
static bool read(tl_tape *t, tl_var v, double *out, bool add)
{
    tl_array a = tl_value(t, v);
    if (!a.layout || !a.data)
        return false;
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    for (int64_t i = 0; i < view.layout.count; i++)
        out[i] = (add ? out[i] : 0) + tl_tensor_get(&view, i);
    return true;
}

/* Numbers in the shape and dtype of v, off the record: written into the result of an op, which, unlike
 * a constant, goes when the region ends. */
static tl_var seed_like(tl_tape *t, tl_var v, const double *numbers)
{
    tl_var seed = tl_affine(t, v, 0, 0);
    tl_array a = tl_value(t, seed);
    if (!a.data)
        return tl_poison(t);
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    for (int64_t i = 0; i < view.layout.count; i++)
        tl_tensor_set(&view, i, numbers[i]);
    return seed;
}

/* ---- one step as a linear map ------------------------------------------------------------ */

/* From the states `in` to the states `out`, each list one vector of `size` numbers. */
typedef struct jacobian {
    tl_tape *t;
    int count;
    int64_t size;
    tl_var in[TL_MOST_STATES], out[TL_MOST_STATES];
    /* back = J'probe, recorded: linear in the probe, so that its derivative is J. */
    tl_var probe[TL_MOST_STATES], back[TL_MOST_STATES];
} jacobian;

/* to = sum over outputs k of (doutputs[k]/dinputs)' from[k]; leaves nothing on the tape. */
static void pull(const jacobian *j, const tl_var *outputs, const tl_var *inputs, const double *from,
                 double *to)
{
    tl_tape *t = j->t;
    memset(to, 0, (size_t)j->size * sizeof *to);
    tl_no_record_begin(t);
    for (int k = 0; k < j->count && good(t); k++) {
        tl_var grad[TL_MOST_STATES];
        if (tl_grad(t, outputs[k], seed_like(t, outputs[k], from), j->count, inputs, false, grad) !=
            TL_OK)
            break;
        from += tl_value(t, outputs[k]).layout->count;
        double *next = to;
        for (int i = 0; i < j->count && read(t, grad[i], next, true); i++)
            next += tl_value(t, inputs[i]).layout->count;
    }
    tl_no_record_end(t, 0, NULL);
}

static void transposed(const void *map, const double *u, double *x) /* x = J'u */
{
    const jacobian *j = map;
    pull(j, j->out, j->in, u, x);
}

static void forward(const void *map, const double *v, double *y) /* y = J v */
{
    const jacobian *j = map;
    pull(j, j->back, j->probe, v, y);
}

/* Which number the probe is does not matter, as J'probe is linear in it. */
static tl_var probe_for(tl_tape *t, tl_var output)
{
    tl_tensor *value = tl_value_copy(t, output);
    tl_var probe = value ? tl_leaf_untied(t, value) : tl_poison(t);
    tl_tensor_release(value);
    return probe;
}

static bool record_transposed(jacobian *j)
{
    for (int k = 0; k < j->count; k++) {
        tl_var grad[TL_MOST_STATES];
        j->probe[k] = probe_for(j->t, j->out[k]);
        if (tl_grad(j->t, j->out[k], j->probe[k], j->count, j->in, true, grad) != TL_OK)
            return false;
        for (int i = 0; i < j->count; i++)
            j->back[i] = k ? tl_add(j->t, j->back[i], grad[i]) : grad[i];
    }
    return good(j->t);
}

/* ---- power iteration -------------------------------------------------------------------- */

typedef void linear_map(const void *map, const double *in, double *out);

typedef struct iteration {
    double tolerance;
    int most;
    bool converged;
} iteration;

static iteration iteration_from(const tl_flow_options *o, double tolerance, int most)
{
    return (iteration){.tolerance = o->tolerance > 0 ? o->tolerance : tolerance,
                       .most = o->iterations > 0 ? o->iterations : most};
}

static void normalise(double *x, int64_t count, double norm)
{
    for (int64_t i = 0; i < count; i++)
        x[i] /= norm;
}

/* Normal numbers of a fixed seed: not at right angles to the singular vector that is sought, as zeros
 * and ones easily are. */
static bool start_vector(tl_tape *t, double *v, int64_t count)
{
    tl_random random = tl_random_seed(1);
    tl_tensor *numbers = tl_tensor_empty(TL_F64, 1, &count, NULL);
    if (!numbers || tl_random_normal(&random, numbers, 0, 1) != TL_OK) {
        tl_tensor_release(numbers);
        tl_tape_fail(t, TL_ERR_MEMORY, "gradient_flow: out of memory");
        return false;
    }
    memcpy(v, numbers->data, (size_t)count * sizeof *v);
    tl_tensor_release(numbers);
    normalise(v, count, norm_of(v, count, 1));
    return true;
}

/* |A|_2, A: [rows, cols]. work: rows + cols numbers. */
static double largest_singular_value(tl_tape *t, linear_map *apply, linear_map *apply_transposed,
                                     const void *map, int64_t rows, int64_t cols, double *work,
                                     iteration *it)
{
    double *v = work, *y = work + cols, sigma = 0;
    it->converged = false;
    if (!rows || !cols || !start_vector(t, v, cols))
        return 0;
    for (int k = 0; k < it->most && good(t); k++) {
        apply(map, v, y);
        double before = sigma;
        sigma = norm_of(y, rows, 1);
        it->converged = fabs(sigma - before) <= it->tolerance * sigma && (k > 0 || sigma == 0);
        if (it->converged || !isfinite(sigma))
            break;
        normalise(y, rows, sigma);
        apply_transposed(map, y, v);
        double back = norm_of(v, cols, 1);
        if (back == 0)
            break;
        normalise(v, cols, back);
    }
    return sigma;
}

typedef struct matrix {
    const double *number; /* [rows, cols] */
    int64_t rows, cols;
} matrix;

static void times_matrix(const void *map, const double *v, double *y)
{
    const matrix *a = map;
    for (int64_t r = 0; r < a->rows; r++) {
        y[r] = 0;
        for (int64_t c = 0; c < a->cols; c++)
            y[r] += a->number[r * a->cols + c] * v[c];
    }
}

static void times_transposed(const void *map, const double *y, double *v)
{
    const matrix *a = map;
    memset(v, 0, (size_t)a->cols * sizeof *v);
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t c = 0; c < a->cols; c++)
            v[c] += a->number[r * a->cols + c] * y[r];
}

double tl_spectral_norm(tl_tape *t, tl_var v, const tl_flow_options *options)
{
    const tl_flow_options none = {.tolerance = 0};
    tl_array a = tl_value(t, v);
    char text[TL_LAYOUT_TEXT];
    if (!a.layout)
        return (double)NAN;
    if (a.layout->ndim != 2 || !tl_dtype_is_real(a.dtype)) {
        tl_tape_fail(t, TL_ERR_SHAPE, "spectral_norm: wants a matrix of reals, not %s %s",
                     tl_dtype_name(a.dtype), tl_layout_text(a.layout, text));
        return (double)NAN;
    }
    matrix m = {.rows = a.layout->shape[0], .cols = a.layout->shape[1]};
    double *number = room(t, a.layout->count), *work = room(t, m.rows + m.cols);
    if (!number || !work || !read(t, v, number, false))
        return (double)NAN;
    m.number = number;
    iteration it = iteration_from(options ? options : &none, 1e-12, 10000);
    return largest_singular_value(t, times_matrix, times_transposed, &m, m.rows, m.cols, work, &it);
}

/* ---- what a trace is made of ------------------------------------------------------------- */

typedef struct measuring {
    tl_tape *t;
    const tl_unrolled *u;
    const tl_flow_options *o;
    tl_gradient_flow *flow;
} measuring;

static int states_of(const measuring *m, const tl_flow_trace *trace)
{
    return trace->state == TL_FLOW_ALL_STATES ? m->u->states : 1;
}

static tl_var state_at(const measuring *m, const tl_flow_trace *trace, int k, int64_t n)
{
    return tl_step_state(m->u, trace->layer, trace->direction, trace->state < 0 ? k : trace->state, n);
}

/* Numbers of all its states, batch included. */
static int64_t size_of(const measuring *m, const tl_flow_trace *trace)
{
    return trace->units * m->flow->batch;
}

static bool has_gradient(const measuring *m, const tl_flow_trace *trace, int64_t n)
{
    for (int k = 0; k < states_of(m, trace); k++)
        if (!tl_needs_gradient(m->t, state_at(m, trace, k, n)))
            return false;
    return true;
}

/* g_n, one state after the other; zeros where none arrived. */
static void gradient_at(const measuring *m, const tl_flow_trace *trace, int64_t n, double *g)
{
    memset(g, 0, (size_t)size_of(m, trace) * sizeof *g);
    for (int k = 0; k < states_of(m, trace); k++) {
        tl_var s = state_at(m, trace, k, n), v = tl_gradient(m->t, s);
        if (!tl_is_none(v))
            read(m->t, v, g, false);
        g += tl_value(m->t, s).layout->count;
    }
}

static void measure_units(const measuring *m, tl_flow_trace *trace, int64_t n, const double *g)
{
    double *unit = trace->unit + n * trace->units;
    for (int k = 0; k < states_of(m, trace); k++) {
        int64_t own = tl_value(m->t, state_at(m, trace, k, n)).layout->count / m->flow->batch;
        for (int64_t i = 0; i < own; i++)
            unit[i] = norm_of(g + i, m->flow->batch, own);
        unit += own;
        g += own * m->flow->batch;
    }
}

static void measure_gradients(const measuring *m, tl_flow_trace *trace)
{
    double *g = room(m->t, size_of(m, trace));
    trace->first = m->u->steps + 1;
    for (int64_t n = m->u->steps; g && n >= 0 && has_gradient(m, trace, n); n--) {
        gradient_at(m, trace, n, g);
        trace->norm[n] = norm_of(g, size_of(m, trace), 1);
        measure_units(m, trace, n, g);
        trace->first = n;
    }
}

static jacobian jacobian_of(const measuring *m, const tl_flow_trace *trace, int64_t n)
{
    jacobian j = {.t = m->t, .count = states_of(m, trace), .size = size_of(m, trace)};
    for (int k = 0; k < j.count; k++) {
        j.in[k] = state_at(m, trace, k, n);
        j.out[k] = state_at(m, trace, k, n + 1);
    }
    return j;
}

/* Row by row of J. */
static double frobenius_norm(const jacobian *j, double *one, double *row)
{
    double sum = 0;
    memset(one, 0, (size_t)j->size * sizeof *one);
    for (int64_t i = 0; i < j->size && good(j->t); i++) {
        one[i] = 1;
        transposed(j, one, row);
        one[i] = 0;
        sum = hypot(sum, norm_of(row, j->size, 1));
    }
    return sum;
}

static void measure_jacobian(const measuring *m, tl_flow_trace *trace, int64_t n, double *work)
{
    jacobian j = jacobian_of(m, trace, n);
    iteration it = iteration_from(m->o, 1e-5, 300);
    double *g = work, *x = work + j.size;
    gradient_at(m, trace, n + 1, g);
    transposed(&j, g, x);
    trace->carried[n] = norm_of(x, j.size, 1);
    if (j.size <= (m->o->frobenius_most > 0 ? m->o->frobenius_most : 64))
        trace->frobenius[n] = frobenius_norm(&j, g, x);
    if (!record_transposed(&j))
        return;
    trace->spectral[n] =
        largest_singular_value(m->t, forward, transposed, &j, j.size, j.size, work, &it);
    trace->unconverged += !it.converged;
}

static void measure_jacobians(const measuring *m, tl_flow_trace *trace)
{
    double *work = m->o->no_jacobians ? NULL : room(m->t, 2 * size_of(m, trace));
    for (int64_t n = trace->first; work && n < m->u->steps && good(m->t); n++)
        measure_jacobian(m, trace, n, work);
}

/* ---- the bound -------------------------------------------------------------------------- */

static bool has_bound(const measuring *m)
{
    const tl_rnn *rnn = m->o->network;
    return rnn && !m->o->no_jacobians && rnn->config.cell == &tl_elman_cell &&
           rnn->config.layers == m->u->layers && rnn->directions == m->u->directions &&
           rnn->config.zoneout[0] == 0 && rnn->config.recurrent_dropout == 0 &&
           rnn->config.drop_connect == 0;
}

/* max |f'(a)|, with f' from the tape. A preactivation that the cell clips has no derivative beyond the
 * limit, and f' inside it is f'(a). */
static double largest_slope(const measuring *m, const tl_flow_trace *trace, int64_t n, int64_t step)
{
    tl_tape *t = m->t;
    const tl_elman_options *o = m->o->network->config.options;
    const tl_param *w = tl_rnn_weight(m->o->network, trace->layer, trace->direction, "weight_hh");
    tl_no_record_begin(t);
    tl_var a = tl_linear_op(t, state_at(m, trace, 0, n), tl_constant(t, w->value),
                            tl_step_input(m->u, trace->layer, trace->direction, step));
    tl_tensor *value = tl_value_copy(t, a);
    tl_no_record_end(t, 0, NULL);
    if (!value)
        return (double)NAN;
    tl_var x = tl_leaf_untied(t, value), slope;
    tl_var y = o->activation ? o->activation(t, x) : tl_tanh(t, x);
    tl_var ones = tl_full(t, value->dtype, value->layout.ndim, value->layout.shape, 1);
    double largest = (double)NAN;
    if (tl_grad(t, y, ones, 1, &x, false, &slope) == TL_OK)
        largest = tl_item(t, tl_max(t, tl_abs(t, slope)));
    tl_tensor_release(value);
    return largest;
}

static bool some_row_is_over(const measuring *m, int64_t step)
{
    for (int64_t b = 0; m->o->lengths && b < m->flow->batch; b++)
        if (step >= m->o->lengths[b])
            return true;
    return false;
}

static void measure_bound(const measuring *m, tl_flow_trace *trace)
{
    if (!has_bound(m) || trace->first > m->u->steps)
        return;
    const tl_rnn *rnn = m->o->network;
    const tl_param *w = tl_rnn_weight(rnn, trace->layer, trace->direction, "weight_hh");
    double norm = tl_spectral_norm(m->t, tl_constant(m->t, w->value), NULL);
    for (int64_t n = trace->first; n < m->u->steps && good(m->t); n++) {
        int64_t step = trace->direction || rnn->config.reverse ? m->u->steps - 1 - n : n;
        trace->bound[n] = norm * largest_slope(m, trace, n, step);
        if (some_row_is_over(m, step))
            trace->bound[n] = fmax(trace->bound[n], 1);
    }
}

/* ---- the verdict ------------------------------------------------------------------------ */

/* Running sums of a line of least squares. */
typedef struct line {
    double n, x, y, xx, xy;
} line;

static void add_point(line *l, double x, double y)
{
    *l = (line){l->n + 1, l->x + x, l->y + y, l->xx + x * x, l->xy + x * y};
}

static double slope_of(const line *l)
{
    return (l->n * l->xy - l->x * l->y) / (l->n * l->xx - l->x * l->x);
}

static tl_flow_verdict judge(const tl_gradient_flow *flow, tl_flow_trace *trace)
{
    if (trace->at >= 0)
        return TL_FLOW_VANISHING;
    return trace->rate < flow->vanishing   ? TL_FLOW_VANISHING
           : trace->rate > flow->exploding ? TL_FLOW_EXPLODING
                                           : TL_FLOW_HEALTHY;
}

/* v <- v J_n / |v J_n|; log |v J_n|. Without Jacobians it is read off the norms. */
static double carry_back(const measuring *m, const tl_flow_trace *trace, int64_t n, double *v,
                         double *x)
{
    if (m->o->no_jacobians)
        return log(trace->norm[n] / trace->norm[n + 1]);
    jacobian j = jacobian_of(m, trace, n);
    transposed(&j, v, x);
    double norm = norm_of(x, j.size, 1);
    for (int64_t i = 0; i < j.size && norm > 0; i++)
        v[i] = x[i] / norm;
    return log(norm);
}

static bool is_finite(const measuring *m, tl_flow_trace *trace)
{
    for (int64_t n = m->u->steps; n >= trace->first && trace->at < 0; n--)
        if (!isfinite(trace->norm[n]))
            trace->at = n;
    return trace->at < 0;
}

/* Follows the gradient of the last step that has one, g_S, to the first state. */
static tl_flow_verdict follow(const measuring *m, tl_flow_trace *trace)
{
    int64_t size = size_of(m, trace), n = m->u->steps;
    double *v = room(m->t, 2 * size), log_left = 0;
    line l = {0};
    if (!v || !is_finite(m, trace))
        return TL_FLOW_NOT_FINITE;
    while (n > trace->first && trace->norm[n] == 0)
        n--;
    if (n <= trace->first || trace->norm[n] == 0)
        return TL_FLOW_SILENT;
    gradient_at(m, trace, n, v);
    normalise(v, size, trace->norm[n]);
    add_point(&l, 0, 0);
    for (trace->reach[n] = 0; n-- > trace->first && trace->at < 0 && good(m->t);) {
        log_left += carry_back(m, trace, n, v, v + size);
        trace->reach[n] = log_left / log(10);
        if (isfinite(log_left))
            add_point(&l, (double)++trace->fitted, log_left);
        else
            trace->at = n;
    }
    trace->rate = trace->fitted ? exp(slope_of(&l)) : 0;
    trace->left = exp(log_left);
    return isnan(log_left) || log_left == (double)INFINITY ? TL_FLOW_NOT_FINITE : judge(m->flow, trace);
}

/* ---- all of it -------------------------------------------------------------------------- */

static bool begin_trace(const measuring *m, tl_flow_trace *trace)
{
    int64_t T = m->u->steps;
    for (int k = 0; k < states_of(m, trace); k++)
        trace->units += tl_value(m->t, state_at(m, trace, k, 0)).layout->count / m->flow->batch;
    trace->norm = missing(m->t, T + 1);
    trace->unit = missing(m->t, (T + 1) * trace->units);
    trace->carried = missing(m->t, T);
    trace->frobenius = missing(m->t, T);
    trace->spectral = missing(m->t, T);
    trace->bound = missing(m->t, T);
    trace->reach = missing(m->t, T + 1);
    trace->rate = trace->left = (double)NAN;
    return good(m->t);
}

static void measure(const measuring *m, tl_flow_trace *trace)
{
    if (!begin_trace(m, trace))
        return;
    measure_gradients(m, trace);
    measure_jacobians(m, trace);
    measure_bound(m, trace);
    if (good(m->t))
        trace->verdict = follow(m, trace);
}

static bool graver(tl_flow_verdict a, tl_flow_verdict b)
{
    return a > b; /* the enum is in this order */
}

static bool begin_flow(const measuring *m)
{
    tl_var last = tl_step_state(m->u, 0, 0, 0, m->u->steps);
    const tl_flow_options *o = m->o;
    tl_gradient_flow *f = m->flow;
    if (!good(m->t))
        return false;
    if (!m->u->steps || tl_is_none(last)) {
        tl_tape_fail(m->t, TL_ERR_ARGUMENT, "gradient_flow: the handles are those of no unrolling");
        return false;
    }
    tl_array s = tl_value(m->t, last);
    if (!s.layout)
        return false;
    int traces = m->u->states > 1 ? m->u->states + 1 : 1;
    *f = (tl_gradient_flow){.steps = m->u->steps,
                            .batch = s.layout->shape[0] > 0 ? s.layout->shape[0] : 1,
                            .count = m->u->layers * m->u->directions * traces,
                            .cell = o->network ? o->network->config.cell : NULL,
                            .vanishing = o->vanishing > 0 ? o->vanishing : 0.9,
                            .exploding = o->exploding > 0 ? o->exploding : 1.1};
    if (f->vanishing > 1 || f->exploding < 1) {
        tl_tape_fail(m->t, TL_ERR_ARGUMENT,
                     "gradient_flow: thresholds are to be below and above 1, not %g and %g",
                     f->vanishing, f->exploding);
        return false;
    }
    f->trace = tl_scratch(m->t, (size_t)f->count * sizeof *f->trace);
    return f->trace;
}

tl_status tl_gradient_flow_measure(tl_tape *t, const tl_unrolled *u, const tl_flow_options *options,
                                   tl_gradient_flow *flow)
{
    const tl_flow_options none = {.vanishing = 0};
    measuring m = {.t = t, .u = u, .o = options ? options : &none, .flow = flow};
    *flow = (tl_gradient_flow){0};
    if (!begin_flow(&m)) {
        flow->count = 0;
        return tl_tape_status(t);
    }
    int traces = flow->count / (u->layers * u->directions);
    for (int k = 0; k < flow->count; k++) {
        int cell = k / traces, state = k % traces;
        tl_flow_trace *trace = &flow->trace[k];
        *trace = (tl_flow_trace){.layer = cell / u->directions,
                                 .direction = cell % u->directions,
                                 .state = state < u->states ? state : TL_FLOW_ALL_STATES,
                                 .at = -1};
        if (good(t))
            measure(&m, trace);
        if (state == traces - 1 && graver(trace->verdict, flow->verdict))
            flow->verdict = trace->verdict;
    }
    flow->count = good(t) ? flow->count : 0;
    return tl_tape_status(t);
}

const tl_flow_trace *tl_flow_find(const tl_gradient_flow *flow, int layer, int direction, int state)
{
    const tl_flow_trace *found = NULL;
    for (int k = 0; k < flow->count; k++) {
        const tl_flow_trace *trace = &flow->trace[k];
        if (trace->layer != layer || trace->direction != direction)
            continue;
        if (trace->state == state || state == TL_FLOW_ALL_STATES) /* the last one is of all */
            found = trace;
    }
    return found;
}

/* ---- step by step ----------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

int64_t tl_step_shares(tl_tape *t, const tl_tensor *weight, int64_t most, tl_step_share *shares)
{
    tl_var all = tl_step_gradients(t, weight);
    tl_array a = tl_value(t, all);
    if (!a.layout)
        return 0;
    int64_t uses = a.layout->shape[0], size = a.layout->count / uses;
    double *g = room(t, a.layout->count), *sum = room(t, size);
    if (!g || !sum || !read(t, all, g, false))
        return 0;
    for (int64_t i = 0; i < size; i++) {
        sum[i] = 0;
        for (int64_t k = 0; k < uses; k++)
            sum[i] += g[k * size + i];
    }
    /* Both divided by the sum's norm, so that products do not over- or underflow. */
    double whole = norm_of(sum, size, 1);
    for (int64_t i = 0; i < size && whole > 0; i++)
        sum[i] /= whole;
    for (int64_t k = 0; k < uses && k < most; k++) {
        double norm = norm_of(g + k * size, size, 1), along = dot(g + k * size, sum, size);
        shares[k] = (tl_step_share){.norm = norm,
                                    .cosine = norm == 0 || whole == 0 ? 0 : along / norm,
                                    .share = whole == 0 ? (double)NAN : along / whole};
    }
    return uses;
}
