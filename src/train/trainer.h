/* A model being trained. */
#ifndef VKM_TRAIN_TRAINER_H
#define VKM_TRAIN_TRAINER_H

#include "train/evaluator.h"
#include "train/metrics.h"
#include "train/probe.h"
#include "train/saver.h"

struct vkmoe_trainer {
    struct vkmoe_context *ctx;
    const struct vkmoe_data *data;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;    /* with its defaults in the place of zeros */
    char *run_dir;                      /* NULL: nothing is written */
    int lock;                           /* of it; -1: none */
    char *checkpoint;                   /* the newest there; NULL: none */
    struct vkm_saver *saver;            /* of the one being written; NULL: none */
    uint64_t saved_step;                /* of the newest one written, or being written, or begun with; UINT64_MAX: none */
    uint32_t rewinds;                   /* to checkpoint */
    struct vkm_metrics *metrics;

    struct vkm_net *net;
    struct vkm_evaluator *evaluator;
    struct vkm_probe *probe;
    struct vkm_layer_sums *sums;        /* of the last step measured, or the last validation */
    uint64_t pes_step;                  /* step at which PES was measured last */
    struct vkm_arena *upload, *device, *readback;
    struct vkm_buf tok[VKM_SLOTS], target[VKM_SLOTS]; /* [T] u32 of a micro-batch */
    struct vkm_buf control[VKM_SLOTS];  /* struct step_control */
    struct vkm_buf stats;               /* struct step_stats, struct router_stats [L], expert_tokens [L,E] u32 */
    struct vkm_buf report[VKM_SLOTS];   /* copy of stats as a step left it */
    struct vkm_buf partials;            /* of the gradient's norm */

    struct vkm_rec *micro[VKM_SLOTS];   /* forward and backward of a micro-batch */
    struct vkm_rec *measure[VKM_SLOTS]; /* how it was routed: after each micro-batch of a log step */
    struct vkm_rec *update[VKM_SLOTS];  /* balance of the weights, norm, AdamW, report */
    uint64_t micro_ticket[VKM_SLOTS], measure_ticket[VKM_SLOTS], update_ticket[VKM_SLOTS];

    struct vkm_run_state state;         /* of the newest step collected */
    uint64_t submitted;                 /* steps handed over */
    struct vkmoe_step_report last;      /* the newest collected */
    uint32_t *expert_tokens;            /* its counts */
    double period;                      /* seconds of a step, smoothed; 0: none yet */
    double rate_time;                   /* when the last step was collected; 0: something else ran since */
};

/* Where the parts of stats and of a report begin. */
static inline uint64_t vkm_trainer_routers_at(void)
{
    return sizeof(struct step_stats);
}
static inline uint64_t vkm_trainer_counts_at(const struct vkmoe_trainer *trainer)
{
    return sizeof(struct step_stats) + trainer->model.layers * sizeof(struct router_stats);
}

/* Plans a trainer: sizes are known, nothing is allocated on the device. model and train have been checked. */
enum vkmoe_status vkm_trainer_plan(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                                   const struct vkmoe_train_config *train, struct vkmoe_trainer **out);
struct vkmoe_estimate vkm_trainer_estimate(const struct vkmoe_trainer *trainer);
/* Allocates and records what was planned. */
enum vkmoe_status vkm_trainer_commit(struct vkmoe_trainer *trainer);

/* The checkpoint being written, if one is, has been: waits, and tells how that went. */
enum vkmoe_status vkm_trainer_saved(struct vkmoe_trainer *trainer);
/* A checkpoint of trainer->saved_step is complete: it is trainer->checkpoint. ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_note_checkpoint(struct vkmoe_trainer *trainer);

/* Back to trainer->checkpoint, which is there and whole (nothing is being written), with all steps collected or lost; the
 * micro-batches since it are passed over. */
enum vkmoe_status vkm_trainer_rewind(struct vkmoe_trainer *trainer);

#endif
