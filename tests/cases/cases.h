/* The awkward shapes that the tests, the self-test and the benchmark share, and what fills them: 1, primes, tile sizes
 * and their neighbours, reductions that are no multiple of 4, experts without rows, tied scores. Letters as in
 * oracle/oracle.h. A parameter of a test is an index into a table: CASE_COUNT(case_gemms).
 *
 * What a table ..._large holds goes on where that one ends (CASE_AT): a few shapes as models have them, which take too long
 * for every run of the tests. `vkmoe selftest` has the time. */
#ifndef VKM_CASES_H
#define VKM_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CASE_COUNT(table) (sizeof(table) / sizeof *(table))
#define CASE_AT(table, index) ((index) < CASE_COUNT(table) ? &table[index] : &table##_large[(index) - CASE_COUNT(table)])

/* ---- data: cases.c ---------------------------------------------------------------------------------------------- */

/* x [n] uniform in [-scale, scale], the same for the same seed anywhere. */
void case_fill(float *x, size_t n, uint64_t seed, float scale);
/* x [n] one of -1, -0.5, 0, 0.5, 1: many equal values. */
void case_fill_tied(float *x, size_t n, uint64_t seed);
/* x [n] uniform in [0, below). */
void case_fill_indices(uint32_t *x, size_t n, uint64_t seed, uint32_t below);
/* The i-th of case_fill, of case_fill_indices. */
float case_value(uint64_t seed, uint64_t i, float scale);
uint32_t case_index(uint64_t seed, uint64_t i, uint32_t below);

enum case_routing {
    CASE_BALANCED,     /* as even as T * K / E allows */
    CASE_RANDOM,
    CASE_SKEWED,       /* low experts far more often than high ones */
    CASE_EMPTY,        /* the middle expert gets nothing (where K < E) */
    CASE_ONE,          /* every token takes the same K experts, the last one first */
};

/* idx [T,K]: K distinct experts for every token, K <= E. */
void case_route(enum case_routing routing, size_t T, size_t E, size_t K, uint64_t seed, uint32_t *idx);
const char *case_routing_name(enum case_routing routing);

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

struct case_gemm {
    uint32_t M, N, K;
};
static const struct case_gemm case_gemms[] = {
    {1, 1, 1}, {1, 1, 67}, {1, 67, 1}, {67, 1, 1}, {1, 64, 64}, {64, 1, 64}, {64, 64, 1},
    {2, 3, 5}, {7, 13, 31}, {13, 31, 7}, {31, 7, 13}, {67, 31, 13}, {13, 67, 31},
    {7, 7, 7}, {8, 8, 8}, {9, 9, 9}, {15, 17, 16}, {16, 16, 16}, {17, 15, 33},
    {31, 33, 32}, {32, 32, 32}, {33, 31, 30}, {63, 65, 64}, {64, 64, 64}, {65, 63, 62}, {65, 65, 65},
    {64, 64, 4}, {32, 64, 6}, {48, 40, 36}, {128, 8, 20}, {8, 128, 20}, {127, 129, 61},
    {4, 4, 1000}, {1, 257, 96}, {200, 300, 100}, {192, 256, 128}, {8, 12, 4099}, {40, 24, 1032},
};
static const struct case_gemm case_gemms_large[] = {{512, 384, 640}};

/* T tokens to K of E experts; C [T*top_k, N] = A [T, K] by the expert's B [N, K]. */
struct case_grouped {
    uint32_t T, N, K, E, top_k;
    enum case_routing routing;
};
static const struct case_grouped case_groupeds[] = {
    {1, 1, 1, 1, 1, CASE_ONE},         {1, 13, 7, 4, 1, CASE_ONE},        {1, 16, 16, 8, 2, CASE_RANDOM},
    {7, 13, 31, 5, 2, CASE_RANDOM},    {7, 8, 12, 3, 3, CASE_RANDOM},     {13, 31, 7, 4, 4, CASE_BALANCED},
    {16, 16, 16, 4, 1, CASE_BALANCED}, {31, 33, 20, 8, 2, CASE_BALANCED}, {32, 32, 32, 4, 2, CASE_ONE},
    {33, 24, 28, 7, 3, CASE_SKEWED},   {64, 64, 64, 8, 2, CASE_EMPTY},    {65, 65, 33, 3, 1, CASE_EMPTY},
    {63, 17, 62, 2, 1, CASE_ONE},      {67, 40, 36, 16, 4, CASE_SKEWED},  {100, 12, 8, 64, 2, CASE_RANDOM},
    {128, 64, 32, 8, 2, CASE_RANDOM},  {128, 96, 64, 32, 4, CASE_SKEWED}, {200, 48, 64, 6, 2, CASE_EMPTY},
    {96, 32, 48, 1, 1, CASE_BALANCED}, {50, 20, 24, 200, 8, CASE_RANDOM},  {193, 20, 12, 4, 4, CASE_RANDOM},
    {1100, 20, 12, 2, 2, CASE_SKEWED},  {1100, 32, 16, 3, 2, CASE_SKEWED}, /* tiles of many rows, see vkm_lanes_rows */
    {1536, 12, 16, 5, 2, CASE_ONE},    {2100, 16, 7, 4, 2, CASE_SKEWED}, /* sums in several parts, see vkm_gemm_partial_routed */
};
static const struct case_grouped case_groupeds_large[] = {{1000, 96, 128, 16, 2, CASE_SKEWED}};
/* More slots than ROUTE_ALONE_SLOTS. */
static const struct case_grouped case_routes_many[] = {
    {2049, 4, 4, 7, 4, CASE_SKEWED}, {2100, 4, 4, 5, 4, CASE_RANDOM}, {2200, 4, 4, 1024, 4, CASE_SKEWED}};

