/* A clock that only goes forward. */
#ifndef VKM_BASE_CLOCK_H
#define VKM_BASE_CLOCK_H

/* Seconds since some moment. */
double vkm_seconds(void);

#endif
