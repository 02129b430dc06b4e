#include "train/trainer_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "nn/config.h"
#include "train/fields.h"

enum { FORMAT = 4 };

static const struct vkm_field model_fields[] = {
    VKM_FIELD(vkmoe_model_config, layers, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, d_model, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, heads, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, experts, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, top_k, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, d_expert, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, seq, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, vocab, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, rope_theta, VKM_FIELD_REAL),
    VKM_FIELD(vkmoe_model_config, norm_eps, VKM_FIELD_REAL),
    VKM_FIELD(vkmoe_model_config, norm_topk, VKM_FIELD_FLAG),
    VKM_ENUMERATION(vkmoe_model_config, "gate", gate, vkm_gate_names),
    VKM_FIELD(vkmoe_model_config, d_shared, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_model_config, router_bias, VKM_FIELD_FLAG),
};
static const struct vkm_field train_fields[] = {
    VKM_FIELD(vkmoe_train_config, seed, VKM_FIELD_DIGITS),
    VKM_FIELD(vkmoe_train_config, steps, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, batch, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, accum, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, warmup, VKM_FIELD_COUNT32),
    VKM_ADAMW_FIELDS(vkmoe_train_config),
    VKM_BALANCE_FIELDS(vkmoe_train_config),
    VKM_ENUMERATION(vkmoe_train_config, "router_init", router_init, vkm_init_names),
    VKM_FIELD(vkmoe_train_config, z_loss, VKM_FIELD_REAL),
    VKM_ENUMERATION(vkmoe_train_config, "precision", precision, vkm_precision_names),
    VKM_FIELD(vkmoe_train_config, recompute, VKM_FIELD_FLAG),
    VKM_FIELD(vkmoe_train_config, log_every, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, eval_every, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, save_every, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, keep, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, max_bad_steps, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, spike, VKM_FIELD_REAL),
    VKM_FIELD(vkmoe_train_config, pes_tokens, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, pes_every, VKM_FIELD_COUNT32),
    VKM_FIELD(vkmoe_train_config, tensorboard, VKM_FIELD_FLAG),
};
static const struct vkm_field state_fields[] = {
    VKM_FIELD(vkm_run_state, step, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, tokens, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, skipped, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, loss_scale, VKM_FIELD_REAL),
    VKM_FIELD(vkm_run_state, good_steps, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_run_state, bad_steps, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_run_state, loss_mean, VKM_FIELD_REAL),
    VKM_FIELD(vkm_run_state, loss_count, VKM_FIELD_COUNT32),
    VKM_FIELD(vkm_run_state, passed_over, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, val_step, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, val_tokens, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, val_loss, VKM_FIELD_REAL),
    VKM_FIELD(vkm_run_state, best_step, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, best_tokens, VKM_FIELD_COUNT63),
    VKM_FIELD(vkm_run_state, best_loss, VKM_FIELD_REAL),
    VKM_FIELD(vkm_run_state, data, VKM_FIELD_DIGITS),
    VKM_FIELD(vkm_run_state, device, VKM_FIELD_TEXT),
    VKM_FIELD(vkm_run_state, version, VKM_FIELD_TEXT),
};
#define COUNT(table) (sizeof(table) / sizeof *(table))

enum vkmoe_status vkm_trainer_json_write(const struct vkmoe_log *log, const char *dir,
                                         const struct vkmoe_model_config *model,
                                         const struct vkmoe_train_config *train, const struct vkm_run_state *state)
{
    json_t *root = vkm_fields_write(state, state_fields, COUNT(state_fields));
    int failed = !root || json_object_set_new(root, "format", json_integer(FORMAT)) ||
                 json_object_set_new(root, "model", vkm_fields_write(model, model_fields, COUNT(model_fields))) ||
                 json_object_set_new(root, "train", vkm_fields_write(train, train_fields, COUNT(train_fields)));
    char *path = vkm_path_join(dir, "trainer.json");
    enum vkmoe_status status;
    if (!failed && path) {
        status = vkm_json_save(log, path, root);
    } else {
        json_decref(root);
        status = vkm_fail_memory(log);
    }
    free(path);
    return status;
}

static enum vkmoe_status parse(struct vkm_json *in, struct vkmoe_model_config *model, struct vkmoe_train_config *train,
                               struct vkm_run_state *state)
{
    const struct vkmoe_log prefixed = vkm_json_log(in);
    uint64_t format = vkm_json_uint(in, "format", 1, INT32_MAX);
    if (in->status == VKMOE_OK && format > FORMAT)
        return vkm_fail(in->log, VKMOE_ERROR_FORMAT, "%s: written by a newer vkmoe (format %" PRIu64 "); use that one",
                        in->path, format);
    if (in->status == VKMOE_OK && format < FORMAT)
        return vkm_fail(in->log, VKMOE_ERROR_FORMAT,
                        "%s: written by an older vkmoe (format %" PRIu64 "), whose runs this one cannot go on with; "
                        "train anew", in->path, format);
    vkm_fields_read(in, state, state_fields, COUNT(state_fields));
    const json_t *root = in->object;
    if ((in->object = vkm_json_object(in, "model")))
        vkm_fields_read(in, model, model_fields, COUNT(model_fields));
    in->object = root;
    if ((in->object = vkm_json_object(in, "train"))) {
        vkm_fields_read(in, train, train_fields, COUNT(train_fields));
        vkm_json_require(in, model->router_bias || !(train->balance.lossfree > 0), "lossfree",
                         "0: the model has no \"router_bias\"");
    }
    if (in->status == VKMOE_OK && vkm_config_check(&prefixed, model, train) != VKMOE_OK)
        return VKMOE_ERROR_FORMAT;
    return in->status;
}

enum vkmoe_status vkm_trainer_json_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *model,
                                        struct vkmoe_train_config *train, struct vkm_run_state *state)
{
    json_t *root = NULL;
    char *path = vkm_path_join(dir, "trainer.json");
    *model = (struct vkmoe_model_config){0};
    *train = (struct vkmoe_train_config){0};
    *state = (struct vkm_run_state){0};
    enum vkmoe_status status = path ? vkm_json_load(log, path, &root) : vkm_fail_memory(log);
    if (status == VKMOE_OK) {
        struct vkm_json in = {.log = log, .path = path, .object = root};
        status = parse(&in, model, train, state);
    }
    if (status != VKMOE_OK) {
        *model = (struct vkmoe_model_config){0};
        *train = (struct vkmoe_train_config){0};
        *state = (struct vkm_run_state){0};
    }
    json_decref(root);
    free(path);
    return status;
}

enum vkmoe_status vkm_trainer_json_changes(const struct vkmoe_log *log, const char *dir, const struct vkmoe_train_config *saved,
                                           const struct vkmoe_train_config *now)
{
    json_t *was = vkm_fields_write(saved, train_fields, COUNT(train_fields)), *value;
    json_t *is = vkm_fields_write(now, train_fields, COUNT(train_fields));
    enum vkmoe_status status = was && is ? VKMOE_OK : vkm_fail_memory(log);
    const char *key;
    json_object_foreach(status ? NULL : is, key, value) {
        const json_t *before = json_object_get(was, key);
        if (json_equal(value, before))
            continue;
        const size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
        char *old = vkm_json_text(before, flags), *new = vkm_json_text(value, flags);
        vkm_log(log, VKMOE_LOG_WARNING, "%s: %s was %s, from now on it is %s", dir, key, old ? old : "?", new ? new : "?");
        free(old);
        free(new);
    }
    json_decref(is);
    json_decref(was);
    return status;
}
