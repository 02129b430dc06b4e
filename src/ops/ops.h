/* The operations of the model, each recorded as one or a few dispatches. Recording never fails in place: the recorder
 * latches the first error (recorder.h).
 *
 * Letters, here and everywhere:
 *   B sequences, S tokens of a context, T = B * S tokens, D width of the model, H heads, V vocabulary,
 *   E experts, K experts active for a token, F hidden width of an expert, R = T * K routed rows sorted by expert.
 * Arrays are row-major, the last dimension fastest; f32 unless said otherwise. "y [T,D]" is overwritten; "dx [T,D] +=" is
 * added to. Gradients of weights are always added to: AdamW leaves them at zero. A zero vkm_buf is "absent". */
#ifndef VKM_OPS_OPS_H
#define VKM_OPS_OPS_H

#include "gpu/recorder.h"
#include "shared.h"

/* ---- embedding ------------------------------------------------------------------------------------------------ */

/* y [T,D] = w [V,D] rows tok [T] (u32, each below V) */
void vkm_op_embed(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf tok, struct vkm_buf y, uint32_t T, uint32_t D);
/* dw [V,D] += rows of dy [T,D] by token */
void vkm_op_embed_bwd(struct vkm_rec *rec, struct vkm_buf dw, struct vkm_buf tok, struct vkm_buf dy, uint32_t T,
                      uint32_t D, uint32_t V);

/* ---- RMSNorm (Zhang and Sennrich 2019) -------------------------------------------------------------------------- */

/* y [T,D] from x [T,D], w [D] */
void vkm_op_rmsnorm(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf w, struct vkm_buf y, uint32_t T, uint32_t D,
                    float eps);
/* dx [T,D] +=, dw [D] += from x, w, dy [T,D]; scratch as vkm_rmsnorm_scratch */
void vkm_op_rmsnorm_bwd(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf w, struct vkm_buf dy, struct vkm_buf dx,
                        struct vkm_buf dw, struct vkm_buf scratch, uint32_t T, uint32_t D, float eps);
uint64_t vkm_rmsnorm_scratch(uint32_t T, uint32_t D); /* bytes */

/* ---- matrix products -------------------------------------------------------------------------------------------- */

/* Token slots sorted by expert, and the tiles that grouped products work on: made by vkm_op_route. All u32. */
struct vkm_routing {
    uint32_t T, E, K;
    struct vkm_buf idx;           /* [T,K] expert of each slot: input */
    struct vkm_buf count;         /* [E] rows of an expert */
    struct vkm_buf offset;        /* [E + 1] its first row */
    struct vkm_buf row_of;        /* [T,K] row of each slot */
    struct vkm_buf token_of;      /* [R] token of each row */
    struct vkm_buf slot_of;       /* [R] t * K + k of each row */
    struct vkm_buf chunk_count;   /* [chunks,E] scratch */
    struct vkm_buf tiles;         /* struct gemm_tile each */
    struct vkm_buf commands;      /* two VkDispatchIndirectCommand: products F wide, and D wide */
    uint32_t F, D;
};

struct vkm_gemm {
    const char *label;
    uint32_t form;                /* GEMM_NT, GEMM_NN, GEMM_TN: C = A Bt, A B, At B */
    uint32_t epilogue;            /* EPILOGUE_STORE, _SWIGLU (form NT), _DSWIGLU (form NN) */
    struct vkm_buf a, b, c;       /* C [m,n]; A, B as the form says */
    uint32_t m, n, k;
    float alpha;                  /* of the product; 0 means 1 */
    bool accumulate;              /* c += product */
    struct vkm_buf base;          /* c = base + product */
    /* A grouped product: rows of A and C (NT, NN; m = R and B is [E, ...]) or of A and B (TN; k = R and C is [E,m,n]) are
     * those of a routing; n is its F or its D in the rows form. */
    const struct vkm_routing *routing;
    uint32_t gather;              /* GATHER_A, GATHER_B (form TN only): its rows are tokens, read through token_of */
    struct vkm_buf act;           /* SWIGLU: a = silu(h1) h3 [R,F] written; c = h13 [R,2F], B = [E,2F,k], n = F.
                                     DSWIGLU: gate * a [R,F] written; c = h13 becomes dh13 */
    struct vkm_buf gate;          /* DSWIGLU: [T,K] */
    struct vkm_buf dgate;         /* DSWIGLU: [R,parts] partial sums of the gate's gradient, see vkm_gemm_parts */
};
void vkm_op_gemm(struct vkm_rec *rec, const struct vkm_gemm *gemm);

/* Column tiles of a product n wide: parts of a DSWIGLU's dgate. */
uint32_t vkm_gemm_parts(const struct vkmoe_context *ctx, uint32_t n);

