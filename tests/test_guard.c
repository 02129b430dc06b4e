/* What keeps a run alive: checkpoints beside the training, numbers that are not finite, losses that jump, changes at a resume. */
#include <math.h>

#include "train/trainer.h"
#include "train_fixture.h"

static struct vkmoe_train_config with(uint32_t max_bad_steps, float spike)
{
    struct vkmoe_train_config config = train;
    config.steps = 60;
    config.max_bad_steps = max_bad_steps;
    config.spike = spike;
    config.keep = 10;
    return config;
}

static void multiply(struct vkmoe_trainer *t, enum vkm_param_id id, int32_t layer, float factor)
{
    const struct vkm_param *p = vkm_params_get(&t->net->params, id, layer);
    const uint64_t bytes = p->count * sizeof(float);
    struct vkmoe_step_report report;
    float *values = malloc(bytes);
    cr_assert(values);
    cr_assert_eq(vkmoe_trainer_finish(t, &report), VKMOE_OK);
    cr_assert_eq(vkm_buf_download(t->ctx, p->weight, values, bytes), VKMOE_OK);
    for (uint64_t i = 0; i < p->count; i++)
        values[i] *= factor;
    cr_assert_eq(vkm_buf_upload(t->ctx, p->weight, values, bytes), VKMOE_OK);
    free(values);
}

/* Steps until one fails, at most `most`; its status. */
static enum vkmoe_status steps_until_failure(struct vkmoe_trainer *t, unsigned most)
{
    struct vkmoe_step_report report;
    enum vkmoe_status status = VKMOE_OK;
    for (unsigned i = 0; i < most && !status; i++)
        status = vkmoe_trainer_step(t, &report);
    return status;
}

static void expect_same_checkpoint(const char *a, const char *b, uint64_t step)
{
    char x[300], y[300];
    snprintf(x, sizeof x, "%s/step-%08llu/checksums.xxh128", a, (unsigned long long)step);
    snprintf(y, sizeof y, "%s/step-%08llu/checksums.xxh128", b, (unsigned long long)step);
    cr_expect(same_file(x, y), "%s and %s differ", x, y);
}

/* A thread writes what the trainer had when it was told to save, whatever the trainer does meanwhile. */
Test(guard, save_later, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    char dirs[2][256];
    strcpy(dirs[0], at("now"));
    strcpy(dirs[1], at("later"));
    for (int later = 0; later < 2; later++) {
        struct vkmoe_trainer *t = trainer(
            ctx, &(struct vkmoe_trainer_desc){.model = model, .train = with(50, 0), .data = data, .run_dir = dirs[later]});
        cr_expect_null(vkmoe_trainer_checkpoint(t));
        for (int i = 0; i < 3; i++) {
            steps(t, 7);
            cr_assert_eq(later ? vkmoe_trainer_save_later(t) : vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
        }
        steps(t, 3);
        cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
        cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "saved already: %s", seen.last);
        cr_expect(strstr(vkmoe_trainer_checkpoint(t), "step-00000024"), "%s", vkmoe_trainer_checkpoint(t));
        vkmoe_trainer_destroy(t);
    }
    for (uint64_t step = 7; step <= 21; step += 7)
        expect_same_checkpoint(dirs[0], dirs[1], step);
    expect_same_checkpoint(dirs[0], dirs[1], 24);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* A failure of the thread is told by a later call. */
Test(guard, save_later_fails, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    char dir[256];
    strcpy(dir, at("run"));
    struct vkmoe_trainer *t =
        trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = with(50, 0), .data = data, .run_dir = dir});
    steps(t, 2);
    make_dir("run/step-00000002");
    put("run/step-00000002/in the way", "");
    cr_assert_eq(vkmoe_trainer_save_later(t), VKMOE_OK);
    cr_expect_eq(vkmoe_trainer_save(t), VKMOE_ERROR_IO);
    cr_expect(seen.errors == 1 && strstr(seen.last, "step-00000002"), "%s", seen.last);
    vkmoe_trainer_destroy(t);
    vkmoe_data_close(data);
    seen.errors = 0;
    close_context(ctx, 0);
}

