/* Stacks of Mixture-of-Experts layers for other things than text: a picture, a radiance cache, a table, anything that is rows
 * of numbers. (Language models are in vkmoe.h; recording into a command buffer of one's own, in vulkan.h.)
 *
 *     x_0 = in W_in^T                           in [T,I] -> [T,D];  without d_in: x_0 = in [T,D]
 *     x_l+1 = x_l + moe_l(RMSNorm(x_l))         `layers` times: the layer of arXiv 2506.14038, section 3
 *     out = RMSNorm(x_L) W_out^T                [T,O];  without d_out: out = x_L [T,D]
 *
 * One step of training is forward, loss, backward and AdamW on `batch` rows; vkmoe_stack_step does it, or the three calls
 * _forward_kept, _backward and _update with a loss of the caller's own between them.
 *
 *     struct vkmoe_stack *stack;
 *     vkmoe_stack_create(ctx, &(struct vkmoe_stack_config){.d_in = 2, .d_out = 3, .batch = 1024}, &stack);
 *     for (...) vkmoe_stack_step(stack, in, target, &report);
 *     vkmoe_stack_forward(stack, rows, in, out, NULL, NULL);
 *
 * vkmoe.h's conventions hold. Arrays are row-major, packed, and the caller's: read or written before the function returns.
 * These functions submit to the context's queue and wait. */
#ifndef VKMOE_STACK_H
#define VKMOE_STACK_H

#include <vkmoe/vkmoe.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vkmoe_stack_loss {
    VKMOE_STACK_MSE,           /* mean over rows and columns of (out - target)^2; target [T,O] f32 */
    VKMOE_STACK_CROSS_ENTROPY, /* mean over rows of -log softmax(out)[target], nats; target [T] u32, each below O */
};

/* All zero: a stack of width 64 on itself, one layer, 8 experts of which 2 are active, SimBal, f32. */
struct vkmoe_stack_config {
    uint32_t d_in;             /* I: width of an input row; 0: D, and no W_in */
    uint32_t d_out;            /* O: width of an output row; 0: D, and neither norm nor W_out. CROSS_ENTROPY needs it. */
    uint32_t d_model;          /* D; 0 means 64 */
    uint32_t layers;           /* L; 0 means 1 */
    uint32_t experts;          /* E; 0 means 8 */
    uint32_t top_k;            /* K, 1..E: experts active for a row; 0 means 2, or 1 where E is 1 */
    uint32_t d_expert;         /* F: hidden width of an expert, a multiple of 4; 0 means 64 */
    uint32_t d_shared;         /* hidden width of the shared expert, a multiple of 4; 0: none */
    enum vkmoe_gate gate;
    bool norm_topk;            /* divide the K gate weights of a row by their sum */
    float norm_eps;            /* 0 means 1e-6 */
    enum vkmoe_precision precision; /* 16 bits: on devices with storage16; ERROR_DEVICE elsewhere */

    uint32_t batch;            /* T: rows of a training step; 0 means 1024 */
    uint32_t rows;             /* most rows that vkmoe_stack_forward computes at once: memory for speed; 0 means batch */
    bool no_training;          /* forward only: neither gradients nor moments, a quarter of the memory */

    uint64_t seed;             /* of the initial weights */
    enum vkmoe_router_init router_init;
    enum vkmoe_stack_loss loss;
    bool no_balance;           /* else a `balance` of zeros means SimBal with 0.1 */
    struct vkmoe_balance balance; /* lbl_scope SEQUENCE and MICRO_BATCH both mean the T rows; GLOBAL_BATCH is refused */
    float lr;                  /* 0 means 1e-3; vkmoe_stack_set_lr changes it */
    float beta1, beta2, eps;   /* AdamW; 0 means 0.9, 0.95, 1e-8 */
    float weight_decay;        /* on matrices */
    float clip;                /* global gradient norm; 0: no clipping */
};

struct vkmoe_stack;

/* Allocates it and draws its weights: W_in and W_out normal of standard deviation 0.02, experts' matrices of 1 / sqrt(fan in)
 * (those that write to x over sqrt(layers)), routers as router_init says. ERROR_ARGUMENT names the field that is wrong;
 * ERROR_DEVICE_MEMORY: it does not fit. */
