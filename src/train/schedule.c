#include "train/schedule.h"

#include <math.h>

#define FLOOR 0.1 /* share of the peak at both ends */

double vkm_schedule_lr(double peak, uint64_t step, uint64_t warmup, uint64_t steps)
{
    if (step <= warmup)
        return peak * (FLOOR + (1 - FLOOR) * (double)step / (double)warmup);
    if (step >= steps)
        return peak * FLOOR;
    double progress = (double)(step - warmup) / (double)(steps - warmup);
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(acos(-1.0) * progress)));
}
