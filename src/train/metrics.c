#include "train/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

#define MAX_METRICS ((uint64_t)1 << 32) /* bytes of metrics.jsonl that a resumed run reads back */

struct vkm_metrics {
    const struct vkmoe_log *log;
    char *path;
    FILE *file;
};

/* Rewrites the file without the lines of later steps, and without a last line that was cut short. */
static enum vkmoe_status keep_until(const struct vkmoe_log *log, const char *path, uint64_t last_step)
{
    char *text;
    size_t bytes, kept = 0;
    enum vkmoe_status status = vkm_file_read(log, path, MAX_METRICS, &text, &bytes);
    if (status)
        return status;
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        if (!end)
            break;
        size_t length = (size_t)(end - (text + at)) + 1;
        json_t *line = json_loadb(text + at, length, 0, NULL);
        json_int_t step = json_integer_value(json_object_get(line, "step"));
        if (line && step >= 0 && (uint64_t)step <= last_step) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        json_decref(line);
        at += length;
    }
    if (kept != bytes)
        status = vkm_file_write(log, path, text, kept);
    free(text);
    return status;
}

enum vkmoe_status vkm_metrics_open(const struct vkmoe_log *log, const char *dir, uint64_t last_step,
                                   struct vkm_metrics **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_metrics *m = calloc(1, sizeof *m);
    if (!m || !(m->path = vkm_path_join(dir, "metrics.jsonl"))) {
        free(m);
        return vkm_fail_memory(log);
    }
    m->log = log;
    if (last_step && (status = keep_until(log, m->path, last_step)))
        goto fail;
    m->file = fopen(m->path, "ae");
    if (!m->file) {
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot write %s: %s; choose another --out directory", m->path,
                          strerror(errno));
        goto fail;
    }
    *out = m;
    return VKMOE_OK;
fail:
    vkm_metrics_close(m);
    return status;
}

void vkm_metrics_close(struct vkm_metrics *m)
{
    if (!m)
        return;
    if (m->file)
        fclose(m->file);
    free(m->path);
    free(m);
}

static enum vkmoe_status append(struct vkm_metrics *m, json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (!line)
        return vkm_fail_memory(m->log);
    bool written = fprintf(m->file, "%s\n", line) >= 0 && fflush(m->file) == 0;
    free(line);
    if (!written)
        return vkm_fail(m->log, VKMOE_ERROR_IO, "cannot write %s: %s; free some space and resume the run", m->path,
                        strerror(errno));
    return VKMOE_OK;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* [[tokens of each expert] of each layer] */
static json_t *expert_tokens(const struct vkmoe_step_report *report)
{
    json_t *layers = json_array();
    for (uint32_t layer = 0; layer < report->layers; layer++) {
        json_t *experts = json_array();
        for (uint32_t e = 0; e < report->experts; e++)
            json_array_append_new(experts, json_integer(report->expert_tokens[(size_t)layer * report->experts + e]));
        json_array_append_new(layers, experts);
    }
    return layers;
}

enum vkmoe_status vkm_metrics_step(struct vkm_metrics *m, const struct vkmoe_step_report *r)
{
    return append(m, json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o}",
                               "step", (json_int_t)r->step, "tokens", (json_int_t)r->tokens, "loss", number(r->loss),
                               "balance_loss", number(r->balance_loss), "z_loss", number(r->z_loss),
                               "grad_norm", number(r->grad_norm), "lr", number(r->lr),
                               "tokens_per_second", number(r->tokens_per_second),
                               "skipped", (json_int_t)r->skipped_total, "expert_tokens", expert_tokens(r)));
}

enum vkmoe_status vkm_metrics_validation(struct vkm_metrics *m, uint64_t step, uint64_t tokens, double val_loss,
                                         uint64_t val_tokens)
{
    return append(m, json_pack("{s:I, s:I, s:o, s:I}", "step", (json_int_t)step, "tokens", (json_int_t)tokens,
                               "val_loss", number(val_loss), "val_tokens", (json_int_t)val_tokens));
}
