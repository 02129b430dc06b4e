/* Costly looks at a network's routing, for validations: how much of it has changed, and how alike the experts are. */
#ifndef VKM_TRAIN_PROBE_H
#define VKM_TRAIN_PROBE_H

#include "nn/net.h"
#include "train/data.h"

struct vkm_probe;

/* Plans it; nothing is allocated on the device. net outlives the probe. */
enum vkmoe_status vkm_probe_create(struct vkm_net *net, struct vkm_probe **out);
/* Host-visible and device bytes that it will take. */
uint64_t vkm_probe_bytes(const struct vkm_probe *probe);
/* Allocates and records. The network has been committed. */
enum vkmoe_status vkm_probe_commit(struct vkm_probe *probe);
/* Accepts NULL. */
void vkm_probe_destroy(struct vkm_probe *probe);

/* Of the tokens of a batch of contexts spaced evenly over the split, always the same: the share whose set of active experts
 * is another than at the last call, into metrics[layers].changed; NaN at the first. */
enum vkmoe_status vkm_probe_change(struct vkm_probe *probe, const struct vkmoe_data *data, enum vkm_split split,
                                   struct vkmoe_layer_metrics *metrics);

/* Pairwise expert similarity on `tokens` (> 0) tokens at random places of contexts spaced evenly over the split, the same at
 * each call: mean and standard error over the tokens into metrics[layers].pes and .pes_se. */
enum vkmoe_status vkm_probe_pes(struct vkm_probe *probe, const struct vkmoe_data *data, enum vkm_split split,
                                uint64_t tokens, struct vkmoe_layer_metrics *metrics);

#endif
