/* metrics.jsonl: one JSON object a line, in order of steps; and the same numbers for TensorBoard.
 *
 * A log step:    {"step", "tokens", "loss", "simbal_loss", "lbl_loss", "router_z_loss", "z_loss", "grad_norm", "lr",
 *                 "tokens_per_second", "skipped" (steps so far), "loss_scale", "expert_tokens": [[of each expert] of each layer],
 *                 and of each layer, as struct vkmoe_layer_metrics says: "load_max", "load_min", "load_cv", "dead",
 *                 "seu", "entropy", "entropy_topk", "gram_mean_square", "gram_max", "gates": [[shares] of each layer]}
 * A validation:  {"step", "tokens", "val_loss", "val_tokens", the same of each layer on the validation tokens, "used"
 *                 (experts - dead), "changed", and where measured "pes", "pes_se"}
 * Losses are in nats; a number that is not finite is null. */
#ifndef VKM_TRAIN_METRICS_H
#define VKM_TRAIN_METRICS_H

#include "base/log.h"

struct vkm_metrics;

/* Opens dir/metrics.jsonl (with tensorboard: and a new file of events) to append to. Lines of steps past last_step, which an
 * interrupted run wrote after its checkpoint, are taken out. log and model outlive *out. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_metrics_open(const struct vkmoe_log *log, const char *dir, const struct vkmoe_model_config *model,
                                   uint64_t last_step, bool tensorboard, struct vkm_metrics **out);
/* Takes out the lines of steps past last_step, for a run that goes back there. Accepts NULL, as do the next two. ERROR_IO,
 * ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_metrics_rewind(struct vkm_metrics *metrics, uint64_t last_step);
/* Brings what was written to the disk. */
enum vkmoe_status vkm_metrics_sync(struct vkm_metrics *metrics);
void vkm_metrics_close(struct vkm_metrics *metrics);

enum vkmoe_status vkm_metrics_step(struct vkm_metrics *metrics, const struct vkmoe_step_report *report);
/* A validation that is there, of the same step on as many tokens, is not written again: a finished run was resumed. */
enum vkmoe_status vkm_metrics_validation(struct vkm_metrics *metrics, uint64_t step, uint64_t tokens,
                                         const struct vkmoe_validation *validation);

#endif
