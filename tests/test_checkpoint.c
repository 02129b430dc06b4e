/* Checkpoints: a round trip through files, mixtures of two, failures on the way. */
#include "base/json.h"
#include "layouts.h"
#include "nn/config.h"
#include "scratch.h"
#include "train/checkpoint.h"
#include "train/hf.h"
#include "train/safetensors.h"

#include <math.h>

TestSuite(checkpoint, .init = scratch_begin, .fini = scratch_end);

static const struct vkmoe_train_config some_training = {
    .seed = 0xFEDCBA9876543210, .steps = 100, .batch = 3, .accum = 2, .warmup = 7, .lr = 3e-4f, .beta1 = 0.9f,
    .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.1f, .clip = 1,
    .balance = {.simbal = 0.25f, .lbl = 0.01f, .router_z = 1e-3f, .lbl_scope = VKMOE_LBL_GLOBAL_BATCH, .lbl_full = true},
    .router_init = VKMOE_ROUTER_UNIT, .z_loss = 1e-5f, .log_every = 5, .eval_every = 50, .save_every = 25,
    .pes_tokens = 512, .pes_every = 75, .tensorboard = true,
};
static const struct vkm_run_state some_state = {.step = 40, .tokens = 3840, .skipped = 1, .data = UINT64_MAX - 4,
                                                .device = "a device (a driver 1.2)"};

/* A router z-loss goes with a softmax gate alone. */
static struct vkmoe_train_config training_of(const struct vkmoe_model_config *model)
{
    struct vkmoe_train_config train = some_training;
    if (model->gate == VKMOE_GATE_SIGMOID)
        train.balance.router_z = 0;
    if (model->router_bias)
        train.balance.lossfree = 1e-3f;
    return train;
}

/* What a trainer would have on its device. */
struct device {
    struct vkmoe_model_config model;
    struct vkm_params params;
    float **values[3];              /* [part][param][count] */
    unsigned calls, fail_at;        /* fail_at: number of the call that fails, from 1 */
};

static float value_of(uint32_t param, int part, uint64_t i)
{
    return (float)(param * 3 + (unsigned)part) + (float)i / 65536;
}

static void device_begin(struct device *d, struct vkmoe_model_config model, bool filled)
{
    *d = (struct device){.model = model};
    assert_ok(vkm_params_create(&test_log, &d->model, NULL, &d->params));
    for (int part = 0; part < 3; part++) {
        cr_assert((d->values[part] = calloc(d->params.count, sizeof(float *))));
        for (uint32_t p = 0; p < d->params.count; p++) {
            cr_assert((d->values[part][p] = calloc(d->params.list[p].count + 1, sizeof(float))));
            for (uint64_t i = 0; i < d->params.list[p].count; i++)
                d->values[part][p][i] = filled ? value_of(p, part, i) : NAN;
        }
    }
}

static void device_end(struct device *d)
{
    for (int part = 0; part < 3; part++) {
        for (uint32_t p = 0; p < d->params.count; p++)
            free(d->values[part][p]);
        free(d->values[part]);
    }
    vkm_params_destroy(&d->params);
}

static float *place(struct device *d, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                    uint64_t count)
{
    cr_assert(count > 0 && count <= VKM_CHECKPOINT_PIECE && first + count <= param->count);
    return ++d->calls == d->fail_at ? NULL : d->values[part][param - d->params.list] + first;
}

static enum vkmoe_status fetch(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, float *values)
{
    const float *from = place(user, param, part, first, count);
    if (!from)
        return vkm_fail(&test_log, VKMOE_ERROR_DEVICE_LOST, "device lost");
    memcpy(values, from, count * sizeof *values);
    return VKMOE_OK;
}

static enum vkmoe_status store(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, const float *values)
{
    float *to = place(user, param, part, first, count);
    if (!to)
        return vkm_fail(&test_log, VKMOE_ERROR_DEVICE_LOST, "device lost");
    memcpy(to, values, count * sizeof *values);
    return VKMOE_OK;
}

static enum vkmoe_status save(struct device *d, const char *dir, struct vkm_run_state state)
{
    struct vkmoe_train_config train = training_of(&d->model);
    return vkm_checkpoint_save(&test_log, dir, &d->model, &train, &state, &d->params, fetch, d);
}

static enum vkmoe_status load(struct device *d, const char *dir, const struct vkm_run_state *state)
{
    return vkm_checkpoint_load(&test_log, dir, &d->model, state, &d->params, store, d);
}

