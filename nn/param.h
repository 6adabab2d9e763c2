/* param.h - the parameters of a model.
 *
 * A tl_params owns them, in the order in which the model's parts asked for them; parts keep pointers.
 * On a tape a parameter is one leaf, however often it is used. */
#ifndef TL_PARAM_H
#define TL_PARAM_H

#include "../autograd/tape.h"

typedef struct tl_param {
    char *name; /* "rnn.weight_ih_l0": PyTorch's names, so that files travel */
    tl_tensor *value, *gradient;
    bool frozen; /* not trained: no gradient is computed, optimisers leave it alone. Yours to set */
} tl_param;

typedef struct tl_params {
    int count;
    tl_param **entry;
    tl_dtype dtype;   /* of all of them */
    tl_random random; /* for their initial values */
    tl_error error;   /* the first failure while the model was built; sticky */
    int capacity;
} tl_params;

/* f32 to train, f64 to check. NULL: no memory. */
TL_API tl_params *tl_params_new(tl_dtype dtype, uint64_t seed);
TL_API void tl_params_free(tl_params *params); /* NULL is fine */

/* A new parameter of zeros, named prefix + name. NULL with the reason in params->error: no memory, not
 * a shape, or a name that exists. Parts need not check: the error is found by tl_params_status. */
TL_API tl_param *tl_params_add(tl_params *params, const char *prefix, const char *name, int ndim,
                               const int64_t *shape);
TL_API tl_status tl_params_status(const tl_params *params);
TL_API tl_param *tl_params_find(const tl_params *params, const char *name); /* NULL: none */
TL_API int64_t tl_params_elements(const tl_params *params);                 /* numbers in all */

/* The parameter on the tape. NULL (a part whose construction failed) poisons the tape. */
TL_API tl_var tl_use(tl_tape *t, const tl_param *param);

TL_API void tl_zero_gradients(tl_params *params);
/* sqrt(sum of squares) over all gradients together but those of frozen parameters, accumulated in
 * double. To keep it small: clip.h. */
TL_API double tl_gradient_norm(const tl_params *params);

/* All values, as safetensors. metadata: 2 * metadata_count strings (key, value, ...), or NULL. */
TL_API tl_status tl_params_save(const tl_params *params, const char *path, int metadata_count,
                                const char *const *metadata, tl_error *error);
/* Replaces all values, or none: every missing or unknown name and every other shape or dtype is listed
 * in the message, and then nothing is changed. f32 files are read into f64 models and the other way
 * round. */
TL_API tl_status tl_params_load(tl_params *params, const char *path, tl_error *error);

#endif
