/* cells.h - the built-in cells. Elman and GRU are composed from primitive ops; of the LSTM there are
 * two forms with the same parameters, composed and with fused gates.
 *
 * Parameters have PyTorch's names, shapes and gate order, so that a state_dict fits:
 *   weight_ih_l{k} [G*H, I or H], weight_hh_l{k} [G*H, H], bias_ih_l{k}, bias_hh_l{k} [G*H] */
#ifndef TL_CELLS_H
#define TL_CELLS_H

#include "cell.h"

typedef enum tl_cell_kind {
    /* h' = tanh(W_ih x + b_ih + W_hh h + b_hh).  Elman, Cognitive Science 14, 1990 */
    TL_ELMAN,
    /* i, f, o = sigmoid(..), g = tanh(..); c' = f c + i g; h' = o tanh c'. Gate order i, f, g, o;
     * states h, c.  Hochreiter and Schmidhuber 1997; Gers et al. 2000 */
    TL_LSTM,
    /* r, z = sigmoid(..); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1-z) n + z h. Gate order
     * r, z, n; reset after the product.  Cho et al., EMNLP 2014 */
    TL_GRU
} tl_cell_kind;

typedef enum tl_rnn_init {
    TL_RNN_UNIFORM,   /* all in +-1/sqrt(H): PyTorch's */
    TL_RNN_XAVIER,    /* weights Xavier, biases 0 */
    TL_RNN_ORTHOGONAL /* input weights Xavier, recurrent weights orthogonal gate by gate, biases 0 */
} tl_rnn_init;

typedef struct tl_rnn_config {
    tl_cell_kind kind;
    int64_t input, hidden; /* I, H >= 1 */
    int layers;            /* >= 1 */
    bool no_bias;
    tl_rnn_init init;
    double forget_bias; /* LSTM: added to the forget gate's input bias; 1 is usual (Gers et al. 2000) */
    bool composed;      /* LSTM: gates out of primitive ops; the same numbers to rounding */
    const char *prefix; /* of parameter names; NULL: "rnn." */
} tl_rnn_config;

/* One layer's parameters. */
typedef struct tl_gates {
    tl_linear_layer input, hidden;
    int64_t size; /* H */
} tl_gates;

/* A network of built-in cells, with what its tl_rnn points at. */
typedef struct tl_rnn_module {
    tl_rnn rnn; /* for tl_unroll */
    tl_cell *cell;
    tl_gates *gates;
} tl_rnn_module;

/* Failures (also sizes out of range) go to params->error. Free the module and the params in any order.
 */
TL_API void tl_rnn_module_init(tl_rnn_module *module, tl_params *params, const tl_rnn_config *config);
TL_API void tl_rnn_module_free(tl_rnn_module *module);

/* The types, for networks put together by hand; self is a tl_gates. */
TL_API extern const tl_cell_type tl_elman_cell, tl_lstm_cell, tl_lstm_composed_cell, tl_gru_cell;

#endif
