#include "stack/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/config.h"
#include "stack/stack.h"
#include "train/fields.h"

enum { PIECE = 1 << 20, MAX_NAME = 64 }; /* elements at a time; of a tensor's name */

#define COUNT(table) (sizeof(table) / sizeof *(table))
static const struct vkm_field config_fields[] = {
    VKM_FIELD(vkmoe_stack_config, d_in, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, d_out, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, d_model, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, layers, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, experts, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, top_k, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, d_expert, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, d_shared, VKM_FIELD_COUNT32),
    VKM_ENUMERATION(vkmoe_stack_config, "gate", gate, vkm_gate_names),
    VKM_FIELD(vkmoe_stack_config, norm_topk, VKM_FIELD_FLAG),
    VKM_FIELD(vkmoe_stack_config, norm_eps, VKM_FIELD_REAL),
    VKM_ENUMERATION(vkmoe_stack_config, "precision", precision, vkm_precision_names),
    VKM_FIELD(vkmoe_stack_config, batch, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, rows, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_stack_config, no_training, VKM_FIELD_FLAG),
    VKM_FIELD(vkmoe_stack_config, seed, VKM_FIELD_DIGITS),
    VKM_ENUMERATION(vkmoe_stack_config, "router_init", router_init, vkm_init_names),
    VKM_ENUMERATION(vkmoe_stack_config, "loss", loss, vkm_loss_names),
    VKM_FIELD(vkmoe_stack_config, no_balance, VKM_FIELD_FLAG),
    VKM_BALANCE_FIELDS(vkmoe_stack_config),
    VKM_ADAMW_FIELDS(vkmoe_stack_config),
};
static const struct vkm_field state_fields[] = {
    VKM_FIELD(vkm_stack_state, step, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_stack_state, skipped, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_stack_state, good_steps, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_stack_state, rest1, VKM_FIELD_REAL),
    VKM_FIELD(vkm_stack_state, rest2, VKM_FIELD_REAL),
    VKM_FIELD(vkm_stack_state, loss_scale, VKM_FIELD_REAL),
    VKM_FIELD(vkm_stack_state, lr, VKM_FIELD_REAL),
};

/* The tensors of a parameter: the weight, and what a stack that trains has besides. */
struct tensor {
    const char *prefix;
    size_t buf;                     /* of struct vkm_param */
};
static const struct tensor tensors[] = {{"", offsetof(struct vkm_param, weight)},
                                        {"moment1.", offsetof(struct vkm_param, moment1)},
                                        {"moment2.", offsetof(struct vkm_param, moment2)}};

static size_t tensors_of(const struct vkmoe_stack_config *config)
{
    return config->no_training ? 1 : COUNT(tensors);
}

