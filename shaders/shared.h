/* Read by C and by GLSL: the kernels' push constants, what kernels and host share in memory, and the numbers of the
 * specialization constants. In C an address is a uint64_t; in GLSL it is a buffer_reference to an array of that type.
 *
 * Letters: T tokens, D width, H heads, S context, E experts, K experts per token, F hidden width of an expert,
 * V vocabulary, R = T * K routed rows, sorted by expert. Everything is row-major, the last dimension fastest.
 * Push constants are at most 128 bytes, addresses first. An address of 0 means "absent" where the comment says so. */
#ifndef VKM_SHARED_H
#define VKM_SHARED_H

#ifdef GL_core_profile
#define ARGS(name) struct name##_args
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer F32 { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer U32 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer F32x4 { vec4 v[]; };
#else
#include <stdint.h>
#define ARGS(name) struct vkm_##name##_args
typedef uint64_t F32, U32;
typedef uint32_t uint;
#endif

/* Specialization constant 0 is the workgroup's size in every kernel, SPEC_ALONE tells that this is one subgroup of a CPU device
 * (gpu/pipeline.c sets it); these are the others. */
#define SPEC_ALONE 31
#define SPEC_GEMM_FORM 1
#define SPEC_GEMM_EPILOGUE 2
#define SPEC_GEMM_GROUPED 3
#define SPEC_GEMM_VEC4 4 /* VEC4_ */
#define SPEC_GEMM_BM 5 /* rows of a workgroup's tile */
#define SPEC_GEMM_TM 6 /* rows of an invocation */
#define SPEC_GEMM_TN 7 /* columns of an invocation */
#define SPEC_GEMM_BK 8 /* depth of a shared-memory tile */
#define SPEC_GEMM_GATHER 9
#define SPEC_GEMM_TYPE 10   /* TYPE_F16 or TYPE_BF16: of the 16-bit arrays */
#define SPEC_GEMM_NARROW 11 /* which arrays are 16-bit, NARROW_ */
#define SPEC_GEMM_BN 12     /* columns of a workgroup's tile */
#define SPEC_GEMM_BASE 13   /* BASE_; gemm_lanes alone */
#define SPEC_GEMM_CM_M 13   /* shape of a cooperative matrix product; gemm_cm alone, as the following */
#define SPEC_GEMM_CM_N 14
#define SPEC_GEMM_CM_K 15
#define SPEC_TYPE 1            /* TYPE_: of the 16-bit array that a kernel named _16 has */
#define SPEC_LANES 2           /* see common/row.glsl */
#define ADAMW_TOGETHER 64      /* numbers of a workgroup where SPEC_LANES is set */
#define SPEC_COLSUM_Y 3        /* there is a y */
#define SPEC_COLSUM_S 4        /* and an s */
#define SPEC_EMBED_N 1         /* columns of an invocation */
#define SPEC_EMBED_ROWS 2      /* loaded at once */
#define SPEC_GATE_K 1
#define SPEC_COMBINE_K 3
#define SPEC_COMBINE_WEIGHTED 4 /* there are weights */
#define SPEC_COMBINE_VEC4 5    /* rows are whole vec4s */
#define SPEC_ROPE_HALF 3       /* width of a head / 2 */
#define SPEC_ATTENTION_WIDTH 1 /* width of a head / 4 */
#define SPEC_ATTENTION_LANES 2 /* invocations that share a query or key, a power of two */
#define SPEC_ATTENTION_TYPE 3  /* TYPE_F16 or TYPE_BF16; attention_cm alone, as the following */
#define SPEC_ATTENTION_ROWS 4  /* queries (for dK and dV: keys) of a workgroup */
#define SPEC_ATTENTION_COLS 5  /* keys (queries) of a block */
#define SPEC_ATTENTION_CM_M 6  /* shape of a cooperative matrix product */
#define SPEC_ATTENTION_CM_N 7
#define SPEC_ATTENTION_CM_K 8

#define BASE_NONE 0  /* the product alone is the result; */
#define BASE_C 1     /* it is added to C; */
#define BASE_OTHER 2 /* it is added to base */

#define GEMM_NT 0 /* C[m,n] = sum_k A[m,k] B[n,k] */
#define GEMM_NN 1 /* C[m,n] = sum_k A[m,k] B[k,n] */
#define GEMM_TN 2 /* C[m,n] = sum_k A[k,m] B[k,n] */

#define GATHER_NONE 0
#define GATHER_A 1 /* rows of A through p.gather */
#define GATHER_B 2 /* rows of B (TN) */

#define VEC4_OPERANDS 1 /* rows of A and B are whole vec4s (gemm_panel: or pairs), see vec4_rows in ops/gemm.c; */
#define VEC4_RESULTS 2  /* rows of all results (gemm_tiled and gemm_cm) */

#define EPILOGUE_STORE 0   /* c = alpha * product + base */
#define EPILOGUE_SWIGLU 1  /* two products h1, h3 (B rows f and F + f): c = (h1 | h3), aux = silu(h1) * h3 */
#define EPILOGUE_DSWIGLU 2 /* product dA': c = (h1 | h3) becomes (dh1 | dh3), see gemm.glsl */

/* How an array lies in memory. 16-bit ones are read and written by kernels whose name ends in _16 or _cm_.... */
#define TYPE_F32 0
#define TYPE_F16 1
#define TYPE_BF16 2

#define NARROW_A 1
#define NARROW_B 2
#define NARROW_C 4 /* C; of SWIGLU and DSWIGLU also the activated rows */

#define TARGET_NONE 0xffffffffu
#define MAX_EXPERTS 1024 /* experts of a layer: their counts lie in shared memory once */

/* One tile of a grouped product's rows. */
struct gemm_tile {
    uint group;
    uint row; /* first row, in all rows */
};
#ifdef GL_core_profile
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Tiles { gemm_tile v[]; };
#else
typedef uint64_t Tiles;
#endif

/* What the host sets for each step, and what the device counts. */
struct step_control {
    float lr;
    float bias1; /* 1 / (1 - beta1^t) */
    float bias2; /* 1 / (1 - beta2^t) */
};
struct step_stats {
    float loss; /* sums over the step's micro-batches and layers */
    float z_loss;
    float simbal;
    float lbl;
    float router_z; /* sum of squares, without coefficient */
    float grad_norm;
    float clip_scale; /* what AdamW multiplies gradients by */
    uint skip;        /* 1: not finite, AdamW leaves the weights alone */
    float loss_scale; /* of the next step, and good steps since it last changed */
    uint good_steps;
};
/* What gradients are multiplied by until AdamW divides by it (Micikevicius et al. 2018), so that f16 holds them. */
struct loss_scale {
    float scale;
    uint good_steps;
};
/* What AdamW's bias correction counts on the device, so that a step can be replayed. */
struct adam_state {
    uint step, skipped;
    float rest1, rest2; /* 1 - beta1^step, 1 - beta2^step */
};
/* How a layer routes; sums until the host divides them. */
#define GATE_BINS 16
struct router_stats {
    float entropy, entropy_topk; /* nats, over tokens */
    float seu;                   /* over sequences of used / E */
    float gram_square, gram_max; /* of W W^T - I: mean square, largest magnitude; not summed up */
    uint bins[GATE_BINS];        /* gate weights in [i/16, (i+1)/16) */
};
#ifdef GL_core_profile
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Control { step_control v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Stats { step_stats v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer LossScale { loss_scale v; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer AdamState { adam_state v; };
#else
typedef uint64_t Control, Stats, LossScale, AdamState;
#endif

ARGS(fill) { /* v[0..count) = value */
    U32 v;
    uint count;
    uint value;
};

ARGS(embed) { /* y [T,D] = w[tok[T]] of w [V,D] */
    F32 w;
    U32 tok;
    F32 y;
    uint T, D;
};

ARGS(embed_bwd) { /* dw [V,D] += rows of dy [T,D] by token */
    F32 dw;
    U32 tok;
    F32 dy;
    uint T, D, V;
};

ARGS(narrow) { /* y [count] 16-bit = x */
    F32 x, y;
    uint count;
};

ARGS(rmsnorm) { /* y [T,D] from x [T,D], w [D]; _16: also in 16 bits */
    F32 x, w, y, y16;
    uint T, D;
    float eps;
};

ARGS(rmsnorm_bwd) { /* dx [T,D] += ...; rstd [T] is written for the weight's gradient */
    F32 x, w, dy, dx, rstd;
    uint T, D;
    float eps;
};

ARGS(colsum) { /* out [chunks,C] (+)= sums over chunks of rows of x * y * s; y and s may be absent */
    F32 x, y, s, out_;
    uint rows, cols, chunk; /* rows in a chunk */
    uint accumulate;
};

ARGS(rope) { /* x [T,3D]: rotates q and k in place; cos, sin [S, D/H/2] */
    F32 x, cos_, sin_;
    uint T, S, H;
    float sign_;         /* -1: the backward */
};

ARGS(attention) { /* qkv [T,3D] -> o [T,D], lse [T,H]; and backward */
    F32 qkv, o, lse;
    F32 dout, delta, dqkv; /* backward only */
    uint B, S, H;
    float scale;
};

ARGS(gemm) {
    F32 a, b, c;
    F32 base;          /* added to the product; may be c; absent: nothing added */
    U32 gather;        /* index of each row of A or B, see SPEC_GEMM_GATHER */
    U32 offset;        /* [groups + 1] first row of each group */
    Tiles tiles;       /* tile map of the rows form */
    F32 act;           /* SWIGLU: silu(h1) h3 [R,F]; DSWIGLU: gate * silu(h1) h3 [R,F] */
    F32 partial;       /* TN, grouped: [places,m,n] further parts of sums */
    F32 gate;          /* DSWIGLU: [T,K] */
    U32 slot;          /* t * K + k of each row */
    U32 idx;           /* expert of each slot */
    F32 dgate;         /* DSWIGLU: [column tiles, R] partial sums of <dA', a> */
    uint m, n, k;
    uint gather_rows;  /* rows of the array that gather points into */
    uint part;         /* TN: terms of a sum that a workgroup adds up. Not grouped: C is [parts,m,n]; grouped: common/parts.glsl */
    float alpha;
};

ARGS(gemm_parts) { /* c of each expert += what its further parts came to, see common/parts.glsl */
    F32 partial, c;    /* [places,size], [experts,size] */
    U32 offset, slot, idx; /* as gemm's */
    uint experts, rows, part;
    uint size;         /* numbers of an expert's matrix */
};

ARGS(probe_lanes) { /* see ops/probe_lanes.c */
    F32 x, y;
    uint rounds;
};
#define PROBE_LANES_ROWS 32

ARGS(gate) { /* z [T,E] becomes the gate p; idx, g [T,K]; lse [T] */
    F32 z;
    F32 bias;          /* [E] added to z where experts are compared; or absent */
    U32 idx;
    F32 g;
    F32 lse;           /* log sum exp z (softmax) */
    uint T, E, K;
    uint sigmoid;
    uint norm_topk;
    uint drop_top;     /* best experts that are passed over */
    float prune_below; /* least weight that is kept: else idx = E, g = 0 */
};

ARGS(gate_bwd) { /* dz [T,E] from p, idx, g, the partial sums of dgate, and the losses on the gate */
    F32 p;
    U32 idx;
    F32 g;
    F32 dgate;       /* [parts, R] */
    U32 row_of;      /* [T,K] */
    F32 load;        /* [T / group, E] f of LBL */
    F32 lse;         /* [T] (softmax) */
    F32 dz;
    LossScale loss_scale;
    uint T, E, parts;
    uint sigmoid;
    uint norm_topk;
    uint group;      /* tokens that share a row of load */
    uint lbl_full;
    float lbl_scale; /* coef * E / T / micro-batches */
    float z_scale;   /* 2 coef / T / micro-batches, of the router's z-loss; 0: none */
};

ARGS(expert_load) { /* load [groups,E]: fraction of a group's tokens for which an expert is active */
    U32 idx;
    U32 count;  /* expert_load_total: [E] routed rows */
    F32 load;
    uint groups, group; /* tokens of a group */
    uint E, K;
};

ARGS(route) { /* idx [T,K] to the expert-sorted order; see route_*.comp */
    U32 idx;
    U32 chunk_count; /* [E,chunks] */
    U32 count;       /* [E] */
    U32 total;       /* [E] += count */
    U32 offset;      /* [E + 1] */
    U32 row_of;      /* [T,K] */
    U32 token_of;    /* [R] */
    U32 slot_of;     /* [R] */
    Tiles tiles;
    U32 commands;    /* VkDispatchIndirectCommand for column-tile counts f_tiles and d_tiles */
    uint T, E, K;
    uint chunk;      /* tokens in a chunk */
    uint tile_rows;
    uint f_tiles, d_tiles;
};

ARGS(combine) { /* y [T,D] = base + sum_k g[t,k] rows[row_of[t,k]]; base and g may be absent; _16: rows are 16-bit */
    F32 rows;
    U32 row_of;
    F32 g, base, y;
    uint T, D;
};

ARGS(xent) { /* logits [T,V] become their gradient; loss, z_loss [T] */
    F32 logits;
    U32 target;
    F32 loss, z_loss;
    LossScale loss_scale;
    uint T, V;
    float z_coef;
    float scale;        /* of the gradient; 0: logits are left alone */
};

ARGS(mse) { /* loss [T] = mean_o (y - target)^2; dy [T,O] = scale loss_scale (2 / O) (y - target), may be y */
    F32 y, target, dy, loss;
    LossScale loss_scale;
    uint T, O;
    float scale;
};

ARGS(scale) { /* y = loss_scale x */
    F32 x, y;
    LossScale loss_scale;
    uint count;
};

ARGS(adam_advance) { /* one more step: state, and control for AdamW */
    AdamState state;
    Control control;
    Stats stats;
    float lr, beta1, beta2, one_minus_beta1, one_minus_beta2;
};

ARGS(host_rows) { /* rows of a host's array to or from packed ones [all, width]; read: those past `rows` become 0 */
    U32 host, packed;
    uint all, rows, width;
    uint stride; /* elements from one of the host's rows to the next */
};

ARGS(sum) { /* *out += scale * sum of x[0..count) */
    F32 x;
    F32 out_;
    uint count;
    float scale;
};

ARGS(simbal) { /* row [E] and dw [E,D] += of w [E,D] */
    F32 w, dw, row;
    LossScale loss_scale;
    uint E, D;
    float coef;
};

ARGS(lbl) { /* term[t] = sum_e load[group of t, e] * gate of e */
    F32 p;
    U32 idx;
    F32 load; /* [T / group, E] */
    F32 term; /* [T] */
    uint T, E, K;
    uint group;
    uint full; /* over all experts; else over the active ones */
    uint sigmoid;
};

ARGS(lossfree) { /* bias[e] += rate * sign(mean of count - count[e]), unless the step is skipped */
    F32 bias;
    U32 count; /* [E] of the step */
    Stats stats;
    uint E;
    float rate;
};

ARGS(entropy) { /* [T] entropies of the gate and of the active experts' renormalised weights */
    F32 p;
    U32 idx;
    F32 full, topk;
    uint T, E, K;
};

ARGS(seu) { /* used [groups] = experts with load above 0, over E */
    F32 load;
    F32 used;
    uint groups, E;
};

ARGS(histogram) { /* bins [GATE_BINS] += numbers of x [count] in [0, 1]; a workgroup a bin */
    F32 x;
    U32 bins;
    uint count;
};

ARGS(gram) { /* of gram [E,E] - I: mean square and largest magnitude, overwritten */
    F32 gram, square, most;
    uint E;
};

ARGS(routing_change) { /* changed [T] = 1 where the set of idx [T,K] is not that of before, which becomes idx */
    U32 before, idx;
    F32 changed;
    uint T, K;
};

ARGS(pes) { /* pes [T] = mean over pairs of experts of the cosine of their rows [E,T,D] */
    F32 rows;
    F32 pes;
    uint T, D, E;
};

ARGS(grad_norm) { /* partial [groups] = sums of squares; the last kernel turns all partials into the norm */
    F32 x, partial;
    Stats stats;
    LossScale loss_scale;
    uint count;
    uint partials;
    float clip;
    uint growth;      /* good steps after which the loss scale doubles; 0: it never changes */
};

ARGS(adamw) { /* _16: w16 = w in 16 bits; _wide: count pairs, but numbers with SPEC_LANES */
    F32 w, g, m, v, w16;
    Control control;
    Stats stats;
    uint count;
    float beta1, beta2, eps, decay;
};

#define BENCH_FMA_CHAINS 3   /* fours of chains in bench_fma; of f16 */
#define BENCH_FMA16_CHAINS 6
#define BENCH_FMA_STEPS 8    /* multiply-adds of each in a loop */
#define BENCH_CM_CHAINS 8    /* products of a subgroup in one of bench_cm's loops */
#define SPEC_PROBE_TOGETHER 1
#define SPEC_BENCH_CM_M 1    /* shape of a cooperative matrix product */
#define SPEC_BENCH_CM_N 2
#define SPEC_BENCH_CM_K 3
#define BENCH_COPY_EACH 8  /* vec4s of an invocation of bench_copy */

ARGS(bench_fma) { /* and of bench_cm: out[0] is written where a sum is `never` */
    F32 out_;
    float x, y, never;
    uint loops;
};

ARGS(bench_copy) { /* dst = src, count vec4s */
    F32 src, dst;
    uint count;
};

#endif
