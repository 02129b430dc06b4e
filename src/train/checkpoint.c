#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/data.h"
#include "train/hf.h"
#include "train/manifest.h"
#include "train/safetensors.h"

static const char *const files[] = {"model.safetensors", "config.json", "trainer.json", "optimizer.safetensors",
                                    "tokenizer.json", "tokenizer_config.json"};
enum { FILES = sizeof files / sizeof *files };

static const char *const moment_names[] = {[VKM_PART_MOMENT1] = "moment1", [VKM_PART_MOMENT2] = "moment2"};

/* Of a param and a moment, in optimizer.safetensors. */
static void moment_key(char key[64], const struct vkm_param *param, int part)
{
    snprintf(key, 64, "%s.%s", param->name, moment_names[part]);
}

static uint64_t piece(uint64_t left)
{
    return left < VKM_CHECKPOINT_PIECE ? left : VKM_CHECKPOINT_PIECE;
}

/* ---- saving -------------------------------------------------------------------------------------------------- */

struct save {
    const struct vkmoe_log *log;
    const char *dir;
    const struct vkm_params *params;
    vkm_fetch_fn fetch;
    void *user;
    float *buffer;                  /* [VKM_CHECKPOINT_PIECE] */
    char step[24];
};

static enum vkmoe_status open_writer(struct save *s, const char *name, struct vkm_safetensors_writer **out)
{
    char *path = vkm_path_join(s->dir, name);
    enum vkmoe_status status = path ? vkm_safetensors_create(s->log, path, out) : vkm_fail_memory(s->log);
    free(path);
    return status == VKMOE_OK ? vkm_safetensors_note(*out, "step", s->step) : status;
}

/* In place; power of two: exact. */
static void multiply(float *values, uint64_t count, float scale)
{
    for (uint64_t i = 0; scale != 1 && i < count; i++)
        values[i] *= scale;
}

/* Elements [first, first + count) of a parameter times scale; of NULL: zeros. */
static enum vkmoe_status copy_out(struct save *s, struct vkm_safetensors_writer *writer, const struct vkm_param *param,
                                  enum vkm_checkpoint_part part, uint64_t first, uint64_t count, float scale)
{
    enum vkmoe_status status = VKMOE_OK;
    for (uint64_t done = 0, n; done < count && status == VKMOE_OK; done += n) {
        n = piece(count - done);
        if (param)
            status = s->fetch(s->user, param, part, first + done, n, s->buffer);
        else
            memset(s->buffer, 0, (size_t)n * sizeof *s->buffer);
        if (status == VKMOE_OK) {
            multiply(s->buffer, n, scale);
            status = vkm_safetensors_append(writer, s->buffer, n);
        }
    }
    return status;
}

static enum vkmoe_status write_model(struct save *s, const struct vkmoe_model_config *model,
                                     struct vkm_safetensors_writer **out)
{
    struct vkm_hf_tensor *tensors = NULL;
    size_t count;
    enum vkmoe_status status = open_writer(s, "model.safetensors", out);
    if (status == VKMOE_OK)
        status = vkm_hf_tensors(s->log, model, &tensors, &count);
    for (size_t i = 0; status == VKMOE_OK && i < count; i++)
        status = vkm_safetensors_declare(*out, tensors[i].name, tensors[i].dims, tensors[i].rank);
    for (size_t i = 0; status == VKMOE_OK && i < count; i++) {
        const struct vkm_hf_tensor *t = &tensors[i];
        const struct vkm_param *param = t->zeros ? NULL : vkm_params_get(s->params, t->param, t->layer);
        status = copy_out(s, *out, param, VKM_PART_WEIGHT, t->first, t->count, t->scale);
    }
    free(tensors);
    return status == VKMOE_OK ? vkm_safetensors_sync(*out) : status;
}

static enum vkmoe_status write_optimizer(struct save *s, struct vkm_safetensors_writer **out)
{
    const struct vkm_params *params = s->params;
    char key[64];
    enum vkmoe_status status = open_writer(s, "optimizer.safetensors", out);
    for (uint32_t i = 0; i < params->count; i++) {
        const struct vkm_param *p = &params->list[i];
        for (int part = VKM_PART_MOMENT1; p->count && part <= VKM_PART_MOMENT2 && status == VKMOE_OK; part++) {
            moment_key(key, p, part);
            status = vkm_safetensors_declare(*out, key, p->dims, p->rank);
        }
    }
    for (uint32_t i = 0; i < params->count; i++) {
        const struct vkm_param *p = &params->list[i];
        for (int part = VKM_PART_MOMENT1; p->count && part <= VKM_PART_MOMENT2 && status == VKMOE_OK; part++)
            status = copy_out(s, *out, p, (enum vkm_checkpoint_part)part, 0, p->count, 1);
    }
    return status == VKMOE_OK ? vkm_safetensors_sync(*out) : status;
}

