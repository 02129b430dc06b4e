#include "train/metrics.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/tensorboard.h"

enum { PIECE = 1 << 16, MAX_LINE = 1 << 24 }; /* bytes of metrics.jsonl read at a time, and of a line that is read back */

struct vkm_metrics {
    const struct vkmoe_log *log;
    const struct vkmoe_model_config *model;
    char *path;
    FILE *file;
    struct vkm_tensorboard *tensorboard; /* NULL: none */
    bool lacking;                   /* the line being made is not whole */
    uint64_t val_step, val_tokens;  /* of the last validation there; val_tokens 0: none */
};

/* Whether the line is of a step up to last_step; notes a validation. ERROR_MEMORY, so that no line is lost for want of it. */
static enum vkmoe_status look_at(struct vkm_metrics *m, const char *text, size_t length, uint64_t last_step, bool *kept)
{
    json_error_t error;
    json_t *line = json_loadb(text, length, 0, &error);
    const json_int_t step = json_integer_value(json_object_get(line, "step"));
    const json_t *tokens = json_object_get(line, "val_tokens");
    *kept = line && step >= 0 && (uint64_t)step <= last_step;
    if (!line && json_error_code(&error) == json_error_out_of_memory)
        return vkm_fail_memory(m->log);
    if (*kept && tokens) {
        m->val_step = (uint64_t)step;
        m->val_tokens = (uint64_t)json_integer_value(tokens);
    }
    json_decref(line);
    return VKMOE_OK;
}

/* What has been read of a file and not yet passed on. */
struct window {
    char *text;
    size_t room, length;
};

/* Reads on; *end where there is no more. A line that does not fit is a failure, so that a hole of any size is soon told. */
static enum vkmoe_status read_on(const struct vkmoe_log *log, const char *path, int fd, struct window *w, bool *end)
{
    if (w->room - w->length < PIECE) {
        char *grown = w->length > MAX_LINE ? NULL : realloc(w->text, 2 * w->room + PIECE);
        if (!grown)
            return w->length > MAX_LINE ? vkm_fail(log, VKMOE_ERROR_FORMAT, "%s: has a line of more than %d MiB; it is damaged",
                                                   path, MAX_LINE >> 20)
                                        : vkm_fail_memory(log);
        w->text = grown;
        w->room = 2 * w->room + PIECE;
    }
    const ssize_t got = read(fd, w->text + w->length, PIECE);
    if (got < 0 && errno != EINTR)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    *end = got == 0;
    w->length += got > 0 ? (size_t)got : 0;
    return VKMOE_OK;
}

/* Appends the lines that are kept; *dropped: there was something else, too. */
static enum vkmoe_status copy_lines(struct vkm_metrics *m, int fd, uint64_t last_step, struct vkm_writer *writer, bool *dropped)
{
    struct window w = {0};
    enum vkmoe_status status;
    size_t searched = 0;
    bool end = false;
    while (!(status = read_on(m->log, m->path, fd, &w, &end)) && !end) {
        size_t begin = 0;
        for (const char *stop; !status && (stop = memchr(w.text + searched, '\n', w.length - searched)); begin = searched) {
            bool kept;
            searched = (size_t)(stop - w.text) + 1;
            status = look_at(m, w.text + begin, searched - begin, last_step, &kept);
            if (!status && kept)
                status = vkm_writer_append(writer, w.text + begin, searched - begin);
            *dropped = *dropped || !kept;
        }
        if (status)
            break;
        memmove(w.text, w.text + begin, w.length - begin);
        searched = w.length -= begin;
    }
    *dropped = *dropped || w.length > 0;
    free(w.text);
    return status;
}

/* Rewrites the file without the lines of later steps, and without a last line that was cut short. */
static enum vkmoe_status keep_until(struct vkm_metrics *m, uint64_t last_step)
{
    struct vkm_writer writer = {0};
    uint64_t bytes;
    bool dropped = false;
    int fd;
    m->val_step = m->val_tokens = 0;
    enum vkmoe_status status = vkm_file_open(m->log, m->path, &fd, &bytes);
    if (status)
        return status;
    if (!(status = vkm_writer_begin(m->log, m->path, &writer)) &&
        !(status = copy_lines(m, fd, last_step, &writer, &dropped)) && dropped)
        status = vkm_writer_commit(&writer);
    vkm_writer_abort(&writer);
    close(fd);
    return status;
}

