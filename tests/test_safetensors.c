/* Files that go out and come back, files made by others, files made to hurt. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tensor/io_safetensors.h"

/* ---- help ------------------------------------------------------------------------------- */

/* The library takes its memory from aligned_alloc, jansson from what main() gives it: both can
 * be told to fail. */
static int allocations_left = -1; /* -1: no end of them */

static bool allocation_fails(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    return !allocation_fails() && posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : NULL;
}

static void *failing_malloc(size_t bytes)
{
    return allocation_fails() ? NULL : malloc(bytes);
}

enum { PATH_ROOM = 512 };

static char directory[PATH_ROOM / 4]; /* a new one for each test; the tests work inside of it */

static int free_descriptor(void) /* the lowest: it tells whether a file was left open */
{
    int descriptor = dup(STDOUT_FILENO);
    close(descriptor);
    return descriptor;
}

static int enter_directory(void **state)
{
    static int descriptor;
    descriptor = free_descriptor();
    *state = &descriptor;
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/tapeloop-XXXXXX", base && *base ? base : "/tmp");
    return !mkdtemp(directory) || chdir(directory) != 0;
}

static int files_here(void)
{
    int files = 0;
    DIR *here = opendir(".");
    for (struct dirent *entry; (entry = readdir(here));)
        files += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(here);
    return files;
}

