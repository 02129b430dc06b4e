#include "train/hf.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "nn/config.h"

enum layout_id { MIXTRAL, QWEN2, GLM4, OWN, LAYOUTS };

static const struct layout {
    const char *type, *architecture;
    const char *experts, *d_expert;           /* fields */
    const char *moe, *shared;                 /* tensors: the layer's experts; in it, the shared one */
    const char *w1, *w3, *w2;
} layouts[LAYOUTS] = {
    [MIXTRAL] = {"mixtral", "MixtralForCausalLM", "num_local_experts", "intermediate_size", "block_sparse_moe", NULL,
                 "w1", "w3", "w2"},
    [QWEN2] = {"qwen2_moe", "Qwen2MoeForCausalLM", "num_experts", "moe_intermediate_size", "mlp", "shared_expert",
               "gate_proj", "up_proj", "down_proj"},
    [GLM4] = {"glm4_moe", "Glm4MoeForCausalLM", "n_routed_experts", "moe_intermediate_size", "mlp", "shared_experts",
              "gate_proj", "up_proj", "down_proj"},
    [OWN] = {"vkmoe_moe", "VkmoeMoeForCausalLM", "num_local_experts", "intermediate_size", "block_sparse_moe",
             "shared_expert", "w1", "w3", "w2"},
};

static enum layout_id layout_of(const struct vkmoe_model_config *c)
{
    if (c->router_bias)
        return OWN;
    if (c->gate == VKMOE_GATE_SOFTMAX)
        return c->norm_topk && c->d_shared == 0 ? MIXTRAL : QWEN2;
    return c->d_shared % c->d_expert == 0 ? GLM4 : OWN;
}

/* Qwen2-MoE and Glm4-MoE always have a shared expert; where the model has none it is one of zeros, of this width, and the
 * field "vkmoe_shared_expert" is false. */
static uint32_t placeholder(enum layout_id id, uint32_t d_expert)
{
    return id == QWEN2 ? 4 : id == GLM4 ? d_expert : 0;
}

/* ---- config.json --------------------------------------------------------------------------------------------- */

static json_t *number(uint32_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *common_fields(const struct vkmoe_model_config *c)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:n, s:b, s:f, s:b, s:s, s:i, s:i}",
                     "hidden_size", number(c->d_model),
                     "num_hidden_layers", number(c->layers),
                     "num_attention_heads", number(c->heads),
                     "num_key_value_heads", number(c->heads),
                     "head_dim", number(c->d_model / c->heads),
                     "num_experts_per_tok", number(c->top_k),
                     "vocab_size", number(c->vocab),
                     "max_position_embeddings", number(c->seq),
                     "rope_theta", vkm_json_float(c->rope_theta),
                     "rms_norm_eps", vkm_json_float(c->norm_eps),
                     "tie_word_embeddings", 0,
                     "hidden_act", "silu",
                     "sliding_window",
                     "output_router_logits", 0,
                     "router_aux_loss_coef", 0.0,
                     "use_cache", 1,
                     "torch_dtype", "float32",
                     "bos_token_id", VKMOE_TOKEN_END_OF_TEXT,
                     "eos_token_id", VKMOE_TOKEN_END_OF_TEXT);
}

static json_t *layout_fields(const struct vkmoe_model_config *c)
{
    enum layout_id id = layout_of(c);
    uint32_t shared = c->d_shared ? c->d_shared : placeholder(id, c->d_expert);
    switch (id) {
    case QWEN2:
        return json_pack("{s:o, s:o, s:b, s:b, s:i, s:[], s:b, s:b}",
                         "intermediate_size", number(c->d_expert),
                         "shared_expert_intermediate_size", number(shared),
                         "vkmoe_shared_expert", c->d_shared != 0,
                         "norm_topk_prob", c->norm_topk,
                         "decoder_sparse_step", 1,
                         "mlp_only_layers",
                         "qkv_bias", 1,
                         "use_sliding_window", 0);
    case GLM4:
        return json_pack("{s:o, s:o, s:b, s:b, s:i, s:i, s:f, s:i, s:b, s:b, s:f}",
                         "intermediate_size", number(c->d_expert),
                         "n_shared_experts", number(shared / c->d_expert),
                         "vkmoe_shared_expert", c->d_shared != 0,
                         "norm_topk_prob", c->norm_topk,
                         "n_group", 1,
                         "topk_group", 1,
                         "routed_scaling_factor", 1.0,
                         "first_k_dense_replace", 0,
                         "attention_bias", 0,
                         "use_qk_norm", 0,
                         "partial_rotary_factor", 1.0);
    case OWN:
        return json_pack("{s:s, s:b, s:o, s:b}",
                         "gate", c->gate == VKMOE_GATE_SOFTMAX ? "softmax" : "sigmoid",
                         "norm_topk_prob", c->norm_topk,
                         "shared_expert_intermediate_size", number(c->d_shared),
                         "router_bias", c->router_bias);
    default:
        return json_object();
    }
}

