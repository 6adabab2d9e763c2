/* What the progress line says, and that it can be drawn over. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/progress.h"

typedef struct page {
    char *text;
    size_t length;
    FILE *stream;
} page;

static void open_page(page *p)
{
    p->stream = open_memstream(&p->text, &p->length);
    assert_non_null(p->stream);
}

static const char *read_page(page *p)
{
    fflush(p->stream);
    return p->text;
}

static void close_page(page *p)
{
    fclose(p->stream);
    free(p->text);
}

static void counts_have_commas(void **state)
{
    (void)state;
    static const struct {
        int64_t count;
        const char *text;
    } cases[] = {{0, "0"},
                 {7, "7"},
                 {999, "999"},
                 {1000, "1,000"},
                 {-1000, "-1,000"},
                 {-999, "-999"},
                 {51234, "51,234"},
                 {100000, "100,000"},
                 {INT64_MAX, "9,223,372,036,854,775,807"},
                 {INT64_MIN, "-9,223,372,036,854,775,808"}};
    char text[TL_NUMBER_TEXT];
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        assert_string_equal(tl_count_text(cases[k].count, text), cases[k].text);
}

static void durations_have_hours_when_they_need_them(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0:00"},           {0.6, "0:01"},   {59.4, "0:59"},    {59.6, "1:00"},
                 {72, "1:12"},          {3599, "59:59"}, {3600, "1:00:00"}, {7384, "2:03:04"},
                 {360000, "100:00:00"}, {-1, "?"},       {1.0 / 0.0, "?"},  {0.0 / 0.0, "?"}};
    char text[TL_NUMBER_TEXT];
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        assert_string_equal(tl_duration_text(cases[k].seconds, text), cases[k].text);
}

static void elsewhere_than_on_a_terminal_there_are_plain_lines(void **state)
{
    (void)state;
    page p;
    open_page(&p);
    tl_progress progress = tl_progress_begin(p.stream, "chars", 200);
    assert_false(progress.bar);
    tl_progress_show(&progress, 10, "too early");
    assert_string_equal(read_page(&p), "");
    progress.interval = 0;
    progress.began -= 10; /* ten seconds ago, near enough */
    tl_progress_show(&progress, 100, "epoch %d", 3);
    assert_string_equal(read_page(&p), " 50%  epoch 3  9 chars/s  0:10 left\n");
    tl_progress_show(&progress, 200, "done");
    assert_non_null(strstr(read_page(&p), "\n100%  done  19 chars/s  0:00 left\n"));
    tl_progress_clear(&progress);
    assert_null(strchr(read_page(&p), '\r'));
    close_page(&p);
}

static void a_bar_fits_its_terminal_and_is_wiped_away(void **state)
{
    (void)state;
    page p;
    open_page(&p);
    tl_progress progress = tl_progress_begin(p.stream, "chars", 1000);
    progress.bar = true;
    progress.interval = 0;
    progress.began -= 100;
    tl_progress_show(&progress, 250, "epoch 1/4");
    assert_string_equal(
        read_page(&p),
        "\repoch 1/4 [=========>                              ]  25%  2 chars/s  5:00 left");
    tl_progress_show(&progress, 1000, "short");
    assert_null(strchr(strrchr(read_page(&p), '\r'), '>'));
    size_t before = strlen(read_page(&p));
    tl_progress_clear(&progress);
    const char *wiped = read_page(&p) + before;
    assert_int_equal(strspn(wiped + 1, " "), strlen(wiped) - 2);
    assert_true(wiped[0] == '\r' && wiped[strlen(wiped) - 1] == '\r');
    tl_progress_clear(&progress);
    assert_int_equal(strlen(read_page(&p)), before + strlen(wiped)); /* once is enough */
    close_page(&p);
}

static void long_news_are_cut(void **state)
{
    (void)state;
    page p;
    char news[2000];
    memset(news, 'x', sizeof news);
    open_page(&p);
    tl_progress progress = tl_progress_begin(p.stream, "chars", 1000);
    progress.bar = true;
    progress.interval = 0;
    tl_progress_show(&progress, 1, "%.*s", (int)sizeof news, news);
    assert_int_equal(strlen(read_page(&p)), 80);
    close_page(&p);
}

static void odd_amounts_do_no_harm(void **state)
{
    (void)state;
    static const int64_t amounts[][2] = {{0, 10}, {20, 10}, {-5, 10}, {5, 0}, {INT64_MAX, 1}};
    page p;
    open_page(&p);
    for (size_t k = 0; k < sizeof amounts / sizeof amounts[0]; k++)
        for (int bar = 0; bar < 2; bar++) {
            tl_progress progress = tl_progress_begin(p.stream, "chars", amounts[k][1]);
            progress.bar = bar;
            progress.interval = 0;
            tl_progress_show(&progress, amounts[k][0], "news");
            tl_progress_clear(&progress);
        }
    assert_non_null(strstr(read_page(&p), "  0%  news"));
    assert_non_null(strstr(read_page(&p), "100%  news"));
    close_page(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_commas),
        cmocka_unit_test(durations_have_hours_when_they_need_them),
        cmocka_unit_test(elsewhere_than_on_a_terminal_there_are_plain_lines),
        cmocka_unit_test(a_bar_fits_its_terminal_and_is_wiped_away),
        cmocka_unit_test(long_news_are_cut),
        cmocka_unit_test(odd_amounts_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
