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

static void share_rows(tl_tape *t, lstm_rows *rows, tl_piece *piece)
{
    enum { WORTH_A_FORK = 4096 }; /* elements: some 5 us of work, a fork takes one */
    if (rows->batch * rows->n >= WORTH_A_FORK)
        tl_threads_run(t->team, rows->batch, piece, rows);
    else
        piece(rows, 0, rows->batch);
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
    share_rows(call->tape, &rows, lstm_forward_rows);
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
    share_rows(call->tape, &rows, lstm_backward_rows);
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