VKMOE_API enum vkmoe_status vkmoe_stack_create(struct vkmoe_context *ctx, const struct vkmoe_stack_config *config,
                                               struct vkmoe_stack **out);
/* Waits for the stack's own submissions. Command buffers that it was recorded into must have finished. */
VKMOE_API void vkmoe_stack_destroy(struct vkmoe_stack *stack);

/* With the defaults in the place of zeros (d_in and d_out stay 0). Valid until the stack is destroyed. */
VKMOE_API const struct vkmoe_stack_config *vkmoe_stack_config(const struct vkmoe_stack *stack);
VKMOE_API uint64_t vkmoe_stack_params(const struct vkmoe_stack *stack);       /* all weights */
VKMOE_API uint64_t vkmoe_stack_bytes(const struct vkmoe_stack *stack);        /* device memory it holds */
/* Floating-point operations of one row's forward; a training step takes three times as many per row. */
VKMOE_API uint64_t vkmoe_stack_flops(const struct vkmoe_stack *stack);

/* The learning rate of steps that are made, or recorded, from now on. ERROR_ARGUMENT unless finite and at least 0. */
VKMOE_API enum vkmoe_status vkmoe_stack_set_lr(struct vkmoe_stack *stack, float lr);

/* What the newest finished training step says. expert_tokens belongs to the stack and holds until its next call. */
struct vkmoe_stack_report {
    uint64_t step;             /* 1 for the first; 0: none has finished yet */
    float loss;                /* of the rows; 0 where the caller's own loss was used */
    float simbal_loss, lbl_loss, router_z_loss; /* with their coefficients, mean over layers */
    float grad_norm;           /* before clipping */
    bool skipped;              /* loss or gradient was not finite: weights unchanged */
    uint64_t skipped_total;
    float loss_scale;          /* of the next step; 1 but for VKMOE_F16 */
    uint32_t layers, experts;
    const uint32_t *expert_tokens; /* [layers, experts]: routed rows of the step */
};

/* in [batch, I], target as the loss says. report may be NULL. */
VKMOE_API enum vkmoe_status vkmoe_stack_step(struct vkmoe_stack *stack, const float *in, const void *target,
                                             struct vkmoe_stack_report *report);

/* out [rows, O] (or NULL) of in [rows, I], any number of rows. Where not NULL: experts [layers, rows, K] u32, the active
 * experts of each row, by descending gate; gates [layers, rows, K] their weights. */
VKMOE_API enum vkmoe_status vkmoe_stack_forward(struct vkmoe_stack *stack, uint64_t rows, const float *in, float *out,
                                                uint32_t *experts, float *gates);

/* A step with the caller's own loss. Kept is what the backward needs: in [batch, I] -> out [batch, O]. The backward takes
 * dout [batch, O], the gradient of the loss, adds the balance losses' and to the gradients of all weights, and gives din
 * [batch, I] (or NULL; not with VKMOE_F16, whose loss scale would be lost). Several backwards add up until the update. In the
 * wrong order: ERROR_ARGUMENT, and nothing done. */
VKMOE_API enum vkmoe_status vkmoe_stack_forward_kept(struct vkmoe_stack *stack, const float *in, float *out);
VKMOE_API enum vkmoe_status vkmoe_stack_backward(struct vkmoe_stack *stack, const float *dout, float *din);
VKMOE_API enum vkmoe_status vkmoe_stack_update(struct vkmoe_stack *stack, struct vkmoe_stack_report *report);

/* Weights, moments, step and configuration in one safetensors file, written beside its name and renamed when complete. */
VKMOE_API enum vkmoe_status vkmoe_stack_save(struct vkmoe_stack *stack, const char *path);
/* The stack that was saved: the next step has the bits that it would have had. */
VKMOE_API enum vkmoe_status vkmoe_stack_load(struct vkmoe_context *ctx, const char *path, struct vkmoe_stack **out);

#ifdef __cplusplus
}
#endif
#endif
