#include "report.h"

#include "common.h"

int report_write(const char *const *runs, size_t count, const char *out_dir)
{
    (void)runs, (void)count, (void)out_dir;
    return EXIT_OK;
}