static enum vkmoe_status open_to_append(struct vkm_metrics *m)
{
    m->file = fopen(m->path, "ae");
    if (m->file)
        return VKMOE_OK;
    return vkm_fail(m->log, VKMOE_ERROR_IO, "cannot write %s: %s; choose another --out directory", m->path, strerror(errno));
}

enum vkmoe_status vkm_metrics_open(const struct vkmoe_log *log, const char *dir, const struct vkmoe_model_config *model,
                                   uint64_t last_step, bool tensorboard, struct vkm_metrics **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_metrics *m = calloc(1, sizeof *m);
    if (!m || !(m->path = vkm_path_join(dir, "metrics.jsonl"))) {
        free(m);
        return vkm_fail_memory(log);
    }
    m->log = log;
    m->model = model;
    if (access(m->path, F_OK) != 0) {
        if (last_step)
            vkm_log(log, VKMOE_LOG_WARNING, "there is no %s: the curves begin at the resume", m->path);
    } else if ((status = keep_until(m, last_step))) {
        goto fail;
    }
    if ((status = open_to_append(m)))
        goto fail;
    if (tensorboard && (status = vkm_tensorboard_open(log, dir, &m->tensorboard)))
        goto fail;
    *out = m;
    return VKMOE_OK;
fail:
    vkm_metrics_close(m);
    return status;
}

enum vkmoe_status vkm_metrics_rewind(struct vkm_metrics *m, uint64_t last_step)
{
    if (!m)
        return VKMOE_OK;
    fclose(m->file); /* every line was flushed */
    m->file = NULL;
    const enum vkmoe_status status = keep_until(m, last_step);
    return status ? status : open_to_append(m);
}

enum vkmoe_status vkm_metrics_sync(struct vkm_metrics *m)
{
    if (!m || fsync(fileno(m->file)) == 0 || errno == EINVAL)
        return VKMOE_OK;
    return vkm_fail(m->log, VKMOE_ERROR_IO, "cannot write %s: %s; free some space and resume the run", m->path, strerror(errno));
}

void vkm_metrics_close(struct vkm_metrics *m)
{
    if (!m)
        return;
    if (m->file)
        fclose(m->file);
    vkm_tensorboard_close(m->tensorboard);
    free(m->path);
    free(m);
}

/* A line that memory was short for is not written: append tells it. */
static void push(struct vkm_metrics *m, json_t *array, json_t *value)
{
    m->lacking |= json_array_append_new(array, value) != 0;
}

static void put(struct vkm_metrics *m, json_t *object, const char *key, json_t *value)
{
    m->lacking |= json_object_set_new(object, key, value) != 0;
}

