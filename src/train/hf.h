/* Our parameters as a Hugging Face model directory, in the layout of a model that computes the same:
 *   softmax gate                  Mixtral where the top-K weights are renormalised and there is no shared expert, else
 *                                 Qwen2-MoE, with biases of zeros and, in a shared expert's place, one of zeros
 *   sigmoid gate                  Glm4-MoE, where the shared expert (if any) is as wide as a number of experts
 *   anything else                 "vkmoe_moe", which only vkmoe reads: a router bias is added to the logits, but in the
 *                                 other programs' models to sigmoid(z), or there is none; they refuse the name instead
 *                                 of computing something else */
#ifndef VKM_TRAIN_HF_H
#define VKM_TRAIN_HF_H

#include "nn/params.h"

/* dir/config.json. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_hf_config_write(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *config);

/* Reads dir/config.json; *out has passed vkm_config_check. ERROR_IO, ERROR_FORMAT (also: a model that is not one of
 * ours), ERROR_MEMORY. */
enum vkmoe_status vkm_hf_config_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *out);

/* A tensor of model.safetensors, f32: elements [first, first + count) of one of our parameters times scale, a power of two,
 * or zeros. */
struct vkm_hf_tensor {
    char name[80];
    uint64_t dims[2];
    uint32_t rank;
    uint64_t count;
    bool zeros;
    enum vkm_param_id param;
    int32_t layer;
    uint64_t first;
    float scale;
};

/* All of them in the order of the file; together they cover each parameter that the model has once. *out is freed with
 * free(). ERROR_MEMORY. */
enum vkmoe_status vkm_hf_tensors(const struct vkmoe_log *log, const struct vkmoe_model_config *config,
                                 struct vkm_hf_tensor **out, size_t *count);

#endif
