/* online.c - RTRL, SnAp, e-prop and UORO on the derivatives of one recorded step.
 *
 *      theta ---------+
 *                     v
 *      s  (leaves)->[step]-> s' (after) -> y -> loss          recorded, step by step
 *                           ^
 *                           |  no derivative passes from here on, once D and F are known:
 *                           |  tl_backward then yields dl/ds' and dl/dtheta with s' held
 *
 * UORO alone needs no such cut: it takes dl/ds and dl/dtheta of the whole step. */
#include "nn/online.h"

#include <math.h>
#include <string.h>

#include "autograd/ops.h"
#include "tensor/arena.h"

struct tl_online {
    tl_online_config config;
    const tl_rnn *rnn;     /* NULL: a model */
    tl_online_model model; /* initial, param: not used, see below */
    int states, params;
    tl_param **param;
    int64_t *offset; /* [params+1] of each parameter's first column */
    tl_tensor **initial, **state;
    bool *passed_on; /* [states] does influence pass through it from step to step? */
    bool started;    /* a step was taken: there is influence */

    bool shaped; /* what follows is known */
    int64_t batch, rows, columns;
    int64_t *from;          /* [states+1] of each state's first row */
    tl_influence influence; /* but for UORO */
    double *tangent;        /* UORO: s~ [B,n] */
    double *direction;      /* UORO: theta~ [P] */
    double *sum;            /* [P] a step's gradient, or nu'F */
    double *rows_of_loss;   /* [B,n] dl/ds' or dl/ds */
    double *part;           /* [B,n] for use on the way */
    double *moved, *sign;   /* UORO: D s~ and nu [B,n] */
    tl_random random;
};

/* A recorded step. */
typedef struct recorded {
    tl_var *before; /* the states as leaves; TL_NONE: the network's own beginning */
    tl_var *after;
    tl_var *theta; /* the parameters */
    tl_var joined; /* all states after it, [B,n] */
    tl_var y;
} recorded;

static void *zeros(int64_t count, size_t size)
{
    if (count < 0 || (uint64_t)count > (SIZE_MAX / 2) / size)
        return NULL;
    size_t bytes = (size_t)count * size + 1;
    void *room = tl_system_get(bytes);
    if (room)
        memset(room, 0, bytes);
    return room;
}

static bool good(const tl_tape *t)
{
    return tl_tape_status(t) == TL_OK;
}

/* ---- making ----------------------------------------------------------------------------- */

static void forget_state(tl_online *o)
{
    for (int k = 0; o->state && k < o->states; k++) {
        tl_tensor_release(o->state[k]);
        o->state[k] = o->initial && o->initial[k] ? tl_tensor_retain(o->initial[k]) : NULL;
    }
    o->started = false;
}

void tl_online_free(tl_online *o)
{
    if (!o)
        return;
    forget_state(o);
    for (int k = 0; k < o->states; k++) {
        if (o->state)
            tl_tensor_release(o->state[k]);
        if (o->initial)
            tl_tensor_release(o->initial[k]);
    }
    void *rooms[] = {o->param, o->offset,  o->initial,   o->state, o->passed_on,
                     o->from,  o->tangent, o->direction, o->sum,   o->rows_of_loss,
                     o->part,  o->moved,   o->sign};
    for (size_t k = 0; k < sizeof rooms / sizeof rooms[0]; k++)
        tl_system_give(rooms[k]);
    tl_influence_free(&o->influence);
    tl_system_give(o);
}

void tl_online_begin(tl_online *o)
{
    forget_state(o);
    if (o->shaped && o->config.method != TL_UORO)
        tl_influence_zero(&o->influence);
    if (o->tangent)
        memset(o->tangent, 0, (size_t)(o->batch * o->rows) * sizeof *o->tangent);
    if (o->direction)
        memset(o->direction, 0, (size_t)o->columns * sizeof *o->direction);
}

static tl_online *new_online(const tl_online_config *config, int states, int params, tl_error *error)
{
    tl_online *o = zeros(1, sizeof *o);
    if (o) {
        o->config = *config;
        o->random = tl_random_seed(config->seed);
        o->states = states;
        o->param = zeros(params, sizeof *o->param);
        o->offset = zeros(params + 1, sizeof *o->offset);
        o->initial = zeros(states, sizeof *o->initial);
        o->state = zeros(states, sizeof *o->state);
        o->passed_on = zeros(states, sizeof *o->passed_on);
        o->from = zeros(states + 1, sizeof *o->from);
    }
    if (o && o->param && o->offset && o->initial && o->state && o->passed_on && o->from)
        return o;
    tl_online_free(o);
    tl_fail(error, TL_ERR_MEMORY, "online: out of memory");
    return NULL;
}

