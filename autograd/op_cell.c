/* op_cell.c - gates of recurrent cells in one pass over the numbers.
 *
 * A cell written in primitives reads and writes some twenty arrays a step; fused, it reads its
 * pre-activations and writes its states. Each op here has two derivatives that are the same equations:
 * off the record a kernel, on the record (for derivatives of higher order) a composition of primitives.
 */
#include "autograd/ops.h"

#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* ---- lstm_gates: a [B,4H] = [i | f | g | o], c [B,H]; y [2,B,H] = h', c' ---------------------------
 *
 *   c' = sigmoid(f) c + sigmoid(i) tanh(g);   h' = sigmoid(o) tanh c' */

static bool lstm_gates_shape(tl_call *call, tl_layout *layout)
{
    const tl_layout *a = call->x[0].layout, *c = call->x[1].layout;
    char have[TL_LAYOUT_TEXT], want[TL_LAYOUT_TEXT];
    if (a->ndim != 2 || c->ndim != 2 || a->shape[0] != c->shape[0] || a->shape[1] != 4 * c->shape[1])
        return tl_call_fail(call, TL_ERR_SHAPE, "wants gates [B,4H] and c [B,H], not %s and %s",
                            tl_layout_text(a, have), tl_layout_text(c, want));
    int64_t shape[3] = {2, c->shape[0], c->shape[1]};
    return tl_layout_make(layout, 3, shape) == TL_OK;
}

/* The rows of a batch are shared by the team. */
typedef struct lstm_rows {
    tl_dtype dtype;
    int64_t batch, n;
    const char *a, *c, *y, *dy; /* y, dy: [2,B,H] */
    char *out;                  /* forward: y; backward: [B,5H] = [da | dc] */
} lstm_rows;

static void lstm_forward_rows(void *context, int64_t begin, int64_t end)
{
    const lstm_rows *r = context;
    int64_t row = r->n * (int64_t)tl_dtype_size(r->dtype);
    for (int64_t b = begin; b < end; b++)
        tl_lstm_row(r->dtype, r->n, r->a + 4 * b * row, r->c + b * row, r->out + b * row,
                    r->out + (r->batch + b) * row);
}

static void lstm_backward_rows(void *context, int64_t begin, int64_t end)
{
    const lstm_rows *r = context;
    int64_t row = r->n * (int64_t)tl_dtype_size(r->dtype);
    for (int64_t b = begin; b < end; b++)
        tl_lstm_row_grad(r->dtype, r->n, r->a + 4 * b * row, r->c + b * row,
                         r->y + (r->batch + b) * row, r->dy + b * row, r->dy + (r->batch + b) * row,
                         r->out + 5 * b * row, r->out + (5 * b + 4) * row);
}

static void share_rows(tl_tape *t, int64_t batch, int64_t n, tl_piece *piece, void *rows)
{
    enum { WORTH_A_FORK = 4096 }; /* elements: some 5 us of work, a fork takes one */
    if (batch * n >= WORTH_A_FORK)
        tl_threads_run(t->team, batch, piece, rows);
    else
        piece(rows, 0, batch);
}

static void lstm_gates_forward(tl_call *call)
{
    const tl_layout *c = call->x[1].layout;
    lstm_rows rows = {.dtype = call->y.dtype,
                      .batch = c->shape[0],
                      .n = c->shape[1],
                      .a = call->x[0].data,
                      .c = call->x[1].data,
                      .out = call->y.data};
    share_rows(call->tape, rows.batch, rows.n, lstm_forward_rows, &rows);
}

/* Off the record only: a, c, y, dy -> [da | dc]: [B,5H] */
static bool lstm_gates_grad_shape(tl_call *call, tl_layout *layout)
{
    const tl_layout *c = call->x[1].layout;
    int64_t shape[2] = {c->shape[0], 5 * c->shape[1]};
    return tl_layout_make(layout, 2, shape) == TL_OK;
}

static void lstm_gates_grad_forward(tl_call *call)
{
    const tl_layout *c = call->x[1].layout;
    lstm_rows rows = {.dtype = call->y.dtype,
                      .batch = c->shape[0],
                      .n = c->shape[1],
                      .a = call->x[0].data,
                      .c = call->x[1].data,
                      .y = call->x[2].data,
                      .dy = call->x[3].data,
                      .out = call->y.data};
    share_rows(call->tape, rows.batch, rows.n, lstm_backward_rows, &rows);
}

static const tl_op lstm_gates_grad = {.name = "lstm_gates_grad",
                                      .equation = "[da | dc] of lstm_gates",
                                      .kind = TL_GENERAL,
                                      .least = 4,
                                      .most = 4,
                                      .dense = true,
                                      .shape = lstm_gates_grad_shape,
                                      .forward = lstm_gates_grad_forward};

static void lstm_gates_vjp_fused(const tl_call *call, tl_var dy, tl_var *dx)
{
    tl_tape *t = call->tape;
    int64_t n = call->x[1].layout->shape[1];
    tl_var in[4] = {call->in[0], call->in[1], call->out, dy};
    tl_var both = tl_apply(t, &lstm_gates_grad, 4, in, NULL);
    dx[0] = tl_slice(t, both, 1, 0, 4 * n, 1);
    dx[1] = tl_slice(t, both, 1, 4 * n, 5 * n, 1);
}

