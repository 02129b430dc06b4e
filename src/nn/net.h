/* The network: parameters, the activations of a micro-batch, and the recordings of its forward and backward.
 *
 *   x = embed[tok];  for each block: x += attention(norm(x)), x += moe(norm(x));  logits = norm(x) head^T */
#ifndef VKM_NN_NET_H
#define VKM_NN_NET_H

#include "nn/params.h"
#include "ops/ops.h"

/* What a block keeps for its backward. A network that is not trainable has one, which all blocks use; one that recomputes
 * has for each block the first four, and the others once. */
struct vkm_layer {
    struct vkm_buf x;               /* [T,D] the residual stream before attention */
    struct vkm_gate gate;           /* z: logits, then p; chosen experts and their weights */
    struct vkm_routing routing;     /* their rows */
    struct vkm_buf load;            /* [groups,E] f of the load-balancing loss */
    struct vkm_buf x_mid;           /* [T,D] and between attention and experts */
    struct vkm_attention attention; /* qkv, o, lse */
    struct vkm_buf h13;             /* [R,2F] hidden rows before the activation; their gradient in the backward; of the
                                       network's type */
    struct vkm_buf shared13;        /* [T,2G] likewise of the shared expert, G = d_shared; absent without one */
};

/* Buffers that every block overwrites. */
struct vkm_scratch {
    struct vkm_buf h;               /* [T,D] normalised input of a half-block */
    struct vkm_buf h16;             /* the same in 16 bits; absent where the network's type is f32 */
    struct vkm_buf act;             /* [R,F] or [T,G]: silu(h1) h3; gate-scaled in the backward; of the network's type */
    struct vkm_buf rows;            /* [R,D] expert outputs; gradients of expert inputs; of the network's type */
    struct vkm_buf logits;          /* [chunk,V] */
    struct vkm_buf loss, z_loss;    /* [T] */
    struct vkm_buf balance;         /* of the balance losses; of what is measured (measure.c) */
    /* backward only */
    struct vkm_buf dx;              /* [T,D] gradient of the residual stream */
    struct vkm_buf dh;              /* [T,D] of a half-block's normalised input; of attention's output */
    struct vkm_buf dqkv;            /* [T,3D] */
    struct vkm_buf delta;           /* [T,H] */
    struct vkm_buf dz;              /* [T,E] */
    struct vkm_buf dgate;           /* [parts,R] */
    struct vkm_buf norm;            /* of RMSNorm's backward */
    struct vkm_buf partial;         /* of sums over tokens, and over experts' rows; may be absent */
};

struct vkm_net {
    struct vkmoe_context *ctx;
    struct vkmoe_model_config config;
    bool stack;                     /* no language model: without attention, embedding and tokens, with these */
    struct vkm_ends ends;
    uint32_t B, T;                  /* sequences and tokens of a micro-batch */
    bool trainable;
    bool recompute;                 /* the backward computes again what a block does not keep */
    uint32_t type;                  /* TYPE_F32, TYPE_F16 or TYPE_BF16: of matrix products, but the router's, and of their
                                       arrays that nothing else reads */

    struct vkm_params params;
    bool shares_params;             /* they are another network's */
    struct vkm_layer *layers;       /* [config.layers] */
    struct vkm_buf in;              /* [T,in] of a stack with W_in; its gradient in the backward */
    struct vkm_buf x_out;           /* [T,D] after the last block */
    struct vkm_buf cos, sin;        /* [S, width / 2] rotation angles */
    struct vkm_buf loss_scale;      /* struct loss_scale of all gradients; 1 at first */
    struct vkm_scratch scratch;
    uint32_t logit_rows;            /* tokens in a chunk of logits */
    uint32_t expert_rows;           /* rows of h13, act and rows: R, at least E */

    struct vkm_arena *param_arena;  /* NULL where the parameters are shared */
    struct vkm_arena *activation_arena;
};

