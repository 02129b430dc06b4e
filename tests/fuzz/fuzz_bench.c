/* Results given to `vkmoe bench --compare`: the files of an input. */
#include "bench/bench.h"
#include "common.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[FUZZ_PARTS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct fuzz_part parts[FUZZ_PARTS];
    const char *paths[FUZZ_PARTS];
    const size_t count = fuzz_parts(data, bytes, parts);
    for (size_t i = 0; i < count; i++) {
        fuzz_put(names[i], &parts[i]);
        paths[i] = fuzz_path(names[i]);
    }
    fuzz_messages();
    const int status = bench_compare(paths, count, fuzz_path("page.html"));
    fuzz_require(fuzz_messages() == (status != EXIT_OK));
    return 0;
}
