/* cells.h - the built-in cells. Parameters of Elman, LSTM and GRU have PyTorch's names, shapes and gate
 * order, so that a state_dict fits. Equations, gates and parameters of each: tl_cell_describe (rnn.h).
 */
#ifndef TL_CELLS_H
#define TL_CELLS_H

#include "cell.h"

/* h' = f(W_ih x + b_ih + W_hh h + b_hh).  Elman, Cognitive Science 14 (1990) */
TL_API extern const tl_cell_type tl_elman_cell;

typedef struct tl_elman_options {
    tl_var (*activation)(tl_tape *t, tl_var x); /* f; NULL: tl_tanh */
    double clip; /* > 0: what the activations of gates are applied to is kept within +-clip; 0: it is
                    not. ONNX's attribute, in the next two cells as well */
} tl_elman_options;

/* i, f, o = sigmoid(..), g = tanh(..); c' = f c + i g; h' = o tanh c'. Gates i, f, g, o; states h, c.
 * Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers et al., Neural Computation 12 (2000) */
TL_API extern const tl_cell_type tl_lstm_cell;

typedef struct tl_lstm_options {
    double
        forget_bias; /* added to the forget gate's input bias at first; 1 is usual (Gers et al. 2000) */
    bool peephole;   /* gates see c: i and f the old one, o the new one; weight_pi, _pf, _po [H].
                        Gers and Schmidhuber, IJCNN 2000 */
    bool coupled; /* f = 1 - i, no weights of its own: gates i, g, o. Greff et al., arXiv:1503.04069 */
    bool layer_norm; /* W_ih x, W_hh h and c', each normalised, with weights and biases. Ba et al.,
                        arXiv:1607.06450 */
    double clip;     /* of i, f, g, o; not of c in tanh c */
} tl_lstm_options;

/* r, z = sigmoid(..); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1-z) n + z h. Gates r, z, n.
 * Cho et al., EMNLP 2014 */
TL_API extern const tl_cell_type tl_gru_cell;

/* Where the reset gate acts. The same weights mean another network in either case. */
typedef enum tl_gru_reset {
    TL_RESET_AFTER, /* r (W_hn h + b_hn): PyTorch, cuDNN; ONNX with linear_before_reset = 1 */
    TL_RESET_BEFORE /* W_hn (r h) + b_hn: Cho et al.; ONNX with linear_before_reset = 0 */
} tl_gru_reset;

typedef struct tl_gru_options {
    tl_gru_reset reset;
    double clip; /* of r, z, n */
} tl_gru_options;

/* ---- simple ones ------------------------------------------------------------------------- */

/* h' = f(W_ih x + b_h + W_hy y); y' = g(W_yh h' + b_y), which comes out and is fed back. State y [P]:
 * the configuration's `projection` is the size of y; 0: H. weight_ih [H,I], _hy [H,P], _yh [P,H],
 * bias_h [H], bias_y [P].
 * Jordan, "Serial order: a parallel distributed processing approach", ICS report 8604 (1986) */
TL_API extern const tl_cell_type tl_jordan_cell;

typedef struct tl_jordan_options {
    tl_var (*activation)(tl_tape *t, tl_var x); /* f; NULL: tl_tanh */
    tl_var (*output)(tl_tape *t, tl_var x);     /* g; NULL: none */
} tl_jordan_options;

/* h' = f(W_ih x + u h + b), u elementwise. State h. weight_ih [H,I], weight_u [H], bias [H]. u is 1 at
 * first; for long sequences the paper keeps |u| below 2^(1/T), which is the caller's to do.
 * Li et al., CVPR 2018, arXiv:1803.04831 */
TL_API extern const tl_cell_type tl_indrnn_cell;

typedef struct tl_indrnn_options {
    tl_var (*activation)(tl_tape *t, tl_var x); /* f; NULL: tl_relu */
} tl_indrnn_options;

/* s' = (1-a) B x + a s, slow; h' = sigmoid(P s' + A x + R h). No biases. States h [H], s [S].
 * weight_sx [S,I] is B, _hs [H,S] P, _hx [H,I] A, _hh [H,H] R. The output is h. The paper's, f(U h + V
 * s), is the decoder's affair: the s of every step is tl_step_state's (unroll.h), 1.
 * Mikolov et al., ICLR 2015 workshop, arXiv:1412.7753 */
TL_API extern const tl_cell_type tl_scrn_cell;

typedef struct tl_scrn_options {
    double alpha;    /* a, between 0 and 1; 0: 0.95 */
    int64_t context; /* S; 0: H */
} tl_scrn_options;

/* f = sigmoid(W_if x + b_f + W_hf h); n = tanh(W_in x + b_n + W_hn (f h)); h' = (1-f) h + f n. State h.
 * weight_ih [2H,I] and bias [2H]: f, n; weight_hf, weight_hn [H,H]. No options.
 * Zhou et al., 2016, arXiv:1603.09420 */
TL_API extern const tl_cell_type tl_mgu_cell;

/* ---- linear in the state ----------------------------------------------------------------- *
 *
 * One op for all steps (tl_linear_recurrence), where nothing is to happen between them; the same
 * numbers to rounding. There is no recurrent weight, so drop_connect is refused, and for SRU and QRNN,
 * whose h is only what comes out, recurrent_dropout: zoneout[1] is the noise on their memory. It acts
 * between steps; the h of a step is computed from the c that was not held back. */

/* f, r = sigmoid(..); c' = f c + (1-f) W x; h' = r g(c') + (1-r) x. States h, c. weight_ih [H,I] is W,
 * weight_fr [2H,I] and bias_fr [2H]: f, r; weight_highway [H,I], in layers with I != H, makes the last
 * x as wide as h. The first version's: later ones let f and r see c, and cannot be scanned.
 * Lei et al., 2017, arXiv:1709.02755v1 */
TL_API extern const tl_cell_type tl_sru_cell;

typedef struct tl_sru_options {
    tl_var (*activation)(tl_tape *t, tl_var x); /* g; NULL: tl_tanh */
} tl_sru_options;

/* z = tanh(..), f, o = sigmoid(W x + V x- + b), x- the input one step before; c' = f c + (1-f) z;
 * h' = o c'. States h, c, and x [I], which is x-: zeros before the first step, and the last input where
 * a sequence goes on. weight_ih (W), weight_before (V) [3H,I], bias [3H]: z, f, o. No options.
 * Bradbury et al., ICLR 2017, arXiv:1611.01576, fo-pooling, window 2 */
TL_API extern const tl_cell_type tl_qrnn_cell;

/* z = sigmoid(W_z x + b_z); n = W_n x + b_n; h' = (1-z) h + z n. State h. weight_ih [2H,I], bias [2H]:
 * z, n. Feng et al., 2024, arXiv:2410.01201 */
TL_API extern const tl_cell_type tl_mingru_cell;
/* f, i = sigmoid(..); n = W_n x + b_n; h' = f / (f + i) h + i / (f + i) n. State h. weight_ih [3H,I],
 * bias [3H]: f, i, n. The same */
TL_API extern const tl_cell_type tl_minlstm_cell;

typedef struct tl_minimal_options {
    bool positive; /* g(n) in place of n: n + 1/2 where n >= 0, else sigmoid n; the paper's, for scans
                      in logarithms */
} tl_minimal_options;

#endif
