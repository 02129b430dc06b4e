#include "train/hf.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "nn/config.h"

enum { SHARED_WIDTH = 4 }; /* of Qwen2-MoE's shared expert, which we do not have: all zeros */

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
    if (c->norm_topk)
        return json_pack("{s:s, s:[s], s:o, s:o}",
                         "model_type", "mixtral",
                         "architectures", "MixtralForCausalLM",
                         "num_local_experts", number(c->experts),
                         "intermediate_size", number(c->d_expert));
    return json_pack("{s:s, s:[s], s:o, s:o, s:o, s:i, s:b, s:i, s:[], s:b, s:b}",
                     "model_type", "qwen2_moe",
                     "architectures", "Qwen2MoeForCausalLM",
                     "num_experts", number(c->experts),
                     "moe_intermediate_size", number(c->d_expert),
                     "intermediate_size", number(c->d_expert),
                     "shared_expert_intermediate_size", SHARED_WIDTH,
                     "norm_topk_prob", 0,
                     "decoder_sparse_step", 1,
                     "mlp_only_layers",
                     "qkv_bias", 1,
                     "use_sliding_window", 0);
}

enum vkmoe_status vkm_hf_config_write(const struct vkmoe_log *log, const char *dir,
                                      const struct vkmoe_model_config *config)
{
    json_t *root = layout_fields(config), *common = common_fields(config);
    char *path = vkm_path_join(dir, "config.json");
    enum vkmoe_status status;
    if (root && common && path && json_object_update(root, common) == 0) {
        status = vkm_json_save(log, path, root);
    } else {
        json_decref(root);
        status = vkm_fail_memory(log);
    }
    json_decref(common);
    free(path);
    return status;
}

static void read_config(struct vkm_json *in, struct vkmoe_model_config *out)
{
    const char *type = vkm_json_string(in, "model_type");
    bool mixtral = type && strcmp(type, "mixtral") == 0;
    vkm_json_require(in, mixtral || (type && strcmp(type, "qwen2_moe") == 0), "model_type",
                     "\"mixtral\" or \"qwen2_moe\", as vkmoe writes it");
    *out = (struct vkmoe_model_config){
        .layers = (uint32_t)vkm_json_uint(in, "num_hidden_layers", 1, VKM_MAX_LAYERS),
        .d_model = (uint32_t)vkm_json_uint(in, "hidden_size", 1, VKM_MAX_D_MODEL),
        .heads = (uint32_t)vkm_json_uint(in, "num_attention_heads", 1, VKM_MAX_HEADS),
        .experts = (uint32_t)vkm_json_uint(in, mixtral ? "num_local_experts" : "num_experts", 1, UINT32_MAX),
        .top_k = (uint32_t)vkm_json_uint(in, "num_experts_per_tok", 1, UINT32_MAX),
        .d_expert = (uint32_t)vkm_json_uint(in, mixtral ? "intermediate_size" : "moe_intermediate_size", 1,
                                            VKM_MAX_D_EXPERT),
        .seq = (uint32_t)vkm_json_uint(in, "max_position_embeddings", 1, VKM_MAX_SEQ),
        .vocab = (uint32_t)vkm_json_uint(in, "vocab_size", 1, VKM_MAX_VOCAB),
        .rope_theta = (float)vkm_json_real(in, "rope_theta", 1, FLT_MAX),
        .norm_eps = (float)vkm_json_real(in, "rms_norm_eps", 0, 1),
        .norm_topk = mixtral,
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
    if (mixtral)
        return;
    vkm_json_require(in, !vkm_json_bool(in, "norm_topk_prob"), "norm_topk_prob", "false");
    vkm_json_uint(in, "shared_expert_intermediate_size", SHARED_WIDTH, SHARED_WIDTH);
    vkm_json_uint(in, "decoder_sparse_step", 1, 1);
}

enum vkmoe_status vkm_hf_config_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *out)
{
    json_t *root = NULL;
    char *path = vkm_path_join(dir, "config.json");
    enum vkmoe_status status = path ? vkm_json_load(log, path, &root) : vkm_fail_memory(log);
    if (status == VKMOE_OK) {
        struct vkm_json in = {.log = log, .path = path, .object = root};
        const struct vkmoe_log prefixed = vkm_json_log(&in);
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
        if (!c->norm_topk)
            zeros(list, D, 0, "self_attn.%c_proj.bias", "qkv"[i]);
    }
    slice(list, VKM_PARAM_ATTN_OUT, 0, D, D, "self_attn.o_proj.weight");
}

static void add_experts(struct list *list, const struct vkmoe_model_config *c)
{
    const char *moe = c->norm_topk ? "block_sparse_moe" : "mlp";
    const char *w1 = c->norm_topk ? "w1" : "gate_proj", *w2 = c->norm_topk ? "w2" : "down_proj";
    const char *w3 = c->norm_topk ? "w3" : "up_proj";
    uint64_t D = c->d_model, F = c->d_expert;
    slice(list, VKM_PARAM_ROUTER, 0, c->experts, D, "%s.gate.weight", moe);
    for (uint32_t e = 0; e < c->experts; e++) {
        slice(list, VKM_PARAM_W13, e * 2 * F * D, F, D, "%s.experts.%u.%s.weight", moe, e, w1);
        slice(list, VKM_PARAM_W13, (e * 2 + 1) * F * D, F, D, "%s.experts.%u.%s.weight", moe, e, w3);
        slice(list, VKM_PARAM_W2, e * D * F, D, F, "%s.experts.%u.%s.weight", moe, e, w2);
    }
    if (c->norm_topk)
        return;
    zeros(list, SHARED_WIDTH, D, "mlp.shared_expert.gate_proj.weight");
    zeros(list, SHARED_WIDTH, D, "mlp.shared_expert.up_proj.weight");
    zeros(list, D, SHARED_WIDTH, "mlp.shared_expert.down_proj.weight");
    zeros(list, 1, D, "mlp.shared_expert_gate.weight");
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
    struct list list = {0};
    add_all(&list, config);
    *count = list.count;
    *out = list.items = calloc(list.count, sizeof *list.items);
    if (!list.items)
        return vkm_fail_memory(log);
    list.count = 0;
    add_all(&list, config);
    return VKMOE_OK;
}
