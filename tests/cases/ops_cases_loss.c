/* Cross-entropy, sums, the balance losses. */
#include "ops_cases.h"

#include "cases/cases.h"

struct ops_array ops_loss_scale(struct ops *o, float scale)
{
    const struct loss_scale value = {.scale = scale};
    return ops_in_copy(o, sizeof value / 4, &value);
}

static bool xent(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_xent *s = CASE_AT(case_xents, index);
    const size_t n = (size_t)s->T * s->V;
    const float z_coef = index % 2 ? 1e-2f : 0, scale = 1.0f / (float)(s->T + 1);
    ops_begin(o, result, index, "cross-entropy T %u, V %u, logits to %g, z-loss %g", s->T, s->V, (double)s->scale,
              (double)z_coef);
    uint32_t *targets = ops_new_words(o, s->T);
    case_fill_targets(targets, s, index);
    struct ops_array target = ops_in_copy(o, s->T, targets), logits = ops_changed_random(o, n, s->scale);
    struct ops_array same = ops_in_copy(o, n, ops_floats_before(o, logits)); /* scale 0 leaves them alone */
    struct ops_array loss[2] = {ops_out(o, s->T), ops_out(o, s->T)}, z_loss[2] = {ops_out(o, s->T), ops_out(o, s->T)};
    const float loss_scale = index % 2 ? 1 : 1024;
    const struct vkm_buf by = ops_loss_scale(o, loss_scale).buf;
    vkm_op_xent(ops_record(o), logits.buf, target.buf, loss[0].buf, z_loss[0].buf, by, s->T, s->V, z_coef, scale);
    vkm_op_xent(ops_record(o), same.buf, target.buf, loss[1].buf, z_loss[1].buf, by, s->T, s->V, z_coef, 0);
    if (ops_run(o)) {
        struct num *want = ops_new(o, s->T), *want_z = ops_new(o, s->T), *gradient = ops_new(o, n);
        ref_xent(s->T, s->V, ops_num(o, logits), targets, z_coef, scale * loss_scale, want, want_z, gradient);
        for (int i = 0; i < 2; i++) {
            ops_expect(o, "loss", loss[i], want);
            ops_expect(o, "z_loss", z_loss[i], want_z);
        }
        ops_expect(o, "dlogits", logits, gradient);
    }
    return ops_end(o);
}

static bool sum(struct ops *o, size_t index, struct ops_result *result)
{
    const uint32_t n = *CASE_AT(case_lengths, index);
    const float scale = index % 2 ? 0.3f : 1;
    ops_begin(o, result, index, "sum of %u, scale %g", n, (double)scale);
    struct ops_array x = ops_in(o, n, 1), out = ops_added(o, 1);
    vkm_op_sum(ops_record(o), x.buf, out.buf, n, scale);
    if (ops_run(o)) {
        struct num *terms = ops_num(o, x), *want = ops_num(o, out);
        struct num_sum total = {0};
        for (uint32_t i = 0; i < n; i++)
            num_sum_add(&total, terms[i]);
        num_sum_scale(&total, scale);
        num_sum_add(&total, *want);
        *want = num_sum_end(&total);
        ops_expect(o, "sum", out, want);
    }
    return ops_end(o);
}

static bool simbal(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_router *s = &case_routers[index];
    const float coef = 0.1f;
    ops_begin(o, result, index, "SimBal E %u, D %u%s", s->E, s->D, s->orthonormal ? ", orthonormal" : "");
    float *router = ops_new_floats(o, (size_t)s->E * s->D);
    case_fill_router(router, s, index);
    struct ops_array w = ops_in_copy(o, (size_t)s->E * s->D, router), dw = ops_added(o, (size_t)s->E * s->D);
    struct ops_array loss = ops_added(o, 1), rows = ops_scratch(o, s->E * sizeof(float));
    const float loss_scale = index % 2 ? 1 : 1024;
    vkm_op_simbal(ops_record(o), w.buf, dw.buf, rows.buf, ops_loss_scale(o, loss_scale).buf, s->E, s->D, coef);
    vkm_op_sum(ops_record(o), rows.buf, loss.buf, s->E, coef);
    if (ops_run(o)) {
        struct num *gradient = ops_num(o, dw), *want = ops_num(o, loss);
        *want = num_add(*want, ref_simbal(s->E, s->D, coef, ops_num(o, w), ops_new(o, dw.count)));
        ref_simbal(s->E, s->D, coef * loss_scale, ops_num(o, w), gradient);
        ops_expect(o, "loss", loss, want);
        ops_expect(o, "dw", dw, gradient);
    }
    return ops_end(o);
}

/* Over all tokens (the load from the routing's counts) and over groups; over the active experts and all; for both gates. */
static bool lbl(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    const size_t n = (size_t)s->T * s->E;
    const uint32_t groups[2] = {s->T, s->T % 4 == 0 ? s->T / 4 : 1};
    const float coef = 0.01f;
    const bool sigmoid = index % 2;
    ops_begin(o, result, index, "load-balancing loss T %u, E %u, K %u, %s%s", s->T, s->E, s->top_k,
              case_routing_name(s->routing), sigmoid ? ", sigmoid" : "");
    uint32_t *idx = ops_new_words(o, (size_t)s->T * s->top_k);
    float *p = ops_new_floats(o, n);
    case_route(s->routing, s->T, s->E, s->top_k, index, idx);
    case_fill(p, n, index, 1);
    for (size_t i = 0; i < n; i++)
        p[i] = fabsf(p[i]);
    struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->top_k, .F = 4, .D = 4};
    struct ops_routing routing = ops_routing(o, shape, ops_in_copy(o, (size_t)s->T * s->top_k, idx));
    const struct ops_array probability = ops_in_copy(o, n, p);
    const struct vkm_gate gate = {.T = s->T, .E = s->E, .K = s->top_k, .sigmoid = sigmoid, .z = probability.buf,
                                  .idx = routing.idx.buf};
    struct ops_array load[2], loss[4];
    for (int i = 0; i < 2; i++)
        load[i] = ops_scratch(o, s->T / groups[i] * s->E * sizeof(float));
    vkm_op_route(ops_record(o), &routing.r, (struct vkm_buf){0});
    vkm_op_expert_load_total(ops_record(o), s->E, s->top_k, routing.r.count, load[0].buf);
    vkm_op_expert_load(ops_record(o), &gate, groups[1], load[1].buf);
    for (int i = 0; i < 4; i++) {
        loss[i] = ops_added(o, 1);
        vkm_op_lbl(ops_record(o), &gate, load[i / 2].buf, groups[i / 2], i % 2, loss[i].buf,
                   ops_scratch(o, s->T * sizeof(float)).buf, coef);
    }
    for (int i = 0; i < 4 && (i > 0 || ops_run(o)); i++) {
        const struct ref_lbl ref = {s->T, s->E, s->top_k, groups[i / 2], i % 2, sigmoid, (double)coef, NULL};
        struct num *want = ops_num(o, loss[i]);
        *want = num_add(*want, ref_lbl(&ref, ops_num(o, probability), idx, NULL));
        ops_expect(o, i % 2 ? "loss over all" : "loss over active", loss[i], want);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_loss[] = {
    {"cross-entropy", xent, CASE_COUNT(case_xents), CASE_COUNT(case_xents_large)},
    {"sum", sum, CASE_COUNT(case_lengths), CASE_COUNT(case_lengths_large)},
    {"SimBal", simbal, CASE_COUNT(case_routers)},
    {"load-balancing loss", lbl, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {0},
};
