/* functional.h - products with matrices of derivatives, and those matrices themselves.
 *
 * With J = doutput/dinput and H = d2 loss/dinput2, none of which is ever built for a product:
 *
 *     tl_jvp   J u     forward mode, see tape.h          tl_grad   J' v    reverse mode, see tape.h
 *     tl_hvp   H v     reverse over reverse              tl_gnvp   J' H_L J v
 *
 * Everything is recorded, and can be differentiated again. All inputs together are one vector: a list
 * of variables that depend on a leaf, or leaves. Not consumed: the walks retain the tape. */
#ifndef TL_FUNCTIONAL_H
#define TL_FUNCTIONAL_H

#include "tape.h"

/* products[k] = sum over j of d2 loss / dinputs[k] dinputs[j] times vectors[j]. loss has one element.
 * Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994). */
TL_API tl_status tl_hvp(tl_tape *t, tl_var loss, int count, const tl_var *inputs, const tl_var *vectors,
                        tl_var *products);

/* products = J' H_L J vectors, the generalised Gauss-Newton matrix: J = doutput/dinputs, H_L the
 * Hessian of loss with respect to output. loss must be computed from output, and from the inputs
 * through output alone. Schraudolph, "Fast curvature matrix-vector products for second-order gradient
 * descent", Neural Computation 14 (2002). */
TL_API tl_status tl_gnvp(tl_tape *t, tl_var loss, tl_var output, int count, const tl_var *inputs,
                         const tl_var *vectors, tl_var *products);

/* [output.shape, input.shape], a row for each element of output by reverse mode: for small functions.
 * At most TL_MAX_DIMS dimensions together. */
TL_API tl_var tl_jacobian(tl_tape *t, tl_var output, tl_var input);

/* d2 loss / dinput dinput: [input.shape, input.shape]. */
TL_API tl_var tl_hessian(tl_tape *t, tl_var loss, tl_var input);

#endif
