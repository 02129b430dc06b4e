/* The methods of balancing, alone and together: 50 steps of each are the same bits when repeated, the same when resumed, and
 * without a message of the validation layers; and what they are for, they do. */
#include <math.h>

#include "train_fixture.h"

#include <criterion/parameterized.h>

static const struct {
    const char *balance;
    enum vkmoe_lbl_scope scope;
    bool lbl_full, sigmoid;
    float router_z;
    uint32_t d_shared;
    enum vkmoe_router_init init;
    enum vkmoe_precision precision;
    bool recompute;
} methods[] = {
    {"none"},
    {"simbal"},
    {"lbl"},
    {"lbl", VKMOE_LBL_MICRO_BATCH, .lbl_full = true},
    {"lbl", VKMOE_LBL_GLOBAL_BATCH},
    {"lossfree"},
    {"none", .router_z = 1e-3f, .init = VKMOE_ROUTER_NORMAL},
    {"simbal+lbl", .init = VKMOE_ROUTER_UNIT},
    {"simbal+lossfree", .d_shared = 8},
    {"lbl+lossfree", VKMOE_LBL_GLOBAL_BATCH, .lbl_full = true, .init = VKMOE_ROUTER_ORTHOGONAL_SMALL},
    {"simbal", .sigmoid = true},
    {"lbl+lossfree", .sigmoid = true, .d_shared = 4},
    {"simbal=0.2+lbl=0.02+lossfree=0.01", VKMOE_LBL_GLOBAL_BATCH, .router_z = 1e-3f, .d_shared = 16},
    {"simbal", .precision = VKMOE_F16},
    {"simbal+lossfree", .precision = VKMOE_BF16, .d_shared = 8},
    {"simbal+lbl", .router_z = 1e-3f, .precision = VKMOE_F16, .recompute = true, .d_shared = 4},
};
enum { METHODS = sizeof methods / sizeof *methods, STEPS = 50 };

static struct vkmoe_trainer_desc describe(size_t index, const struct vkmoe_data *data)
{
    struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data};
    cr_assert_eq(vkmoe_balance_parse(test_log, methods[index].balance, &desc.train.balance), VKMOE_OK, "%s", seen.last);
    desc.train.balance.lbl_scope = methods[index].scope;
    desc.train.balance.lbl_full = methods[index].lbl_full;
    desc.train.balance.router_z = methods[index].router_z;
    desc.train.router_init = methods[index].init;
    desc.train.precision = methods[index].precision;
    desc.train.recompute = methods[index].recompute;
    desc.train.steps = STEPS;
    desc.train.pes_tokens = 10;
    desc.model.gate = methods[index].sigmoid ? VKMOE_GATE_SIGMOID : VKMOE_GATE_SOFTMAX;
    desc.model.norm_topk = index % 2 == 0;
    desc.model.d_shared = methods[index].d_shared;
    return desc;
}

static void finish(struct vkmoe_trainer *t)
{
    struct vkmoe_validation validation;
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &validation), VKMOE_OK, "%s", seen.last);
    for (uint32_t layer = 0; layer < validation.layers; layer++) {
        const struct vkmoe_layer_metrics *m = &validation.metrics[layer];
        cr_expect(m->entropy > 0 && m->entropy < log(model.experts) + 1e-6 && m->entropy_topk < log(model.top_k) + 1e-6);
        cr_expect(m->seu > 0 && m->seu <= 1 && m->load_max >= 1 && m->load_min <= 1 && m->pes >= -1 && m->pes <= 1);
        double sum = 0;
        for (int bin = 0; bin < VKMOE_GATE_BINS; bin++)
            sum += m->gates[bin];
        cr_expect_float_eq(sum, 1, 1e-12);
    }
    cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
    vkmoe_trainer_destroy(t);
}

static void expect_same(size_t index, const char *a, const char *b)
{
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "trainer.json", "config.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char x[300], y[300];
        snprintf(x, sizeof x, "%s/latest/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/latest/%s", b, files[i]);
        cr_expect(same_file(x, y), "method %zu (%s): %s differs from %s", index, methods[index].balance, y, x);
    }
}

ParameterizedTestParameters(methods, same_bits)
{
    static size_t indices[METHODS];
    for (size_t i = 0; i < METHODS; i++)
        indices[i] = i;
    return cr_make_param_array(size_t, indices, METHODS);
}

