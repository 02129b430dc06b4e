/* metrics.jsonl: one JSON object a line, in order of steps.
 *
 * A log step:    {"step", "tokens", "loss", "balance_loss", "z_loss", "grad_norm", "lr", "tokens_per_second",
 *                 "skipped" (steps so far), "expert_tokens": [[of each expert] of each layer]}
 * A validation:  {"step", "tokens", "val_loss", "val_tokens"}
 * Losses are in nats; a number that is not finite is null. */
#ifndef VKM_TRAIN_METRICS_H
#define VKM_TRAIN_METRICS_H

#include "base/log.h"

struct vkm_metrics;

/* Opens dir/metrics.jsonl to append to. Lines of steps past last_step, which an interrupted run wrote after its
 * checkpoint, are taken out. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_metrics_open(const struct vkmoe_log *log, const char *dir, uint64_t last_step,
                                   struct vkm_metrics **out);
/* Accepts NULL. */
void vkm_metrics_close(struct vkm_metrics *metrics);

enum vkmoe_status vkm_metrics_step(struct vkm_metrics *metrics, const struct vkmoe_step_report *report);
enum vkmoe_status vkm_metrics_validation(struct vkm_metrics *metrics, uint64_t step, uint64_t tokens, double val_loss,
                                         uint64_t val_tokens);

#endif
