/* Where bench finds a device's clock: trees of files as Linux's drivers have them, and a library as NVIDIA's (fake_nvml.c). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bench/clock.h"

/* sys/PATH holds the text. */
static void put(const char *sys, const char *path, const char *text)
{
    char at[512];
    const int root = snprintf(at, sizeof at, "%s/", sys);
    snprintf(at + root, sizeof at - (size_t)root, "%s", path);
    for (char *c = at + root; *c; c++)
        if (*c == '/') {
            *c = '\0';
            mkdir(at, 0700);
            *c = '/';
        }
    FILE *file = fopen(at, "w");
    cr_assert_not_null(file, "%s", at);
    fputs(text, file);
    fclose(file);
}

static double found(const char *sys, const char *pci)
{
    struct bench_clock clock;
    bench_clock_find(sys, pci, &clock);
    const double mhz = bench_clock_mhz(&clock);
    bench_clock_close(&clock);
    return mhz;
}

Test(clock, of_each_driver_and_of_none)
{
    static const struct {
        const char *pci, *file, *text;
        double mhz;
    } cases[] = {
        {"0000:03:00.0", "bus/pci/devices/0000:03:00.0/hwmon/hwmon4/freq1_input", "2482000000\n", 2482},
        {"0000:04:00.0", "bus/pci/devices/0000:04:00.0/tile0/gt0/freq0/act_freq", "2450\n", 2450},
        {"0000:05:00.0", "bus/pci/devices/0000:05:00.0/drm/card1/gt/gt0/rps_act_freq_mhz", "1300\n", 1300},
        {"0000:06:00.0", "bus/pci/devices/0000:06:00.0/drm/card2/gt_act_freq_mhz", "1150\n", 1150},
        {NULL, "devices/system/cpu/cpu11/cpufreq/scaling_cur_freq", "3700000\n", 3700},
    };
    char sys[] = "/tmp/vkmoe-clock-XXXXXX", command[64];
    cr_assert_not_null(mkdtemp(sys));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect(isnan(found(sys, cases[i].pci)), "%s: nothing there yet", cases[i].file);
        put(sys, cases[i].file, cases[i].text);
        cr_expect_float_eq(found(sys, cases[i].pci), cases[i].mhz, 1e-6, "%s", cases[i].file);
    }
    put(sys, "devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", "4100000\n");
    cr_expect_float_eq(found(sys, NULL), 4100, 1e-6, "the highest of the processors");
    put(sys, cases[0].file, "");
    cr_expect(isnan(found(sys, cases[0].pci)), "a file that says nothing");
    cr_expect(isnan(found(sys, "0000:99:00.0")), "no such device");
    cr_expect_float_eq(found(sys, "0000:07:00.0"), 1980, 1e-6, "by NVIDIA's library");
    snprintf(command, sizeof command, "rm -r %s", sys);
    cr_expect_eq(system(command), 0);
}