/* ---- routing ---------------------------------------------------------------------------------------------------- */

/* z [T,E] logits become p = softmax(z); idx [T,K] u32 by (value, lower index first) and g [T,K], divided by their sum where
 * norm_topk */
void vkm_op_gate(struct vkm_rec *rec, struct vkm_buf z, struct vkm_buf idx, struct vkm_buf g, uint32_t T, uint32_t E,
                 uint32_t K, bool norm_topk);
/* dz [T,E] from p, g, dgate [R,parts] and, with lbl_coef > 0, the gradient of lbl_coef * E * sum_e f_e P_e */
void vkm_op_gate_bwd(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf p, struct vkm_buf g,
                     struct vkm_buf dgate, uint32_t parts, struct vkm_buf dz, bool norm_topk, float lbl_coef);

/* Everything of a routing from its idx. total [E] += counts, or absent. */
void vkm_op_route(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf total);
/* Reserves the buffers of a routing but idx. */
void vkm_routing_reserve(const struct vkmoe_context *ctx, struct vkm_arena *arena, struct vkm_routing *routing);

/* y [T,D] = base [T,D] + sum_k g [T,k] rows [R,D] (row_of); base and g may be absent */
void vkm_op_combine(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf rows, struct vkm_buf g,
                    struct vkm_buf base, struct vkm_buf y, uint32_t D);

/* ---- attention -------------------------------------------------------------------------------------------------- */

struct vkm_attention {
    uint32_t B, S, H, width;      /* width of a head, a multiple of 4: D = H * width */
    struct vkm_buf cos, sin;      /* [S, width / 2] of the rotation angles */
    struct vkm_buf qkv;           /* [T,3D] */
    struct vkm_buf o, lse;        /* [T,D], [T,H] */
    struct vkm_buf dout, delta, dqkv; /* backward: [T,D]; [T,H] scratch; [T,3D] */
};
/* Rotates q and k of x [T,3D] in place; inverse: its backward, on a gradient. */
void vkm_op_rope(struct vkm_rec *rec, const struct vkm_attention *attention, struct vkm_buf x, bool inverse);
/* o, lse from qkv: causal softmax attention within each sequence */
void vkm_op_attention(struct vkm_rec *rec, const struct vkm_attention *attention);
/* dqkv from dout, qkv, o, lse */
void vkm_op_attention_bwd(struct vkm_rec *rec, const struct vkm_attention *attention);

/* ---- losses ----------------------------------------------------------------------------------------------------- */

/* logits [T,V] become scale * their gradient (scale 0: they are left alone); loss, z_loss [T], 0 for TARGET_NONE */
void vkm_op_xent(struct vkm_rec *rec, struct vkm_buf logits, struct vkm_buf target, struct vkm_buf loss,
                 struct vkm_buf z_loss, uint32_t T, uint32_t V, float z_coef, float scale);
/* out += scale * sum of x [count] */
void vkm_op_sum(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, uint32_t count, float scale);
/* SimBal (arXiv 2506.14038): out += coef * sum |W W^T - I|, dw [E,D] += its gradient; scratch as vkm_simbal_scratch.
 * dw absent: the loss alone. */
void vkm_op_simbal(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf dw, struct vkm_buf out, struct vkm_buf scratch,
                   uint32_t E, uint32_t D, float coef);
uint64_t vkm_simbal_scratch(uint32_t E);
/* Load-balancing loss (Fedus et al. 2022) of one micro-batch: out += scale * E * sum_e f_e P_e from p [T,E] and the counts;
 * scratch as vkm_lbl_scratch */
void vkm_op_lbl(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf p, struct vkm_buf out,
                struct vkm_buf scratch, float scale);
uint64_t vkm_lbl_scratch(uint32_t T, uint32_t E);

/* ---- optimizer -------------------------------------------------------------------------------------------------- */

enum { VKM_NORM_PARTIALS = 256 }; /* partial sums of a range */

/* partial [VKM_NORM_PARTIALS] = sums of squares of x [count] */
void vkm_op_grad_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf partial, uint64_t count);
/* stats (struct step_stats): norm, clip scale and whether to skip, from all partial sums */
void vkm_op_grad_norm(struct vkm_rec *rec, struct vkm_buf partials, struct vkm_buf stats, uint32_t count, float clip);
/* One AdamW step of w, m, v [count] with g, which becomes zero; control (struct step_control) and stats as above. */
void vkm_op_adamw(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf g, struct vkm_buf m, struct vkm_buf v,
                  struct vkm_buf control, struct vkm_buf stats, uint64_t count, float beta1, float beta2, float eps,
                  float decay);

#endif
