/* Flags from a table: one row per flag drives parsing, range checks, defaults and --help. */
#ifndef VKMOE_TOOLS_OPTIONS_H
#define VKMOE_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_SWITCH,    /* bool, true when given; takes no value */
    OPTION_ON_OFF,    /* bool, "on" or "off" */
    OPTION_TEXT,      /* const char *, points into argv */
    OPTION_TEXT_LIST, /* struct text_list, repeatable */
    OPTION_U32,       /* uint32_t */
    OPTION_U64,       /* uint64_t */
    OPTION_FLOAT,     /* float */
    OPTION_CHOICE,    /* unsigned: index into the words of value, which are separated by '|' */
};

struct text_list {
    const char **items;
    size_t count;
};

struct option_spec {
    const char *name;     /* without the dashes */
    enum option_type type;
    size_t offset;        /* of the variable in the command's values */
    const char *value;    /* what stands for the value in --help; the words of a choice */
    double min, max;      /* numbers: the range allowed, ends included; max 0: as far as the type goes */
    const char *initial;  /* default, read like a value from the command line; NULL: the variable is left as it is */
    const char *otherwise; /* how --help words the default where there is no initial; NULL: no default is shown */
    const char *help;
};

/* A subcommand: everything that main needs to run and document it. */
struct command {
    const char *name;
    const char *summary;   /* one line for `vkmoe help` */
    const char *synopsis;  /* the flags as a usage line shows them */
    void (*details)(void); /* prints the end of --help; or NULL */
    const struct option_spec *options;
    size_t option_count;   /* at most 64 */
    const struct option_spec *positional; /* the text list of the arguments that are not flags; NULL: there are none */
    int (*run)(const struct command *command, int argc, char **argv); /* argv[0] is the first flag; exit status */
};

enum options_result { OPTIONS_OK, OPTIONS_HELP, OPTIONS_BAD };

/* Sets defaults, then reads argv into values. *given gets a bit per row of the table that was named; may be NULL.
 * OPTIONS_HELP: --help was printed. OPTIONS_BAD: one line was written to stderr. Text lists in values must be empty
 * before the call and are released with text_list_free after it, whatever it returned. */
enum options_result options_parse(const struct command *command, int argc, char **argv, void *values, uint64_t *given);

/* Whether the flag was named on the command line. */
bool options_given(const struct command *command, uint64_t given, const char *name);

/* The variable of a flag as the command line would give it; of numbers the shortest text that reads back as the same.
 * Returns text; lists give "". */
const char *option_text(const struct option_spec *spec, const void *values, char text[64]);

/* Writes usage and flags to stdout, in lines of at most HELP_WIDTH. */
enum { HELP_WIDTH = 100 };
void options_help(const struct command *command);

void text_list_free(struct text_list *list);

/* The candidate most like word, or NULL where none is near. next(user, i) returns candidates until NULL. */
const char *nearest_name(const char *word, const char *(*next)(const void *user, size_t i), const void *user);

#endif
