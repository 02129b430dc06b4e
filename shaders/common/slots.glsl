/* Slots (t,k) in order, a lane of one subgroup each; of a kernel with PUSH(route). */
#extension GL_KHR_shader_subgroup_ballot : require

shared uint next[MAX_EXPERTS + 1]; /* what the next slot of an expert gets; the last: of those that have none */

/* Of a chunk of tokens */
uint first_slot(uint chunk) { return min(chunk * p.chunk, p.T) * p.K; }

/* Lanes before this one with the same e; none after has it. */
uint before;
bool is_last;
void compare(uint e)
{
    if (ALONE) { /* a CPU device's few lanes; its ballot goes from lane to lane */
        before = 0;
        is_last = true;
        [[unroll]] for (uint lane = 0; lane < gl_WorkGroupSize.x; lane++) {
            bool same = subgroupBroadcast(e, lane) == e;
            before += uint(same && lane < gl_SubgroupInvocationID);
            is_last = is_last && !(same && lane > gl_SubgroupInvocationID);
        }
        return;
    }
    uvec4 same = subgroupBallot(true);
    for (uint bit = 1; bit <= p.E; bit *= 2) {
        bool has = (e & bit) != 0;
        uvec4 have = subgroupBallot(has);
        same &= has ? have : ~have;
    }
    before = subgroupBallotExclusiveBitCount(same);
    is_last = subgroupBallotFindMSB(same) == gl_SubgroupInvocationID;
}

/* This lane's experts in the slots from `first` on, loaded together: each would be waited for. E: dropped, or past the end */
const uint STEPS = 4;
uint[STEPS] experts_from(uint first, uint end)
{
    uint e[STEPS];
    [[unroll]] for (uint i = 0; i < STEPS; i++) {
        uint slot = first + i * gl_WorkGroupSize.x + gl_SubgroupInvocationID;
        uint chosen = min(p.idx.v[min(slot, end - 1)], p.E);
        e[i] = slot < end ? chosen : p.E;
    }
    return e;
}

/* next[e], which goes on. */
uint take(uint e)
{
    compare(e);
    uint taken = next[e] + before;
    subgroupBarrier();
    if (is_last)
        next[e] = taken + 1;
    subgroupBarrier();
    return taken;
}

void count_slots(uint first, uint end)
{
    for (; first < end; first += STEPS * gl_WorkGroupSize.x) {
        uint e[STEPS] = experts_from(first, end);
        [[unroll]] for (uint i = 0; i < STEPS; i++)
            take(e[i]);
    }
}

/* Gives each slot its expert's next row. */
void place_slots(uint first, uint end)
{
    for (; first < end; first += STEPS * gl_WorkGroupSize.x) {
        uint e[STEPS] = experts_from(first, end);
        [[unroll]] for (uint i = 0; i < STEPS; i++) {
            uint row = take(e[i]), slot = first + i * gl_WorkGroupSize.x + gl_SubgroupInvocationID;
            if (e[i] < p.E) {
                p.row_of.v[slot] = row;
                p.token_of.v[row] = slot / p.K;
                p.slot_of.v[row] = slot;
            }
        }
    }
}