enum vkmoe_status vkm_checkpoint_save(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *model, const struct vkmoe_train_config *train,
                                      const struct vkm_run_state *state, const struct vkm_params *params,
                                      vkm_fetch_fn fetch, void *user)
{
    struct vkm_safetensors_writer *weights = NULL, *moments = NULL;
    struct save s = {.log = log, .dir = dir, .params = params, .fetch = fetch, .user = user};
    enum vkmoe_status status = vkm_dir_create(log, dir);
    if (status != VKMOE_OK)
        return status;
    snprintf(s.step, sizeof s.step, "%" PRIu64, state->step);
    s.buffer = malloc(VKM_CHECKPOINT_PIECE * sizeof *s.buffer);
    if (!s.buffer)
        return vkm_fail_memory(log);
    if ((status = write_model(&s, model, &weights)) != VKMOE_OK ||
        (status = write_optimizer(&s, &moments)) != VKMOE_OK ||
        (status = vkm_tokenizer_write(log, dir)) != VKMOE_OK ||
        (status = vkm_hf_config_write(log, dir, model)) != VKMOE_OK ||
        (status = vkm_safetensors_commit(weights)) != VKMOE_OK ||
        (status = vkm_safetensors_commit(moments)) != VKMOE_OK)
        goto fail;
    if (!(status = vkm_trainer_json_write(log, dir, model, train, state)) &&
        !(status = vkm_manifest_write(log, dir, files, FILES)))
        status = vkm_dir_sync(log, dir);
fail:
    vkm_safetensors_destroy(weights);
    vkm_safetensors_destroy(moments);
    free(s.buffer);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

static bool same_model(const struct vkmoe_model_config *a, const struct vkmoe_model_config *b)
{
    return a->layers == b->layers && a->d_model == b->d_model && a->heads == b->heads && a->experts == b->experts &&
           a->top_k == b->top_k && a->d_expert == b->d_expert && a->seq == b->seq && a->vocab == b->vocab &&
           a->rope_theta == b->rope_theta && a->norm_eps == b->norm_eps && a->norm_topk == b->norm_topk &&
           a->gate == b->gate && a->d_shared == b->d_shared && a->router_bias == b->router_bias;
}

enum vkmoe_status vkm_checkpoint_verify(const struct vkmoe_log *log, const char *dir, enum vkm_verify what)
{
    static const struct {
        size_t first, count;
    } ranges[] = {[VKM_VERIFY_MODEL] = {0, 2}, [VKM_VERIFY_CONFIG] = {1, 2}, [VKM_VERIFY_ALL] = {0, FILES}};
    return vkm_manifest_verify(log, dir, files + ranges[what].first, ranges[what].count, what != VKM_VERIFY_MODEL);
}

enum vkmoe_status vkm_checkpoint_config(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *model,
                                        struct vkmoe_train_config *train, struct vkm_run_state *state)
{
    struct vkmoe_model_config saved;
    enum vkmoe_status status = vkm_trainer_json_read(log, dir, model, train, state);
    if (status == VKMOE_OK)
        status = vkm_hf_config_read(log, dir, &saved);
    if (status == VKMOE_OK && !same_model(model, &saved))
        status = vkm_fail(log, VKMOE_ERROR_FORMAT,
                          "%s: config.json and trainer.json describe different models; take both from one run", dir);
    return status;
}

struct load {
    const struct vkmoe_log *log;
    const char *dir;
    const struct vkm_params *params;
    vkm_store_fn store;
    void *user;
    float *buffer;                  /* [VKM_CHECKPOINT_PIECE] */
    struct vkm_hf_tensor *tensors;
    size_t count;
    struct vkm_safetensors *weights, *moments; /* moments: NULL with weights alone */
};

static enum vkmoe_status open_file(struct load *l, const char *name, const struct vkm_run_state *state,
                                   struct vkm_safetensors **out)
{
    char *path = vkm_path_join(l->dir, name), step[24];
    enum vkmoe_status status = path ? vkm_safetensors_open(l->log, path, out) : vkm_fail_memory(l->log);
    free(path);
    if (status != VKMOE_OK || !state)
        return status;
    const char *saved = vkm_safetensors_metadata(*out, "step");
    snprintf(step, sizeof step, "%" PRIu64, state->step);
    if (saved && strcmp(saved, step) == 0)
        return VKMOE_OK;
    return vkm_fail(l->log, VKMOE_ERROR_FORMAT,
                    "%s/%s is of step %.20s, trainer.json of step %s: files of different checkpoints are mixed; "
                    "restore a copy of one checkpoint or start anew", l->dir, name, saved ? saved : "unknown", step);
}

static enum vkmoe_status check_all(const struct load *l)
{
    const struct vkm_tensor *unused;
    char key[64];
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < l->count && status == VKMOE_OK; i++)
        status = vkm_safetensors_expect(l->weights, l->tensors[i].name, l->tensors[i].dims, l->tensors[i].rank,
                                        &unused);
    for (uint32_t i = 0; l->moments && i < l->params->count; i++) {
        const struct vkm_param *p = &l->params->list[i];
        for (int part = VKM_PART_MOMENT1; p->count && part <= VKM_PART_MOMENT2 && status == VKMOE_OK; part++) {
            moment_key(key, p, part);
            status = vkm_safetensors_expect(l->moments, key, p->dims, p->rank, &unused);
        }
    }
    return status;
}

