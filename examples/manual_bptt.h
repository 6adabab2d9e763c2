/* manual_bptt.h - backpropagation through time as one derives it on paper: plain loops, no tape.
 *
 * Elman networks, LSTMs (with peepholes, if wished) and GRUs (the reset gate after or before the
 * product), in layers, with truncation. The derivation of each cell stands above its loops, and has
 * their letters. What comes out are the gradients of every weight, time step by time step; their sum
 * over the steps is the gradient of BPTT (Werbos, Proceedings of the IEEE 78, 1990; Williams and
 * Zipser, in Chauvin and Rumelhart, "Backpropagation", 1995).
 *
 *     manual_net m;
 *     if (manual_make(&m, &(manual_config){.cell = MANUAL_LSTM, .layers = 1, .T = 9, ...}))
 *         fill m.layer[l].value[...], m.layer[l].h, m.layer[l].c        weights, initial states
 *         manual_forward(&m, x);                                        x: [T,B,I]
 *         dy = dL/dy, of y = manual_output(&m)                          both [T,B,H]
 *         manual_backward(&m, dy);
 *         m.layer[l].gradient[MANUAL_W_HH]                              [T,G H,H]
 *     manual_free(&m);
 *
 * Letters: T time, B batch, I inputs, H hidden, G gates, L the loss. Steps count t = 1 .. T, so that
 * h[0] is the initial state. Loops: b < B, j < H, rows of the weights k < G H: row g H + j belongs to
 * unit j of gate g. A matrix is written W, its transpose W', the elementwise product of vectors by
 * putting them side by side, delta q' is the outer product. da is short for dL/da. Everything is
 * row-major, double. */
#ifndef MANUAL_BPTT_H
#define MANUAL_BPTT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef enum manual_cell { MANUAL_ELMAN, MANUAL_LSTM, MANUAL_GRU } manual_cell;

enum { MANUAL_I, MANUAL_F, MANUAL_G, MANUAL_O }; /* gates of an LSTM: rows of its weights, in blocks */
enum { MANUAL_R, MANUAL_Z, MANUAL_N };           /* gates of a GRU */
enum { MANUAL_MOST_GATES = 4, MANUAL_MOST_LAYERS = 4 };

/* Weights of a layer: their index. */
enum {
    MANUAL_W_IH, /* [G H,I] */
    MANUAL_W_HH, /* [G H,H] */
    MANUAL_B_IH, /* [G H] */
    MANUAL_B_HH, /* [G H] */
    MANUAL_P_I,  /* [H], peepholes */
    MANUAL_P_F,
    MANUAL_P_O,
    MANUAL_WEIGHTS
};

/* As the library names them. */
static const char *const manual_names[MANUAL_WEIGHTS] = {
    "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_pi", "weight_pf", "weight_po"};

typedef struct manual_config {
    manual_cell cell;
    bool bias;
    bool peephole;     /* LSTM */
    bool reset_before; /* GRU: W_hn (r h) rather than r (W_hn h) */
    int layers;        /* 1..MANUAL_MOST_LAYERS */
    int64_t T, B, I, H;
    int64_t cut; /* no gradient passes from step t + 1 back to step t where cut divides t; 0: all do */

    /* Deliberate mistakes, see manual_against_automatic.c. */
    bool forget_peephole; /* LSTM: the forget gate's peephole, where dc goes back one step */
    int64_t forget_reset; /* GRU: sigmoid' of the reset gate, at this step alone; 0: at none */
} manual_config;

typedef struct manual_layer {
    int64_t I;                                                /* of this layer: H above the first one */
    double *value[MANUAL_WEIGHTS], *gradient[MANUAL_WEIGHTS]; /* NULL: there is none; [T,shape] */

    const double *x; /* [T,B,I] */
    double *h, *c;   /* [T + 1,B,H]: after t steps */
    double *gate;    /* [T,B,G,H]: activated */
    double *u;       /* [T,B,H]: GRU, see there */

    double *dx;      /* [T,B,I] */
    double *dh, *dc; /* [B,H]: what came to the state from the step after it; in the end dL/dh_0 and
                        dL/dc_0 */
} manual_layer;

typedef struct manual_net {
    manual_config config;
    int64_t G;
    manual_layer layer[MANUAL_MOST_LAYERS];
} manual_net;

/* ---- making ------------------------------------------------------------------------------------ */

