/* The mean loss of a network over a split of the data and how it routes there, batch by batch, two in flight. */
#ifndef VKM_TRAIN_EVALUATOR_H
#define VKM_TRAIN_EVALUATOR_H

#include "nn/net.h"
#include "train/data.h"
#include "train/layer_sums.h"

enum { VKM_SLOTS = 2 }; /* submissions in flight: the host fills one while the device works on the other */

struct vkm_evaluator;

/* Plans the buffers; nothing is allocated on the device. net outlives the evaluator. */
enum vkmoe_status vkm_evaluator_create(struct vkm_net *net, struct vkm_evaluator **out);
/* Host-visible bytes it will take. */
uint64_t vkm_evaluator_bytes(const struct vkm_evaluator *evaluator);
/* Allocates and records. The network has been committed. */
enum vkmoe_status vkm_evaluator_commit(struct vkm_evaluator *evaluator);
/* Accepts NULL. Waits for what it has submitted. */
void vkm_evaluator_destroy(struct vkm_evaluator *evaluator);

/* Sum of cross-entropies in nats over *count tokens of the split: all of them, or about max_tokens (0: all) in evenly
 * spaced contexts. sums is cleared and gets the routing of whole batches: where the last is not full, contexts stand in
 * twice. */
enum vkmoe_status vkm_evaluator_run(struct vkm_evaluator *evaluator, const struct vkmoe_data *data, enum vkm_split split,
                                    uint64_t max_tokens, struct vkm_layer_sums *sums, double *sum, uint64_t *count);

#endif