/* A checked tensor times scale into elements [first, ...) of a parameter. */
static enum vkmoe_status copy_in(struct load *l, const struct vkm_safetensors *file, const char *name,
                                 const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                                 float scale)
{
    const struct vkm_tensor *tensor = vkm_safetensors_find(file, name);
    enum vkmoe_status status = VKMOE_OK;
    for (uint64_t done = 0, n; done < tensor->count && status == VKMOE_OK; done += n) {
        n = piece(tensor->count - done);
        status = vkm_safetensors_read(file, tensor, done, n, l->buffer);
        if (status != VKMOE_OK)
            break;
        multiply(l->buffer, n, scale);
        status = l->store(l->user, param, part, first + done, n, l->buffer);
    }
    return status;
}

/* What our model does not have must do nothing in the file's. */
static enum vkmoe_status check_zeros(struct load *l, const char *name)
{
    const struct vkm_tensor *tensor = vkm_safetensors_find(l->weights, name);
    for (uint64_t done = 0, n; done < tensor->count; done += n) {
        n = piece(tensor->count - done);
        enum vkmoe_status status = vkm_safetensors_read(l->weights, tensor, done, n, l->buffer);
        if (status != VKMOE_OK)
            return status;
        for (uint64_t i = 0; i < n; i++) {
            if (l->buffer[i] != 0)
                return vkm_fail(l->log, VKMOE_ERROR_FORMAT,
                                "%s/model.safetensors: \"%s\" is not zero, so another program has trained it; "
                                "vkmoe has no such weights", l->dir, name);
        }
    }
    return VKMOE_OK;
}

static enum vkmoe_status copy_all(struct load *l)
{
    char key[64];
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < l->count && status == VKMOE_OK; i++) {
        if (l->tensors[i].zeros)
            status = check_zeros(l, l->tensors[i].name);
    }
    for (size_t i = 0; i < l->count && status == VKMOE_OK; i++) {
        const struct vkm_hf_tensor *t = &l->tensors[i];
        if (!t->zeros)
            status = copy_in(l, l->weights, t->name, vkm_params_get(l->params, t->param, t->layer), VKM_PART_WEIGHT,
                             t->first, 1 / t->scale);
    }
    for (uint32_t i = 0; l->moments && i < l->params->count; i++) {
        const struct vkm_param *p = &l->params->list[i];
        for (int part = VKM_PART_MOMENT1; p->count && part <= VKM_PART_MOMENT2 && status == VKMOE_OK; part++) {
            moment_key(key, p, part);
            status = copy_in(l, l->moments, key, p, (enum vkm_checkpoint_part)part, 0, 1);
        }
    }
    return status;
}

enum vkmoe_status vkm_checkpoint_load(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *model, const struct vkm_run_state *state,
                                      const struct vkm_params *params, vkm_store_fn store, void *user)
{
    struct load l = {.log = log, .dir = dir, .params = params, .store = store, .user = user};
    enum vkmoe_status status = open_file(&l, "model.safetensors", state, &l.weights);
    if (status == VKMOE_OK && state)
        status = open_file(&l, "optimizer.safetensors", state, &l.moments);
    if (status == VKMOE_OK)
        status = vkm_hf_tensors(log, model, &l.tensors, &l.count);
    if (status == VKMOE_OK)
        status = check_all(&l);
    if (status == VKMOE_OK) {
        l.buffer = malloc(VKM_CHECKPOINT_PIECE * sizeof *l.buffer);
        status = l.buffer ? copy_all(&l) : vkm_fail_memory(log);
    }
    vkm_safetensors_close(l.weights);
    vkm_safetensors_close(l.moments);
    free(l.tensors);
    free(l.buffer);
    return status;
}
