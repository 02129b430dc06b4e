#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#define REAL vec2
#define COLUMNS_OUTERMOST
#include "common/gemm.glsl"
#include "common/lanes_wide.glsl"
/* The product as gemm_panel computes it, where loads of whole vectors are faster than gathers (common/lanes.glsl): one subgroup a
 * workgroup, which keeps a panel of B, BK deep and TN vectors wide, and goes through the tile's BM rows with it, TM at a time: TM * TN
 * sums are eight or more, so many multiply-adds are under way at once. Between one panel and the next the sums lie where the result
 * will. Of a dual product half the vectors are of the second B. */
layout(constant_id = SPEC_GEMM_BN) const uint BN = 64;
layout(constant_id = SPEC_GEMM_BASE) const uint BASE = BASE_NONE;
const uint COLUMNS = DUAL ? TN / 2 : TN, STRIP = COLUMNS * LANES;
const bool WHOLE = VEC4; /* the sum is a whole number of panels */

layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer ARow { float v[]; }; /* from any place */

float b[BK][TN];
float acc[TM][TN];
uint left;          /* first column of the panel */
uint64_t a_row[BK]; /* TN: where A's rows begin */

/* b = B's rows k.. at the panel's columns; 0 past the end */
void load_panel(uint k)
{
    uint last = max(k_end, 1) - 1, zero = p.m >> 31;
    if (FORM == GEMM_NT)
        [[unroll]] for (uint j = 0; j < TN; j++)
            [[unroll]] for (uint d = 0; d < BK; d += LANES) {
                uint col = left + j % COLUMNS * LANES + (j < COLUMNS ? 0 : p.n), at = b0 + col * p.k + min(k + d, p.k - LANES);
                float x[LANES];
                [[unroll]] for (uint i = 0; i < LANES; i++)
                    x[i] = load_lanes(address_of(p.b, at + i * p.k), 0);
                transpose_lanes(x, zero);
                [[unroll]] for (uint i = 0; i < LANES; i++)
                    b[d + i][j] = k + d < k_end ? x[i] : 0.0;
            }
    else
        [[unroll]] for (uint d = 0; d < BK; d++) {
            uint at_k = min(k + d, last), row = b0 + at_k * p.n;
            if (FORM == GEMM_TN) {
                a_row[d] = address_of(p.a, gathered_a(at_k) * p.m);
                row = gathered_b(at_k) * p.n;
            }
            [[unroll]] for (uint j = 0; j < TN; j += 2) {
                vec2 x = load_lanes2(p.b, row + left + j * LANES);
                b[d][j] = k + d < k_end ? x.x : 0.0;
                b[d][j + 1] = k + d < k_end ? x.y : 0.0;
            }
        }
}

/* acc[i] = A[rows[i], k ..] b, where A is past the end whatever is finite there. A branch that is never taken (m > 0) ends a block of
 * instructions, as in gemm_panel. One that takes the sums keeps them before it: LLVM moves them to the stores, two at a time, each
 * term waiting for the one before (TN; with the fewer sums of rows there is little to gain). */
void multiply(uint rows[TM], uint k)
{
    uint row_at[TM], first_row = rows[0];
    uint64_t whole_at[TM];
    [[unroll]] for (uint i = 0; i < TM; i++) {
        row_at[i] = FORM == GEMM_TN ? 0 : gathered_a(rows[i]) * p.k;
        whole_at[i] = address_of(p.a, row_at[i] + min(k, p.k - BK));
        [[unroll]] for (uint j = 0; j < TN; j++)
            acc[i][j] = 0.0;
    }
    [[unroll]] for (uint d = 0; d < BK; d += 4) {
        if (d % 16 == 0 && p.m == 0)
            [[unroll]] for (uint i = 0; i < 8; i++)
                store_c(rows[0] * 8 + i, 0.0);
        [[unroll]] for (uint i = 0; i < TM; i++) {
            vec4 a;
            [[unroll]] for (uint e = 0; e < 4; e++)
                a[e] = FORM == GEMM_TN ? ARow(a_row[d + e] + first_row * 4).v[i]
                       : WHOLE ? ARow(whole_at[i]).v[d + e] : p.a.v[row_at[i] + min(k + d, p.k - 4) + e];
            [[unroll]] for (uint j = 0; j < TN; j++)
                acc[i][j] = fma(a.w, b[d + 3][j], fma(a.z, b[d + 2][j], fma(a.y, b[d + 1][j], fma(a.x, b[d][j], acc[i][j]))));
        }
    }
    if (FORM == GEMM_TN && p.m == 0)
        [[unroll]] for (uint i = 0; i < TM; i++)
            [[unroll]] for (uint j = 0; j < TN; j++)
                store_c(rows[0] + i * TN + j, acc[i][j]);
}

vec2 result[TM][COLUMNS / 2], second[TM][COLUMNS / 2], act[TM][COLUMNS / 2];
float dgate[TM];

/* The sums with what earlier panels left. That is loaded for the first panel too, and so is act: it brings the lines before the stores
 * want them. alpha is loaded after it because that is a branch between these loads and the stores' shuffles: see lanes.glsl. */