static bool method_fits(const tl_online_config *config, tl_error *error)
{
    if ((unsigned)config->method > TL_UORO)
        tl_fail(error, TL_ERR_ARGUMENT, "online: %d is not a method", (int)config->method);
    else if (config->method == TL_SNAP && config->reach < 1)
        tl_fail(error, TL_ERR_ARGUMENT, "online: SnAp-n wants a reach of n >= 1, not %d",
                config->reach);
    else
        return true;
    return false;
}

/* A column for each number of it. The same one twice counts once. */
static void add_param(tl_online *o, tl_param *param)
{
    if (!param || param->frozen)
        return;
    for (int k = 0; k < o->params; k++)
        if (o->param[k] == param)
            return;
    o->param[o->params] = param;
    o->offset[o->params + 1] = o->offset[o->params] + param->value->layout.count;
    o->columns = o->offset[++o->params];
}

static bool rnn_fits(const tl_rnn *rnn, const tl_online_config *config, tl_error *error)
{
    if (!rnn->layer)
        tl_fail(error, TL_ERR_ARGUMENT, "online: the network was not built, see tl_params_status");
    else if (rnn->directions != 1 || rnn->config.reverse)
        tl_fail(error, TL_ERR_ARGUMENT,
                "online: a stream has no end to read backwards from, but the %s network is %s",
                rnn->config.cell->name, rnn->config.reverse ? "reverse" : "bidirectional");
    else if (config->method == TL_EPROP && rnn->states < 2)
        tl_fail(error, TL_ERR_ARGUMENT,
                "online: e-prop wants a cell with a memory beside its output; the %s cell has only %s",
                rnn->config.cell->name, rnn->config.cell->states[0].name);
    else
        return method_fits(config, error);
    return false;
}

tl_online *tl_online_new(const tl_rnn *rnn, const tl_online_config *config, tl_error *error)
{
    if (!rnn_fits(rnn, config, error))
        return NULL;
    int layers = rnn->config.layers, weights = layers * rnn->weights, states = tl_rnn_states(rnn);
    tl_online *o = new_online(config, states, weights + states + 4 * layers, error);
    if (!o)
        return NULL;
    o->rnn = rnn;
    for (int k = 0; k < states; k++)
        o->passed_on[k] = config->method != TL_EPROP || k % rnn->states != 0;
    for (int k = 0; k < weights; k++)
        add_param(o, rnn->weight[k]);
    for (int k = 0; rnn->initial && k < states; k++)
        add_param(o, rnn->initial[k]);
    for (int k = 0; k < layers; k++) {
        add_param(o, rnn->layer[k].norm_weight);
        add_param(o, rnn->layer[k].norm_bias);
        add_param(o, rnn->layer[k].highway_weight);
        add_param(o, rnn->layer[k].highway_bias);
    }
    return o;
}

tl_online *tl_online_new_model(const tl_online_model *model, const tl_online_config *config,
                               tl_error *error)
{
    if (!method_fits(config, error))
        return NULL;
    if (model->states < 1 || model->states > (int)(8 * sizeof model->observed) || model->params < 0 ||
        !model->step || !model->initial) {
        tl_fail(error, TL_ERR_ARGUMENT,
                "online: a model wants a step, and 1 to %d states with their initial values",
                (int)(8 * sizeof model->observed));
        return NULL;
    }
    tl_online *o = new_online(config, model->states, model->params, error);
    if (!o)
        return NULL;
    o->model = *model;
    for (int k = 0; k < model->params; k++)
        add_param(o, model->param[k]);
    for (int k = 0; k < model->states; k++) {
        o->passed_on[k] = config->method != TL_EPROP || !(model->observed >> k & 1);
        o->initial[k] = tl_tensor_copy(model->initial[k], model->initial[k]->dtype, error);
        if (!o->initial[k]) {
            tl_online_free(o);
            return NULL;
        }
    }
    forget_state(o);
    return o;
}

/* ---- numbers in and out of the tape ----------------------------------------------------- */