enum vkm_net_use {
    VKM_NET_FORWARD,                /* no gradients */
    VKM_NET_TRAIN,
    VKM_NET_TRAIN_RECOMPUTE,        /* less memory, more time, the same bits */
};
/* Plans a network for micro-batches of `batch` sequences: sizes are known (vkm_arena_bytes of its arenas), nothing is
 * allocated on the device. The configuration has been checked. */
enum vkmoe_status vkm_net_create(struct vkmoe_context *ctx, const struct vkmoe_model_config *config, uint32_t batch,
                                 enum vkm_net_use use, uint32_t type, struct vkm_net **out);
/* Likewise a stack of experts without attention for rows of numbers, `rows` of them at once; heads, seq and vocab of the
 * configuration are not read. use is VKM_NET_FORWARD or VKM_NET_TRAIN. */
enum vkmoe_status vkm_net_create_stack(struct vkmoe_context *ctx, const struct vkmoe_model_config *config,
                                       const struct vkm_ends *ends, uint32_t rows, enum vkm_net_use use, uint32_t type,
                                       struct vkm_net **out);
/* Plans a network that runs on another's parameters with batches of its own; not trainable. `of` has been committed and
 * outlives it. */
enum vkmoe_status vkm_net_create_shared(const struct vkm_net *of, uint32_t batch, struct vkm_net **out);
/* Allocates it. Parameters are not initialised; after they are, vkm_params_narrow. */
enum vkmoe_status vkm_net_commit(struct vkm_net *net);
/* Accepts NULL. The device must not be using it. */
void vkm_net_destroy(struct vkm_net *net);

/* How the losses enter a micro-batch. */
struct vkm_loss {
    float scale;                    /* of the token losses' gradient: 1 / tokens of the step; 0: no gradient */
    float z_coef;
    struct vkmoe_balance balance;   /* lbl and router_z: already divided by the step's micro-batches */
    struct vkm_buf expert_tokens;   /* [L,E] of the step so far: for LBL of the global batch */
    struct vkm_buf loss_sum, z_sum, lbl_sum, router_z_sum; /* each one f32, added to: see vkm_net_loss */
};

/* Looks on: called after each layer's experts, when gate, routing and scratch.h (the experts' input) are there and
 * scratch.act, scratch.rows, the layer's h13 and x_mid are free, unless a backward follows. */
struct vkm_observer {
    void (*layer)(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer);
    void *user;
};

/* tok [T] u32 -> net->x_out and all that the backward needs; expert_tokens [L,E] u32 += routed rows, or absent; observer may
 * be NULL */
void vkm_net_forward(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf tok, struct vkm_buf expert_tokens,
                     const struct vkm_observer *observer);
/* Its blocks alone: from layers[0].x, and from scratch.dx to the gradient of layers[0].x there. */
void vkm_net_blocks(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf expert_tokens,
                    const struct vkm_observer *observer);
void vkm_net_blocks_backward(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_loss *loss);

/* From x_out and target [T]: loss_sum += loss.scale (or 1) * sum of cross-entropies, z_sum likewise; lbl_sum += LBL of all
 * layers, router_z_sum += sum over layers and tokens of lse^2.
 * With scale > 0 also the gradients of head, final_norm and x_out (in scratch.dx). */
void vkm_net_loss(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf target, const struct vkm_loss *loss);
/* From scratch.dx: adds to all other gradients. After vkm_net_loss with scale > 0. */
void vkm_net_backward(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf tok, const struct vkm_loss *loss);
/* The balance losses that act on gates, of all layers, into their sums; the backward needs what it leaves. */
void vkm_net_gate_losses(struct vkm_rec *rec, const struct vkm_net *net, const struct vkm_loss *loss);

/* ---- a stack's ends: head.c ---- */

