/* Writes inputs that the parsers take into DIRECTORY/TARGET/..., by the functions that write such files: what the fuzzer sets out
 * from.
 *   fuzz_seeds DIRECTORY */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/bench.h"
#include "common.h"
#include "evaluation.h"
#include "fuzz.h"
#include "gpu/pipeline_cache.h"
#include "gpu/tuning.h"
#include "nn/config.h"
#include "stack/file.h"
#include "stack/stack.h"
#include "train/hf.h"
#include "train/manifest.h"
#include "train/metrics.h"
#include "train/trainer_json.h"

enum { LAYERS = 2, EXPERTS = 4 };

static const char *root;

static void on_line(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", line);
}
static const struct vkmoe_log to_stderr = {.fn = on_line};

#define must(call) fuzz_require((call) == VKMOE_OK)

static const char *place(const char *target, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, target);
    must(vkm_dir_create(&to_stderr, path));
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    return path;
}

/* An input of these texts as files; they are given back. */
static void write_parts(const char *target, const char *name, size_t count, char *const *parts)
{
    FILE *file = fopen(place(target, name), "wb");
    fuzz_require(file);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            fprintf(file, "\n%c\n", FUZZ_CUT);
        fputs(parts[i], file);
        free(parts[i]);
    }
    fuzz_require(fclose(file) == 0);
}

static void write_text(const char *target, const char *name, const char *text)
{
    write_parts(target, name, 1, (char *[]){strdup(text)});
}

static char *dump(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(1));
    fuzz_require(text);
    json_decref(value);
    return text;
}

/* ---- the targets -------------------------------------------------------------------------------------------------- */

static void safetensors(void)
{
    struct vkm_safetensors_writer *writer;
    const float values[24] = {1, -2, 0.5f};
    must(vkm_safetensors_create(&to_stderr, place("safetensors", "three"), &writer));
    must(vkm_safetensors_note(writer, "key", "value"));
    must(vkm_safetensors_declare(writer, "a", (const uint64_t[]){2, 3}, 2));
    must(vkm_safetensors_declare(writer, "empty", (const uint64_t[]){0, 5}, 2));
    must(vkm_safetensors_declare(writer, "b.c", (const uint64_t[]){18}, 1));
    must(vkm_safetensors_append(writer, values, 24));
    must(vkm_safetensors_commit(writer));
    vkm_safetensors_destroy(writer);
}

static struct vkmoe_train_config train_config(void)
{
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    fuzz_require(vkmoe_preset("tiny", &model, &train));
    train.steps = 20;
    return vkm_config_defaults(train);
}

static const struct vkmoe_model_config model_config = {
    .layers = LAYERS, .d_model = 8, .heads = 2, .experts = EXPERTS, .top_k = 2, .d_expert = 12, .seq = 10,
    .vocab = VKMOE_BYTE_VOCAB, .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = true};

static char *trainer_text(const struct vkmoe_model_config *model, struct vkmoe_train_config train)
{
    const struct vkm_run_state state = {.step = 20, .tokens = 2000, .loss_scale = 1, .data = 77, .device = "a device"};
    must(vkm_trainer_json_write(&to_stderr, fuzz_path(""), model, &train, &state));
    return fuzz_get("trainer.json");
}

static void model(void)
{
    struct vkmoe_model_config configs[5];
    for (int i = 0; i < 5; i++)
        configs[i] = model_config;
    configs[1].norm_topk = false;
    configs[2].d_shared = 16;
    configs[3].gate = VKMOE_GATE_SIGMOID;
    configs[4].router_bias = true;
    for (int i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        must(vkm_hf_config_write(&to_stderr, fuzz_path(""), &configs[i]));
        char *trainer = trainer_text(&configs[i], train_config());
        must(vkm_manifest_write(&to_stderr, fuzz_path(""), (const char *const[]){"config.json", "trainer.json"}, 2));
        write_parts("model", name, 3, (char *[]){fuzz_get("config.json"), trainer, fuzz_get("checksums.xxh128")});
    }
}

