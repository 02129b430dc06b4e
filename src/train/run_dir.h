/* The directory of a run:
 *   step-00002000/   checkpoints (train/checkpoint.h), each whole: it was written as step-00002000.tmp and renamed when all of
 *                    it, its checksums too, was on the disk
 *   latest, best     links to the newest one and to that of the least validation loss, where the file system has links
 *   metrics.jsonl    train/metrics.h
 *   .lock            locked while a process trains in the directory */
#ifndef VKM_TRAIN_RUN_DIR_H
#define VKM_TRAIN_RUN_DIR_H

#include "train/checkpoint.h"

/* Takes the directory for this process: a second one, or a second trainer, is refused (ERROR_ARGUMENT, with the number of the
 * process that has it). What a process that was killed left half-done is cleared; its lock ended with it. *fd is for
 * vkm_run_unlock; -1 where the file system has no locks. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_run_lock(const struct vkmoe_log *log, const char *dir, int *fd);
/* Accepts -1. */
void vkm_run_unlock(int fd);

/* Path of the checkpoint of a step, whether it is there or not, the caller's to free; NULL: no memory. */
char *vkm_run_checkpoint(const char *dir, uint64_t step);

/* Path of the newest checkpoint, the caller's to free; NULL: there is none. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_run_newest(const struct vkmoe_log *log, const char *dir, char **path);

/* Writes the checkpoint of state->step, sets the links, and removes all older ones but the keep - 1 newest and the best, which
 * state->best_step names. On failure every earlier checkpoint is as it was. There is none of that step yet. */
enum vkmoe_status vkm_run_save(const struct vkmoe_log *log, const char *dir, const struct vkmoe_model_config *model,
                               const struct vkmoe_train_config *train, const struct vkm_run_state *state,
                               const struct vkm_params *params, vkm_fetch_fn fetch, void *user);

#endif
