/* The command line: the first line of an input is a balance, the others are arguments. */
#include <math.h>
#include <string.h>

#include "common.h"
#include "fuzz.h"

enum { MOST_ARGUMENTS = 32 };

struct values {
    bool on, which;
    const char *text;
    struct text_list list, others;
    uint32_t whole, ranged;
    uint64_t large;
    float real, share;
    unsigned choice;
};
#define ROW(name_, type_, member, ...) {.name = name_, .type = type_, .offset = offsetof(struct values, member), __VA_ARGS__}
static const struct option_spec options[] = {
    ROW("on", OPTION_SWITCH, on, .help = "a switch"),
    ROW("which", OPTION_ON_OFF, which, .value = "on|off", .initial = "on", .help = "on or off"),
    ROW("text", OPTION_TEXT, text, .value = "TEXT", .otherwise = "none", .help = "any text"),
    ROW("list", OPTION_TEXT_LIST, list, .value = "TEXT", .help = "any number of texts"),
    ROW("whole", OPTION_U32, whole, .value = "N", .initial = "7", .help = "a whole number"),
    ROW("ranged", OPTION_U32, ranged, .value = "N", .min = 3, .max = 9, .initial = "5", .help = "from 3 to 9"),
    ROW("large", OPTION_U64, large, .value = "N", .initial = "1", .help = "a larger one"),
    ROW("real", OPTION_FLOAT, real, .value = "X", .min = 1e-9, .initial = "0.1", .help = "a number"),
    ROW("share", OPTION_FLOAT, share, .value = "X", .max = 1, .initial = "0.5", .help = "from 0 to 1"),
    ROW("choice", OPTION_CHOICE, choice, .value = "one|two|three", .initial = "two", .help = "one of three"),
};
enum { OPTIONS = sizeof options / sizeof *options };
static const struct option_spec positional = ROW("other", OPTION_TEXT_LIST, others, .value = "OTHER...", .help = "other texts");
static const struct command commands[] = {
    {.name = "fuzz", .summary = "Tries", .synopsis = "[flags]", .options = options, .option_count = OPTIONS},
    {.name = "fuzz", .summary = "Tries", .synopsis = "[flags]", .options = options, .option_count = OPTIONS,
     .positional = &positional},
};

static void check_balance(const char *text)
{
    struct vkmoe_balance balance, again;
    char words[VKMOE_BALANCE_TEXT], same[VKMOE_BALANCE_TEXT];
    memset(&balance, 0, sizeof balance);
    memset(&again, 0, sizeof again);
    if (!fuzz_fine(vkmoe_balance_parse(*fuzz_log(), text, &balance)))
        return;
    vkmoe_balance_format(&balance, words);
    fuzz_require(fuzz_fine(vkmoe_balance_parse(*fuzz_log(), words, &again)));
    fuzz_require(strcmp(vkmoe_balance_format(&again, same), words) == 0);
}

static void check_options(const struct command *command, int count, char **arguments)
{
    struct values v = {0};
    char text[64];
    uint64_t given;
    fuzz_messages();
    const enum options_result result = options_parse(command, count, arguments, &v, &given);
    fuzz_require(fuzz_messages() == (result == OPTIONS_BAD));
    if (result == OPTIONS_OK) {
        fuzz_require(v.ranged >= 3 && v.ranged <= 9 && v.choice < 3);
        fuzz_require(isfinite(v.real) && v.real > 0 && v.share >= 0 && v.share <= 1);
        fuzz_require(given >> OPTIONS == 0 && v.on == options_given(command, given, "on"));
        for (size_t i = 0; i < OPTIONS; i++)
            option_text(&options[i], &v, text);
    }
    text_list_free(&v.list);
    text_list_free(&v.others);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *arguments[MOST_ARGUMENTS], *text = malloc(bytes + 1), *rest = text;
    int count = 0;
    fuzz_require(text);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    char *end = strchr(rest, '\n');
    if (end)
        *end = '\0';
    check_balance(rest);
    while (end && count < MOST_ARGUMENTS) {
        rest = end + 1;
        if ((end = strchr(rest, '\n')))
            *end = '\0';
        const size_t length = strlen(rest) + 1;
        arguments[count] = malloc(length); /* of its own, so that what is read past its end is found */
        fuzz_require(arguments[count]);
        memcpy(arguments[count++], rest, length);
    }
    check_options(&commands[0], count, arguments);
    check_options(&commands[1], count, arguments);
    while (count > 0)
        free(arguments[--count]);
    free(text);
    return 0;
}