/* Row-major, as doubles. */
static void read_numbers(tl_tape *t, tl_var v, double *to)
{
    tl_array a = tl_value(t, v);
    if (!a.data)
        return;
    if (a.dtype == TL_F64 && a.layout->contiguous) {
        memcpy(to, a.data, (size_t)a.layout->count * sizeof *to);
        return;
    }
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    for (int64_t i = 0; i < a.layout->count; i++)
        to[i] = tl_tensor_get(&view, i);
}

/* Of state k, the rows it has among those of [B,n]. */
static void read_rows(const tl_online *o, tl_tape *t, tl_var v, int k, double *all, double *room)
{
    int64_t width = o->from[k + 1] - o->from[k];
    read_numbers(t, v, room);
    for (int64_t b = 0; b < o->batch; b++)
        memcpy(all + b * o->rows + o->from[k], room + b * width, (size_t)width * sizeof *all);
}

/* A constant [B,n], or of the shape of `like`, with these numbers. */
static tl_var write_numbers(tl_tape *t, tl_var like, const double *numbers)
{
    tl_array a = tl_value(t, like);
    if (!a.layout)
        return tl_poison(t);
    return tl_cast(t, tl_constant_from(t, TL_F64, a.layout->ndim, a.layout->shape, numbers), a.dtype);
}

static void add_gradients(const tl_online *o, const double *sum)
{
    for (int k = 0; k < o->params; k++) {
        tl_tensor *g = o->param[k]->gradient;
        for (int64_t i = 0; i < g->layout.count; i++)
            tl_tensor_set(g, i, tl_tensor_get(g, i) + sum[o->offset[k] + i]);
        tl_tensor_touch(g);
    }
}

/* ---- recording -------------------------------------------------------------------------- */

static tl_var run_rnn(const tl_online *o, tl_tape *t, tl_var x, tl_var *state)
{
    tl_unrolled handles;
    char text[TL_LAYOUT_TEXT];
    bool batch_first = o->rnn->config.batch_first;
    const tl_layout *l = tl_value(t, x).layout;
    if (l && (l->ndim != 2 || l->shape[1] != o->rnn->config.input))
        tl_tape_fail(t, TL_ERR_SHAPE, "online: %s network wants [B,%lld], a step of the stream, not %s",
                     o->rnn->config.cell->name, (long long)o->rnn->config.input,
                     tl_layout_text(l, text));
    x = tl_unsqueeze(t, x, batch_first ? 1 : 0);
    tl_unroll_options options = {.handles = &handles}; /* so that each state is a variable of its own */
    return tl_squeeze(t, tl_unroll_with(t, o->rnn, x, state, &options), batch_first ? 1 : 0);
}

static tl_var run_model(const tl_online *o, tl_tape *t, tl_var x, tl_var *state)
{
    o->model.step(t, o->model.model, x, state);
    for (int k = 0; k < o->states && good(t); k++) {
        const tl_layout *l = tl_value(t, state[k]).layout;
        if (l)
            state[k] = tl_reshape(t, state[k], l->ndim, l->shape);
    }
    return state[0];
}

/* [B,m] */
static tl_var flat(tl_tape *t, tl_var state)
{
    char text[TL_LAYOUT_TEXT];
    const tl_layout *l = tl_value(t, state).layout;
    if (l && l->ndim > 0 && l->count > 0)
        return tl_reshape(t, state, TL_SHAPE(l->shape[0], l->count / l->shape[0]));
    if (l)
        tl_tape_fail(t, TL_ERR_SHAPE, "online: a state wants [B, ..] with B >= 1, not %s",
                     tl_layout_text(l, text));
    return tl_poison(t);
}

static tl_var join(const tl_online *o, tl_tape *t, const tl_var *state)
{
    tl_var *part = tl_scratch(t, (size_t)o->states * sizeof *part);
    for (int k = 0; part && k < o->states; k++)
        part[k] = flat(t, state[k]);
    return part && good(t) ? tl_concat(t, o->states, part, 1) : tl_poison(t);
}

