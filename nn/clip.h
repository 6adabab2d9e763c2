/* clip.h - gradients kept from being too large, between tl_backward and the optimiser's step.
 *
 *     double norm = tl_clip_gradient_norm(params, 1);
 *     if (isfinite(norm))
 *         tl_optimizer_step(optimizer);
 *
 * All three leave frozen parameters out, and return how large the gradients were. If that is not finite
 * (one of the numbers is NaN or infinite), no gradient is changed: there is no sensible step to take,
 * and the caller sees it. A limit below 0, or NaN, changes nothing either. */
#ifndef TL_CLIP_H
#define TL_CLIP_H

#include "param.h"

/* Each number by itself to [-limit, limit]. Returns the largest magnitude before. The direction of the
 * gradient changes. */
TL_API double tl_clip_gradient_value(tl_params *params, double limit);
/* All together, scaled by max_norm / norm where norm = tl_gradient_norm > max_norm: the direction
 * stays. Returns that norm. Pascanu et al., "On the difficulty of training recurrent neural networks",
 * ICML 2013, algorithm 1. */
TL_API double tl_clip_gradient_norm(tl_params *params, double max_norm);
/* Each parameter by its own norm: directions within a parameter stay. Returns the largest of these
 * norms before. */
TL_API double tl_clip_gradient_each(tl_params *params, double max_norm);

#endif
