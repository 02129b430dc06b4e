/* Runs the vkmoe command in a directory of its own, for tests of what a user sees. */
#ifndef VKMOE_TESTS_CLI_H
#define VKMOE_TESTS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { CLI_ARGS = 64 };

/* A scratch directory, the current one of the process and of the commands it runs. */
struct cli {
    char dir[64];
};

/* How a command ended: exit status (128 + signal, if one killed it) and what it wrote, NUL-terminated. */
struct cli_result {
    int status;
    char *out, *err;
};

/* Makes the directory and in it text.txt (20000 bytes of text), and goes there. A failure fails the test. */
void cli_begin(struct cli *cli);
/* Removes the directory with all that is in it. */
void cli_end(struct cli *cli);

/* Runs vkmoe with arguments separated by single spaces (none can contain one). Where the tests are to run under the
 * validation layers, commands that open a device get --validate. Free the result with cli_result_free. */
struct cli_result cli_run(const char *arguments);
void cli_result_free(struct cli_result *result);

/* Runs a command that has to succeed without a word on stderr; returns what it printed, freed by the caller. */
char *cli_must(const char *arguments);

/* The same in two parts. output is where stdout goes, or -1: to be had from cli_wait. */
pid_t cli_start(const char *arguments, int output);
struct cli_result cli_wait(pid_t child);

/* A device to run on. Where there is none the test is skipped, or fails if VKMOE_REQUIRE_DEVICE is set. */
void cli_need_device(void);

bool file_exists(const char *path);
/* NUL-terminated, freed by the caller; a failure fails the test. */
char *file_read(const char *path, size_t *bytes);
void file_write(const char *path, const void *data, size_t bytes);
size_t line_count(const char *text);

#endif
