/* trainer.json: the configurations and the state of a run, next to the model in a checkpoint. */
#ifndef VKM_TRAIN_TRAINER_JSON_H
#define VKM_TRAIN_TRAINER_JSON_H

#include "train/fields.h"

/* How far a run is, and on what. */
struct vkm_run_state {
    uint64_t step;                  /* optimizer steps done, skipped ones included */
    uint64_t tokens;                /* seen in training */
    uint64_t skipped;               /* steps that left the weights unchanged */
    float loss_scale;               /* of the next step: struct loss_scale */
    uint32_t good_steps;            /* since it last changed */
    uint32_t bad_steps;             /* skipped in a row, up to this one */
    float loss_mean;                /* running mean that a spike is measured by, over loss_count steps */
    uint32_t loss_count;
    uint64_t passed_over;           /* micro-batches that returns to a checkpoint have passed over */
    uint64_t val_step, val_tokens;  /* the newest validation; 0: none */
    float val_loss;
    uint64_t best_step, best_tokens; /* that with the least loss among those saved; 0: none */
    float best_loss;
    uint64_t data;                  /* vkm_data_fingerprint of the text */
    char device[VKM_FIELD_BYTES];   /* "name (driver)" */
    char version[VKM_FIELD_BYTES];  /* of vkmoe */
};

/* Writes dir/trainer.json. Every float reads back as the same float. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_json_write(const struct vkmoe_log *log, const char *dir,
                                         const struct vkmoe_model_config *model,
                                         const struct vkmoe_train_config *train, const struct vkm_run_state *state);

/* Reads it; what is read has passed vkm_config_check. ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_json_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *model,
                                        struct vkmoe_train_config *train, struct vkm_run_state *state);

/* A warning for each field of `now` that is another than in `saved`, which was read from dir. ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_json_changes(const struct vkmoe_log *log, const char *dir, const struct vkmoe_train_config *saved,
                                           const struct vkmoe_train_config *now);

#endif
