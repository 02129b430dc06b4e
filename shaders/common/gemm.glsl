/* What the matrix products share: which rows and columns of which group a workgroup computes, and what it does with
 * the result. The main loops are in gemm_lanes.comp, gemm_panel.comp, gemm_tiled.comp and gemm_cm.comp.
 *
 * Rows form (NT, NN): C's rows are cut into tiles of BM; of a grouped product, the tile map says which group's rows a
 * tile holds, and B is the group's. Reduction form (TN): workgroup z is the group, whose rows are summed over; not grouped, a
 * part of the sum, with a C of its own. With COLUMNS_OUTERMOST y and z change places in that form; without, an
 * expert's sum may be cut up (common/parts.glsl). */
layout(constant_id = SPEC_GEMM_FORM) const uint FORM = GEMM_NT;
layout(constant_id = SPEC_GEMM_EPILOGUE) const uint EPILOGUE = EPILOGUE_STORE;
layout(constant_id = SPEC_GEMM_GROUPED) const bool GROUPED = false;
layout(constant_id = SPEC_GEMM_VEC4) const uint ALIGNED = 0; /* VEC4_ */
const bool VEC4 = (ALIGNED & VEC4_OPERANDS) != 0, C_VEC4 = (ALIGNED & VEC4_RESULTS) != 0;
layout(constant_id = SPEC_GEMM_BM) const uint BM = 8;
layout(constant_id = SPEC_GEMM_TM) const uint TM = 8;
layout(constant_id = SPEC_GEMM_TN) const uint TN = 2;
layout(constant_id = SPEC_GEMM_BK) const uint BK = 16;
layout(constant_id = SPEC_GEMM_GATHER) const uint GATHER = GATHER_NONE;
#ifdef WITH_16 /* the variants that know 16-bit arrays */
#define SPEC_NARROW SPEC_GEMM_TYPE
layout(constant_id = SPEC_GEMM_NARROW) const uint NARROW = 0;
#include "common/narrow.glsl"
#else
const uint NARROW = 0;
vec4 widen4(uvec2 bits) { return vec4(0.0); }
uint load16_bits(F32 array, uint i) { return 0; }
uvec2 load16x4_bits(F32 array, uint i) { return uvec2(0); }
float load16(F32 array, uint i) { return 0.0; }
vec2 load16x2(F32 array, uint i) { return vec2(0.0); }
vec4 load16x4(F32 array, uint i) { return vec4(0.0); }
void store16(F32 array, uint i, float x) {}
void store16x4(F32 array, uint i, vec4 x) {}
#endif
const bool A16 = (NARROW & NARROW_A) != 0, B16 = (NARROW & NARROW_B) != 0, C16 = (NARROW & NARROW_C) != 0;
const bool DUAL = EPILOGUE == EPILOGUE_SWIGLU;
const bool DGATE = EPILOGUE == EPILOGUE_DSWIGLU && GROUPED; /* a layer without a gate has no gradient of it */
PUSH(gemm);

uint row0, row_end; /* rows of C */
uint b0;            /* first element of the group's B (NT, NN) */
uint c0;            /* first element of the group's or the part's C (TN) */
uint k0, k_end;     /* range of the sum */
bool further;       /* it is a further part of an expert's sum */

#ifdef COLUMNS_OUTERMOST
uint reduction_group() { return gl_WorkGroupID.y; }
uint column_tile() { return FORM == GEMM_TN ? gl_WorkGroupID.z : gl_WorkGroupID.y; }
void locate_rows(uint z)
{
    k0 = p.offset.v[z];
    k_end = p.offset.v[z + 1];
}
#else
#include "common/parts.glsl"
uint reduction_group() { return gl_WorkGroupID.z; }
uint column_tile() { return gl_WorkGroupID.y; }
void locate_rows(uint z)
{
    uint places = parts_places(p.k, p.part);
    rows_part x = part_at(z, places, gl_NumWorkGroups.z - places, p.k, p.part, p.offset, p.slot, p.idx);
    further = z < places;
    c0 = (further ? z : x.expert) * p.m * p.n;
    k0 = x.first;
    k_end = x.end;
}
#endif

