/* flow_print.c - a gradient flow as words, a table, CSV, and scripts for gnuplot. */
#include <inttypes.h>
#include <math.h>

#include "nn/gradient_flow.h"

static tl_status finish(FILE *stream)
{
    return fflush(stream) || ferror(stream) ? TL_ERR_IO : TL_OK;
}

/* ---- words ------------------------------------------------------------------------------ */

const char *tl_flow_verdict_name(tl_flow_verdict verdict)
{
    switch (verdict) {
    case TL_FLOW_SILENT:
        return "silent";
    case TL_FLOW_HEALTHY:
        return "healthy";
    case TL_FLOW_VANISHING:
        return "vanishing";
    case TL_FLOW_EXPLODING:
        return "exploding";
    case TL_FLOW_NOT_FINITE:
        return "not finite";
    }
    return "?";
}

const char *tl_flow_words(const tl_gradient_flow *flow, const tl_flow_trace *trace,
                          char text[TL_FLOW_TEXT])
{
    const char *name = tl_flow_verdict_name(trace->verdict);
    char against[64];
    if (trace->verdict == TL_FLOW_SILENT) {
        snprintf(text, TL_FLOW_TEXT, "%s: no gradient arrived, or it had no step to go", name);
    } else if (trace->verdict == TL_FLOW_NOT_FINITE) {
        snprintf(text, TL_FLOW_TEXT, "%s: NaN or infinite at, or one step before, step %" PRId64, name,
                 trace->at);
    } else if (trace->at >= 0) {
        snprintf(text, TL_FLOW_TEXT, "%s: nothing came through from step %" PRId64 " to step %" PRId64,
                 name, trace->at + 1, trace->at);
    } else {
        if (trace->verdict == TL_FLOW_HEALTHY)
            snprintf(against, sizeof against, "between %g and %g", flow->vanishing, flow->exploding);
        else
            snprintf(against, sizeof against, "%s %g",
                     trace->verdict == TL_FLOW_VANISHING ? "below" : "above",
                     trace->verdict == TL_FLOW_VANISHING ? flow->vanishing : flow->exploding);
        snprintf(
            text, TL_FLOW_TEXT,
            "%s: a gradient is multiplied by %.4g at each step back (%s), by %.3g over all %" PRId64,
            name, trace->rate, against, trace->left, trace->fitted);
    }
    return text;
}

enum { TITLE_TEXT = 96 };

static const char *title_of(const tl_gradient_flow *flow, const tl_flow_trace *trace,
                            char text[TITLE_TEXT])
{
    const char *name = flow->cell && trace->state >= 0 ? flow->cell->states[trace->state].name : NULL;
    int used = snprintf(text, TITLE_TEXT, "layer %d, ", trace->layer);
    if (trace->direction)
        used += snprintf(text + used, (size_t)(TITLE_TEXT - used), "backward, ");
    if (name)
        snprintf(text + used, (size_t)(TITLE_TEXT - used), "state %s", name);
    else if (trace->state >= 0)
        snprintf(text + used, (size_t)(TITLE_TEXT - used), "state %d", trace->state);
    else
        snprintf(text + used, (size_t)(TITLE_TEXT - used), "all states");
    return text;
}

/* ---- a table ---------------------------------------------------------------------------- */

enum { BAR = 24, CELL_TEXT = 24 };

/* log10 of the smallest and largest norm that is neither 0 nor infinite. */
static bool range_of(const double *x, int64_t count, double *low, double *high)
{
    *low = (double)INFINITY;
    *high = -(double)INFINITY;
    for (int64_t i = 0; i < count; i++) {
        if (!(x[i] > 0) || !isfinite(x[i]))
            continue;
        *low = fmin(*low, log10(x[i]));
        *high = fmax(*high, log10(x[i]));
    }
    return *low <= *high;
}