/* layers[0].x from net->in, where there is a W_in */
void vkm_net_input_map(struct vkm_rec *rec, const struct vkm_net *net);
/* Its gradient, and with `wanted` net->in becomes its own gradient, from scratch.dx */
void vkm_net_input_map_backward(struct vkm_rec *rec, const struct vkm_net *net, bool wanted);
/* [T,out] from x_out, or x_out itself; then from the output's gradient, which stands in vkm_net_output_grad, to scratch.dx:
 * scratch.h is still as vkm_net_output left it */
struct vkm_buf vkm_net_output(struct vkm_rec *rec, const struct vkm_net *net);
struct vkm_buf vkm_net_output_grad(const struct vkm_net *net);
void vkm_net_output_backward(struct vkm_rec *rec, const struct vkm_net *net);

/* Logits of all tokens of x_out's first sequence: logits [S,V]; needs logit_rows >= S. */
void vkm_net_logits(struct vkm_rec *rec, const struct vkm_net *net);

/* Tokens over which the load-balancing loss counts its f together: a sequence, or all of the micro-batch. */
static inline uint32_t vkm_lbl_group(const struct vkm_net *net, const struct vkm_loss *loss)
{
    return loss->balance.lbl_scope == VKMOE_LBL_SEQUENCE ? net->config.seq : net->T;
}

/* ---- arrays by the network's type ---- */

/* A weight as an operand of a matrix product, the normalised input as one, and bytes of `count` elements. */
static inline struct vkm_buf vkm_net_matrix(const struct vkm_net *net, const struct vkm_param *param)
{
    return net->type == TYPE_F32 ? param->weight : param->weight16;
}
static inline struct vkm_buf vkm_net_input(const struct vkm_net *net)
{
    return net->type == TYPE_F32 ? net->scratch.h : net->scratch.h16;
}
static inline uint64_t vkm_net_bytes(const struct vkm_net *net, uint64_t count)
{
    return count * (net->type == TYPE_F32 ? sizeof(float) : sizeof(uint16_t));
}
/* scratch.h (and h16) = RMSNorm of x [T,D] with the parameter's weight */
void vkm_net_norm(struct vkm_rec *rec, const struct vkm_net *net, struct vkm_buf x, const struct vkm_param *norm);

/* ---- the halves of a block: attention.c and moe.c ---- */

static inline const struct vkm_param *vkm_net_param(const struct vkm_net *net, enum vkm_param_id id, uint32_t layer)
{
    return vkm_params_get(&net->params, id, (int32_t)layer);
}

/* x_mid = x + W_out attention(rope(W_qkv norm(x))) */
void vkm_attention_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer);
/* scratch.dx: from the gradient of x_mid to the gradient of x */
void vkm_attention_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer);
/* y = x_mid + moe(norm(x_mid)); expert_tokens [E] u32 += routed rows, or absent */
void vkm_moe_forward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, struct vkm_buf y,
                     struct vkm_buf expert_tokens);
/* From x_mid, gate and routing: h13 and shared13 anew, the same bits */
void vkm_moe_recompute(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer);
/* scratch.dx: from the gradient of y to the gradient of x_mid */
void vkm_moe_backward(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, const struct vkm_loss *loss);

/* ---- what is measured: measure.c ---- */

/* Adds a layer's gate (entropies, sequence-wise utilisation, gate weights) to stats (struct router_stats), and puts there
 * how far its router is from orthonormal. Uses scratch.balance. */
void vkm_measure_router(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, struct vkm_buf stats);
/* Bytes of scratch.balance that it takes. */
uint64_t vkm_measure_scratch(const struct vkm_net *net);
/* Tokens of a micro-batch that PES can be measured on. */
uint32_t vkm_measure_pes_tokens(const struct vkm_net *net);
/* pes [all->T] of the tokens of scratch.h at positions [all->T] (u32, below T): all experts run on each. `all` is a routing
 * of those tokens to all E experts, idx [all->T,E] = 0..E-1. For an observer. */
void vkm_measure_pes(struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer, const struct vkm_routing *all,
                     struct vkm_buf positions, struct vkm_buf pes);

#endif
