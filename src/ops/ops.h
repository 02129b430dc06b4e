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

/* y [T,D] from x [T,D], w [D]; y16 [T,D] the same rounded to `type` (TYPE_F16, TYPE_BF16), or absent */
void vkm_op_rmsnorm(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf w, struct vkm_buf y, struct vkm_buf y16,
                    uint32_t type, uint32_t T, uint32_t D, float eps);
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
    struct vkm_buf chunk_count;   /* [E,chunks] scratch */
    struct vkm_buf tiles;         /* struct gemm_tile each */
    struct vkm_buf commands;      /* two VkDispatchIndirectCommand: products F wide, and D wide */
    uint32_t F, D;
    uint32_t type;                /* of the grouped products, as vkm_gemm's */
};

struct vkm_gemm {
    const char *label;
    uint32_t form;                /* GEMM_NT, GEMM_NN, GEMM_TN: C = A Bt, A B, At B */
    uint32_t epilogue;            /* EPILOGUE_STORE, _SWIGLU (form NT), _DSWIGLU (form NN) */
    struct vkm_buf a, b, c;       /* C [m,n]; A, B as the form says */
    uint32_t m, n, k;
    uint32_t type;                /* TYPE_F32: all arrays are f32, and so is the product. TYPE_F16, TYPE_BF16: operands may be
                                     rounded to it, those named in `narrow` (NARROW_A, _B, _C) lie in memory so; sums are
                                     f32. A routing's type counts instead of this. The device has caps.storage16 */
    uint32_t narrow;              /* without a 16-bit type: ignored. No base with NARROW_C */
    float alpha;                  /* of the product; 0 means 1 */
    bool accumulate;              /* c += product */
    struct vkm_buf base;          /* c = base + product */
    struct vkm_buf partial;       /* form TN: vkm_gemm_partial or vkm_gemm_partial_routed bytes of scratch, or absent: see there */
    /* A grouped product: rows of A and C (NT, NN; m = R and B is [E, ...]) or of A and B (TN; k = R and C is [E,m,n]) are
     * those of a routing; n is its F or its D in the rows form. */
    const struct vkm_routing *routing;
    uint32_t gather;              /* GATHER_A, GATHER_B (form TN only): its rows are tokens, read through token_of */
    struct vkm_buf act;           /* SWIGLU: a = silu(h1) h3 [R,F] written; c = h13 [R,2F], B = [E,2F,k], n = F.
                                     DSWIGLU: gate * a [R,F] written; c = h13 becomes dh13. Without a routing: a
                                     feed-forward layer of m rows, the gate is 1 */
    struct vkm_buf gate;          /* DSWIGLU, routed: [T,K] */
    struct vkm_buf dgate;         /* DSWIGLU, routed: [parts,R] partial sums of the gate's gradient, see vkm_gemm_parts */
};
void vkm_op_gemm(struct vkm_rec *rec, const struct vkm_gemm *gemm);

/* A product At B with a long sum over k and few tiles of C leaves most of a GPU idle: it is cut up along the sum into parts, whose
 * results, f32 [parts,m,n], are added in a fixed order. The bytes of those; 0: it is not cut up. More k never needs less. */
uint64_t vkm_gemm_partial(const struct vkmoe_context *ctx, uint32_t type, uint32_t m, uint32_t n, uint32_t k);
/* Likewise experts' long sums, where few experts have most rows: C is [E,m,n]. Parts are of so many rows that they would fill the device
 * if one expert had all; an expert with fewer is not cut. */
uint64_t vkm_gemm_partial_routed(const struct vkmoe_context *ctx, const struct vkm_routing *routing, uint32_t m, uint32_t n);

/* Column tiles of a routed product F wide: parts of a DSWIGLU's dgate. */
uint32_t vkm_gemm_parts(const struct vkmoe_context *ctx, const struct vkm_routing *routing);

/* ---- routing ---------------------------------------------------------------------------------------------------- */

struct vkm_gate {
    uint32_t T, E, K;
    bool sigmoid;                 /* p = sigmoid(z), else softmax(z) */
    bool norm_topk;               /* g is divided by its sum over a token's experts */
    uint32_t drop_top;            /* a token's best experts that are passed over; drop_top + K <= E */
    float prune_below;            /* an expert with a smaller g is dropped: idx = E, which has no row, and g = 0 */
    struct vkm_buf z;             /* [T,E] logits; become p */
    struct vkm_buf bias;          /* [E] added to z where experts are compared; or absent */
    struct vkm_buf idx, g;        /* [T,K] u32 by (z + bias, lower index first); [T,K] p of the chosen */
    struct vkm_buf lse;           /* [T] log sum exp z, softmax only: sigmoid leaves it alone */
};
void vkm_op_gate(struct vkm_rec *rec, const struct vkm_gate *gate);