static void stack(const char *name, const struct vkmoe_stack_config *config)
{
    const struct vkm_stack_state state = {.step = 5, .rest1 = 0.4f, .rest2 = 0.2f, .loss_scale = 1, .lr = 1e-3f};
    const struct vkmoe_model_config layers = vkm_stack_model(config);
    const struct vkm_ends ends = {config->d_in, config->d_out};
    static const float zeros[1024];
    struct vkm_safetensors_writer *writer;
    struct vkm_params params;
    must(vkm_config_check_stack(&to_stderr, config));
    must(vkm_params_create(&to_stderr, &layers, &ends, &params));
    must(vkm_stack_file_create(&to_stderr, place("stack", name), config, &state, &params, &writer));
    for (int t = 0; t < (config->no_training ? 1 : 3); t++)
        for (uint32_t i = 0; i < params.count; i++)
            must(vkm_safetensors_append(writer, zeros, params.list[i].count));
    must(vkm_safetensors_commit(writer));
    vkm_safetensors_destroy(writer);
    vkm_params_destroy(&params);
}

static void stacks(void)
{
    struct vkmoe_stack_config config = {
        .d_in = 3, .d_out = 2, .d_model = 4, .layers = 1, .experts = 2, .top_k = 1, .d_expert = 4, .norm_eps = 1e-6f, .batch = 4,
        .rows = 4, .seed = 3, .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .balance = {.simbal = 0.1f}};
    stack("trained", &config);
    config.no_training = true;
    config.d_shared = 4;
    config.balance.lossfree = 0.01f;
    stack("fixed", &config);
}

static void text(void)
{
    write_text("text", "lines", "One line.\nAnother, of caf\xc3\xa9s.\r\n<|endoftext|>\r\nThe next text\n<|endoftext|>");
    write_parts("text", "files", 4, (char *[]){strdup("named"), strdup("first\n<|endoftext|>\n"), strdup("no text: \xff\xfe"),
                                               strdup("\xf0\x9f\x8c\xb1 \xed\x9f\xbf")});
}

static char *metrics_text(void)
{
    struct vkmoe_layer_metrics layers[LAYERS] = {
        {.load_max = 2, .load_cv = 0.5, .dead = 1, .seu = 0.7, .entropy = 1.2, .entropy_topk = 0.6, .gram_mean_square = 0.01,
         .gram_max = 0.2, .gates = {0.5, 0.5}, .changed = NAN, .pes = NAN, .pes_se = NAN},
        {.load_max = 1.5, .load_min = 0.1, .load_cv = 0.4, .seu = 0.8, .entropy = 1.1, .entropy_topk = 0.5, .gates = {1},
         .changed = NAN, .pes = NAN, .pes_se = NAN}};
    static const uint32_t tokens[LAYERS * EXPERTS] = {100, 50, 25, 25, 0, 80, 60, 60};
    struct vkm_metrics *metrics;
    fuzz_put("metrics.jsonl", NULL);
    must(vkm_metrics_open(&to_stderr, fuzz_path(""), &model_config, 0, false, &metrics));
    for (uint64_t step = 0; step <= 20; step += 5) {
        const struct vkmoe_step_report report = {
            .step = step, .tokens = 100 * step, .loss = 5 / (1 + (float)step), .lr = 1e-3f, .loss_scale = 1,
            .tokens_per_second = 1000 + (double)step, .layers = LAYERS, .experts = EXPERTS, .expert_tokens = tokens,
            .metrics = layers};
        const struct vkmoe_validation validation = {
            .loss = 5 / (1 + (double)step), .tokens = 90, .layers = LAYERS, .metrics = layers};
        if (step > 0)
            must(vkm_metrics_step(metrics, &report));
        must(vkm_metrics_validation(metrics, step, 100 * step, &validation));
        layers[0].changed = 0.3;
        layers[1].pes = 0.1;
        layers[1].pes_se = 0.01;
    }
    vkm_metrics_close(metrics);
    return fuzz_get("metrics.jsonl");
}

