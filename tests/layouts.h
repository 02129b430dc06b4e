/* A small model of every layout in which one is saved. */
#ifndef LAYOUTS_H
#define LAYOUTS_H

#include <vkmoe/vkmoe.h>

enum { LAYOUTS = 11 };
static const struct layout_case {
    const char *type;
    bool norm_topk, router_bias;
    enum vkmoe_gate gate;
    uint32_t d_shared;
    unsigned zeros, slices;         /* tensors of a layer beside attention's four, norms, router and experts: zeros; others */
} layout_cases[LAYOUTS] = {
    {"mixtral", true, false, VKMOE_GATE_SOFTMAX, 0, 0, 0},
    {"qwen2_moe", false, false, VKMOE_GATE_SOFTMAX, 0, 7, 0},
    {"qwen2_moe", false, false, VKMOE_GATE_SOFTMAX, 4, 4, 3},
    {"qwen2_moe", true, false, VKMOE_GATE_SOFTMAX, 20, 4, 3},
    {"glm4_moe", true, false, VKMOE_GATE_SIGMOID, 0, 4, 0},
    {"glm4_moe", false, false, VKMOE_GATE_SIGMOID, 12, 1, 3},
    {"glm4_moe", true, false, VKMOE_GATE_SIGMOID, 24, 1, 3},
    {"vkmoe_moe", true, false, VKMOE_GATE_SIGMOID, 20, 0, 3},
    {"vkmoe_moe", true, true, VKMOE_GATE_SOFTMAX, 0, 0, 1},
    {"vkmoe_moe", false, true, VKMOE_GATE_SOFTMAX, 12, 0, 4},
    {"vkmoe_moe", false, true, VKMOE_GATE_SIGMOID, 8, 0, 4},
};

static inline struct vkmoe_model_config layout_model(int i)
{
    const struct layout_case *c = &layout_cases[i];
    return (struct vkmoe_model_config){.layers = 2, .d_model = 24, .heads = 3, .experts = 5, .top_k = 2, .d_expert = 12,
                                       .seq = 16, .vocab = 264, .rope_theta = 1e4f, .norm_eps = 1e-5f,
                                       .norm_topk = c->norm_topk, .gate = c->gate, .d_shared = c->d_shared,
                                       .router_bias = c->router_bias};
}

static inline bool same_model(const struct vkmoe_model_config *a, const struct vkmoe_model_config *b)
{
    return a->layers == b->layers && a->d_model == b->d_model && a->heads == b->heads && a->experts == b->experts &&
           a->top_k == b->top_k && a->d_expert == b->d_expert && a->seq == b->seq && a->vocab == b->vocab &&
           a->rope_theta == b->rope_theta && a->norm_eps == b->norm_eps && a->norm_topk == b->norm_topk &&
           a->gate == b->gate && a->d_shared == b->d_shared && a->router_bias == b->router_bias;
}

#endif
