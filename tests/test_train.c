/* The trainer: what it reports, that it learns, and that a saved model is what was trained. tests/test_methods.c has the
 * methods of balancing. */
#include <math.h>

#include "train_fixture.h"

Test(train, report, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer *t = trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data});
    struct vkmoe_validation before, after;
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &before), VKMOE_OK);
    struct vkmoe_step_report report = steps(t, train.steps);
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &after), VKMOE_OK);

    const uint32_t routed = model.seq * train.batch * train.accum * model.top_k;
    cr_expect_eq(report.step, train.steps);
    cr_expect_eq(report.tokens, (uint64_t)train.steps * model.seq * train.batch * train.accum);
    cr_expect(isfinite(report.loss) && report.loss > 0 && report.grad_norm > 0 && report.simbal_loss >= 0);
    cr_expect_float_eq(report.lr, train.lr / 10, 1e-8, "the schedule ends at 10%% of the peak, not %g", report.lr);
    cr_expect_eq(report.skipped_total, 0);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        uint32_t sum = 0;
        for (uint32_t e = 0; e < model.experts; e++)
            sum += report.expert_tokens[layer * model.experts + e];
        cr_expect_eq(sum, routed, "layer %u: %u of %u routed rows counted", layer, sum, routed);
    }
    cr_expect_float_eq(before.loss, log(model.vocab), 0.1, "an untrained model guesses: %g", before.loss);
    cr_expect_lt(after.loss, before.loss - 0.5, "it learnt nothing: %g to %g", before.loss, after.loss);
    vkmoe_trainer_destroy(t);
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
    struct vkmoe_eval_result held_out;
    char dir[256];
    strcpy(dir, at("run"));
    struct vkmoe_trainer *t = trainer(
        ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data, .run_dir = dir});
    steps(t, 5);
    struct vkmoe_validation trained;
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
    cr_assert_eq(vkmoe_model_evaluate(saved, &(struct vkmoe_eval_desc){.data = all}, &result), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(result.tokens, info.valid_tokens - 1);
    /* The same sum in another order of batches: f32 sums of at most 4096 losses, then double. */
    cr_expect_float_eq(result.loss, trained.loss, 1e-5 * trained.loss, "%.9g saved, %.9g trained", result.loss,
                       trained.loss);
    cr_assert_eq(vkmoe_model_evaluate(saved, &(struct vkmoe_eval_desc){.data = data, .held_out = true}, &held_out), VKMOE_OK);
    cr_expect_eq(held_out.loss, result.loss);
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