void locate()
{
    row0 = gl_WorkGroupID.x * BM;
    row_end = min(row0 + BM, p.m);
    b0 = c0 = k0 = 0;
    k_end = p.k;
    further = false;
    if (FORM == GEMM_TN) {
        uint z = reduction_group();
        c0 = z * p.m * p.n;
        if (GROUPED)
            locate_rows(z);
        else {
            k0 = z * p.part;
            k_end = min(k0 + p.part, p.k);
        }
    } else if (GROUPED) {
        gemm_tile tile = p.tiles.v[gl_WorkGroupID.x];
        row0 = tile.row;
        row_end = min(row0 + BM, p.offset.v[tile.group + 1]);
        b0 = tile.group * p.n * p.k * (DUAL ? 2 : 1);
    }
}

/* An expert without rows, whose gradient is added to, or a place without a part: there is nothing to do. */
bool adds_nothing() { return FORM == GEMM_TN && k_end <= k0 && (further || uvec2(p.base) == uvec2(p.c)); }

/* lavapipe 26.2 loads through an address that is the same in all lanes even where no lane is active: in a branch not
 * taken, one iteration past a loop's end, in a loop inside such a place, whose counter is then undefined. So a constant
 * decides here, not an address of 0; an index that was itself loaded is brought into range; and no kernel loads through
 * a uniform address in a loop that only some lanes run. */
uint gathered_a(uint row) { return GATHER == GATHER_A ? min(p.gather.v[row], p.gather_rows - 1) : row; }
uint gathered_b(uint row) { return GATHER == GATHER_B ? min(p.gather.v[row], p.gather_rows - 1) : row; }

float load_a(uint i) { return A16 ? load16(p.a, i) : p.a.v[i]; }
float load_b(uint i) { return B16 ? load16(p.b, i) : p.b.v[i]; }
float load_c(uint i) { return C16 ? load16(p.c, i) : p.c.v[i]; }
/* Four at i, a multiple of 4. */
vec4 load_a4(uint i) { return A16 ? load16x4(p.a, i) : VEC4S(p.a).v[i / 4]; }
void store_c(uint i, float x)
{
    if (C16)
        store16(p.c, i, x);
    else
        p.c.v[i] = x;
}
void store_act(uint i, float x)
{
    if (C16)
        store16(p.act, i, x);
    else
        p.act.v[i] = x;
}

/* Of dgate: each column tile has its own row, so that threads of a CPU which compute tiles of the same rows write no line in turns. */
uint dgate_at(uint row) { return column_tile() * p.m + row; }

#ifndef REAL /* of the results that are computed at a time */
#define REAL float
#define ONE_RESULT
#endif

/* act of h1, h3 */
REAL swiglu(REAL h1, REAL h3) { return h1 / (1.0 + exp(-h1)) * h3; }

/* x = dA' = dOut W2: da = gate dA'; h1, h3 become dh1, dh3; x becomes act = gate a; returns the terms of the gate's gradient
 * <dA', a>. */
REAL dswiglu(uint row, inout REAL x, inout REAL h1, inout REAL h3)
{
    float gate = 1.0;
    if (GROUPED)
        gate = p.gate.v[min(p.slot.v[row], p.m - 1)];
    REAL s = 1.0 / (1.0 + exp(-h1)), silu = h1 * s;
    REAL da = gate * x, terms = x * silu * h3;
    x = gate * silu * h3;
    h1 = da * h3 * s * (1.0 + h1 * (1.0 - s));
    h3 = da * silu;
    return terms;
}

#ifdef ONE_RESULT
/* Stores one element of the product (two of a dual one); returns its term of the gate's gradient. */
float epilogue(uint row, uint col, float x, float x3)
{
    uint i1 = row * 2 * p.n + col, i3 = i1 + p.n; /* c = (h1 | h3), and of the backward (dh1 | dh3) */
    if (EPILOGUE == EPILOGUE_SWIGLU) {
        store_c(i1, x);
        store_c(i3, x3);
        store_act(row * p.n + col, swiglu(x, x3));
    } else if (EPILOGUE == EPILOGUE_DSWIGLU) {
        float h1 = load_c(i1), h3 = load_c(i3), term = dswiglu(row, x, h1, h3);
        store_c(i1, h1);
        store_c(i3, h3);
        store_act(row * p.n + col, x);
        return term;
    } else {
        uint i = c0 + row * p.n + col;
        store_c(i, PRESENT(p.base) ? p.base.v[i] + p.alpha * x : p.alpha * x);
    }
    return 0.0;
}
#endif