/* state: [states] the ones before it, as tensors; NULL: none yet. */
static bool record(const tl_online *o, tl_tape *t, tl_var x, tl_tensor *const *state, recorded *r)
{
    size_t states = (size_t)o->states * sizeof(tl_var);
    *r = (recorded){.before = tl_scratch(t, states),
                    .after = tl_scratch(t, states),
                    .theta = tl_scratch(t, (size_t)o->params * sizeof(tl_var) + 1)};
    if (!good(t))
        return false;
    for (int k = 0; k < o->states; k++)
        r->after[k] = r->before[k] = state[k] ? tl_leaf(t, state[k], NULL) : TL_NONE;
    for (int k = 0; k < o->params; k++) {
        r->theta[k] = tl_use(t, o->param[k]);
        if (tl_is_untied(t, o->param[k]->value))
            tl_tape_fail(t, TL_ERR_ARGUMENT, "online: %s is untied, but wanted as one variable",
                         o->param[k]->name);
    }
    r->y = o->rnn ? run_rnn(o, t, x, r->after) : run_model(o, t, x, r->after);
    if (good(t))
        r->joined = join(o, t, r->after);
    return good(t);
}

/* ---- D and F ---------------------------------------------------------------------------- */

/* [B,n], 1 in the rows of that colour, of all rows of the batch or of one. */
static tl_var seed_of(const tl_online *o, tl_tape *t, const recorded *r, const int32_t *colors,
                      int color, int64_t only)
{
    double *seed = o->part;
    for (int64_t b = 0; b < o->batch; b++)
        for (int64_t i = 0; i < o->rows; i++)
            seed[b * o->rows + i] = colors[i] == color && (only < 0 || only == b);
    return write_numbers(t, r->joined, seed);
}

/* Row after row of D: of all rows of the batch at once, as they do not see each other. Through states
 * that pass nothing on D is left as it is: 0. */
static void find_d(const tl_online *o, tl_tape *t, const recorded *r, tl_influence *j)
{
    tl_var *in = tl_scratch(t, 2 * (size_t)o->states * sizeof *in), *out = in + o->states;
    int count = 0;
    for (int k = 0; in && k < o->states; k++)
        if (o->passed_on[k])
            in[count++] = r->before[k];
    for (int c = 0; in && count && c < j->d_colors && good(t); c++) {
        tl_no_record_begin(t);
        tl_var seed = seed_of(o, t, r, j->d_color, c, -1);
        if (tl_grad(t, r->joined, seed, count, in, false, out) == TL_OK) {
            double *all = o->rows_of_loss;
            memset(all, 0, (size_t)(o->batch * o->rows) * sizeof *all);
            for (int k = 0, next = 0; k < o->states; k++)
                if (o->passed_on[k])
                    read_rows(o, t, out[next++], k, all, o->part);
            for (int64_t b = 0; b < o->batch; b++)
                memcpy(j->d + (b * j->d_colors + c) * o->rows, all + b * o->rows,
                       (size_t)o->rows * sizeof *all);
        }
        tl_no_record_end(t, 0, NULL);
    }
}

/* to[P] = seed' ds'/dtheta, s held */
static void pull_back(const tl_online *o, tl_tape *t, const recorded *r, tl_var seed, double *to)
{
    tl_var *out = tl_scratch(t, (size_t)o->params * sizeof *out + 1);
    if (!out || !o->params)
        return;
    if (tl_grad(t, r->joined, seed, o->params, r->theta, false, out) == TL_OK)
        for (int k = 0; k < o->params; k++)
            read_numbers(t, out[k], to + o->offset[k]);
}

/* The weights are the same for all rows of the batch: each row by itself. */
static void find_f(const tl_online *o, tl_tape *t, const recorded *r, tl_influence *j)
{
    for (int64_t b = 0; b < o->batch; b++)
        for (int c = 0; c < j->f_colors && good(t); c++) {
            tl_no_record_begin(t);
            pull_back(o, t, r, seed_of(o, t, r, j->f_color, c, b),
                      j->f + (b * j->f_colors + c) * o->columns);
            tl_no_record_end(t, 0, NULL);
        }
}

/* ---- where D and F are zero ------------------------------------------------------------- */

enum { PROBES = 8 };

/* Numbers to look at the derivative at: ever smaller ones, so that nothing is saturated in all. */
static tl_tensor *place(tl_random *random, tl_array like, int probe)
{
    tl_tensor view = {.data = like.data, .layout = *like.layout, .dtype = like.dtype};
    tl_tensor *x = tl_tensor_copy(&view, like.dtype, NULL);
    if (x && tl_dtype_is_real(like.dtype))
        tl_random_normal(random, x, 0, 2.0 / (1 << probe));
    return x;
}

