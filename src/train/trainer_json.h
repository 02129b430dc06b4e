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
    uint64_t data;                  /* vkm_data_fingerprint of the text */
    char device[VKM_DEVICE_TEXT];   /* "name (driver)" */
};

/* Writes dir/trainer.json. Every float reads back as the same float. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_json_write(const struct vkmoe_log *log, const char *dir,
                                         const struct vkmoe_model_config *model,
                                         const struct vkmoe_train_config *train, const struct vkm_run_state *state);

/* Reads it; what is read has passed vkm_config_check. ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_trainer_json_read(const struct vkmoe_log *log, const char *dir, struct vkmoe_model_config *model,
                                        struct vkmoe_train_config *train, struct vkm_run_state *state);

#endif
