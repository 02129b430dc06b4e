/* Configurations, the balance as text, and parameters: what needs no device. */
#include "base/rng.h"
#include "nn/config.h"
#include "nn/params.h"
#include "scratch.h"

#include <math.h>

TestSuite(config);

/* ---- configurations ------------------------------------------------------------------------------------------ */

Test(config, presets_pass_their_own_check)
{
    uint64_t before = 0;
    struct vkmoe_model_config m;
    struct vkmoe_train_config t;
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        cr_assert(vkmoe_preset(*name, &m, &t));
        assert_ok(vkm_config_check(&test_log, &m, &t));
        uint64_t weights = (uint64_t)m.layers * m.d_model * (4 * m.d_model + 3 * m.experts * m.d_expert);
        cr_expect(weights > before, "%s is not larger than the one before", *name);
        before = weights;
    }
    cr_expect_not(vkmoe_preset("none", &m, &t));
    cr_expect_not(vkmoe_preset(NULL, &m, &t));
}

Test(config, defaults)
{
    struct vkmoe_train_config t = vkm_config_defaults((struct vkmoe_train_config){0});
    cr_expect(t.accum == 1 && t.beta1 == 0.9f && t.beta2 == 0.95f && t.eps == 1e-8f && t.log_every == 10);
    cr_expect(t.balance.simbal == 0 && t.pes_tokens == 0, "zeros that mean nothing else");
    t = vkm_config_defaults((struct vkmoe_train_config){.accum = 3, .beta1 = 0.5f, .balance = {.lbl = 0.5f}});
    cr_expect(t.accum == 3 && t.beta1 == 0.5f && t.balance.lbl == 0.5f);
    struct vkmoe_model_config model = vkm_config_model((struct vkmoe_model_config){0}, &t);
    cr_expect_not(model.router_bias);
    t.balance.lossfree = 1e-3f;
    model = vkm_config_model(model, &t);
    cr_expect(model.router_bias);
    t.balance.lossfree = 0;
    cr_expect(vkm_config_model(model, &t).router_bias, "a saved model keeps it");
}

Test(config, dense_models)
{
    struct vkmoe_model_config m, dense;
    struct vkmoe_train_config t;
    cr_assert(vkmoe_preset("moe-m", &m, &t));
    m.gate = VKMOE_GATE_SIGMOID;
    m.d_shared = 128;
    m.router_bias = true;
    dense = vkmoe_model_dense(&m);
    assert_ok(vkm_config_check(&test_log, &dense, &t));
    cr_expect(dense.experts == 1 && dense.top_k == 1 && dense.d_expert == 4 * 768 + 128 && dense.d_shared == 0);
    cr_expect(dense.gate == VKMOE_GATE_SOFTMAX && dense.norm_topk && !dense.router_bias);
    cr_expect(dense.layers == m.layers && dense.d_model == m.d_model && dense.seq == m.seq);
}

