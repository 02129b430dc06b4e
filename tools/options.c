#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein distance; long words count as far apart. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LIMIT = 32 };
    size_t row[LIMIT + 1];
    const size_t na = strlen(a), nb = strlen(b);
    if (na > LIMIT || nb > LIMIT)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t above = row[j];
            row[j] = smaller(smaller(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

const char *nearest_name(const char *word, const char *(*next)(const void *user, size_t i), const void *user)
{
    const char *best = NULL;
    size_t best_distance = smaller(3, strlen(word) / 2) + 1;
    for (size_t i = 0;; i++) {
        const char *name = next(user, i);
        if (!name)
            return best;
        const size_t distance = edit_distance(word, name);
        if (distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
}

static const char *next_option(const void *user, size_t i)
{
    const struct command *command = user;
    return i < command->option_count ? command->options[i].name : NULL;
}

void text_list_free(struct text_list *list)
{
    free(list->items);
    *list = (struct text_list){ 0 };
}

static bool text_list_add(struct text_list *list, const char *text)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return false;
    items[list->count++] = text;
    list->items = items;
    return true;
}

static bool whole_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !errno && !*end && *out <= max;
}

/* Index of text among words separated by '|', or -1. */
static int choice_index(const char *words, const char *text)
{
    const size_t length = strlen(text);
    for (int i = 0;; i++) {
        const size_t n = strcspn(words, "|");
        if (n == length && strncmp(words, text, n) == 0)
            return i;
        if (!words[n])
            return -1;
        words += n + 1;
    }
}

static void bad_number(const struct option_spec *spec, const char *text, double max)
{
    if (spec->type != OPTION_FLOAT)
        message("--%s: '%s' is not a whole number from %.0f to %.0f", spec->name, text, spec->min, max);
    else if (spec->max > 0.0)
        message("--%s: '%s' is not a number from %g to %g", spec->name, text, spec->min, spec->max);
    else
        message("--%s: '%s' is not a number of at least %g", spec->name, text, spec->min);
}

/* Reads one value into its variable; false after a message. text is NULL for a switch. */
static bool store(const struct option_spec *spec, const char *text, void *values)
{
    void *variable = (char *)values + spec->offset;
    switch (spec->type) {
    case OPTION_SWITCH:
        *(bool *)variable = true;
        return true;
    case OPTION_ON_OFF:
        if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
            message("--%s: '%s' is neither on nor off", spec->name, text);
            return false;
        }
        *(bool *)variable = strcmp(text, "on") == 0;
        return true;
    case OPTION_TEXT:
        *(const char **)variable = text;
        return true;
    case OPTION_TEXT_LIST:
        if (text_list_add(variable, text))
            return true;
        message("out of memory");
        return false;
    case OPTION_U32:
    case OPTION_U64: {
        const uint64_t type_max = spec->type == OPTION_U32 ? UINT32_MAX : UINT64_MAX;
        uint64_t number;
        if (!whole_number(text, type_max, &number) || (double)number < spec->min ||
            (spec->max > 0.0 && (double)number > spec->max)) {
            bad_number(spec, text, spec->max > 0.0 ? spec->max : (double)type_max);
            return false;
        }
        if (spec->type == OPTION_U32)
            *(uint32_t *)variable = (uint32_t)number;
        else
            *(uint64_t *)variable = number;
        return true;
    }
    case OPTION_FLOAT: {
        char *end;
        const float number = strtof(text, &end);
        if (end == text || *end || !isfinite(number) || number < spec->min ||
            (spec->max > 0.0 && number > spec->max)) {
            bad_number(spec, text, 0.0);
            return false;
        }
        *(float *)variable = number;
        return true;
    }
    case OPTION_CHOICE: {
        const int index = choice_index(spec->value, text);
        if (index < 0) {
            message("--%s: '%s' is none of %s", spec->name, text, spec->value);
            return false;
        }
        const unsigned chosen = (unsigned)index;
        memcpy(variable, &chosen, sizeof chosen);
        return true;
    }
    }
    return false;
}

/* The i-th of the words separated by '|'. */
static void choice_word(const char *words, unsigned i, char text[64])
{
    for (; i > 0; i--)
        words += strcspn(words, "|") + 1;
    snprintf(text, 64, "%.*s", (int)strcspn(words, "|"), words);
}

const char *option_text(const struct option_spec *spec, const void *values, char text[64])
{
    const void *variable = (const char *)values + spec->offset;
    switch (spec->type) {
    case OPTION_SWITCH:
    case OPTION_ON_OFF:
        snprintf(text, 64, "%s", *(const bool *)variable ? "on" : "off");
        break;
    case OPTION_TEXT:
        snprintf(text, 64, "%s", *(const char *const *)variable ? *(const char *const *)variable : "");
        break;
    case OPTION_TEXT_LIST:
        text[0] = '\0';
        break;
    case OPTION_U32:
        snprintf(text, 64, "%" PRIu32, *(const uint32_t *)variable);
        break;
    case OPTION_U64:
        snprintf(text, 64, "%" PRIu64, *(const uint64_t *)variable);
        break;
    case OPTION_FLOAT: {
        const float number = *(const float *)variable;
        for (int digits = 1; digits <= 9; digits++) {
            snprintf(text, 64, "%.*g", digits, (double)number);
            if (strtof(text, NULL) == number)
                break;
        }
        break;
    }
    case OPTION_CHOICE: {
        unsigned chosen;
        memcpy(&chosen, variable, sizeof chosen);
        choice_word(spec->value, chosen, text);
        break;
    }
    }
    return text;
}

static const struct option_spec *find_option(const struct command *command, const char *name, size_t length)
{
    for (size_t i = 0; i < command->option_count; i++)
        if (strlen(command->options[i].name) == length && strncmp(command->options[i].name, name, length) == 0)
            return &command->options[i];
    return NULL;
}

static void unknown_option(const struct command *command, const char *argument)
{
    if (strncmp(argument, "--", 2) != 0) {
        message("'%s' is not a flag; see 'vkmoe help %s'", argument, command->name);
        return;
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)smaller(strcspn(argument + 2, "="), sizeof name - 1), argument + 2);
    const char *near = nearest_name(name, next_option, command);
    if (near)
        message("no flag --%s; did you mean --%s?", name, near);
    else
        message("no flag --%s; see 'vkmoe help %s'", name, command->name);
}

