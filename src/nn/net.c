#include "nn/net.h"

#include <math.h>
#include <stdlib.h>

#include "ops/probe.h"

enum { LOGIT_CHUNK = 64 << 20 }; /* bytes of a chunk of logits, at most */

static uint64_t floats(uint64_t count)
{
    return count * sizeof(float);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What each block has of its own. */
static void reserve_kept(struct vkm_net *net, struct vkm_layer *l)
{
    const struct vkmoe_model_config *c = &net->config;
    struct vkm_arena *arena = net->activation_arena;
    uint64_t T = net->T, R = T * c->top_k;
    vkm_arena_reserve(arena, "x", floats(T * c->d_model), &l->x);
    vkm_arena_reserve(arena, "gate.z", floats(T * c->experts), &l->gate.z);
    vkm_arena_reserve(arena, "gate.idx", R * sizeof(uint32_t), &l->gate.idx);
    vkm_arena_reserve(arena, "gate.g", floats(R), &l->gate.g);
    vkm_arena_reserve(arena, "gate.lse", floats(T), &l->gate.lse);
    vkm_arena_reserve(arena, "load", floats((uint64_t)net->B * c->experts), &l->load);
    l->gate.T = l->routing.T = net->T;
    l->gate.E = l->routing.E = c->experts;
    l->gate.K = l->routing.K = c->top_k;
    l->gate.sigmoid = c->gate == VKMOE_GATE_SIGMOID;
    l->gate.norm_topk = c->norm_topk;
    l->routing.F = c->d_expert;
    l->routing.D = c->d_model;
    l->routing.type = net->type;
    vkm_routing_reserve(net->ctx, arena, &l->routing);
}

/* What follows from that. */
static void reserve_computed(struct vkm_net *net, struct vkm_layer *l)
{
    const struct vkmoe_model_config *c = &net->config;
    struct vkm_arena *arena = net->activation_arena;
    uint64_t T = net->T;
    if (!net->stack) {
        vkm_arena_reserve(arena, "x_mid", floats(T * c->d_model), &l->x_mid);
        vkm_arena_reserve(arena, "qkv", floats(3 * T * c->d_model), &l->attention.qkv);
        vkm_arena_reserve(arena, "attention.o", floats(T * c->d_model), &l->attention.o);
        vkm_arena_reserve(arena, "attention.lse", floats(T * c->heads), &l->attention.lse);
    }
    vkm_arena_reserve(arena, "moe.h13", vkm_net_bytes(net, 2ull * net->expert_rows * c->d_expert), &l->h13);
    if (c->d_shared)
        vkm_arena_reserve(arena, "shared.h13", vkm_net_bytes(net, 2 * T * c->d_shared), &l->shared13);
}

/* Of the balance losses, and of what measure.c measures. */
static uint64_t balance_scratch(const struct vkm_net *net)
{
    uint64_t T = net->T, rows = (uint64_t)net->config.layers * net->config.experts;
    uint64_t loss = larger(floats(rows), larger(floats(T), vkm_square_scratch(net->T)));
    return larger(loss, vkm_measure_scratch(net));
}

/* The weights' gradients. */
static uint64_t partial_scratch(const struct vkm_net *net)
{
    const struct vkmoe_model_config *c = &net->config;
    const uint32_t T = net->T, D = c->d_model;
    const struct {
        uint32_t type, m, n;
    } products[] = {{TYPE_F32, c->experts, D}, {net->type, 3 * D, D},        {net->type, D, D},          {net->type, net->ends.out, D},
                    {net->type, D, c->d_shared}, {net->type, 2 * c->d_shared, D}, {TYPE_F32, D, net->ends.in}};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (products[i].m && products[i].n)
            bytes = larger(bytes, vkm_gemm_partial(net->ctx, products[i].type, products[i].m, products[i].n, T));
    const struct vkm_routing *routing = &net->layers[0].routing;
    return larger(bytes, larger(vkm_gemm_partial_routed(net->ctx, routing, D, c->d_expert),
                                vkm_gemm_partial_routed(net->ctx, routing, 2 * c->d_expert, D)));
}

static void reserve_scratch(struct vkm_net *net)
{
    const struct vkmoe_model_config *c = &net->config;
    struct vkm_arena *arena = net->activation_arena;
    struct vkm_scratch *s = &net->scratch;
    uint64_t T = net->T, R = net->expert_rows, D = c->d_model;
    if (net->stack) {
        if (net->ends.in)
            vkm_arena_reserve(arena, "in", floats(T * net->ends.in), &net->in);
    } else {
        vkm_arena_reserve(arena, "rope.cos", floats(c->seq * (D / c->heads / 2)), &net->cos);
        vkm_arena_reserve(arena, "rope.sin", floats(c->seq * (D / c->heads / 2)), &net->sin);
    }
    vkm_arena_reserve(arena, "loss scale", sizeof(struct loss_scale), &net->loss_scale);
    vkm_arena_reserve(arena, "h", floats(T * D), &s->h);
    if (net->type != TYPE_F32)
        vkm_arena_reserve(arena, "h in 16 bits", vkm_net_bytes(net, T * D), &s->h16);
    vkm_arena_reserve(arena, "moe.act", vkm_net_bytes(net, larger(R * c->d_expert, T * c->d_shared)), &s->act);
    vkm_arena_reserve(arena, "moe.rows", vkm_net_bytes(net, R * D), &s->rows);
    if (net->ends.out)
        vkm_arena_reserve(arena, "logits", floats((uint64_t)net->logit_rows * net->ends.out), &s->logits);
    vkm_arena_reserve(arena, "loss", floats(T), &s->loss);
    vkm_arena_reserve(arena, "z_loss", floats(T), &s->z_loss);
    vkm_arena_reserve(arena, "balance", balance_scratch(net), &s->balance);
    if (!net->trainable)
        return;
    vkm_arena_reserve(arena, "dx", floats(T * D), &s->dx);
    vkm_arena_reserve(arena, "dh", floats(T * D), &s->dh);
    if (!net->stack) {
        vkm_arena_reserve(arena, "dqkv", floats(3 * T * D), &s->dqkv);
        vkm_arena_reserve(arena, "attention.delta", floats(T * c->heads), &s->delta);
    }
    vkm_arena_reserve(arena, "gate.dz", floats(T * c->experts), &s->dz);
    vkm_arena_reserve(arena, "gate.dgate", floats(T * c->top_k * vkm_gemm_parts(net->ctx, &net->layers[0].routing)), &s->dgate);
    vkm_arena_reserve(arena, "norm", vkm_rmsnorm_scratch(net->T, c->d_model), &s->norm);
    const uint64_t partial = partial_scratch(net);
    if (partial)
        vkm_arena_reserve(arena, "partial sums", partial, &s->partial);
}

/* The plan; a stack's with ends; parameters are `of`'s where that is given. */
static enum vkmoe_status plan(struct vkmoe_context *ctx, const struct vkmoe_model_config *config, const struct vkm_ends *ends,
                              uint32_t batch, enum vkm_net_use use, uint32_t type, const struct vkm_net *of,
                              struct vkm_net **out)
{
    const bool trainable = use != VKM_NET_FORWARD;
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_net *net = calloc(1, sizeof *net);
    if (!net)
        return vkm_fail_memory(&ctx->log);
    net->ctx = ctx;
    net->config = *config;
    net->stack = ends != NULL;
    net->ends = ends ? *ends : (struct vkm_ends){.out = config->vocab};
    if (ends) { /* all rows are one sequence */
        net->config.heads = net->config.vocab = 0;
        net->config.seq = batch;
        batch = 1;
    }
    net->B = batch;
    net->T = batch * net->config.seq;
    net->expert_rows = (uint32_t)larger((uint64_t)net->T * config->top_k, (type == TYPE_F32 ? 1ull : 2ull) * config->experts);
    net->trainable = trainable;
    net->recompute = use == VKM_NET_TRAIN_RECOMPUTE;
    net->type = type;
    uint64_t rows = net->ends.out ? LOGIT_CHUNK / floats(net->ends.out) : 0;
    net->logit_rows = rows < net->config.seq ? net->config.seq : rows < net->T ? (uint32_t)rows : net->T;
    net->layers = calloc(config->layers, sizeof *net->layers);
    if (!net->layers) {
        status = vkm_fail_memory(&ctx->log);
        goto fail;
    }
    if (!of && (status = vkm_probe(ctx, type))) /* tiles, and so sizes, follow from it */
        goto fail;
    if ((status = vkm_arena_create(ctx, "activations", VKM_MEMORY_DEVICE, &net->activation_arena)))
        goto fail;
    if (of) {
        net->params = of->params;
        net->shares_params = true;
    } else {
        if ((status = vkm_params_create(&ctx->log, &net->config, ends, &net->params)) ||
            (status = vkm_arena_create(ctx, "parameters", VKM_MEMORY_DEVICE, &net->param_arena)))
            goto fail;
        vkm_params_reserve(&net->params, net->param_arena, ctx->caps.max_block, trainable, type);
    }
    for (uint32_t i = 0; i < (trainable ? config->layers : 1); i++)
        reserve_kept(net, &net->layers[i]);
    for (uint32_t i = 0; i < (use == VKM_NET_TRAIN ? config->layers : 1); i++)
        reserve_computed(net, &net->layers[i]);
    vkm_arena_reserve(net->activation_arena, "x_out", floats((uint64_t)net->T * config->d_model), &net->x_out);
    reserve_scratch(net);
    if ((!of && (status = vkm_arena_status(net->param_arena))) || (status = vkm_arena_status(net->activation_arena)))
        goto fail;
    *out = net;
    return VKMOE_OK;

fail:
    vkm_net_destroy(net);
    return status;
}

enum vkmoe_status vkm_net_create(struct vkmoe_context *ctx, const struct vkmoe_model_config *config, uint32_t batch,
                                 enum vkm_net_use use, uint32_t type, struct vkm_net **out)
{
    return plan(ctx, config, NULL, batch, use, type, NULL, out);
}

enum vkmoe_status vkm_net_create_stack(struct vkmoe_context *ctx, const struct vkmoe_model_config *config,
                                       const struct vkm_ends *ends, uint32_t rows, enum vkm_net_use use, uint32_t type,
                                       struct vkm_net **out)
{
    return plan(ctx, config, ends, rows, use, type, NULL, out);
}

enum vkmoe_status vkm_net_create_shared(const struct vkm_net *of, uint32_t batch, struct vkm_net **out)
{
    return plan(of->ctx, &of->config, of->stack ? &of->ends : NULL, batch, VKM_NET_FORWARD, of->type, of, out);
}

void vkm_net_destroy(struct vkm_net *net)
{
    if (!net)
        return;
    vkm_arena_destroy(net->param_arena);
    vkm_arena_destroy(net->activation_arena);
    if (!net->shares_params)
        vkm_params_destroy(&net->params);
    free(net->layers);
    free(net);
}

/* Rotation angles position * theta^(-2i / width), in double, since f32 sines of large angles differ between devices. */
static enum vkmoe_status upload_angles(struct vkm_net *net)
{
    uint32_t S = net->config.seq, width = net->config.d_model / net->config.heads, half = width / 2;
    float *cosines = malloc(floats((uint64_t)S * half)), *sines = malloc(floats((uint64_t)S * half));
    enum vkmoe_status status = VKMOE_OK;
    if (!cosines || !sines) {
        status = vkm_fail_memory(&net->ctx->log);
        goto done;
    }
    for (uint32_t s = 0; s < S; s++)
        for (uint32_t i = 0; i < half; i++) {
            double angle = s * pow(net->config.rope_theta, -2.0 * i / width);
            cosines[s * half + i] = (float)cos(angle);
            sines[s * half + i] = (float)sin(angle);
        }
    status = vkm_buf_upload(net->ctx, net->cos, cosines, net->cos.bytes);
    if (!status)
        status = vkm_buf_upload(net->ctx, net->sin, sines, net->sin.bytes);
done:
    free(cosines);
    free(sines);
    return status;
}

static void bind_attention(struct vkm_net *net, struct vkm_attention *a)
{
    a->B = net->B;
    a->S = net->config.seq;
    a->H = net->config.heads;
    a->width = net->config.d_model / net->config.heads;
    a->type = net->type;
    a->cos = net->cos;
    a->sin = net->sin;
    a->dout = net->scratch.dh;
    a->delta = net->scratch.delta;
    a->dqkv = net->scratch.dqkv;
}

static void share_computed(struct vkm_layer *l, const struct vkm_layer *of)
{
    l->x_mid = of->x_mid;
    l->attention = of->attention;
    l->h13 = of->h13;
    l->shared13 = of->shared13;
}

enum vkmoe_status vkm_net_commit(struct vkm_net *net)
{
    enum vkmoe_status status;
    if ((status = vkm_arena_commit(net->activation_arena)))
        return status;
    if (!net->shares_params) {
        if ((status = vkm_arena_commit(net->param_arena)))
            return status;
        vkm_params_bind(&net->params);
    }
    for (uint32_t i = 0; i < net->config.layers; i++) {
        if (!net->trainable && i > 0)
            net->layers[i] = net->layers[0];
        else if (net->recompute && i > 0)
            share_computed(&net->layers[i], &net->layers[0]);
        if (net->stack)
            net->layers[i].x_mid = net->layers[i].x;
        else
            bind_attention(net, &net->layers[i].attention);
        net->layers[i].routing.idx = net->layers[i].gate.idx;
        net->layers[i].gate.bias = vkm_net_param(net, VKM_PARAM_ROUTER_BIAS, i)->weight;
    }
    const struct loss_scale one = {.scale = 1};
    if ((status = vkm_buf_upload(net->ctx, net->loss_scale, &one, sizeof one)))
        return status;
    return net->stack ? VKMOE_OK : upload_angles(net);
}

void vkm_net_norm(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf x, const struct vkm_param *norm)
{
    vkm_op_rmsnorm(rec, x, norm->weight, net->scratch.h, net->scratch.h16, net->type, net->T, net->config.d_model,
                   net->config.norm_eps);
}

/* The stream after block `layer`. Blocks that share their buffers write it where they read. */
static struct vkm_buf block_output(const struct vkm_net *net, uint32_t layer)
{
    return layer + 1 < net->config.layers ? net->layers[layer + 1].x : net->x_out;
}

void vkm_net_blocks(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf expert_tokens,
                    const struct vkm_observer *observer)
{
    uint64_t row = net->config.experts * sizeof(uint32_t);
    for (uint32_t layer = 0; layer < net->config.layers; layer++) {
        vkm_rec_push(rec, "layer %u", layer);
        if (!net->stack)
            vkm_attention_forward(rec, net, layer);
        vkm_moe_forward(rec, net, layer, block_output(net, layer),
                        expert_tokens.bytes ? vkm_buf_slice(expert_tokens, layer * row, row) : expert_tokens);
        if (observer)
            observer->layer(observer->user, rec, net, layer);
        vkm_rec_pop(rec);
    }
}

void vkm_net_blocks_backward(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_loss *loss)
{
    for (uint32_t layer = net->config.layers; layer-- > 0;) {
        vkm_rec_push(rec, "layer %u", layer);
        if (net->recompute && layer + 1 < net->config.layers) { /* the last one's is still there */
            vkm_attention_forward(rec, net, layer);
            vkm_moe_recompute(rec, net, layer);
        }
        vkm_moe_backward(rec, net, layer, loss);
        if (!net->stack)
            vkm_attention_backward(rec, net, layer);
        vkm_rec_pop(rec);
    }
}

void vkm_net_forward(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf tok, struct vkm_buf expert_tokens,
                     const struct vkm_observer *observer)
{
    struct vkm_buf embed = vkm_params_get(&net->params, VKM_PARAM_EMBED, VKM_NO_LAYER)->weight;
    vkm_op_embed(rec, embed, tok, net->layers[0].x, net->T, net->config.d_model);
    vkm_net_blocks(rec, net, expert_tokens, observer);
}

void vkm_net_backward(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf tok, const struct vkm_loss *loss)
{
    struct vkm_buf embed = vkm_params_get(&net->params, VKM_PARAM_EMBED, VKM_NO_LAYER)->grad;
    vkm_net_blocks_backward(rec, net, loss);
    vkm_op_embed_bwd(rec, embed, tok, net->scratch.dx, net->T, net->config.d_model, net->config.vocab);
}