/* Numbers in a weight; 0: the configuration has none. */
static inline int64_t manual_count(const manual_net *m, int layer, int weight)
{
    const manual_config *c = &m->config;
    int64_t rows = m->G * c->H;
    switch (weight) {
    case MANUAL_W_IH:
        return rows * m->layer[layer].I;
    case MANUAL_W_HH:
        return rows * c->H;
    case MANUAL_B_IH:
    case MANUAL_B_HH:
        return c->bias ? rows : 0;
    default:
        return c->cell == MANUAL_LSTM && c->peephole ? c->H : 0;
    }
}

static inline void manual_free(manual_net *m)
{
    for (int k = 0; k < m->config.layers; k++) {
        manual_layer *l = &m->layer[k];
        double *const room[] = {l->h, l->c, l->gate, l->u, l->dx, l->dh, l->dc};
        for (size_t i = 0; i < sizeof room / sizeof room[0]; i++)
            free(room[i]);
        for (int w = 0; w < MANUAL_WEIGHTS; w++) {
            free(l->value[w]);
            free(l->gradient[w]);
        }
    }
    *m = (manual_net){0};
}

static inline double *manual_room(bool *fine, int64_t count)
{
    double *room = calloc((size_t)count, sizeof *room);
    *fine = *fine && room;
    return room;
}

/* Weights and initial states are zero. False, and nothing to free: no memory. */
static inline bool manual_make(manual_net *m, const manual_config *config)
{
    static const int64_t gates[] = {[MANUAL_ELMAN] = 1, [MANUAL_LSTM] = 4, [MANUAL_GRU] = 3};
    bool fine = true;
    *m = (manual_net){.config = *config, .G = gates[config->cell]};
    int64_t T = config->T, row = config->B * config->H;
    for (int k = 0; k < config->layers; k++) {
        manual_layer *l = &m->layer[k];
        l->I = k ? config->H : config->I;
        l->h = manual_room(&fine, (T + 1) * row);
        l->c = manual_room(&fine, (T + 1) * row);
        l->gate = manual_room(&fine, T * m->G * row);
        l->u = manual_room(&fine, T * row);
        l->dx = manual_room(&fine, T * config->B * l->I);
        l->dh = manual_room(&fine, row + (m->G + 2) * config->H); /* and what one step needs */
        l->dc = manual_room(&fine, row);
        for (int w = 0; w < MANUAL_WEIGHTS; w++) {
            int64_t count = manual_count(m, k, w);
            l->value[w] = count ? manual_room(&fine, count) : NULL;
            l->gradient[w] = count ? manual_room(&fine, T * count) : NULL;
        }
    }
    if (!fine)
        manual_free(m);
    return fine;
}

/* ---- what all cells share ---------------------------------------------------------------------- */

static inline double manual_sigmoid(double a)
{
    return 1 / (1 + exp(-a));
}

/* Row k of W q + b. */
static inline double manual_row(const double *W, const double *b, int64_t k, int64_t columns,
                                const double *q)
{
    double sum = b ? b[k] : 0;
    for (int64_t i = 0; i < columns; i++)
        sum += W[k * columns + i] * q[i];
    return sum;
}

/* a = W q + b has two derivatives, with delta = da:
 *
 *     dW += delta q'    db += delta        what the weights get
 *     dq += W' delta                       what goes on to q
 *
 * Here for `rows` rows of a weight, whose first element W (dW, db, delta) points at. */
static inline void manual_outer(double *dW, double *db, int64_t rows, int64_t columns,
                                const double *delta, const double *q)
{
    for (int64_t k = 0; k < rows; k++) {
        if (db)
            db[k] += delta[k];
        for (int64_t i = 0; i < columns; i++)
            dW[k * columns + i] += delta[k] * q[i];
    }
}

static inline void manual_back(const double *W, int64_t rows, int64_t columns, const double *delta,
                               double *dq)
{
    for (int64_t k = 0; k < rows; k++)
        for (int64_t i = 0; i < columns; i++)
            dq[i] += W[k * columns + i] * delta[k];
}

/* One sequence b at one step t: where its numbers are. */
typedef struct manual_spot {
    const manual_config *config;
    manual_layer *layer;
    int64_t t, I, H, rows;       /* rows: G H */
    const double *x;             /* x_t */
    const double *h_old, *c_old; /* h_{t-1}, c_{t-1} */
    double *h, *c, *gate, *u;    /* h_t, c_t; gates of step t, [G,H] */
    double *dx, *dh, *dc;        /* dh: on entry dL/dh_t, on return dL/dh_{t-1}; dc: the same of c */
    double *d[MANUAL_WEIGHTS];   /* this step's gradient; NULL: there is no such weight */
} manual_spot;

