/* io_safetensors.h - named tensors in a file: the safetensors format
 * (https://github.com/huggingface/safetensors: 8 bytes header length, little-endian; a JSON
 * header; the numbers, row-major, little-endian).
 *
 * f32, f64, i64 and u8 travel as F32, F64, I64, U8 (BOOL is read as u8); others are refused. */
#ifndef TL_IO_SAFETENSORS_H
#define TL_IO_SAFETENSORS_H

#include "tensor.h"

typedef struct tl_named_tensor {
    char *name; /* UTF-8 */
    tl_tensor *tensor;
} tl_named_tensor;

typedef struct tl_tensor_file {
    int count;
    tl_named_tensor *entries; /* in the order of the file's data */
    int metadata_count;
    char **metadata; /* key, value, key, value, ... */
} tl_tensor_file;

/* Writes a temporary file beside `path`, syncs it, and renames it over `path`: whatever goes
 * wrong (a full disk included), an older file at `path` stays whole and nothing else is left.
 * A link at `path` is followed; what is no regular file (a device, a directory) is refused.
 * TL_ERR_ARGUMENT for a name that occurs twice, is not UTF-8, or is "__metadata__".
 * `metadata`: 2 * metadata_count strings, or NULL. */
TL_API tl_status tl_safetensors_save(const char *path, int count, const tl_named_tensor *entries,
                                     int metadata_count, const char *const *metadata, tl_error *error);

/* Reads the whole file into memory; free it with tl_tensor_file_free. Every malformed file
 * (truncated, wrong offsets, holes or overlaps, sizes that do not match the shape, duplicate
 * names, not JSON) is TL_ERR_FORMAT with the path and the tensor's name in the message. */
TL_API tl_status tl_safetensors_load(const char *path, tl_tensor_file *file, tl_error *error);
TL_API void tl_tensor_file_free(tl_tensor_file *file);
/* NULL when there is none of that name. */
TL_API tl_tensor *tl_tensor_file_find(const tl_tensor_file *file, const char *name);
TL_API const char *tl_tensor_file_metadata(const tl_tensor_file *file, const char *key);

#endif
