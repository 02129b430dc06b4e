/* A checkpoint written by a thread, from a copy of what a trainer has on its device, while training goes on. */
#ifndef VKM_TRAIN_SAVER_H
#define VKM_TRAIN_SAVER_H

#include "nn/net.h"
#include "train/run_dir.h"

struct vkm_saver;

/* Copies weights and moments and lets a thread run vkm_run_save. *out is NULL, and nothing has happened, with VKMOE_OK where
 * the host lacks memory or threads for it: the caller saves by itself. net, dir and train outlive the saver. ERROR_MEMORY, or
 * why the copy failed. */
enum vkmoe_status vkm_saver_start(struct vkm_net *net, const char *dir, const struct vkmoe_train_config *train,
                                  const struct vkm_run_state *state, struct vkm_saver **out);

/* Whether vkm_saver_finish returns without waiting. */
bool vkm_saver_done(const struct vkm_saver *saver);

/* Waits for the thread, hands its messages to the context's log, and frees the saver. What vkm_run_save returned. */
enum vkmoe_status vkm_saver_finish(struct vkm_saver *saver);

#endif