/* What enters the gate's backward besides its forward. */
struct vkm_gate_grad {
    struct vkm_buf dgate;         /* [parts,R] partial sums of the gradient of g */
    uint32_t parts;
    struct vkm_buf load;          /* [T / group, E] f of the load-balancing loss; or absent */
    uint32_t group;               /* tokens that share a row of load */
    bool lbl_full;
    float lbl_coef, z_coef;       /* of vkm_op_lbl and of the router's z-loss z_coef * mean lse^2 (softmax); 0: off */
    struct vkm_buf loss_scale;    /* struct loss_scale: the losses' gradients are multiplied by it, as dgate has been */
    struct vkm_buf dz;            /* [T,E] overwritten */
};
void vkm_op_gate_bwd(struct vkm_rec *rec, const struct vkm_gate *gate, const struct vkm_routing *routing,
                     const struct vkm_gate_grad *grad);

/* Everything of a routing from its idx. total [E] += counts, or absent. */
void vkm_op_route(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf total);
/* Reserves the buffers of a routing but idx. */
void vkm_routing_reserve(const struct vkmoe_context *ctx, struct vkm_arena *arena, struct vkm_routing *routing);

/* y [T,D] = base [T,D] + sum_k g [T,k] rows [R,D] (row_of), rows of the routing's type; base and g may be absent */
void vkm_op_combine(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf rows, struct vkm_buf g,
                    struct vkm_buf base, struct vkm_buf y, uint32_t D);

/* ---- attention -------------------------------------------------------------------------------------------------- */

struct vkm_attention {
    uint32_t B, S, H, width;      /* width of a head, a multiple of 4: D = H * width */
    uint32_t type;                /* TYPE_F16, TYPE_BF16: q, k, v, dout, weights and their gradients may be rounded to it as
                                     operands of products; all arrays and sums are f32 */
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

/* logits [T,V] become scale * loss_scale (struct loss_scale) * their gradient (scale 0: they are left alone); loss, z_loss
 * [T], 0 for TARGET_NONE */
void vkm_op_xent(struct vkm_rec *rec, struct vkm_buf logits, struct vkm_buf target, struct vkm_buf loss,
                 struct vkm_buf z_loss, struct vkm_buf loss_scale, uint32_t T, uint32_t V, float z_coef, float scale);
/* out += scale * sum of x [count] */
void vkm_op_sum(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, uint32_t count, float scale);
/* SimBal (arXiv 2506.14038): coef * the sum of row [E] is the loss coef * sum |W W^T - I|, dw [E,D] += loss_scale * its gradient */
void vkm_op_simbal(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf dw, struct vkm_buf row, struct vkm_buf loss_scale,
                   uint32_t E, uint32_t D, float coef);
/* load [T / group, E] = fraction of a group's tokens for which an expert is active, from gate->idx; group divides T */
void vkm_op_expert_load(struct vkm_rec *rec, const struct vkm_gate *gate, uint32_t group, struct vkm_buf load);
/* load [E] likewise, of all tokens that count [E] (u32 routed rows) is of */
void vkm_op_expert_load_total(struct vkm_rec *rec, uint32_t E, uint32_t K, struct vkm_buf count, struct vkm_buf load);
/* Load-balancing loss (Fedus et al. 2022) of one micro-batch: out += coef * E * mean over tokens of sum_e load[e] p[e],
 * over the active experts or (full) all; p / sum p where the gate is a sigmoid. scratch [T]. Its gradient is in
 * vkm_op_gate_bwd. */
void vkm_op_lbl(struct vkm_rec *rec, const struct vkm_gate *gate, struct vkm_buf load, uint32_t group, bool full,
                struct vkm_buf out, struct vkm_buf scratch, float coef);
/* out += sum of x [count] squared; scratch: vkm_square_scratch bytes */
void vkm_op_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, struct vkm_buf scratch, uint32_t count);
uint64_t vkm_square_scratch(uint32_t count);
/* Loss-free balance (Wang et al. 2024): bias [E] += rate * sign(mean count - count[e]), count [E] u32 of the step's tokens;
 * nothing where stats (struct step_stats) says that the step is skipped */
void vkm_op_lossfree(struct vkm_rec *rec, struct vkm_buf bias, struct vkm_buf count, struct vkm_buf stats, uint32_t E,
                     float rate);

/* ---- metrics: never part of a step that is not measured --------------------------------------------------------- */

