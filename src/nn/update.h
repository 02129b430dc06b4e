/* What follows the gradients in a step: the balance of the weights, the norm, AdamW. */
#ifndef VKM_NN_UPDATE_H
#define VKM_NN_UPDATE_H

#include "nn/net.h"

/* Where the loss scale of f16 begins: it halves until nothing overflows. Of the other types it is 1. */
enum { VKM_F16_LOSS_SCALE = 65536 };

struct vkm_update {
    struct vkmoe_balance balance;   /* simbal and lossfree of it */
    float clip, beta1, beta2, eps, weight_decay;
    struct vkm_buf control;         /* struct step_control */
    struct vkm_buf stats;           /* struct step_stats first */
    struct vkm_buf partials;        /* vkm_update_partials bytes */
    struct vkm_buf expert_tokens;   /* [L,E] of the step */
};

static inline uint64_t vkm_update_partials(const struct vkm_net *net)
{
    return (uint64_t)net->params.range_count * VKM_NORM_PARTIALS * sizeof(float);
}

/* SimBal's gradient joins the others; stats gets its loss, the norm, and whether the step is skipped; the loss scale of f16
 * adapts. */
void vkm_update_norm(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_update *update);
/* AdamW on all weights; gradients become zero; the loss-free bias moves. */
void vkm_update_weights(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_update *update);

#endif
