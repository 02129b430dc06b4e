/* Stacks on host memory. */
#include <stdio.h>
#include <stdlib.h>

#include "scratch_dir.h"
#include "stack_fixture.h"

Test(stack, learns)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_stack_config config = small;
    for (int loss = VKMOE_STACK_MSE; loss <= VKMOE_STACK_CROSS_ENTROPY; loss++) {
        config.loss = (enum vkmoe_stack_loss)loss;
        struct vkmoe_stack *stack = create(ctx, config);
        const float first = train(stack, 0, 1).loss;
        const struct vkmoe_stack_report last = train(stack, 1, 150);
        uint32_t experts[LAYERS * ALL * TOP_K], routed = 0;
        float gates[LAYERS * ALL * TOP_K];
        cr_expect_lt(last.loss, first / (loss == VKMOE_STACK_MSE ? 5 : 1.7f), "loss %g, %g at first", (double)last.loss,
                     (double)first);
        cr_expect(!last.skipped && last.grad_norm > 0 && last.simbal_loss > 0 && last.loss_scale == 1);
        for (uint32_t e = 0; e < config.experts; e++)
            routed += last.expert_tokens[config.experts + e];
        cr_expect_eq(routed, ROWS * TOP_K);
        assert_ok(vkmoe_stack_forward(stack, ALL, batch_of(5).in, NULL, experts, gates));
        for (size_t i = 0; i < LAYERS * ALL; i++)
            cr_assert(experts[2 * i] < 4 && experts[2 * i + 1] < 4 && experts[2 * i] != experts[2 * i + 1] &&
                      gates[2 * i] >= gates[2 * i + 1] && gates[2 * i] + gates[2 * i + 1] <= 1.0001f, "row %zu", i);
        cr_expect_gt(vkmoe_stack_bytes(stack), 4 * 4 * vkmoe_stack_params(stack));
        vkmoe_stack_destroy(stack);
    }
    close_context(ctx, 0);
}

/* The caller's own mean squared error takes the steps that the built-in one takes; gradients of two backwards add up. */
Test(stack, takes_a_loss_of_the_callers_own)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_stack *built_in = create(ctx, small), *own = create(ctx, small);
    float out[ALL * OUT], gradient[ROWS * OUT], din[ROWS * IN], of_own[ALL * OUT], worst = 0;
    train(built_in, 0, 20);
    for (uint32_t step = 0; step < 20; step++) {
        const struct batch b = batch_of(step);
        struct vkmoe_stack_report report;
        for (int half = 0; half < 2; half++) {
            assert_ok(vkmoe_stack_forward_kept(own, b.in, out));
            for (int i = 0; i < ROWS * OUT; i++)
                gradient[i] = (out[i] - b.target[i]) / (ROWS * OUT); /* 2 / (rows x columns), a half each time */
            assert_ok(vkmoe_stack_backward(own, gradient, half ? din : NULL));
        }
        assert_ok(vkmoe_stack_update(own, &report));
        cr_assert(report.step == step + 1 && report.loss == 0);
    }
    outputs(built_in, out);
    outputs(own, of_own);
    for (int i = 0; i < ALL * OUT; i++)
        worst = fmaxf(worst, fabsf(out[i] - of_own[i]));
    cr_expect_lt(worst, 2e-3f, "off by %g", (double)worst);
    vkmoe_stack_destroy(built_in);
    vkmoe_stack_destroy(own);
    close_context(ctx, 0);
}

Test(stack, goes_on_where_it_was_saved, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_stack_config config = small;
    config.balance = (struct vkmoe_balance){.lossfree = 0.01f, .lbl = 0.01f};
    struct vkmoe_stack *stack = create(ctx, config), *loaded;
    const char *path = at("saved.safetensors");
    train(stack, 0, 7);
    assert_ok(vkmoe_stack_set_lr(stack, 1e-3f));
    assert_ok(vkmoe_stack_save(stack, path));
    assert_ok(vkmoe_stack_load(ctx, path, &loaded));
    cr_expect_eq(memcmp(vkmoe_stack_config(loaded), vkmoe_stack_config(stack), sizeof config), 0);
    train(stack, 7, 5);
    train(loaded, 7, 5);
    expect_same(stack, loaded);
    vkmoe_stack_destroy(loaded);
    vkmoe_stack_destroy(stack);

    char *bytes = malloc(1 << 20);
    FILE *file = fopen(path, "rb");
    const size_t size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    for (int damage = 0; damage < 4; damage++) {
        static const char *const words[] = {"\\\"top_k\\\":2", "\"stack\"", "\\\"d_model\\\":24"};
        static const char *const instead[] = {"\\\"top_k\\\":9", "\"slack\"", "\\\"d_model\\\":28"};
        char *damaged = malloc(size), *found = NULL;
        memcpy(damaged, bytes, size);
        for (size_t i = 0; damage < 3 && !found && i + 20 < size; i++)
            found = memcmp(damaged + i, words[damage], strlen(words[damage])) ? NULL : damaged + i;
        cr_assert(found || damage == 3, "%s", words[damage % 3]);
        if (found)
            memcpy(found, instead[damage], strlen(instead[damage]));
        put_bytes("bad.safetensors", damaged, damage == 3 ? size / 2 : size);
        seen.errors = 0;
        cr_expect_neq(vkmoe_stack_load(ctx, at("bad.safetensors"), &loaded), VKMOE_OK, "damage %d", damage);
        cr_expect(loaded == NULL && seen.errors == 1 && strstr(seen.last, "bad.safetensors"), "%u: %s", seen.errors, seen.last);
        free(damaged);
    }
    seen.errors = 0;
    cr_expect_eq(vkmoe_stack_load(ctx, at("none.safetensors"), &loaded), VKMOE_ERROR_IO);
    free(bytes);
    close_context(ctx, 1);
}

