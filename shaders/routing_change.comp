#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* changed[t] = 1 where idx[t] and before[t] are not the same set; then before[t] = idx[t]. An invocation a token. Both ways
 * are looked at: dropped experts (idx = E) may be several, so the sets of K slots differ in size. */
PUSH(routing_change);

void main()
{
    uint t = invocation_index();
    if (t >= p.T)
        return;
    uint slot = t * p.K;
    bool changed = false;
    for (uint k = 0; k < p.K; k++) {
        bool kept = false, came = true;
        for (uint j = 0; j < p.K; j++) {
            kept = kept || p.idx.v[slot + j] == p.before.v[slot + k];
            came = came && p.before.v[slot + j] != p.idx.v[slot + k];
        }
        changed = changed || !kept || came;
    }
    for (uint k = 0; k < p.K; k++)
        p.before.v[slot + k] = p.idx.v[slot + k];
    p.changed.v[t] = changed ? 1.0 : 0.0;
}
