/* The layer of experts that layer.c times and layer_check.c checks. */
#ifndef VKMOE_BENCH_LAYER_H
#define VKMOE_BENCH_LAYER_H

#include "nn/net.h"

/* T tokens of width d to K of E experts of hidden width n. */
struct layer_shape {
    uint32_t T, d, n, E, K;
};

struct layer {
    struct vkm_net *net;
    struct vkm_arena *arena;
    struct vkm_buf dy;           /* [T,d] the gradient that the backward begins with */
    struct vkm_loss loss;        /* no balance */
};

/* Runs it forward. */
enum vkmoe_status layer_forward(const struct layer *l);

/* Runs it forward, and with `backward` back, and holds what that left against the reference: all stages of a few tokens, and
 * parts of the weights' gradients. what, shape: for the message. */
enum vkmoe_status layer_check(const struct layer *l, const struct layer_shape *s, bool backward, const char *what,
                              const char *shape);

#endif
