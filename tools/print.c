#include "print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common.h"
#include "live.h"

void print_device(const struct vkmoe_device_info *device)
{
    printf("device      %s (%s)\n", device->name, device->driver);
}

void print_data(const struct vkmoe_data_info *data)
{
    char train[16], valid[16];
    printf("data        %s tokens to train on, %s held out, from %" PRIu64 " file%s",
           format_count(train, (double)data->train_tokens), format_count(valid, (double)data->valid_tokens),
           data->files, data->files == 1 ? "" : "s");
    if (data->files_skipped > 0)
        printf(" (%" PRIu64 " skipped: not text)", data->files_skipped);
    putchar('\n');
}

void print_model(const struct vkmoe_model_config *model, const struct vkmoe_train_config *train,
                 const struct vkmoe_estimate *estimate)
{
    char a[16], b[16], c[16], d[16], e[16];
    const uint32_t accum = train->accum > 0 ? train->accum : 1;
    char balance[VKMOE_BALANCE_TEXT];
    printf("model       %" PRIu32 " layers of width %" PRIu32 ", %" PRIu32 " heads, ", model->layers, model->d_model,
           model->heads);
    if (model->experts == 1)
        printf("dense: one expert of width %" PRIu32, model->d_expert);
    else
        printf("%" PRIu32 " experts of width %" PRIu32 ", %" PRIu32 " active", model->experts, model->d_expert,
               model->top_k);
    if (model->d_shared > 0)
        printf(", one of width %" PRIu32 " shared", model->d_shared);
    printf("; balance %s\n", vkmoe_balance_format(&train->balance, balance));
    printf("parameters  %s in all, %s active for a token\n", format_count(a, (double)estimate->params_total),
           format_count(b, (double)estimate->params_active));
    printf("step        %" PRIu32 " x %" PRIu32 " contexts of %" PRIu32 " tokens; %" PRIu32 " steps\n", accum,
           train->batch, model->seq, train->steps);
    printf("memory      parameters and optimizer %s + activations %s + staging %s = %s of %s\n",
           format_bytes(a, estimate->param_bytes), format_bytes(b, estimate->activation_bytes),
           format_bytes(c, estimate->staging_bytes), format_bytes(d, estimate->total_bytes),
           format_bytes(e, estimate->available_bytes));
}

/* Rows of the busiest expert over the mean of its layer, averaged over the layers: 1 is perfect balance. */
static double load_spread(const struct vkmoe_step_report *report)
{
    double sum = 0.0;
    for (uint32_t l = 0; l < report->layers; l++) {
        const uint32_t *rows = report->expert_tokens + (size_t)l * report->experts;
        double total = 0.0, most = 0.0;
        for (uint32_t e = 0; e < report->experts; e++) {
            total += rows[e];
            most = fmax(most, rows[e]);
        }
        sum += total > 0.0 ? most * report->experts / total : 1.0;
    }
    return report->layers > 0 ? sum / report->layers : 1.0;
}

uint64_t dead_experts(const struct vkmoe_step_report *report)
{
    uint64_t dead = 0;
    for (size_t i = 0; i < (size_t)report->layers * report->experts; i++)
        dead += report->expert_tokens[i] == 0;
    return dead;
}

/* What matters most comes first: a narrow terminal shows only the beginning. */
static void format_step(char line[192], const struct progress *p, const struct vkmoe_step_report *report)
{
    char speed[16], left[16], validation[32] = "", dead[32] = "";
    const double done = (double)(report->step - p->first_step), elapsed = clock_seconds() - p->started;
    const double to_go = report->step < p->steps ? (double)(p->steps - report->step) : 0.0;
    const uint64_t idle = dead_experts(report);
    if (!isnan(p->validation))
        snprintf(validation, sizeof validation, "  validation %.4f", p->validation);
    if (idle > 0)
        snprintf(dead, sizeof dead, "  dead %" PRIu64, idle);
    snprintf(line, 192, "step %" PRIu64 "/%" PRIu64 "  %s left  loss %.4f%s  %s tokens/s  load max/mean %.2f%s",
             report->step, p->steps, format_seconds(left, done > 0.0 ? elapsed / done * to_go : 0.0), report->loss,
             validation, format_count(speed, report->tokens_per_second), load_spread(report), dead);
}

