/* The Mixture-of-Experts half of a block: the layer of arXiv 2506.14038, section 3.
 *
 *   z = h Wr^T, p = softmax(z) or sigmoid(z), the K largest are active with weights g
 *   y[t] = x[t] + sum_k g[t,k] W2_e (silu(W1_e h[t]) * (W3_e h[t])),  e = idx[t,k]
 *   and, with a shared expert, its W2 (silu(W1 h[t]) * (W3 h[t])) */
#include "nn/net.h"

/* act and h13 of the experts' rows, and of all tokens for the shared expert, from the normalised input */
static void hidden(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.gate_up", .narrow = NARROW_A | NARROW_B | NARROW_C, .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .routing = &l->routing, .gather = GATHER_A, .a = vkm_net_input(net),
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W13, layer)), .c = l->h13, .act = net->scratch.act,
        .m = net->T * net->config.top_k, .n = net->config.d_expert, .k = net->config.d_model});
}

static void shared_hidden(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.gate_up", .type = net->type, .narrow = NARROW_A | NARROW_B | NARROW_C, .form = GEMM_NT,
        .epilogue = EPILOGUE_SWIGLU, .a = vkm_net_input(net),
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_SHARED13, layer)), .c = l->shared13,
        .act = net->scratch.act, .m = net->T, .n = net->config.d_shared, .k = net->config.d_model});
}

void vkm_moe_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, struct vkm_buf y,
                     struct vkm_buf expert_tokens)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_routing *routing = &l->routing;
    uint32_t T = net->T, D = net->config.d_model, E = net->config.experts, F = net->config.d_expert;
    uint32_t G = net->config.d_shared;

    vkm_net_norm(rec, net, l->x_mid, vkm_net_param(net, VKM_PARAM_MOE_NORM, layer));
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "router", .form = GEMM_NT, .a = s->h, .b = vkm_net_param(net, VKM_PARAM_ROUTER, layer)->weight,
        .c = l->gate.z, .m = T, .n = E, .k = D});
    vkm_op_gate(rec, &l->gate);
    vkm_op_route(rec, routing, expert_tokens);
    hidden(rec, net, layer);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.down", .narrow = NARROW_A | NARROW_B | NARROW_C, .form = GEMM_NT, .routing = routing, .a = s->act,
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W2, layer)), .c = s->rows, .m = T * net->config.top_k,
        .n = D, .k = F});
    vkm_op_combine(rec, routing, s->rows, l->gate.g, l->x_mid, y, D);
    if (G == 0)
        return;
    shared_hidden(rec, net, layer);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.down", .type = net->type, .narrow = NARROW_A | NARROW_B, .form = GEMM_NT, .a = s->act,
        .b = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_SHARED2, layer)), .c = y, .m = T, .n = D, .k = G,
        .accumulate = true});
}

void vkm_moe_recompute(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    vkm_net_norm(rec, net, net->layers[layer].x_mid, vkm_net_param(net, VKM_PARAM_MOE_NORM, layer));
    hidden(rec, net, layer);
    if (net->config.d_shared)
        shared_hidden(rec, net, layer);
}

/* Adds to scratch.dh; scratch.dx is the gradient of the layer's output. */
static void shared_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_param *w13 = vkm_net_param(net, VKM_PARAM_SHARED13, layer);
    const struct vkm_param *w2 = vkm_net_param(net, VKM_PARAM_SHARED2, layer);
    uint32_t T = net->T, D = net->config.d_model, G = net->config.d_shared;

    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.down.bwd.x", .type = net->type, .narrow = NARROW_B | NARROW_C, .form = GEMM_NN,
        .epilogue = EPILOGUE_DSWIGLU, .a = s->dx, .b = vkm_net_matrix(net, w2), .c = l->shared13, .act = s->act,
        .m = T, .n = G, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.down.bwd.w", .type = net->type, .narrow = NARROW_B, .form = GEMM_TN, .a = s->dx, .b = s->act,
        .c = w2->grad, .m = D, .n = G, .k = T, .accumulate = true, .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.gate_up.bwd.w", .type = net->type, .narrow = NARROW_A | NARROW_B, .form = GEMM_TN,
        .a = l->shared13, .b = vkm_net_input(net), .c = w13->grad, .m = 2 * G, .n = D, .k = T, .accumulate = true,
        .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "shared.gate_up.bwd.x", .type = net->type, .narrow = NARROW_A | NARROW_B, .form = GEMM_NN,
        .a = l->shared13, .b = vkm_net_matrix(net, w13), .c = s->dh, .m = T, .n = D, .k = 2 * G, .accumulate = true});
}

