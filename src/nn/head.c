/* The end of the network: final norm, logits in chunks of tokens (so that [T,V] never exists at once), losses. */
#include "nn/net.h"

/* Rows of f32 or u32. */
static struct vkm_buf token_rows(struct vkm_buf b, uint32_t first, uint32_t count, uint32_t width)
{
    return vkm_buf_slice(b, (uint64_t)first * width * 4, (uint64_t)count * width * 4);
}

/* The normalised rows from `first` as an operand. */
static struct vkm_buf input_rows(const struct vkm_net *net, uint32_t first, uint32_t count)
{
    uint64_t D = net->config.d_model;
    return vkm_buf_slice(vkm_net_input(net), vkm_net_bytes(net, first * D), vkm_net_bytes(net, count * D));
}

/* logits [count,V] of the normalised rows from `first` */
static void logits(struct vkm_rec *rec, const struct vkm_net *net, uint32_t first, uint32_t count)
{
    uint32_t D = net->config.d_model;
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "head", .form = GEMM_NT, .type = net->type, .narrow = NARROW_A | NARROW_B,
        .a = input_rows(net, first, count),
        .b = vkm_net_matrix(net, vkm_params_get(&net->params, VKM_PARAM_HEAD, VKM_NO_LAYER)), .c = net->scratch.logits,
        .m = count, .n = net->ends.out, .k = D});
}

static void final_norm(struct vkm_rec *rec, const struct vkm_net *net)
{
    vkm_net_norm(rec, net, net->x_out, vkm_params_get(&net->params, VKM_PARAM_FINAL_NORM, VKM_NO_LAYER));
}

void vkm_net_logits(struct vkm_rec *rec, const struct vkm_net *net)
{
    final_norm(rec, net);
    logits(rec, net, 0, net->config.seq);
}

/* dh of the rows, and the head's gradient, from the logits' gradient */
static void logits_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t first, uint32_t count)
{
    uint32_t D = net->config.d_model, V = net->ends.out;
    const struct vkm_param *head = vkm_params_get(&net->params, VKM_PARAM_HEAD, VKM_NO_LAYER);
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "head.bwd.w", .form = GEMM_TN, .type = net->type, .narrow = NARROW_B, .a = net->scratch.logits,
        .b = input_rows(net, first, count), .c = head->grad, .m = V, .n = D, .k = count, .accumulate = true,
        .partial = net->scratch.partial});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "head.bwd.x", .form = GEMM_NN, .type = net->type, .narrow = NARROW_B, .a = net->scratch.logits,
        .b = vkm_net_matrix(net, head), .c = token_rows(net->scratch.dh, first, count, D), .m = count, .n = D,
        .k = V});
}

/* The losses on a layer's gate; f of the load-balancing loss stays for the backward. */
static void layer_losses(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, const struct vkm_loss *loss)
{
    const struct vkm_layer *l = &net->layers[layer];
    const struct vkm_buf scratch = net->scratch.balance;
    uint64_t row = net->config.experts * sizeof(uint32_t);
    if (loss->balance.lbl > 0) {
        uint32_t group = vkm_lbl_group(net, loss);
        if (loss->balance.lbl_scope == VKMOE_LBL_GLOBAL_BATCH)
            vkm_op_expert_load_total(rec, net->config.experts, net->config.top_k,
                                     vkm_buf_slice(loss->expert_tokens, layer * row, row), l->load);
        else
            vkm_op_expert_load(rec, &l->gate, group, l->load);
        vkm_op_lbl(rec, &l->gate, l->load, group, loss->balance.lbl_full, loss->lbl_sum, scratch, loss->balance.lbl);
    }
    if (loss->balance.router_z > 0)
        vkm_op_square(rec, l->gate.lse, loss->router_z_sum, scratch, net->T);
}

void vkm_net_gate_losses(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_loss *loss)
{
    for (uint32_t layer = 0; layer < net->config.layers; layer++)
        layer_losses(rec, net, layer, loss);
}

/* scratch.dx from dh, the gradient of the normalised output */
static void final_norm_backward(struct vkm_rec *rec, const struct vkm_net *net)
{
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_param *norm = vkm_params_get(&net->params, VKM_PARAM_FINAL_NORM, VKM_NO_LAYER);
    vkm_rec_fill(rec, s->dx, 0);
    vkm_op_rmsnorm_bwd(rec, net->x_out, norm->weight, s->dh, s->dx, norm->grad, s->norm, net->T, net->config.d_model,
                       net->config.norm_eps);
}

void vkm_net_loss(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf target, const struct vkm_loss *loss)
{
    const struct vkm_scratch *s = &net->scratch;
    uint32_t T = net->T;
    final_norm(rec, net);
    for (uint32_t first = 0; first < T; first += net->logit_rows) {
        uint32_t count = T - first < net->logit_rows ? T - first : net->logit_rows;
        logits(rec, net, first, count);
        vkm_op_xent(rec, s->logits, token_rows(target, first, count, 1), token_rows(s->loss, first, count, 1),
                    token_rows(s->z_loss, first, count, 1), net->loss_scale, count,
                    net->config.vocab, loss->z_coef, loss->scale);
        if (loss->scale > 0)
            logits_backward(rec, net, first, count);
    }
    float mean = loss->scale > 0 ? loss->scale : 1;
    vkm_op_sum(rec, s->loss, loss->loss_sum, T, mean);
    if (loss->scale <= 0)
        return;

    vkm_op_sum(rec, s->z_loss, loss->z_sum, T, mean);
    vkm_net_gate_losses(rec, net, loss);
    final_norm_backward(rec, net);
}

/* ---- a stack's ends: linear maps of the numbers that go in and come out ---- */

void vkm_net_input_map(struct vkm_rec *rec, const struct vkm_net *net)
{
    if (!net->ends.in)
        return;
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "input", .form = GEMM_NT, .a = net->in,
        .b = vkm_params_get(&net->params, VKM_PARAM_INPUT, VKM_NO_LAYER)->weight, .c = net->layers[0].x, .m = net->T,
        .n = net->config.d_model, .k = net->ends.in});
}

void vkm_net_input_map_backward(struct vkm_rec *rec, const struct vkm_net *net, bool wanted)
{
    const struct vkm_param *w = vkm_params_get(&net->params, VKM_PARAM_INPUT, VKM_NO_LAYER);
    if (!net->ends.in)
        return;
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "input.bwd.w", .form = GEMM_TN, .a = net->scratch.dx, .b = net->in, .c = w->grad,
        .m = net->config.d_model, .n = net->ends.in, .k = net->T, .accumulate = true, .partial = net->scratch.partial});
    if (wanted)
        vkm_op_gemm(rec, &(struct vkm_gemm){
            .label = "input.bwd.x", .form = GEMM_NN, .a = net->scratch.dx, .b = w->weight, .c = net->in, .m = net->T,
            .n = net->ends.in, .k = net->config.d_model});
}

struct vkm_buf vkm_net_output(struct vkm_rec *rec, const struct vkm_net *net)
{
    if (!net->ends.out)
        return net->x_out;
    final_norm(rec, net);
    logits(rec, net, 0, net->T);
    return net->scratch.logits;
}

struct vkm_buf vkm_net_output_grad(const struct vkm_net *net)
{
    return net->ends.out ? net->scratch.logits : net->scratch.dx;
}

void vkm_net_output_backward(struct vkm_rec *rec, const struct vkm_net *net)
{
    if (!net->ends.out)
        return;
    logits_backward(rec, net, 0, net->T);
    final_norm_backward(rec, net);
}