static const struct {
    enum vkm_param_id id;
    int32_t layer;
    float factor;
    const char *says;
} diverging[] = {
    {VKM_PARAM_W13, 1, NAN, "the weights layers.1.w13 are not"},
    {VKM_PARAM_EMBED, VKM_NO_LAYER, INFINITY, "the weights embed are not"},
    {VKM_PARAM_MOE_NORM, 1, 1e37f, "layer 1 is the first that is not, in its experts"},
    {VKM_PARAM_ATTN_NORM, 0, 1e38f, "layer 0 is the first that is not, in its attention"},
    {VKM_PARAM_HEAD, VKM_NO_LAYER, 3e38f, "the gradient of final_norm is the first that is not"},
};

/* Skipped steps change nothing; after so many the training ends and says where it is not finite. */
Test(guard, bad_steps)
{
    struct vkmoe_context *ctx = open_context();
    scratch_begin();
    struct vkmoe_data *data = text();
    for (size_t i = 0; i < sizeof diverging / sizeof *diverging; i++) {
        struct vkmoe_trainer *t =
            trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = with(4, 0), .data = data});
        steps(t, 3);
        multiply(t, diverging[i].id, diverging[i].layer, diverging[i].factor);
        seen.errors = 0;
        cr_expect_eq(steps_until_failure(t, 10), VKMOE_ERROR_DIVERGED);
        cr_expect(seen.errors == 1 && strstr(seen.last, diverging[i].says) && strstr(seen.last, "4 steps in a row"), "%s",
                  seen.last);
        cr_expect_eq(t->state.step, 7);
        cr_expect_eq(t->state.skipped, 4);
        vkmoe_trainer_destroy(t);
    }
    vkmoe_data_close(data);
    scratch_end();
    seen.errors = 0;
    close_context(ctx, 0);
}

/* Trains 60 steps with a jump after step 40; the run's final checkpoint has the same bits each time. */
static void train_with_jump(struct vkmoe_context *ctx, const struct vkmoe_data *data, const char *dir)
{
    struct vkmoe_trainer *t =
        trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = with(50, 1.5f), .data = data, .run_dir = dir});
    steps(t, 35);
    cr_assert_eq(vkmoe_trainer_save_later(t), VKMOE_OK, "%s", seen.last);
    steps(t, 5);
    multiply(t, VKM_PARAM_HEAD, VKM_NO_LAYER, 300);
    while (vkmoe_trainer_steps(t) < 60)
        steps(t, 1);
    cr_expect_eq(t->rewinds, 1);
    cr_expect_eq(t->state.passed_over, 6 * train.accum, "steps 36 to 41 saw what is passed over");
    cr_expect_eq(t->state.step, 60);
    cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
    vkmoe_trainer_destroy(t);
}

Test(guard, jump, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    char first[256], second[256];
    strcpy(first, at("first"));
    strcpy(second, at("second"));
    train_with_jump(ctx, data, first);
    cr_expect(seen.warnings == 1 && strstr(seen.last, "step 41: the loss jumped"), "%s", seen.last);
    train_with_jump(ctx, data, second);
    expect_same_checkpoint(first, second, 60);

    /* Each log step once. */
    char *lines;
    size_t bytes, count = 0;
    cr_assert_eq(vkm_file_read(&test_log, at("first/metrics.jsonl"), 1 << 26, &lines, &bytes), VKMOE_OK);
    for (const char *line = lines; (line = strstr(line, "\"grad_norm\"")); line++)
        count++;
    cr_expect_eq(count, 60 / train.log_every);
    free(lines);

    /* Without end: it gives up. */
    struct vkmoe_trainer *t = trainer(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = first, .train.steps = 1000});
    for (int i = 0; i < 3; i++) {
        multiply(t, VKM_PARAM_HEAD, VKM_NO_LAYER, 300);
        steps(t, 1);
        cr_expect_eq(vkmoe_trainer_steps(t), 60);
    }
    multiply(t, VKM_PARAM_HEAD, VKM_NO_LAYER, 300);
    seen.errors = 0;
    cr_expect_eq(steps_until_failure(t, 3), VKMOE_ERROR_DIVERGED);
    cr_expect(seen.errors == 1 && strstr(seen.last, "the 4th time after"), "%s", seen.last);
    vkmoe_trainer_destroy(t);
    vkmoe_data_close(data);
    seen.errors = 0;
    close_context(ctx, 0);
}