enum vkmoe_status vkm_hf_config_write(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *config)
{
    const struct layout *layout = &layouts[layout_of(config)];
    json_t *root = json_pack("{s:s, s:[s], s:o, s:o}",
                             "model_type", layout->type,
                             "architectures", layout->architecture,
                             layout->experts, number(config->experts),
                             layout->d_expert, number(config->d_expert));
    json_t *fields = layout_fields(config), *common = common_fields(config);
    char *path = vkm_path_join(dir, "config.json");
    enum vkmoe_status status;
    if (root && path && json_object_update(root, fields) == 0 && json_object_update(root, common) == 0) {
        status = vkm_json_save(log, path, root);
    } else {
        json_decref(root);
        status = vkm_fail_memory(log);
    }
    json_decref(fields);
    json_decref(common);
    free(path);
    return status;
}

static void require_real(struct vkm_json *in, const char *key, double value, const char *what)
{
    vkm_json_require(in, vkm_json_real(in, key, 0, FLT_MAX) == value, key, what);
}

/* What the layouts say in their own ways, and what their models can be that ours cannot. */
static void read_layout(struct vkm_json *in, enum layout_id id, struct vkmoe_model_config *out)
{
    uint32_t shared = 0;
    out->norm_topk = id == MIXTRAL || vkm_json_bool(in, "norm_topk_prob");
    if (id == QWEN2) {
        shared = (uint32_t)vkm_json_uint(in, "shared_expert_intermediate_size", 1, VKM_MAX_D_EXPERT);
        vkm_json_uint(in, "decoder_sparse_step", 1, 1);
    } else if (id == GLM4) {
        out->gate = VKMOE_GATE_SIGMOID;
        shared = (uint32_t)vkm_json_uint(in, "n_shared_experts", 1, VKM_MAX_D_EXPERT / out->d_expert) * out->d_expert;
        vkm_json_uint(in, "n_group", 1, 1);
        vkm_json_uint(in, "topk_group", 1, 1);
        require_real(in, "routed_scaling_factor", 1, "1");
        vkm_json_uint(in, "first_k_dense_replace", 0, 0);
        vkm_json_require(in, !vkm_json_bool(in, "attention_bias"), "attention_bias", "false");
        vkm_json_require(in, !vkm_json_bool(in, "use_qk_norm"), "use_qk_norm", "false");
        require_real(in, "partial_rotary_factor", 1, "1");
    } else if (id == OWN) {
        const char *gate = vkm_json_string(in, "gate");
        bool sigmoid = gate && strcmp(gate, "sigmoid") == 0;
        vkm_json_require(in, sigmoid || (gate && strcmp(gate, "softmax") == 0), "gate", "\"softmax\" or \"sigmoid\"");
        out->gate = sigmoid ? VKMOE_GATE_SIGMOID : VKMOE_GATE_SOFTMAX;
        out->d_shared = (uint32_t)vkm_json_uint(in, "shared_expert_intermediate_size", 0, VKM_MAX_D_EXPERT);
        out->router_bias = vkm_json_bool(in, "router_bias");
    }
    if (id == QWEN2 || id == GLM4) {
        /* Models saved before there were shared experts lack the field. */
        bool has = (id == GLM4 || vkm_json_has(in, "vkmoe_shared_expert")) && vkm_json_bool(in, "vkmoe_shared_expert");
        out->d_shared = has ? shared : 0;
        vkm_json_require(in, has || shared == placeholder(id, out->d_expert),
                         id == QWEN2 ? "shared_expert_intermediate_size" : "n_shared_experts",
                         id == QWEN2 ? "4 where \"vkmoe_shared_expert\" is not true"
                                     : "1 where \"vkmoe_shared_expert\" is false");
    }
    /* Each model has one layout, so that its tensors' names follow from the model. */
    if (in->status == VKMOE_OK && layout_of(out) != id) {
        char what[80];
        snprintf(what, sizeof what, "\"%s\" for what the other fields describe", layouts[layout_of(out)].type);
        vkm_json_require(in, false, "model_type", what);
    }
}