static void mark(const double *number, int64_t batch, int64_t count, uint8_t *kept)
{
    for (int64_t i = 0; i < batch * count; i++)
        kept[i % count] |= number[i] != 0;
}

typedef struct probing {
    tl_online *o;
    tl_tape *t; /* for errors; the probes have tapes of their own */
    tl_array x;
    tl_array *after; /* [states] of the caller's step: shapes */
    tl_influence dense;
    uint8_t *d, *f; /* [n,n], [n,P] */
} probing;

/* The first of them starts where the stream does, where a learned initial state is seen. */
static bool probe(probing *p, int index, tl_random *random)
{
    tl_online *o = p->o;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = place(random, p->x, index);
    tl_tensor **state = zeros(o->states, sizeof *state);
    bool done = t && x && state;
    recorded r;
    for (int k = 0; done && k < o->states; k++) {
        if (index)
            state[k] = place(random, p->after[k], index);
        else if (o->initial[k])
            state[k] = tl_tensor_retain(o->initial[k]);
        done = state[k] || !index;
    }
    if (done && record(o, t, tl_constant(t, x), state, &r)) {
        if (!tl_is_none(r.before[0]))
            find_d(o, t, &r, &p->dense);
        find_f(o, t, &r, &p->dense);
        mark(p->dense.d, o->batch, o->rows * o->rows, p->d);
        mark(p->dense.f, o->batch, o->rows * o->columns, p->f);
    }
    if (t && !good(t))
        tl_tape_fail(p->t, tl_tape_status(t), "%s", tl_tape_message(t));
    done = done && good(t);
    for (int k = 0; state && k < o->states; k++)
        tl_tensor_release(state[k]);
    tl_system_give(state);
    tl_tensor_release(x);
    tl_tape_free(t);
    return done;
}

static bool find_pattern(tl_online *o, tl_tape *t, tl_var x, const recorded *r)
{
    tl_random random = o->random;
    probing p = {.o = o,
                 .t = t,
                 .x = tl_value(t, x),
                 .after = tl_scratch(t, (size_t)o->states * sizeof(tl_array)),
                 .d = zeros(o->rows * o->rows, 1),
                 .f = zeros(o->rows * o->columns, 1)};
    bool done = p.after && p.d && p.f && tl_influence_dense(&p.dense, o->batch, o->rows, o->columns);
    for (int k = 0; done && k < o->states; k++)
        p.after[k] = tl_value(t, r->after[k]);
    for (int k = 0; done && k < PROBES; k++)
        done = probe(&p, k, &random);
    done = done && tl_influence_sparse(&o->influence, o->batch, o->rows, o->columns, p.d, p.f,
                                       o->config.method == TL_SNAP ? o->config.reach : 0);
    tl_influence_free(&p.dense);
    tl_system_give(p.d);
    tl_system_give(p.f);
    return done;
}

/* ---- the first step --------------------------------------------------------------------- */

static bool renew(double **room, int64_t count)
{
    tl_system_give(*room);
    *room = zeros(count, sizeof **room);
    return *room != NULL;
}

static bool make_room(tl_online *o, tl_tape *t, tl_var x, const recorded *r)
{
    int64_t numbers = o->batch * o->rows;
    if (!renew(&o->sum, o->columns) || !renew(&o->rows_of_loss, numbers) || !renew(&o->part, numbers))
        return false;
    switch (o->config.method) {
    case TL_RTRL:
        return tl_influence_dense(&o->influence, o->batch, o->rows, o->columns);
    case TL_SNAP:
    case TL_EPROP:
        return find_pattern(o, t, x, r);
    case TL_UORO:
        break;
    }
    return renew(&o->tangent, numbers) && renew(&o->direction, o->columns) &&
           renew(&o->moved, numbers) && renew(&o->sign, numbers);
}

static bool shape(tl_online *o, tl_tape *t, tl_var x, const recorded *r)
{
    char text[TL_LAYOUT_TEXT];
    o->batch = tl_value(t, r->joined).layout->shape[0];
    for (int k = 0; k < o->states; k++) {
        const tl_layout *l = tl_value(t, r->after[k]).layout;
        if (l->shape[0] != o->batch) {
            tl_tape_fail(t, TL_ERR_SHAPE, "online: state %d is %s, but state 0 has %lld rows", k,
                         tl_layout_text(l, text), (long long)o->batch);
            return false;
        }
        o->from[k + 1] = o->from[k] + l->count / o->batch;
    }
    o->rows = o->from[o->states];
    o->shaped = make_room(o, t, x, r);
    if (!o->shaped)
        tl_tape_fail(t, TL_ERR_MEMORY,
                     "online: out of memory for %lld numbers of state and %lld weights",
                     (long long)(o->batch * o->rows), (long long)o->columns);
    return o->shaped;
}