Test(config, configurations_that_cannot_be)
{
    struct vkmoe_model_config good, m;
    struct vkmoe_train_config fine, t;
    cr_assert(vkmoe_preset("demo", &good, &fine));
#define expect_bad(change, says) \
    m = good; \
    t = fine; \
    change; \
    expect_failure(vkm_config_check(&test_log, &m, &t), VKMOE_ERROR_ARGUMENT, says)
    expect_bad(m.layers = 0, "layers (0) must be from 1 to 256");
    expect_bad(m.heads = 0, "heads (0)");
    expect_bad(m.d_model = 0, "d_model (0)");
    expect_bad(m.d_model = 130, "d_model (130) must be a multiple of heads (4)");
    expect_bad(m.d_model = 24, "= 6 must be a multiple of 4");
    expect_bad((m.d_model = 520, m.heads = 2), "at most 256");
    expect_bad(m.experts = 0, "experts (0)");
    expect_bad(m.experts = 1025, "experts (1025)");
    expect_bad(m.top_k = 0, "top_k (0) must be between 1 and experts (8)");
    expect_bad(m.top_k = 9, "top_k (9) must be between 1 and experts (8)");
    expect_bad(m.d_expert = 66, "d_expert (66) must be a multiple of 4");
    expect_bad(m.d_expert = 0, "d_expert (0)");
    expect_bad(m.seq = 0, "seq (0)");
    expect_bad(m.vocab = 256, "vocab (256) must be from 257");
    expect_bad(m.rope_theta = NAN, "rope_theta (nan)");
    expect_bad(m.norm_eps = 0, "norm_eps (0)");
    expect_bad((m.experts = 1024, m.d_expert = 1 << 18), "experts, d_expert and d_model");
    expect_bad((m.d_model = 1 << 16, m.heads = 256), "d_model make a tensor");
    expect_bad((m.vocab = 1 << 20, m.d_model = 1 << 12, m.heads = 16), "vocab and d_model");
    expect_bad(t.steps = 0, "steps (0)");
    expect_bad(t.batch = 0, "batch (0)");
    expect_bad((t.batch = 1 << 16, m.seq = 512), "batch, seq, top_k and d_expert");
    expect_bad(t.lr = 0, "lr (0) must be a finite number greater than 0");
    expect_bad(t.lr = INFINITY, "lr (inf)");
    expect_bad(t.beta1 = 1, "beta1 (1) must be at least 0 and below 1");
    expect_bad(t.beta2 = -0.5f, "beta2 (-0.5)");
    expect_bad(t.eps = -1, "eps (-1)");
    expect_bad(t.weight_decay = NAN, "weight_decay (nan)");
    expect_bad(t.clip = -1, "clip (-1)");
    expect_bad(t.z_loss = -1, "z_loss (-1)");
    expect_bad(t.balance.simbal = -1, "simbal (-1) must be a finite number, 0 or greater");
    expect_bad(t.balance.lbl = NAN, "lbl (nan)");
    expect_bad(t.balance.lossfree = INFINITY, "lossfree (inf)");
    expect_bad(t.balance.router_z = -0.5f, "router_z (-0.5)");
    expect_bad((t.balance.router_z = 1e-3f, m.gate = VKMOE_GATE_SIGMOID), "router z-loss needs a softmax gate");
    expect_bad(t.balance.lbl_scope = (enum vkmoe_lbl_scope)3, "lbl_scope (3) must be sequence, micro-batch or global");
    expect_bad(t.router_init = (enum vkmoe_router_init)4, "router_init (4) must be orthogonal, normal");
    expect_bad(m.gate = (enum vkmoe_gate)2, "gate (2) must be softmax or sigmoid");
    expect_bad(m.d_shared = 6, "d_shared (6) must be a multiple of 4, or 0");
    expect_bad(m.d_shared = (1 << 18) + 4, "d_shared (262148) must be from 0 to 262144");
    expect_bad((m.d_shared = 1 << 18, m.d_model = 1 << 12, m.heads = 16), "d_shared and d_model make a tensor");
    expect_bad((m.d_shared = 1 << 18, t.batch = 64), "batch, seq and d_shared");
    expect_bad((m.seq = 1 << 12, m.vocab = 1 << 19, t.batch = 1), "seq and vocab make a tensor");
    expect_bad((t.accum = 1 << 16, t.batch = 1 << 9), "accum, batch, seq and top_k make a step of 2^32 routed rows");
    m = good;
    assert_ok(vkm_config_check_batch(&test_log, &m, (1 << 17) - 1));
    expect_failure(vkm_config_check_batch(&test_log, &m, 1 << 17), VKMOE_ERROR_ARGUMENT, "batch, seq, top_k and d_expert");
    assert_ok(vkm_config_check(&test_log, &m, NULL));
    m.router_bias = true;
    m.d_shared = 12;
    m.gate = VKMOE_GATE_SIGMOID;
    assert_ok(vkm_config_check(&test_log, &m, &fine));
}

/* ---- the balance as text ------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *again;       /* again: as it is formatted */
    float simbal, lbl, lossfree;
} balances[] = {
    {"none", "none", 0, 0, 0},
    {"simbal", "simbal", 0.1f, 0, 0},
    {"simbal=0.1", "simbal", 0.1f, 0, 0},
    {"simbal=.10", "simbal", 0.1f, 0, 0},
    {"lbl", "lbl", 0, 0.01f, 0},
    {"lossfree", "lossfree", 0, 0, 0.001f},
    {"lossfree=1e-3", "lossfree", 0, 0, 0.001f},
    {"lossfree+lbl=0.02+simbal=1", "simbal=1+lbl=0.02+lossfree", 1, 0.02f, 0.001f},
    {"simbal=0.30000001192092896", "simbal=0.3", 0.3f, 0, 0},
    {"lbl=1E7", "lbl=1e7", 0, 1e7f, 0},
    {"lbl=100000000", "lbl=1e8", 0, 1e8f, 0},
    {"simbal=1e-30", "simbal=1e-30", 1e-30f, 0, 0},
    {"simbal=1e-05", "simbal=1e-5", 1e-5f, 0, 0},
    {"simbal=20", "simbal=20", 20, 0, 0},
    {"simbal=1e2", "simbal=100", 100, 0, 0},
};