void take_sums(uint rows[TM], bool first)
{
    vec2 before[TM][COLUMNS / 2], before2[TM][COLUMNS / 2];
    [[unroll]] for (uint i = 0; i < TM; i++)
        [[unroll]] for (uint j = 0; j < COLUMNS / 2; j++) {
            uint at = left + 2 * j * LANES, to = c0 + rows[i] * p.n + at, i1 = rows[i] * 2 * p.n + at;
            if (BASE == BASE_OTHER)
                before[i][j] = load_lanes2(F32(first ? uvec2(p.base) : uvec2(p.c)), to);
            else if (EPILOGUE == EPILOGUE_STORE) /* no address that depends on the panel: lavapipe would pass it through memory */
                before[i][j] = load_lanes2(p.c, to);
            else if (EPILOGUE == EPILOGUE_DSWIGLU)
                before[i][j] = load_lanes2(p.act, to);
            else {
                before[i][j] = load_lanes2(p.c, i1);
                before2[i][j] = load_lanes2(p.c, i1 + p.n);
                act[i][j] = load_lanes2(p.act, to);
            }
        }
    float alpha = p.alpha;
    [[unroll]] for (uint i = 0; i < TM; i++)
        [[unroll]] for (uint j = 0; j < COLUMNS / 2; j++) {
            result[i][j] = vec2(acc[i][2 * j], acc[i][2 * j + 1]);
            if (EPILOGUE == EPILOGUE_STORE)
                result[i][j] = k_end > k0 ? alpha * result[i][j] : vec2(0.0);
            result[i][j] += BASE == BASE_NONE && first ? vec2(0.0) : before[i][j];
            if (DUAL)
                second[i][j] = vec2(acc[i][2 * j + COLUMNS], acc[i][2 * j + 1 + COLUMNS]) + (first ? vec2(0.0) : before2[i][j]);
        }
}

/* Makes results of the whole sums. */
void finish(uint i, uint row)
{
    dgate[i] = 0.0;
    [[unroll]] for (uint j = 0; j < COLUMNS / 2; j++) {
        uint i1 = row * 2 * p.n + left + 2 * j * LANES;
        if (EPILOGUE == EPILOGUE_SWIGLU)
            act[i][j] = p.m == 0 ? act[i][j] : swiglu(result[i][j], second[i][j]); /* never: else its load would be left out */
        else if (EPILOGUE == EPILOGUE_DSWIGLU) {
            act[i][j] = result[i][j];
            result[i][j] = load_lanes2(p.c, i1);
            second[i][j] = load_lanes2(p.c, i1 + p.n);
            vec2 terms = dswiglu(row, act[i][j], result[i][j], second[i][j]);
            dgate[i] += terms.x + terms.y;
        }
    }
    if (DGATE) {
        dgate[i] = workgroup_sum(dgate[i]);
        if (left > column_tile() * BN)
            dgate[i] += p.dgate.v[dgate_at(row)];
    }
}

void store(uint i, uint row, bool last)
{
    [[unroll]] for (uint j = 0; j < COLUMNS / 2; j++) {
        uint at = left + 2 * j * LANES, i1 = row * 2 * p.n + at;
        if (EPILOGUE == EPILOGUE_STORE)
            store_lanes2(p.c, c0 + row * p.n + at, result[i][j]);
        else {
            if (EPILOGUE == EPILOGUE_SWIGLU || last) {
                store_lanes2(p.c, i1, result[i][j]);
                store_lanes2(p.c, i1 + p.n, second[i][j]);
            }
            if (EPILOGUE == EPILOGUE_DSWIGLU || last)
                store_lanes2(p.act, row * p.n + at, last ? act[i][j] : result[i][j]);
        }
    }
    if (DGATE && last && gl_SubgroupInvocationID == 0)
        p.dgate.v[dgate_at(row)] = dgate[i];
}

void main()
{
    locate();
    uint tile = column_tile(), right = adds_nothing() ? 0 : min((tile + 1) * BN, p.n);
    for (uint strip = tile * BN; strip < right; strip += STRIP) {
        left = min(strip, p.n - STRIP); /* see gathered_a */
        uint k = k0;
        do {
            load_panel(k);
            bool first = k == k0, last = k + BK >= k_end;
            for (uint r = row0; r < row_end; r += TM) {
                uint rows[TM]; /* the last one again where there are no more: no branch, which LLVM would move their sums into */
                [[unroll]] for (uint i = 0; i < TM; i++)
                    rows[i] = FORM == GEMM_TN ? min(r, row_end - TM) + i : min(r + i, row_end - 1);
                multiply(rows, k);
                take_sums(rows, first);
                if (EPILOGUE != EPILOGUE_STORE && last)
                    [[unroll]] for (uint i = 0; i < TM; i++)
                        finish(i, rows[i]);
                [[unroll]] for (uint i = 0; i < TM; i++)
                    store(i, rows[i], last);
            }
            k += BK;
        } while (k < k_end);
    }
}
