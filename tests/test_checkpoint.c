/* Checkpoints: a round trip through files, mixtures of two, failures on the way. */
#include "base/json.h"
#include "nn/config.h"
#include "scratch.h"
#include "train/checkpoint.h"
#include "train/hf.h"

#include <math.h>

TestSuite(checkpoint, .init = scratch_begin, .fini = scratch_end);

static struct vkmoe_model_config model_of(bool norm_topk)
{
    return (struct vkmoe_model_config){.layers = 2, .d_model = 24, .heads = 3, .experts = 5, .top_k = 2, .d_expert = 12,
                                       .seq = 16, .vocab = 264, .rope_theta = 1e4f, .norm_eps = 1e-5f,
                                       .norm_topk = norm_topk};
}

static const struct vkmoe_train_config some_training = {
    .seed = 0xFEDCBA9876543210, .steps = 100, .batch = 3, .accum = 2, .warmup = 7, .lr = 3e-4f, .beta1 = 0.9f,
    .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.1f, .clip = 1, .balance = VKMOE_BALANCE_LBL, .balance_coef = 0.01f,
    .z_loss = 1e-5f, .log_every = 5, .eval_every = 50, .save_every = 25,
};
static const struct vkm_run_state some_state = {.step = 40, .tokens = 3840, .skipped = 1};

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
    assert_ok(vkm_params_create(&test_log, &d->model, &d->params));
    for (int part = 0; part < 3; part++) {
        cr_assert((d->values[part] = calloc(d->params.count, sizeof(float *))));
        for (uint32_t p = 0; p < d->params.count; p++) {
            cr_assert((d->values[part][p] = calloc(d->params.list[p].count, sizeof(float))));
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
    cr_assert(count <= VKM_CHECKPOINT_PIECE && first + count <= param->count);
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
    return vkm_checkpoint_save(&test_log, dir, &d->model, &some_training, &state, &d->params, fetch, d);
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

static void save_filled(const char *dir, bool norm_topk, struct vkm_run_state state)
{
    struct device d;
    device_begin(&d, model_of(norm_topk), true);
    assert_ok(save(&d, dir, state));
    device_end(&d);
}

Test(checkpoint, round_trip)
{
    struct vkmoe_model_config model;
    struct vkmoe_train_config train = {0};
    struct vkm_run_state state;
    for (int norm = 0; norm < 2; norm++) {
        struct device d;
        save_filled(at("a/run"), norm, some_state);
        assert_ok(vkm_checkpoint_config(&test_log, at("a/run"), &model, &train, &state));
        cr_expect(state.step == 40 && state.tokens == 3840 && state.skipped == 1);
        cr_expect_eq(train.seed, some_training.seed);
        cr_expect(train.steps == 100 && train.batch == 3 && train.accum == 2 && train.warmup == 7);
        cr_expect(train.lr == 3e-4f && train.beta1 == 0.9f && train.beta2 == 0.99f && train.eps == 1e-8f);
        cr_expect(train.weight_decay == 0.1f && train.clip == 1 && train.balance == VKMOE_BALANCE_LBL);
        cr_expect(train.balance_coef == 0.01f && train.z_loss == 1e-5f && train.log_every == 5);
        cr_expect(train.eval_every == 50 && train.save_every == 25);
        cr_expect(model.d_model == 24 && model.norm_topk == (norm == 1));

        device_begin(&d, model_of(norm), false);
        assert_ok(load(&d, at("a/run"), &state));
        expect_loaded(&d, 3);
        device_end(&d);
        device_begin(&d, model_of(norm), false);
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

/* A parameter of several pieces. */
Test(checkpoint, in_pieces)
{
    struct device d;
    struct vkmoe_model_config model = model_of(true);
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
    device_begin(&d, model_of(true), false);
    for (int i = 0; i < 3; i++) {
        char from[64], to[64];
        save_filled(at("old"), true, some_state);
        save_filled(at("new"), true, later);
        snprintf(from, sizeof from, "old/%s", names[i]);
        snprintf(to, sizeof to, "new/%s", names[i]);
        copy_file(from, to);
        assert_ok(vkm_checkpoint_config(&test_log, at("new"), &model, &train, &state));
        expect_failure(load(&d, at("new"), &state), VKMOE_ERROR_FORMAT, "different checkpoints are mixed");
    }
    save_filled(at("new"), false, later);
    copy_file("old/config.json", "new/config.json");
    expect_failure(vkm_checkpoint_config(&test_log, at("new"), &model, &train, &state), VKMOE_ERROR_FORMAT,
                   "different models");
    d.model.experts--;
    expect_failure(load(&d, at("old"), NULL), VKMOE_ERROR_FORMAT, "F32 [5, 24] where the model's is F32 [4, 24]");
    d.model.experts = 7;
    d.model.layers = 3;
    expect_failure(load(&d, at("old"), NULL), VKMOE_ERROR_FORMAT, "gate.weight\" is F32 [5, 24]");
    cr_expect_eq(d.calls, 0, "nothing is stored before everything is checked");
    d.model = model_of(true);
    expect_loaded(&d, 0);
    device_end(&d);
}

/* A save that fails leaves the earlier checkpoint as it was, and nothing else. */
Test(checkpoint, failures)
{
    struct vkm_run_state later = some_state;
    struct device d;
    later.step++;
    save_filled(at("run"), true, some_state);
    device_begin(&d, model_of(true), true);
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
    device_begin(&d, model_of(true), false);
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
    model = model_of(true);
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
        {"", "format", "2", "newer vkmoe"},
        {"", "format", "null", "\"format\""},
        {"", "step", "-1", "\"step\" must be an integer"},
        {"", "tokens", "\"1\"", "\"tokens\" must be"},
        {"", "model", "[]", "\"model\" must be an object"},
        {"", "train", "null", "\"train\" must be an object"},
        {"model", "layers", "0", "trainer.json: layers (0)"},
        {"model", "norm_topk", "1", "true or false"},
        {"model", "heads", "2", "different models"},
        {"train", "seed", "5", "a string"},
        {"train", "seed", "\"-5\"", "decimal digits"},
        {"train", "seed", "\"18446744073709551616\"", "decimal digits"},
        {"train", "balance", "\"best\"", "\"simbal\", \"lbl\" or \"none\""},
        {"train", "lr", "0", "trainer.json: lr (0)"},
        {"train", "lr", "1e300", "\"lr\" must be a number"},
        {"train", "steps", "5000000000", "\"steps\" must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(config_changed(cases[i].object, cases[i].key, cases[i].value), VKMOE_ERROR_FORMAT,
                       cases[i].says);
}
