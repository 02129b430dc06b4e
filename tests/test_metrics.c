/* What a validation reports of routing, recomputed from what the device leaves behind: gates, loads, similarity of experts,
 * stability. And what the host makes of sums. */
#include <float.h>
#include <math.h>

#include "ops_cases.h"
#include "train_fixture.h"

#include "base/rng.h"
#include "train/layer_sums.h"
#include "train/trainer.h"

#include <criterion/parameterized.h>

/* ---- sums over batches ---- */

enum { SUM_LAYERS = 3, BATCHES = 5, SEQUENCES = 3 };

static double random_below(uint64_t index, double below)
{
    return below * vkm_rng_uniform(1, 1, index);
}

/* A quotient of sums of a few exact terms in double. */
static void expect_near(double got, double want, const char *what)
{
    cr_expect(fabs(got - want) <= 4 * BATCHES * DBL_EPSILON * fmax(fabs(want), 1), "%s: %.17g instead of %.17g", what, got,
              want);
}

static void check_load(const struct vkmoe_layer_metrics *m, size_t E, const uint64_t *tokens)
{
    const struct ref_load want = ref_load(E, tokens);
    cr_expect_eq(m->dead, want.dead);
    /* Each load over the mean is off by E + 4 roundings of double at most, here and there; so is the root of their mean
     * square deviation, by no more than the largest of them. */
    const double bound = 2 * (double)(E + 4) * DBL_EPSILON * fmax(want.max, 1);
    cr_expect_float_eq(m->load_max, want.max, bound);
    cr_expect_float_eq(m->load_min, want.min, bound);
    cr_expect_float_eq(m->load_cv, want.cv, bound);
}

static void check_sums(uint32_t E)
{
    const struct vkmoe_model_config config = {.layers = SUM_LAYERS, .experts = E, .seq = 16};
    const double tokens = BATCHES * SEQUENCES * 16;
    struct vkm_layer_sums *sums;
    struct router_stats stats[BATCHES][SUM_LAYERS] = {0};
    uint32_t *counts = calloc((size_t)BATCHES * SUM_LAYERS * E, sizeof *counts);
    uint64_t *total = calloc((size_t)SUM_LAYERS * E, sizeof *total), at = 0;
    double rows = 0;
    cr_assert(counts && total);
    cr_assert_eq(vkm_layer_sums_create(&test_log, &config, &sums), VKMOE_OK);
    for (int pass = 0; pass < 2; pass++) { /* what the first one added is gone */
        vkm_layer_sums_clear(sums);
        memset(total, 0, SUM_LAYERS * E * sizeof *total);
        rows = 0;
        for (int b = 0; b < BATCHES; b++) {
            uint32_t *count = counts + (size_t)b * SUM_LAYERS * E;
            for (int l = 0; l < SUM_LAYERS; l++) {
                struct router_stats *s = &stats[b][l];
                *s = (struct router_stats){
                    .entropy = (float)random_below(at, 50), .entropy_topk = (float)random_below(at + 1, 30),
                    .seu = (float)random_below(at + 2, SEQUENCES), .gram_square = (float)random_below(at + 3, 1),
                    .gram_max = (float)random_below(at + 4, 2)};
                at += 5;
                for (int bin = 0; bin < GATE_BINS; bin++)
                    s->bins[bin] = (uint32_t)random_below(at++, 4e9);
            }
            for (uint32_t i = 0; i < SUM_LAYERS * E; i++) {
                count[i] = i % 7 == 3 ? 0 : (uint32_t)random_below(at++, i % 5 ? 4e9 : 20);
                total[i] += count[i];
                rows += count[i];
            }
            vkm_layer_sums_add(sums, stats[b], count, SEQUENCES);
        }
    }
    const struct vkmoe_layer_metrics *m = vkm_layer_sums_metrics(sums);
    for (int l = 0; l < SUM_LAYERS; l++) {
        double entropy = 0, topk = 0, seu = 0, bins[GATE_BINS] = {0}, weights = 0;
        for (int b = 0; b < BATCHES; b++) {
            entropy += (double)stats[b][l].entropy;
            topk += (double)stats[b][l].entropy_topk;
            seu += (double)stats[b][l].seu;
            for (int bin = 0; bin < GATE_BINS; bin++) {
                bins[bin] += stats[b][l].bins[bin];
                weights += stats[b][l].bins[bin];
            }
        }
        expect_near(m[l].entropy, entropy / tokens, "entropy");
        expect_near(m[l].entropy_topk, topk / tokens, "entropy of the active");
        expect_near(m[l].seu, seu / (BATCHES * SEQUENCES), "SEU");
        for (int bin = 0; bin < GATE_BINS; bin++)
            expect_near(m[l].gates[bin], bins[bin] / weights, "gate weights");
        cr_expect_eq(m[l].gram_mean_square, (double)stats[BATCHES - 1][l].gram_square);
        cr_expect_eq(m[l].gram_max, (double)stats[BATCHES - 1][l].gram_max);
        cr_expect(isnan(m[l].changed) && isnan(m[l].pes) && isnan(m[l].pes_se));
        check_load(&m[l], E, total + (size_t)l * E);
    }
    cr_expect_eq(memcmp(vkm_layer_sums_expert_tokens(sums), total, SUM_LAYERS * E * sizeof *total), 0);
    expect_near(vkm_layer_sums_active(sums) * tokens * SUM_LAYERS / rows, 1, "active experts");
    vkm_layer_sums_destroy(sums);
    free(counts);
    free(total);
}

