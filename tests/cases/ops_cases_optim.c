/* Gradient norm, clipping, skipped steps, AdamW. */
#include "ops_cases.h"

#include "cases/cases.h"

#include <string.h>

enum { WORDS = sizeof(struct step_stats) / 4 };

/* stats as the trainer has them before the norm: the loss of the step; the rest is the device's */
static struct ops_array stats_before(struct ops *o, float loss)
{
    struct step_stats stats;
    memset(&stats, 0xff, sizeof stats);
    stats.loss = loss;
    return ops_changed(o, WORDS, &stats);
}

static struct step_stats stats_after(struct ops *o, struct ops_array a)
{
    struct step_stats stats;
    memcpy(&stats, ops_words(o, a), sizeof stats);
    return stats;
}

static const float clips[] = {0, 1e30f, 0.5f}; /* off; above every norm; below all but the shortest */

/* The norm of two ranges. */
static bool norm(struct ops *o, size_t index, struct ops_result *result)
{
    /* A loss scale that is fixed, that goes on, that grows. */
    static const struct { struct loss_scale before, after; uint32_t growth; } scales[] = {
        {{1, 7}, {1, 8}, 0}, {{1024, 3}, {1024, 4}, 5}, {{1024, 4}, {2048, 0}, 5}};
    const struct loss_scale by = scales[index % 3].before, after = scales[index % 3].after;
    const size_t first = *CASE_AT(case_lengths, index);
    const size_t second = case_lengths[CASE_COUNT(case_lengths) - 2 - index % 5];
    const float clip = clips[index % 3];
    ops_begin(o, result, index, "gradient norm of %zu and %zu, clip %g", first, second, (double)clip);
    struct ops_array a = ops_in(o, first, 1), b = ops_in(o, second, 2), stats = stats_before(o, 1.5f);
    struct ops_array partials = ops_scratch(o, 2 * VKM_NORM_PARTIALS * sizeof(float));
    vkm_op_grad_square(ops_record(o), a.buf, vkm_buf_slice(partials.buf, 0, 4 * VKM_NORM_PARTIALS), first);
    vkm_op_grad_square(ops_record(o), b.buf, vkm_buf_slice(partials.buf, 4 * VKM_NORM_PARTIALS, 4 * VKM_NORM_PARTIALS),
                       second);
    struct ops_array scale = ops_changed(o, sizeof by / 4, &by);
    vkm_op_grad_norm(ops_record(o), partials.buf, stats.buf, scale.buf, 2 * VKM_NORM_PARTIALS, clip,
                     scales[index % 3].growth);
    if (ops_run(o)) {
        struct num *all = ops_new(o, first + second), want[2];
        memcpy(all, ops_num(o, a), first * sizeof *all);
        memcpy(all + first, ops_num(o, b), second * sizeof *all);
        const struct num inverse = num_exact(1 / (double)by.scale);
        want[0] = num_mul(ref_grad_norm(first + second, all), inverse);
        want[1] = num_mul(ref_clip_factor(clip, want[0]), inverse);
        const struct step_stats got = stats_after(o, stats);
        ops_expect_floats(o, "norm", &got.grad_norm, 1, &want[0]);
        ops_expect_floats(o, "clip scale", &got.clip_scale, 1, &want[1]);
        ops_expect_words(o, "loss scale", scale, (const uint32_t *)&after);
        if (got.loss_scale != after.scale || got.good_steps != after.good_steps)
            ops_fail(o, "loss scale %g, good steps %u", (double)got.loss_scale, got.good_steps);
        if (got.skip != 0 || got.loss != 1.5f)
            ops_fail(o, "skip %u, loss %g after a finite gradient", got.skip, (double)got.loss);
    }
    return ops_end(o);
}

struct state {
    struct ops_array w, g, m, v;
};

/* v is not negative, and zero at the start: both are there. */
static struct state optimizer_state(struct ops *o, size_t n)
{
    struct state s = {ops_changed_random(o, n, 1), ops_changed_random(o, n, 0.5f), ops_changed_random(o, n, 0.1f),
                      ops_changed_random(o, n, 0.01f)};
    float *m = ops_floats_before(o, s.m), *v = ops_floats_before(o, s.v), *g = ops_floats_before(o, s.g);
    for (size_t i = 0; i < n; i++) {
        v[i] = i % 5 == 4 ? 0 : fabsf(v[i]);
        m[i] = i % 5 == 4 ? 0 : m[i];
        g[i] = i % 7 == 3 ? 0 : g[i];
    }
    return s;
}

