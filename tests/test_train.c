/* The trainer: what it reports, that it learns, and that a resumed run is the same run. */
#include <math.h>

#include "gpu_fixture.h"
#include "scratch_dir.h"

static const struct vkmoe_model_config model = {
    .layers = 2, .d_model = 16, .heads = 2, .experts = 4, .top_k = 2, .d_expert = 12, .seq = 16, .vocab = 264,
    .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = true};
static const struct vkmoe_train_config train = {
    .seed = 7, .steps = 20, .batch = 3, .accum = 2, .warmup = 4, .lr = 3e-3f, .weight_decay = 0.1f, .clip = 1, .z_loss = 1e-4f,
    .log_every = 5};

/* Sentences of a small grammar: a model learns some of it within a few steps. */
static struct vkmoe_data *text(void)
{
    static const char *const words[] = {"the cat ", "a dog ", "sees ", "hears ", "the bird. ", "a fish. "};
    struct vkmoe_data *data;
    FILE *file = fopen(at("text"), "w");
    cr_assert(file);
    for (unsigned i = 0; i < 3000; i++)
        fprintf(file, "%s%s%s", words[i * 7 % 5 % 2], words[2 + i * 3 % 7 % 2], words[4 + i * 5 % 11 % 2]);
    fclose(file);
    const char *path = at("text");
    cr_assert_eq(vkmoe_data_open(&(struct vkmoe_data_desc){.log = test_log, .train = &path, .train_count = 1}, &data), VKMOE_OK,
                 "%s", seen.last);
    return data;
}

static struct vkmoe_trainer *trainer(struct vkmoe_context *ctx, const struct vkmoe_trainer_desc *desc)
{
    struct vkmoe_trainer *out;
    cr_assert_eq(vkmoe_trainer_create(ctx, desc, &out), VKMOE_OK, "%s", seen.last);
    return out;
}

static struct vkmoe_step_report steps(struct vkmoe_trainer *t, unsigned count)
{
    struct vkmoe_step_report report = {0};
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(vkmoe_trainer_step(t, &report), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_trainer_finish(t, &report), VKMOE_OK, "%s", seen.last);
    return report;
}

static bool same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t x_bytes, y_bytes;
    cr_assert_eq(vkm_file_read(&test_log, a, 1 << 26, &x, &x_bytes), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_file_read(&test_log, b, 1 << 26, &y, &y_bytes), VKMOE_OK, "%s", seen.last);
    bool same = x_bytes == y_bytes && memcmp(x, y, x_bytes) == 0;
    free(x);
    free(y);
    return same;
}

Test(train, report, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer *t = trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data});
    double before, after;
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &before), VKMOE_OK);
    struct vkmoe_step_report report = steps(t, train.steps);
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &after), VKMOE_OK);

    const uint32_t routed = model.seq * train.batch * train.accum * model.top_k;
    cr_expect_eq(report.step, train.steps);
    cr_expect_eq(report.tokens, (uint64_t)train.steps * model.seq * train.batch * train.accum);
    cr_expect(isfinite(report.loss) && report.loss > 0 && report.grad_norm > 0 && report.balance_loss >= 0);
    cr_expect_float_eq(report.lr, train.lr / 10, 1e-8, "the schedule ends at 10%% of the peak, not %g", report.lr);
    cr_expect_eq(report.skipped_total, 0);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        uint32_t sum = 0;
        for (uint32_t e = 0; e < model.experts; e++)
            sum += report.expert_tokens[layer * model.experts + e];
        cr_expect_eq(sum, routed, "layer %u: %u of %u routed rows counted", layer, sum, routed);
    }
    cr_expect_float_eq(before, log(model.vocab), 0.1, "an untrained model guesses: %g", before);
    cr_expect_lt(after, before - 0.5, "it learnt nothing: %g to %g", before, after);
    vkmoe_trainer_destroy(t);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* 10 steps, save, resume for 10 more: the same files as 20 steps at once, for every balance. */
