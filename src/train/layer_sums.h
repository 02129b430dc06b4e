/* What was measured of each layer's routing, added up over batches, and the metrics made of it. */
#ifndef VKM_TRAIN_LAYER_SUMS_H
#define VKM_TRAIN_LAYER_SUMS_H

#include "base/log.h"
#include "shared.h"

struct vkm_layer_sums;

enum vkmoe_status vkm_layer_sums_create(const struct vkmoe_log *log, const struct vkmoe_model_config *model,
                                        struct vkm_layer_sums **out);
/* Accepts NULL. */
void vkm_layer_sums_destroy(struct vkm_layer_sums *sums);

void vkm_layer_sums_clear(struct vkm_layer_sums *sums);
/* Adds what the device has summed over `sequences` sequences: stats [layers], counts [layers, experts] routed rows. */
void vkm_layer_sums_add(struct vkm_layer_sums *sums, const struct router_stats *stats, const uint32_t *counts,
                        uint64_t sequences);

/* [layers, experts] routed rows added so far. */
const uint64_t *vkm_layer_sums_expert_tokens(const struct vkm_layer_sums *sums);
/* Experts computed for a token in a layer, mean. */
double vkm_layer_sums_active(const struct vkm_layer_sums *sums);
/* [layers] of what was added; changed, pes and pes_se are NaN, for the caller to fill. Owned by sums. */
struct vkmoe_layer_metrics *vkm_layer_sums_metrics(struct vkm_layer_sums *sums);

#endif