struct case_norm {
    uint32_t T, D;
};
static const struct case_norm case_norms[] = {
    {1, 1}, {1, 4}, {1, 67}, {7, 1}, {3, 5}, {13, 31}, {31, 32}, {33, 33}, {8, 63}, {8, 64}, {8, 65},
    {5, 127}, {5, 128}, {5, 129}, {2, 255}, {2, 256}, {3, 257}, {2, 1000}, {1, 1536}, {257, 12}, {600, 16},
};
static const struct case_norm case_norms_large[] = {{2048, 768}};

struct case_attention {
    uint32_t B, S, H, hd;
};
static const struct case_attention case_attentions[] = {
    {1, 1, 1, 4},  {2, 1, 2, 8},   {1, 7, 1, 4},   {2, 7, 3, 12},  {3, 5, 2, 32},  {1, 31, 2, 8},  {2, 32, 1, 12},
    {1, 33, 2, 4}, {1, 64, 2, 32}, {2, 65, 1, 12}, {1, 65, 2, 64}, {1, 31, 2, 64}, {1, 64, 1, 96}, {1, 65, 1, 96},
    {1, 7, 2, 128}, {1, 65, 1, 128}, {1, 17, 1, 256}, {1, 130, 1, 16}, {4, 16, 4, 8},
};
static const struct case_attention case_attentions_large[] = {{1, 515, 2, 64}};
/* Each width is three more kernels to compile. */
static const struct case_attention case_narrow_attentions[] = {
    {1, 1, 1, 8}, {2, 7, 3, 8}, {2, 33, 1, 8}, {1, 130, 1, 8}, {1, 1, 1, 20}, {2, 47, 2, 20}, {1, 65, 2, 64},
};
static const struct case_attention case_narrow_attentions_large[] = {{1, 515, 2, 64}, {1, 33, 1, 128}, {1, 17, 1, 256}};

enum case_scores {
    CASE_SCORES_RANDOM,
    CASE_SCORES_TIED,  /* case_fill_tied */
    CASE_SCORES_EQUAL, /* all zero */
    CASE_SCORES_WIDE,  /* in [-60, 60] */
};
struct case_gate {
    uint32_t T, E, K;
    enum case_scores scores;
};
static const struct case_gate case_gates[] = {
    {1, 1, 1, CASE_SCORES_RANDOM},  {7, 1, 1, CASE_SCORES_RANDOM},    {1, 2, 1, CASE_SCORES_RANDOM},
    {5, 2, 2, CASE_SCORES_RANDOM},  {13, 4, 2, CASE_SCORES_RANDOM},   {31, 7, 3, CASE_SCORES_RANDOM},
    {33, 8, 2, CASE_SCORES_TIED},   {64, 8, 8, CASE_SCORES_TIED},     {65, 16, 4, CASE_SCORES_EQUAL},
    {17, 31, 5, CASE_SCORES_RANDOM}, {20, 32, 4, CASE_SCORES_TIED},   {20, 33, 4, CASE_SCORES_WIDE},
    {9, 64, 8, CASE_SCORES_RANDOM}, {9, 65, 8, CASE_SCORES_WIDE},     {7, 128, 16, CASE_SCORES_TIED},
    {11, 200, 8, CASE_SCORES_RANDOM}, {3, 200, 16, CASE_SCORES_EQUAL}, {257, 8, 2, CASE_SCORES_RANDOM},
    {1000, 4, 1, CASE_SCORES_TIED}, {6, 5, 5, CASE_SCORES_WIDE},
};
static const struct case_gate case_gates_large[] = {{2048, 64, 8, CASE_SCORES_RANDOM}};
/* z [T,E] */
void case_fill_scores(float *z, const struct case_gate *shape, uint64_t seed);

