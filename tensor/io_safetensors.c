/* What a file looks like:
 *
 *     |  8 bytes  |            N bytes             |            data_bytes             |
 *     |     N     |  {"a": {...}, "b": {...}}      |  numbers of a  |   numbers of b   |
 *                    dtype, shape, data_offsets    0               ^                  ^
 *                    of each tensor, then spaces          begin of b           end of b
 *
 * Each byte of the data belongs to exactly one tensor. Wide dtypes come first and N is a
 * multiple of 8, so that every tensor is aligned in a file mapped into memory. */
#include "tensor/io_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tensor/arena.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian: this host needs byte swapping, which is not written yet"
#endif

enum { PREFIX = 8 };                 /* bytes that hold the header's length */
enum { LONGEST_HEADER = 100000000 }; /* bytes; the limit of the Rust implementation */

static const char metadata_key[] = "__metadata__";

static const struct {
    const char *name;
    tl_dtype dtype;
} dtypes[] = {{"F32", TL_F32}, {"F64", TL_F64}, {"I64", TL_I64}, {"U8", TL_U8}, {"BOOL", TL_U8}};

enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

static const char *stored_name(tl_dtype dtype)
{
    for (int i = 0; i < DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return NULL;
}

static bool find_dtype(const char *name, tl_dtype *dtype)
{
    for (int i = 0; i < DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = dtypes[i].dtype;
            return true;
        }
    return false;
}

static size_t tensor_bytes(const tl_layout *layout, tl_dtype dtype)
{
    return (size_t)layout->count * tl_dtype_size(dtype);
}

/* jansson has words for what is wrong with a text; of failed allocations it mostly says nothing. */
static bool ran_out_of_memory(const json_error_t *why)
{
    return why->text[0] == '\0' || json_error_code(why) == json_error_out_of_memory;
}

/* Paths and names come from outside; cut short, they leave room for what is wrong. */
#define PATH "%.200s"
#define NAME "\"%.100s\""

/* ---- saving: the header ----------------------------------------------------------------- */

/* The order of the data: for (size_t width = WIDEST; width; width /= 2), each tensor of that
 * element size. Header and data are written by the same two loops. */
enum { WIDEST = 8 };

typedef struct save {
    const char *path;
    int count;
    const tl_named_tensor *entries;
    int metadata_count;
    const char *const *metadata;
    json_t *header;
    char *prologue; /* length and text of the header, as they stand in the file */
    size_t prologue_bytes;
    tl_error *error;
} save;

static tl_status save_fails(const save *s, tl_status status, const char *format, ...) TL_PRINTF(3, 4);
static tl_status save_fails(const save *s, tl_status status, const char *format, ...)
{
    char what[TL_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return tl_fail(s->error, status, "safetensors_save: " PATH ": %s", s->path, what);
}

static tl_status no_memory_to_save(const save *s)
{
    return save_fails(s, TL_ERR_MEMORY, "not enough memory");
}

static tl_status check_text(const save *s, const char *text)
{
    json_error_t why;
    json_t *value = json_pack_ex(&why, 0, "s", text); /* unlike json_string, this gives a reason */
    json_decref(value);
    if (value)
        return TL_OK;
    if (ran_out_of_memory(&why))
        return no_memory_to_save(s);
    return save_fails(s, TL_ERR_ARGUMENT, "a name or text is not UTF-8");
}

static tl_status check_key(const save *s, const json_t *object, const char *key)
{
    if (json_object_get(object, key))
        return save_fails(s, TL_ERR_ARGUMENT, NAME " occurs twice", key);
    return check_text(s, key);
}

static tl_status describe_metadata(const save *s)
{
    if (!s->metadata || s->metadata_count <= 0)
        return TL_OK;
    json_t *object = json_object();
    if (json_object_set_new(s->header, metadata_key, object) != 0)
        return no_memory_to_save(s);
    for (int i = 0; i < s->metadata_count; i++) {
        const char *key = s->metadata[2 * i], *value = s->metadata[2 * i + 1];
        tl_status status = check_key(s, object, key);
        if (status == TL_OK)
            status = check_text(s, value);
        if (status != TL_OK)
            return status;
        if (json_object_set_new(object, key, json_string(value)) != 0)
            return no_memory_to_save(s);
    }
    return TL_OK;
}

static json_t *shape_to_json(const tl_layout *layout) /* NULL when there is no memory */
{
    json_t *shape = json_array();
    for (int d = 0; shape && d < layout->ndim; d++)
        if (json_array_append_new(shape, json_integer(layout->shape[d])) != 0) {
            json_decref(shape);
            shape = NULL;
        }
    return shape;
}

static tl_status describe_tensor(const save *s, const tl_named_tensor *named, int64_t *offset)
{
    const tl_tensor *tensor = named->tensor;
    if (strcmp(named->name, metadata_key) == 0)
        return save_fails(s, TL_ERR_ARGUMENT, "no tensor can be called %s", metadata_key);
    tl_status status = check_key(s, s->header, named->name);
    if (status != TL_OK)
        return status;
    int64_t end;
    if (__builtin_add_overflow(*offset, (int64_t)tensor_bytes(&tensor->layout, tensor->dtype), &end))
        return save_fails(s, TL_ERR_ARGUMENT, "too many bytes for a file");
    json_t *shape = shape_to_json(&tensor->layout);
    json_t *entry = !shape
                        ? NULL
                        : json_pack("{s:s, s:O, s:[I,I]}", "dtype", stored_name(tensor->dtype), "shape",
                                    shape, "data_offsets", (json_int_t)*offset, (json_int_t)end);
    json_decref(shape);
    if (json_object_set_new(s->header, named->name, entry) != 0)
        return no_memory_to_save(s);
    *offset = end;
    return TL_OK;
}

static tl_status write_prologue(save *s)
{
    size_t length = json_dumpb(s->header, NULL, 0, JSON_COMPACT);
    size_t padded = (length + 7) & ~(size_t)7;
    s->prologue = length ? tl_system_get(PREFIX + padded) : NULL;
    if (!s->prologue)
        return no_memory_to_save(s);
    uint64_t prefix = padded;
    memcpy(s->prologue, &prefix, PREFIX);
    memset(s->prologue + PREFIX, ' ', padded);
    if (json_dumpb(s->header, s->prologue + PREFIX, length, JSON_COMPACT) != length)
        return no_memory_to_save(s);
    s->prologue_bytes = PREFIX + padded;
    if (padded > LONGEST_HEADER)
        return save_fails(s, TL_ERR_ARGUMENT, "a header of %zu bytes; %d is the limit of the format",
                          padded, LONGEST_HEADER);
    return TL_OK;
}

static tl_status describe(save *s)
{
    s->header = json_object();
    if (!s->header)
        return no_memory_to_save(s);
    tl_status status = describe_metadata(s);
    int64_t offset = 0;
    for (size_t width = WIDEST; width; width /= 2)
        for (int i = 0; i < s->count && status == TL_OK; i++)
            if (tl_dtype_size(s->entries[i].tensor->dtype) == width)
                status = describe_tensor(s, &s->entries[i], &offset);
    return status == TL_OK ? write_prologue(s) : status;
}

/* ---- saving: the file ------------------------------------------------------------------- */

typedef struct place {
    char target[PATH_MAX];         /* what is to be replaced, after links */
    char temporary[PATH_MAX + 64]; /* in the same directory, for rename to be possible */
    bool exists;
    mode_t mode; /* of the existing target */
} place;

/* A link stays a link, to a new file. What is no plain file (/dev/null, a pipe) is left alone. */
static tl_status find_target(const save *s, place *at)
{
    struct stat old;
    if (realpath(s->path, at->target)) {
        if (stat(at->target, &old) != 0)
            return save_fails(s, TL_ERR_IO, "cannot look at it: %s", strerror(errno));
        if (!S_ISREG(old.st_mode))
            return save_fails(s, TL_ERR_IO, "not a regular file");
        at->exists = true;
        at->mode = old.st_mode & 0777;
        return TL_OK;
    }
    int number = errno;
    if (lstat(s->path, &old) == 0)
        return save_fails(s, TL_ERR_IO, "the link leads nowhere: %s", strerror(number));
    if (number != ENOENT || strlen(s->path) >= sizeof at->target)
        return save_fails(s, TL_ERR_IO, "cannot be reached: %s",
                          strerror(number == ENOENT ? ENAMETOOLONG : number));
    strcpy(at->target, s->path);
    return TL_OK;
}

/* A new file, which open() gives the mode of any new file. (mkstemp would make it private, and the
 * umask that says what is usual cannot be read without changing it for all threads.) */
static int create_temporary(place *at)
{
    enum { ATTEMPTS = 100 }; /* others save here too, or were killed while they did */
    const char *slash = strrchr(at->target, '/');
    int directory = slash ? (int)(slash - at->target) + 1 : 0, file = -1;
    for (int n = 0; file < 0 && n < ATTEMPTS; n++) {
        snprintf(at->temporary, sizeof at->temporary, "%.*s.tapeloop-%ld-%d", directory, at->target,
                 (long)getpid(), n);
        file = open(at->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && errno != EEXIST)
            break;
    }
    return file;
}

static tl_status write_bytes(const save *s, FILE *file, const void *bytes, size_t count)
{
    if (fwrite(bytes, 1, count, file) != count)
        return save_fails(s, TL_ERR_IO, "cannot write: %s", strerror(errno));
    return TL_OK;
}

static tl_status write_tensor(const save *s, FILE *file, const tl_tensor *tensor)
{
    size_t bytes = tensor_bytes(&tensor->layout, tensor->dtype);
    if (tensor->layout.contiguous)
        return write_bytes(s, file, tensor->data, bytes);
    tl_tensor *packed = tl_tensor_copy(tensor, tensor->dtype, NULL);
    if (!packed)
        return no_memory_to_save(s);
    tl_status status = write_bytes(s, file, packed->data, bytes);
    tl_tensor_release(packed);
    return status;
}

static tl_status write_contents(const save *s, FILE *file, const place *at)
{
    tl_status status = write_bytes(s, file, s->prologue, s->prologue_bytes);
    for (size_t width = WIDEST; width; width /= 2)
        for (int i = 0; i < s->count && status == TL_OK; i++)
            if (tl_dtype_size(s->entries[i].tensor->dtype) == width)
                status = write_tensor(s, file, s->entries[i].tensor);
    if (status != TL_OK)
        return status;
    if (fflush(file) != 0 || fsync(fileno(file)) != 0)
        return save_fails(s, TL_ERR_IO, "cannot write: %s", strerror(errno));
    if (at->exists && fchmod(fileno(file), at->mode) != 0)
        return save_fails(s, TL_ERR_IO, "cannot keep the old file's mode: %s", strerror(errno));
    return TL_OK;
}

static tl_status write_and_close(const save *s, int descriptor, const place *at)
{
    FILE *file = fdopen(descriptor, "wb");
    if (!file) {
        tl_status status = save_fails(s, TL_ERR_IO, "cannot write: %s", strerror(errno));
        close(descriptor);
        return status;
    }
    tl_status status = write_contents(s, file, at);
    if (fclose(file) != 0 && status == TL_OK)
        status = save_fails(s, TL_ERR_IO, "cannot write: %s", strerror(errno));
    return status;
}

static tl_status replace_file(const save *s)
{
    place at = {.exists = false};
    tl_status status = find_target(s, &at);
    if (status != TL_OK)
        return status;
    int descriptor = create_temporary(&at);
    if (descriptor < 0)
        return save_fails(s, TL_ERR_IO, "cannot create a file beside it: %s", strerror(errno));
    status = write_and_close(s, descriptor, &at);
    if (status == TL_OK && rename(at.temporary, at.target) != 0)
        status = save_fails(s, TL_ERR_IO, "cannot replace it: %s", strerror(errno));
    if (status != TL_OK)
        unlink(at.temporary);
    return status;
}

tl_status tl_safetensors_save(const char *path, int count, const tl_named_tensor *entries,
                              int metadata_count, const char *const *metadata, tl_error *error)
{
    save s = {.path = path,
              .count = count,
              .entries = entries,
              .metadata_count = metadata_count,
              .metadata = metadata,
              .error = error};
    tl_status status = describe(&s);
    if (status == TL_OK)
        status = replace_file(&s);
    json_decref(s.header);
    tl_system_give(s.prologue);
    return status;
}

/* ---- loading: the header ---------------------------------------------------------------- */

/* A tensor as the header describes it. */
typedef struct described {
    const char *name; /* belongs to the header */
    tl_dtype dtype;
    tl_layout layout;
    int64_t begin, end; /* bytes from the start of the data */
} described;

typedef struct load {
    const char *path;
    int descriptor;
    int64_t data_bytes;
    json_t *header;
    int count;
    described *tensors; /* in the order of the data */
    tl_tensor_file *file;
    tl_error *error;
} load;

static tl_status load_fails(const load *l, tl_status status, const char *format, ...) TL_PRINTF(3, 4);
static tl_status load_fails(const load *l, tl_status status, const char *format, ...)
{
    char what[TL_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return tl_fail(l->error, status, "safetensors_load: " PATH ": %s", l->path, what);
}

static tl_status no_memory_to_load(const load *l)
{
    return load_fails(l, TL_ERR_MEMORY, "not enough memory");
}

static tl_status open_file(load *l, int64_t *bytes)
{
    /* Without O_NONBLOCK, opening a pipe would wait for someone to write into it. */
    l->descriptor = open(l->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (l->descriptor < 0)
        return load_fails(l, TL_ERR_IO, "cannot open: %s", strerror(errno));
    struct stat found;
    if (fstat(l->descriptor, &found) != 0)
        return load_fails(l, TL_ERR_IO, "cannot look at it: %s", strerror(errno));
    if (!S_ISREG(found.st_mode))
        return load_fails(l, TL_ERR_IO, "not a regular file");
    *bytes = found.st_size;
    return TL_OK;
}

static tl_status read_bytes(const load *l, void *bytes, size_t count)
{
    for (char *next = bytes; count;) {
        ssize_t got = read(l->descriptor, next, count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return load_fails(l, TL_ERR_IO, "cannot read: %s", strerror(errno));
        if (got == 0)
            return load_fails(l, TL_ERR_FORMAT, "%zu bytes are missing: it became shorter meanwhile",
                              count);
        next += got;
        count -= (size_t)got;
    }
    return TL_OK;
}

static tl_status parse_header(load *l, const char *text, size_t length)
{
    json_error_t why;
    l->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    if (!l->header && ran_out_of_memory(&why))
        return no_memory_to_load(l);
    if (!l->header)
        return load_fails(l, TL_ERR_FORMAT, "the header is not JSON: %s", why.text);
    if (!json_is_object(l->header))
        return load_fails(l, TL_ERR_FORMAT, "the header is not a JSON object");
    return TL_OK;
}

static tl_status read_header(load *l)
{
    int64_t bytes = 0;
    uint64_t length = 0;
    tl_status status = open_file(l, &bytes);
    if (status != TL_OK)
        return status;
    if (bytes < PREFIX)
        return load_fails(l, TL_ERR_FORMAT, "%" PRId64 " bytes are too few for a safetensors file",
                          bytes);
    status = read_bytes(l, &length, PREFIX);
    if (status != TL_OK)
        return status;
    if (length > LONGEST_HEADER)
        return load_fails(l, TL_ERR_FORMAT, "a header of %" PRIu64 " bytes; %d is the limit", length,
                          LONGEST_HEADER);
    if ((int64_t)length > bytes - PREFIX)
        return load_fails(l, TL_ERR_FORMAT, "a header of %" PRIu64 " bytes in a file of %" PRId64,
                          length, bytes);
    l->data_bytes = bytes - PREFIX - (int64_t)length;

    char *text = tl_system_get(length);
    if (!text)
        return no_memory_to_load(l);
    status = read_bytes(l, text, length);
    if (status == TL_OK)
        status = parse_header(l, text, length);
    tl_system_give(text);
    return status;
}

static tl_status shape_from_json(const load *l, const char *name, const json_t *sizes,
                                 tl_layout *layout)
{
    size_t ndim = json_array_size(sizes); /* 0 for what is no array */
    if (!json_is_array(sizes) || ndim > TL_MAX_DIMS)
        return load_fails(l, TL_ERR_FORMAT, "tensor " NAME ": shape is not a list of at most %d sizes",
                          name, TL_MAX_DIMS);
    int64_t shape[TL_MAX_DIMS];
    for (size_t d = 0; d < ndim; d++) {
        json_t *size = json_array_get(sizes, d);
        shape[d] = json_is_integer(size) ? json_integer_value(size) : -1;
    }
    if (tl_layout_make(layout, (int)ndim, shape) != TL_OK)
        return load_fails(l, TL_ERR_FORMAT,
                          "tensor " NAME ": a size is no natural number, or all are too large", name);
    return TL_OK;
}

static tl_status tensor_from_json(const load *l, const char *name, json_t *entry, described *tensor)
{
    const char *dtype;
    json_t *shape;
    json_int_t begin, end;
    json_error_t why;
    if (json_unpack_ex(entry, &why, 0, "{s:s, s:o, s:[I,I!]}", "dtype", &dtype, "shape", &shape,
                       "data_offsets", &begin, &end) != 0)
        return ran_out_of_memory(&why)
                   ? no_memory_to_load(l)
                   : load_fails(l, TL_ERR_FORMAT, "tensor " NAME ": %s", name, why.text);
    *tensor = (described){.name = name, .begin = begin, .end = end};
    if (!find_dtype(dtype, &tensor->dtype))
        return load_fails(l, TL_ERR_FORMAT, "tensor " NAME ": dtype %.40s is not supported", name,
                          dtype);
    tl_status status = shape_from_json(l, name, shape, &tensor->layout);
    if (status != TL_OK)
        return status;
    if (begin < 0 || end < begin || end > l->data_bytes)
        return load_fails(l, TL_ERR_FORMAT,
                          "tensor " NAME ": bytes %lld to %lld of %" PRId64 " bytes of data", name,
                          (long long)begin, (long long)end, l->data_bytes);
    size_t needed = tensor_bytes(&tensor->layout, tensor->dtype);
    if ((uint64_t)(end - begin) != needed) {
        char text[TL_LAYOUT_TEXT];
        return load_fails(l, TL_ERR_FORMAT, "tensor " NAME ": %lld bytes, but %s %s takes %zu", name,
                          (long long)(end - begin), tl_dtype_name(tensor->dtype),
                          tl_layout_text(&tensor->layout, text), needed);
    }
    return TL_OK;
}

/* By begin; of tensors that begin together, all but the last must be empty. */
static int by_place(const void *left, const void *right)
{
    const described *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static tl_status check_cover(const load *l)
{
    int64_t covered = 0;
    for (int i = 0; i < l->count; i++) {
        const described *tensor = &l->tensors[i];
        if (tensor->begin != covered)
            return load_fails(
                l, TL_ERR_FORMAT, "tensor " NAME ": %s before it, from byte %" PRId64 " to %" PRId64,
                tensor->name, tensor->begin > covered ? "a hole" : "an overlap with the one", covered,
                tensor->begin);
        covered = tensor->end;
    }
    if (covered != l->data_bytes)
        return load_fails(l, TL_ERR_FORMAT, "%" PRId64 " bytes behind the last tensor",
                          l->data_bytes - covered);
    return TL_OK;
}

static tl_status list_tensors(load *l)
{
    size_t count = json_object_size(l->header);
    l->tensors = tl_system_get(count * sizeof *l->tensors);
    if (!l->tensors)
        return no_memory_to_load(l);
    const char *name;
    json_t *entry;
    json_object_foreach(l->header, name, entry)
    {
        if (strcmp(name, metadata_key) == 0)
            continue;
        tl_status status = tensor_from_json(l, name, entry, &l->tensors[l->count]);
        if (status != TL_OK)
            return status;
        l->count++;
    }
    qsort(l->tensors, (size_t)l->count, sizeof *l->tensors, by_place);
    return check_cover(l);
}

/* ---- loading: the result ---------------------------------------------------------------- */

static void *get_zeroed(size_t bytes)
{
    void *pointer = tl_system_get(bytes);
    if (pointer)
        memset(pointer, 0, bytes);
    return pointer;
}

static char *copy_text(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = tl_system_get(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static tl_status read_metadata(const load *l)
{
    json_t *object = json_object_get(l->header, metadata_key);
    if (!object)
        return TL_OK;
    if (!json_is_object(object))
        return load_fails(l, TL_ERR_FORMAT, "%s is not an object", metadata_key);
    char **texts = get_zeroed(2 * json_object_size(object) * sizeof *texts);
    if (!texts)
        return no_memory_to_load(l);
    l->file->metadata = texts;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return load_fails(l, TL_ERR_FORMAT, "%s: the value of " NAME " is not a string",
                              metadata_key, key);
        l->file->metadata_count++;
        *texts++ = copy_text(key);
        *texts++ = copy_text(json_string_value(value));
        if (!texts[-2] || !texts[-1])
            return no_memory_to_load(l);
    }
    return TL_OK;
}

/* The tensors cover the data without a hole, so that reading on and on meets each in its place. */
static tl_status read_tensors(const load *l)
{
    l->file->entries = get_zeroed((size_t)l->count * sizeof *l->file->entries);
    if (!l->file->entries)
        return no_memory_to_load(l);
    l->file->count = l->count;
    for (int i = 0; i < l->count; i++) {
        const described *from = &l->tensors[i];
        tl_named_tensor *to = &l->file->entries[i];
        to->name = copy_text(from->name);
        to->tensor = tl_tensor_empty(from->dtype, from->layout.ndim, from->layout.shape, NULL);
        if (!to->name || !to->tensor)
            return no_memory_to_load(l);
        tl_status status = read_bytes(l, to->tensor->data, tensor_bytes(&from->layout, from->dtype));
        if (status != TL_OK)
            return status;
    }
    return TL_OK;
}

tl_status tl_safetensors_load(const char *path, tl_tensor_file *file, tl_error *error)
{
    *file = (tl_tensor_file){.count = 0};
    load l = {.path = path, .descriptor = -1, .file = file, .error = error};
    tl_status status = read_header(&l);
    if (status == TL_OK)
        status = list_tensors(&l);
    if (status == TL_OK)
        status = read_metadata(&l);
    if (status == TL_OK)
        status = read_tensors(&l);
    if (status != TL_OK)
        tl_tensor_file_free(file);
    tl_system_give(l.tensors);
    json_decref(l.header);
    if (l.descriptor >= 0)
        close(l.descriptor);
    return status;
}

void tl_tensor_file_free(tl_tensor_file *file)
{
    for (int i = 0; i < file->count; i++) {
        tl_system_give(file->entries[i].name);
        tl_tensor_release(file->entries[i].tensor);
    }
    for (int i = 0; i < 2 * file->metadata_count; i++)
        tl_system_give(file->metadata[i]);
    tl_system_give(file->entries);
    tl_system_give(file->metadata);
    *file = (tl_tensor_file){.count = 0};
}

tl_tensor *tl_tensor_file_find(const tl_tensor_file *file, const char *name)
{
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->entries[i].name, name) == 0)
            return file->entries[i].tensor;
    return NULL;
}

const char *tl_tensor_file_metadata(const tl_tensor_file *file, const char *key)
{
    for (int i = 0; i < file->metadata_count; i++)
        if (strcmp(file->metadata[2 * i], key) == 0)
            return file->metadata[2 * i + 1];
    return NULL;
}
