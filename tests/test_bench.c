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
    free(cli_must("bench --only ops --seconds 0.001 --json b.json"));
    root = json_load_file("b.json", 0, NULL);
    cr_assert(root);
    expect_figures(json_object_get(root, "results"), false);
    json_decref(root);

    char *table = cli_must("bench --compare a.json b.json --html page.html");
    cr_expect(strstr(table, "fma f32") && strstr(table, "product nt"), "%s", table);
    free(table);
    char *page = file_read("page.html", NULL);
    cr_expect(strstr(page, "</html>") && !strstr(page, "http://") && !strstr(page, "https://"));
    free(page);
    cr_expect_neq(stat("page.html.tmp", &info), 0);
}

Test(bench, refuses_what_it_cannot_use)
{
    static const struct {
        const char *text, *what;
    } files[] = {
        {"", "bad.json"},
        {"[]", "bad.json"},
        {"{\"format\": 99}", "format"},
        {"{\"format\": 1, \"vkmoe\": 3}", "vkmoe"},
        {"{\"format\": 1, \"vkmoe\": \"\\u001b[2J\"}", "vkmoe"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        file_write("bad.json", files[i].text, strlen(files[i].text));
        refused("bench --compare bad.json", 1, files[i].what);
    }
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
