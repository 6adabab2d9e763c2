#include "nn/progress.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* ---- numbers for people ----------------------------------------------------------------- */

double tl_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

const char *tl_count_text(int64_t count, char text[TL_NUMBER_TEXT])
{
    char plain[TL_NUMBER_TEXT], *out = text;
    int length = snprintf(plain, sizeof plain, "%lld", (long long)count);
    for (int i = 0; i < length; i++) {
        *out++ = plain[i];
        if (plain[i] != '-' && i + 1 < length && (length - i - 1) % 3 == 0)
            *out++ = ',';
    }
    *out = '\0';
    return text;
}

const char *tl_duration_text(double seconds, char text[TL_NUMBER_TEXT])
{
    if (!(seconds >= 0 && seconds < 1e9)) {
        snprintf(text, TL_NUMBER_TEXT, "?");
        return text;
    }
    long whole = lround(seconds), hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours)
        snprintf(text, TL_NUMBER_TEXT, "%ld:%02ld:%02ld", hours, minutes, whole % 60);
    else
        snprintf(text, TL_NUMBER_TEXT, "%ld:%02ld", minutes, whole % 60);
    return text;
}

/* ---- the line --------------------------------------------------------------------------- */

enum { LONGEST = 512 }; /* columns of a line */

tl_progress tl_progress_begin(FILE *stream, const char *unit, int64_t total)
{
    int descriptor = fileno(stream); /* -1: a stream that is no file */
    bool bar = descriptor >= 0 && isatty(descriptor);
    double now = tl_seconds();
    return (tl_progress){.stream = stream,
                         .unit = unit,
                         .total = total,
                         .bar = bar,
                         .interval = bar ? 0.1 : 10,
                         .began = now,
                         .shown = now};
}

static int columns_of(FILE *stream)
{
    struct winsize size;
    int descriptor = fileno(stream);
    if (descriptor < 0 || ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col < 2)
        return 80;
    return size.ws_col < LONGEST ? size.ws_col : LONGEST - 1;
}

/* " [====>     ] " as wide as there is room, between nothing and 40 columns of bar. */
static void write_bar(char *text, int room, double part)
{
    enum { FRAME = 4, NARROWEST = 6, WIDEST = 40 };
    int width = room - FRAME < WIDEST ? room - FRAME : WIDEST;
    if (width < NARROWEST) {
        strcpy(text, "  ");
        return;
    }
    int filled = (int)(part * width);
    memcpy(text, " [", 2);
    memset(text + 2, ' ', (size_t)width);
    memset(text + 2, '=', (size_t)filled);
    if (filled > 0 && filled < width)
        text[2 + filled - 1] = '>';
    strcpy(text + 2 + width, "] ");
}

/* The line is cut to the terminal's width, so that it can be drawn over. */
static void draw_bar(tl_progress *p, double part, const char *news, const char *speed)
{
    char bar[64], line[2 * LONGEST];
    int columns = columns_of(p->stream) - 1;
    int percent = (int)(100 * part);
    write_bar(bar, columns - (int)strlen(news) - (int)strlen(speed) - 4, part);
    int length = snprintf(line, sizeof line, "%s%s%3d%%%s", news, bar, percent, speed);
    length = length < columns ? length : columns;
    fprintf(p->stream, "\r%.*s%*s", length, line, p->drawn > length ? p->drawn - length : 0, "");
    fflush(p->stream);
    p->drawn = length;
}

void tl_progress_show(tl_progress *p, int64_t done, const char *format, ...)
{
    double now = tl_seconds(), elapsed = now - p->began;
    if (now - p->shown < p->interval || p->total <= 0)
        return;
    p->shown = now;
    char news[LONGEST / 2], speed[LONGEST / 2], rate[TL_NUMBER_TEXT] = "?", left[TL_NUMBER_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(news, sizeof news, format, arguments);
    va_end(arguments);
    double part = fmin(1, fmax(0, (double)done / (double)p->total));
    if (elapsed > 0)
        tl_count_text((int64_t)((double)done / elapsed), rate);
    tl_duration_text(elapsed * (1 - part) / part, left);
    snprintf(speed, sizeof speed, "  %s %.32s/s  %s left", rate, p->unit, left);
    if (p->bar)
        draw_bar(p, part, news, speed);
    else
        fprintf(p->stream, "%3d%%  %s%s\n", (int)(100 * part), news, speed);
}

void tl_progress_clear(tl_progress *p)
{
    if (!p->bar || p->drawn == 0)
        return;
    fprintf(p->stream, "\r%*s\r", p->drawn, "");
    fflush(p->stream);
    p->drawn = 0;
}