/* What a resumed run changes is told, and the model cannot change; nobody else trains in its directory meanwhile. */
Test(guard, resume, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_model_config read_model;
    struct vkmoe_train_config changed;
    struct vkmoe_trainer *other;
    struct vkmoe_validation validation;
    char dir[256];
    strcpy(dir, at("run"));
    const struct vkmoe_trainer_desc desc = {.model = model, .train = with(50, 0), .data = data, .run_dir = dir};
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    cr_expect_eq(vkmoe_trainer_create(ctx, &desc, &other), VKMOE_ERROR_ARGUMENT);
    cr_expect(strstr(seen.last, "run"), "%s", seen.last);
    steps(t, 4);
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &validation), VKMOE_OK);
    cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(vkmoe_trainer_create(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = dir}, &other),
                 VKMOE_ERROR_ARGUMENT);
    cr_expect(strstr(seen.last, "is being trained there by process"), "%s", seen.last);
    vkmoe_trainer_destroy(t);
    cr_expect_eq(access(at("run/best/model.safetensors"), F_OK), 0);
    cr_expect_eq(vkmoe_trainer_create(ctx, &desc, &other), VKMOE_ERROR_ARGUMENT);
    cr_expect(strstr(seen.last, "already holds a run"), "%s", seen.last);

    cr_assert_eq(vkmoe_checkpoint_config(test_log, dir, &read_model, &changed), VKMOE_OK, "%s", seen.last);
    cr_expect(read_model.d_model == model.d_model && changed.keep == 10 && changed.steps == 60);
    changed.lr = 1e-3f;
    changed.precision = vkmoe_context_device(ctx)->storage16 ? VKMOE_F16 : VKMOE_F32;
    seen.warnings = 0;
    t = trainer(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = dir, .resume_train = true, .train = changed});
    cr_expect_eq(seen.warnings, changed.precision == VKMOE_F16 ? 2 : 1, "%u", seen.warnings);
    cr_expect(strstr(seen.last, changed.precision ? "precision was \"f32\", from now on it is \"f16\"" : "lr was"), "%s",
              seen.last);
    cr_expect_eq(t->state.loss_scale, changed.precision ? 65536 : 1);
    steps(t, 2);
    vkmoe_trainer_destroy(t);
    changed.balance.lossfree = 1e-3f;
    cr_expect_eq(vkmoe_trainer_create(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = dir, .resume_train = true,
                                                                         .train = changed}, &t), VKMOE_ERROR_ARGUMENT);
    cr_expect(strstr(seen.last, "router bias"), "%s", seen.last);

    FILE *file = fopen(at("run/step-00000004/optimizer.safetensors"), "r+");
    cr_assert(file && fseek(file, -3, SEEK_END) == 0 && fputc(0x41, file) == 0x41 && fclose(file) == 0);
    cr_expect_eq(vkmoe_trainer_create(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = dir}, &t), VKMOE_ERROR_FORMAT);
    cr_expect(strstr(seen.last, "optimizer.safetensors is not as it was saved"), "%s", seen.last);
    vkmoe_data_close(data);
    seen.errors = 0;
    close_context(ctx, 0);
}