Test(metrics, sums)
{
    static const uint32_t experts[] = {1, 2, 7, 64, 257};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++)
        check_sums(experts[i]);
}

/* ---- a validation ---- */

static const struct {
    const char *balance;
    bool sigmoid, norm_topk, gpu_kernels;
    uint32_t d_shared;
} variants[] = {
    {"simbal", .norm_topk = true}, {"lbl+lossfree", .sigmoid = true, .d_shared = 8}, {"none", .gpu_kernels = true},
};
enum { VARIANTS = sizeof variants / sizeof *variants, EVALUATED = 20, PES_TOKENS = 60 };

/* The trainer's network on tokens of the test's choice. What it leaves of each layer, by the layer's number. */
struct watch {
    struct vkm_net *net;
    struct vkm_arena *arena;
    struct vkm_buf tok, h;    /* [T] u32; [L,T,D]: the experts' input */
    struct vkm_rec *rec;
    uint32_t *tokens, *targets;
};

static void keep_input(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    struct watch *w = user;
    vkm_rec_copy(rec, vkm_buf_slice(w->h, layer * net->scratch.h.bytes, net->scratch.h.bytes), net->scratch.h);
}

static void watch_begin(struct watch *w, struct vkm_net *net)
{
    *w = (struct watch){.net = net, .tokens = calloc(net->T, 4), .targets = calloc(net->T, 4)};
    cr_assert(w->tokens && w->targets);
    cr_assert_eq(vkm_arena_create(net->ctx, "watch", VKM_MEMORY_DEVICE, &w->arena), VKMOE_OK, "%s", seen.last);
    vkm_arena_reserve(w->arena, "tokens", net->T * 4ull, &w->tok);
    vkm_arena_reserve(w->arena, "inputs", net->config.layers * net->scratch.h.bytes, &w->h);
    cr_assert_eq(vkm_arena_commit(w->arena), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_rec_create(net->ctx, "watch", &w->rec), VKMOE_OK, "%s", seen.last);
    vkm_net_forward(w->rec, net, w->tok, (struct vkm_buf){0}, &(struct vkm_observer){keep_input, w});
    cr_assert_eq(vkm_rec_end(w->rec), VKMOE_OK, "%s", seen.last);
}

static void watch_end(struct watch *w)
{
    vkm_rec_destroy(w->rec);
    vkm_arena_destroy(w->arena);
    free(w->tokens);
    free(w->targets);
}

