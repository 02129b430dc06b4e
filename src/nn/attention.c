/* The attention half of a block. */
#include "nn/net.h"

void vkm_attention_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_ATTN_NORM, layer);
    const struct vkm_param *qkv = vkm_net_param(net, VKM_PARAM_QKV, layer);
    const struct vkm_param *out = vkm_net_param(net, VKM_PARAM_ATTN_OUT, layer);
    uint32_t T = net->T, D = net->config.d_model;

    vkm_op_rmsnorm(rec, l->x, norm->weight, s->h, T, D, net->config.norm_eps);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv", .form = GEMM_NT, .a = s->h, .b = qkv->weight, .c = l->attention.qkv, .m = T, .n = 3 * D, .k = D});
    vkm_op_rope(rec, &l->attention, l->attention.qkv, false);
    vkm_op_attention(rec, &l->attention);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out", .form = GEMM_NT, .a = l->attention.o, .b = out->weight, .c = l->x_mid, .base = l->x,
        .m = T, .n = D, .k = D});
}

void vkm_attention_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_ATTN_NORM, layer);
    const struct vkm_param *qkv = vkm_net_param(net, VKM_PARAM_QKV, layer);
    const struct vkm_param *out = vkm_net_param(net, VKM_PARAM_ATTN_OUT, layer);
    uint32_t T = net->T, D = net->config.d_model;

    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out.bwd.x", .form = GEMM_NN, .a = s->dx, .b = out->weight, .c = s->dh, .m = T, .n = D, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out.bwd.w", .form = GEMM_TN, .a = s->dx, .b = l->attention.o, .c = out->grad,
        .m = D, .n = D, .k = T, .accumulate = true});
    vkm_op_attention_bwd(rec, &l->attention);
    vkm_op_rope(rec, &l->attention, s->dqkv, true);
    vkm_op_rmsnorm(rec, l->x, norm->weight, s->h, T, D, net->config.norm_eps);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.w", .form = GEMM_TN, .a = s->dqkv, .b = s->h, .c = qkv->grad, .m = 3 * D, .n = D, .k = T,
        .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.x", .form = GEMM_NN, .a = s->dqkv, .b = qkv->weight, .c = s->dh, .m = T, .n = D, .k = 3 * D});
    vkm_op_rmsnorm_bwd(rec, l->x, norm->weight, s->dh, s->dx, norm->grad, s->norm, T, D, net->config.norm_eps);
}
