/* status.h - every error code of the library, and the record an error leaves.
 *
 * The list below generates the enum and the texts; nothing else enumerates them. */
#ifndef TL_STATUS_H
#define TL_STATUS_H

#if defined(__GNUC__)
#define TL_API                 __attribute__((visibility("default")))
#define TL_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define TL_API
#define TL_PRINTF(text, first)
#endif

#define TL_STATUS_LIST(X)                                                                              \
    X(TL_OK, "no error")                                                                               \
    X(TL_ERR_MEMORY, "out of memory")                                                                  \
    X(TL_ERR_SHAPE, "shapes do not fit")                                                               \
    X(TL_ERR_DTYPE, "dtypes do not fit")                                                               \
    X(TL_ERR_INDEX, "index out of range")                                                              \
    X(TL_ERR_ARGUMENT, "argument out of range")                                                        \
    X(TL_ERR_STALE, "variable is not of this recording")                                               \
    X(TL_ERR_CONSUMED, "this part of the tape has been walked back already")                           \
    X(TL_ERR_CHANGED, "numbers that are still needed were changed")                                    \
    X(TL_ERR_NOT_FINITE, "not a number, or infinite")                                                  \
    X(TL_ERR_NO_DERIVATIVE, "op has no derivative")                                                    \
    X(TL_ERR_CHECK, "a check found a difference")                                                      \
    X(TL_ERR_IO, "file could not be read or written")                                                  \
    X(TL_ERR_FORMAT, "file is not what it should be")

typedef enum tl_status {
#define X(code, text) code,
    TL_STATUS_LIST(X)
#undef X
} tl_status;

enum { TL_MESSAGE_SIZE = 512 };

/* The first thing that went wrong, in words. Zero-initialise it; hand it to any
 * function that takes one; read .message when .status is not TL_OK. */
typedef struct tl_error {
    tl_status status;
    char message[TL_MESSAGE_SIZE];
} tl_error;

/* "shapes do not fit" and the like; never NULL. Static storage. */
TL_API const char *tl_status_text(tl_status status);

/* Records an error unless `error` (which may be NULL) holds one already: the first
 * cause is the one worth reading. Returns `status`, so that `return tl_fail(...)` reads. */
TL_API tl_status tl_fail(tl_error *error, tl_status status, const char *format, ...) TL_PRINTF(3, 4);

#endif
