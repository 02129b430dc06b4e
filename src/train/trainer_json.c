#include "train/trainer_json.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "nn/config.h"

enum { FORMAT = 3 };

/* One table for both directions. */
enum kind { COUNT32, COUNT63, DIGITS, REAL, FLAG, ENUM, DEVICE };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *const *names;       /* ENUM: of its values from 0 on, NULL-terminated */
    const char *choices;            /* ENUM: the same for a message */
};

#define MEMBER(type, name, member, kind) {name, kind, offsetof(struct type, member), NULL, NULL}
#define FIELD(type, name, kind) MEMBER(type, #name, name, kind)
#define ENUMERATION(type, name, member, table) {name, ENUM, offsetof(struct type, member), table##_names, table##_choices}

static const char *const gate_names[] = {[VKMOE_GATE_SOFTMAX] = "softmax", [VKMOE_GATE_SIGMOID] = "sigmoid", NULL};
static const char gate_choices[] = "\"softmax\" or \"sigmoid\"";
static const char *const scope_names[] = {
    [VKMOE_LBL_SEQUENCE] = "sequence", [VKMOE_LBL_MICRO_BATCH] = "micro-batch", [VKMOE_LBL_GLOBAL_BATCH] = "global", NULL,
};
static const char scope_choices[] = "\"sequence\", \"micro-batch\" or \"global\"";
static const char *const init_names[] = {
    [VKMOE_ROUTER_ORTHOGONAL] = "orthogonal",
    [VKMOE_ROUTER_NORMAL] = "normal",
    [VKMOE_ROUTER_UNIT] = "unit",
    [VKMOE_ROUTER_ORTHOGONAL_SMALL] = "orthogonal-small",
    NULL,
};
static const char init_choices[] = "\"orthogonal\", \"normal\", \"unit\" or \"orthogonal-small\"";
static const char *const precision_names[] = {[VKMOE_F32] = "f32", [VKMOE_F16] = "f16", [VKMOE_BF16] = "bf16", NULL};
static const char precision_choices[] = "\"f32\", \"f16\" or \"bf16\"";
/* What stands in an ENUM's field. */
_Static_assert(sizeof(enum vkmoe_gate) == sizeof(unsigned) && sizeof(enum vkmoe_lbl_scope) == sizeof(unsigned) &&
               sizeof(enum vkmoe_router_init) == sizeof(unsigned) &&
               sizeof(enum vkmoe_precision) == sizeof(unsigned), "enumerations are as wide as unsigned");

