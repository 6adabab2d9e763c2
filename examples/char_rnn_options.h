/* char_rnn_options.h - the command line of char_rnn: one list makes fields, parser and help. */
#ifndef CHAR_RNN_OPTIONS_H
#define CHAR_RNN_OPTIONS_H

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

TL_PRINTF(1, 2) static bool complain(const char *format, ...) /* false, for `return complain(...)` */
{
    va_list arguments;
    va_start(arguments, format);
    fputs("char_rnn: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return false;
}

typedef const char *choice; /* of a cell */
typedef const char *string;
typedef int64_t whole;
typedef double real;

enum { MOST_LAYERS = 16, MOST_STATES = MOST_LAYERS * TL_MOST_STATES };

/* type, name, default, least, most, help */
#define OPTION_LIST(X)                                                                                 \
    X(choice, cell, "lstm", 0, 0, "rnn, lstm or gru")                                                  \
    X(whole, layers, 1, 1, MOST_LAYERS, "recurrent layers, one above the other")                       \
    X(whole, hidden, 256, 1, 16384, "size of each layer's state")                                      \
    X(whole, embed, 64, 1, 16384, "size of a character's embedding")                                   \
    X(whole, batch, 32, 1, 65536, "places of the text that are read side by side")                     \
    X(whole, k1, 64, 1, 1000000, "steps from one update to the next")                                  \
    X(whole, epochs, 5, 0, 1000000, "times to go through the training text; 0: only look and write")   \
    X(real, lr, 2e-3, 1e-12, 1e38, "learning rate of Adam")                                            \
    X(real, clip, 5, 0, 1e12, "largest norm of the gradient; 0: any")                                  \
    X(whole, seed, 1, 0, 1e15, "of initial parameters and of the sample")                              \
    X(real, valid, 0.05, 1e-6, 0.49, "part of the text to validate on, and as much to test on")        \
    X(whole, limit, 0, 0, 1e15, "use only so many bytes of the text; 0: all")                          \
    X(whole, threads, 0, 0, 256, "0: one for each processor")                                          \
    X(string, save, NULL, 0, 0, "file for the model (safetensors)")                                    \
    X(string, load, NULL, 0, 0, "begin with the model of this file")                                   \
    X(whole, sample, 500, 0, 1e15, "characters to write at the end")                                   \
    X(real, temperature, 1, 0, 1000, "of the sample: below 1 more cautious, 0: always the likeliest")  \
    X(string, prompt, NULL, 0, 0, "what the sample begins with")

enum {
#define X(type, name, ...) OPTION_##name,
    OPTION_LIST(X)
#undef X
        OPTIONS
};

typedef struct options {
#define X(type, name, ...) type name;
    OPTION_LIST(X)
#undef X
    const char *path; /* of the text; NULL: none was given */
    bool given[OPTIONS];
} options;

typedef struct row {
    const char *name, *help;
    size_t offset; /* in options */
    double least, most;
    bool (*set)(const struct row *row, const char *value, void *target);
    void (*show)(const void *target, char text[TL_NUMBER_TEXT]);
} row;

static const struct {
    const char *name;
    const tl_cell_type *type;
} cells[] = {{"rnn", &tl_elman_cell}, {"lstm", &tl_lstm_cell}, {"gru", &tl_gru_cell}};

enum { CELLS = sizeof cells / sizeof cells[0] };

static bool set_choice(const row *row, const char *value, void *target)
{
    for (int i = 0; i < CELLS; i++)
        if (strcmp(value, cells[i].name) == 0) {
            *(choice *)target = cells[i].name;
            return true;
        }
    return complain("--%s wants %s, not '%s'", row->name, row->help, value);
}

static bool set_string(const row *row, const char *value, void *target)
{
    (void)row;
    *(string *)target = value;
    return true;
}

static bool set_whole(const row *row, const char *value, void *target)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end || errno || (double)number < row->least || (double)number > row->most)
        return complain("--%s wants a whole number from %.15g to %.15g, not '%s'", row->name,
                        row->least, row->most, value);
    *(whole *)target = number;
    return true;
}

static bool set_real(const row *row, const char *value, void *target)
{
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !(number >= row->least && number <= row->most))
        return complain("--%s wants a number from %g to %g, not '%s'", row->name, row->least, row->most,
                        value);
    *(real *)target = number;
    return true;
}

static void show_string(const void *target, char text[TL_NUMBER_TEXT])
{
    const char *value = *(const string *)target;
    snprintf(text, TL_NUMBER_TEXT, "%s", value ? value : "");
}

static void show_choice(const void *target, char text[TL_NUMBER_TEXT])
{
    show_string(target, text);
}

static void show_whole(const void *target, char text[TL_NUMBER_TEXT])
{
    snprintf(text, TL_NUMBER_TEXT, "%lld", (long long)*(const whole *)target);
}

static void show_real(const void *target, char text[TL_NUMBER_TEXT])
{
    snprintf(text, TL_NUMBER_TEXT, "%g", *(const real *)target);
}

static const row rows[OPTIONS] = {
#define X(type, name, initial, least, most, help)                                                      \
    {#name, help, offsetof(options, name), least, most, set_##type, show_##type},
    OPTION_LIST(X)
#undef X
};

static bool set_option(options *o, int which, const char *value)
{
    return rows[which].set(&rows[which], value, (char *)o + rows[which].offset);
}

static void show_option(const options *o, int which, char text[TL_NUMBER_TEXT])
{
    rows[which].show((const char *)o + rows[which].offset, text);
}

static const options defaults = {
#define X(type, name, initial, ...) .name = initial,
    OPTION_LIST(X)
#undef X
};

static void print_help(void)
{
    puts("Usage: char_rnn [OPTION]... [TEXT]\n"
         "Learns to write like TEXT, any file, and shows what it has learnt.\n"
         "Without TEXT: from corpus.txt beside the program, Tapeloop's own sources.\n");
    for (int i = 0; i < OPTIONS; i++) {
        char initial[TL_NUMBER_TEXT];
        show_option(&defaults, i, initial);
        printf("  --%-12s %s", rows[i].name, rows[i].help);
        if (*initial)
            printf(" [%s]", initial);
        putchar('\n');
    }
    puts("  --help         this");
}

/* False when that was all: `*code` is then what to exit with. */
static bool parse_options(options *o, int argc, char **argv, int *code)
{
    *o = defaults;
    struct option known[OPTIONS + 2] = {[OPTIONS] = {"help", no_argument, NULL, 'h'}};
    for (int i = 0; i < OPTIONS; i++)
        known[i] = (struct option){rows[i].name, required_argument, NULL, 256 + i};
    *code = EXIT_FAILURE;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", known, NULL)) != -1;) {
        if (c == 'h') {
            print_help();
            *code = EXIT_SUCCESS;
            return false;
        }
        if (c == ':')
            return complain("option %s wants a value; see --help", argv[optind - 1]);
        if (c == '?' && optopt && optopt != 'h') /* of one letter */
            return complain("unknown option -%c; see --help", optopt);
        if (c == '?')
            return complain("unknown option %s; see --help", argv[optind - 1]);
        if (!set_option(o, c - 256, optarg))
            return false;
        o->given[c - 256] = true;
    }
    if (argc - optind > 1)
        return complain("one text at a time, not also %s; see --help", argv[optind + 1]);
    o->path = argv[optind];
    return true;
}

#endif
