/* The configurations: presets, defaults, and the limits that everything behind them relies on. */
#ifndef VKM_NN_CONFIG_H
#define VKM_NN_CONFIG_H

#include <vkmoe/stack.h>

#include "base/log.h"

/* Limits of single fields; vkm_config_check also bounds the tensors made from them. */
enum {
    VKM_MAX_LAYERS = 256,
    VKM_MAX_D_MODEL = 1 << 16,
    VKM_MAX_HEADS = 1 << 10,
    VKM_MAX_HEAD_WIDTH = 256,
    VKM_MAX_D_EXPERT = 1 << 18,
    VKM_MAX_SEQ = 1 << 18,
    VKM_MAX_VOCAB = 1 << 20,
    VKM_MAX_BATCH = 1 << 16,
    VKM_MAX_STEPS = 1 << 30,
    VKM_MAX_ROWS = 1 << 24,         /* of a stack */
};

/* Checks model, and train unless it is NULL (fields that mean a default may be 0). What passes has only tensors of
 * fewer than 2^31 elements, with train also those of a micro-batch, and a step routes fewer than 2^32 rows in a layer.
 * ERROR_ARGUMENT names the field and what it must be. */
enum vkmoe_status vkm_config_check(const struct vkmoe_log *log, const struct vkmoe_model_config *model,
                                   const struct vkmoe_train_config *train);

/* Whether micro-batches of `batch` sequences of a model that has been checked have only such tensors too. ERROR_ARGUMENT. */
enum vkmoe_status vkm_config_check_batch(const struct vkmoe_log *log, const struct vkmoe_model_config *model,
                                         uint32_t batch);

/* A stack's configuration (stack.h), with its defaults in the place of zeros. ERROR_ARGUMENT as above. */
enum vkmoe_status vkm_config_check_stack(const struct vkmoe_log *log, const struct vkmoe_stack_config *config);

/* train with its defaults in the place of zeros: accum, beta1, beta2, eps, log_every, keep and max_bad_steps. */
struct vkmoe_train_config vkm_config_defaults(struct vkmoe_train_config train);

/* The model that `train` trains: with a router bias where the balance is loss-free. (vkm_config_check takes either: a saved
 * model keeps its bias when it is trained on without.) */
struct vkmoe_model_config vkm_config_model(struct vkmoe_model_config model, const struct vkmoe_train_config *train);

#endif