/* Longer for larger; one mark for the smallest, none for 0. At least a decade is the whole length. */
static void draw_bar(double x, double low, double high, char bar[BAR + 1])
{
    int length = 0;
    double span = high - low < 1 ? 1 : high - low;
    if (isinf(x))
        length = BAR;
    else if (x > 0)
        length = 1 + (int)lrint((BAR - 1) * (1 - (high - log10(x)) / span));
    for (int i = 0; i < BAR; i++)
        bar[i] = i < length ? '#' : ' ';
    bar[BAR] = 0;
}

static const char *number(double x, char text[CELL_TEXT])
{
    if (isnan(x))
        snprintf(text, CELL_TEXT, "%9s", "-");
    else
        snprintf(text, CELL_TEXT, "%9.3g", x);
    return text;
}

/* A product over many steps as its logarithm, which neither over- nor underflows. */
static double add_log10(double sum, double factor)
{
    return isnan(factor) ? (double)NAN : sum + log10(factor);
}

/* What is of the step from n to n + 1 stands in the line of n. */
static void print_row(FILE *stream, const tl_flow_trace *trace, int64_t n, double low, double high,
                      const double product[2])
{
    const double column[] = {trace->carried[n] / trace->norm[n + 1],
                             trace->frobenius[n],
                             trace->spectral[n],
                             trace->bound[n],
                             trace->reach[n],
                             product[0],
                             product[1]};
    char text[CELL_TEXT], bar[BAR + 1];
    draw_bar(trace->norm[n], low, high, bar);
    fprintf(stream, "%6" PRId64 " %s |%s", n, number(trace->norm[n], text), bar);
    for (size_t k = 0; k < sizeof column / sizeof *column; k++)
        fprintf(stream, " %s", number(column[k], text));
    fprintf(stream, "\n");
}

static void print_last(FILE *stream, const tl_flow_trace *trace, int64_t steps, double low, double high)
{
    char text[CELL_TEXT], bar[BAR + 1];
    draw_bar(trace->norm[steps], low, high, bar);
    fprintf(stream, "%6" PRId64 " %s |%s\n", steps, number(trace->norm[steps], text), bar);
}

static void print_trace(const tl_gradient_flow *flow, const tl_flow_trace *trace, int64_t every,
                        FILE *stream)
{
    char title[TITLE_TEXT], text[TL_FLOW_TEXT];
    double low, high, product[2] = {0, 0};
    fprintf(stream, "%s: %s\n", title_of(flow, trace, title), tl_flow_words(flow, trace, text));
    if (trace->first > flow->steps)
        return;
    range_of(trace->norm, flow->steps + 1, &low, &high);
    fprintf(stream, "%6s %9s  %-*s %9s %9s %9s %9s %9s %9s %9s\n", "step", "|dL/ds|", BAR, "", "ratio",
            "|J|_F", "|J|_2", "bound", "lg reach", "lg P|J|_2", "lg Pbound");
    print_last(stream, trace, flow->steps, low, high);
    for (int64_t n = flow->steps - 1; n >= trace->first; n--) {
        product[0] = add_log10(product[0], trace->spectral[n]);
        product[1] = add_log10(product[1], trace->bound[n]);
        if ((flow->steps - n) % every == 0 || n == trace->first)
            print_row(stream, trace, n, low, high, product);
    }
    if (trace->unconverged)
        fprintf(stream,
                "       (|J|_2 of %d steps may be larger by a little: the iteration was cut off)\n",
                trace->unconverged);
}

tl_status tl_flow_print(const tl_gradient_flow *flow, int rows, FILE *stream)
{
    int64_t every = rows > 0 ? (flow->steps + rows - 1) / rows : 1;
    for (int k = 0; k < flow->count; k++) {
        if (k)
            fprintf(stream, "\n");
        print_trace(flow, &flow->trace[k], every < 1 ? 1 : every, stream);
    }
    return finish(stream);
}

/* ---- CSV -------------------------------------------------------------------------------- */

