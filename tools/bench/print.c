#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

enum { NAME_WIDTH = 24, SHAPE_WIDTH = 35 };

const char *bench_number(char text[24], double value)
{
    const int power = value > 0 ? (int)floor(log10(value)) : 0;
    snprintf(text, 24, "%.*f", power >= 3 ? 0 : power < 0 ? 4 : 3 - power, value);
    return text;
}

static void heading(const struct bench_result *r)
{
    static const struct {
        const char *group, *title, *last;
    } groups[] = {
        {"ceilings", "ceilings", ""},
        {"ops", "operations", ""},
        {"layer", "layer: T, d, n, E, K", " balanced"},
        {"steps", "training", " host CPU"},
    };
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcmp(groups[i].group, r->group) == 0)
            printf("\n%-*s %8s %-8s %6s%s%s\n", NAME_WIDTH + SHAPE_WIDTH + 3, groups[i].title, "median", "", "spread",
                   i > 0 ? "  share" : "", groups[i].last);
}

static void percent(double share, int width)
{
    char text[24];
    if (isnan(share))
        return;
    snprintf(text, sizeof text, share < 0.0995 ? "%.1f%%" : "%.0f%%", 100 * share);
    printf(" %*s", width, text);
}

void bench_print(const struct bench_result *r, const char *previous_group)
{
    char number[24];
    if (strcmp(previous_group, r->group) != 0)
        heading(r);
    printf("  %-*s %-*s %8s %-8s", NAME_WIDTH, r->name, SHAPE_WIDTH, r->shape, bench_number(number, r->median), r->unit);
    percent((r->high - r->low) / r->median, 6);
    percent(r->share, 6);
    if (!isnan(r->of_balanced))
        printf(" %7.2fx", r->of_balanced);
    percent(r->host, isnan(r->share) ? 15 : 8); /* no share stands before it */
    putchar('\n');
}

void bench_print_skipped(const struct bench_result *r)
{
    printf("  %-*s %-*s left out: %s\n", NAME_WIDTH, r->name, SHAPE_WIDTH, r->shape, r->note);
}
