/* The reference of every operation: plain C in double precision, forward and backward, with elementwise error bounds
 * (num.h). It shares nothing with the library it checks.
 *
 *     struct num *x = ref_exact_new(data, T * D), ...;     inputs: f32 values, exact
 *     ref_rmsnorm(T, D, x, w, eps, y, NULL);               the same formula in num
 *     struct ref_check c = ref_compare(from_gpu, y, T * D);
 *     assert(ref_ok(&c));                                   every |from_gpu - y.v| <= y.e
 *
 * Conventions
 *   - Arrays are row-major, of struct num unless another type stands there. Integers are exact.
 *   - T tokens = B sequences x S tokens, D width, H heads of hd = D / H, E experts, K experts of a token, F hidden
 *     width of an expert, V vocabulary, R = T * K routed rows.
 *   - Outputs are overwritten and do not overlap inputs, except: gradients of parameters (dw...) are added to, and so
 *     is what an `accumulate` flag says. Numbers from ref_new start at zero.
 *   - Scalars given as double are f32 values: what the kernel gets.
 *   - Sizes are trusted; running out of memory aborts. */
#ifndef VKM_ORACLE_H
#define VKM_ORACLE_H

#include "num.h"

#include <stdint.h>

/* ---- arrays and comparison ------------------------------------------------------------------------------------ */

/* n numbers, exactly zero. Freed with free(). Never NULL. */
struct num *ref_new(size_t n);
/* A copy of n f32 values as exact numbers. Freed with free(). Never NULL. */
struct num *ref_exact_new(const float *x, size_t n);

struct ref_check {
    double ratio;    /* worst |got - v| / e: at most 1 is right; 0 for equal values, infinite without a finite e */
    size_t index;    /* where */
    double got, v, e; /* there */
    size_t bad;      /* values that are NaN or infinite (they also make the ratio infinite) */
    size_t wrong, first; /* values of a ratio above 1, and the first of them */
    double weakest;  /* largest e / max |v|: 1e-3 sees errors of a thousandth of the range */
};

struct ref_check ref_compare(const float *got, const struct num *want, size_t n);
/* No bad value and ratio <= 1. */
bool ref_ok(const struct ref_check *check);

/* ---- dense: ref_dense.c ---------------------------------------------------------------------------------------- */

/* y [T,D] = w [V,D] row tok[t] */
void ref_embed(size_t T, size_t D, const uint32_t *tok, const struct num *w, struct num *y);
/* dw [V,D] row tok[t] += dy [T,D] row t */
void ref_embed_backward(size_t T, size_t D, const uint32_t *tok, const struct num *dy, struct num *dw);

/* rstd [T] = 1 / sqrt(mean(x^2) + eps), y [T,D] = x * rstd * w [D]. rstd may be NULL. */
void ref_rmsnorm(size_t T, size_t D, const struct num *x, const struct num *w, double eps, struct num *y,
                 struct num *rstd);
/* With xh = x * rstd: dx [T,D] = rstd * (w * dy - xh * mean(w * dy * xh)), dw [D] += sum_t dy * xh. dw may be NULL. */
void ref_rmsnorm_backward(size_t T, size_t D, const struct num *x, const struct num *w, const struct num *dy,
                          double eps, struct num *dx, struct num *dw);

/* y [n] = a + b */
void ref_add(size_t n, const struct num *a, const struct num *b, struct num *y);

/* c [M,N] = (accumulate ? c : 0) + alpha * A B. nt: a [M,K], b [N,K]; nn: a [M,K], b [K,N]; tn: a [K,M], b [K,N]. */
void ref_gemm_nt(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c);
void ref_gemm_nn(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c);
void ref_gemm_tn(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c);

/* Grouped by rows: c [R,N] row r = (accumulate ? c : 0) + a row a_row[r] (NULL: r) times B_g, where group g has the
 * rows offset[g] <= r < offset[g + 1], g < G. nt: b [G,N,K]; nn: b [G,K,N]. */
void ref_grouped_nt(size_t G, const uint32_t *offset, size_t N, size_t K, const struct num *a, const uint32_t *a_row,
                    const struct num *b, bool accumulate, struct num *c);
void ref_grouped_nn(size_t G, const uint32_t *offset, size_t N, size_t K, const struct num *a, const uint32_t *a_row,
                    const struct num *b, bool accumulate, struct num *c);
