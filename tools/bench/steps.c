/* Whole training steps of the presets through the public API, on random text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/measure.h"
#include "common.h"
#include "shared.h"

enum { TEXT = 1 << 20, WARM_STEPS = 3, REPETITIONS = 5, REPETITIONS_MOST = 200, STEPS_MOST = 1 << 20 };
static const char *const presets[] = {"demo", "tiny", "moe-s", "moe-m"};
static const double repetition_seconds = 0.02;

/* ---- data ------------------------------------------------------------------------------------------------------- */

enum { CHARACTERS = 95 };

/* Printable characters drawn evenly: nothing can be learnt from them, and a step takes as long. */
static bool write_text(int file)
{
    char *text = malloc(TEXT);
    bool fine = text;
    uint32_t state = 1;
    for (size_t i = 0; fine && i < TEXT; i++) {
        state = state * 1664525 + 1013904223;
        text[i] = (char)(' ' + (state >> 16) % CHARACTERS);
    }
    for (size_t done = 0; fine && done < TEXT;) {
        const ssize_t n = write(file, text + done, TEXT - done);
        fine = n > 0;
        done += fine ? (size_t)n : 0;
    }
    free(text);
    return fine;
}

static enum vkmoe_status open_data(struct vkmoe_context *ctx, struct vkmoe_data **out)
{
    const char *dir = getenv("TMPDIR");
    char *path = path_in(dir && *dir ? dir : "/tmp", "vkmoe-bench-XXXXXX");
    enum vkmoe_status status = VKMOE_ERROR_IO;
    if (!path)
        return VKMOE_ERROR_MEMORY;
    const int file = mkstemp(path);
    if (file >= 0 && write_text(file))
        status = vkmoe_data_open(&(struct vkmoe_data_desc){.log = ctx->log, .train = (const char *const *)&path,
                                                           .train_count = 1}, out);
    else
        message("%s: cannot be written; set TMPDIR to a directory that can", path);
    if (file >= 0) {
        close(file);
        unlink(path);
    }
    free(path);
    return status;
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

static double thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static enum vkmoe_status steps(struct vkmoe_trainer *trainer, uint32_t count)
{
    struct vkmoe_step_report report;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < count && !status; i++)
        status = vkmoe_trainer_step(trainer, &report);
    return status;
}

/* A model knows nothing at first, and no model can know more than that the characters are equally likely. */
static enum vkmoe_status check_loss(const struct bench *b, const char *name, float loss)
{
    const double most = log(VKMOE_BYTE_VOCAB), least = log(CHARACTERS);
    if ((double)loss > 0.9 * least && (double)loss < 1.1 * most)
        return VKMOE_OK;
    return vkm_fail(&b->ctx->log, VKMOE_ERROR_DEVICE,
                    "%s (%s) trains wrong: the loss of a '%s' is %g, which has to be about %.2f to %.2f; its figures would "
                    "mean nothing, see 'vkmoe selftest'", b->ctx->info.name, b->ctx->info.driver, name, (double)loss, least, most);
}

/* Time of a step while steps follow each other as they do in a run: the device is never left without work. host: the
 * thread's share of it. */