static inline manual_spot manual_at(manual_net *m, int layer, int64_t t, int64_t b)
{
    const manual_config *c = &m->config;
    manual_layer *l = &m->layer[layer];
    int64_t old = ((t - 1) * c->B + b), now = (t * c->B + b), H = c->H;
    manual_spot s = {.config = c, .layer = l, .t = t, .I = l->I, .H = H, .rows = m->G * H};
    s.x = l->x + old * l->I; /* x_1 is at the beginning */
    s.dx = l->dx + old * l->I;
    s.gate = l->gate + old * s.rows;
    s.u = l->u + old * H;
    s.h_old = l->h + old * H; /* but h_0 is */
    s.c_old = l->c + old * H;
    s.h = l->h + now * H;
    s.c = l->c + now * H;
    s.dh = l->dh + b * H;
    s.dc = l->dc + b * H;
    for (int w = 0; w < MANUAL_WEIGHTS; w++)
        s.d[w] = l->gradient[w] ? l->gradient[w] + (t - 1) * manual_count(m, layer, w) : NULL;
    return s;
}

/* Row k of W_ih x_t + b_ih, and of W_hh q + b_hh. */
static inline double manual_from_x(const manual_spot *s, int64_t k)
{
    return manual_row(s->layer->value[MANUAL_W_IH], s->layer->value[MANUAL_B_IH], k, s->I, s->x);
}

static inline double manual_from_h(const manual_spot *s, int64_t k, const double *q)
{
    return manual_row(s->layer->value[MANUAL_W_HH], s->layer->value[MANUAL_B_HH], k, s->H, q);
}

/* Back through W_ih x_t + b_ih, all rows. */
static inline void manual_back_to_x(const manual_spot *s, const double *delta)
{
    manual_outer(s->d[MANUAL_W_IH], s->d[MANUAL_B_IH], s->rows, s->I, delta, s->x);
    manual_back(s->layer->value[MANUAL_W_IH], s->rows, s->I, delta, s->dx);
}

/* Back through W_hh q + b_hh, gates first .. last - 1; delta is that of all gates. */
static inline void manual_back_to_h(const manual_spot *s, int first, int last, const double *delta,
                                    const double *q, double *dq)
{
    int64_t from = first * s->H, rows = (last - first) * s->H;
    double *db = s->d[MANUAL_B_HH] ? s->d[MANUAL_B_HH] + from : NULL;
    manual_outer(s->d[MANUAL_W_HH] + from * s->H, db, rows, s->H, delta + from, q);
    manual_back(s->layer->value[MANUAL_W_HH] + from * s->H, rows, s->H, delta + from, dq);
}

/* ---- the Elman network -------------------------------------------------------------------------
 *
 *     a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
 *     h_t = tanh a_t
 */
static inline void manual_elman(const manual_spot *s)
{
    for (int64_t j = 0; j < s->H; j++)
        s->h[j] = tanh(manual_from_x(s, j) + manual_from_h(s, j, s->h_old));
}

/* h_t reaches the loss along two ways: through y_t = h_t, and through a_{t+1}. With delta_t = dL/da_t
 *
 *     dh_t    = dy_t + W_hh' delta_{t+1}                       delta_{T+1} = 0
 *     delta_t = dh_t (1 - h_t h_t)                             tanh' a = 1 - tanh a tanh a
 *
 * a recurrence that runs backwards in time. The weights enter every a_t, so every step adds to them:
 *
 *     dW_ih += delta_t x_t'     dW_hh += delta_t h_{t-1}'     db_ih, db_hh += delta_t
 *
 * On entry s->dh is dh_t; on return it is W_hh' delta_t, to which manual_layer_backward adds dy_{t-1}.
 * delta: room for [G,H]; old: for [H]; both zero. So in all cells. */
static inline void manual_elman_back(const manual_spot *s, double *delta, double *old)
{
    for (int64_t j = 0; j < s->H; j++)
        delta[j] = s->dh[j] * (1 - s->h[j] * s->h[j]);
    manual_back_to_x(s, delta);
    manual_back_to_h(s, 0, 1, delta, s->h_old, old);
    memcpy(s->dh, old, (size_t)s->H * sizeof *old);
}

