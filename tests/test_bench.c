/* The benchmark and tuning as a user sees them: what they write, what they read from others, and what they refuse. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

static struct cli cli;

static void begin(void)
{
    cli_need_device();
    cli_begin(&cli);
}

static void end(void)
{
    cli_end(&cli);
}

TestSuite(bench, .init = begin, .fini = end);

/* One line that says what is wrong, and that exit status. */
static void refused(const char *arguments, int status, const char *what)
{
    struct cli_result r = cli_run(arguments);
    cr_expect_eq(r.status, status, "%s: status %d", arguments, r.status);
    cr_expect(line_count(r.err) == 1 && strstr(r.err, what), "%s: %s", arguments, r.err);
    cli_result_free(&r);
}

static void expect_figures(const json_t *list, bool ceilings)
{
    size_t i;
    const json_t *item;
    cr_assert(json_array_size(list) > 0);
    json_array_foreach (list, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *quartiles = json_object_get(item, "quartiles"), *share = json_object_get(item, "share");
        const double median = json_number_value(json_object_get(item, "median"));
        cr_expect(median > 0 && isfinite(median), "%s: %g", name, median);
        cr_expect(json_number_value(json_array_get(quartiles, 0)) <= median &&
                  json_number_value(json_array_get(quartiles, 1)) >= median, "%s", name);
        cr_expect(json_string_length(json_object_get(item, "unit")) > 0, "%s", name);
        cr_expect(ceilings || json_is_null(share) || json_number_value(share) > 0, "%s", name);
    }
}

Test(bench, measures_and_compares)
{
    struct stat info;
    free(cli_must("bench --only ceilings,layer --seconds 0.05 --json a.json"));
    json_t *root = json_load_file("a.json", 0, NULL);
    cr_assert(root);
    cr_expect_eq(json_integer_value(json_object_get(root, "format")), 1);
    cr_expect(json_is_string(json_object_get(json_object_get(root, "device"), "name")));
    expect_figures(json_object_get(root, "ceilings"), true);
    cr_expect(json_array_size(json_object_get(root, "results")) + json_array_size(json_object_get(root, "skipped")) > 0);
    json_decref(root);
    /* Nothing is measured that takes longer to do once. */
    char *ops = cli_must("bench --only ops --seconds 0.05 --json b.json");
    root = json_load_file("b.json", 0, NULL);
    cr_assert(root);
    if (json_array_size(json_object_get(root, "results")) > 0)
        expect_figures(json_object_get(root, "results"), false);
    if (json_array_size(json_object_get(root, "skipped")) > 0)
        cr_expect(strstr(ops, "left out: about ") && strstr(ops, "--seconds 1 takes it"), "%s", ops);
    json_decref(root);
    free(ops);

    char *table = cli_must("bench --compare a.json b.json --html page.html");
    cr_expect(strstr(table, "fma f32") && strstr(table, "product nt"), "%s", table);
    free(table);
    char *page = file_read("page.html", NULL);
    cr_expect(strstr(page, "</html>") && !strstr(page, "http://") && !strstr(page, "https://"));
    free(page);
    cr_expect_neq(stat("page.html.tmp", &info), 0);
}

/* A result file that is read, and what makes it one that is not: a piece of its text, what stands there instead, what
 * the message names. */
static const char sound[] =
    "{\"format\": 1, \"vkmoe\": \"0.1\", \"date\": \"2026-01-01\", \"clock_mhz\": null, \"seconds\": 1, \"device\": {"
    "\"name\": \"card\", \"driver\": \"maker 1\", \"uuid\": \"00ff\", \"type\": \"cpu\", \"vulkan\": \"1.3.239\", "
    "\"memory_bytes\": 8, \"subgroup_size\": 4, \"shared_bytes\": 16, \"float16\": true, \"bfloat16\": false, "
    "\"cooperative_matrix\": false}, \"ceilings\": [{\"name\": \"copy\", \"unit\": \"GB/s\", \"timer\": \"wall\", "
    "\"median\": 2, \"quartiles\": [1, 3], \"repetitions\": 5}], \"results\": [{\"group\": \"ops\", \"name\": \"x\", "
    "\"shape\": \"4\", \"unit\": \"GB/s\", \"timer\": \"wall\", \"median\": 7, \"quartiles\": [6, 8], "
    "\"repetitions\": 9, \"share\": 0.5, \"of_balanced\": null, \"host_share\": null}], \"skipped\": []}";