/* Contexts [first, first + B) of `wanted` spaced evenly over the held-out tokens; past those, from the first on. */
static void watch_run(struct watch *w, const struct vkmoe_data *data, uint64_t first, uint64_t wanted)
{
    const uint32_t S = w->net->config.seq;
    const uint64_t windows = vkm_data_windows(data, VKM_SPLIT_VALID, S);
    uint64_t ticket;
    for (uint32_t b = 0; b < w->net->B; b++)
        vkm_data_window(data, VKM_SPLIT_VALID, first + b < wanted ? (first + b) * windows / wanted : windows + first + b, S,
                        w->tokens + (size_t)b * S, w->targets + (size_t)b * S);
    cr_assert_eq(vkm_buf_upload(w->net->ctx, w->tok, w->tokens, w->net->T * 4ull), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_rec_submit(w->rec, &ticket), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_wait(w->net->ctx, ticket), VKMOE_OK, "%s", seen.last);
}

/* The buffer's words; freed by the caller. */
static void *words(struct vkmoe_context *ctx, struct vkm_buf buf)
{
    void *data = malloc(buf.bytes);
    cr_assert(data);
    cr_assert_eq(vkm_buf_download(ctx, buf, data, buf.bytes), VKMOE_OK, "%s", seen.last);
    return data;
}

/* Sums over batches as the device and the host make them, with what f32 may add. */
struct measured {
    struct num_sum entropy, topk, seu;
    uint64_t *tokens, bins[GATE_BINS];
};

static void measure(struct measured *m, const struct vkm_net *net, uint32_t layer)
{
    const size_t T = net->T, S = net->config.seq, E = net->config.experts, K = net->config.top_k;
    const struct vkm_gate *gate = &net->layers[layer].gate;
    float *p = words(net->ctx, gate->z), *g = words(net->ctx, gate->g);
    uint32_t *idx = words(net->ctx, gate->idx), bins[GATE_BINS] = {0};
    struct num *weights = ref_exact_new(p, T * E), *full = ref_new(T), *topk = ref_new(T), *load = ref_new(net->B * E);
    struct num *used = ref_new(net->B);
    struct num_sum sums[3] = {0};
    ref_entropy(T, E, K, weights, idx, full, topk);
    ref_expert_load(T, S, E, K, idx, load);
    ref_seu(net->B, E, load, used);
    for (size_t t = 0; t < T; t++) {
        num_sum_add(&sums[0], full[t]);
        num_sum_add(&sums[1], topk[t]);
    }
    for (size_t b = 0; b < net->B; b++)
        num_sum_add(&sums[2], used[b]);
    num_sum_add(&m->entropy, num_sum_end(&sums[0]));
    num_sum_add(&m->topk, num_sum_end(&sums[1]));
    num_sum_add(&m->seu, num_sum_end(&sums[2]));
    ref_histogram(T * K, g, bins);
    for (int bin = 0; bin < GATE_BINS; bin++)
        m->bins[bin] += bins[bin];
    for (size_t slot = 0; slot < T * K; slot++)
        m->tokens[idx[slot]]++;
    void *const owned[] = {p, g, idx, weights, full, topk, load, used};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
}

static void expect_mean(double got, const struct num_sum *sum, double count, const char *what, uint32_t layer)
{
    /* Batches are added up in double; sum->e is what they are off by. */
    cr_expect(fabs(got - sum->v / count) <= sum->e / count, "%s of layer %u is %.9g instead of %.9g, with %.3g allowed", what,
              layer, got, sum->v / count, sum->e / count);
}