/* ---- the LSTM ----------------------------------------------------------------------------------
 *
 * For each gate a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh with its own rows of the weights, and
 *
 *     i_t = sigmoid(a_t^i + p_i c_{t-1})          g_t = tanh a_t^g
 *     f_t = sigmoid(a_t^f + p_f c_{t-1})          c_t = f_t c_{t-1} + i_t g_t
 *     o_t = sigmoid(a_t^o + p_o c_t)              h_t = o_t tanh c_t
 *
 * where the p, the peepholes, are zero in a usual LSTM. (Gers and Schmidhuber, IJCNN 2000.) */
static inline void manual_lstm(const manual_spot *s)
{
    const double *const *p = (const double *const *)s->layer->value;
    double *i = s->gate + MANUAL_I * s->H, *f = s->gate + MANUAL_F * s->H,
           *g = s->gate + MANUAL_G * s->H, *o = s->gate + MANUAL_O * s->H;
    for (int64_t j = 0; j < s->H; j++) {
        double a[MANUAL_MOST_GATES];
        for (int k = 0; k < MANUAL_MOST_GATES; k++)
            a[k] = manual_from_x(s, k * s->H + j) + manual_from_h(s, k * s->H + j, s->h_old);
        i[j] = manual_sigmoid(a[MANUAL_I] + (p[MANUAL_P_I] ? p[MANUAL_P_I][j] * s->c_old[j] : 0));
        f[j] = manual_sigmoid(a[MANUAL_F] + (p[MANUAL_P_F] ? p[MANUAL_P_F][j] * s->c_old[j] : 0));
        g[j] = tanh(a[MANUAL_G]);
        s->c[j] = f[j] * s->c_old[j] + i[j] * g[j];
        o[j] = manual_sigmoid(a[MANUAL_O] + (p[MANUAL_P_O] ? p[MANUAL_P_O][j] * s->c[j] : 0));
        s->h[j] = o[j] * tanh(s->c[j]);
    }
}

/* Two quantities travel back in time. h_t is read by y_t and by the four gates of step t + 1:
 *
 *     dh_t = dy_t + sum over gates of W_hh' delta_{t+1}
 *
 * c_t is read by h_t, by the output gate's peephole, by c_{t+1}, and by the other two peepholes of
 * step t + 1. The way through c_{t+1} is a product with f_{t+1}, no matrix and no tanh on it: where
 * the forget gate is open, the gradient passes. As o_t depends on c_t, delta_t^o comes first:
 *
 *     delta_t^o = dh_t tanh c_t o_t (1 - o_t)                      sigmoid' a = s (1 - s)
 *     dc_t      = dh_t o_t (1 - tanh c_t tanh c_t) + p_o delta_t^o
 *               + dc_{t+1} f_{t+1} + p_i delta_{t+1}^i + p_f delta_{t+1}^f
 *
 *     delta_t^i = dc_t g_t     i_t (1 - i_t)
 *     delta_t^f = dc_t c_{t-1} f_t (1 - f_t)
 *     delta_t^g = dc_t i_t     (1 - g_t g_t)
 *
 * and the weights as in the Elman network, gate by gate, with
 *
 *     dp_i += delta_t^i c_{t-1}     dp_f += delta_t^f c_{t-1}     dp_o += delta_t^o c_t
 *
 * s->dc holds, on entry, the second line of dc_t; on return the same for step t - 1. */
static inline void manual_lstm_back(const manual_spot *s, double *delta, double *old)
{
    const double *const *p = (const double *const *)s->layer->value;
    const double *i = s->gate + MANUAL_I * s->H, *f = s->gate + MANUAL_F * s->H,
                 *g = s->gate + MANUAL_G * s->H, *o = s->gate + MANUAL_O * s->H;
    double *delta_i = delta + MANUAL_I * s->H, *delta_f = delta + MANUAL_F * s->H,
           *delta_g = delta + MANUAL_G * s->H, *delta_o = delta + MANUAL_O * s->H;
    for (int64_t j = 0; j < s->H; j++) {
        double tanh_c = tanh(s->c[j]), dh = s->dh[j];
        delta_o[j] = dh * tanh_c * o[j] * (1 - o[j]);
        double dc = dh * o[j] * (1 - tanh_c * tanh_c) + s->dc[j];
        if (p[MANUAL_P_O])
            dc += p[MANUAL_P_O][j] * delta_o[j];
        delta_i[j] = dc * g[j] * i[j] * (1 - i[j]);
        delta_f[j] = dc * s->c_old[j] * f[j] * (1 - f[j]);
        delta_g[j] = dc * i[j] * (1 - g[j] * g[j]);
        s->dc[j] = dc * f[j];
        if (p[MANUAL_P_I]) {
            s->dc[j] += p[MANUAL_P_I][j] * delta_i[j];
            if (!s->config->forget_peephole)
                s->dc[j] += p[MANUAL_P_F][j] * delta_f[j];
            s->d[MANUAL_P_I][j] += delta_i[j] * s->c_old[j];
            s->d[MANUAL_P_F][j] += delta_f[j] * s->c_old[j];
            s->d[MANUAL_P_O][j] += delta_o[j] * s->c[j];
        }
    }
    manual_back_to_x(s, delta);
    manual_back_to_h(s, MANUAL_I, MANUAL_O + 1, delta, s->h_old, old);
    memcpy(s->dh, old, (size_t)s->H * sizeof *old);
}