ParameterizedTest(size_t *index, methods, same_bits, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer_desc desc = describe(*index, data);
    char whole[256], again[256], halves[256];
    strcpy(whole, at("whole"));
    strcpy(again, at("again"));
    strcpy(halves, at("halves"));

    desc.run_dir = whole;
    if (desc.train.precision != VKMOE_F32 && !vkmoe_context_device(ctx)->storage16) {
        struct vkmoe_trainer *none;
        cr_expect_eq(vkmoe_trainer_create(ctx, &desc, &none), VKMOE_ERROR_DEVICE);
        cr_expect(strstr(seen.last, "--precision f32"), "%s", seen.last);
        vkmoe_data_close(data);
        close_context(ctx, 1);
        return;
    }
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    struct vkmoe_step_report report = steps(t, STEPS);
    cr_expect_eq(report.skipped_total, 0);
    finish(t);
    desc.run_dir = again;
    t = trainer(ctx, &desc);
    steps(t, STEPS);
    finish(t);
    expect_same(*index, whole, again);

    desc.run_dir = halves;
    t = trainer(ctx, &desc);
    steps(t, STEPS / 2);
    cr_assert_eq(vkmoe_trainer_save(t), VKMOE_OK, "%s", seen.last);
    steps(t, 6); /* lost: not saved */
    vkmoe_trainer_destroy(t);
    t = trainer(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = halves});
    cr_expect_eq(vkmoe_trainer_steps(t), STEPS / 2);
    report = steps(t, STEPS / 2);
    cr_expect_eq(report.tokens, (uint64_t)STEPS * model.seq * train.batch * train.accum);
    finish(t);
    expect_same(*index, whole, halves);

    /* Steps 5, 10, ..., 50 and the validation, each once. */
    char path[300], *lines;
    size_t bytes, count = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", halves);
    cr_assert_eq(vkm_file_read(&test_log, path, 1 << 20, &lines, &bytes), VKMOE_OK);
    for (size_t i = 0; i < bytes; i++)
        count += lines[i] == '\n';
    cr_expect_eq(count, STEPS / train.log_every + 1, "%zu lines of metrics:\n%s", count, lines);
    free(lines);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* Mean over layers of the busiest expert's load, and of the Gram distance, after 50 steps. */
static void train_with(struct vkmoe_context *ctx, const struct vkmoe_data *data, const char *balance, double *load,
                       double *gram)
{
    struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data};
    struct vkmoe_validation validation;
    cr_assert_eq(vkmoe_balance_parse(test_log, balance, &desc.train.balance), VKMOE_OK, "%s", seen.last);
    desc.train.router_init = VKMOE_ROUTER_NORMAL;
    desc.train.steps = STEPS;
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    steps(t, STEPS);
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &validation), VKMOE_OK, "%s", seen.last);
    *load = *gram = 0;
    for (uint32_t layer = 0; layer < validation.layers; layer++) {
        *load += validation.metrics[layer].load_max / validation.layers;
        *gram += validation.metrics[layer].gram_mean_square / validation.layers;
    }
    vkmoe_trainer_destroy(t);
}

/* Strong coefficients, so that 50 steps show them: SimBal pulls the router towards orthonormal rows, the others even out the
 * load. */
