/* A stack of experts with its optimizer (include/vkmoe/stack.h). */
#ifndef VKM_STACK_STACK_H
#define VKM_STACK_STACK_H

#include <vkmoe/stack.h>

#include "nn/update.h"

/* What the device counts from step to step, and each step's report of it; behind it expert_tokens [L,E] u32. */
struct vkm_stack_stats {
    struct step_stats step;
    struct adam_state adam;
};

/* What is recorded once and run at each call. */
enum vkm_stack_run {
    VKM_STACK_STEP, VKM_STACK_FORWARD, VKM_STACK_KEPT, VKM_STACK_BACKWARD, VKM_STACK_UPDATE, VKM_STACK_RUNS
};

/* What the functions on host memory need: nothing of it exists before the first of them. */
struct vkm_stack_own {
    struct vkm_arena *upload, *readback;
    struct vkm_buf in, target;      /* host's rows and targets, of the larger of batch and rows */
    struct vkm_buf out, experts, gates;
    struct {
        struct vkm_rec *rec;
        float lr;                   /* that it was recorded with */
    } runs[VKM_STACK_RUNS];
};

struct vkmoe_stack {
    struct vkmoe_context *ctx;
    struct vkmoe_stack_config config;   /* with its defaults */
    float lr;                           /* of steps from now on */
    struct vkm_net *train;              /* [batch] rows; owns the parameters. NULL: forward does */
    struct vkm_net *forward;            /* [rows] rows */
    struct vkm_arena *device, *readback;
    struct vkm_buf stats;               /* struct vkm_stack_stats, expert_tokens */
    struct vkm_buf adam;                /* struct adam_state: what stays when stats are cleared */
    struct vkm_buf control;             /* struct step_control */
    struct vkm_buf partials;            /* of the gradient's norm */
    struct vkm_buf target;              /* [T,O] f32 or [T] u32, packed */
    struct vkm_buf report;              /* copy of stats as a step left it */
    uint32_t *expert_tokens;            /* of the last report */
    bool kept, accumulated;             /* of the functions on host memory: a forward waits for its backward; a gradient */
    struct vkm_stack_own own;
};

/* Its layers, as a model's. */
struct vkmoe_model_config vkm_stack_model(const struct vkmoe_stack_config *config);

/* The network whose parameters they are. */
static inline struct vkm_net *vkm_stack_net(const struct vkmoe_stack *stack)
{
    return stack->train ? stack->train : stack->forward;
}
/* Widths of the rows that go in and come out. */
static inline uint32_t vkm_stack_in(const struct vkmoe_stack *stack)
{
    return stack->config.d_in ? stack->config.d_in : stack->config.d_model;
}
static inline uint32_t vkm_stack_out(const struct vkmoe_stack *stack)
{
    return stack->config.d_out ? stack->config.d_out : stack->config.d_model;
}
static inline uint32_t vkm_stack_target(const struct vkmoe_stack *stack)
{
    return stack->config.loss == VKMOE_STACK_CROSS_ENTROPY ? 1 : vkm_stack_out(stack);
}

/* ---- what is recorded, wherever it goes: steps.c ---- */

/* Arrays of the host's; an address of 0: absent. experts and gates are [layers, rows, K]: what is here is their first layer. */
struct vkm_stack_arrays {
    struct vkm_host_rows in, out, experts, gates;
};
void vkm_stack_forward(struct vkm_rec *rec, const struct vkmoe_stack *stack, const struct vkm_stack_arrays *arrays);
void vkm_stack_forward_kept(struct vkm_rec *rec, const struct vkmoe_stack *stack, const struct vkm_stack_arrays *arrays);
void vkm_stack_backward(struct vkm_rec *rec, const struct vkmoe_stack *stack, const struct vkm_host_rows *dout,
                        const struct vkm_host_rows *din);
void vkm_stack_update(struct vkm_rec *rec, const struct vkmoe_stack *stack);
/* Forward, loss and backward; with the update, a step. */
void vkm_stack_gradient(struct vkm_rec *rec, const struct vkmoe_stack *stack, const struct vkm_host_rows *in,
                        const struct vkm_host_rows *target);
void vkm_stack_step(struct vkm_rec *rec, const struct vkmoe_stack *stack, const struct vkm_host_rows *in,
                    const struct vkm_host_rows *target);

/* The last step's numbers, without waiting. */
void vkm_stack_read_report(struct vkmoe_stack *stack, struct vkmoe_stack_report *report);
/* ERROR_ARGUMENT for a stack without training. */
enum vkmoe_status vkm_stack_trains(const struct vkmoe_stack *stack, const char *what);
/* Gives back what the functions on host memory had: run.c. */
void vkm_stack_own_destroy(struct vkm_stack_own *own);

#endif