/* With a the activated rows: dA' = dy W2 gives the gate's gradient <dA', a> and da = g dA' (fused into the product's
 * epilogue), so the experts' outputs are not kept. */
void vkm_moe_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, const struct vkm_loss *loss)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_routing *routing = &l->routing;
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_MOE_NORM, layer);
    const struct vkm_param *router = vkm_net_param(net, VKM_PARAM_ROUTER, layer);
    const struct vkm_param *w13 = vkm_net_param(net, VKM_PARAM_W13, layer);
    const struct vkm_param *w2 = vkm_net_param(net, VKM_PARAM_W2, layer);
    uint32_t T = net->T, D = net->config.d_model, E = net->config.experts, F = net->config.d_expert;
    uint32_t R = T * net->config.top_k;
    struct vkm_buf none = {0};

    vkm_net_norm(rec, net, l->x_mid, norm);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.down.bwd.x", .narrow = NARROW_B | NARROW_C, .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU,
        .routing = routing, .gather = GATHER_A, .a = s->dx, .b = vkm_net_matrix(net, w2), .c = l->h13, .act = s->act,
        .gate = l->gate.g, .dgate = s->dgate, .m = R, .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.down.bwd.w", .narrow = NARROW_B, .form = GEMM_TN, .routing = routing, .gather = GATHER_A,
        .a = s->dx, .b = s->act, .c = w2->grad, .m = D, .n = F, .k = R, .accumulate = true, .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.gate_up.bwd.w", .narrow = NARROW_A | NARROW_B, .form = GEMM_TN, .routing = routing,
        .gather = GATHER_B, .a = l->h13, .b = vkm_net_input(net), .c = w13->grad, .m = 2 * F, .n = D, .k = R,
        .accumulate = true, .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "moe.gate_up.bwd.x", .narrow = NARROW_A | NARROW_B | NARROW_C, .form = GEMM_NN, .routing = routing,
        .a = l->h13, .b = vkm_net_matrix(net, w13), .c = s->rows, .m = R, .n = D, .k = 2 * F});
    vkm_op_combine(rec, routing, s->rows, none, none, s->dh, D);

    if (net->config.d_shared)
        shared_backward(rec, net, layer);

    vkm_op_gate_bwd(rec, &l->gate, routing, &(struct vkm_gate_grad){
        .dgate = s->dgate, .parts = vkm_gemm_parts(net->ctx, routing), .load = l->load,
        .group = vkm_lbl_group(net, loss), .lbl_full = loss->balance.lbl_full, .lbl_coef = loss->balance.lbl,
        .z_coef = loss->balance.router_z, .loss_scale = net->loss_scale, .dz = s->dz});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "router.bwd.w", .form = GEMM_TN, .a = s->dz, .b = s->h, .c = router->grad, .m = E, .n = D, .k = T,
        .accumulate = true, .partial = s->partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "router.bwd.x", .form = GEMM_NN, .a = s->dz, .b = router->weight, .c = s->dh, .m = T, .n = D, .k = E,
        .accumulate = true});
    vkm_op_rmsnorm_bwd(rec, l->x_mid, norm->weight, s->dh, s->dx, norm->grad, s->norm, T, D, net->config.norm_eps);
}