static int leave_directory(void **state)
{
    const int *descriptor = *state;
    DIR *here = opendir(".");
    for (struct dirent *entry; (entry = readdir(here));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove(entry->d_name);
    closedir(here);
    bool left_open = free_descriptor() != *descriptor;
    return chdir("/") != 0 || rmdir(directory) != 0 || left_open;
}

/* Message and status of the last call; an error in `found` is taken out for the next one. */
#define assert_fails(found, code, text) check_error(&(found), (code), (text), __LINE__)

static void check_error(tl_error *error, tl_status status, const char *message, int line)
{
    if (error->status != status || !strstr(error->message, message))
        fail_msg("line %d: status %d \"%s\" should be %d \"... %s ...\"", line, error->status,
                 error->message, status, message);
    *error = (tl_error){.status = TL_OK};
}

#define assert_saves(count, entries) check_save((count), (entries), __LINE__)

static void check_save(int count, const tl_named_tensor *entries, int line)
{
    tl_error error = {.status = TL_OK};
    if (tl_safetensors_save("a.safetensors", count, entries, 0, NULL, &error) != TL_OK)
        fail_msg("line %d: %s", line, error.message);
}

#define assert_loads(file) check_load((file), __LINE__)

static void check_load(tl_tensor_file *file, int line)
{
    tl_error error = {.status = TL_OK};
    if (tl_safetensors_load("a.safetensors", file, &error) != TL_OK)
        fail_msg("line %d: %s", line, error.message);
}

static void write_file(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *path, char *bytes, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t count = fread(bytes, 1, room, file);
    fclose(file);
    assert_true(count < room);
    return count;
}

/* A file with that header (its length in front is right), followed by 0, 1, 2, ... as data. */
static void write_parts(const char *header, size_t data_bytes)
{
    char bytes[4096];
    uint64_t length = strlen(header);
    assert_true(8 + length + data_bytes <= sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (char)i;
    write_file("a.safetensors", bytes, 8 + length + data_bytes);
}

#define assert_malformed(text) check_malformed((text), __LINE__)

static void check_malformed(const char *message, int line)
{
    tl_error error = {.status = TL_OK};
    tl_tensor_file file = {.count = 7};
    tl_safetensors_load("a.safetensors", &file, &error);
    if (!strstr(error.message, "safetensors_load: a.safetensors: "))
        fail_msg("line %d: no path in \"%s\"", line, error.message);
    check_error(&error, TL_ERR_FORMAT, message, line);
    assert_int_equal(file.count, 0);
    assert_null(file.entries);
    assert_null(file.metadata);
}

/* 0, -1, 2, -3, ... */
static tl_tensor *numbers(tl_dtype dtype, int ndim, const int64_t *shape)
{
    tl_tensor *tensor = tl_tensor_empty(dtype, ndim, shape, NULL);
    assert_non_null(tensor);
    for (int64_t i = 0; i < tensor->layout.count; i++)
        tl_tensor_set(tensor, i, (double)(i % 2 ? -i : i));
    return tensor;
}

static void assert_same(const tl_tensor *a, const tl_tensor *b)
{
    assert_non_null(a);
    assert_int_equal(a->dtype, b->dtype);
    assert_true(tl_layout_same_shape(&a->layout, &b->layout));
    for (int64_t i = 0; i < a->layout.count; i++)
        if (tl_tensor_get(a, i) != tl_tensor_get(b, i))
            fail_msg("element %d: %g should be %g", (int)i, tl_tensor_get(a, i), tl_tensor_get(b, i));
}

static void release_all(int count, const tl_named_tensor *entries)
{
    for (int i = 0; i < count; i++)
        tl_tensor_release(entries[i].tensor);
}

/* ---- there and back --------------------------------------------------------------------- */

static void what_is_saved_is_loaded(void **state)
{
    (void)state;
    tl_tensor *matrix = numbers(TL_F64, TL_SHAPE(3, 4));
    tl_named_tensor entries[] = {
        {"mask", numbers(TL_U8, TL_SHAPE(5))},
        {"weight_ih_l0", numbers(TL_F32, TL_SHAPE(2, 3, 7))},
        {"index \"quoted\" \xc3\xa9", numbers(TL_I64, TL_SHAPE(3))},
        {"turned", tl_tensor_permute(matrix, (int[]){1, 0}, NULL)},
        {"wide", tl_tensor_expand(matrix, TL_SHAPE(2, 3, 4), NULL)},
        {"scalar", numbers(TL_F32, 0, NULL)},
        {"empty", numbers(TL_F32, TL_SHAPE(4, 0))},
        {"", numbers(TL_F64, TL_SHAPE(1, 1, 1, 1, 1, 1, 1, 2))},
    };
    enum { COUNT = sizeof entries / sizeof entries[0] };
    const char *metadata[] = {"format", "pt", "note", "line 1\nline 2 \xe2\x9c\x93"};
    tl_error error = {.status = TL_OK};
    assert_int_equal(tl_safetensors_save("a.safetensors", COUNT, entries, 2, metadata, &error), TL_OK);
    assert_int_equal(files_here(), 1);

    tl_tensor_file file;
    assert_loads(&file);
    assert_int_equal(file.count, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_same(tl_tensor_file_find(&file, entries[i].name), entries[i].tensor);
    assert_null(tl_tensor_file_find(&file, "weight"));
    assert_int_equal(file.metadata_count, 2);
    assert_string_equal(tl_tensor_file_metadata(&file, "format"), "pt");
    assert_string_equal(tl_tensor_file_metadata(&file, "note"), metadata[3]);
    assert_null(tl_tensor_file_metadata(&file, "pt"));

    /* In the order of the data: wide elements first, otherwise as given; "empty" takes no place. */
    const char *order[] = {entries[2].name, "turned", "wide",  "",
                           "weight_ih_l0",  "scalar", "empty", "mask"};
    for (int i = 0; i < COUNT; i++)
        assert_string_equal(file.entries[i].name, order[i]);
    tl_tensor_file_free(&file);
    assert_int_equal(file.count, 0);
    tl_tensor_file_free(&file); /* nothing is left to be freed */
    tl_tensor_release(matrix);
    release_all(COUNT, entries);
}

static void bits_survive(void **state)
{
    (void)state;
    const uint64_t bits[] = {0x7ff8000000001234, 0x8000000000000000, 0x0000000000000001,
                             0xfff0000000000000, 0x7fefffffffffffff};
    tl_named_tensor entries[] = {{"f", tl_tensor_from(TL_F64, TL_SHAPE(5), bits, NULL)},
                                 {"i", tl_tensor_from(TL_I64, TL_SHAPE(5), bits, NULL)}};
    assert_saves(2, entries);
    tl_tensor_file file;
    assert_loads(&file);
    assert_memory_equal(tl_tensor_file_find(&file, "f")->data, bits, sizeof bits);
    assert_memory_equal(tl_tensor_file_find(&file, "i")->data, bits, sizeof bits);
    tl_tensor_file_free(&file);
    release_all(2, entries);
}

static void bytes_are_as_the_format_says(void **state)
{
    (void)state;
    const float values[] = {1, -2};
    tl_named_tensor entries[] = {{"m", tl_tensor_from(TL_U8, TL_SHAPE(3), "\1\0\1", NULL)},
                                 {"w", tl_tensor_from(TL_F32, TL_SHAPE(1, 2), values, NULL)}};
    assert_saves(2, entries);
    const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                          "\"m\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}";
    char expected[256], found[256];
    size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    memset(expected, 0, 8);
    expected[0] = (char)padded;
    memset(expected + 8, ' ', padded);
    memcpy(expected + 8, header, sizeof header - 1);
    memcpy(expected + 8 + padded, "\0\0\x80\x3f\0\0\0\xc0\1\0\1", 11);
    assert_int_equal(read_file("a.safetensors", found, sizeof found), 8 + padded + 11);
    assert_memory_equal(found, expected, 8 + padded + 11);
    release_all(2, entries);
}

static void headers_end_at_a_multiple_of_8(void **state)
{
    (void)state;
    char name[] = "abcdefghi";
    tl_named_tensor entry = {name, numbers(TL_F32, TL_SHAPE(2))};
    for (size_t length = strlen(name); length > 0; name[--length] = '\0') {
        char bytes[256];
        assert_saves(1, &entry);
        assert_int_equal(read_file("a.safetensors", bytes, sizeof bytes) % 8, 0);
        assert_int_equal(bytes[0] % 8, 0);
    }
    tl_tensor_release(entry.tensor);
}

static void a_file_without_tensors(void **state)
{
    (void)state;
    tl_tensor_file file;
    assert_saves(0, NULL);
    assert_loads(&file);
    assert_int_equal(file.count, 0);
    assert_null(tl_tensor_file_find(&file, "a"));
    tl_tensor_file_free(&file);
}

/* Written by the Python package: its own padding, tensors in its own order; BOOL. */
static void files_of_others(void **state)
{
    (void)state;
    write_parts("{\"__metadata__\":{\"format\":\"np\"},"
                "\"b\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[4,6]},"
                "\"none\":{\"data_offsets\":[4,4],\"shape\":[0],\"dtype\":\"F64\"},"
                "\"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4],\"more\":null}}   ",
                6);
    tl_tensor_file file;
    assert_loads(&file);
    assert_int_equal(file.count, 3);
    assert_string_equal(file.entries[0].name, "a");
    assert_string_equal(file.entries[1].name, "none");
    assert_string_equal(file.entries[2].name, "b");
    assert_memory_equal(file.entries[0].tensor->data, "\0\1\2\3", 4);
    assert_int_equal(file.entries[2].tensor->dtype, TL_U8);
    assert_memory_equal(file.entries[2].tensor->data, "\4\5", 2);
    assert_string_equal(tl_tensor_file_metadata(&file, "format"), "np");
    tl_tensor_file_free(&file);
}

/* ---- malformed files -------------------------------------------------------------------- */

static void truncated_files(void **state)
{
    (void)state;
    const char *metadata[] = {"key", "value"};
    tl_named_tensor entries[] = {{"a", numbers(TL_F32, TL_SHAPE(3, 2))},
                                 {"b", numbers(TL_U8, TL_SHAPE(5))}};
    tl_safetensors_save("a.safetensors", 2, entries, 1, metadata, NULL);
    char bytes[512];
    size_t whole = read_file("a.safetensors", bytes, sizeof bytes);
    for (size_t count = 0; count < whole; count++) {
        write_file("a.safetensors", bytes, count);
        assert_malformed("");
    }
    bytes[whole] = 0;
    write_file("a.safetensors", bytes, whole + 1);
    assert_malformed("1 bytes behind the last tensor");
    release_all(2, entries);
}

static void wrong_header_lengths(void **state)
{
    (void)state;
    write_file("a.safetensors", "", 0);
    assert_malformed("0 bytes are too few for a safetensors file");
    write_file("a.safetensors", "\2\0\0\0\0\0\0", 7);
    assert_malformed("7 bytes are too few");
    write_file("a.safetensors", "\0\0\0\0\0\0\0\0", 8);
    assert_malformed("the header is not JSON");
    write_file("a.safetensors", "\3\0\0\0\0\0\0\0{}", 10);
    assert_malformed("a header of 3 bytes in a file of 10");
    write_file("a.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_malformed("a header of 18446744073709551615 bytes; 100000000 is the limit");
    write_file("a.safetensors", "\0\0\0\0\0\0\0\x80{}", 10);
    assert_malformed("a header of 9223372036854775808 bytes; 100000000 is the limit");
}

static void wrong_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header, *message;
    } cases[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"{} x", "not JSON"},
        {"[]", "not a JSON object"},
        {"7", "not JSON"},
        {"{\"a\":\"\xff\"}", "not JSON"},
        {"{\"a\":1}", "tensor \"a\": Expected object, got integer"},
        {"{\"a\":{}}", "tensor \"a\": Object item not found: dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}",
         "tensor \"a\": Object item not found: shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}",
         "tensor \"a\": Object item not found: data_offsets"},
        {"{\"a\":{\"dtype\":1,\"shape\":[4],\"data_offsets\":[0,4]}}", "Expected string, got integer"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}",
         "tensor \"a\": dtype BF16 is not supported"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":4,\"data_offsets\":[0,4]}}",
         "tensor \"a\": shape is not a list of at most 8 sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
         "tensor \"a\": shape is not a list of at most 8 sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}",
         "a size is no natural number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}",
         "a size is no natural number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[null],\"data_offsets\":[0,4]}}",
         "a size is no natural number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
         "or all are too large"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,4]}}",
         "or all are too large"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}",
         "not JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", "Array index 1 out of range"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}",
         "1 array item(s) left unpacked"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4.0]}}",
         "Expected integer, got real"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-4,0]}}",
         "bytes -4 to 0 of 4 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", "bytes 4 to 0 of 4 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}}", "bytes 0 to 5 of 4 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,9223372036854775807]}}",
         "tensor \"a\": bytes 0 to 9223372036854775807 of 4 bytes of data"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
         "tensor \"a\": 4 bytes, but f32 [2] takes 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}",
         "tensor \"a\": 4 bytes, but u8 [3] takes 3"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
         "1 bytes behind the last tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}",
         "tensor \"a\": a hole before it, from byte 0 to 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         "tensor \"b\": an overlap with the one before it, from byte 3 to 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         "tensor \"b\": an overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}",
         "tensor \"b\": an overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         "duplicate object key"},
        {"{}", "4 bytes behind the last tensor"},
        {"{\"__metadata__\":7,\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"k\":\"v\",\"n\":7},\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
         "offsets\":[0,4]}}",
         "__metadata__: the value of \"n\" is not a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_parts(cases[i].header, 4);
        assert_malformed(cases[i].message);
    }
    write_parts("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    tl_tensor_file file; /* the base of these cases is sound */
    assert_loads(&file);
    tl_tensor_file_free(&file);
}