Test(config, balance_texts)
{
    for (size_t i = 0; i < sizeof balances / sizeof *balances; i++) {
        struct vkmoe_balance b = {.simbal = 7, .lbl = 7, .lossfree = 7, .router_z = 3, .lbl_full = true,
                                  .lbl_scope = VKMOE_LBL_MICRO_BATCH};
        char text[VKMOE_BALANCE_TEXT];
        assert_ok(vkmoe_balance_parse(test_log, balances[i].text, &b));
        cr_expect(b.simbal == balances[i].simbal && b.lbl == balances[i].lbl && b.lossfree == balances[i].lossfree, "%s",
                  balances[i].text);
        cr_expect(b.router_z == 3 && b.lbl_full && b.lbl_scope == VKMOE_LBL_MICRO_BATCH);
        cr_expect_str_eq(vkmoe_balance_format(&b, text), balances[i].again);
    }
    for (uint64_t i = 0; i < 300; i++) {
        struct vkmoe_balance b = {.simbal = (float)exp(25 * vkm_rng_normal(1, 1, i)), .lbl = 1e-38f * (float)(i + 1) / 7,
                                  .lossfree = (float)exp(vkm_rng_normal(1, 2, i))}, again = {0};
        char text[VKMOE_BALANCE_TEXT];
        if (!isfinite(b.simbal) || b.simbal == 0)
            continue;
        assert_ok(vkmoe_balance_parse(test_log, vkmoe_balance_format(&b, text), &again));
        cr_assert(again.simbal == b.simbal && again.lbl == b.lbl && again.lossfree == b.lossfree, "%s", text);
    }
}

Test(config, balance_texts_that_are_none)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {NULL, "the balance is empty; give none, or one or more of simbal, lbl, lossfree joined by '+'"},
        {"", "the balance is empty"},
        {"simbla", "no method 'simbla'; did you mean 'simbal'?"},
        {"loss-free", "did you mean 'lossfree'?"},
        {"lb", "did you mean 'lbl'?"},
        {"aux", "no method 'aux'; give none, or one or more of"},
        {"simbal=0.1 +lbl", "must be a number above 0"},
        {"simbal +lbl", "did you mean 'simbal'?"},
        {"SimBal=1", "did you mean 'simbal'?"},
        {"a very long word that is not the name of any method at all", "no method 'a very long word that is not the"},
        {"simbal+", "lacks a method at a '+'"},
        {"+simbal", "lacks a method at a '+'"},
        {"simbal++lbl", "lacks a method at a '+'"},
        {"simbal+lbl+simbal=2", "has simbal twice"},
        {"none+lbl", "none stands alone"},
        {"lbl+none", "none stands alone"},
        {"none=1", "none stands alone; leave out its coefficient"},
        {"=1", "no method ''"},
        {"simbal=", "what follows simbal= must be a number above 0, as in simbal=0.1"},
        {"lbl=0", "what follows lbl= must be a number above 0, as in lbl=0.01"},
        {"lossfree=-0.001", "as in lossfree=0.001"},
        {"lbl=nan", "must be a number"},
        {"lbl=inf", "must be a number"},
        {"lbl=1e39", "must be a number"},
        {"lbl=1e-60", "must be a number"},
        {"lbl=0x1", "must be a number"},
        {"lbl=1,5", "must be a number"},
        {"lbl=1=2", "must be a number"},
        {"lbl= 1", "must be a number"},
        {"lbl=1e", "must be a number"},
        {"lbl=1e+3", "must be a number"},
        {"lbl=0.00000000000000000000000000000000000000001", "must be a number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct vkmoe_balance b = {.simbal = 1, .lbl = 2, .lossfree = 3};
        expect_failure(vkmoe_balance_parse(test_log, bad[i].text, &b), VKMOE_ERROR_ARGUMENT, bad[i].says);
        cr_expect(b.simbal == 1 && b.lbl == 2 && b.lossfree == 3, "%s", bad[i].text);
    }
}

