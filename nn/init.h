/* init.h - initial values of parameters. All f32 or f64; numbers are drawn in row-major order.
 * Matrices are [fan_out, fan_in], as PyTorch stores them. */
#ifndef TL_INIT_H
#define TL_INIT_H

#include "../tensor/random.h"

/* Uniform in [-1/sqrt(size), 1/sqrt(size)]: PyTorch's choice for RNNs (size = hidden) and for linear
 * layers (size = inputs). */
TL_API tl_status tl_init_uniform(tl_random *random, tl_tensor *tensor, int64_t size);
/* Glorot and Bengio, AISTATS 2010, equation 16: uniform, bound sqrt(6 / (fan_in + fan_out)). */
TL_API tl_status tl_init_xavier(tl_random *random, tl_tensor *tensor);
/* Saxe et al., ICLR 2014: rows (or columns, if there are fewer of them) orthonormal. Uniform over such
 * matrices: the Q of a normal matrix, its signs made those of R's diagonal. */
TL_API tl_status tl_init_orthogonal(tl_random *random, tl_tensor *tensor);

#endif