static void long_names_leave_room_for_the_reason(void **state)
{
    (void)state;
    char name[1001] = "", header[2000];
    memset(name, 'n', sizeof name - 1);
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
             name);
    write_parts(header, 4);
    assert_malformed("nnn\": 4 bytes, but f32 [2] takes 8");
}

/* Each byte of a good file is changed in some ways: the answer may be good or not, but it comes. */
static void changed_bytes(void **state)
{
    (void)state;
    const char *metadata[] = {"key", "value"};
    tl_named_tensor entries[] = {{"a", numbers(TL_F32, TL_SHAPE(3, 2))},
                                 {"b", numbers(TL_U8, TL_SHAPE(5))}};
    tl_safetensors_save("a.safetensors", 2, entries, 1, metadata, NULL);
    char bytes[512];
    size_t count = read_file("a.safetensors", bytes, sizeof bytes);
    const char others[] = "\0\x80\xff 09-.\"[]{}:,";
    for (size_t i = 0; i < count; i++)
        for (size_t o = 0; o < sizeof others - 1; o++) {
            char kept = bytes[i];
            bytes[i] = others[o];
            write_file("a.safetensors", bytes, count);
            bytes[i] = kept;
            tl_tensor_file file;
            tl_status status = tl_safetensors_load("a.safetensors", &file, NULL);
            assert_true(status == TL_OK || status == TL_ERR_FORMAT);
            tl_tensor_file_free(&file);
        }
    release_all(2, entries);
}