/* Grouped by reduction: c [G,M,N] of g = (accumulate ? c : 0) + sum over its rows r of a[a_row[r], m] * b[b_row[r], n],
 * a [*,M], b [*,N]; NULL gathers mean r. A group without rows gives exact zeros. */
void ref_grouped_tn(size_t G, const uint32_t *offset, size_t M, size_t N, const struct num *a, const uint32_t *a_row,
                    const struct num *b, const uint32_t *b_row, bool accumulate, struct num *c);

/* ---- attention: ref_attention.c -------------------------------------------------------------------------------- */

/* Operands of products that are rounded to 16 bits, each by at most relative |x| + absolute, in either direction; and sums of
 * products that may cut off instead of rounding: 2u of the sum so far at each term. Nothing is said of these errors' independence:
 * what they enter has the worst case's bound alone. */
struct ref_narrow {
    double relative, absolute;
};
struct ref_heads {
    size_t B, S, H, hd; /* D = H * hd; qkv [B*S, 3D]: q, k, v, each with head h at h * hd */
    const struct ref_narrow *narrow; /* q, k, v, dout, the weights and their gradients are rounded so; NULL: they are not */
};

/* Angles position * theta^(-2i/hd), in double, rounded to f32: cos, sin [S, hd/2]. */
void ref_rope_tables(size_t S, size_t hd, double theta, float *cos_out, float *sin_out);
/* In place on q and k of qkv, v untouched: (x_i, x_{i+hd/2}) -> (x_i c - x_{i+hd/2} s, x_{i+hd/2} c + x_i s), i < hd/2.
 * `backward` rotates the other way: the gradient. */
void ref_rope(struct ref_heads heads, const struct num *cosines, const struct num *sines, bool backward,
              struct num *qkv);

/* Causal, scale 1/sqrt(hd): o [T,D], lse [T,H] (natural log; may be NULL). Online softmax over tiles is covered, of weights that
 * are rounded when they are relative to any maximum so far. */
void ref_attention(struct ref_heads heads, const struct num *qkv, struct num *o, struct num *lse);
/* dqkv [T,3D] from dout [T,D]. Recomputes the forward. */
void ref_attention_backward(struct ref_heads heads, const struct num *qkv, const struct num *dout, struct num *dqkv);

/* ---- experts: ref_gate.c, ref_moe.c ---------------------------------------------------------------------------- */

/* p [n] = softmax(x [n]) (may be NULL); returns log(sum exp x). Bounds exp(x - max) / sum, exp(x - lse) and online. */
struct num ref_softmax(size_t n, const struct num *x, struct num *p);

/* idx [T,K]: the K largest of score [T,E].v by (value descending, lower index first), in that order. */
void ref_topk(size_t T, size_t E, size_t K, const struct num *score, uint32_t *idx);
/* Could f32 arithmetic have chosen idx [T,K] from scores known to their bounds: distinct, in range, and neither the
 * order nor the set contradicted by more than the two scores' e? Exact scores admit one answer only. */
bool ref_topk_admissible(size_t T, size_t E, size_t K, const struct num *score, const uint32_t *idx);

struct ref_gate {
    size_t T, E, K;
    bool sigmoid;             /* p = 1 / (1 + exp(-z)); else softmax(z) */
    bool norm_topk;
    const struct num *bias;   /* [E] added to z where experts are compared; or NULL */
    size_t drop_top;          /* best experts that are passed over */
    double prune_below;       /* a weight below it is dropped: idx = E, g = 0 */
};

/* What experts are compared by: score [T,E] = z + bias, of exact operands rounded to f32 once, as every device does. */
void ref_scores(const struct ref_gate *gate, const struct num *z, struct num *score);
/* p [T,E]; idx [T,K] = the K that follow drop_top in ref_topk(ref_scores) unless `fixed`, when it is read; g [T,K] = p of
 * idx, divided by their sum if norm_topk, then dropped below prune_below (not where fixed: idx = E is dropped already);
 * lse [T] of a softmax (may be NULL). */
void ref_gate(const struct ref_gate *gate, bool fixed, const struct num *z, struct num *p, uint32_t *idx, struct num *g,
              struct num *lse);
/* dz [T,E] from dg [T,K] and dp_extra [T,E] (a balance loss's; may be NULL), and of z_coef * mean lse^2 (softmax), idx held
 * fixed, nothing dropped. */