/* parts: how many of weight, moment1, moment2 were loaded; the others are as they were. */
static void expect_loaded(const struct device *d, int parts)
{
    for (int part = 0; part < 3; part++)
        for (uint32_t p = 0; p < d->params.count; p++)
            for (uint64_t i = 0; i < d->params.list[p].count; i++) {
                float is = d->values[part][p][i];
                cr_assert(part < parts ? is == value_of(p, part, i) : isnan(is), "%s, part %d, element %llu: %g",
                          d->params.list[p].name, part, (unsigned long long)i, (double)is);
            }
}

static void save_filled(const char *dir, int layout, struct vkm_run_state state)
{
    struct device d;
    device_begin(&d, layout_model(layout), true);
    assert_ok(save(&d, dir, state));
    device_end(&d);
}

Test(checkpoint, round_trip)
{
    struct vkmoe_model_config model;
    struct vkmoe_train_config train = {0};
    struct vkm_run_state state;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        struct vkmoe_model_config saved = layout_model(layout);
        struct device d;
        save_filled(at("a/run"), layout, some_state);
        assert_ok(vkm_checkpoint_config(&test_log, at("a/run"), &model, &train, &state));
        cr_expect(same_model(&model, &saved), "%s", layout_cases[layout].type);

        device_begin(&d, saved, false);
        assert_ok(load(&d, at("a/run"), &state));
        expect_loaded(&d, 3);
        device_end(&d);
        device_begin(&d, saved, false);
        cr_assert_eq(remove(at("a/run/optimizer.safetensors")), 0);
        cr_assert_eq(remove(at("a/run/trainer.json")), 0);
        assert_ok(load(&d, at("a/run"), NULL));
        expect_loaded(&d, 1);
        expect_failure(load(&d, at("a/run"), &state), VKMOE_ERROR_IO, "optimizer.safetensors");
        expect_failure(vkm_checkpoint_config(&test_log, at("a/run"), &model, &train, &state), VKMOE_ERROR_IO,
                       "trainer.json");
        device_end(&d);
    }
}

/* Every field of trainer.json, each enumeration with all its values. */
Test(checkpoint, trainer_json_round_trip)
{
    for (int i = 0; i < 4; i++) {
        struct vkmoe_model_config model = layout_model(9), read_model;
        struct vkmoe_train_config train = training_of(&model), read;
        struct vkm_run_state state;
        model.gate = i % 2 ? VKMOE_GATE_SOFTMAX : VKMOE_GATE_SIGMOID;
        train.balance.router_z = i % 2 ? 1e-3f : 0;
        train.balance.lbl_scope = (enum vkmoe_lbl_scope)(i % 3);
        train.router_init = (enum vkmoe_router_init)i;
        train.balance.lbl_full = train.tensorboard = i % 2;
        assert_ok(vkm_trainer_json_write(&test_log, scratch, &model, &train, &some_state));
        assert_ok(vkm_trainer_json_read(&test_log, scratch, &read_model, &read, &state));
        cr_expect(same_model(&model, &read_model));
        cr_expect(state.step == 40 && state.tokens == 3840 && state.skipped == 1 && state.data == some_state.data);
        cr_expect_str_eq(state.device, some_state.device);
        cr_expect(read.seed == train.seed && read.steps == 100 && read.batch == 3 && read.accum == 2 && read.warmup == 7);
        cr_expect(read.lr == 3e-4f && read.beta1 == 0.9f && read.beta2 == 0.99f && read.eps == 1e-8f);
        cr_expect(read.weight_decay == 0.1f && read.clip == 1 && read.z_loss == 1e-5f);
        cr_expect(read.balance.simbal == 0.25f && read.balance.lbl == 0.01f && read.balance.lossfree == 1e-3f);
        cr_expect(read.balance.router_z == train.balance.router_z && read.balance.lbl_full == train.balance.lbl_full);
        cr_expect_eq(read.balance.lbl_scope, train.balance.lbl_scope);
        cr_expect_eq(read.router_init, train.router_init);
        cr_expect(read.log_every == 5 && read.eval_every == 50 && read.save_every == 25);
        cr_expect(read.pes_tokens == 512 && read.pes_every == 75 && read.tensorboard == train.tensorboard);
    }
}

/* A driver's name that is not UTF-8 is no reason not to save. */
Test(checkpoint, device_names)
{
    struct vkmoe_model_config model = layout_model(0);
    struct vkmoe_train_config train = some_training;
    struct vkm_run_state state = some_state;
    strcpy(state.device, "Ger\xE4t (driver)");
    assert_ok(vkm_trainer_json_write(&test_log, scratch, &model, &train, &state));
    assert_ok(vkm_trainer_json_read(&test_log, scratch, &model, &train, &state));
    cr_expect_str_eq(state.device, "Ger?t (driver)");
    memset(state.device, 'x', sizeof state.device - 1);
    assert_ok(vkm_trainer_json_write(&test_log, scratch, &model, &train, &state));
    assert_ok(vkm_trainer_json_read(&test_log, scratch, &model, &train, &state));
    cr_expect_eq(strlen(state.device), sizeof state.device - 1);
}