/* ---- parameters ---------------------------------------------------------------------------------------------- */

Test(config, parameters_that_a_model_has)
{
    struct vkmoe_model_config m;
    struct vkmoe_train_config unused;
    struct vkm_params params;
    cr_assert(vkmoe_preset("demo", &m, &unused));
    for (int i = 0; i < 4; i++) {
        m.d_shared = i & 1 ? 20 : 0;
        m.router_bias = i & 2;
        uint64_t D = m.d_model, expert = 3 * D * m.d_expert, shared = 3 * D * m.d_shared, bias = i & 2 ? m.experts : 0;
        uint64_t rest = m.layers * (4 * D * D + 2 * D + m.experts * D) + 2 * D * m.vocab + D;
        assert_ok(vkm_params_create(&test_log, &m, NULL, &params));
        cr_expect_eq(vkm_params_total(&params), rest + m.layers * (m.experts * expert + shared + bias));
        cr_expect_eq(vkm_params_active(&params, &m), rest + m.layers * (m.top_k * expert + shared + bias));
        const struct vkm_param *p = vkm_params_get(&params, VKM_PARAM_SHARED2, 1);
        cr_expect(p->count == D * m.d_shared && p->rank == (i & 1 ? 2 : 0), "%s", p->name);
        p = vkm_params_get(&params, VKM_PARAM_ROUTER_BIAS, 0);
        cr_expect(p->count == bias && p->rank == (i & 2 ? 1 : 0) && !p->decay && p->init == VKM_INIT_ZEROS);
        vkm_params_destroy(&params);
    }
}

/* A router as it is drawn: what its rows' products are. */
static void expect_router(uint32_t E, uint32_t D, enum vkmoe_router_init init)
{
    struct vkmoe_model_config m = {.layers = 1, .d_model = D, .heads = 1, .experts = E, .top_k = 1, .d_expert = 4,
                                   .vocab = 257};
    struct vkm_params params;
    assert_ok(vkm_params_create(&test_log, &m, NULL, &params));
    struct vkm_param *p = vkm_params_get(&params, VKM_PARAM_ROUTER, 0);
    float *w = malloc(p->count * sizeof *w), *other = malloc(p->count * sizeof *w);
    cr_assert(w && other && vkm_param_draw(p, init, 5, 4, w) && vkm_param_draw(p, init, 6, 4, other));
    cr_expect(memcmp(w, other, p->count * sizeof *w) != 0, "another seed draws another");
    double length = init == VKMOE_ROUTER_ORTHOGONAL_SMALL ? 0.02 * sqrt(D) : 1, square = 0, most = 0;
    bool columns = E > D && init != VKMOE_ROUTER_UNIT;
    uint32_t n = columns ? D : E, width = columns ? E : D;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            double inner = 0;
            for (uint32_t k = 0; k < width; k++)
                inner += (double)(columns ? w[k * D + i] : w[i * D + k]) * (columns ? w[k * D + j] : w[j * D + k]);
            square += i == j ? inner : 0;
            if (init == VKMOE_ROUTER_NORMAL)
                continue;
            if (i == j)
                cr_assert_float_eq(inner, length * length, 1e-6, "row %u has length %g", i, sqrt(inner));
            else if (init != VKMOE_ROUTER_UNIT)
                cr_assert_float_eq(inner, 0, 1e-6, "rows %u and %u: %g", i, j, inner);
            else
                most = fmax(most, fabs(inner));
        }
    }
    if (init == VKMOE_ROUTER_NORMAL)
        cr_expect_float_eq(sqrt(square / (E * D)), 0.02, 0.002);
    if (init == VKMOE_ROUTER_UNIT)
        cr_expect(most > 0.01, "directions are not orthogonal: %g", most);
    free(w);
    free(other);
    vkm_params_destroy(&params);
}

Test(config, router_inits)
{
    static const uint32_t sizes[][2] = {{8, 64}, {16, 16}, {24, 12}};
    for (int init = VKMOE_ROUTER_ORTHOGONAL; init <= VKMOE_ROUTER_ORTHOGONAL_SMALL; init++)
        for (int i = 0; i < 3; i++)
            expect_router(sizes[i][0], sizes[i][1], (enum vkmoe_router_init)init);
    expect_router(1, 8, VKMOE_ROUTER_ORTHOGONAL);
}