enum options_result options_parse(const struct command *command, int argc, char **argv, void *values, uint64_t *given)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].initial && !store(&command->options[i], command->options[i].initial, values))
            return OPTIONS_BAD;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options_help(command);
            return OPTIONS_HELP;
        }
    }
    for (int i = 0; i < argc; i++) {
        const char *text = NULL;
        const struct option_spec *spec = NULL;
        if (strncmp(argv[i], "--", 2) == 0) {
            const char *name = argv[i] + 2;
            const size_t length = strcspn(name, "=");
            spec = find_option(command, name, length);
            if (name[length])
                text = name + length + 1;
        }
        if (!spec && command->positional && strncmp(argv[i], "--", 2) != 0) {
            if (!store(command->positional, argv[i], values))
                return OPTIONS_BAD;
            continue;
        }
        if (!spec) {
            unknown_option(command, argv[i]);
            return OPTIONS_BAD;
        }
        if (spec->type == OPTION_SWITCH && text) {
            message("--%s takes no value", spec->name);
            return OPTIONS_BAD;
        }
        if (spec->type != OPTION_SWITCH && !text) {
            if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0) {
                message("--%s needs a value: --%s %s", spec->name, spec->name, spec->value);
                return OPTIONS_BAD;
            }
            text = argv[++i];
        }
        if (!store(spec, text, values))
            return OPTIONS_BAD;
        seen |= UINT64_C(1) << (spec - command->options);
    }
    if (given)
        *given = seen;
    return OPTIONS_OK;
}

bool options_given(const struct command *command, uint64_t given, const char *name)
{
    const struct option_spec *spec = find_option(command, name, strlen(name));
    return spec && (given >> (spec - command->options) & 1);
}

/* One row of the table of flags: a name too long for its column has a line of its own, and text is broken at spaces. */
static void help_row(const char *left, const char *text)
{
    enum { COLUMN = 29 };
    int at = printf("  %-*s", COLUMN - 3, left);
    if (at >= COLUMN)
        at = printf("\n%*s", COLUMN - 1, "") - 1;
    while (*text) {
        const int length = (int)strcspn(text, " ");
        if (at + 1 + length > HELP_WIDTH)
            at = printf("\n%*s", COLUMN - 1, "") - 1;
        at += printf(" %.*s", length, text);
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void help_option(const struct option_spec *spec)
{
    char left[96], text[256];
    const char *fallback = spec->initial ? spec->initial : spec->otherwise;
    snprintf(left, sizeof left, "--%s%s%s", spec->name, spec->value ? " " : "", spec->value ? spec->value : "");
    snprintf(text, sizeof text, "%s%s%s%s", spec->help, fallback ? " [" : "", fallback ? fallback : "",
             fallback ? "]" : "");
    help_row(left, text);
}

void options_help(const struct command *command)
{
    printf("usage: vkmoe %s %s\n%s.\n\n", command->name, command->synopsis, command->summary);
    if (command->positional)
        help_row(command->positional->value, command->positional->help);
    for (size_t i = 0; i < command->option_count; i++)
        help_option(&command->options[i]);
    help_row("--help", "print this");
    if (command->details)
        command->details();
}
