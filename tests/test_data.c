/* From a file to the numbers that a network reads: texts, vocabularies, streams. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nn/bptt.h"
#include "nn/data.h"

/* The library's memory comes from aligned_alloc, which can be told to fail. */
static int allocations_left = -1; /* -1: no end of them */

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    if (allocations_left == 0 || posix_memalign(&pointer, alignment, bytes) != 0)
        return NULL;
    allocations_left -= allocations_left > 0;
    return pointer;
}

/* ---- texts ------------------------------------------------------------------------------ */

enum { LONG = 300000 }; /* bytes: read in several pieces */

static char path[256]; /* a new one for each test */

static int make_file(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/tapeloop-XXXXXX", base && *base ? base : "/tmp");
    int descriptor = mkstemp(path);
    return descriptor < 0 || close(descriptor) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return remove(path);
}

static uint8_t byte_at(int64_t i)
{
    return (uint8_t)(i * i + i / 7);
}

static void write_file(int64_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int64_t i = 0; i < count; i++)
        fputc(byte_at(i), file);
    assert_int_equal(fclose(file), 0);
}

static void a_text_is_read_whole_or_to_its_limit(void **state)
{
    (void)state;
    static const int64_t limits[] = {0, 1, 65535, 65536, 65537, 131072, 200001, LONG, LONG + 1};
    write_file(LONG);
    for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
        tl_text text;
        tl_error error = {TL_OK, ""};
        int64_t count = limits[k] > 0 && limits[k] < LONG ? limits[k] : LONG;
        assert_int_equal(tl_text_read(&text, path, limits[k], &error), TL_OK);
        assert_int_equal(text.count, count);
        for (int64_t i = 0; i < count; i++)
            if (text.byte[i] != byte_at(i))
                fail_msg("limit %lld: byte %lld is %d, not %d", (long long)limits[k], (long long)i,
                         text.byte[i], byte_at(i));
        tl_text_free(&text);
        assert_null(text.byte);
    }
}

static void refuses(const char *name, tl_status status, const char *because)
{
    tl_text text;
    tl_error error = {TL_OK, ""};
    assert_int_equal(tl_text_read(&text, name, 0, &error), status);
    assert_int_equal(error.status, status);
    assert_non_null(strstr(error.message, name));
    assert_non_null(strstr(error.message, because));
    assert_null(text.byte);
    assert_int_equal(text.count, 0);
}

static void what_is_no_text_is_refused_with_its_name(void **state)
{
    (void)state;
    refuses("/no/such/file", TL_ERR_IO, "No such file");
    refuses("/tmp", TL_ERR_IO, "directory");
    refuses(path, TL_ERR_FORMAT, "empty");
}

static void a_pipe_is_read_too(void **state)
{
    (void)state;
    tl_text text;
    char name[64];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "water", 5), 5);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(tl_text_read(&text, name, 0, NULL), TL_OK);
    assert_int_equal(text.count, 5);
    assert_memory_equal(text.byte, "water", 5);
    tl_text_free(&text);
    close(ends[0]);
}

static void a_text_that_memory_does_not_hold_is_an_error(void **state)
{
    (void)state;
    write_file(LONG);
    for (int allocations = 0;; allocations++) {
        tl_text text;
        tl_error error = {TL_OK, ""};
        allocations_left = allocations;
        tl_status status = tl_text_read(&text, path, 0, &error);
        allocations_left = -1;
        if (status == TL_OK) {
            assert_in_range(allocations, 2, 20);
            tl_text_free(&text);
            return;
        }
        assert_int_equal(status, TL_ERR_MEMORY);
        assert_non_null(strstr(error.message, "out of memory"));
        assert_null(text.byte);
    }
}

/* ---- vocabularies ----------------------------------------------------------------------- */

static tl_vocabulary vocabulary_of(const char *text)
{
    tl_vocabulary v;
    tl_vocabulary_of(&v, (int64_t)strlen(text), (const uint8_t *)text);
    return v;
}

static void a_vocabulary_is_the_sorted_set_of_bytes(void **state)
{
    (void)state;
    tl_vocabulary v = vocabulary_of("the cat\xff sat");
    assert_int_equal(v.size, 8);
    assert_memory_equal(v.byte, " acehst\xff", 8);
    for (int byte = 0, code = 0; byte < 256; byte++) {
        bool occurs = code < v.size && v.byte[code] == byte;
        assert_int_equal(v.code[byte], occurs ? code++ : -1);
    }
    assert_int_equal(vocabulary_of("").size, 0);
}

