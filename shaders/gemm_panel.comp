#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#define COLUMNS_OUTERMOST
#include "common/gemm.glsl"
/* The product for a CPU device, C[row, col] += sum over BK of A[row, k] B[k, col] at a time: one subgroup a workgroup, an invocation
 * holds a panel of B, BK deep and TN columns wide, and goes through TM of the tile's BM rows with it. A is loaded uniformly; B, which
 * such a device loads word by word, once for all rows. A dual product has TN / 2 columns of each, and the tile in two passes. */
const uint LANES = gl_WorkGroupSize.x, PASSES = DUAL ? 2 : 1, COLUMNS = TN / PASSES;

float b[BK][TN];
float acc[TN];
uint col[COLUMNS];  /* of C; neighbours in pairs: one load of 64 bits */
bool stored[COLUMNS];
uint a_row[BK];     /* TN: where A's rows begin */
shared float partial[TM * TN * LANES]; /* sums of TM rows between one panel and the next */

/* B's elements i and i + 1, i even */
vec2 pair(uint i)
{
    if (B16)
        return load16x2(p.b, i);
#ifdef WIDE
    return load_pair(p.b, i / 2);
#else
    return vec2(p.b.v[i], p.b.v[i + 1]);
#endif
}

/* b = B's rows k.. at the invocation's columns; 0 past the end */
void load_panel(uint k)
{
    const uint step_k = VEC4 && FORM == GEMM_NT ? 2 : 1, step_col = VEC4 && FORM != GEMM_NT ? 2 : 1;
    [[unroll]] for (uint d = 0; d < BK; d += step_k) {
        uint at_k = min(k + d, max(k_end, step_k) - step_k), row = 0;
        if (FORM == GEMM_TN) {
            a_row[d] = gathered_a(at_k) * p.m;
            row = gathered_b(at_k) * p.n;
        } else if (FORM == GEMM_NN)
            row = b0 + at_k * p.n;
        [[unroll]] for (uint j = 0; j < TN; j += step_col) {
            uint c = col[j % COLUMNS], at = row + c;
            if (FORM == GEMM_NT)
                at = b0 + (j < COLUMNS ? c : p.n + c) * p.k + at_k;
            vec2 x = step_k + step_col > 2 ? pair(at) : vec2(load_b(at), 0.0);
            x = k + d < k_end ? x : vec2(0.0);
            b[d][j] = x.x;
            if (step_k > 1)
                b[d + 1][j] = x.y;
            else if (step_col > 1)
                b[d][j + 1] = x.y;
        }
    }
}

/* A[row, k .. k + 3]; past the end whatever is finite where the row is */
vec4 four_of_a(uint row, uint row_at, uint k, uint d)
{
    if (FORM == GEMM_TN)
        return vec4(load_a(a_row[d] + row), load_a(a_row[d + 1] + row), load_a(a_row[d + 2] + row), load_a(a_row[d + 3] + row));
    k += d;
    if (VEC4)
        return load_a4(row_at + min(k, p.k - 4));
    uint last = p.k - 1;
    return vec4(load_a(row_at + min(k, last)), load_a(row_at + min(k + 1, last)), load_a(row_at + min(k + 2, last)),
                load_a(row_at + min(k + 3, last)));
}

/* acc += A[row, k ..] b. LLVM orders each basic block so that it needs few registers: one column's chain of BK multiply-adds after the
 * other, each of which waits for the one before. A branch that is never taken (m > 0) ends the block after every 16; with less in it,
 * it would be no branch but a masked store, done every time. */
void multiply(uint row, uint k)
{
    uint row_at = FORM == GEMM_TN ? 0 : gathered_a(row) * p.k;
    [[unroll]] for (uint d = 0; d < BK; d += 4) {
        if (d % 16 == 0 && p.m == 0)
            [[unroll]] for (uint i = 0; i < 8; i++)
                store_c(row * 8 + i, 0.0);
        vec4 a = four_of_a(row, row_at, k, d);
        [[unroll]] for (uint j = 0; j < TN; j++)
            acc[j] = fma(a.w, b[d + 3][j], fma(a.z, b[d + 2][j], fma(a.y, b[d + 1][j], fma(a.x, b[d][j], acc[j]))));
    }
}

void finish(uint row)
{
    float dgate = 0.0;
    [[unroll]] for (uint j = 0; j < COLUMNS; j++)
        if (stored[j])
            dgate += epilogue(row, col[j], k_end > k0 ? acc[j] : 0.0, DUAL ? acc[j + COLUMNS] : 0.0);
    if (DGATE) {
        dgate = workgroup_sum(dgate);
        if (gl_SubgroupInvocationID == 0)
            p.dgate.v[dgate_at(row)] = dgate;
    }
}

void main()
{
    locate();
    for (uint pass = 0; pass < PASSES * (BM / TM); pass++) {
        uint top = row0 + pass / PASSES * TM, bottom = adds_nothing() ? top : max(min(top + TM, row_end), top);
        uint left = column_tile() * LANES * TN + pass % PASSES * LANES * COLUMNS;
        [[unroll]] for (uint j = 0; j < COLUMNS; j++) {
            col[j] = left + (j / 2 * LANES + gl_SubgroupInvocationID) * 2 + j % 2;
            stored[j] = col[j] < p.n;
            col[j] = VEC4 && FORM != GEMM_NT ? min(col[j] - j % 2, p.n - 2) + j % 2 : min(col[j], p.n - 1);
        }
        uint k = k0;
        do {
            load_panel(k);
            for (uint r = 0; r < bottom - top; r++) {
                uint row = min(top + r, row_end - 1); /* see gathered_a */
                [[unroll]] for (uint j = 0; j < TN; j++)
                    acc[j] = k > k0 ? partial[(r * TN + j) * LANES + gl_SubgroupInvocationID] : 0.0;
                multiply(row, k);
                if (k + BK >= k_end)
                    finish(row);
                else
                    [[unroll]] for (uint j = 0; j < TN; j++)
                        partial[(r * TN + j) * LANES + gl_SubgroupInvocationID] = acc[j];
            }
            k += BK;
        } while (k < k_end);
    }
}