static struct vkm_buf buf_of(const struct vkm_param *p, const struct tensor *t)
{
    return *(const struct vkm_buf *)(const void *)((const char *)p + t->buf);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static enum vkmoe_status note(struct vkm_safetensors_writer *writer, const struct vkmoe_log *log, const char *key, json_t *value)
{
    char *text = vkm_json_text(value, JSON_COMPACT | JSON_SORT_KEYS);
    enum vkmoe_status status = text ? vkm_safetensors_note(writer, key, text) : vkm_fail_memory(log);
    free(text);
    json_decref(value);
    return status;
}

static enum vkmoe_status declare(struct vkm_safetensors_writer *writer, const struct vkmoe_stack_config *config,
                                 const struct vkm_params *params)
{
    enum vkmoe_status status = VKMOE_OK;
    for (size_t t = 0; t < tensors_of(config); t++)
        for (uint32_t i = 0; i < params->count && !status; i++) {
            const struct vkm_param *p = &params->list[i];
            char name[MAX_NAME];
            snprintf(name, sizeof name, "%s%s", tensors[t].prefix, p->name);
            if (p->count)
                status = vkm_safetensors_declare(writer, name, p->dims, p->rank);
        }
    return status;
}

enum vkmoe_status vkm_stack_file_create(const struct vkmoe_log *log, const char *path, const struct vkmoe_stack_config *config,
                                        const struct vkm_stack_state *state, const struct vkm_params *params,
                                        struct vkm_safetensors_writer **out)
{
    enum vkmoe_status status = vkm_safetensors_create(log, path, out);
    if (status)
        return status;
    if ((status = note(*out, log, "stack", vkm_fields_write(config, config_fields, COUNT(config_fields)))) ||
        (status = note(*out, log, "state", vkm_fields_write(state, state_fields, COUNT(state_fields)))) ||
        (status = declare(*out, config, params))) {
        vkm_safetensors_destroy(*out);
        *out = NULL;
    }
    return status;
}

static enum vkmoe_status read_state(const struct vkmoe_stack *s, struct vkm_stack_state *out)
{
    struct adam_state adam = {0};
    struct loss_scale scale = {.scale = 1};
    enum vkmoe_status status = VKMOE_OK;
    if (s->train && !(status = vkm_buf_download(s->ctx, s->adam, &adam, sizeof adam)))
        status = vkm_buf_download(s->ctx, s->train->loss_scale, &scale, sizeof scale);
    *out = (struct vkm_stack_state){adam.step, adam.skipped, scale.good_steps, adam.rest1, adam.rest2, scale.scale, s->lr};
    return status;
}

static enum vkmoe_status append(const struct vkmoe_stack *s, struct vkm_safetensors_writer *writer, float *piece)
{
    const struct vkm_params *params = &vkm_stack_net(s)->params;
    enum vkmoe_status status = VKMOE_OK;
    for (size_t t = 0; t < tensors_of(&s->config); t++)
        for (uint32_t i = 0; i < params->count; i++) {
            const struct vkm_param *p = &params->list[i];
            for (uint64_t first = 0; first < p->count && !status; first += PIECE) {
                const uint64_t count = p->count - first < PIECE ? p->count - first : PIECE;
                const struct vkm_buf part = vkm_buf_slice(buf_of(p, &tensors[t]), first * sizeof(float), count * sizeof(float));
                if (!(status = vkm_buf_download(s->ctx, part, piece, part.bytes)))
                    status = vkm_safetensors_append(writer, piece, count);
            }
        }
    return status;
}

enum vkmoe_status vkmoe_stack_save(struct vkmoe_stack *s, const char *path)
{
    const struct vkmoe_log *log = &s->ctx->log;
    struct vkm_safetensors_writer *writer = NULL;
    struct vkm_stack_state state;
    enum vkmoe_status status = read_state(s, &state);
    float *piece = status ? NULL : malloc(PIECE * sizeof *piece);
    if (!status && !piece)
        status = vkm_fail_memory(log);
    if (!status && !(status = vkm_stack_file_create(log, path, &s->config, &state, &vkm_stack_net(s)->params, &writer)) &&
        !(status = append(s, writer, piece)))
        status = vkm_safetensors_commit(writer);
    vkm_safetensors_destroy(writer);
    free(piece);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static enum vkmoe_status parse(const struct vkmoe_log *log, const char *path, const struct vkm_safetensors *file, const char *key,
                               void *to, const struct vkm_field *fields, size_t count)
{
    const char *text = vkm_safetensors_metadata(file, key);
    json_t *object = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    struct vkm_json in = {.log = log, .path = path, .object = object};
    if (json_is_object(object))
        vkm_fields_read(&in, to, fields, count);
    else
        in.status = vkm_fail(log, VKMOE_ERROR_FORMAT, "%s: is no stack of vkmoe's: its metadata has no \"%s\"", path, key);
    json_decref(object);
    return in.status;
}

/* The tensor of a parameter's, in its shape. */
static enum vkmoe_status find(const struct vkm_safetensors *file, const struct vkm_param *p, const struct tensor *t,
                              const struct vkm_tensor **out)
{
    char name[MAX_NAME];
    snprintf(name, sizeof name, "%s%s", t->prefix, p->name);
    return vkm_safetensors_expect(file, name, p->dims, p->rank, out);
}

static enum vkmoe_status check_tensors(const struct vkmoe_log *log, const struct vkm_stack_file *file)
{
    const struct vkmoe_model_config model = vkm_stack_model(&file->config);
    const struct vkm_ends ends = {file->config.d_in, file->config.d_out};
    const struct vkm_tensor *found;
    struct vkm_params params;
    enum vkmoe_status status = vkm_params_create(log, &model, &ends, &params);
    if (status)
        return status;
    for (size_t t = 0; t < tensors_of(&file->config); t++)
        for (uint32_t i = 0; i < params.count && !status; i++)
            if (params.list[i].count)
                status = find(file->tensors, &params.list[i], &tensors[t], &found);
    vkm_params_destroy(&params);
    return status;
}

enum vkmoe_status vkm_stack_file_open(const struct vkmoe_log *log, const char *path, struct vkm_stack_file *out)
{
    struct vkm_json in = {.log = log, .path = path};
    const struct vkmoe_log prefixed = vkm_json_log(&in);
    *out = (struct vkm_stack_file){0};
    enum vkmoe_status status = vkm_safetensors_open(log, path, &out->tensors);
    if (!status)
        status = parse(log, path, out->tensors, "stack", &out->config, config_fields, COUNT(config_fields));
    if (!status)
        status = parse(log, path, out->tensors, "state", &out->state, state_fields, COUNT(state_fields));
    if (!status && vkm_config_check_stack(&prefixed, &out->config))
        status = VKMOE_ERROR_FORMAT;
    if (!status && !(out->state.loss_scale > 0)) /* gradients are divided by it */
        status = vkm_fail(log, VKMOE_ERROR_FORMAT, "%s: \"loss_scale\" must be a number above 0", path);
    if (!status)
        status = check_tensors(log, out);
    if (status)
        vkm_stack_file_close(out);
    return status;
}

void vkm_stack_file_close(struct vkm_stack_file *file)
{
    vkm_safetensors_close(file->tensors);
    *file = (struct vkm_stack_file){0};
}

static enum vkmoe_status fill(const struct vkmoe_stack *s, const struct vkm_safetensors *file, const struct vkm_param *p,
                              const struct tensor *t, float *piece)
{
    const struct vkm_tensor *tensor;
    enum vkmoe_status status = find(file, p, t, &tensor);
    for (uint64_t first = 0; first < p->count && !status; first += PIECE) {
        const uint64_t count = p->count - first < PIECE ? p->count - first : PIECE;
        const struct vkm_buf part = vkm_buf_slice(buf_of(p, t), first * sizeof(float), count * sizeof(float));
        if (!(status = vkm_safetensors_read(file, tensor, first, count, piece)))
            status = vkm_buf_upload(s->ctx, part, piece, part.bytes);
    }
    return status;
}

static enum vkmoe_status fill_all(struct vkmoe_stack *s, const struct vkm_stack_file *file)
{
    const struct vkm_params *params = &vkm_stack_net(s)->params;
    const struct vkm_stack_state *state = &file->state;
    const struct adam_state adam = {state->step, state->skipped, state->rest1, state->rest2};
    const struct loss_scale scale = {state->loss_scale, state->good_steps};
    float *piece = malloc(PIECE * sizeof *piece);
    enum vkmoe_status status = piece ? VKMOE_OK : vkm_fail_memory(&s->ctx->log);
    for (size_t t = 0; t < tensors_of(&s->config); t++)
        for (uint32_t i = 0; i < params->count && !status; i++)
            if (params->list[i].count)
                status = fill(s, file->tensors, &params->list[i], &tensors[t], piece);
    free(piece);
    s->lr = state->lr;
    if (!status && s->train && !(status = vkm_buf_upload(s->ctx, s->adam, &adam, sizeof adam)))
        status = vkm_buf_upload(s->ctx, s->train->loss_scale, &scale, sizeof scale);
    return status ? status : vkm_params_narrow(s->ctx, params);
}

enum vkmoe_status vkmoe_stack_load(struct vkmoe_context *ctx, const char *path, struct vkmoe_stack **out)
{
    struct vkm_stack_file file;
    struct vkmoe_stack *s = NULL;
    *out = NULL;
    enum vkmoe_status status = vkm_stack_file_open(&ctx->log, path, &file);
    if (status)
        return status;
    if (!(status = vkmoe_stack_create(ctx, &file.config, &s)))
        status = fill_all(s, &file);
    vkm_stack_file_close(&file);
    if (status)
        vkmoe_stack_destroy(s);
    else
        *out = s;
    return status;
}
