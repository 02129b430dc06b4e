/* Measures which tiles of matrix products are fastest on a device, and keeps that for every later run on it. */
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common.h"
#include "gpu/tuning.h"
#include "nn/tune.h"
#include "ops/probe.h"
#include "print.h"

struct tune_options {
    struct common_options common;
};

static const char *const type_names[] = {"f32", "f16", "bf16"};

static void print(const struct vkm_tune_report *report)
{
    const struct vkm_tune_result *first = &report->results[0];
    for (uint32_t i = 0; i < report->count; i++) {
        const struct vkm_tune_result *r = &report->results[i];
        const struct vkm_gemm_tiles *t = &r->tiles;
        printf("  %-5s %-5s %4u x %-4u %3u %3u x %-3u %9.3f %7.2f  %s\n", type_names[report->type],
               report->rows == VKM_ROWS_FEW ? "few" : "many", t->bm, t->bn, t->bk, t->tm, t->tn, 1e3 * r->seconds,
               first->seconds / r->seconds, !r->right ? "wrong: left out" : i == report->best ? "best" : "");
    }
    fflush(stdout);
}

static enum vkmoe_status tune(struct vkmoe_context *ctx)
{
    enum vkmoe_status status = VKMOE_OK;
    printf("  type  rows  tile         deep each        time/ms   ratio\n");
    for (uint32_t type = TYPE_F32; type <= (ctx->caps.storage16 ? TYPE_BF16 : TYPE_F32) && !status; type++) {
        status = vkm_probe(ctx, type);
        for (enum vkm_rows rows = VKM_ROWS_FEW; rows < VKM_ROWS_KINDS && !status; rows++) {
            struct vkm_tune_report report;
            if (!(status = vkm_gemm_tune(ctx, type, rows, &report)))
                print(&report);
        }
    }
    return status;
}

static const struct option_spec options[] = {COMMON_OPTIONS(struct tune_options)};

static int run(const struct command *command, int argc, char **argv)
{
    struct tune_options o = {0};
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed != OPTIONS_OK)
        return parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
    char *dir = cache_directory(), *path = NULL;
    if (!dir) {
        message("there is no place for what is measured: set XDG_CACHE_HOME or HOME");
        return EXIT_FAILED;
    }
    struct vkmoe_context *ctx = open_context(&o.common);
    int result = EXIT_FAILED;
    if (ctx) {
        print_device(vkmoe_context_device(ctx));
        if (!tune(ctx) && !vkm_tuning_save(ctx, dir, &path)) {
            printf("kept in     %s, for every later run on this device with this driver\n", path);
            result = EXIT_OK;
        }
        result = close_context(ctx, result);
    }
    free(path);
    free(dir);
    return result;
}

const struct command command_tune = {
    .name = "tune",
    .summary = "Measures which tiles of matrix products are fastest on a device, and keeps them",
    .synopsis = "[flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