static void check_layer(const struct vkmoe_trainer *t, const struct vkmoe_layer_metrics *m, const struct measured *want,
                        uint32_t layer, double sequences)
{
    const struct vkmoe_model_config *c = &t->model;
    const struct vkm_param *router = vkm_net_param(t->net, VKM_PARAM_ROUTER, layer);
    float *w = words(t->ctx, vkm_buf_slice(router->weight, 0, 4ull * c->experts * c->d_model));
    struct num *rows = ref_exact_new(w, (size_t)c->experts * c->d_model), largest, mean;
    double weights = 0;
    expect_mean(m->entropy, &want->entropy, sequences * c->seq, "entropy", layer);
    expect_mean(m->entropy_topk, &want->topk, sequences * c->seq, "entropy of the active", layer);
    expect_mean(m->seu, &want->seu, sequences, "SEU", layer);
    check_load(m, c->experts, want->tokens);
    for (int bin = 0; bin < GATE_BINS; bin++)
        weights += (double)want->bins[bin];
    cr_expect_eq(weights, sequences * c->seq * c->top_k);
    for (int bin = 0; bin < GATE_BINS; bin++)
        cr_expect_eq(m->gates[bin], (double)want->bins[bin] / weights, "layer %u: %.9g of the weights in bin %d, not %.9g",
                     layer, m->gates[bin], bin, (double)want->bins[bin] / weights);
    ref_orthogonality(c->experts, c->d_model, rows, &largest, &mean);
    cr_expect_leq(fabs(m->gram_mean_square - mean.v), mean.e);
    cr_expect_leq(fabs(m->gram_max - largest.v), largest.e);
    free(rows);
    free(w);
}

static void check_routing(const struct vkmoe_trainer *t, struct watch *w, const struct vkmoe_data *data,
                          const struct vkmoe_layer_metrics *metrics)
{
    const uint32_t L = t->model.layers, E = t->model.experts;
    struct measured *m = calloc(L, sizeof *m);
    uint64_t *tokens = calloc((size_t)L * E, sizeof *tokens), sequences = 0;
    cr_assert(m && tokens);
    for (uint32_t layer = 0; layer < L; layer++)
        m[layer].tokens = tokens + (size_t)layer * E;
    for (uint64_t first = 0; first < EVALUATED; first += w->net->B, sequences += w->net->B) {
        watch_run(w, data, first, EVALUATED);
        for (uint32_t layer = 0; layer < L; layer++)
            measure(&m[layer], w->net, layer);
    }
    for (uint32_t layer = 0; layer < L; layer++)
        check_layer(t, &metrics[layer], &m[layer], layer, (double)sequences);
    free(m);
    free(tokens);
}

/* ---- similarity of experts ---- */

/* y [D] = expert(x [D]) in double, of its w13 [2F,D] and w2 [D,F] */
static void expert(size_t D, size_t F, const float *w13, const float *w2, const float *x, double *y)
{
    for (size_t d = 0; d < D; d++)
        y[d] = 0;
    for (size_t f = 0; f < F; f++) {
        double h1 = 0, h3 = 0;
        for (size_t d = 0; d < D; d++) {
            h1 += (double)w13[f * D + d] * (double)x[d];
            h3 += (double)w13[(F + f) * D + d] * (double)x[d];
        }
        for (size_t d = 0; d < D; d++)
            y[d] += (double)w2[d * F + f] * (h1 / (1 + exp(-h1)) * h3);
    }
}

static double cosine(size_t D, const double *a, const double *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t d = 0; d < D; d++) {
        ab += a[d] * b[d];
        aa += a[d] * a[d];
        bb += b[d] * b[d];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : 0;
}

/* Mean over pairs of experts, all on x. */
static double similarity(const struct vkmoe_model_config *c, const float *w13, const float *w2, const float *x)
{
    const size_t D = c->d_model, F = c->d_expert, E = c->experts;
    double sum = 0, *y = calloc(E * D, sizeof *y);
    cr_assert(y);
    for (size_t i = 0; i < E; i++) {
        expert(D, F, w13 + i * 2 * F * D, w2 + i * D * F, x, y + i * D);
        for (size_t j = 0; j < i; j++)
            sum += cosine(D, y + i * D, y + j * D);
    }
    free(y);
    return 2 * sum / (double)(E * (E - 1));
}