static const struct field model_fields[] = {
    FIELD(vkmoe_model_config, layers, COUNT32),
    FIELD(vkmoe_model_config, d_model, COUNT32),
    FIELD(vkmoe_model_config, heads, COUNT32),
    FIELD(vkmoe_model_config, experts, COUNT32),
    FIELD(vkmoe_model_config, top_k, COUNT32),
    FIELD(vkmoe_model_config, d_expert, COUNT32),
    FIELD(vkmoe_model_config, seq, COUNT32),
    FIELD(vkmoe_model_config, vocab, COUNT32),
    FIELD(vkmoe_model_config, rope_theta, REAL),
    FIELD(vkmoe_model_config, norm_eps, REAL),
    FIELD(vkmoe_model_config, norm_topk, FLAG),
    ENUMERATION(vkmoe_model_config, "gate", gate, gate),
    FIELD(vkmoe_model_config, d_shared, COUNT32),
    FIELD(vkmoe_model_config, router_bias, FLAG),
};
static const struct field train_fields[] = {
    FIELD(vkmoe_train_config, seed, DIGITS),
    FIELD(vkmoe_train_config, steps, COUNT32),
    FIELD(vkmoe_train_config, batch, COUNT32),
    FIELD(vkmoe_train_config, accum, COUNT32),
    FIELD(vkmoe_train_config, warmup, COUNT32),
    FIELD(vkmoe_train_config, lr, REAL),
    FIELD(vkmoe_train_config, beta1, REAL),
    FIELD(vkmoe_train_config, beta2, REAL),
    FIELD(vkmoe_train_config, eps, REAL),
    FIELD(vkmoe_train_config, weight_decay, REAL),
    FIELD(vkmoe_train_config, clip, REAL),
    MEMBER(vkmoe_train_config, "simbal", balance.simbal, REAL),
    MEMBER(vkmoe_train_config, "lbl", balance.lbl, REAL),
    MEMBER(vkmoe_train_config, "lossfree", balance.lossfree, REAL),
    MEMBER(vkmoe_train_config, "router_z", balance.router_z, REAL),
    ENUMERATION(vkmoe_train_config, "lbl_scope", balance.lbl_scope, scope),
    MEMBER(vkmoe_train_config, "lbl_full", balance.lbl_full, FLAG),
    ENUMERATION(vkmoe_train_config, "router_init", router_init, init),
    FIELD(vkmoe_train_config, z_loss, REAL),
    ENUMERATION(vkmoe_train_config, "precision", precision, precision),
    FIELD(vkmoe_train_config, recompute, FLAG),
    FIELD(vkmoe_train_config, log_every, COUNT32),
    FIELD(vkmoe_train_config, eval_every, COUNT32),
    FIELD(vkmoe_train_config, save_every, COUNT32),
    FIELD(vkmoe_train_config, pes_tokens, COUNT32),
    FIELD(vkmoe_train_config, pes_every, COUNT32),
    FIELD(vkmoe_train_config, tensorboard, FLAG),
};
static const struct field state_fields[] = {
    FIELD(vkm_run_state, step, COUNT63),
    FIELD(vkm_run_state, tokens, COUNT63),
    FIELD(vkm_run_state, skipped, COUNT63),
    FIELD(vkm_run_state, loss_scale, REAL),
    FIELD(vkm_run_state, good_steps, COUNT32),
    FIELD(vkm_run_state, data, DIGITS),
    FIELD(vkm_run_state, device, DEVICE),
};
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* jansson's integers end at 2^63 - 1, so all 64 bits are written as a string of decimal digits. */
static json_t *write_digits(uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static uint64_t read_digits(struct vkm_json *in, const char *key)
{
    const char *text = vkm_json_string(in, key);
    char *end = NULL;
    if (!text)
        return 0;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    vkm_json_require(in, text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0, key,
                     "a string of decimal digits below 2^64");
    return value;
}

static json_t *write_enum(const void *at, const struct field *field)
{
    unsigned value;
    memcpy(&value, at, sizeof value);
    return json_string(field->names[value]);
}

static void read_enum(struct vkm_json *in, void *at, const struct field *field)
{
    const char *text = vkm_json_string(in, field->name);
    unsigned value = 0;
    while (text && field->names[value] && strcmp(text, field->names[value]) != 0)
        value++;
    bool found = text && field->names[value];
    vkm_json_require(in, found, field->name, field->choices);
    value = found ? value : 0;
    memcpy(at, &value, sizeof value);
}

/* Drivers word their names as they like, and a long one has been cut: what is not UTF-8 becomes ASCII. */
static json_t *write_device(const char *device)
{
    char ascii[VKM_DEVICE_TEXT];
    json_t *value = json_string(device);
    if (value)
        return value;
    size_t length = strlen(device);
    for (size_t i = 0; i <= length; i++)
        ascii[i] = (unsigned char)device[i] < 0x80 ? device[i] : '?';
    return json_string(ascii);
}

static void read_device(struct vkm_json *in, const char *key, char *device)
{
    const char *text = vkm_json_string(in, key);
    bool fits = text && strlen(text) < VKM_DEVICE_TEXT;
    vkm_json_require(in, fits, key, "a string of at most 511 bytes");
    strcpy(device, fits ? text : "");
}

static json_t *write_fields(const void *from, const struct field *fields, size_t count)
{
    json_t *object = json_object();
    int failed = !object;
    for (size_t i = 0; i < count && !failed; i++) {
        const void *at = (const char *)from + fields[i].offset;
        json_t *value = NULL;
        switch (fields[i].kind) {
        case COUNT32: value = json_integer((json_int_t)*(const uint32_t *)at); break;
        case COUNT63: value = json_integer((json_int_t)*(const uint64_t *)at); break;
        case DIGITS: value = write_digits(*(const uint64_t *)at); break;
        case REAL: value = vkm_json_float(*(const float *)at); break;
        case FLAG: value = json_boolean(*(const bool *)at); break;
        case ENUM: value = write_enum(at, &fields[i]); break;
        case DEVICE: value = write_device(at); break;
        }
        failed = json_object_set_new(object, fields[i].name, value);
    }
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

static void read_fields(struct vkm_json *in, void *to, const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *at = (char *)to + fields[i].offset;
        const char *name = fields[i].name;
        switch (fields[i].kind) {
        case COUNT32: *(uint32_t *)at = (uint32_t)vkm_json_uint(in, name, 0, UINT32_MAX); break;
        case COUNT63: *(uint64_t *)at = vkm_json_uint(in, name, 0, INT64_MAX); break;
        case DIGITS: *(uint64_t *)at = read_digits(in, name); break;
        case REAL: *(float *)at = (float)vkm_json_real(in, name, 0, FLT_MAX); break;
        case FLAG: *(bool *)at = vkm_json_bool(in, name); break;
        case ENUM: read_enum(in, at, &fields[i]); break;
        case DEVICE: read_device(in, name, at); break;
        }
    }
}

enum vkmoe_status vkm_trainer_json_write(const struct vkmoe_log *log, const char *dir,
                                         const struct vkmoe_model_config *model,
                                         const struct vkmoe_train_config *train, const struct vkm_run_state *state)
{
    json_t *root = write_fields(state, state_fields, COUNT(state_fields));
    int failed = !root || json_object_set_new(root, "format", json_integer(FORMAT)) ||
                 json_object_set_new(root, "model", write_fields(model, model_fields, COUNT(model_fields))) ||
                 json_object_set_new(root, "train", write_fields(train, train_fields, COUNT(train_fields)));
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
    read_fields(in, state, state_fields, COUNT(state_fields));
    const json_t *root = in->object;
    if ((in->object = vkm_json_object(in, "model")))
        read_fields(in, model, model_fields, COUNT(model_fields));
    in->object = root;
    if ((in->object = vkm_json_object(in, "train"))) {
        read_fields(in, train, train_fields, COUNT(train_fields));
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
