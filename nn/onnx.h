/* onnx.h - the recurrent operators of ONNX, RNN, LSTM and GRU (opset 14), as networks of our cells.
 *
 *     tl_rnn rnn;
 *     tl_onnx_init(&rnn, params, "gru.",
 *                  &(tl_onnx_attributes){.op = TL_ONNX_GRU, .linear_before_reset = TL_ONNX_LBR_0},
 *                  &(tl_onnx_weights){.W = w, .R = r, .B = b});
 *     tl_onnx_outputs out = tl_onnx_run(t, &rnn, &(tl_onnx_inputs){.X = x});
 *     ... train it as any other network ...
 *     tl_onnx_store(&rnn, 0, &attributes, &weights, &error);        and back
 *
 * What tl_onnx_init makes is an ordinary network: it can be unrolled, trained, saved. The gates change
 * places on the way:
 *
 *              ONNX: W, R, B      ours                   ONNX: P     ours
 *     RNN      f                  f
 *     LSTM     i, o, f, c         i, f, g, o             i, o, f     weight_pi, weight_po, weight_pf
 *     GRU      z, r, h            r, z, n
 *
 * Letters: T time, B batch, I input, H hidden, D directions, G gates (1, 4, 3). */
#ifndef TL_ONNX_H
#define TL_ONNX_H

#include "unroll.h"

typedef enum tl_onnx_operator { TL_ONNX_RNN, TL_ONNX_LSTM, TL_ONNX_GRU } tl_onnx_operator;

typedef enum tl_onnx_direction {
    TL_ONNX_FORWARD,
    TL_ONNX_REVERSE,
    TL_ONNX_BIDIRECTIONAL
} tl_onnx_direction;

/* The attribute linear_before_reset. It must be said for a GRU: the same weights mean another network
 * in either case, and ONNX's default is not that of most who train. */
typedef enum tl_onnx_reset {
    TL_ONNX_LBR_UNSAID,
    TL_ONNX_LBR_0, /* h = tanh(x W' + (r h) R' + ..): TL_RESET_BEFORE */
    TL_ONNX_LBR_1  /* h = tanh(x W' + r (h R' + Rb) + Wb): TL_RESET_AFTER */
} tl_onnx_reset;

enum { TL_ONNX_MOST_ACTIVATIONS = 6 };

/* The operator's attributes under their names; zeros are ONNX's defaults, but see above.
 * activation_alpha and activation_beta are not here: no activation that can be had takes them. */
typedef struct tl_onnx_attributes {
    tl_onnx_operator op;
    tl_onnx_direction direction;
    int64_t hidden_size; /* 0: what R says */
    int layout; /* 0: X, Y are [T,B,I], [T,D,B,H], states [D,B,H]; 1: [B,T,I], [B,T,D,H], [B,D,H] */
    /* What the gates' activations are applied to is kept within +-clip; 0: no clip. As ONNX Runtime has
     * it, the c in h = o tanh c is not clipped. */
    double clip;
    bool input_forget; /* LSTM: f = 1 - i; the rows of f in the weights mean nothing then */
    tl_onnx_reset linear_before_reset; /* GRU only */
    /* In the order of the standard; the first NULL ends the list; none: the defaults. RNN: one of Tanh,
     * Relu, Sigmoid, Softsign, Softplus, the same for both directions. LSTM and GRU have the default
     * ones: Sigmoid, Tanh, Tanh and Sigmoid, Tanh, for each direction. */
    const char *activations[TL_ONNX_MOST_ACTIVATIONS];
} tl_onnx_attributes;

/* The operator's weights: reals, converted to the dtype of the parameters. */
typedef struct tl_onnx_weights {
    tl_tensor *W; /* [D,G H,I] */
    tl_tensor *R; /* [D,G H,H] */
    tl_tensor *B; /* [D,2 G H]: those of W, then those of R; NULL: zeros */
    tl_tensor *P; /* [D,3 H], LSTM only; NULL: zeros */
} tl_onnx_weights;

/* Makes a network of one layer and gives it the weights. Without B it has no biases, without P no
 * peepholes: none will be trained. What our cells cannot do is refused: TL_ERR_ARGUMENT, or
 * TL_ERR_SHAPE for weights that do not fit the attributes, in params->error. prefix: of the parameters'
 * names; NULL: "rnn.". */
TL_API void tl_onnx_init(tl_rnn *rnn, tl_params *params, const char *prefix,
                         const tl_onnx_attributes *attributes, const tl_onnx_weights *weights);

/* The operator's weights into one layer of a network of Elman, LSTM or GRU cells, which exists: all of
 * them, or none. Weights the network has and the operator has not (B, P) become 0. Where the reset gate
 * of a GRU acts, coupling, clip and activation are the network's, and the caller's to compare. */
TL_API tl_status tl_onnx_load(const tl_rnn *rnn, int layer, const tl_onnx_weights *weights,
                              tl_error *error);

/* The weights of one layer in new tensors, and the attributes that go with them. B and P are NULL where
 * the network has no such weights; with input_forget the rows of f are 0. TL_ERR_ARGUMENT for what the
 * operators cannot express: other cells, projections, normalised gates, zoneout. What lies between the
 * layers, and learned initial states, are other nodes of an ONNX graph, and not written. */
TL_API tl_status tl_onnx_store(const tl_rnn *rnn, int layer, tl_onnx_attributes *attributes,
                               tl_onnx_weights *weights, tl_error *error);
TL_API void tl_onnx_weights_free(tl_onnx_weights *weights); /* what tl_onnx_store made */

typedef struct tl_onnx_inputs {
    tl_var X;                     /* [T,B,I], or as the layout says; so the states */
    tl_var initial_h, initial_c;  /* [D,B,H]; TL_NONE: zeros. initial_c: LSTM only */
    const int64_t *sequence_lens; /* [B], each 0..T; NULL: all are T */
} tl_onnx_inputs;

typedef struct tl_onnx_outputs {
    tl_var Y;        /* [T,D,B,H]; 0 beyond a row's length */
    tl_var Y_h, Y_c; /* [D,B,H]: after each row's own last step; of a row of length 0, the initial ones
                        (of which the standard says nothing). Y_c: LSTM only, else TL_NONE */
} tl_onnx_outputs;

/* Evaluates a network of one layer, of the three cells, as the operator does; the layout is the one of
 * the attributes (batch_first). Recorded: gradients flow to X, the initial states and the parameters.
 */
TL_API tl_onnx_outputs tl_onnx_run(tl_tape *t, const tl_rnn *rnn, const tl_onnx_inputs *inputs);

#endif
