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

#endif
