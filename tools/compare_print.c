#include "compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "files.h"
#include "json.h"
#include "live.h"
#include "print.h"

enum { CELL = 32 };

/* Of the column of methods; longer names are cut. */
static int name_width(const struct contest *c)
{
    enum { MOST = 100 };
    size_t width = 6;
    for (size_t i = 0; i < c->count; i++) {
        const size_t length = strlen(c->methods[i].text);
        width = length > width ? length : width;
    }
    return width < MOST ? (int)width : MOST;
}

void contest_print_head(const struct contest *c)
{
    if (!c->quiet)
        printf("\n%-*s%6s%16s%9s%12s%11s%6s  %s\n", name_width(c), "method", "seed", "step", "loss", "validation",
               "tokens/s", "dead", "left");
}

/* A number, or - where there is none. */
static const char *cell(char text[CELL], const char *format, double value)
{
    if (isfinite(value))
        snprintf(text, CELL, format, value);
    else
        snprintf(text, CELL, "-");
    return text;
}

static void format_row(char line[256], const struct contest *c, uint32_t seed, size_t method, const char *const cells[6])
{
    const int width = name_width(c);
    snprintf(line, 256, "%-*.*s%6" PRIu64 "%16s%9s%12s%11s%6s  %s", width, width, c->methods[method].text,
             c->first_seed + seed, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]);
}

void contest_print_step(const struct contest *c, uint32_t seed, size_t method, const struct progress *p,
                        const struct vkmoe_step_report *report, bool stays)
{
    char line[256], step[CELL], loss[CELL], validation[CELL], speed[16], dead[CELL] = "-", left[16];
    if (c->quiet || report->step == 0 || (!c->terminal && !stays))
        return;
    const double done = c->predicted_done + (double)(report->step - p->first_step) * c->methods[method].step_seconds;
    /* What was predicted from bare steps grows by what validations and evaluations have cost so far. */
    const double slower = done > 0.0 ? (clock_seconds() - c->started) / done : 1.0;
    snprintf(step, sizeof step, "%" PRIu64 "/%" PRIu64, report->step, p->steps);
    if (!c->methods[method].dense)
        snprintf(dead, sizeof dead, "%" PRIu64, dead_experts(report));
    format_row(line, c, seed, method, (const char *const[]){
        step, cell(loss, "%.4f", report->loss), cell(validation, "%.4f", p->validation),
        format_count(speed, report->tokens_per_second), dead,
        format_seconds(left, fmax(c->predicted - done, 0.0) * slower) });
    if (c->terminal) {
        live_show(line);
    } else {
        puts(line);
        fflush(stdout);
    }
}

/* Numbers of a run, as evaluation.json has them. */
enum figure { LOSS, PERPLEXITY, PES, SEU, DEAD, ENTROPY, FIGURES };

static bool load_figures(const char *dir, double figures[FIGURES])
{
    char *path = path_in(dir, EVALUATION_FILE);
    json_t *root = path ? json_file_load(path, NULL) : NULL;
    const json_t *layers = json_object_get(root, "layers");
    const size_t count = json_array_size(layers);
    figures[LOSS] = json_member(root, "loss");
    figures[PERPLEXITY] = json_member(root, "perplexity");
    figures[PES] = NAN;
    figures[SEU] = figures[DEAD] = figures[ENTROPY] = count > 0 ? 0.0 : NAN;
    for (size_t l = 0; l < count; l++) {
        const json_t *layer = json_array_get(layers, l);
        figures[PES] = fmin(figures[PES], json_member(layer, "pes"));
        figures[SEU] += json_member(layer, "seu") / (double)count;
        figures[ENTROPY] += json_member(layer, "entropy") / (double)count;
        figures[DEAD] += json_member(layer, "dead");
    }
    const bool fine = root;
    json_decref(root);
    free(path);
    return fine;
}

void contest_print_done(const struct contest *c, uint32_t seed, size_t method, bool again)
{
    char line[256], step[CELL], validation[CELL], dead[CELL];
    double figures[FIGURES];
    if (c->quiet || !load_figures(contest_entry(c, seed, method)->dir, figures))
        return;
    const uint32_t steps = c->methods[method].train.steps;
    snprintf(step, sizeof step, "%" PRIu32 "/%" PRIu32, steps, steps);
    format_row(line, c, seed, method, (const char *const[]){
        step, "-", cell(validation, "%.4f", figures[LOSS]), "-",
        c->methods[method].dense ? "-" : cell(dead, "%.0f", figures[DEAD]), again ? "was done" : "done" });
    live_clear();
    puts(line);
    fflush(stdout);
}

/* "mean ± standard deviation" in a column; the sign is two bytes and one place. */
static void print_spread(const double *values, size_t count, int width, int digits)
{
    char text[80];
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < count; i++)
        mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        square += (values[i] - mean) * (values[i] - mean);
    if (!isfinite(mean))
        snprintf(text, sizeof text, "-");
    else if (count == 1)
        snprintf(text, sizeof text, "%.*f", digits, mean);
    else
        snprintf(text, sizeof text, "%.*f ± %.*f", digits, mean, digits, sqrt(square / (double)(count - 1)));
    printf("%*s", isfinite(mean) && count > 1 ? width + 1 : width, text);
}

bool contest_print_summary(const struct contest *c)
{
    static const struct {
        const char *name;
        int width, digits;
    } columns[FIGURES] = {
        [LOSS] = { "validation", 18, 4 }, [PERPLEXITY] = { "perplexity", 20, 3 }, [PES] = { "least PES", 18, 4 },
        [SEU] = { "SEU", 16, 3 }, [DEAD] = { "dead", 14, 1 }, [ENTROPY] = { "entropy", 16, 3 },
    };
    double *values = malloc((size_t)c->seeds * FIGURES * sizeof *values);
    if (!values) {
        message("out of memory");
        return false;
    }
    bool fine = true;
    if (!c->quiet) {
        printf("\n%-*s", name_width(c), "method");
        for (int f = 0; f < FIGURES; f++)
            printf("%*s", columns[f].width, columns[f].name);
        puts("  step time");
    }
    for (size_t m = 0; !c->quiet && fine && m < c->count; m++) {
        for (uint32_t seed = 0; fine && seed < c->seeds; seed++) {
            double figures[FIGURES];
            fine = load_figures(contest_entry(c, seed, m)->dir, figures);
            for (int f = 0; f < FIGURES; f++)
                values[(size_t)f * c->seeds + seed] = c->methods[m].dense && f > PERPLEXITY ? NAN : figures[f];
        }
        if (!fine)
            break;
        printf("%-*.*s", name_width(c), name_width(c), c->methods[m].text);
        for (int f = 0; f < FIGURES; f++)
            print_spread(values + (size_t)f * c->seeds, c->seeds, columns[f].width, columns[f].digits);
        printf("  %.3f of none's\n", c->methods[m].step_ratio);
    }
    free(values);
    return fine;
}