Test(stack, has_16_bits)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_stack_config config = small;
    float of[3][ALL * OUT];
    for (int p = VKMOE_F32; p <= VKMOE_BF16 && ctx->caps.storage16; p++) {
        config.precision = (enum vkmoe_precision)p;
        struct vkmoe_stack *stack = create(ctx, config);
        const struct vkmoe_stack_report report = train(stack, 0, 30);
        cr_expect(report.skipped_total <= 10 && (p == VKMOE_F16) == (report.loss_scale != 1), "%u skipped, loss scale %g",
                  (unsigned)report.skipped_total, (double)report.loss_scale);
        outputs(stack, of[p]);
        double off = 0, size = 0;
        for (int i = 0; i < ALL * OUT; i++) {
            off += (of[p][i] - of[0][i]) * (of[p][i] - of[0][i]);
            size += of[0][i] * of[0][i];
        }
        cr_expect_lt(sqrt(off / size), 0.25, "precision %d: off by %g", p, sqrt(off / size));
        vkmoe_stack_destroy(stack);
    }
    close_context(ctx, 0);
}

Test(stack, refuses_what_makes_no_sense)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_stack *stack;
    static const struct {
        struct vkmoe_stack_config config;
        const char *part;
    } bad[] = {
        {{.d_model = 1 << 20}, "d_model"},
        {{.experts = 2000}, "experts"},
        {{.experts = 4, .top_k = 5}, "top_k"},
        {{.d_expert = 6}, "d_expert"},
        {{.d_shared = 6}, "d_shared"},
        {{.batch = 1 << 30}, "batch"},
        {{.loss = VKMOE_STACK_CROSS_ENTROPY}, "d_out"},
        {{.lr = -1}, "lr"},
        {{.beta1 = 1}, "beta1"},
        {{.norm_eps = NAN}, "norm_eps"},
        {{.balance = {.lbl = NAN}}, "lbl"},
        {{.balance = {.lbl = 1, .lbl_scope = VKMOE_LBL_GLOBAL_BATCH}}, "lbl_scope"},
        {{.gate = VKMOE_GATE_SIGMOID, .balance = {.router_z = 1}}, "router_z"},
        {{.precision = (enum vkmoe_precision)7}, "precision"},
        {{.batch = 1 << 20, .d_model = 4096}, "2^31"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_failure(vkmoe_stack_create(ctx, &bad[i].config, &stack), bad[i].part);
        cr_expect_null(stack);
    }
    stack = create(ctx, (struct vkmoe_stack_config){.no_training = true}); /* all defaults */
    const float in[64] = {1};
    float out[64];
    assert_ok(vkmoe_stack_forward(stack, 1, in, out, NULL, NULL));
    expect_failure(vkmoe_stack_step(stack, in, in, NULL), "no_training");
    expect_failure(vkmoe_stack_forward_kept(stack, in, out), "no_training");
    vkmoe_stack_destroy(stack);

    struct vkmoe_stack_config config = small;
    config.loss = VKMOE_STACK_CROSS_ENTROPY;
    stack = create(ctx, config);
    struct batch b = batch_of(0);
    expect_failure(vkmoe_stack_backward(stack, b.target, NULL), "vkmoe_stack_forward_kept");
    expect_failure(vkmoe_stack_update(stack, NULL), "vkmoe_stack_backward");
    expect_failure(vkmoe_stack_set_lr(stack, NAN), "lr");
    b.classes[7] = OUT;
    expect_failure(vkmoe_stack_step(stack, b.in, b.classes, NULL), "target[7]");
    assert_ok(vkmoe_stack_forward_kept(stack, b.in, NULL));
    expect_failure(vkmoe_stack_step(stack, b.in, b.classes, NULL), "vkmoe_stack_update");
    vkmoe_stack_destroy(stack);
    vkmoe_stack_destroy(NULL);
    close_context(ctx, 0);
}