static void check_similarity(const struct vkmoe_trainer *t, struct watch *w, const struct vkmoe_data *data,
                             const struct vkmoe_layer_metrics *metrics)
{
    const struct vkmoe_model_config *c = &t->model;
    const uint32_t n = vkm_measure_pes_tokens(w->net), batches = (PES_TOKENS + n - 1) / n, T = w->net->T;
    double value[8][PES_TOKENS]; /* by layer */
    cr_assert(c->layers <= 8 && batches > 1, "several batches are looked at");
    for (uint32_t batch = 0; batch < batches; batch++) {
        watch_run(w, data, batch * w->net->B, batches * w->net->B);
        float *h = words(t->ctx, w->h);
        for (uint32_t layer = 0; layer < c->layers; layer++) {
            float *w13 = words(t->ctx, vkm_net_param(w->net, VKM_PARAM_W13, layer)->weight);
            float *w2 = words(t->ctx, vkm_net_param(w->net, VKM_PARAM_W2, layer)->weight);
            for (uint32_t i = batch * n; i < (batch + 1) * n && i < PES_TOKENS; i++) {
                const size_t token = vkm_rng_below(0, VKM_STREAM_PROBE, i, T);
                value[layer][i] = similarity(c, w13, w2, h + ((size_t)layer * T + token) * c->d_model);
            }
            free(w13);
            free(w2);
        }
        free(h);
    }
    for (uint32_t layer = 0; layer < c->layers; layer++) {
        double mean = 0, square = 0;
        for (int i = 0; i < PES_TOKENS; i++)
            mean += value[layer][i] / PES_TOKENS;
        for (int i = 0; i < PES_TOKENS; i++)
            square += (value[layer][i] - mean) * (value[layer][i] - mean);
        const double error = sqrt(square / (PES_TOKENS - 1) / PES_TOKENS);
        fprintf(stderr, "layer %u: PES %.6f +- %.6f, directly %.6f +- %.6f\n", layer, metrics[layer].pes,
                metrics[layer].pes_se, mean, error);
        /* What a figure with five decimals needs. */
        cr_expect_float_eq(metrics[layer].pes, mean, 1e-5, "layer %u: PES %.9g, directly %.9g", layer, metrics[layer].pes,
                           mean);
        cr_expect_float_eq(metrics[layer].pes_se, error, 1e-5);
    }
}

/* ---- */

static void evaluate(struct vkmoe_trainer *t, struct vkmoe_layer_metrics *metrics)
{
    struct vkmoe_validation validation;
    cr_assert_eq(vkmoe_trainer_evaluate(t, EVALUATED * t->model.seq, &validation), VKMOE_OK, "%s", seen.last);
    memcpy(metrics, validation.metrics, validation.layers * sizeof *metrics);
}

static struct criterion_test_params all_variants(void)
{
    static size_t indices[VARIANTS];
    for (size_t i = 0; i < VARIANTS; i++)
        indices[i] = i;
    return cr_make_param_array(size_t, indices, VARIANTS);
}

ParameterizedTestParameters(metrics, validation)
{
    return all_variants();
}

ParameterizedTest(size_t *index, metrics, validation, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data};
    ctx->caps.cpu = ctx->caps.cpu && !variants[*index].gpu_kernels;
    cr_assert_eq(vkmoe_balance_parse(test_log, variants[*index].balance, &desc.train.balance), VKMOE_OK, "%s", seen.last);
    desc.train.pes_tokens = PES_TOKENS;
    desc.model.gate = variants[*index].sigmoid ? VKMOE_GATE_SIGMOID : VKMOE_GATE_SOFTMAX;
    desc.model.norm_topk = variants[*index].norm_topk;
    desc.model.d_shared = variants[*index].d_shared;
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    struct vkmoe_layer_metrics *metrics = calloc(model.layers, sizeof *metrics);
    struct watch w;
    double changed = 0;
    cr_assert(metrics);
    watch_begin(&w, t->net);
    fprintf(stderr, "%s, %s, variant %zu (%s)\n", ctx->info.driver,
            variants[*index].gpu_kernels ? "kernels for a GPU" : "its own kernels", *index, variants[*index].balance);

    evaluate(t, metrics);
    for (uint32_t layer = 0; layer < model.layers; layer++)
        cr_expect(isnan(metrics[layer].changed), "nothing to compare with, but %g has changed", metrics[layer].changed);
    check_routing(t, &w, data, metrics);
    check_similarity(t, &w, data, metrics);
    evaluate(t, metrics);
    for (uint32_t layer = 0; layer < model.layers; layer++)
        cr_expect_eq(metrics[layer].changed, 0, "layer %u: %g has changed without a step", layer, metrics[layer].changed);

    steps(t, train.steps);
    evaluate(t, metrics);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        cr_expect(metrics[layer].changed >= 0 && metrics[layer].changed <= 1);
        changed += metrics[layer].changed;
    }
    cr_expect_gt(changed, 0, "%u steps have changed no token's experts", train.steps);
    check_routing(t, &w, data, metrics);
    check_similarity(t, &w, data, metrics);

    watch_end(&w);
    free(metrics);
    vkmoe_trainer_destroy(t);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}

