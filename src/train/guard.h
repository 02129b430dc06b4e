/* What looks after a run while it trains: steps that are not finite, and losses that jump. */
#ifndef VKM_TRAIN_GUARD_H
#define VKM_TRAIN_GUARD_H

#include "train/trainer.h"

/* After step trainer->last was collected. ERROR_DIVERGED ends the training: train.max_bad_steps steps in a row were skipped (the
 * message names the first part of the network that is not finite), or the loss jumped again and again behind one checkpoint.
 * A jump goes back to the newest checkpoint: then trainer->submitted is its step. */
enum vkmoe_status vkm_guard_step(struct vkmoe_trainer *trainer);

/* Words for where the network first has a number that is not finite, from what the last micro-batch left on the device: a
 * weight, a block's output, the loss, or (its backward runs again) a gradient. */
enum { VKM_DIAGNOSIS = 96 };
enum vkmoe_status vkm_diagnose(struct vkmoe_trainer *trainer, char text[VKM_DIAGNOSIS]);

#endif
