/* Saving and loading a run: a Hugging Face model directory (config.json, model.safetensors, tokenizer.json,
 * tokenizer_config.json) with optimizer.safetensors, trainer.json and checksums.xxh128 beside it. Where the values live is the
 * caller's matter: they go through callbacks in pieces of at most VKM_CHECKPOINT_PIECE elements. */
#ifndef VKM_TRAIN_CHECKPOINT_H
#define VKM_TRAIN_CHECKPOINT_H

#include "nn/params.h"
#include "train/trainer_json.h"

enum { VKM_CHECKPOINT_PIECE = 2 * 1024 * 1024 }; /* 8 MiB of f32 */

enum vkm_checkpoint_part { VKM_PART_WEIGHT, VKM_PART_MOMENT1, VKM_PART_MOMENT2 };

/* Copies elements [first, first + count) of a parameter's part to or from values[count]. Logs its own failures. */
typedef enum vkmoe_status (*vkm_fetch_fn)(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part,
                                          uint64_t first, uint64_t count, float *values);
typedef enum vkmoe_status (*vkm_store_fn)(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part,
                                          uint64_t first, uint64_t count, const float *values);

/* Writes the checkpoint into dir, which is created if need be (train/run_dir.h gives it its name when it is complete): all of
 * it is on the disk when this returns. Each large file carries the step, so that a mixture of two is recognised. ERROR_IO,
 * ERROR_MEMORY, or what fetch returned. */
enum vkmoe_status vkm_checkpoint_save(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *model, const struct vkmoe_train_config *train,
                                      const struct vkm_run_state *state, const struct vkm_params *params,
                                      vkm_fetch_fn fetch, void *user);

/* Whether files of a checkpoint are as they were saved. ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkm_verify {
    VKM_VERIFY_MODEL,               /* what the model alone is; a model of another program has no checksums */
    VKM_VERIFY_CONFIG,              /* what vkm_checkpoint_config reads */
    VKM_VERIFY_ALL,
};
enum vkmoe_status vkm_checkpoint_verify(const struct vkmoe_log *log, const char *dir, enum vkm_verify what);

/* What a checkpoint holds, before anything is allocated for it: from trainer.json, and config.json must agree.
 * ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_checkpoint_config(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *model,
                                        struct vkmoe_train_config *train, struct vkm_run_state *state);

/* Stores the weights and, with state (from vkm_checkpoint_config), the moments; NULL: the weights alone, for a
 * directory of which vkm_hf_config_read gave the model. All files are checked against model before the first store.
 * ERROR_IO, ERROR_FORMAT, ERROR_MEMORY, or what store returned. */
enum vkmoe_status vkm_checkpoint_load(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *model, const struct vkm_run_state *state,
                                      const struct vkm_params *params, vkm_store_fn store, void *user);

#endif
