/* What is measured of a layer's routing, on the device. */
#include <stddef.h>

#include "nn/net.h"

/* scratch.balance: two numbers a token, the load and one number a sequence, the Gram matrix; each from an aligned place. */
struct parts {
    struct vkm_buf full, topk, load, used, gram;
};

static uint64_t next(uint64_t *at, uint64_t floats)
{
    uint64_t first = *at;
    *at += (floats * sizeof(float) + VKM_BUF_ALIGN - 1) / VKM_BUF_ALIGN * VKM_BUF_ALIGN;
    return first;
}

/* Where they begin, and the bytes of all. */
static uint64_t layout(const struct vkm_net *net, uint64_t begin[5])
{
    uint64_t at = 0, E = net->config.experts;
    begin[0] = next(&at, net->T);
    begin[1] = next(&at, net->T);
    begin[2] = next(&at, net->B * E);
    begin[3] = next(&at, net->B);
    begin[4] = next(&at, E * E);
    return at;
}

uint64_t vkm_measure_scratch(const struct vkm_net *net)
{
    uint64_t begin[5];
    return layout(net, begin);
}

static struct parts cut(const struct vkm_net *net)
{
    uint64_t begin[5], E = net->config.experts, size = sizeof(float);
    struct vkm_buf all = net->scratch.balance;
    layout(net, begin);
    return (struct parts){
        vkm_buf_slice(all, begin[0], net->T * size), vkm_buf_slice(all, begin[1], net->T * size),
        vkm_buf_slice(all, begin[2], net->B * E * size), vkm_buf_slice(all, begin[3], net->B * size),
        vkm_buf_slice(all, begin[4], E * E * size)};
}

#define STAT(stats, field) vkm_buf_slice((stats), offsetof(struct router_stats, field), sizeof(float))

void vkm_measure_router(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, struct vkm_buf stats)
{
    const struct vkm_gate *gate = &net->layers[layer].gate;
    struct parts s = cut(net);
    vkm_op_entropy(rec, gate, s.full, s.topk);
    vkm_op_sum(rec, s.full, STAT(stats, entropy), net->T, 1);
    vkm_op_sum(rec, s.topk, STAT(stats, entropy_topk), net->T, 1);
    vkm_op_expert_load(rec, gate, net->config.seq, s.load);
    vkm_op_seu(rec, s.load, s.used, net->B, net->config.experts);
    vkm_op_sum(rec, s.used, STAT(stats, seu), net->B, 1);
    vkm_op_histogram(rec, gate->g, vkm_buf_slice(stats, offsetof(struct router_stats, bins), GATE_BINS * sizeof(uint32_t)),
                     net->T * net->config.top_k);
    vkm_op_gram(rec, vkm_net_param(net, VKM_PARAM_ROUTER, layer)->weight, STAT(stats, gram_square), STAT(stats, gram_max),
                s.gram, net->config.experts, net->config.d_model);
}

uint32_t vkm_measure_pes_tokens(const struct vkm_net *net)
{
    uint32_t rows = net->type == TYPE_F32 ? net->expert_rows : net->expert_rows / 2; /* they are f32 */
    uint32_t tokens = rows / net->config.experts;
    return tokens < net->T ? tokens : net->T;
}

void vkm_measure_pes(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, const struct vkm_routing *all,
                     struct vkm_buf positions, struct vkm_buf pes)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    uint32_t n = all->T, D = net->config.d_model, E = net->config.experts, F = net->config.d_expert;
    vkm_op_embed(rec, s->h, positions, l->x_mid, n, D); /* the rows at those positions */
    vkm_op_route(rec, all, (struct vkm_buf){0});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "measure.gate_up", .narrow = NARROW_B | NARROW_C, .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .routing = all, .gather = GATHER_A, .a = l->x_mid,
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W13, layer)), .c = l->h13, .act = s->act, .m = n * E,
        .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "measure.down", .narrow = NARROW_A | NARROW_B, .form = GEMM_NT, .routing = all, .a = s->act,
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W2, layer)), .c = s->rows, .m = n * E, .n = D, .k = F});
    vkm_op_pes(rec, s->rows, pes, n, D, E);
}