void ref_gate_backward(const struct ref_gate *gate, const struct num *z, const uint32_t *idx, const struct num *dg,
                       const struct num *dp_extra, double z_coef, struct num *dz);

/* Rows sorted by expert, stable in slots t * K + k. counts [E], offset [E+1], row_of [T,K], token_of [R], slot_of [R].
 * */
void ref_dispatch(size_t T, size_t E, size_t K, const uint32_t *idx, uint32_t *counts, uint32_t *offset,
                  uint32_t *row_of, uint32_t *token_of, uint32_t *slot_of);

/* h13 [R,2F]: h1 in columns 0..F-1, h3 in F..2F-1. a [R,F] = silu(h1) * h3. */
void ref_swiglu(size_t R, size_t F, const struct num *h13, struct num *a);
/* dh13 [R,2F] from da [R,F] */
void ref_swiglu_backward(size_t R, size_t F, const struct num *h13, const struct num *da, struct num *dh13);

/* out [T,D] = sum_k g [T,K] * y [R,D] row row_of[t,k]; g NULL means 1. */
void ref_combine(size_t T, size_t D, size_t K, const uint32_t *row_of, const struct num *g, const struct num *y,
                 struct num *out);
/* dg [T,K] = <da_raw, a> of row row_of[t,k], where da_raw [R,F] = dout[token_of] W2. a [R,F]. */
void ref_gate_gradient(size_t T, size_t K, size_t F, const uint32_t *row_of, const struct num *da_raw,
                       const struct num *a, struct num *dg);

struct ref_moe {
    size_t T, D, E, K, F;
    bool norm_topk, sigmoid;
    const struct num *bias;   /* [E] or NULL */
};

struct ref_moe_weights {
    const struct num *router; /* [E,D] */
    const struct num *w13;    /* [E,2F,D]: rows 0..F-1 W1 (gate), F..2F-1 W3 (up) */
    const struct num *w2;     /* [E,D,F] */
};

/* What the layer's forward leaves; everything is owned. */
struct ref_moe_state {
    struct num *z, *p;        /* [T,E] */
    struct num *lse;          /* [T], of a softmax */
    struct num *g;            /* [T,K] */
    struct num *h13, *a, *y;  /* [R,2F], [R,F], [R,D] */
    uint32_t *idx;            /* [T,K] */
    uint32_t *counts, *offset, *row_of, *token_of, *slot_of; /* as ref_dispatch */
};

struct ref_moe_grads {
    struct num *dx;                   /* [T,D], overwritten, through router and experts */
    struct num *drouter, *dw13, *dw2; /* as the weights, added to */
};

/* out [T,D] = the layer on x [T,D]. idx [T,K] holds the chosen experts fixed; NULL: chosen here. Fills *state. */
void ref_moe_forward(const struct ref_moe *moe, const struct ref_moe_weights *w, const struct num *x,
                     const uint32_t *idx, struct ref_moe_state *state, struct num *out);
/* From dout [T,D], dp_extra [T,E] (may be NULL) and z_coef as ref_gate_backward; the choice of experts is held fixed. */
void ref_moe_backward(const struct ref_moe *moe, const struct ref_moe_weights *w, const struct num *x,
                      const struct ref_moe_state *state, const struct num *dout, const struct num *dp_extra, double z_coef,
                      const struct ref_moe_grads *grads);
void ref_moe_state_free(struct ref_moe_state *state);

/* The shared expert: w13 [2G,D], w2 [D,G]. h13 [T,2G], a [T,G] and y [T,D] += w2 (silu(h1) * h3). */
void ref_shared_forward(size_t T, size_t D, size_t G, const struct num *x, const struct num *w13, const struct num *w2,
                        struct num *h13, struct num *a, struct num *y);
/* dx [T,D] +=, dw13 +=, dw2 += from dout [T,D] and what the forward left. */
void ref_shared_backward(size_t T, size_t D, size_t G, const struct num *x, const struct num *w13, const struct num *w2,
                         const struct num *h13, const struct num *a, const struct num *dout, struct num *dx,
                         struct num *dw13, struct num *dw2);

/* ---- losses: ref_loss.c ---------------------------------------------------------------------------------------- */

#define REF_IGNORED UINT32_MAX /* a target without loss and gradient */