Test(train, resume_is_the_same_run, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    for (int balance = VKMOE_BALANCE_SIMBAL; balance <= VKMOE_BALANCE_NONE; balance++) {
        struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data};
        char whole[256], halves[256], name[32];
        snprintf(name, sizeof name, "whole-%d", balance);
        strcpy(whole, at(name));
        snprintf(name, sizeof name, "halves-%d", balance);
        strcpy(halves, at(name));
        desc.train.balance = balance;
        desc.run_dir = whole;
        struct vkmoe_trainer *t = trainer(ctx, &desc);
        steps(t, train.steps);
        cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
        vkmoe_trainer_destroy(t);

        desc.run_dir = halves;
        t = trainer(ctx, &desc);
        steps(t, train.steps / 2);
        cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
        steps(t, 3); /* lost: not saved */
        vkmoe_trainer_destroy(t);

        t = trainer(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = halves});
        cr_expect_eq(vkmoe_trainer_steps(t), train.steps / 2);
        struct vkmoe_step_report report = steps(t, train.steps / 2);
        cr_expect_eq(report.tokens, (uint64_t)train.steps * model.seq * train.batch * train.accum);
        cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
        vkmoe_trainer_destroy(t);

        static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "trainer.json", "config.json"};
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            char a[300], b[300];
            snprintf(a, sizeof a, "%s/%s", whole, files[i]);
            snprintf(b, sizeof b, "%s/%s", halves, files[i]);
            cr_expect(same_file(a, b), "balance %d: %s differs after a resume", balance, files[i]);
        }
        /* Steps 5, 10, 15, 20, each once. */
        char path[300], *lines;
        size_t bytes, count = 0;
        snprintf(path, sizeof path, "%s/metrics.jsonl", halves);
        cr_assert_eq(vkm_file_read(&test_log, path, 1 << 20, &lines, &bytes), VKMOE_OK);
        for (size_t i = 0; i < bytes; i++)
            count += lines[i] == '\n';
        cr_expect_eq(count, 4, "%zu lines of metrics, not 4:\n%s", count, lines);
        free(lines);
    }
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* What was trained is what a saved model computes; sampling repeats by its seed. */
static bool collect(void *user, const char *bytes, size_t count)
{
    strncat(user, bytes, count);
    return strlen(user) < 60;
}

Test(train, saved_model, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text(), *all;
    char dir[256];
    strcpy(dir, at("run"));
    struct vkmoe_trainer *t = trainer(
        ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data, .run_dir = dir});
    steps(t, 5);
    double trained;
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &trained), VKMOE_OK);
    cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
    vkmoe_trainer_destroy(t);

    /* The held-out tenth alone, as a text of its own. */
    struct vkmoe_data_info info = vkmoe_data_info(data);
    char *whole;
    size_t bytes;
    cr_assert_eq(vkm_file_read(&test_log, at("text"), 1 << 26, &whole, &bytes), VKMOE_OK);
    put_bytes("held-out", whole + info.train_tokens, bytes - info.train_tokens);
    free(whole);
    const char *path = at("held-out");
    cr_assert_eq(vkmoe_data_open(&(struct vkmoe_data_desc){.log = test_log, .train = &path, .train_count = 1}, &all), VKMOE_OK);

    struct vkmoe_model *saved;
    struct vkmoe_eval_result result;
    cr_assert_eq(vkmoe_model_load(ctx, dir, &saved), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_model_evaluate(saved, all, &result), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(result.tokens, info.valid_tokens - 1);
    /* The same sum in another order of batches: f32 sums of at most 4096 losses, then double. */
    cr_expect_float_eq(result.loss, trained, 1e-5 * trained, "%.9g saved, %.9g trained", result.loss, trained);
    cr_expect_float_eq(result.perplexity, exp(result.loss), 1e-9 * result.perplexity);

    char first[128] = "", second[128] = "";
    struct vkmoe_generate_desc generate = {.prompt = "the cat ", .max_tokens = 60, .temperature = 0.8f, .top_p = 0.9f, .seed = 3};
    cr_assert_eq(vkmoe_model_generate(saved, &generate, collect, first), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_model_generate(saved, &generate, collect, second), VKMOE_OK, "%s", seen.last);
    cr_expect_str_eq(first, second);
    cr_expect_gt(strlen(first), 0);
    vkmoe_model_destroy(saved);
    vkmoe_data_close(all);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}