static void put_field(FILE *stream, const double *x, int64_t n, int64_t count)
{
    if (n < count && !isnan(x[n]))
        fprintf(stream, ",%.17g", x[n]);
    else
        fprintf(stream, ",");
}

tl_status tl_flow_csv(const tl_gradient_flow *flow, FILE *stream)
{
    fprintf(stream, "layer,direction,state,step,norm,carried,reach,frobenius,spectral,bound\n");
    for (int k = 0; k < flow->count; k++) {
        const tl_flow_trace *trace = &flow->trace[k];
        for (int64_t n = 0; n <= flow->steps; n++) {
            if (trace->state >= 0)
                fprintf(stream, "%d,%d,%d,%" PRId64, trace->layer, trace->direction, trace->state, n);
            else
                fprintf(stream, "%d,%d,all,%" PRId64, trace->layer, trace->direction, n);
            put_field(stream, trace->norm, n, flow->steps + 1);
            put_field(stream, trace->carried, n, flow->steps);
            put_field(stream, trace->reach, n, flow->steps + 1);
            put_field(stream, trace->frobenius, n, flow->steps);
            put_field(stream, trace->spectral, n, flow->steps);
            put_field(stream, trace->bound, n, flow->steps);
            fprintf(stream, "\n");
        }
    }
    return finish(stream);
}

/* ---- pictures --------------------------------------------------------------------------- */

static void put_point(FILE *stream, double x)
{
    if (isfinite(x))
        fprintf(stream, " %.17g", x);
    else
        fprintf(stream, " NaN");
}

tl_status tl_flow_plot(const tl_gradient_flow *flow, FILE *stream)
{
    char title[TITLE_TEXT];
    for (int k = 0; k < flow->count; k++) {
        fprintf(stream, "$trace%d << EOD\n", k);
        for (int64_t n = 0; n <= flow->steps; n++) {
            double x = flow->trace[k].norm[n];
            fprintf(stream, "%" PRId64, n);
            put_point(stream, x > 0 ? x : (double)NAN); /* 0 is nowhere on a logarithmic scale */
            fprintf(stream, "\n");
        }
        fprintf(stream, "EOD\n");
    }
    fprintf(stream, "set terminal svg size 900,540 dynamic background 'white'\n"
                    "set datafile missing 'NaN'\n"
                    "set logscale y\nset format y '10^{%%T}'\nset grid\nset key outside below\n"
                    "set xlabel 'step'\nset ylabel '|dL/ds|'\nplot");
    for (int k = 0; k < flow->count; k++)
        fprintf(stream, "%s $trace%d using 1:2 with linespoints pointsize 0.4 title '%s: %s'",
                k ? "," : "", k, title_of(flow, &flow->trace[k], title),
                tl_flow_verdict_name(flow->trace[k].verdict));
    fprintf(stream, "\n");
    return finish(stream);
}

tl_status tl_flow_plot_units(const tl_gradient_flow *flow, const tl_flow_trace *trace, FILE *stream)
{
    char title[TITLE_TEXT];
    fprintf(stream, "$units << EOD\n");
    for (int64_t unit = 0; unit < trace->units; unit++) {
        for (int64_t n = 0; n <= flow->steps; n++) {
            double x = trace->unit[n * trace->units + unit];
            put_point(stream, x > 0 ? log10(x) : (double)NAN);
        }
        fprintf(stream, "\n");
    }
    fprintf(stream,
            "EOD\n"
            "set terminal svg size 900,540 dynamic background 'white'\n"
            "set datafile missing 'NaN'\n"
            "set title '%s: log10 |dL/ds|'\nset xlabel 'step'\nset ylabel 'unit'\n"
            "set xrange [-0.5:%" PRId64 ".5]\nset yrange [-0.5:%" PRId64 ".5]\n"
            "set palette defined (0 'white', 1 'gold', 2 'red', 3 'black')\n"
            "plot $units matrix with image notitle\n",
            title_of(flow, trace, title), flow->steps, trace->units - 1);
    return finish(stream);
}
