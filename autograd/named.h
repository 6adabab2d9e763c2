/* named.h - ops by name, constants as JSON: for other languages, file formats and tests.
 *
 *     tl_var y = tl_apply_named(t, "sum", 1, &x, "{\"axes\": [0, 2], \"keepdim\": true}");
 *
 * An op says in one line what its constants are called and where in tl_attr they stand:
 *
 *     dim=i0              an integer, i[0]
 *     stride=i1:2         two integers, i[1] and i[2]
 *     axes=i*             a list, i[0..n-1]; n is its length
 *     axes=i1*            a list after one integer, i[1..n]
 *     eps=f0              a real; "inf", "-inf" and "nan" are written as words
 *     keepdim=flag        a truth value
 *     largest=flag.1      a truth value, bit 1
 *     reduction=flag:mean,sum,none          one of these words, counted from 0
 *
 * Every function here takes and returns what any language's foreign function interface can: numbers,
 * pointers, and tl_var, a struct of a pointer and two 32-bit integers. */
#ifndef TL_NAMED_H
#define TL_NAMED_H

#include "op.h"

typedef struct tl_op_info {
    const char *name, *equation, *attributes; /* attributes: "" for none */
    int least, most;                          /* operands; most < 0: any number */
    int differentiable; /* 1: to any order; 2: once, by a hand-written backward; 0: not at all */
} tl_op_info;

/* The op at an index of 0..tl_op_count()-1. TL_ERR_INDEX beyond. */
TL_API tl_status tl_op_describe(int index, tl_op_info *info);

/* Reads constants from a JSON object (NULL: none). TL_ERR_ARGUMENT, with the op, the name and what is
 * wanted, for a constant that is missing, unknown, or of another kind. */
TL_API tl_status tl_attr_from_json(const tl_op *op, const char *json, tl_attr *attr, tl_error *error);
/* Writes them: {"dim": 1, "start": 0}; "{}" for none. Cut at `size`. Returns text. */
TL_API const char *tl_attr_to_json(const tl_op *op, const tl_attr *attr, size_t size, char *text);

/* Applies a built-in op. Negative dimensions are not counted from the end here. */
TL_API tl_var tl_apply_named(tl_tape *t, const char *name, int count, const tl_var *in,
                             const char *json);

/* ---- reading without structs -------------------------------------------------------------- */

/* Returns the number of dimensions (-1: an error, on the tape), their sizes in shape[TL_MAX_DIMS], and
 * the dtype (NULL: not wanted). */
TL_API int tl_var_shape(tl_tape *t, tl_var v, int64_t *shape, int *dtype);
/* All elements, row-major, as doubles, whatever the dtype and strides. TL_ERR_SHAPE when there are not
 * just `count` of them. */
TL_API tl_status tl_var_read(tl_tape *t, tl_var v, int64_t count, double *numbers);

#endif