enum case_targets { CASE_TARGETS_ALL, CASE_TARGETS_SOME, CASE_TARGETS_NONE }; /* how many count */
struct case_xent {
    uint32_t T, V;
    enum case_targets targets;
    float scale; /* of the logits: case_fill */
};
static const struct case_xent case_xents[] = {
    {1, 1, CASE_TARGETS_ALL, 1},     {1, 2, CASE_TARGETS_ALL, 1},      {7, 13, CASE_TARGETS_SOME, 4},
    {5, 31, CASE_TARGETS_ALL, 30},   {8, 64, CASE_TARGETS_SOME, 1},    {9, 65, CASE_TARGETS_ALL, 4},
    {31, 257, CASE_TARGETS_ALL, 4},  {33, 257, CASE_TARGETS_SOME, 4},  {4, 257, CASE_TARGETS_NONE, 4},
    {3, 255, CASE_TARGETS_ALL, 80},  {3, 1000, CASE_TARGETS_ALL, 1},   {2, 1025, CASE_TARGETS_SOME, 10},
    {100, 5, CASE_TARGETS_SOME, 2},
};
static const struct case_xent case_xents_large[] = {{500, 4099, CASE_TARGETS_SOME, 4}};
/* target [T] below V, UINT32_MAX where ignored */
void case_fill_targets(uint32_t *target, const struct case_xent *shape, uint64_t seed);

/* Lengths of flat arrays: element-wise kernels, AdamW, norms. */
static const uint32_t case_lengths[] = {1, 3, 4, 7, 31, 63, 64, 65, 127, 255, 256, 257, 1000, 1023, 1025, 4099, 100003};
static const uint32_t case_lengths_large[] = {400009};

struct case_embed {
    uint32_t T, V, D;
};
static const struct case_embed case_embeds[] = {
    {1, 1, 4}, {7, 3, 5}, {31, 257, 12}, {64, 5, 32}, {100, 1, 8}, {65, 257, 64}, {200, 30, 20}, {40, 2, 1027},
};
static const struct case_embed case_embeds_large[] = {{4096, 257, 256}, {2048, 6000, 64}};

struct case_router {
    uint32_t E, D;
    bool orthonormal; /* rows start orthonormal: entries of W W^T - I near zero */
};
static const struct case_router case_routers[] = {
    {1, 1, false}, {1, 4, true}, {2, 3, false}, {4, 32, true}, {5, 13, false}, {8, 64, true}, {7, 7, true},
    {31, 12, false}, {32, 48, true}, {40, 128, true}, {64, 65, false}, {200, 16, false},
};
/* w [E,D]: random, or with orthonormal rows (Gram-Schmidt in double, rounded to f32). */
void case_fill_router(float *w, const struct case_router *shape, uint64_t seed);

/* One layer of experts: D and F are multiples of 4 as the library asks. */
struct case_moe {
    uint32_t T, D, E, K, F;
    enum case_routing routing;
    bool norm_topk;
};
static const struct case_moe case_moes[] = {
    {1, 4, 1, 1, 4, CASE_ONE, true},      {1, 8, 4, 2, 12, CASE_RANDOM, false}, {7, 12, 3, 3, 20, CASE_RANDOM, true},
    {16, 16, 4, 1, 16, CASE_ONE, false},  {33, 32, 4, 2, 16, CASE_EMPTY, true}, {65, 36, 8, 2, 28, CASE_SKEWED, false},
    {40, 20, 32, 4, 8, CASE_RANDOM, true}, {64, 64, 8, 2, 64, CASE_BALANCED, true},
    {63, 12, 4, 4, 8, CASE_RANDOM, false}, {193, 24, 6, 2, 20, CASE_SKEWED, true},
};
static const struct case_moe case_moes_large[] = {{500, 128, 16, 2, 96, CASE_SKEWED, true}};

/* Whole models. */
struct case_model {
    uint32_t L, B, S, D, H, E, K, F, V;
    bool norm_topk;
};
static const struct case_model case_models[] = {
    {1, 1, 1, 4, 1, 1, 1, 4, 3, true},     {1, 1, 7, 8, 2, 2, 1, 4, 13, false}, {2, 2, 8, 32, 2, 4, 2, 16, 64, true},
    {2, 1, 33, 24, 2, 5, 3, 12, 257, false}, {3, 2, 5, 16, 4, 4, 4, 8, 31, true},
    {1, 3, 17, 36, 3, 8, 2, 20, 67, false},
};

/* What is measured: outputs of all E experts on T tokens. Orthogonal outputs need D >= E. */
struct case_outputs {
    uint32_t T, D, E;
};
static const struct case_outputs case_outputs[] = {
    {1, 1, 1},    {3, 67, 1},   {5, 1, 2},    {5, 3, 2},     {4, 256, 2},   {7, 67, 3},  {3, 7, 5},     {2, 256, 7},
    {31, 67, 13}, {5, 129, 31}, {2, 67, 67},  {3, 1, 128},   {2, 3, 128},   {2, 67, 128}, {3, 256, 128}, {1, 3, 1024},
};

/* Numbers of experts, for kernels that loop over them. */
static const uint32_t case_experts[] = {1, 2, 3, 7, 8, 31, 64, 65, 128, 200, 257, 1024};

#endif