static enum vkmoe_status time_steps(const struct bench *b, const char *name, struct vkmoe_trainer *trainer,
                                    struct bench_times *out, double *host)
{
    double times[REPETITIONS_MOST];
    struct vkmoe_step_report report;
    uint32_t n = 0, count = 1;
    /* The first step compiles, on some devices only when it runs; steps that follow each other without a wait tell how long
     * one takes. */
    enum vkmoe_status status = steps(trainer, 1);
    if (!status)
        status = vkmoe_trainer_finish(trainer, &report);
    double start = vkm_seconds();
    if (!status && !(status = steps(trainer, WARM_STEPS))) {
        const double one = (vkm_seconds() - start) / WARM_STEPS;
        if (one > b->seconds) {
            *out = (struct bench_times){.median = one, .low = one, .high = one};
            return VKMOE_OK;
        }
        count = one < repetition_seconds ? (uint32_t)fmin(ceil(repetition_seconds / fmax(one, 1e-6)), 1000) : 1;
    }
    start = vkm_seconds();
    const double thread = thread_seconds();
    double last = start;
    while (!status && n < REPETITIONS_MOST && (n < REPETITIONS || last - start < b->seconds)) {
        status = steps(trainer, count);
        const double now = vkm_seconds();
        times[n++] = (now - last) / count;
        last = now;
    }
    *host = (thread_seconds() - thread) / (last - start);
    if (!status)
        status = vkmoe_trainer_finish(trainer, &report);
    if (!status && !(status = check_loss(b, name, report.loss)))
        *out = bench_times_of(times, n);
    return status;
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static enum vkmoe_status report(struct bench *b, const char *preset, uint32_t type, const char *shape, double tokens,
                                double flops, const struct bench_times *times, double host)
{
    char name[40], typed[40];
    snprintf(name, sizeof name, "%s step", preset);
    struct bench_result rate = bench_rate(b, "steps", bench_typed_name(typed, name, type), "tokens/s", NULL, tokens, times);
    snprintf(name, sizeof name, "%s model", preset);
    struct bench_result model = bench_rate(b, "steps", bench_typed_name(typed, name, type), "GFLOP/s",
                                           bench_product_ceiling(b, type), 1e-9 * flops * tokens, times);
    snprintf(model.note, sizeof model.note, "%.4g a token: 6 a matrix weight it meets, 6 L S D for causal attention", flops);
    snprintf(rate.timer, sizeof rate.timer, "wall");
    snprintf(model.timer, sizeof model.timer, "wall");
    memcpy(rate.shape, shape, sizeof rate.shape);
    memcpy(model.shape, shape, sizeof model.shape);
    if (!b->ctx->caps.cpu)
        rate.host = host;
    enum vkmoe_status status = bench_report(b, &rate);
    return status ? status : bench_report(b, &model);
}

static enum vkmoe_status run(struct bench *b, const char *preset, uint32_t type, const struct vkmoe_data *data)
{
    struct vkmoe_trainer_desc desc = {.data = data};
    struct vkmoe_estimate estimate;
    struct vkmoe_trainer *trainer;
    struct bench_times times;
    char shape[64], named[40], name[40];
    double host = 0;
    if (!vkmoe_preset(preset, &desc.model, &desc.train))
        return VKMOE_OK;
    desc.train.precision = (enum vkmoe_precision)type;
    desc.train.accum = 1; /* the update counts in full */
    desc.train.steps = STEPS_MOST;
    desc.train.log_every = STEPS_MOST; /* metrics are not what is timed */
    snprintf(shape, sizeof shape, "%u x %u tokens", desc.train.batch, desc.model.seq);
    enum vkmoe_status status = vkmoe_estimate(b->ctx, &desc.model, &desc.train, &estimate);
    if (status)
        return status;
    const double tokens = (double)desc.train.batch * desc.model.seq, flops = (double)estimate.flops_per_token;
    const double seconds = 1e-9 * tokens * flops / bench_product_rate(b, type);
    snprintf(named, sizeof named, "%s step", preset);
    bench_typed_name(name, named, type);
    if (seconds > b->seconds)
        return bench_skip_slow(b, "steps", name, shape, seconds);
    if (!bench_fits(b, estimate.total_bytes))
        return bench_skip(b, "steps", name, shape, "needs %.1f GiB, and %.1f are free",
                          (double)estimate.total_bytes / 0x1p30, (double)estimate.available_bytes / 0x1p30);
    if ((status = vkmoe_trainer_create(b->ctx, &desc, &trainer)))
        return status;
    if (!(status = time_steps(b, name, trainer, &times, &host)))
        status = times.repetitions == 0 ? bench_skip_slow(b, "steps", name, shape, times.median)
                                        : report(b, preset, type, shape, tokens, flops, &times, host);
    vkmoe_trainer_destroy(trainer);
    return status;
}

enum vkmoe_status bench_steps(struct bench *b)
{
    struct vkmoe_data *data = NULL;
    enum vkmoe_status status = open_data(b->ctx, &data);
    for (size_t i = 0; i < sizeof presets / sizeof *presets && !status; i++)
        for (uint32_t type = TYPE_F32; type <= TYPE_BF16 && !status; type++)
            if (b->types[type])
                status = run(b, presets[i], type, data);
    vkmoe_data_close(data);
    return status;
}