/* logits [T,V]: loss [T] = lse - logit[target], zloss [T] = zc * lse^2 (may be NULL), dlogits [T,V] (may be NULL) =
 * scale * (softmax * (1 + 2 zc lse) - onehot), the gradient of scale * sum(loss + zloss). */
void ref_xent(size_t T, size_t V, const struct num *logits, const uint32_t *target, double zc, double scale,
              struct num *loss, struct num *zloss, struct num *dlogits);

/* SimBal (arXiv 2506.14038): returns coef * sum_ij |(W W^T - I)_ij|, w [E,D]; dw [E,D] += 2 coef sign(W W^T - I) W (may
 * be NULL), sign(0) = 0. Where f32 cannot tell an entry's sign, dw's bound is as wide as the other sign makes it. */
struct num ref_simbal(size_t E, size_t D, double coef, const struct num *w, struct num *dw);
/* max and mean square of the entries of W W^T - I */
void ref_orthogonality(size_t E, size_t D, const struct num *w, struct num *max_abs, struct num *mean_square);

struct ref_lbl {
    size_t T, E, K;
    size_t group;             /* consecutive tokens over which f is counted together, a divisor of T */
    bool full;                /* P over all experts; else p counts as 0 outside idx */
    bool sigmoid;             /* P of q = p / sum p; else of q = p */
    double coef;
    const struct num *load;   /* [E] f from outside, for one group of all T; NULL: f_i = tokens of the group with i in
                                 idx / group */
};

/* Load-balancing loss (Fedus et al. 2022, eq. 4): coef * E * mean over tokens of sum_i f_i q_i; dp [T,E] (may be NULL) = its
 * gradient with f constant. */
struct num ref_lbl(const struct ref_lbl *lbl, const struct num *p, const uint32_t *idx, struct num *dp);

/* ---- optimizer: ref_optim.c ------------------------------------------------------------------------------------ */

/* sqrt(sum g^2) over n elements */
struct num ref_grad_norm(size_t n, const struct num *g);
/* min(1, clip / norm); 1 where clip is 0 (off) or the norm is 0 */
struct num ref_clip_factor(double clip, struct num norm);

struct ref_adamw {
    double lr, beta1, beta2, eps, weight_decay;
    double bias1, bias2;      /* 1 - beta1^step, 1 - beta2^step */
};

/* PyTorch's order: g' = factor * g; w *= 1 - lr wd; m = beta1 m + (1 - beta1) g'; v likewise with g'^2;
 * w -= lr * (m / bias1) / (sqrt(v / bias2) + eps). w, m, v [n] in place; g [n] unchanged. */
void ref_adamw(const struct ref_adamw *opt, size_t n, struct num factor, const struct num *g, struct num *w,
               struct num *m, struct num *v);

/* ---- the model: ref_model.c ------------------------------------------------------------------------------------ */

struct ref_model {
    size_t L, B, S, D, H, E, K, F, V;
    size_t G;                 /* width of the shared expert; 0: none */
    double norm_eps, rope_theta;
    bool norm_topk, sigmoid;
    bool bias;                /* of the router: REF_ROUTER_BIAS is there */
    double z_loss;
    double simbal, lbl, router_z; /* coefficients of losses that are summed over layers */
    size_t lbl_group;         /* 0: all T */
    bool lbl_full;
    const struct num *load;   /* [L,E] f of the load-balancing loss, for lbl_group 0; NULL: counted */

    /* A stack (include/vkmoe/stack.h) is a model with H = 0: no attention, no tokens; V is its width out, 0: D, without norm
     * and head. The loss is of three: mean squared error from `target`, <out, dout>, else cross-entropy. */
    size_t I;                 /* width in; 0: D, without W_in */
    const struct num *in;     /* [T,I] or [T,D] */
    const struct num *target; /* [T,V] or [T,D], or NULL */
    const struct num *dout;   /* likewise, or NULL */
};

/* A layer's, then the model's own. All parameters lie in one array: layer by layer in this order, then the last three.
 * */