static void report(void)
{
    struct vkmoe_layer_metrics layers[LAYERS] = {
        {.load_max = 1, .pes = 0.2, .gates = {1}}, {.load_max = 3, .pes = 0.1, .gates = {1}}};
    uint64_t tokens[LAYERS * EXPERTS] = {0};
    struct evaluation_point prune = {.below = 0.1, .loss = 2, .perplexity = exp(2), .seconds = 1, .active_experts = 1.5};
    struct evaluation_point drop = {.n = 1, .loss = 3, .perplexity = exp(3), .seconds = 1, .active_experts = 2};
    const struct evaluation evaluation = {
        .whole = {.loss = 1, .perplexity = exp(1), .tokens = 90, .layers = LAYERS, .experts = EXPERTS}, .metrics = layers,
        .expert_tokens = tokens, .prune = &prune, .drop = &drop, .prune_count = 1, .drop_count = 1};
    struct vkmoe_train_config second = train_config();
    struct vkmoe_model_config dense = vkmoe_model_dense(&model_config);
    const char *compare = "{\"format\":1,\"methods\":[\"lbl\",\"simbal\"],\"seeds\":2,\"first_seed\":1,\"settings\":{\"steps\":20,"
                          "\"preset\":\"tiny\"},\"step_seconds\":{\"simbal\":0.1,\"none\":0.09},\"step_ratio\":{\"simbal\":1.1}}";
    second.seed = 2;
    write_parts("report", "seeds", 5, (char *[]){trainer_text(&model_config, train_config()), metrics_text(),
        dump(evaluation_json(&evaluation)), strdup(compare), trainer_text(&model_config, second)});
    second.balance = (struct vkmoe_balance){.lbl = 0.01f};
    second.router_init = VKMOE_ROUTER_UNIT;
    write_parts("report", "methods", 5, (char *[]){trainer_text(&model_config, train_config()), metrics_text(), strdup(""),
        strdup(compare), trainer_text(&model_config, second)});
    write_parts("report", "dense", 2, (char *[]){trainer_text(&dense, train_config()),
        strdup("{\"step\":5,\"tokens\":500,\"loss\":4,\"tokens_per_second\":1000}\n"
               "{\"step\":20,\"tokens\":2000,\"val_loss\":2}\n")});
}

static void bench(void)
{
    struct bench_result results[3] = {
        {.group = "ceilings", .name = "f32 arithmetic", .unit = "GFLOP/s", .median = 100, .low = 90, .high = 110, .repetitions = 5,
         .timer = "wall", .share = NAN, .of_balanced = NAN, .host = NAN},
        {.group = "ops", .name = "gemm f32", .shape = "64, 64, 64", .unit = "GFLOP/s", .median = 50, .low = 45, .high = 55,
         .repetitions = 9, .timer = "timestamps", .ceiling = "f32 arithmetic", .share = 0.5, .of_balanced = NAN, .host = NAN},
        {.group = "layer", .name = "forward", .shape = "64, 8, 8, 4, 2", .unit = "us", .median = 7, .low = 7, .high = 8,
         .repetitions = 3, .timer = "wall", .share = NAN, .of_balanced = 1.1, .host = 0.2}};
    struct bench_result skipped = {.group = "ops", .name = "gemm f16", .note = "no 16-bit arrays"};
    const struct bench_run run = {
        .vkmoe = "0.1.0", .date = "2026-01-01", .seconds = 0.5, .clock_mhz = NAN, .results = {results, 3}, .skipped = {&skipped, 1},
        .device = {.name = "a device", .driver = "a driver", .uuid = "00", .type = VKMOE_DEVICE_CPU, .api_version = 4206831,
                   .memory_bytes = 1 << 30, .subgroup_size = 8, .shared_bytes = 32768, .float16 = true}};
    write_parts("bench", "one", 1, (char *[]){dump(bench_run_json(&run))});
    write_parts("bench", "two", 2, (char *[]){dump(bench_run_json(&run)), dump(bench_run_json(&run))});
}

static void cache(void)
{
    struct vkmoe_context ctx = {.log = to_stderr, .info = {.uuid = "00", .driver = "driver"}};
    char *path;
    ctx.tuning.gemm[0][VKM_ROWS_FEW] = (struct vkm_tuned){8, 32, 4, 8, 4, 8};
    ctx.tuning.gemm[1][VKM_ROWS_MANY] = (struct vkm_tuned){64, 64, 16, 4, 4, 256};
    must(vkm_tuning_save(&ctx, fuzz_path("cache"), &path));
    write_parts("cache", "tuning", 1, (char *[]){fuzz_get("cache/tuning-00.json")});
    free(path);
    fuzz_require(vkm_pipeline_data_write(place("cache", "pipelines"), (const uint8_t[VK_UUID_SIZE]){"driver"},
                                         (const uint8_t *)"pipelines", 9));
}

static void words(void)
{
    write_text("words", "all", "simbal=0.05+lbl+lossfree=1e-3\n--on\n--which=off\n--text\n\n--list=a\n--list\nb\n"
               "--whole=4294967295\n--ranged\n9\n--large=18446744073709551615\n--real=1.5e-3\n--share\n0.25\n--choice=three\nother");
    write_text("words", "help", "none\n--help");
    write_text("words", "unknown", "symbal\n--rnaged=3");
}

int main(int argc, char **argv)
{
    fuzz_require(argc == 2);
    root = argv[1];
    must(vkm_dir_create(&to_stderr, fuzz_path("")));
    safetensors();
    model();
    stacks();
    text();
    report();
    bench();
    cache();
    words();
    return 0;
}
