/* The model's parameters: one table drives size, name, shape, initial value, weight decay and checkpoint key. */
#ifndef VKM_NN_PARAMS_H
#define VKM_NN_PARAMS_H

#include "gpu/memory.h"

enum vkm_init {
    VKM_INIT_ONES,
    VKM_INIT_NORMAL,                /* of standard deviation vkm_param.std */
    VKM_INIT_NORMAL_RESIDUAL,       /* likewise: what writes to the residual stream */
    VKM_INIT_ZEROS,
    VKM_INIT_ROUTER,                /* as enum vkmoe_router_init says */
};

/* The linear maps of a network that is no language model (include/vkmoe/stack.h): W_in [D,in], W_out [out,D]; 0: none. */
struct vkm_ends {
    uint32_t in, out;
};

/*       id         name         dims (the first 0: absent)  init       decay */
#define VKM_LAYER_PARAMS(P) \
    P(ATTN_NORM, "attn_norm",    A, 0, 0,              ONES,            false) /* A = D, or 0 without attention */ \
    P(QKV,       "qkv",          3 * A, D, 0,          NORMAL,          true)  /* rows: q, k, v */ \
    P(ATTN_OUT,  "attn_out",     A, D, 0,              NORMAL_RESIDUAL, true) \
    P(MOE_NORM,  "moe_norm",     D, 0, 0,              ONES,            false) \
    P(ROUTER,    "router",       E, D, 0,              ROUTER,          true) \
    P(ROUTER_BIAS, "router_bias", B, 0, 0,             ZEROS,           false) /* moved by loss-free balance alone */ \
    P(W13,       "w13",          E, 2 * F, D,          NORMAL,          true)  /* rows of an expert: W1 (gate), W3 (up) */ \
    P(W2,        "w2",           E, D, F,              NORMAL_RESIDUAL, true) \
    P(SHARED13,  "shared13",     2 * G, D, 0,          NORMAL,          true)  /* the shared expert, as w13 */ \
    P(SHARED2,   "shared2",      G ? D : 0, G, 0,      NORMAL_RESIDUAL, true)
#define VKM_MODEL_PARAMS(P) \
    P(EMBED,     "embed",        V, D, 0,              NORMAL,          true) \
    P(FINAL_NORM, "final_norm",  O ? D : 0, 0, 0,      ONES,            false) \
    P(HEAD,      "head",         O, D, 0,              NORMAL,          true)  /* O = V, or of a stack's output */ \
    P(INPUT,     "input",        I ? D : 0, I, 0,      NORMAL,          true)  /* of a stack */

#define VKM_PARAM_ENUM(id, ...) VKM_PARAM_##id,
enum vkm_param_id { VKM_LAYER_PARAMS(VKM_PARAM_ENUM) VKM_MODEL_PARAMS(VKM_PARAM_ENUM) VKM_PARAM_KINDS };
#undef VKM_PARAM_ENUM
enum { VKM_LAYER_PARAM_KINDS = VKM_PARAM_EMBED, VKM_NO_LAYER = -1 };

struct vkm_param {
    enum vkm_param_id id;
    int32_t layer;                  /* VKM_NO_LAYER for the model's own */
    char name[32];                  /* "layers.3.w13", "embed": key in optimizer.safetensors */
    uint64_t dims[3];
    uint32_t rank;
    uint64_t count;                 /* elements, f32; 0: the model does not have it */
    enum vkm_init init;
    double std;                     /* of NORMAL: 0.02; of a stack's experts 1 / sqrt(fan in). NORMAL_RESIDUAL: that over
                                       the root of how many write to the stream */
    bool decay;
    struct vkm_buf weight, grad, moment1, moment2; /* empty until vkm_params_reserve's arenas are committed */
    struct vkm_buf weight16;        /* the weight rounded to 16 bits, for matrix products; or absent */
};

/* A run of parameters that lie behind each other in memory and share `decay`: what AdamW and the norm work on. */
struct vkm_param_range {
    bool decay;
    uint64_t count;                 /* elements, with the padding between parameters (always zero) */
    struct vkm_buf weight, grad, moment1, moment2, weight16;
};

struct vkm_params {
    struct vkm_param *list;         /* layer by layer in the table's order, then the model's */
    uint32_t count;
    struct vkm_param_range *ranges;
    uint32_t range_count;
    bool trainable;                 /* gradients and moments exist */
    uint32_t type;                  /* of weight16, which the parameters with decay have; TYPE_F32: none has */
};

/* Builds the table; no device memory yet. ends: of a stack (config's heads and vocab are 0), or NULL. */
enum vkmoe_status vkm_params_create(const struct vkmoe_log *log, const struct vkmoe_model_config *config,
                                    const struct vkm_ends *ends, struct vkm_params *out);
void vkm_params_destroy(struct vkm_params *params);

/* The parameter `id` of `layer` (VKM_NO_LAYER for the model's own). Never NULL. */
struct vkm_param *vkm_params_get(const struct vkm_params *params, enum vkm_param_id id, int32_t layer);

uint64_t vkm_params_total(const struct vkm_params *params);
/* Those that one token passes through: the routed experts' share is K / E. */
uint64_t vkm_params_active(const struct vkm_params *params, const struct vkmoe_model_config *config);

/* Reserves weights (and, if trainable, gradients and moments; with a type other than TYPE_F32, 16-bit copies of matrices) in
 * `arena`, in as few ranges as `max_block` allows. */
void vkm_params_reserve(struct vkm_params *params, struct vkm_arena *arena, uint64_t max_block, bool trainable,
                        uint32_t type);
/* Call once the arena is committed: cuts the ranges into the parameters' buffers. */
void vkm_params_bind(struct vkm_params *params);

/* Makes the 16-bit copies anew, after weights were loaded or drawn. */
enum vkmoe_status vkm_params_narrow(struct vkmoe_context *ctx, const struct vkm_params *params);

/* Weights, gradients and moments zero, the padding between them too. */
enum vkmoe_status vkm_params_clear(struct vkmoe_context *ctx, const struct vkm_params *params);

/* Initial values w [p->count] of parameter number `index` of the list: what vkm_params_init uploads. false: no memory. */
bool vkm_param_draw(const struct vkm_param *p, enum vkmoe_router_init router, uint64_t seed, uint32_t index, float *w);

/* Clears them, then draws initial weights from the seed. */
enum vkmoe_status vkm_params_init(struct vkmoe_context *ctx, struct vkm_params *params, enum vkmoe_router_init router,
                                  uint64_t seed);

#endif