static void all_bytes_fit_into_a_vocabulary(void **state)
{
    (void)state;
    uint8_t all[256], codes[256];
    char text[TL_VOCABULARY_TEXT];
    tl_vocabulary v, again;
    for (int i = 0; i < 256; i++)
        all[i] = codes[i] = (uint8_t)(255 - i);
    tl_vocabulary_of(&v, 256, all);
    assert_int_equal(v.size, 256);
    assert_int_equal(tl_vocabulary_encode(&v, 256, codes, NULL), TL_OK);
    assert_memory_equal(codes, all, 256);
    assert_int_equal(strlen(tl_vocabulary_text(&v, text)), 512);
    assert_int_equal(tl_vocabulary_parse(&again, text, NULL), TL_OK);
    assert_memory_equal(again.code, v.code, sizeof v.code);
}

static void encoding_replaces_bytes_by_codes(void **state)
{
    (void)state;
    tl_vocabulary v = vocabulary_of("abcd");
    uint8_t text[] = "dabba";
    assert_int_equal(tl_vocabulary_encode(&v, 5, text, NULL), TL_OK);
    assert_memory_equal(text, ((uint8_t[]){3, 0, 1, 1, 0}), 5);
}

static void an_unknown_byte_changes_nothing(void **state)
{
    (void)state;
    tl_vocabulary v = vocabulary_of("abcd");
    tl_error error = {TL_OK, ""}, second = {TL_OK, ""};
    uint8_t text[] = "dab?a";
    assert_int_equal(tl_vocabulary_encode(&v, 5, text, &error), TL_ERR_INDEX);
    assert_string_equal(error.message, "byte 3 is 0x3f '?', which is not in the vocabulary of 4");
    assert_string_equal((char *)text, "dab?a");
    assert_int_equal(tl_vocabulary_encode(&v, 1, (uint8_t[]){10}, &second), TL_ERR_INDEX);
    assert_string_equal(second.message, "byte 0 is 0x0a, which is not in the vocabulary of 4");
}

static void a_vocabulary_survives_being_written_down(void **state)
{
    (void)state;
    char text[TL_VOCABULARY_TEXT];
    tl_vocabulary v = vocabulary_of("\n Az~\xe9"), again;
    assert_string_equal(tl_vocabulary_text(&v, text), "0a20417a7ee9");
    assert_int_equal(tl_vocabulary_parse(&again, text, NULL), TL_OK);
    assert_int_equal(again.size, v.size);
    assert_memory_equal(again.byte, v.byte, (size_t)v.size);
    assert_memory_equal(again.code, v.code, sizeof v.code);
}

static void damaged_vocabularies_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",     "0",  "0a2",   "0A", "0a0a",
                                        "200a", "0g", "0a 20", "-1", "0x0a"};
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        tl_vocabulary v;
        tl_error error = {TL_OK, ""};
        if (tl_vocabulary_parse(&v, texts[k], &error) != TL_ERR_FORMAT)
            fail_msg("'%s' was taken for a vocabulary", texts[k]);
        assert_non_null(strstr(error.message, "not a vocabulary"));
    }
}

/* ---- streams ---------------------------------------------------------------------------- */

static void assert_codes(tl_tape *t, tl_var v, int64_t steps, int64_t batch, const int64_t *codes)
{
    tl_array a = tl_value(t, v);
    assert_string_equal(tl_tape_message(t), "");
    assert_int_equal(a.dtype, TL_I64);
    assert_int_equal(a.layout->ndim, 2);
    assert_int_equal(a.layout->shape[0], steps);
    assert_int_equal(a.layout->shape[1], batch);
    assert_true(a.layout->contiguous);
    for (int64_t i = 0; i < steps * batch; i++)
        if (((const int64_t *)a.data)[i] != codes[i])
            fail_msg("number %lld is %lld, not %lld", (long long)i,
                     (long long)((const int64_t *)a.data)[i], (long long)codes[i]);
}