/* ---- a model that has diverged ---- */

ParameterizedTestParameters(metrics, diverged)
{
    return all_variants();
}

/* Router weights that are not a number: every row still goes to some expert, what is measured of the gate is not a number
 * either, and a step is skipped, the loss-free bias with it. */
ParameterizedTest(size_t *index, metrics, diverged, .init = scratch_begin, .fini = scratch_end)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_data *data = text();
    struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data};
    struct vkmoe_layer_metrics metrics[2];
    ctx->caps.cpu = ctx->caps.cpu && !variants[*index].gpu_kernels;
    desc.train.balance = (struct vkmoe_balance){.simbal = 0.1f, .lbl = 0.01f, .lossfree = 0.001f};
    desc.train.balance.lbl_scope = VKMOE_LBL_GLOBAL_BATCH;
    desc.train.pes_tokens = PES_TOKENS;
    desc.model.gate = variants[*index].sigmoid ? VKMOE_GATE_SIGMOID : VKMOE_GATE_SOFTMAX;
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    const struct vkm_buf router = vkm_net_param(t->net, VKM_PARAM_ROUTER, 0)->weight;
    const uint32_t E = model.experts, weights = E * model.d_model;
    float *nans = malloc(weights * sizeof *nans);
    cr_assert(nans);
    for (uint32_t i = 0; i < weights; i++)
        nans[i] = NAN;
    cr_assert_eq(vkm_buf_upload(ctx, router, nans, weights * sizeof *nans), VKMOE_OK, "%s", seen.last);
    free(nans);

    evaluate(t, metrics);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        double shares = 0;
        for (int bin = 0; bin < VKMOE_GATE_BINS; bin++)
            shares += metrics[layer].gates[bin];
        cr_expect_float_eq(shares, 1, 1e-12);
        cr_expect(metrics[layer].load_max >= 1 && metrics[layer].load_max <= E, "load %g", metrics[layer].load_max);
        /* Vulkan does not promise that a function of a NaN is one: SwiftShader's exp, and so its sigmoid, are not. */
        float *p = words(ctx, t->net->layers[layer].gate.z);
        cr_expect(!isnan(p[0]) || (isnan(metrics[layer].entropy) && isnan(metrics[layer].entropy_topk)),
                  "layer %u: entropies %g %g", layer, metrics[layer].entropy, metrics[layer].entropy_topk);
        free(p);
    }
    const struct vkmoe_step_report report = steps(t, 2);
    cr_expect(report.skipped && report.skipped_total == 2);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        const struct vkm_buf bias = vkm_net_param(t->net, VKM_PARAM_ROUTER_BIAS, layer)->weight;
        float *b = words(ctx, bias);
        uint32_t rows = 0;
        for (uint32_t e = 0; e < E; e++) {
            rows += report.expert_tokens[layer * E + e];
            cr_expect_eq(b[e], 0);
        }
        cr_expect_eq(rows, train.batch * train.accum * model.seq * model.top_k);
        free(b);
    }
    vkmoe_trainer_destroy(t);
    vkmoe_data_close(data);
    close_context(ctx, 0);
}