static void read_config(struct vkm_json *in, struct vkmoe_model_config *out)
{
    const char *type = vkm_json_string(in, "model_type");
    int id = 0;
    while (type && id < LAYOUTS && strcmp(type, layouts[id].type) != 0)
        id++;
    vkm_json_require(in, type && id < LAYOUTS, "model_type",
                     "\"mixtral\", \"qwen2_moe\", \"glm4_moe\" or \"vkmoe_moe\", as vkmoe writes it");
    if (in->status != VKMOE_OK)
        return;
    *out = (struct vkmoe_model_config){
        .layers = (uint32_t)vkm_json_uint(in, "num_hidden_layers", 1, VKM_MAX_LAYERS),
        .d_model = (uint32_t)vkm_json_uint(in, "hidden_size", 1, VKM_MAX_D_MODEL),
        .heads = (uint32_t)vkm_json_uint(in, "num_attention_heads", 1, VKM_MAX_HEADS),
        .experts = (uint32_t)vkm_json_uint(in, layouts[id].experts, 1, UINT32_MAX),
        .top_k = (uint32_t)vkm_json_uint(in, "num_experts_per_tok", 1, UINT32_MAX),
        .d_expert = (uint32_t)vkm_json_uint(in, layouts[id].d_expert, 1, VKM_MAX_D_EXPERT),
        .seq = (uint32_t)vkm_json_uint(in, "max_position_embeddings", 1, VKM_MAX_SEQ),
        .vocab = (uint32_t)vkm_json_uint(in, "vocab_size", 1, VKM_MAX_VOCAB),
        .rope_theta = (float)vkm_json_real(in, "rope_theta", 1, FLT_MAX),
        .norm_eps = (float)vkm_json_real(in, "rms_norm_eps", 0, 1),
    };
    /* Models of these types that ours cannot be. */
    if (vkm_json_has(in, "num_key_value_heads"))
        vkm_json_require(in, vkm_json_uint(in, "num_key_value_heads", 1, VKM_MAX_HEADS) == out->heads,
                         "num_key_value_heads", "equal to \"num_attention_heads\"");
    if (vkm_json_has(in, "head_dim"))
        vkm_json_require(in, vkm_json_uint(in, "head_dim", 1, VKM_MAX_D_MODEL) * out->heads == out->d_model, "head_dim",
                         "\"hidden_size\" / \"num_attention_heads\"");
    vkm_json_require(in, !vkm_json_bool(in, "tie_word_embeddings"), "tie_word_embeddings", "false");
    vkm_json_require(in, !vkm_json_has(in, "sliding_window"), "sliding_window", "null");
    read_layout(in, (enum layout_id)id, out);
}