/* The tape's states must be as they were at first. */
static bool still_fits(const tl_online *o, tl_tape *t, const recorded *r)
{
    const tl_layout *l = tl_value(t, r->joined).layout;
    if (l->shape[0] == o->batch && l->shape[1] == o->rows)
        return true;
    tl_tape_fail(t, TL_ERR_SHAPE,
                 "online: the state has %lld rows of %lld numbers, but at first it had %lld of %lld",
                 (long long)l->shape[0], (long long)l->shape[1], (long long)o->batch,
                 (long long)o->rows);
    return false;
}

/* ---- the loss --------------------------------------------------------------------------- */

/* tl_backward from the loss, and all that came to `states` [B,n] into rows_of_loss. */
static void backward(tl_online *o, tl_tape *t, tl_var loss, const tl_var *states)
{
    memset(o->rows_of_loss, 0, (size_t)(o->batch * o->rows) * sizeof *o->rows_of_loss);
    if (tl_is_none(loss) || !good(t) || !tl_needs_gradient(t, loss) || tl_backward(t, loss) != TL_OK)
        return;
    for (int k = 0; k < o->states; k++) {
        tl_var g = tl_is_none(states[k]) ? TL_NONE : tl_gradient(t, states[k]);
        if (!tl_is_none(g))
            read_rows(o, t, g, k, o->rows_of_loss, o->part);
    }
}

/* ---- RTRL, SnAp, e-prop ----------------------------------------------------------------- */

static void take_influence(tl_online *o, tl_tape *t, const recorded *r, tl_var loss)
{
    if (o->started)
        find_d(o, t, r, &o->influence);
    find_f(o, t, r, &o->influence);
    for (int k = 0; k < o->states && good(t); k++) {
        tl_stop_edge(t, r->after[k], 0);
        if (tl_needs_gradient(t, r->after[k]))
            tl_keep_gradient(t, r->after[k]);
    }
    backward(o, t, loss, r->after);
    if (tl_influence_advance(&o->influence, t) != TL_OK)
        return;
    memset(o->sum, 0, (size_t)o->columns * sizeof *o->sum);
    tl_influence_add(&o->influence, o->rows_of_loss, o->sum);
    add_gradients(o, o->sum);
}

/* ---- UORO ------------------------------------------------------------------------------- *
 *
 *     dl/dtheta = (dl/ds s~) theta~ + dl/dtheta with s held
 *     nu: n signs, each +1 or -1 with probability 1/2
 *     s~' = rho0 D s~ + rho1 nu            rho0 = sqrt(|theta~| / (|D s~| + eps)) + eps
 *     theta~' = theta~ / rho0 + nu'F / rho1      rho1 = sqrt(|nu'F| / (|nu| + eps)) + eps
 *
 * E s~' theta~'' = D E(s~ theta~') + E(nu nu') F = D J + F; the mixed terms have mean 0, as nu has. */

static const double epsilon = 1e-7; /* the paper's */

