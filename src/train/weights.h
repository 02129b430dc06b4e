/* A network's parameters to and from a checkpoint. */
#ifndef VKM_TRAIN_WEIGHTS_H
#define VKM_TRAIN_WEIGHTS_H

#include "nn/net.h"
#include "train/run_dir.h"

/* vkm_run_save from the device. */
enum vkmoe_status vkm_weights_save_run(struct vkm_net *net, const char *dir, const struct vkmoe_train_config *train,
                                       const struct vkm_run_state *state);
/* state as for vkm_checkpoint_load: NULL loads the weights alone. Before training on, the
 * parameters have been cleared, so that the padding between them is zero. */
enum vkmoe_status vkm_weights_load(struct vkm_net *net, const char *dir, const struct vkm_run_state *state);

#endif