/* ---- the GRU -----------------------------------------------------------------------------------
 *
 *     r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)         z_t the same with its own weights
 *
 *     reset after the product                          reset before it
 *     u_t = W_hn h_{t-1} + b_hn                        u_t = r_t h_{t-1}
 *     n_t = tanh(W_in x_t + b_in + r_t u_t)            n_t = tanh(W_in x_t + b_in + W_hn u_t + b_hn)
 *
 *     h_t = (1 - z_t) n_t + z_t h_{t-1}
 *
 * (Cho et al., EMNLP 2014, equations 5 to 8, reset before; z and 1 - z stand as in PyTorch.) */
static inline void manual_gru(const manual_spot *s)
{
    int64_t H = s->H, n_row = MANUAL_N * H;
    double *r = s->gate + MANUAL_R * H, *z = s->gate + MANUAL_Z * H, *n = s->gate + n_row;
    bool before = s->config->reset_before;
    for (int64_t k = 0; k < n_row; k++) /* r and z */
        s->gate[k] = manual_sigmoid(manual_from_x(s, k) + manual_from_h(s, k, s->h_old));
    for (int64_t j = 0; j < H; j++)
        s->u[j] = before ? r[j] * s->h_old[j] : manual_from_h(s, n_row + j, s->h_old);
    for (int64_t j = 0; j < H; j++) {
        double inner = before ? manual_from_h(s, n_row + j, s->u) : r[j] * s->u[j];
        n[j] = tanh(manual_from_x(s, n_row + j) + inner);
        s->h[j] = (1 - z[j]) * n[j] + z[j] * s->h_old[j];
    }
}

/* h_t is read by y_t; by h_{t+1}, in a product with z_{t+1}; by r and z of step t + 1; and by u_{t+1}.
 *
 *     delta_t^n = dh_t (1 - z_t)         (1 - n_t n_t)
 *     delta_t^z = dh_t (h_{t-1} - n_t)   z_t (1 - z_t)
 *
 *     reset after the product                          reset before it
 *     du_t = delta_t^n r_t                             du_t = W_hn' delta_t^n
 *     dr_t = delta_t^n u_t                             dr_t = du_t h_{t-1}
 *     dW_hn += du_t h_{t-1}'   db_hn += du_t           dW_hn += delta_t^n u_t'   db_hn += delta_t^n
 *     way back: W_hn' du_t                             way back: du_t r_t
 *
 *     delta_t^r = dr_t r_t (1 - r_t)
 *     dh_{t-1}  = dy_{t-1} + dh_t z_t + W_hr' delta_t^r + W_hz' delta_t^z + the way back
 *
 * W_ih and b_ih get delta_t x_t' and delta_t of all three, W_hr and W_hz what is usual. */
