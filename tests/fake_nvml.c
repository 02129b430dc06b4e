/* What bench calls of NVIDIA's libnvidia-ml.so.1 (NVML): one device, at 0000:07:00.0, whose shaders run at 1980 MHz. */
#include <string.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device);
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz);

static int begun, only;

int nvmlInit_v2(void)
{
    begun++;
    return 0;
}

int nvmlShutdown(void)
{
    return --begun == 0 ? 0 : 1; /* NVML_ERROR_UNINITIALIZED */
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device)
{
    *device = &only;
    return begun == 1 && strcmp(pci, "0000:07:00.0") == 0 ? 0 : 6; /* NVML_ERROR_NOT_FOUND */
}

int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz)
{
    *mhz = which == 1 /* NVML_CLOCK_SM */ ? 1980 : 1;
    return begun == 1 && device == &only ? 0 : 2; /* NVML_ERROR_INVALID_ARGUMENT */
}