static void lstm_gates_vjp_composed(const tl_call *call, tl_var dy, tl_var *dx)
{
    tl_tape *t = call->tape;
    tl_var a[4], c = call->in[1], dh = tl_select(t, dy, 0, 0), dc = tl_select(t, dy, 0, 1);
    tl_chunk(t, call->in[0], 4, 1, a);
    tl_var i = tl_sigmoid(t, a[0]), f = tl_sigmoid(t, a[1]), g = tl_tanh(t, a[2]),
           o = tl_sigmoid(t, a[3]);
    tl_var s = tl_tanh(t, tl_select(t, call->out, 0, 1));
    tl_var d = tl_add(t, dc, tl_tanh_grad(t, tl_mul(t, dh, o), s));
    tl_var da[4] = {
        tl_sigmoid_grad(t, tl_mul(t, d, g), i),
        tl_sigmoid_grad(t, tl_mul(t, d, c), f),
        tl_tanh_grad(t, tl_mul(t, d, i), g),
        tl_sigmoid_grad(t, tl_mul(t, dh, s), o),
    };
    dx[0] = tl_concat(t, 4, da, 1);
    dx[1] = tl_mul(t, d, f);
}

static void lstm_gates_vjp(const tl_call *call, tl_var dy, tl_var *dx)
{
    if (call->tape->unrecorded)
        lstm_gates_vjp_fused(call, dy, dx);
    else
        lstm_gates_vjp_composed(call, dy, dx);
}