static enum vkmoe_status append(struct vkm_metrics *m, json_t *object)
{
    char *line = m->lacking ? NULL : vkm_json_text(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    m->lacking = false;
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
static json_t *expert_tokens(struct vkm_metrics *m, const struct vkmoe_step_report *report)
{
    json_t *layers = json_array();
    for (uint32_t layer = 0; layer < report->layers; layer++) {
        json_t *experts = json_array();
        for (uint32_t e = 0; e < report->experts; e++)
            push(m, experts, json_integer(report->expert_tokens[(size_t)layer * report->experts + e]));
        push(m, layers, experts);
    }
    return layers;
}

/* ---- a layer's numbers: one table for both files ---------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
} layer_fields[] = {
#define FIELD(name) {#name, offsetof(struct vkmoe_layer_metrics, name)}
    FIELD(load_max), FIELD(load_min), FIELD(load_cv), FIELD(seu), FIELD(entropy), FIELD(entropy_topk),
    FIELD(gram_mean_square), FIELD(gram_max), FIELD(changed), FIELD(pes), FIELD(pes_se),
#undef FIELD
};
enum { LAYER_FIELDS = sizeof layer_fields / sizeof *layer_fields };

static double layer_value(const struct vkmoe_layer_metrics *layer, size_t field)
{
    return *(const double *)((const char *)layer + layer_fields[field].offset);
}

/* Whether some layer has a number: changed and pes are measured at times. */
static bool measured(const struct vkmoe_layer_metrics *layers, uint32_t count, size_t field)
{
    for (uint32_t l = 0; l < count; l++) {
        if (isfinite(layer_value(&layers[l], field)))
            return true;
    }
    return false;
}

/* Adds "name": [of each layer] to the object. */
static void add_layers(struct vkm_metrics *m, json_t *object, const struct vkmoe_layer_metrics *layers,
                       bool validation)
{
    uint32_t count = m->model->layers;
    for (size_t field = 0; field < LAYER_FIELDS; field++) {
        if (!measured(layers, count, field))
            continue;
        json_t *values = json_array();
        for (uint32_t l = 0; l < count; l++)
            push(m, values, number(layer_value(&layers[l], field)));
        put(m, object, layer_fields[field].name, values);
    }
    json_t *dead = json_array(), *used = json_array(), *gates = json_array();
    for (uint32_t l = 0; l < count; l++) {
        push(m, dead, json_integer(layers[l].dead));
        push(m, used, json_integer(m->model->experts - layers[l].dead));
        json_t *bins = json_array();
        for (int bin = 0; bin < VKMOE_GATE_BINS; bin++)
            push(m, bins, number(layers[l].gates[bin]));
        push(m, gates, bins);
    }
    put(m, object, "dead", dead);
    if (validation)
        put(m, object, "used", used);
    else
        json_decref(used);
    put(m, object, "gates", gates);
}

/* Points "router/<name>/layer_<l>" (of a validation "router_valid/..."). */
static enum vkmoe_status show_layers(struct vkm_metrics *m, uint64_t step, const char *group,
                                     const struct vkmoe_layer_metrics *layers)
{
    enum vkmoe_status status = VKMOE_OK;
    char tag[64];
    for (uint32_t l = 0; l < m->model->layers; l++) {
        for (size_t field = 0; field < LAYER_FIELDS && !status; field++) {
            snprintf(tag, sizeof tag, "%s/%s/layer_%u", group, layer_fields[field].name, l);
            if (isfinite(layer_value(&layers[l], field)))
                status = vkm_tensorboard_scalar(m->tensorboard, tag, step, layer_value(&layers[l], field));
        }
        snprintf(tag, sizeof tag, "%s/dead/layer_%u", group, l);
        if (!status)
            status = vkm_tensorboard_scalar(m->tensorboard, tag, step, layers[l].dead);
    }
    return status ? status : vkm_tensorboard_flush(m->tensorboard);
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static enum vkmoe_status show_step(struct vkm_metrics *m, const struct vkmoe_step_report *r)
{
    const struct {
        const char *tag;
        double value;
    } points[] = {
        {"train/loss", r->loss}, {"train/simbal_loss", r->simbal_loss}, {"train/lbl_loss", r->lbl_loss},
        {"train/router_z_loss", r->router_z_loss}, {"train/z_loss", r->z_loss}, {"train/grad_norm", r->grad_norm},
        {"train/lr", r->lr}, {"train/loss_scale", r->loss_scale},
        {"train/tokens_per_second", r->tokens_per_second},
    };
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        enum vkmoe_status status = vkm_tensorboard_scalar(m->tensorboard, points[i].tag, r->step, points[i].value);
        if (status)
            return status;
    }
    return show_layers(m, r->step, "router", r->metrics);
}

enum vkmoe_status vkm_metrics_step(struct vkm_metrics *m, const struct vkmoe_step_report *r)
{
    json_t *line = json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}",
                             "step", (json_int_t)r->step, "tokens", (json_int_t)r->tokens, "loss", number(r->loss),
                             "simbal_loss", number(r->simbal_loss), "lbl_loss", number(r->lbl_loss),
                             "router_z_loss", number(r->router_z_loss), "z_loss", number(r->z_loss),
                             "grad_norm", number(r->grad_norm), "lr", number(r->lr),
                             "tokens_per_second", number(r->tokens_per_second),
                             "skipped", (json_int_t)r->skipped_total, "loss_scale", number(r->loss_scale),
                             "expert_tokens", expert_tokens(m, r));
    add_layers(m, line, r->metrics, false);
    enum vkmoe_status status = append(m, line);
    return status || !m->tensorboard ? status : show_step(m, r);
}

enum vkmoe_status vkm_metrics_validation(struct vkm_metrics *m, uint64_t step, uint64_t tokens,
                                         const struct vkmoe_validation *v)
{
    if (v->tokens == m->val_tokens && step == m->val_step)
        return VKMOE_OK;
    m->val_step = step;
    m->val_tokens = v->tokens;
    json_t *line = json_pack("{s:I, s:I, s:o, s:I}", "step", (json_int_t)step, "tokens", (json_int_t)tokens,
                             "val_loss", number(v->loss), "val_tokens", (json_int_t)v->tokens);
    add_layers(m, line, v->metrics, true);
    enum vkmoe_status status = append(m, line);
    if (status || !m->tensorboard)
        return status;
    if ((status = vkm_tensorboard_scalar(m->tensorboard, "validation/loss", step, v->loss)))
        return status;
    return show_layers(m, step, "router_valid", v->metrics);
}