static const struct {
    const char *from, *to, *what;
} faults[] = {
    {sound, "", "bad.json"},
    {sound, "[]", "bad.json"},
    {sound, "{\"format\": 1}", "vkmoe"},
    {"}], \"skipped\": []}", "", "bad.json"},
    {"\"format\": 1", "\"format\": 99", "format"},
    {"\"format\": 1", "\"format\": \"1\"", "format"},
    {"\"0.1\"", "3", "vkmoe"},
    {"\"0.1\"", "\"\\u001b[2J\"", "vkmoe"},
    {"\"2026-01-01\"", "\"2026-01-01 and so on for much longer than any date\"", "date"},
    {"\"clock_mhz\": null", "\"clock_mhz\": -1", "clock_mhz"},
    {"\"seconds\": 1", "\"seconds\": 1e300", "seconds"},
    {"\"card\"", "\"\"", "device.name"},
    {"\"card\"", "\"a\\u0000b\"", "bad.json"},
    {"\"cpu\"", "\"toaster\"", "device.type"},
    {"1.3.239", "1.3", "device.vulkan"},
    {"1.3.239", "1.3.239.1", "device.vulkan"},
    {"1.3.239", "200.3.239", "device.vulkan"},
    {"\"memory_bytes\": 8", "\"memory_bytes\": -8", "device.memory_bytes"},
    {"\"memory_bytes\": 8", "\"memory_bytes\": 99999999999999999999999", "bad.json"},
    {"\"subgroup_size\": 4", "\"subgroup_size\": 0", "device.subgroup_size"},
    {"\"shared_bytes\": 16", "\"shared_bytes\": 1.5", "device.shared_bytes"},
    {"\"float16\": true", "\"float16\": 1", "device.float16"},
    {"\"ceilings\": [", "\"other\": [", "ceilings"},
    {"\"median\": 2", "\"median\": 0", "ceilings[0].median"},
    {"\"median\": 7", "\"median\": \"7\"", "results[0].median"},
    {"[1, 3]", "[3, 1]", "ceilings[0].quartiles"},
    {"[6, 8]", "[6]", "results[0].quartiles"},
    {"[6, 8]", "[6, 8, 9]", "results[0].quartiles"},
    {"\"repetitions\": 9", "\"repetitions\": 0", "results[0].repetitions"},
    {"\"group\": \"ops\"", "\"group\": \"ceilings\"", "results[0].group"},
    {"\"share\": 0.5", "\"share\": -0.5", "results[0].share"},
    {"\"name\": \"x\"", "\"name\": [\"x\"]", "results[0].name"},
    {"\"skipped\": []", "\"skipped\": [{\"group\": \"ops\", \"name\": \"x\"}]", "skipped[0].reason"},
    {"\"skipped\": []", "\"skipped\": [7]", "skipped[0].group"},
};

Test(bench, refuses_results_that_are_not_sound)
{
    char text[2 * sizeof sound];
    file_write("sound.json", sound, strlen(sound));
    free(cli_must("bench --compare sound.json"));
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const char *at = strstr(sound, faults[i].from);
        cr_assert(at, "%s", faults[i].from);
        const int n = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - sound), sound, faults[i].to,
                               at + strlen(faults[i].from));
        file_write("bad.json", text, (size_t)n);
        refused("bench --compare bad.json", 1, faults[i].what);
    }
    /* More results than there are, which would have to be looked for among each other. */
    FILE *file = fopen("many.json", "w");
    const char *list = strstr(sound, "\"skipped\": [");
    cr_assert(file && list);
    list += strlen("\"skipped\": [");
    fprintf(file, "%.*s", (int)(list - sound), sound);
    for (int i = 0; i < 513; i++)
        fprintf(file, "%s7", i ? "," : "");
    fputs(list, file);
    cr_assert_eq(fclose(file), 0);
    refused("bench --compare many.json", 1, "at most 512");
}

Test(bench, refuses_what_it_cannot_use)
{
    refused("bench --compare", 2, "which results");
    refused("bench --compare none.json", 1, "none.json");
    refused("bench --only speed", 2, "'speed' is none of ceilings, ops, layer, steps");
    refused("bench --precision f8", 2, "'f8' is none of f32, f16, bf16");
    refused("bench --json text.txt/a.json --only ceilings", 1, "text.txt");
    refused("bench --html page.html", 2, "--compare");
    refused("bench --compare text.txt --seconds 1", 2, "--seconds");
}

/* What is tuned is kept, used, and left aside where it makes no sense. */
Test(bench, tunes)
{
    cr_assert_eq(setenv("XDG_CACHE_HOME", cli.dir, 1), 0);
    char *out = cli_must("tune");
    char *kept = strstr(out, "kept in");
    cr_assert(strstr(out, "best") && !strstr(out, "wrong") && kept, "%s", out);
    char path[256];
    cr_assert_eq(sscanf(kept, "kept in %255[^,]", path), 1);
    json_t *root = json_load_file(path, 0, NULL);
    cr_assert(root);
    cr_expect(json_array_size(json_object_get(root, "gemm")) >= 2);
    json_decref(root);
    free(out);
    free(cli_must("train --data text.txt --out run --preset demo --steps 2 --quiet"));
    file_write(path, "{\"format\": 1, \"driver\": 7}", 26);
    struct cli_result r = cli_run("eval --model run --data text.txt");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.err, "tuning-") && strstr(r.err, "'vkmoe tune' writes it anew"), "%s", r.err);
    cli_result_free(&r);
}
