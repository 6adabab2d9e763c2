/* optim.h - what turns gradients into steps. */
#ifndef TL_OPTIM_H
#define TL_OPTIM_H

#include "param.h"

typedef enum tl_optimizer_kind {
    TL_SGD, /* v = momentum v + g;  p -= rate v */
    TL_ADAM /* Kingma and Ba, "Adam", ICLR 2015, algorithm 1 */
} tl_optimizer_kind;

typedef struct tl_optimizer_config {
    tl_optimizer_kind kind;
    double rate;
    double momentum;              /* SGD */
    double beta1, beta2, epsilon; /* Adam; 0: 0.9, 0.999, 1e-8 */
    double weight_decay;          /* SGD: added to the gradient; Adam: decoupled (AdamW) */
} tl_optimizer_config;

typedef struct tl_optimizer tl_optimizer;

/* Keeps a pointer to params, which must not gain parameters later. NULL: no memory. */
TL_API tl_optimizer *tl_optimizer_new(tl_params *params, const tl_optimizer_config *config);
TL_API void tl_optimizer_free(tl_optimizer *optimizer);
/* One step along the gradients, which are left as they are (see tl_zero_gradients). */
TL_API void tl_optimizer_step(tl_optimizer *optimizer);
TL_API void tl_optimizer_set_rate(tl_optimizer *optimizer, double rate);

#endif
