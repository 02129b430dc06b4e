/* What the fuzz targets share: a directory for the files that parsers are given, and what is expected of every parser: no failure
 * without its one line, no line without a failure. A target's input may be several files: a line of CUT alone lies between two. */
#ifndef VKMOE_FUZZ_H
#define VKMOE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <vkmoe/vkmoe.h>

/* Called by libFuzzer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A finding. */
#define fuzz_require(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

enum { FUZZ_CUT = 0x1c, FUZZ_PARTS = 8 };
struct fuzz_part {
    const uint8_t *data;
    size_t bytes;
};
/* The files of an input; behind them, empty ones. Their number, at least 1. */
size_t fuzz_parts(const uint8_t *data, size_t bytes, struct fuzz_part parts[FUZZ_PARTS]);

/* A path in a directory of this process's own, in memory where the system has a place for that; one of a few buffers in turn. */
const char *fuzz_path(const char *name);
/* Writes the file, in directories that are made with it. NULL: there is no such file. */
void fuzz_put(const char *name, const struct fuzz_part *part);
/* The whole file, with a NUL behind it: the caller frees it. */
char *fuzz_get(const char *name);

/* A log that counts the lines; what a parser said since the last call of this is forgotten. */
const struct vkmoe_log *fuzz_log(void);
/* Whether it succeeded. One error was logged if it did not, none if it did, and it is one that a file can be the reason of. */
bool fuzz_fine(enum vkmoe_status status);
/* Lines of the command's since the last call of this, which is linked with --wrap=message. */
unsigned fuzz_messages(void);

#endif
