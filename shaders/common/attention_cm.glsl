/* What the attention kernels on cooperative matrices share. A workgroup has ROWS queries (for dK and dV: keys), a subgroup
 * the CM_M of them that begin at `strip`, and goes over the others, COLS at a time. Rows of q, k, v and do lie in shared memory
 * in 16 bits, the head's width filled up with zeros to whole matrices; rows past the sequence's end are zeros. Products
 * are summed in f32. Scores go through shared memory, as which invocation has which element of a matrix is the driver's secret:
 * SHARE neighbouring invocations share a row of them. */
#extension GL_KHR_shader_subgroup_basic : require
layout(constant_id = SPEC_ATTENTION_ROWS) const uint ROWS = 16;
layout(constant_id = SPEC_ATTENTION_COLS) const uint COLS = 16;
layout(constant_id = SPEC_ATTENTION_CM_M) const uint CM_M = 16;
layout(constant_id = SPEC_ATTENTION_CM_N) const uint CM_N = 16;
layout(constant_id = SPEC_ATTENTION_CM_K) const uint CM_K = 16;
#define EACH ROWS
#define SPEC_NARROW SPEC_ATTENTION_TYPE
#include "common/narrow.glsl"
#include "common/attention.glsl"
const uint UNIT = CM_N > CM_K ? CM_N : CM_K; /* both are powers of two */
const uint PADDED = (4 * WIDTH + UNIT - 1) / UNIT * UNIT, MATS = PADDED / CM_N; /* width, and matrices that make it up */
const uint VECS = PADDED / 4, STRIDE = VECS + 2; /* 4 values each; two more keep neighbouring rows off the same banks */
const uint SCORE_VECS = COLS / 4, SCORE_STRIDE = SCORE_VECS + 1, WEIGHT_STRIDE = SCORE_VECS + 2;
const uint SUBGROUP = gl_WorkGroupSize.x / (ROWS / CM_M);
const uint SHARE = SUBGROUP > CM_M ? SUBGROUP / CM_M : 1;
const uint HELD = CM_M * SHARE / SUBGROUP; /* rows of an invocation: row_of(0 .. HELD - 1) */

/* Tiles: the workgroup's own rows (OWN of ROWS), then two of the others' (COLS). */
shared uvec2 tiles[(OWN * ROWS + 2 * COLS) * STRIDE];
const uint TILE_OWN = 0, TILE_OWN2 = ROWS * STRIDE;
const uint TILE_OTHER = OWN * ROWS * STRIDE, TILE_OTHER2 = TILE_OTHER + COLS * STRIDE;
shared vec4 scores[SCORES * ROWS * SCORE_STRIDE];      /* SCORES products of own rows with others' */
shared uvec2 weights[WEIGHTS * ROWS * WEIGHT_STRIDE];  /* WEIGHTS operands made of them */
const uint SCORES2 = ROWS * SCORE_STRIDE, WEIGHTS2 = ROWS * WEIGHT_STRIDE;

#define MATRIX coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>
#define MATRIX_A coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA>
#define MATRIX_B coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB>

uint strip; /* the subgroup's first row among the workgroup's */
uint share; /* which of the SHARE */

uint row_of(uint i) { return strip + gl_SubgroupInvocationID / SHARE + i * (SUBGROUP / SHARE); }

bool locate_cm()
{
    bool some = locate();
    strip = gl_SubgroupID * CM_M;
    share = gl_SubgroupInvocationID % SHARE;
    return some;
}

float share_sum(float x)
{
    for (uint d = SHARE / 2; d > 0; d /= 2)
        x += subgroupShuffleXor(x, d);
    return x;
}
float share_max(float x)
{
    for (uint d = SHARE / 2; d > 0; d /= 2)
        x = max(x, subgroupShuffleXor(x, d));
    return x;
}

