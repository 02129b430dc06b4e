#include "nn/update.h"

#include <stddef.h>

/* The usual schedule of a dynamic loss scale (Micikevicius et al. 2018; PyTorch's GradScaler). */
enum { LOSS_SCALE_GROWTH = 2000 };

/* On all routers; their losses are added up as one. */
static void simbal(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_update *u)
{
    const uint32_t E = net->config.experts, layers = net->config.layers;
    const uint64_t row = E * sizeof(float);
    const float coef = u->balance.simbal;
    for (uint32_t layer = 0; layer < layers; layer++) {
        const struct vkm_param *router = vkm_net_param(net, VKM_PARAM_ROUTER, layer);
        vkm_op_simbal(rec, router->weight, router->grad, vkm_buf_slice(net->scratch.balance, layer * row, row), net->loss_scale, E,
                      net->config.d_model, coef);
    }
    vkm_op_sum(rec, vkm_buf_slice(net->scratch.balance, 0, layers * row),
               vkm_buf_slice(u->stats, offsetof(struct step_stats, simbal), sizeof(float)), layers * E, coef);
}

void vkm_update_norm(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_update *u)
{
    const struct vkm_params *params = &net->params;
    const uint64_t row = VKM_NORM_PARTIALS * sizeof(float);
    if (u->balance.simbal > 0)
        simbal(rec, net, u);
    for (uint32_t i = 0; i < params->range_count; i++)
        vkm_op_grad_square(rec, params->ranges[i].grad, vkm_buf_slice(u->partials, i * row, row), params->ranges[i].count);
    vkm_op_grad_norm(rec, u->partials, u->stats, net->loss_scale, params->range_count * VKM_NORM_PARTIALS, u->clip,
                     net->type == TYPE_F16 ? LOSS_SCALE_GROWTH : 0);
}

void vkm_update_weights(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_update *u)
{
    const uint64_t row = net->config.experts * sizeof(uint32_t);
    for (uint32_t i = 0; i < net->params.range_count; i++) {
        const struct vkm_param_range *r = &net->params.ranges[i];
        vkm_op_adamw(rec, r->weight, r->grad, r->moment1, r->moment2, r->weight16, net->type, u->control, u->stats, r->count,
                     u->beta1, u->beta2, u->eps, r->decay ? u->weight_decay : 0);
    }
    for (uint32_t layer = 0; layer < net->config.layers && u->balance.lossfree > 0; layer++)
        vkm_op_lossfree(rec, vkm_net_param(net, VKM_PARAM_ROUTER_BIAS, layer)->weight,
                        vkm_buf_slice(u->expert_tokens, layer * row, row), u->stats, net->config.experts, u->balance.lossfree);
}