/* ---- what is no file -------------------------------------------------------------------- */

static void nothing_to_load(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor_file file;
    tl_safetensors_load("missing", &file, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_load: missing: cannot open: No such file or directory");
    tl_safetensors_load(".", &file, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_load: .: not a regular file");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    tl_safetensors_load("pipe", &file, &error); /* comes back */
    assert_fails(error, TL_ERR_IO, "safetensors_load: pipe: not a regular file");
}

static void nowhere_to_save(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_named_tensor entry = {"a", numbers(TL_F32, TL_SHAPE(3))};
    tl_safetensors_save("missing/a", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO,
                 "safetensors_save: missing/a: cannot create a file beside it: No such");
    tl_safetensors_save("", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "No such file or directory");
    tl_safetensors_save(".", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_save: .: not a regular file");
    tl_safetensors_save("/dev/full", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_save: /dev/full: not a regular file");
    write_file("file", "", 0);
    tl_safetensors_save("file/a", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_save: file/a: cannot be reached: Not a directory");
    assert_int_equal(symlink("missing", "dangling"), 0);
    tl_safetensors_save("dangling", 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "safetensors_save: dangling: the link leads nowhere: No such file");
    char path[PATH_ROOM];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    tl_safetensors_save(path, 1, &entry, 0, NULL, &error);
    assert_fails(error, TL_ERR_IO, "File name too long");
    assert_int_equal(files_here(), 2); /* "file" and "dangling" */
    tl_tensor_release(entry.tensor);
}

static void what_cannot_be_saved(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = numbers(TL_F32, TL_SHAPE(3));
    tl_tensor *vast = tl_tensor_expand(a, TL_SHAPE(1LL << 58, 3), NULL);
    tl_named_tensor twice[] = {{"x", a}, {"y", a}, {"x", a}};
    tl_named_tensor reserved = {"__metadata__", a}, latin1 = {"caf\xe9", a};
    tl_named_tensor vasts[] = {{"x", vast}, {"y", vast}, {"z", vast}};
    const char *same_keys[] = {"k", "v", "k", "w"}, *bad_value[] = {"k", "\xff"};
    tl_safetensors_save("a", 3, twice, 0, NULL, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "safetensors_save: a: \"x\" occurs twice");
    tl_safetensors_save("a", 1, &reserved, 0, NULL, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "no tensor can be called __metadata__");
    tl_safetensors_save("a", 1, &latin1, 0, NULL, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "a name or text is not UTF-8");
    tl_safetensors_save("a", 1, twice, 2, same_keys, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "\"k\" occurs twice");
    tl_safetensors_save("a", 1, twice, 1, bad_value, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "a name or text is not UTF-8");
    tl_safetensors_save("a", 3, vasts, 0, NULL, &error);
    assert_fails(error, TL_ERR_ARGUMENT, "too many bytes for a file");
    assert_int_equal(files_here(), 0);
    tl_tensor_release(a);
    tl_tensor_release(vast);
}

/* ---- replacing an older file ------------------------------------------------------------ */

static mode_t mode_of(const char *path)
{
    struct stat found;
    assert_int_equal(lstat(path, &found), 0);
    return found.st_mode;
}

static void modes(void **state)
{
    (void)state;
    tl_named_tensor entry = {"a", numbers(TL_F32, TL_SHAPE(3))};
    mode_t old = umask(027);
    assert_saves(1, &entry);
    assert_int_equal(mode_of("a.safetensors") & 0777, 0640); /* like any new file */
    assert_int_equal(chmod("a.safetensors", 0606), 0);
    assert_saves(1, &entry);
    assert_int_equal(mode_of("a.safetensors") & 0777, 0606); /* like the old one */
    umask(old);
    tl_tensor_release(entry.tensor);
}

static void links_stay_links(void **state)
{
    (void)state;
    tl_named_tensor entry = {"a", numbers(TL_F32, TL_SHAPE(3))};
    write_file("real", "old", 3);
    assert_int_equal(symlink("real", "a.safetensors"), 0);
    assert_saves(1, &entry);
    assert_true(S_ISLNK(mode_of("a.safetensors")));
    assert_true(S_ISREG(mode_of("real")));
    assert_int_equal(files_here(), 2);
    tl_tensor_file file;
    assert_int_equal(tl_safetensors_load("real", &file, NULL), TL_OK);
    assert_same(tl_tensor_file_find(&file, "a"), entry.tensor);
    tl_tensor_file_free(&file);
    tl_tensor_release(entry.tensor);
}

/* A limit on the size of files stands for the full disk. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_named_tensor small = {"a", numbers(TL_F32, TL_SHAPE(3))};
    tl_named_tensor large = {"a", numbers(TL_F64, TL_SHAPE(5000))};
    assert_saves(1, &small);

    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 8192;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    tl_safetensors_save("a.safetensors", 1, &large, 0, NULL, &error);
    tl_safetensors_save("new", 1, &large, 0, NULL, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);

    assert_fails(error, TL_ERR_IO, "safetensors_save: a.safetensors: cannot write: File too large");
    assert_int_equal(files_here(), 1);
    tl_tensor_file file;
    assert_loads(&file);
    assert_same(tl_tensor_file_find(&file, "a"), small.tensor);
    tl_tensor_file_free(&file);
    tl_tensor_release(small.tensor);
    tl_tensor_release(large.tensor);
}

static void temporary_files_of_others_are_left_alone(void **state)
{
    (void)state;
    char name[PATH_ROOM];
    tl_named_tensor entry = {"a", numbers(TL_F32, TL_SHAPE(3))};
    snprintf(name, sizeof name, ".tapeloop-%ld-0", (long)getpid());
    write_file(name, "theirs", 6);
    assert_saves(1, &entry);
    char bytes[16];
    assert_int_equal(read_file(name, bytes, sizeof bytes), 6);
    assert_int_equal(files_here(), 2);
    tl_tensor_release(entry.tensor);
}

/* ---- failing memory --------------------------------------------------------------------- */

static void saving_without_memory(void **state)
{
    (void)state;
    tl_tensor *matrix = numbers(TL_F32, TL_SHAPE(3, 2));
    tl_named_tensor entries[] = {{"turned", tl_tensor_permute(matrix, (int[]){1, 0}, NULL)},
                                 {"plain", numbers(TL_I64, TL_SHAPE(5))}};
    const char *metadata[] = {"key", "value"};
    tl_status status = TL_ERR_MEMORY;
    int left = 0;
    while (status != TL_OK) {
        tl_error error = {.status = TL_OK};
        allocations_left = ++left;
        status = tl_safetensors_save("a.safetensors", 2, entries, 1, metadata, &error);
        allocations_left = -1;
        assert_int_equal(files_here(), status == TL_OK);
        if (status != TL_OK)
            assert_fails(error, TL_ERR_MEMORY, "safetensors_save: a.safetensors: not enough memory");
    }
    assert_true(left > 20);
    tl_tensor_release(matrix);
    release_all(2, entries);
}

static void loading_without_memory(void **state)
{
    (void)state;
    tl_named_tensor entries[] = {{"a", numbers(TL_F32, TL_SHAPE(3, 2))},
                                 {"b", numbers(TL_U8, TL_SHAPE(5))}};
    const char *metadata[] = {"key", "value"};
    tl_safetensors_save("a.safetensors", 2, entries, 1, metadata, NULL);
    tl_status status = TL_ERR_MEMORY;
    int left = 0;
    while (status != TL_OK) {
        tl_error error = {.status = TL_OK};
        tl_tensor_file file;
        allocations_left = ++left;
        status = tl_safetensors_load("a.safetensors", &file, &error);
        allocations_left = -1;
        assert_int_equal(file.count, status == TL_OK ? 2 : 0);
        /* When memory for a string fails, jansson calls the text wrong. */
        if (status == TL_ERR_FORMAT)
            assert_fails(error, TL_ERR_FORMAT,
                         "safetensors_load: a.safetensors: the header is not JSON");
        else if (status != TL_OK)
            assert_fails(error, TL_ERR_MEMORY, "safetensors_load: a.safetensors: not enough memory");
        tl_tensor_file_free(&file);
    }
    assert_true(left > 20);
    release_all(2, entries);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    json_set_alloc_funcs(failing_malloc, free);
    const struct CMUnitTest tests[] = {
        TEST(what_is_saved_is_loaded),
        TEST(bits_survive),
        TEST(bytes_are_as_the_format_says),
        TEST(headers_end_at_a_multiple_of_8),
        TEST(a_file_without_tensors),
        TEST(files_of_others),
        TEST(truncated_files),
        TEST(wrong_header_lengths),
        TEST(wrong_headers),
        TEST(long_names_leave_room_for_the_reason),
        TEST(changed_bytes),
        TEST(nothing_to_load),
        TEST(nowhere_to_save),
        TEST(what_cannot_be_saved),
        TEST(modes),
        TEST(links_stay_links),
        TEST(a_full_disk_leaves_the_old_file),
        TEST(temporary_files_of_others_are_left_alone),
        TEST(saving_without_memory),
        TEST(loading_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
