/* A stack in a safetensors file: "stack" and "state" of its metadata are JSON objects, tensors have the parameters' names, and
 * with training "moment1.NAME" and "moment2.NAME" are there too. */
#ifndef VKM_STACK_FILE_H
#define VKM_STACK_FILE_H

#include <vkmoe/stack.h>

#include "nn/params.h"
#include "train/safetensors.h"

/* What the next step needs besides weights and moments. */
struct vkm_stack_state {
    uint32_t step, skipped, good_steps;
    float rest1, rest2, loss_scale, lr;
};

/* Begins a file of a stack with these parameters: what is left is to append the values of each that has any, first all weights
 * and, with training, all first and then all second moments. On failure *out is NULL. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_stack_file_create(const struct vkmoe_log *log, const char *path, const struct vkmoe_stack_config *config,
                                        const struct vkm_stack_state *state, const struct vkm_params *params,
                                        struct vkm_safetensors_writer **out);

/* A file that was read, but for the values of its tensors. A zero one is none. */
struct vkm_stack_file {
    struct vkm_safetensors *tensors;
    struct vkmoe_stack_config config;   /* has passed vkm_config_check_stack */
    struct vkm_stack_state state;
};

/* Checks all of it: every tensor that a stack of this configuration has is there in its shape, so that what is allocated for
 * the parameters is about what the file holds. log outlives *out, which is zero on failure. ERROR_IO, ERROR_FORMAT,
 * ERROR_MEMORY. */
enum vkmoe_status vkm_stack_file_open(const struct vkmoe_log *log, const char *path, struct vkm_stack_file *out);
void vkm_stack_file_close(struct vkm_stack_file *file);

#endif