/* Another program has trained what our model does not have. */
Test(checkpoint, placeholders_that_are_not_zero)
{
    for (int layout = 1; layout < LAYOUTS; layout++) {
        struct vkmoe_model_config model = layout_model(layout);
        struct vkm_safetensors *file;
        struct vkm_hf_tensor *tensors;
        struct device d;
        size_t count, bytes;
        char *data;
        save_filled(scratch, layout, some_state);
        assert_ok(vkm_hf_tensors(&test_log, &model, &tensors, &count));
        device_begin(&d, model, false);
        for (size_t i = 0; i < count; i++) {
            if (!tensors[i].zeros)
                continue;
            assert_ok(vkm_safetensors_open(&test_log, at("model.safetensors"), &file));
            const struct vkm_tensor *t = vkm_safetensors_find(file, tensors[i].name);
            assert_ok(vkm_file_read(&test_log, at("model.safetensors"), 1 << 30, &data, &bytes));
            size_t header = (unsigned char)data[0] | (size_t)(unsigned char)data[1] << 8 | (size_t)(unsigned char)data[2] << 16;
            char *byte = data + 8 + header + t->begin + t->bytes - 1;
            *byte = 0x40;
            put_bytes("model.safetensors", data, bytes);
            expect_failure(load(&d, scratch, NULL), VKMOE_ERROR_FORMAT, "is not zero");
            *byte = 0;
            put_bytes("model.safetensors", data, bytes);
            vkm_safetensors_close(file);
            free(data);
        }
        cr_expect_eq(d.calls, 0);
        device_end(&d);
        free(tensors);
    }
}

/* A parameter of several pieces. */
Test(checkpoint, in_pieces)
{
    struct device d;
    struct vkmoe_model_config model = layout_model(0);
    model.layers = 1;
    model.d_model = 100 * model.heads;
    model.vocab = 15000;
    device_begin(&d, model, true);
    cr_assert(vkm_params_get(&d.params, VKM_PARAM_EMBED, VKM_NO_LAYER)->count > 2 * VKM_CHECKPOINT_PIECE);
    assert_ok(save(&d, scratch, some_state));
    for (int part = 0; part < 3; part++)
        for (uint32_t p = 0; p < d.params.count; p++)
            memset(d.values[part][p], 0xFF, d.params.list[p].count * sizeof(float));
    assert_ok(load(&d, scratch, &some_state));
    expect_loaded(&d, 3);
    device_end(&d);
}

static void copy_file(const char *from, const char *to)
{
    size_t bytes;
    char *data;
    assert_ok(vkm_file_read(&test_log, at(from), 1 << 30, &data, &bytes));
    put_bytes(to, data, bytes);
    free(data);
}

Test(checkpoint, mixtures)
{
    static const char *const names[] = {"model.safetensors", "optimizer.safetensors", "trainer.json"};
    struct vkm_run_state later = some_state, state;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    struct device d;
    later.step++;
    device_begin(&d, layout_model(0), false);
    for (int i = 0; i < 3; i++) {
        char from[64], to[64];
        save_filled(at("old"), 0, some_state);
        save_filled(at("new"), 0, later);
        snprintf(from, sizeof from, "old/%s", names[i]);
        snprintf(to, sizeof to, "new/%s", names[i]);
        copy_file(from, to);
        assert_ok(vkm_checkpoint_config(&test_log, at("new"), &model, &train, &state));
        expect_failure(load(&d, at("new"), &state), VKMOE_ERROR_FORMAT, "different checkpoints are mixed");
    }
    save_filled(at("new"), 1, later);
    copy_file("old/config.json", "new/config.json");
    expect_failure(vkm_checkpoint_config(&test_log, at("new"), &model, &train, &state), VKMOE_ERROR_FORMAT,
                   "different models");
    d.model.experts--;
    expect_failure(load(&d, at("old"), NULL), VKMOE_ERROR_FORMAT, "F32 [5, 24] where the model's is F32 [4, 24]");
    d.model.experts = 7;
    d.model.layers = 3;
    expect_failure(load(&d, at("old"), NULL), VKMOE_ERROR_FORMAT, "gate.weight\" is F32 [5, 24]");
    cr_expect_eq(d.calls, 0, "nothing is stored before everything is checked");
    d.model = layout_model(0);
    expect_loaded(&d, 0);
    device_end(&d);
}