static double length(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* moved = D s~ */
static void push_forward(tl_online *o, tl_tape *t, const recorded *r)
{
    tl_var *tangent = tl_scratch(t, (size_t)o->states * sizeof *tangent);
    double *part = o->part;
    memset(o->moved, 0, (size_t)(o->batch * o->rows) * sizeof *o->moved);
    if (!tangent || !o->started)
        return;
    for (int k = 0; k < o->states; k++) {
        int64_t width = o->from[k + 1] - o->from[k];
        for (int64_t b = 0; b < o->batch; b++)
            memcpy(part + b * width, o->tangent + b * o->rows + o->from[k],
                   (size_t)width * sizeof *part);
        tangent[k] = write_numbers(t, r->before[k], part);
    }
    read_numbers(t, tl_jvp(t, r->joined, o->states, r->before, tangent), o->moved);
}

static void new_direction(tl_online *o, const double *back)
{
    int64_t numbers = o->batch * o->rows;
    double rho0 =
        sqrt(length(o->direction, o->columns) / (length(o->moved, numbers) + epsilon)) + epsilon;
    double rho1 = sqrt(length(back, o->columns) / (length(o->sign, numbers) + epsilon)) + epsilon;
    for (int64_t i = 0; i < numbers; i++)
        o->tangent[i] = rho0 * o->moved[i] + rho1 * o->sign[i];
    for (int64_t p = 0; p < o->columns; p++)
        o->direction[p] = o->direction[p] / rho0 + back[p] / rho1;
}

static void take_rank_one(tl_online *o, tl_tape *t, const recorded *r, tl_var loss)
{
    int64_t numbers = o->batch * o->rows;
    tl_random random = o->random;
    double *back = tl_scratch(t, (size_t)o->columns * sizeof *back + 1), signal = 0;
    for (int64_t i = 0; i < numbers; i++)
        o->sign[i] = tl_random_u32(&random) & 1 ? 1 : -1;
    if (back)
        pull_back(o, t, r, write_numbers(t, r->joined, o->sign), back);
    if (good(t))
        push_forward(o, t, r);
    backward(o, t, loss, r->before);
    if (!good(t))
        return;
    for (int64_t i = 0; i < numbers; i++)
        signal += o->rows_of_loss[i] * o->tangent[i];
    for (int64_t p = 0; p < o->columns; p++)
        o->sum[p] = signal * o->direction[p];
    add_gradients(o, o->sum);
    new_direction(o, back);
    o->random = random;
}

/* ---- a step ----------------------------------------------------------------------------- */

/* The states after it, as the next step's leaves. */
static bool copy_states(const tl_online *o, tl_tape *t, const recorded *r, tl_tensor **next)
{
    for (int k = 0; k < o->states; k++)
        next[k] = NULL;
    for (int k = 0; k < o->states; k++)
        next[k] = tl_value_copy(t, r->after[k]);
    return good(t);
}

static void settle(tl_online *o, bool done, tl_tensor **next)
{
    for (int k = 0; k < o->states; k++) {
        tl_tensor_release(done ? o->state[k] : next[k]);
        if (done)
            o->state[k] = next[k];
    }
    o->started = o->started || done;
}

tl_status tl_online_step(tl_online *o, tl_tape *t, tl_var x, tl_online_loss *loss, void *context,
                         double *value)
{
    recorded r;
    tl_var of_step = TL_NONE;
    if (value)
        *value = NAN;
    if (!good(t) || !record(o, t, x, o->state, &r) ||
        !(o->shaped ? still_fits(o, t, &r) : shape(o, t, x, &r)))
        return tl_tape_status(t);
    if (loss)
        of_step = loss(t, context, r.y);
    if (value && !tl_is_none(of_step))
        *value = tl_item(t, of_step);
    tl_tensor **next = tl_scratch(t, (size_t)o->states * sizeof(tl_tensor *));
    if (!next || !good(t))
        return tl_tape_status(t);
    bool copied = copy_states(o, t, &r, next);
    if (copied && o->config.method == TL_UORO)
        take_rank_one(o, t, &r, of_step);
    else if (copied)
        take_influence(o, t, &r, of_step);
    settle(o, good(t), next);
    return tl_tape_status(t);
}

const tl_tensor *tl_online_state(const tl_online *o, int k)
{
    return k >= 0 && k < o->states ? o->state[k] : NULL;
}

tl_online_cost tl_online_measure(const tl_online *o)
{
    const tl_influence *j = &o->influence;
    int64_t numbers = o->batch * o->rows;
    if (!o->shaped)
        return (tl_online_cost){0};
    if (o->config.method == TL_UORO)
        return (tl_online_cost){.rows = o->rows,
                                .columns = o->columns,
                                .entries = numbers + o->columns,
                                .walks = 3,
                                .bytes = (size_t)(numbers + o->columns) * sizeof(double)};
    size_t each =
        sizeof(double) + (j->start ? (sizeof *j->row + sizeof *j->direct) / (size_t)o->batch : 0);
    return (tl_online_cost){.rows = o->rows,
                            .columns = o->columns,
                            .entries = j->entries,
                            .walks = j->d_colors + o->batch * j->f_colors + 1,
                            .bytes = (size_t)(o->batch * j->entries) * each};
}
