/* The attention half of a block. */
#include "nn/net.h"

void vkm_attention_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_ATTN_NORM, layer);
    const struct vkm_param *qkv = vkm_net_param(net, VKM_PARAM_QKV, layer);
    const struct vkm_param *out = vkm_net_param(net, VKM_PARAM_ATTN_OUT, layer);
    uint32_t T = net->T, D = net->config.d_model;

    vkm_net_norm(rec, net, l->x, norm);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv", .form = GEMM_NT, .type = net->type, .narrow = NARROW_A | NARROW_B, .a = vkm_net_input(net),
        .b = vkm_net_matrix(net, qkv), .c = l->attention.qkv, .m = T, .n = 3 * D, .k = D});
    vkm_op_rope(rec, &l->attention, l->attention.qkv, false);
    vkm_op_attention(rec, &l->attention);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out", .form = GEMM_NT, .type = net->type, .narrow = NARROW_B, .a = l->attention.o,
        .b = vkm_net_matrix(net, out), .c = l->x_mid, .base = l->x, .m = T, .n = D, .k = D});
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
        .label = "attention.out.bwd.x", .form = GEMM_NN, .type = net->type, .narrow = NARROW_B, .a = s->dx,
        .b = vkm_net_matrix(net, out), .c = s->dh, .m = T, .n = D, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "attention.out.bwd.w", .form = GEMM_TN, .type = net->type, .a = s->dx, .b = l->attention.o,
        .c = out->grad, .m = D, .n = D, .k = T, .accumulate = true, .partial = s->partial});
    vkm_op_attention_bwd(rec, &l->attention);
    vkm_op_rope(rec, &l->attention, s->dqkv, true);
    vkm_net_norm(rec, net, l->x, norm);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.w", .form = GEMM_TN, .type = net->type, .narrow = NARROW_B, .a = s->dqkv,
        .b = vkm_net_input(net), .c = qkv->grad, .m = 3 * D, .n = D, .k = T, .accumulate = true,
        .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "qkv.bwd.x", .form = GEMM_NN, .type = net->type, .narrow = NARROW_B, .a = s->dqkv,
        .b = vkm_net_matrix(net, qkv), .c = s->dh, .m = T, .n = D, .k = 3 * D});
    vkm_op_rmsnorm_bwd(rec, l->x, norm->weight, s->dh, s->dx, norm->grad, s->norm, T, D, net->config.norm_eps);
}