/* A save that fails leaves the earlier checkpoint as it was, and nothing else. */
Test(checkpoint, failures)
{
    struct vkm_run_state later = some_state;
    struct device d;
    later.step++;
    save_filled(at("run"), 0, some_state);
    device_begin(&d, layout_model(0), true);
    assert_ok(save(&d, at("other"), some_state));
    unsigned calls = d.calls;
    for (d.fail_at = 1; d.fail_at <= calls; d.fail_at += calls / 7) {
        d.calls = 0;
        expect_failure(save(&d, at("run"), later), VKMOE_ERROR_DEVICE_LOST, "device lost");
        cr_expect_neq(access(at("run/model.safetensors.tmp"), F_OK), 0);
        cr_expect_neq(access(at("run/optimizer.safetensors.tmp"), F_OK), 0);
    }
    d.fail_at = 0;
    put("file", "");
    expect_failure(save(&d, at("file/run"), later), VKMOE_ERROR_IO, "file");
    expect_failure(save(&d, "/proc/run", later), VKMOE_ERROR_IO, "/proc/run");
    device_end(&d);
    device_begin(&d, layout_model(0), false);
    assert_ok(load(&d, at("run"), &some_state));
    expect_loaded(&d, 3);
    d.calls = 0;
    d.fail_at = 3;
    expect_failure(load(&d, at("run"), &some_state), VKMOE_ERROR_DEVICE_LOST, "device lost");
    device_end(&d);
}

static enum vkmoe_status config_changed(const char *object, const char *key, const char *value)
{
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    struct vkm_run_state state;
    json_t *root;
    model = layout_model(0);
    assert_ok(vkm_hf_config_write(&test_log, scratch, &model));
    assert_ok(vkm_trainer_json_write(&test_log, scratch, &model, &some_training, &some_state));
    assert_ok(vkm_json_load(&test_log, at("trainer.json"), &root));
    json_object_set_new(*object ? json_object_get(root, object) : root, key, json_loads(value, JSON_DECODE_ANY, NULL));
    assert_ok(vkm_json_save(&test_log, at("trainer.json"), root));
    return vkm_checkpoint_config(&test_log, scratch, &model, &train, &state);
}

Test(checkpoint, trainer_json_failures)
{
    static const struct {
        const char *object, *key, *value, *says;
    } cases[] = {
        {"", "format", "5", "newer vkmoe"},
        {"", "format", "3", "written by an older vkmoe (format 3)"},
        {"", "format", "null", "\"format\""},
        {"", "step", "-1", "\"step\" must be an integer"},
        {"", "tokens", "\"1\"", "\"tokens\" must be"},
        {"", "model", "[]", "\"model\" must be an object"},
        {"", "model", "null", "\"model\" must be an object"},
        {"", "train", "null", "\"train\" must be an object"},
        {"model", "layers", "0", "trainer.json: layers (0)"},
        {"model", "norm_topk", "1", "true or false"},
        {"model", "heads", "2", "different models"},
        {"train", "seed", "5", "a string"},
        {"train", "seed", "\"-5\"", "decimal digits"},
        {"train", "seed", "\"18446744073709551616\"", "decimal digits"},
        {"", "data", "7", "a string"},
        {"", "data", "\"0x7\"", "decimal digits"},
        {"", "device", "null", "a string"},
        {"model", "gate", "\"tanh\"", "\"softmax\" or \"sigmoid\""},
        {"model", "gate", "1", "a string"},
        {"model", "gate", "\"sigmoid\"", "trainer.json: router z-loss needs a softmax gate"},
        {"model", "d_shared", "6", "trainer.json: d_shared (6) must be a multiple of 4"},
        {"model", "d_shared", "12", "different models"},
        {"model", "router_bias", "true", "different models"},
        {"train", "simbal", "-1", "\"simbal\" must be a number"},
        {"train", "lbl", "null", "\"lbl\" must be a number"},
        {"train", "lossfree", "0.5", "\"lossfree\" must be 0: the model has no \"router_bias\""},
        {"train", "router_z", "\"x\"", "\"router_z\" must be a number"},
        {"train", "lbl_scope", "\"world\"", "\"sequence\", \"micro-batch\" or \"global\""},
        {"train", "lbl_full", "0", "true or false"},
        {"train", "router_init", "\"\"", "\"orthogonal\", \"normal\", \"unit\" or \"orthogonal-small\""},
        {"train", "pes_tokens", "-1", "\"pes_tokens\" must be"},
        {"train", "tensorboard", "null", "true or false"},
        {"train", "lr", "0", "trainer.json: lr (0)"},
        {"train", "lr", "1e300", "\"lr\" must be a number"},
        {"train", "steps", "5000000000", "\"steps\" must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(config_changed(cases[i].object, cases[i].key, cases[i].value), VKMOE_ERROR_FORMAT,
                       cases[i].says);
}