static const uint8_t codes[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

static void streams_are_equal_parts_and_targets_come_next(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_streams s = tl_streams_of(14, codes, 3); /* 13 steps have a successor: 3 streams of 4 */
    assert_int_equal(s.steps, 4);
    assert_codes(t, tl_streams_inputs(t, &s, 0, 4), 4, 3,
                 (int64_t[]){10, 14, 18, 11, 15, 19, 12, 16, 20, 13, 17, 21});
    assert_codes(t, tl_streams_targets(t, &s, 0, 4), 4, 3,
                 (int64_t[]){11, 15, 19, 12, 16, 20, 13, 17, 21, 14, 18, 22});
    assert_codes(t, tl_streams_inputs(t, &s, 2, 3), 1, 3, (int64_t[]){12, 16, 20});
    assert_codes(t, tl_streams_targets(t, &s, 3, 4), 1, 3, (int64_t[]){14, 18, 22});
    tl_tape_free(t);
}

static void a_stretch_that_memory_does_not_hold_poisons_the_tape(void **state)
{
    (void)state;
    static uint8_t long_text[200000];
    tl_tape *t = tl_tape_new(&(tl_tape_config){.memory = 1 << 20});
    tl_streams s = tl_streams_of(sizeof long_text, long_text, 4);
    assert_null(tl_value(t, tl_streams_inputs(t, &s, 0, s.steps)).data); /* 1.6 MB */
    assert_int_equal(tl_tape_status(t), TL_ERR_MEMORY);
    tl_tape_reset(t);
    assert_non_null(tl_value(t, tl_streams_inputs(t, &s, 0, 100)).data);
    tl_tape_free(t);
}

static void short_texts_make_streams_without_steps(void **state)
{
    (void)state;
    static const struct {
        int64_t count, batch, steps;
    } cases[] = {{0, 1, 0}, {1, 1, 0}, {2, 1, 1}, {3, 3, 0}, {4, 3, 1}, {13, 3, 4}, {12, 3, 3}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        assert_int_equal(tl_streams_of(cases[k].count, codes, cases[k].batch).steps, cases[k].steps);
}

static void steps_that_do_not_exist_poison_the_tape(void **state)
{
    (void)state;
    static const int64_t wrong[][2] = {{-1, 2}, {0, 5}, {2, 2}, {3, 1}, {4, 5}};
    tl_tape *t = tl_tape_new(NULL);
    tl_streams s = tl_streams_of(14, codes, 3);
    for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
        tl_var v = tl_streams_inputs(t, &s, wrong[k][0], wrong[k][1]);
        assert_int_equal(tl_tape_status(t), TL_ERR_INDEX);
        assert_non_null(strstr(tl_tape_message(t), "of 4"));
        assert_null(tl_value(t, v).data);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

/* Stretch by stretch, the driver shows each code of each stream once, and in order. */
typedef struct reader {
    tl_streams streams;
    tl_tensor *loss; /* of any kind */
    int64_t seen, stretches;
} reader;

static tl_var record(tl_tape *t, void *self, int64_t from, int64_t to, tl_var *state)
{
    (void)state;
    reader *r = self;
    tl_array x = tl_value(t, tl_streams_inputs(t, &r->streams, from, to));
    for (int64_t step = from; step < to; step++)
        for (int64_t b = 0; b < r->streams.batch; b++, r->seen++)
            assert_int_equal(((const int64_t *)x.data)[(step - from) * r->streams.batch + b],
                             r->streams.code[b * r->streams.steps + step]);
    r->stretches++;
    return tl_leaf(t, r->loss, NULL);
}

static void stretches_go_through_the_whole_text(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    reader r = {.streams = tl_streams_of(14, codes, 2), .loss = tl_tensor_zeros(TL_F64, 0, NULL, NULL)};
    tl_bptt bptt = {.k1 = 4, .model = &r, .record = record};
    assert_int_equal(r.streams.steps, 6);
    assert_int_equal(tl_bptt_run(t, &bptt, r.streams.steps, 0, NULL), TL_OK);
    assert_int_equal(r.seen, 12);
    assert_int_equal(r.stretches, 2);
    tl_tape_free(t);
    tl_tensor_release(r.loss);
}

int main(void)
{
#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)
    const struct CMUnitTest tests[] = {
        FILE_TEST(a_text_is_read_whole_or_to_its_limit),
        FILE_TEST(a_text_that_memory_does_not_hold_is_an_error),
        FILE_TEST(what_is_no_text_is_refused_with_its_name),
        cmocka_unit_test(a_pipe_is_read_too),
        cmocka_unit_test(a_vocabulary_is_the_sorted_set_of_bytes),
        cmocka_unit_test(all_bytes_fit_into_a_vocabulary),
        cmocka_unit_test(encoding_replaces_bytes_by_codes),
        cmocka_unit_test(an_unknown_byte_changes_nothing),
        cmocka_unit_test(a_vocabulary_survives_being_written_down),
        cmocka_unit_test(damaged_vocabularies_are_refused),
        cmocka_unit_test(streams_are_equal_parts_and_targets_come_next),
        cmocka_unit_test(a_stretch_that_memory_does_not_hold_poisons_the_tape),
        cmocka_unit_test(short_texts_make_streams_without_steps),
        cmocka_unit_test(steps_that_do_not_exist_poison_the_tape),
        cmocka_unit_test(stretches_go_through_the_whole_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
