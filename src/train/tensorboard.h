/* Scalars in an event file that TensorBoard reads. */
#ifndef VKM_TRAIN_TENSORBOARD_H
#define VKM_TRAIN_TENSORBOARD_H

#include "base/log.h"

struct vkm_tensorboard;

/* Begins dir/events.out.tfevents.<unix seconds>.<host>.<pid>, a file of its own for each run or resumption: TensorBoard
 * shows all of a directory as one run. dir exists. log outlives *out. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_tensorboard_open(const struct vkmoe_log *log, const char *dir, struct vkm_tensorboard **out);

/* Adds a point; tag is "train/loss" and the like, at most 200 bytes of UTF-8. Buffered. ERROR_IO. */
enum vkmoe_status vkm_tensorboard_scalar(struct vkm_tensorboard *tb, const char *tag, uint64_t step, double value);

/* Hands what is buffered to the system: after the scalars of a step. ERROR_IO. */
enum vkmoe_status vkm_tensorboard_flush(struct vkm_tensorboard *tb);

/* Accepts NULL. What was flushed stays. */
void vkm_tensorboard_close(struct vkm_tensorboard *tb);

#endif