static inline void manual_gru_back(const manual_spot *s, double *delta, double *old)
{
    int64_t H = s->H;
    const double *r = s->gate + MANUAL_R * H, *z = s->gate + MANUAL_Z * H, *n = s->gate + MANUAL_N * H;
    double *delta_r = delta + MANUAL_R * H, *delta_z = delta + MANUAL_Z * H,
           *delta_n = delta + MANUAL_N * H, *du = old + H;
    bool before = s->config->reset_before;
    for (int64_t j = 0; j < H; j++) {
        delta_n[j] = s->dh[j] * (1 - z[j]) * (1 - n[j] * n[j]);
        delta_z[j] = s->dh[j] * (s->h_old[j] - n[j]) * z[j] * (1 - z[j]);
    }
    if (before) /* du = W_hn' delta^n; dW_hn += delta^n u' */
        manual_back_to_h(s, MANUAL_N, MANUAL_N + 1, delta, s->u, du);
    for (int64_t j = 0; j < H; j++) {
        double dr = before ? du[j] * s->h_old[j] : delta_n[j] * s->u[j];
        bool forget = s->config->forget_reset == s->t;
        delta_r[j] = dr * (forget ? 1 : r[j] * (1 - r[j]));
        old[j] = s->dh[j] * z[j] + (before ? du[j] * r[j] : 0);
    }
    manual_back_to_x(s, delta);
    manual_back_to_h(s, MANUAL_R, MANUAL_Z + 1, delta, s->h_old, old);
    for (int64_t j = 0; j < H && !before; j++)
        delta_n[j] *= r[j]; /* du, which is what W_hn and b_hn see */
    if (!before)
        manual_back_to_h(s, MANUAL_N, MANUAL_N + 1, delta, s->h_old, old);
    memcpy(s->dh, old, (size_t)H * sizeof *old);
}

/* ---- forward in time, and back ------------------------------------------------------------------ */

/* What comes out of the uppermost layer: [T,B,H]. */
static inline const double *manual_output(const manual_net *m)
{
    return m->layer[m->config.layers - 1].h + m->config.B * m->config.H;
}

/* x: [T,B,I]; must live until manual_backward is done. */
static inline void manual_forward(manual_net *m, const double *x)
{
    static void (*const step[])(const manual_spot *) = {
        [MANUAL_ELMAN] = manual_elman, [MANUAL_LSTM] = manual_lstm, [MANUAL_GRU] = manual_gru};
    for (int k = 0; k < m->config.layers; k++) {
        m->layer[k].x = k ? m->layer[k - 1].h + m->config.B * m->config.H : x;
        for (int64_t t = 1; t <= m->config.T; t++)
            for (int64_t b = 0; b < m->config.B; b++) {
                manual_spot s = manual_at(m, k, t, b);
                step[m->config.cell](&s);
            }
    }
}

/* From t = T back to t = 1. Where there is a cut after step t, what came from step t + 1 is dropped:
 * truncated BPTT, as if each stretch were a sequence of its own that begins with a given state. */
static inline void manual_layer_backward(manual_net *m, int layer, const double *dy)
{
    static void (*const back[])(const manual_spot *, double *,
                                double *) = {[MANUAL_ELMAN] = manual_elman_back,
                                             [MANUAL_LSTM] = manual_lstm_back,
                                             [MANUAL_GRU] = manual_gru_back};
    const manual_config *c = &m->config;
    manual_layer *l = &m->layer[layer];
    int64_t H = c->H, row = c->B * H;
    double *room = l->dh + row; /* delta [G,H], old [H], du [H] */
    memset(l->dh, 0, (size_t)row * sizeof *l->dh);
    memset(l->dc, 0, (size_t)row * sizeof *l->dc);
    for (int64_t t = c->T; t >= 1; t--) {
        if (c->cut > 0 && t % c->cut == 0) {
            memset(l->dh, 0, (size_t)row * sizeof *l->dh);
            memset(l->dc, 0, (size_t)row * sizeof *l->dc);
        }
        for (int64_t i = 0; i < row; i++)
            l->dh[i] += dy[(t - 1) * row + i];
        for (int64_t b = 0; b < c->B; b++) {
            manual_spot s = manual_at(m, layer, t, b);
            memset(room, 0, (size_t)((m->G + 2) * H) * sizeof *room);
            back[c->cell](&s, room, room + m->G * H);
        }
    }
}

/* dy: dL/dy, [T,B,H]. The loss sees states only through y. A layer's dx is dy of the one below. */
static inline void manual_backward(manual_net *m, const double *dy)
{
    const manual_config *c = &m->config;
    for (int k = c->layers - 1; k >= 0; k--) {
        manual_layer *l = &m->layer[k];
        memset(l->dx, 0, (size_t)(c->T * c->B * l->I) * sizeof *l->dx);
        for (int w = 0; w < MANUAL_WEIGHTS; w++)
            if (l->gradient[w])
                memset(l->gradient[w], 0, (size_t)(c->T * manual_count(m, k, w)) * sizeof(double));
        manual_layer_backward(m, k, k == c->layers - 1 ? dy : m->layer[k + 1].dx);
    }
}

#endif