static void expect_zero_gradient(struct ops *o, struct ops_array g)
{
    ops_expect_words(o, "gradient afterwards", g, ops_new_words(o, g.count));
}

static bool adamw(struct ops *o, size_t index, struct ops_result *result)
{
    const size_t n = *CASE_AT(case_lengths, index);
    const unsigned step = index % 3 ? 3 * (unsigned)index : 1;
    const float lr = 3e-3f, beta1 = 0.9f, beta2 = index % 2 ? 0.95f : 0.999f, eps = 1e-8f, decay = index % 4 ? 0.1f : 0;
    const struct ref_adamw opt = {lr, beta1, beta2, eps, decay, 1 - pow(beta1, step), 1 - pow(beta2, step)};
    const struct step_control control = {lr, (float)(1 / opt.bias1), (float)(1 / opt.bias2)};
    const struct step_stats stats = {.clip_scale = index % 2 ? 0.37f : 1, .grad_norm = 1};
    ops_begin(o, result, index, "AdamW of %zu, step %u, decay %g, clip scale %g", n, step, (double)decay,
              (double)stats.clip_scale);
    struct state s = optimizer_state(o, n);
    struct ops_array c = ops_in_copy(o, sizeof control / 4, &control), st = ops_in_copy(o, WORDS, &stats);
    vkm_op_adamw(ops_record(o), s.w.buf, s.g.buf, s.m.buf, s.v.buf, (struct vkm_buf){0}, TYPE_F32, c.buf, st.buf, n, beta1,
                 beta2, eps, decay);
    if (ops_run(o)) {
        struct num *w = ops_num(o, s.w), *m = ops_num(o, s.m), *v = ops_num(o, s.v);
        ref_adamw(&opt, n, num_exact(stats.clip_scale), ops_num(o, s.g), w, m, v);
        ops_expect(o, "w", s.w, w);
        ops_expect(o, "m", s.m, m);
        ops_expect(o, "v", s.v, v);
        expect_zero_gradient(o, s.g);
    }
    return ops_end(o);
}

/* Something that is not finite: in the gradient, or the loss. Nothing moves, and the next step begins with a gradient
 * of zero. */
static bool skip(struct ops *o, size_t index, struct ops_result *result)
{
    static const char *const names[] = {"NaN in the gradient", "infinity in the gradient", "a norm beyond f32",
                                        "NaN as loss", "-infinity as loss"};
    const float bad[] = {NAN, INFINITY, 3e38f};
    const size_t n = 1025;
    const float loss = index == 3 ? NAN : index == 4 ? -INFINITY : 2;
    const struct step_control control = {1e-2f, 10, 20};
    ops_begin(o, result, index, "skip: %s", names[index]);
    struct state s = optimizer_state(o, n);
    struct ops_array c = ops_in_copy(o, sizeof control / 4, &control), stats = stats_before(o, loss);
    struct ops_array partials = ops_scratch(o, VKM_NORM_PARTIALS * sizeof(float));
    if (index < 3)
        ops_floats_before(o, s.g)[n - 1] = bad[index];
    vkm_op_grad_square(ops_record(o), s.g.buf, partials.buf, n);
    const struct loss_scale before = {1024, 9}, halved = {512, 0};
    struct ops_array scale = ops_changed(o, sizeof before / 4, &before);
    vkm_op_grad_norm(ops_record(o), partials.buf, stats.buf, scale.buf, VKM_NORM_PARTIALS, 1, 5);
    vkm_op_adamw(ops_record(o), s.w.buf, s.g.buf, s.m.buf, s.v.buf, (struct vkm_buf){0}, TYPE_F32, c.buf, stats.buf, n,
                 0.9f, 0.95f, 1e-8f, 0.1f);
    if (ops_run(o)) {
        const struct step_stats got = stats_after(o, stats);
        if (got.skip != 1)
            ops_fail(o, "skip %u instead of 1", got.skip);
        ops_expect_words(o, "loss scale", scale, (const uint32_t *)&halved);
        ops_expect_words(o, "w", s.w, o->before + s.w.at);
        ops_expect_words(o, "m", s.m, o->before + s.m.at);
        ops_expect_words(o, "v", s.v, o->before + s.v.at);
        expect_zero_gradient(o, s.g);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_optim[] = {
    {"gradient norm", norm, CASE_COUNT(case_lengths), CASE_COUNT(case_lengths_large), .lanes = true},
    {"AdamW", adamw, CASE_COUNT(case_lengths), CASE_COUNT(case_lengths_large), .lanes = true},
    {"skipped steps", skip, 5},
    {0},
};