enum ref_param {
    REF_ATTN_NORM, /* [D] */
    REF_QKV,       /* [3D,D] */
    REF_ATTN_OUT,  /* [D,D] */
    REF_MOE_NORM,  /* [D] */
    REF_ROUTER,    /* [E,D] */
    REF_ROUTER_BIAS, /* [E] or none; no gradient */
    REF_W13,       /* [E,2F,D] */
    REF_W2,        /* [E,D,F] */
    REF_SHARED13,  /* [2G,D] or none */
    REF_SHARED2,   /* [D,G] or none */
    REF_EMBED,     /* [V,D] */
    REF_FINAL_NORM, /* [D] */
    REF_HEAD,      /* [V,D] */
    REF_INPUT,     /* [D,I] or none */
    REF_PARAM_KINDS
};

/* Name as in the library's parameter table: "attn_norm", ..., "head". */
const char *ref_param_name(enum ref_param id);
/* Elements of one parameter; where it starts in the array (`layer` is not read for the model's own); of all. */
size_t ref_param_count(const struct ref_model *model, enum ref_param id);
size_t ref_param_offset(const struct ref_model *model, enum ref_param id, size_t layer);
size_t ref_params_total(const struct ref_model *model);

struct ref_model_out {
    struct num cross_entropy; /* mean over targets that are not ignored */
    struct num z_loss;        /* with its coefficient, likewise */
    struct num simbal, lbl;   /* with their coefficients */
    struct num router_z;      /* sum over layers and tokens of lse^2, without coefficient */
    struct num loss;          /* all together, with coefficients */
    /* Optional: the caller's arrays or NULL. */
    struct num *grad;         /* as params, of `loss`; added to */
    struct num *logits;       /* [T,V]; of a stack without head [T,D] */
    struct num *din;          /* of a stack: as in, of `loss` */
    struct num *router_logits; /* [L,T,E] */
    uint32_t *idx;            /* [L,T,K]: the chosen experts */
};

/* The model on tokens [T] and targets [T] (REF_IGNORED: none), T = B * S. idx [L,T,K] holds the choice fixed; NULL:
 * chosen. */
void ref_model_run(const struct ref_model *model, const struct num *params, const uint32_t *tokens,
                   const uint32_t *targets, const uint32_t *idx, struct ref_model_out *out);

/* ---- metrics: ref_metrics.c ------------------------------------------------------------------------------------ */

enum { REF_BINS = 16, REF_MOST_EXPERTS = 1024 };

/* Entropy in nats of p [T,E] / sum p: full [T] over all experts, topk [T] over those in idx [T,K] and their own sum, where
 * idx = E (dropped) does not count. 0 log 0 = 0, and 0 where no expert is left. */
void ref_entropy(size_t T, size_t E, size_t K, const struct num *p, const uint32_t *idx, struct num *full,
                 struct num *topk);
/* load [T / group, E] = slots of idx [T,K] that hold the expert, of `group` consecutive tokens, over `group` */
void ref_expert_load(size_t T, size_t group, size_t E, size_t K, const uint32_t *idx, struct num *load);
/* load [E] = K count [E] / sum count */
void ref_expert_load_total(size_t E, size_t K, const uint32_t *count, struct num *load);
/* Sequence-wise expert utilisation: used [groups] = experts of load [groups,E] above 0, over E */
void ref_seu(size_t groups, size_t E, const struct num *load, struct num *used);
/* bins [REF_BINS] += how many of x [n], each in [0, 1], lie in [i / 16, (i + 1) / 16); 1 counts in the last */
void ref_histogram(size_t n, const float *x, uint32_t *bins);
/* changed [T] = 1 where the sets before [T,K] and idx [T,K] differ, else 0: exactly */
void ref_routing_change(size_t T, size_t K, const uint32_t *before, const uint32_t *idx, struct num *changed);
/* Loss-free balance (Wang et al. 2024): bias [E] += rate * sign(mean of count - count [E]), sign(0) = 0; nothing if skip */
void ref_lossfree(size_t E, double rate, const uint32_t *count, bool skip, struct num *bias);
/* Pairwise expert similarity (arXiv 2506.14038): pes [T] = mean over pairs i < j of cos(rows[i,t], rows[j,t]) of exact rows
 * [E,T,D]; a row of zeros has cosine 0. Bounds the f32 evaluation by the squared norm of the sum of unit vectors too. */
void ref_pes(size_t T, size_t D, size_t E, const struct num *rows, struct num *pes);

struct ref_load {
    double max, min, cv;      /* of tokens / mean: largest, least, standard deviation */
    size_t dead;              /* experts without a token */
};
/* In double: what the host computes. */
struct ref_load ref_load(size_t E, const uint64_t *tokens);

#endif
