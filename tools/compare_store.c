#include "compare.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "files.h"
#include "json.h"

enum { FORMAT = 1 };

/* Says in one line which setting is another. */
static bool same_settings(const struct contest *c, const json_t *there)
{
    const char *key;
    json_t *value;
    json_object_foreach(c->settings, key, value) {
        const json_t *other = json_object_get(there, key);
        if (json_equal(value, other))
            continue;
        char *now = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        char *then = other ? json_dumps(other, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        message("%s was made with other settings: %s is %.200s there and %.200s here; give another --out", c->out, key,
                then ? then : "not known", now ? now : "another");
        free(now);
        free(then);
        return false;
    }
    return true;
}

/* How many contenders are timed. */
static size_t timed(const struct contest *c)
{
    return c->count + c->none_added;
}

/* A run's own directory is no place for others. */
static bool is_run(const char *dir)
{
    char *trainer = checkpoint_file(dir, "trainer.json"), *metrics = path_in(dir, "metrics.jsonl");
    const bool found = trainer || !metrics || access(metrics, F_OK) == 0;
    free(trainer);
    free(metrics);
    return found;
}

/* A method's number of an object of them, above 0; NAN where it is not there. */
static bool read_time(const json_t *root, const char *key, const char *name, const char *path, double *out)
{
    const double most = 1e9;
    const json_t *all = json_object_get(root, key), *value = json_object_get(all, name);
    *out = NAN;
    if (!all || (json_is_object(all) && (!value || json_is_null(value))))
        return true;
    *out = json_member(all, name);
    if (*out > 0.0 && *out <= most)
        return true;
    message("%s: \"%s\" must hold numbers above 0, up to %g", path, key, most);
    *out = NAN;
    return false;
}

bool contest_load(struct contest *c)
{
    bool absent;
    if (is_run(c->out)) {
        message("%s is the directory of one run; give another --out", c->out);
        return false;
    }
    char *path = path_in(c->out, COMPARE_FILE);
    json_t *root = path ? json_file_load(path, &absent) : NULL;
    bool fine = root || (path && absent);
    c->begun = root;
    if (root) {
        fine = json_member(root, "format") == FORMAT;
        if (!fine)
            message("%s: is not of this version of vkmoe; give another --out", path);
        fine = fine && same_settings(c, json_object_get(root, "settings"));
        for (size_t i = 0; fine && i < timed(c); i++)
            fine = read_time(root, "step_seconds", c->methods[i].name, path, &c->methods[i].step_seconds) &&
                   read_time(root, "step_ratio", c->methods[i].name, path, &c->methods[i].step_ratio);
    }
    json_decref(root);
    free(path);
    return fine;
}

bool contest_save(const struct contest *c)
{
    json_t *methods = json_array(), *seconds = json_object(), *ratios = json_object();
    for (size_t i = 0; i < c->count; i++)
        json_array_append_new(methods, json_string(c->methods[i].name));
    for (size_t i = 0; i < timed(c); i++) {
        const struct contender *m = &c->methods[i];
        if (isnan(m->step_seconds))
            continue;
        json_object_set_new(seconds, m->name, json_number(m->step_seconds));
        json_object_set_new(ratios, m->name, json_number(m->step_ratio));
    }
    json_t *root = json_pack("{s:i, s:o, s:I, s:I, s:O, s:o, s:o}", "format", FORMAT, "methods", methods, "seeds",
                             (json_int_t)c->seeds, "first_seed", (json_int_t)c->first_seed, "settings", c->settings,
                             "step_seconds", seconds, "step_ratio", ratios);
    const bool saved = json_save(c->out, COMPARE_FILE, root);
    json_decref(root);
    return saved;
}

/* Step of the run's checkpoint, if it has one, and whether it is evaluated too. false after a message. */
static bool find_run(struct entry *entry, uint64_t steps)
{
    char *trainer = checkpoint_file(entry->dir, "trainer.json"), *evaluation = path_in(entry->dir, EVALUATION_FILE);
    json_t *root = trainer && evaluation ? json_file_load(trainer, NULL) : NULL;
    const json_t *step = json_object_get(root, "step");
    bool fine = evaluation && (root || !trainer);
    if (root && (!json_is_integer(step) || json_integer_value(step) < 0)) {
        message("%s: \"step\" must be a whole number of at least 0", trainer);
        fine = false;
    } else if (root) {
        entry->saved = true;
        entry->step = (uint64_t)json_integer_value(step);
        entry->finished = entry->step >= steps && access(evaluation, F_OK) == 0;
    }
    json_decref(root);
    free(evaluation);
    free(trainer);
    return fine;
}

bool contest_find_runs(struct contest *c)
{
    c->entries = calloc((size_t)c->seeds * c->count, sizeof *c->entries);
    if (!c->entries) {
        message("out of memory");
        return false;
    }
    for (size_t i = 0; i < (size_t)c->seeds * c->count; i++) {
        const struct contender *m = &c->methods[i % c->count];
        char name[192];
        snprintf(name, sizeof name, "%.160s-%" PRIu64, m->text, c->first_seed + i / c->count);
        c->entries[i].dir = path_in(c->out, name);
        if (!c->entries[i].dir)
            return false;
        if (!c->begun && access(c->entries[i].dir, F_OK) == 0) {
            message("%s is there already, and no %s beside it; give another --out", c->entries[i].dir, COMPARE_FILE);
            return false;
        }
        if (!find_run(&c->entries[i], m->train.steps))
            return false;
    }
    return true;
}

/* A file that a run writes outside its checkpoints, or one that it was writing when it was stopped. */
static bool of_a_run(const char *name)
{
    static const char *const names[] = { "metrics.jsonl", EVALUATION_FILE };
    if (strncmp(name, "events.out.tfevents.", 20) == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const size_t length = strlen(names[i]);
        if (strncmp(name, names[i], length) == 0 && (!name[length] || strcmp(name + length, ".tmp") == 0))
            return true;
    }
    return false;
}

bool contest_clear_run(const char *dir)
{
    DIR *stream = opendir(dir);
    bool fine = stream || errno == ENOENT;
    if (!fine)
        message("%s: %s", dir, strerror(errno));
    for (const struct dirent *item; stream && fine && (item = readdir(stream));) {
        if (!of_a_run(item->d_name))
            continue;
        char *path = path_in(dir, item->d_name);
        fine = path && remove(path) == 0;
        if (path && !fine)
            message("%s: %s", path, strerror(errno));
        free(path);
    }
    if (stream)
        closedir(stream);
    return fine;
}
