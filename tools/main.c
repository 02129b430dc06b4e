#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"

static const struct command *const commands[] = {
    &command_devices,
    &command_selftest,
    &command_train,
    &command_compare,
    &command_eval,
    &command_generate,
    &command_inspect,
    &command_report,
    &command_bench,
    &command_tune,
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static const char *next_command(const void *user, size_t i)
{
    (void)user;
    return i < COMMAND_COUNT ? commands[i]->name : i == COMMAND_COUNT ? "help" : NULL;
}

static int unknown_command(const char *name)
{
    const char *near = nearest_name(name, next_command, NULL);
    if (near)
        message("no command '%s'; did you mean '%s'?", name, near);
    else
        message("no command '%s'; see 'vkmoe help'", name);
    return EXIT_USAGE;
}

static void help(void)
{
    printf("usage: vkmoe COMMAND [flags]\n"
           "Trains and runs small Mixture-of-Experts language models on any Vulkan 1.3 device.\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("  %-10s %s\n", "help", "Prints this, or with the name of a command all its flags");
    printf("\nVKMOE_DEVICE in the environment is the default of --device. Compiled pipelines are kept in\n"
           "$XDG_CACHE_HOME/vkmoe or ~/.cache/vkmoe.\n");
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        message("which command? See 'vkmoe help'");
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("vkmoe %s\n", vkmoe_version());
        return EXIT_OK;
    }
    const bool asks_help =
        strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    if (asks_help && (argc == 2 || strcmp(argv[2], "help") == 0)) {
        help();
        return EXIT_OK;
    }
    const char *name = asks_help ? argv[2] : argv[1];
    const struct command *command = find_command(name);
    if (!command)
        return unknown_command(name);
    if (asks_help) {
        options_help(command);
        return EXIT_OK;
    }
    messages_begin(name);
    return command->run(command, argc - 2, argv + 2);
}

/* Whether whoever read standard output has gone away. */
static bool reader_gone(void)
{
    struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int main(int argc, char **argv)
{
    /* A reader that goes away shows as a failed write, and what was going on ends in order. */
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a log file shows a line when it is printed */
    if (argc > 0 && argv[0][0])
        program = argv[0];
    const int status = run(argc, argv);
    errno = 0;
    const bool written = fflush(stdout) == 0 && !ferror(stdout);
    const int failure = errno;
    if (device_lost) /* exit would take from the driver's threads, which run on, what they need */
        _exit(status);
    if (written || failure == EPIPE || reader_gone() || status != EXIT_OK)
        return status;
    message("standard output: %s", failure ? strerror(failure) : "a write failed");
    return EXIT_FAILED;
}
