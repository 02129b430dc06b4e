#define _XOPEN_SOURCE 700 /* nftw */
#include "cli.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *file_read(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    cr_assert(file, "%s: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    char *data = malloc((size_t)size + 1);
    cr_assert(data && fread(data, 1, (size_t)size, file) == (size_t)size);
    data[size] = '\0';
    fclose(file);
    if (bytes)
        *bytes = (size_t)size;
    return data;
}

void file_write(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0, "%s: %s", path, strerror(errno));
}

size_t line_count(const char *text)
{
    size_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

void cli_begin(struct cli *cli)
{
    static const char line[] = "The quick brown fox jumps over the lazy dog, again.\n";
    char text[20000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = line[i % (sizeof line - 1)];
    strcpy(cli->dir, "/tmp/vkmoe-cli-XXXXXX");
    cr_assert(mkdtemp(cli->dir) && chdir(cli->dir) == 0, "%s: %s", cli->dir, strerror(errno));
    file_write("text.txt", text, sizeof text);
    /* One for all tests: vkmoe and Mesa keep compiled kernels there, and compiling them takes ten seconds. */
    mkdir(VKMOE_TEST_CACHE, 0700);
    setenv("XDG_CACHE_HOME", VKMOE_TEST_CACHE, 1);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

void cli_end(struct cli *cli)
{
    cr_assert(chdir("/") == 0);
    nftw(cli->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Where a command's process writes. */
static void output_names(pid_t process, char out[32], char err[32])
{
    snprintf(out, 32, ".stdout-%ld", (long)process);
    snprintf(err, 32, ".stderr-%ld", (long)process);
}

pid_t cli_start(const char *arguments, int output)
{
    static char copy[1024];
    char *args[CLI_ARGS] = { "vkmoe" };
    int count = 1;
    cr_assert(strlen(arguments) < sizeof copy);
    strcpy(copy, arguments);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        cr_assert(count + 2 < CLI_ARGS);
        args[count++] = word;
    }
    static const char *const opening[] = { "train", "compare", "eval", "generate", "selftest", "bench", "tune" };
    bool opens_device = false;
    for (size_t i = 0; count > 1 && i < sizeof opening / sizeof opening[0]; i++)
        opens_device = opens_device || strcmp(args[1], opening[i]) == 0;
    if (opens_device && getenv("VKMOE_VALIDATE"))
        args[count++] = "--validate";
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child > 0)
        return child;
    char out_name[32], err_name[32];
    output_names(getpid(), out_name, err_name);
    const int out = output >= 0 ? output : open(out_name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    const int err = open(err_name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0)
        execv(VKMOE_COMMAND, args);
    _exit(127);
}

struct cli_result cli_wait(pid_t child)
{
    struct cli_result result = { 0 };
    int status;
    cr_assert(waitpid(child, &status, 0) == child);
    result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    char out_name[32], err_name[32];
    output_names(child, out_name, err_name);
    result.err = file_read(err_name, NULL);
    if (file_exists(out_name))
        result.out = file_read(out_name, NULL);
    remove(out_name);
    remove(err_name);
    return result;
}

struct cli_result cli_run(const char *arguments)
{
    return cli_wait(cli_start(arguments, -1));
}

char *cli_must(const char *arguments)
{
    struct cli_result result = cli_run(arguments);
    cr_assert_eq(result.status, 0, "vkmoe %s: status %d: %s", arguments, result.status, result.err);
    cr_expect_str_eq(result.err, "", "vkmoe %s: %s", arguments, result.err);
    free(result.err);
    return result.out;
}

void cli_result_free(struct cli_result *result)
{
    free(result->out);
    free(result->err);
}

void cli_need_device(void)
{
    struct cli_result devices = cli_run("devices");
    const bool found = devices.status == 0;
    cli_result_free(&devices);
    cr_assert(found || !getenv("VKMOE_REQUIRE_DEVICE"), "no Vulkan device");
    if (!found)
        cr_skip_test("no Vulkan device");
}
