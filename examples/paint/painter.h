/* The network, the arrays around it and the commands of a frame. Functions that return false have said
 * why on stderr. */
#ifndef PAINT_PAINTER_H
#define PAINT_PAINTER_H

#include "gpu.h"
#include "image.h"
#include "options.h"

struct painter {
    struct gpu *gpu;
    const struct options *options;
    uint32_t width, height, inputs;
    struct vkmoe_stack *stack;
    uint32_t step;             /* recorded so far, by this stack */
    VkPipeline encode, sample, compose;
    struct buffer features;    /* [pixels, inputs] f32 */
    struct buffer picture;     /* [pixels] RGBA8, what is to be learnt */
    struct buffer rows;        /* [batch, inputs] f32 */
    struct buffer targets;     /* [batch, 3] f32 */
    struct buffer colours;     /* [pixels, 3] f32 */
    struct buffer experts;     /* [layers, pixels, top_k] u32 */
    struct buffer frame;       /* [height, 2 width] RGBA8 */
    struct buffer staging;     /* the same, on the host */
};

bool painter_create(struct painter *painter, struct gpu *gpu, const struct options *options, const struct image *image);
void painter_destroy(struct painter *painter);

/* A new network, with nothing learnt. */
bool painter_restart(struct painter *painter, struct vkmoe_balance balance);

/* Records into gpu->commands: `steps` steps of training, then the picture and the map, into `frame` and `staging`. */
bool painter_record(struct painter *painter, uint32_t steps);

#endif
