/* The learning rate: linear warm-up from 10% of the peak, then cosine to 10% of it at the last step. */
#ifndef VKM_TRAIN_SCHEDULE_H
#define VKM_TRAIN_SCHEDULE_H

#include <stdint.h>

/* Of step 1..steps; past the end it stays at 10%. */
double vkm_schedule_lr(double peak, uint64_t step, uint64_t warmup, uint64_t steps);

#endif