Test(methods, act, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    double load[4], gram[4];
    train_with(ctx, data, "none", &load[0], &gram[0]);
    train_with(ctx, data, "simbal=1", &load[1], &gram[1]);
    train_with(ctx, data, "lbl=1", &load[2], &gram[2]);
    train_with(ctx, data, "lossfree=0.02", &load[3], &gram[3]);
    fprintf(stderr, "none, simbal, lbl, lossfree: load max/mean %.3f %.3f %.3f %.3f, Gram distance %.3g %.3g %.3g %.3g\n",
            load[0], load[1], load[2], load[3], gram[0], gram[1], gram[2], gram[3]);
    cr_expect_lt(gram[1], 0.95 * gram[0]);
    cr_expect_lt(load[2], load[0]);
    cr_expect_lt(load[3], load[0]);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* What the backward computes again is what the forward computed; in 16 bits a model learns as it does in 32. */
/* PES of the first layer, which sees what is much the same in all precisions. */
static double similarity(struct vkmoe_trainer *t)
{
    struct vkmoe_validation validation;
    cr_assert_eq(vkmoe_trainer_evaluate(t, 0, &validation), VKMOE_OK, "%s", seen.last);
    return validation.metrics[0].pes;
}

Test(methods, recompute_and_precision, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_estimate kept, computed;
    char dirs[2][256];
    float losses[VKMOE_BF16 + 1];
    double pes[VKMOE_BF16 + 1];
    for (int recompute = 0; recompute < 2; recompute++) {
        struct vkmoe_trainer_desc desc = describe(METHODS - 1, data);
        desc.train.precision = VKMOE_F32;
        desc.train.recompute = recompute;
        strcpy(dirs[recompute], at(recompute ? "computed" : "kept"));
        desc.run_dir = dirs[recompute];
        cr_assert_eq(vkmoe_estimate(ctx, &desc.model, &desc.train, recompute ? &computed : &kept), VKMOE_OK);
        struct vkmoe_trainer *t = trainer(ctx, &desc);
        losses[VKMOE_F32] = steps(t, STEPS).loss;
        pes[VKMOE_F32] = similarity(t);
        finish(t);
    }
    cr_expect(computed.activation_bytes < kept.activation_bytes);
    char x[300], y[300];
    snprintf(x, sizeof x, "%s/latest/model.safetensors", dirs[0]);
    snprintf(y, sizeof y, "%s/latest/model.safetensors", dirs[1]);
    cr_expect(same_file(x, y), "recomputed activations are others");
    for (enum vkmoe_precision p = VKMOE_F16; p <= VKMOE_BF16 && vkmoe_context_device(ctx)->storage16; p++) {
        struct vkmoe_trainer_desc desc = describe(METHODS - 1, data);
        desc.train.precision = p;
        struct vkmoe_trainer *t = trainer(ctx, &desc);
        const struct vkmoe_step_report report = steps(t, STEPS);
        losses[p] = report.loss;
        cr_expect(report.loss_scale == (p == VKMOE_F16 ? 65536 : 1) && report.skipped_total == 0);
        cr_expect_float_eq(losses[p], losses[VKMOE_F32], 0.03f * losses[VKMOE_F32], "%s: loss %g, f32: %g",
                           p == VKMOE_F16 ? "f16" : "bf16", (double)losses[p], (double)losses[VKMOE_F32]);
        pes[p] = similarity(t);
        cr_expect_float_eq(pes[p], pes[VKMOE_F32], p == VKMOE_F16 ? 0.02 : 0.05, "%s: similarity %g, f32: %g",
                           p == VKMOE_F16 ? "f16" : "bf16", pes[p], pes[VKMOE_F32]);
        vkmoe_trainer_destroy(t);
    }
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* What is dropped at evaluation: nothing changes nothing; a threshold of 1 leaves no expert; the active count falls with the
 * threshold; passing over the best experts costs loss, and the next ones are others. */
Test(methods, dropped_experts, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer_desc desc = describe(1, data);
    struct vkmoe_model *saved;
    struct vkmoe_eval_result plain, pruned, none, passed;
    char dir[256];
    strcpy(dir, at("run"));
    desc.run_dir = dir;
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    steps(t, STEPS);
    finish(t);
    cr_assert_eq(vkmoe_model_load(ctx, dir, &saved), VKMOE_OK, "%s", seen.last);
    struct vkmoe_eval_desc eval = {.data = data, .held_out = true, .pes_tokens = 32};
    cr_assert_eq(vkmoe_model_evaluate(saved, &eval, &plain), VKMOE_OK, "%s", seen.last);
    const uint32_t last = model.layers - 1;
    const double loss = plain.loss, pes = plain.metrics[0].pes, deep = plain.metrics[last].pes;
    cr_expect_eq(plain.active_experts, model.top_k);
    cr_expect(plain.metrics[0].pes_se > 0);
    eval.prune_below = 0.3f;
    cr_assert_eq(vkmoe_model_evaluate(saved, &eval, &pruned), VKMOE_OK, "%s", seen.last);
    cr_expect(pruned.active_experts > 0 && pruned.active_experts < model.top_k, "%g active", pruned.active_experts);
    cr_expect_eq(pruned.metrics[0].pes, pes, "all experts run for PES, whatever is dropped");
    cr_expect_neq(pruned.metrics[last].pes, deep, "a layer gets what those below pass on without the dropped experts");
    cr_expect_neq(pruned.loss, loss);
    eval.prune_below = 1;
    cr_assert_eq(vkmoe_model_evaluate(saved, &eval, &none), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(none.active_experts, 0);
    cr_expect(isfinite(none.loss) && none.loss > loss);
    eval.prune_below = 0;
    eval.drop_top = 2;
    cr_assert_eq(vkmoe_model_evaluate(saved, &eval, &passed), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(passed.active_experts, model.top_k);
    cr_expect_gt(passed.loss, loss);
    eval.drop_top = 0;
    cr_assert_eq(vkmoe_model_evaluate(saved, &eval, &plain), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(plain.loss, loss);
    cr_expect_eq(plain.metrics[last].pes, deep);
    eval.drop_top = 3;
    cr_expect_eq(vkmoe_model_evaluate(saved, &eval, &passed), VKMOE_ERROR_ARGUMENT);
    eval.drop_top = 0;
    eval.prune_below = 1.5f;
    cr_expect_eq(vkmoe_model_evaluate(saved, &eval, &passed), VKMOE_ERROR_ARGUMENT);
    vkmoe_model_destroy(saved);
    vkmoe_data_close(data);
    close_context(ctx, 2);
}