static void show_live(void *user, const struct progress *p, const struct vkmoe_step_report *report)
{
    char line[192];
    (void)user;
    if (p->quiet || !p->terminal || report->step == 0)
        return;
    format_step(line, p, report);
    live_show(line);
}

static void show_line(void *user, const struct progress *p, const struct vkmoe_step_report *report)
{
    char line[192];
    (void)user;
    if (p->quiet || report->step == 0)
        return;
    format_step(line, p, report);
    live_clear();
    puts(line);
    fflush(stdout);
}

const struct run_output train_output = { .live = show_live, .line = show_line };

const char *bar(double eighths)
{
    static const char bars[][4] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    return bars[(size_t)fmin(fmax(eighths + 0.5, 1.0), 8.0) - 1];
}

static void print_load(const struct progress *p, const struct vkmoe_step_report *report)
{
    printf("load of the experts over the last %" PRIu64 " steps, a bar each; half height is an even share\n",
           p->load_steps);
    for (uint32_t l = 0; l < report->layers; l++) {
        const uint64_t *rows = p->load + (size_t)l * report->experts;
        double total = 0.0, most = 0.0, least = INFINITY;
        for (uint32_t e = 0; e < report->experts; e++) {
            total += (double)rows[e];
            most = fmax(most, (double)rows[e]);
            least = fmin(least, (double)rows[e]);
        }
        const double mean = total > 0.0 ? total / report->experts : 1.0;
        printf("  layer %-3" PRIu32 " ", l);
        for (uint32_t e = 0; e < report->experts; e++)
            fputs(bar((double)rows[e] / mean * 4.0), stdout);
        printf("  least %.2f, most %.2f of an even share\n", least / mean, most / mean);
    }
}

/* What the last validation says of the experts, in words. */
static void print_routers(const struct router_summary *routers, const struct vkmoe_step_report *report)
{
    printf("experts     %.1f%% of a layer's serve a sequence, %" PRIu64 " of %" PRIu64 " serve no token at all\n",
           100.0 * routers->seu, routers->dead, (uint64_t)report->layers * report->experts);
    printf("routers     entropy %.3f nats; 0: always sure of one expert, %.3f: prefers none\n", routers->entropy,
           log((double)report->experts));
    if (!isnan(routers->pes))
        printf("similarity  %.4f between experts' outputs (PES) where it is least: layer %" PRIu32 "; 1: all alike\n",
               routers->pes, routers->pes_layer);
}

void print_summary(const struct progress *p, const struct vkmoe_step_report *report, const char *dir,
                   const char *checkpoint)
{
    char time[16];
    live_clear();
    if (report->skipped_total > 0 && report->loss_scale != 1)
        message("%" PRIu64 " steps were skipped while the loss scale adapted to f16; it is %g now", report->skipped_total,
                (double)report->loss_scale);
    else if (report->skipped_total > 0)
        message("warning: %" PRIu64 " steps were skipped: their loss or gradient was not finite; try a smaller --lr",
                report->skipped_total);
    if (p->quiet)
        return;
    putchar('\n');
    if (!isnan(p->first_loss))
        printf("before      validation loss %.4f nats per token\n", p->first_loss);
    printf("after       validation loss %.4f nats per token, perplexity %.3f, %.3f bits per byte\n", p->validation,
           exp(p->validation), p->validation / log(2.0));
    printf("time        %s for %" PRIu64 " steps\n", format_seconds(time, clock_seconds() - p->started),
           p->steps - p->first_step);
    if (report->experts > 1) {
        print_routers(&p->routers, report);
        if (p->load_steps > 0)
            print_load(p, report);
    }
    fputs("model       ", stdout);
    print_quoted(checkpoint);
    fputs("\nsample      ", stdout);
    print_quoted(program);
    fputs(" generate --model ", stdout);
    print_quoted(dir);
    puts(" --prompt Once");
}
