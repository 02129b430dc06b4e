/* The attention half of a block. */
#include "nn/net.h"

static struct vkm_buf weight(const struct vkm_net *net, enum vkm_param_id id, uint32_t layer)
{
    return vkm_params_get(&net->params, id, (int32_t)layer)->weight;
}

static struct vkm_buf grad(const struct vkm_net *net, enum vkm_param_id id, uint32_t layer)
{
    return vkm_params_get(&net->params, id, (int32_t)layer)->grad;
}

void vkm_attention_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    uint32_t T = net->T, D = net->config.d_model;

    vkm_op_rmsnorm(rec, l->x, weight(net, VKM_PARAM_ATTN_NORM, layer), s->h, T, D, net->config.norm_eps);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv", .form = GEMM_NT, .a = s->h, .b = weight(net, VKM_PARAM_QKV, layer), .c = l->attention.qkv,
        .m = T, .n = 3 * D, .k = D});
    vkm_op_rope(rec, &l->attention, l->attention.qkv, false);
    vkm_op_attention(rec, &l->attention);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out", .form = GEMM_NT, .a = l->attention.o, .b = weight(net, VKM_PARAM_ATTN_OUT, layer),
        .c = l->x_mid, .base = l->x, .m = T, .n = D, .k = D});
}

void vkm_attention_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    uint32_t T = net->T, D = net->config.d_model;
    struct vkm_buf w_norm = weight(net, VKM_PARAM_ATTN_NORM, layer);

    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out.bwd.x", .form = GEMM_NN, .a = s->dx, .b = weight(net, VKM_PARAM_ATTN_OUT, layer),
        .c = s->dh, .m = T, .n = D, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out.bwd.w", .form = GEMM_TN, .a = s->dx, .b = l->attention.o,
        .c = grad(net, VKM_PARAM_ATTN_OUT, layer), .m = D, .n = D, .k = T, .accumulate = true});
    vkm_op_attention_bwd(rec, &l->attention);
    vkm_op_rope(rec, &l->attention, s->dqkv, true);
    vkm_op_rmsnorm(rec, l->x, w_norm, s->h, T, D, net->config.norm_eps);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.w", .form = GEMM_TN, .a = s->dqkv, .b = s->h, .c = grad(net, VKM_PARAM_QKV, layer),
        .m = 3 * D, .n = D, .k = T, .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.x", .form = GEMM_NN, .a = s->dqkv, .b = weight(net, VKM_PARAM_QKV, layer), .c = s->dh,
        .m = T, .n = D, .k = 3 * D});
    vkm_op_rmsnorm_bwd(rec, l->x, w_norm, s->dh, s->dx, grad(net, VKM_PARAM_ATTN_NORM, layer), s->norm, T, D,
                       net->config.norm_eps);
}