enum vkmoe_status vkm_hf_config_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *out)
{
    json_t *root = NULL;
    char *path = vkm_path_join(dir, "config.json");
    enum vkmoe_status status = path ? vkm_json_load(log, path, &root) : vkm_fail_memory(log);
    if (status == VKMOE_OK) {
        struct vkm_json in = {.log = log, .path = path, .object = root};
        const struct vkmoe_log prefixed = vkm_json_log(&in);
        *out = (struct vkmoe_model_config){0};
        read_config(&in, out);
        status = in.status;
        if (status == VKMOE_OK && vkm_config_check(&prefixed, out, NULL) != VKMOE_OK)
            status = VKMOE_ERROR_FORMAT;
    }
    if (status != VKMOE_OK)
        *out = (struct vkmoe_model_config){0};
    json_decref(root);
    free(path);
    return status;
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

struct list {
    struct vkm_hf_tensor *items;    /* NULL while counting */
    size_t count;
    int32_t layer;
    enum layout_id id;
};

static void add(struct list *list, struct vkm_hf_tensor tensor, const char *fmt, va_list args)
{
    if (list->items) {
        size_t prefix = 0;
        if (list->layer != VKM_NO_LAYER)
            prefix = (size_t)snprintf(tensor.name, sizeof tensor.name, "model.layers.%d.", (int)list->layer);
        vsnprintf(tensor.name + prefix, sizeof tensor.name - prefix, fmt, args);
        tensor.rank = tensor.dims[1] ? 2 : 1;
        tensor.count = tensor.dims[0] * (tensor.dims[1] ? tensor.dims[1] : 1);
        tensor.layer = list->layer;
        tensor.scale = tensor.scale != 0 ? tensor.scale : 1;
        list->items[list->count] = tensor;
    }
    list->count++;
}

/* Rows [d0, d1] (d1 = 0: a vector) of a parameter, from element `first` on. */
static void slice(struct list *list, enum vkm_param_id param, uint64_t first, uint64_t d0, uint64_t d1, const char *fmt,
                  ...) VKM_PRINTF(6, 7);
static void zeros(struct list *list, uint64_t d0, uint64_t d1, const char *fmt, ...) VKM_PRINTF(4, 5);

static void slice(struct list *list, enum vkm_param_id param, uint64_t first, uint64_t d0, uint64_t d1, const char *fmt,
                  ...)
{
    va_list args;
    va_start(args, fmt);
    add(list, (struct vkm_hf_tensor){.param = param, .first = first, .dims = {d0, d1}}, fmt, args);
    va_end(args);
}

static void zeros(struct list *list, uint64_t d0, uint64_t d1, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add(list, (struct vkm_hf_tensor){.zeros = true, .dims = {d0, d1}}, fmt, args);
    va_end(args);
}

static void add_attention(struct list *list, const struct vkmoe_model_config *c)
{
    uint64_t D = c->d_model;
    for (int i = 0; i < 3; i++) {
        slice(list, VKM_PARAM_QKV, (uint64_t)i * D * D, D, D, "self_attn.%c_proj.weight", "qkv"[i]);
        if (list->id == QWEN2)
            zeros(list, D, 0, "self_attn.%c_proj.bias", "qkv"[i]);
    }
    slice(list, VKM_PARAM_ATTN_OUT, 0, D, D, "self_attn.o_proj.weight");
}

static void add_shared(struct list *list, const struct vkmoe_model_config *c)
{
    const struct layout *l = &layouts[list->id];
    uint64_t D = c->d_model, G = c->d_shared, width = placeholder(list->id, c->d_expert);
    if (G > 0) {
        slice(list, VKM_PARAM_SHARED13, 0, G, D, "%s.%s.%s.weight", l->moe, l->shared, l->w1);
        slice(list, VKM_PARAM_SHARED13, G * D, G, D, "%s.%s.%s.weight", l->moe, l->shared, l->w3);
        slice(list, VKM_PARAM_SHARED2, 0, D, G, "%s.%s.%s.weight", l->moe, l->shared, l->w2);
        /* Qwen2-MoE multiplies it by the sigmoid of a gate, which is of zeros here: by a half. */
        if (list->items && list->id == QWEN2)
            list->items[list->count - 1].scale = 2;
    } else if (width > 0) {
        zeros(list, width, D, "%s.%s.%s.weight", l->moe, l->shared, l->w1);
        zeros(list, width, D, "%s.%s.%s.weight", l->moe, l->shared, l->w3);
        zeros(list, D, width, "%s.%s.%s.weight", l->moe, l->shared, l->w2);
    }
    if (list->id == QWEN2)
        zeros(list, 1, D, "mlp.shared_expert_gate.weight");
}

static void add_experts(struct list *list, const struct vkmoe_model_config *c)
{
    const struct layout *l = &layouts[list->id];
    uint64_t D = c->d_model, F = c->d_expert;
    slice(list, VKM_PARAM_ROUTER, 0, c->experts, D, "%s.gate.weight", l->moe);
    if (c->router_bias)
        slice(list, VKM_PARAM_ROUTER_BIAS, 0, c->experts, 0, "%s.gate.bias", l->moe);
    if (list->id == GLM4)
        zeros(list, c->experts, 0, "%s.gate.e_score_correction_bias", l->moe);
    for (uint32_t e = 0; e < c->experts; e++) {
        slice(list, VKM_PARAM_W13, e * 2 * F * D, F, D, "%s.experts.%u.%s.weight", l->moe, e, l->w1);
        slice(list, VKM_PARAM_W13, (e * 2 + 1) * F * D, F, D, "%s.experts.%u.%s.weight", l->moe, e, l->w3);
        slice(list, VKM_PARAM_W2, e * D * F, D, F, "%s.experts.%u.%s.weight", l->moe, e, l->w2);
    }
    add_shared(list, c);
}

static void add_all(struct list *list, const struct vkmoe_model_config *c)
{
    uint64_t D = c->d_model;
    list->layer = VKM_NO_LAYER;
    slice(list, VKM_PARAM_EMBED, 0, c->vocab, D, "model.embed_tokens.weight");
    for (uint32_t layer = 0; layer < c->layers; layer++) {
        list->layer = (int32_t)layer;
        slice(list, VKM_PARAM_ATTN_NORM, 0, D, 0, "input_layernorm.weight");
        add_attention(list, c);
        slice(list, VKM_PARAM_MOE_NORM, 0, D, 0, "post_attention_layernorm.weight");
        add_experts(list, c);
    }
    list->layer = VKM_NO_LAYER;
    slice(list, VKM_PARAM_FINAL_NORM, 0, D, 0, "model.norm.weight");
    slice(list, VKM_PARAM_HEAD, 0, c->vocab, D, "lm_head.weight");
}

enum vkmoe_status vkm_hf_tensors(const struct vkmoe_log *log, const struct vkmoe_model_config *config,
                                 struct vkm_hf_tensor **out, size_t *count)
{
    struct list list = {.id = layout_of(config)};
    add_all(&list, config);
    *count = list.count;
    *out = list.items = calloc(list.count, sizeof *list.items);
    if (!list.items)
        return vkm_fail_memory(log);
    list.count = 0;
    add_all(&list, config);
    return VKMOE_OK;
}