static const tl_sample lstm_gates_samples[] = {
    {2, {{2, {3, 8}, -2, 2, 0}, {2, {3, 2}, -2, 2, 0}}, TL_NO_ATTR},
    {2, {{2, {1, 20}, -2, 2, 0}, {2, {1, 5}, -2, 2, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_lstm_gates = {.name = "lstm_gates",
                                .equation =
                                    "c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh c'",
                                .kind = TL_GENERAL,
                                .least = 2,
                                .most = 2,
                                .dense = true,
                                .shape = lstm_gates_shape,
                                .forward = lstm_gates_forward,
                                .vjp = lstm_gates_vjp,
                                .samples = lstm_gates_samples};

void tl_lstm_gates(tl_tape *t, tl_var gates, tl_var c, tl_var *h_next, tl_var *c_next)
{
    tl_var in[2] = {gates, c};
    tl_var y = tl_apply(t, &tl_op_lstm_gates, 2, in, NULL);
    *h_next = tl_select(t, y, 0, 0);
    *c_next = tl_select(t, y, 0, 1);
}

/* ---- gru_gates: a [B,3H] = [r | z | n] from x, u [B,3H] from h, h [B,H]; y = h' [B,H]
 * ----------------
 *
 *   r = sigmoid(a_r + u_r);  z = sigmoid(a_z + u_z);  n = tanh(a_n + r u_n);  h' = (1-z) n + z h */

static bool gru_gates_shape(tl_call *call, tl_layout *layout)
{
    const tl_layout *a = call->x[0].layout, *u = call->x[1].layout, *h = call->x[2].layout;
    char of_a[TL_LAYOUT_TEXT], of_u[TL_LAYOUT_TEXT], of_h[TL_LAYOUT_TEXT];
    if (a->ndim != 2 || h->ndim != 2 || !tl_layout_same_shape(a, u) || a->shape[0] != h->shape[0] ||
        a->shape[1] != 3 * h->shape[1])
        return tl_call_fail(call, TL_ERR_SHAPE,
                            "wants gates [B,3H] twice and h [B,H], not %s, %s and %s",
                            tl_layout_text(a, of_a), tl_layout_text(u, of_u), tl_layout_text(h, of_h));
    return tl_layout_make(layout, 2, h->shape) == TL_OK;
}

typedef struct gru_rows {
    tl_dtype dtype;
    int64_t batch, n;
    const char *a, *u, *h, *dy;
    char *out; /* forward: y; backward: [B,7H] = [da | du | dh] */
} gru_rows;

static void gru_forward_rows(void *context, int64_t begin, int64_t end)
{
    const gru_rows *r = context;
    int64_t row = r->n * (int64_t)tl_dtype_size(r->dtype);
    for (int64_t b = begin; b < end; b++)
        tl_gru_row(r->dtype, r->n, r->a + 3 * b * row, r->u + 3 * b * row, r->h + b * row,
                   r->out + b * row);
}

static void gru_backward_rows(void *context, int64_t begin, int64_t end)
{
    const gru_rows *r = context;
    int64_t row = r->n * (int64_t)tl_dtype_size(r->dtype);
    for (int64_t b = begin; b < end; b++) {
        char *out = r->out + 7 * b * row;
        tl_gru_row_grad(r->dtype, r->n, r->a + 3 * b * row, r->u + 3 * b * row, r->h + b * row,
                        r->dy + b * row, out, out + 3 * row, out + 6 * row);
    }
}

static gru_rows gru_rows_of(const tl_call *call)
{
    const tl_layout *h = call->x[2].layout;
    return (gru_rows){.dtype = call->y.dtype,
                      .batch = h->shape[0],
                      .n = h->shape[1],
                      .a = call->x[0].data,
                      .u = call->x[1].data,
                      .h = call->x[2].data,
                      .out = call->y.data};
}

static void gru_gates_forward(tl_call *call)
{
    gru_rows rows = gru_rows_of(call);
    share_rows(call->tape, rows.batch, rows.n, gru_forward_rows, &rows);
}

/* Off the record only: a, u, h, dy -> [da | du | dh]: [B,7H] */
static bool gru_gates_grad_shape(tl_call *call, tl_layout *layout)
{
    const tl_layout *h = call->x[2].layout;
    return tl_layout_make(layout, 2, (int64_t[]){h->shape[0], 7 * h->shape[1]}) == TL_OK;
}

static void gru_gates_grad_forward(tl_call *call)
{
    gru_rows rows = gru_rows_of(call);
    rows.dy = call->x[3].data;
    share_rows(call->tape, rows.batch, rows.n, gru_backward_rows, &rows);
}

static const tl_op gru_gates_grad = {.name = "gru_gates_grad",
                                     .equation = "[da | du | dh] of gru_gates",
                                     .kind = TL_GENERAL,
                                     .least = 4,
                                     .most = 4,
                                     .dense = true,
                                     .shape = gru_gates_grad_shape,
                                     .forward = gru_gates_grad_forward};

static void gru_gates_vjp_fused(const tl_call *call, tl_var dy, tl_var *dx)
{
    tl_tape *t = call->tape;
    int64_t n = call->x[2].layout->shape[1];
    tl_var in[4] = {call->in[0], call->in[1], call->in[2], dy};
    tl_var all = tl_apply(t, &gru_gates_grad, 4, in, NULL);
    dx[0] = tl_slice(t, all, 1, 0, 3 * n, 1);
    dx[1] = tl_slice(t, all, 1, 3 * n, 6 * n, 1);
    dx[2] = tl_slice(t, all, 1, 6 * n, 7 * n, 1);
}

static void gru_gates_vjp_composed(const tl_call *call, tl_var dy, tl_var *dx)
{
    tl_tape *t = call->tape;
    tl_var a[3], u[3], h = call->in[2];
    tl_chunk(t, call->in[0], 3, 1, a);
    tl_chunk(t, call->in[1], 3, 1, u);
    tl_var r = tl_sigmoid(t, tl_add(t, a[0], u[0])), z = tl_sigmoid(t, tl_add(t, a[1], u[1]));
    tl_var n = tl_tanh(t, tl_add(t, a[2], tl_mul(t, r, u[2])));
    tl_var dn = tl_tanh_grad(t, tl_sub(t, dy, tl_mul(t, dy, z)), n);
    tl_var dr = tl_sigmoid_grad(t, tl_mul(t, dn, u[2]), r);
    tl_var dz = tl_sigmoid_grad(t, tl_mul(t, dy, tl_sub(t, h, n)), z);
    dx[0] = tl_concat(t, 3, (tl_var[]){dr, dz, dn}, 1);
    dx[1] = tl_concat(t, 3, (tl_var[]){dr, dz, tl_mul(t, dn, r)}, 1);
    dx[2] = tl_mul(t, dy, z);
}

static void gru_gates_vjp(const tl_call *call, tl_var dy, tl_var *dx)
{
    if (call->tape->unrecorded)
        gru_gates_vjp_fused(call, dy, dx);
    else
        gru_gates_vjp_composed(call, dy, dx);
}

static const tl_sample gru_gates_samples[] = {
    {3, {{2, {3, 6}, -2, 2, 0}, {2, {3, 6}, -2, 2, 0}, {2, {3, 2}, -2, 2, 0}}, TL_NO_ATTR},
    {3, {{2, {1, 15}, -2, 2, 0}, {2, {1, 15}, -2, 2, 0}, {2, {1, 5}, -2, 2, 0}}, TL_NO_ATTR},
    {3, {{2, {4, 3}, -3, 3, 0}, {2, {4, 3}, -3, 3, 0}, {2, {4, 1}, -1, 1, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_gru_gates = {.name = "gru_gates",
                               .equation = "h' = (1-z) n + z h; n = tanh(a_n + r u_n)",
                               .kind = TL_GENERAL,
                               .least = 3,
                               .most = 3,
                               .dense = true,
                               .shape = gru_gates_shape,
                               .forward = gru_gates_forward,
                               .vjp = gru_gates_vjp,
                               .samples = gru_gates_samples};

tl_var tl_gru_gates(tl_tape *t, tl_var from_x, tl_var from_h, tl_var h)
{
    tl_var in[3] = {from_x, from_h, h};
    return tl_apply(t, &tl_op_gru_gates, 3, in, NULL);
}