/* tile = rows [s0, s0 + rows) of q (0), k (1), v (2) or do (3). Some at once, in no branch: each load would be waited for. */
#define STAGED 4
void stage(uint tile, uint rows, uint s0, uint which)
{
    uint each = min(STAGED, (rows * VECS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x);
    for (uint first = 0; first < rows * VECS; first += each * gl_WorkGroupSize.x) {
        vec4 x[STAGED];
        [[unroll]] for (uint j = 0; j < STAGED; j++) {
            if (j >= each)
                continue;
            uint i = first + j * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
            uint s = min(s0 + i / VECS, p.S - 1), c = min(i % VECS, WIDTH - 1);
#if OWN > 1
            if (which == 3)
                x[j] = VEC4S(p.dout).v[at_o(s, c)];
            else
#endif
                x[j] = VEC4S(p.qkv).v[at(s, which, c)];
        }
        [[unroll]] for (uint j = 0; j < STAGED; j++) {
            uint i = first + j * gl_WorkGroupSize.x + gl_LocalInvocationID.x, r = i / VECS, c = i % VECS;
            if (j < each && r < rows)
                tiles[tile + r * STRIDE + c] = narrow4(s0 + r < p.S && c < WIDTH ? x[j] : vec4(0.0));
        }
    }
}

/* scores[into + ...] = the strip's rows of tile `own` times those of tile `other`, transposed */
void multiply(uint into, uint own, uint other)
{
    MATRIX sum[COLS / CM_N];
    [[unroll]] for (uint j = 0; j < COLS / CM_N; j++)
        sum[j] = MATRIX(0.0);
    for (uint kk = 0; kk < PADDED; kk += CM_K) {
        MATRIX_A a;
        coopMatLoad(a, tiles, own + strip * STRIDE + kk / 4, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0; j < COLS / CM_N; j++) {
            MATRIX_B b;
            coopMatLoad(b, tiles, other + j * CM_N * STRIDE + kk / 4, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            sum[j] = coopMatMulAdd(a, b, sum[j]);
        }
    }
    [[unroll]] for (uint j = 0; j < COLS / CM_N; j++)
        coopMatStore(sum[j], scores, into + strip * SCORE_STRIDE + j * CM_N / 4, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
}

/* acc [MATS] += the strip's rows of weights[from + ...] times tile `other`. A macro: an array of matrices as a parameter would
 * be copied */
#define ACCUMULATE(acc, from, other)                                                                                   \
    for (uint kk = 0; kk < COLS; kk += CM_K) {                                                                         \
        MATRIX_A a;                                                                                                    \
        coopMatLoad(a, weights, (from) + strip * WEIGHT_STRIDE + kk / 4, WEIGHT_STRIDE, gl_CooperativeMatrixLayoutRowMajor); \
        [[unroll]] for (uint w = 0; w < MATS; w++) {                                                                   \
            MATRIX_B b;                                                                                                \
            coopMatLoad(b, tiles, (other) + kk * STRIDE + w * CM_N / 4, STRIDE, gl_CooperativeMatrixLayoutRowMajor);   \
            acc[w] = coopMatMulAdd(a, b, acc[w]);                                                                      \
        }                                                                                                              \
    }

/* Stores acc [MATS]: `to` = `value` for each vec4 x of row s (in the sequence) at column `at_vec`, and i as in row_of(i). By way of
 * the scores' memory. */
#define STORE_ROWS(acc, to, value)                                                                                     \
    [[unroll]] for (uint w = 0; w < MATS; w++) {                                                                       \
        subgroupBarrier();                                                                                             \
        coopMatStore(acc[w], scores, strip * SCORE_STRIDE, SCORE_STRIDE, gl_CooperativeMatrixLayoutRowMajor);          \
        subgroupBarrier();                                                                                             \
        for (uint i = 0; i < HELD; i++)                                                                                \
            for (uint c = share; c < CM_N / 4; c += SHARE) {                                                           \
                uint s = first + row_of(i), at_vec = w * CM_N / 4 + c;                                                 \
                vec4 x = scores[row_of(i) * SCORE_STRIDE + c];                                                         \
                if (s < p.S && at_vec < WIDTH)                                                                         \
                    to = value;                                                                                        \
            }                                                                                                          \
    }