/* Entropy in nats of p / sum p over all experts, and over those in idx: full, topk [T] overwritten. Dropped ones (idx = E)
 * do not count. */
void vkm_op_entropy(struct vkm_rec *rec, const struct vkm_gate *gate, struct vkm_buf full, struct vkm_buf topk);
/* used [groups] = experts of load [groups,E] above 0, over E */
void vkm_op_seu(struct vkm_rec *rec, struct vkm_buf load, struct vkm_buf used, uint32_t groups, uint32_t E);
/* bins [GATE_BINS] u32 += numbers of x [count], each in [0, 1], in [i/16, (i+1)/16); 1 counts in the last */
void vkm_op_histogram(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf bins, uint32_t count);
/* Of W W^T - I, w [E,D]: square = mean square of its entries, most = largest magnitude; scratch [E,E] */
void vkm_op_gram(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf square, struct vkm_buf most, struct vkm_buf scratch,
                 uint32_t E, uint32_t D);
/* changed [T] = 1.0 where the set of idx [T,K] is another than that of before [T,K] (else 0.0); then before = idx */
void vkm_op_routing_change(struct vkm_rec *rec, struct vkm_buf before, struct vkm_buf idx, struct vkm_buf changed,
                           uint32_t T, uint32_t K);
/* Pairwise expert similarity (arXiv 2506.14038): pes [T] = mean over pairs i < j of cos(rows[i,t], rows[j,t]), rows [E,T,D];
 * an output of zeros (or so small that its squares are) has cosine 0 with every other; 0 where E = 1 */
void vkm_op_pes(struct vkm_rec *rec, struct vkm_buf rows, struct vkm_buf pes, uint32_t T, uint32_t D, uint32_t E);

/* ---- rows of numbers: stacks ------------------------------------------------------------------------------------- */

/* Rows of an array of the host's, of which nothing else is known than what the fields say. */
struct vkm_host_rows {
    uint64_t addr;
    uint32_t rows, width;
    uint32_t stride;                /* elements from a row to the next */
    uint32_t type;                  /* TYPE_F32 (or any 32-bit words), TYPE_F16, TYPE_BF16 */
};
/* packed [all,width] 32 bits from the host's rows; those past them become 0 */
void vkm_op_host_read(struct vkm_rec *rec, const struct vkm_host_rows *host, struct vkm_buf packed, uint32_t all);
/* and the first rows of packed into the host's */
void vkm_op_host_write(struct vkm_rec *rec, struct vkm_buf packed, const struct vkm_host_rows *host);

/* loss [T] = mean_o (y - target)^2 of y, target [T,O]; dy [T,O] = gradient of scale * sum of that, times loss_scale; dy may be y */
void vkm_op_mse(struct vkm_rec *rec, struct vkm_buf y, struct vkm_buf target, struct vkm_buf dy, struct vkm_buf loss,
                struct vkm_buf loss_scale, uint32_t T, uint32_t O, float scale);
/* y [count] = loss_scale * x */
void vkm_op_scale(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf y, struct vkm_buf loss_scale, uint64_t count);

/* ---- optimizer -------------------------------------------------------------------------------------------------- */

enum { VKM_NORM_PARTIALS = 256 }; /* partial sums of a range */

/* partial [VKM_NORM_PARTIALS] = sums of squares of x [count] */
void vkm_op_grad_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf partial, uint64_t count);
/* stats (struct step_stats): norm, clip scale and whether to skip, from all partial sums of gradients that loss_scale (struct
 * loss_scale) has multiplied; it is adapted afterwards: halved by a skipped step, doubled after `growth` good ones. 0: fixed */
void vkm_op_grad_norm(struct vkm_rec *rec, struct vkm_buf partials, struct vkm_buf stats, struct vkm_buf loss_scale,
                      uint32_t count, float clip, uint32_t growth);
/* One AdamW step of w, m, v [count] with g, which becomes zero; w16 [count] w rounded to `type`, or absent; control (struct
 * step_control) and stats as above. */
void vkm_op_adamw(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf g, struct vkm_buf m, struct vkm_buf v,
                  struct vkm_buf w16, uint32_t type, struct vkm_buf control, struct vkm_buf stats, uint64_t count,
                  float beta1, float beta2, float eps, float decay);
/* One more step: state (struct adam_state), and control from it; stats as above. Before AdamW, after the norm. */
void vkm_op_adam_advance(struct vkm_rec *rec, struct vkm_buf state, struct vkm_buf control, struct vkm_buf stats, float lr,
                         float beta1, float beta2);
/* y [count] = x [count] rounded to `type` */
void vkm_op_narrow(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf y, uint32_t type, uint64_t count);

#endif
